//! What the loader asks of the event table.
//!
//! Promise: nothing of it costs more because the table is large. What is asked of all days is answered by a projection of it.

mod past;
mod visits;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::block::{DuplicateCandidate, Sealed};
use super::dedupe::{EventKey, Fingerprint};
use super::error::TableError;
use super::group_insert::{InsertQueue, PendingBlock};
use super::memory::{Memory, MemoryLimits};
use super::row;
use super::sessions::{Anew, Pasts, Question};
use super::shard_map::{self, ShardEvidence, ShardMap};
use crate::clickhouse::{ClickHouse, Client, Identifier, Statement, TableName};
use crate::event::ids::ProjectId;
use crate::event::session::Visitor;
use crate::store::books::{self, Held, PartitionKey};
use crate::store::data_version::DataVersions;
use crate::store::fence::Fence;
use crate::store::tables::EVENTS;
use crate::store::tables::identities::{self, IDENTITIES, Tie};
use past::Past;

/// The table of events as the loader sees it.
pub(super) trait Table: Clone + Send + Sync + 'static {
    /// Takes a partition: afterwards no insert of an earlier generation can succeed. Returns the new generation and the
    /// highest raw offset that the table has.
    fn take_fence(&self, key: PartitionKey) -> impl Future<Output = Result<(u64, Option<i64>), TableError>> + Send;

    /// The generation that has the fence of a partition; [`crate::store::fence::NO_GENERATION`] where a server that started anew knows none.
    fn owner(&self, key: PartitionKey) -> impl Future<Output = Result<u64, TableError>> + Send;

    /// The highest raw offset that the table has of a partition, asked by the owner of its fence.
    fn highest(&self, key: PartitionKey) -> impl Future<Output = Result<Option<i64>, TableError>> + Send;

    /// A memory of the recent past of a partition whose fence was taken.
    fn recall(&self, key: PartitionKey, limits: &MemoryLimits) -> impl Future<Output = Result<Memory, TableError>> + Send;

    /// What the table has of visitors of a partition, in the spans that are asked for.
    fn visits(&self, key: PartitionKey, questions: &[Question]) -> impl Future<Output = Result<Pasts, TableError>> + Send;

    /// Which of the candidates of a partition the table has.
    fn find(
        &self,
        key: PartitionKey,
        candidates: &[DuplicateCandidate],
    ) -> impl Future<Output = Result<HashMap<EventKey, Fingerprint>, TableError>> + Send;

    /// Writes what the events of a block tie, at least once.
    fn tie(&self, key: PartitionKey, ties: &[Tie]) -> impl Future<Output = Result<(), TableError>> + Send;

    /// Inserts a block, whole or not at all.
    fn insert(&self, block: &Sealed, generation: u64) -> impl Future<Output = Result<(), TableError>> + Send;

    /// Notes for the query cache that the block can be read.
    fn announce(&self, block: &Sealed);
}

/// The table in ClickHouse.
#[derive(Clone)]
pub(super) struct EventTable {
    store: ClickHouse,
    data_versions: Arc<DataVersions>,
    partitions: u16,
    /// The table, and the fence in front of it.
    events: TableName,
    fence: Fence,
    shard_map: Arc<ShardMap>,
    /// One for each server, shard by shard.
    queues: Arc<[Vec<Queues>]>,
}

/// The inserts into one server.
#[derive(Default)]
struct Queues {
    blocks: InsertQueue<PendingBlock>,
    ties: InsertQueue<Vec<Tie>>,
}

/// How often running inserts of an earlier generation are looked for.
const FENCE_POLL: Duration = Duration::from_millis(20);

impl EventTable {
    /// The table `name`. `partitions` is the number of the log's partitions.
    pub(super) fn new(store: ClickHouse, data_versions: Arc<DataVersions>, partitions: u16, name: &Identifier) -> Self {
        let queues = store.shards.iter().map(|shard| shard.replicas().map(|_| Queues::default()).collect()).collect();
        let (events, fence) = (store.table(name.clone()), Fence::of(&store.database, name));
        Self { store, data_versions, partitions, events, fence, shard_map: Arc::default(), queues }
    }

    /// The server that takes the inserts of a partition and answers what is read back of it.
    fn writer(&self, key: PartitionKey) -> Result<&Client, TableError> {
        self.writer_of(self.shard_map.shard(key), key)
    }

    fn writer_of(&self, shard: usize, key: PartitionKey) -> Result<&Client, TableError> {
        let shard = self.store.shards.get(shard).ok_or_else(|| no_shard(shard))?;
        Ok(&shard.replica_of(key.partition).writer)
    }

    /// What each shard has of a partition. All must answer, unless one has its rows: then the others are not waited for.
    async fn evidence(&self, key: PartitionKey) -> Result<Vec<ShardEvidence>, TableError> {
        let mut evidence = vec![ShardEvidence::default(); self.store.shards.len()];
        let mut missing = None;
        let ask = |shard| async move { (shard, self.evidence_of(shard, key).await) };
        let mut asked: FuturesUnordered<_> = (0..evidence.len()).map(ask).collect();
        while let Some((shard, answer)) = asked.next().await {
            match (answer, evidence.get_mut(shard)) {
                (Ok(found), Some(known)) => *known = found,
                (answer, _) => missing = answer.err().or(missing),
            }
            if evidence.iter().any(|evidence| evidence.has_rows) {
                return Ok(evidence);
            }
        }
        missing.map_or(Ok(evidence), Err)
    }

    /// Of the events table, also for one beside it, which is to take its place.
    async fn evidence_of(&self, shard: usize, key: PartitionKey) -> Result<ShardEvidence, TableError> {
        let writer = self.writer_of(shard, key)?;
        let has_fence = Fence::of(&self.store.database, &EVENTS.name()).is_taken(writer, key.partition).await?;
        let held = books::held(writer, &self.store.table(EVENTS.name())).await?;
        Ok(ShardEvidence {
            has_rows: held.iter().any(|held| held.key == key),
            has_begun: has_fence || held.iter().any(|held| held.key.partition == key.partition),
        })
    }

    /// The queues of the server that takes the inserts of a partition.
    fn queues(&self, shard: usize, key: PartitionKey) -> Result<&Queues, TableError> {
        let queues = self.queues.get(shard).map(Vec::as_slice).unwrap_or_default();
        queues.get(usize::from(key.partition) % queues.len().max(1)).ok_or_else(|| no_shard(shard))
    }

    async fn highest_in(&self, server: &Client, key: PartitionKey) -> Result<Option<i64>, TableError> {
        Ok(books::held(server, &self.events).await?.iter().find(|held| held.key == key).map(|held| held.highest))
    }

    /// Takes the fence of a partition in one shard and returns the highest raw offset that the shard has.
    async fn take_fence_in(&self, shard: usize, key: PartitionKey, generation: u64) -> Result<Option<i64>, TableError> {
        let writer = self.writer_of(shard, key)?;
        let replicas = || self.store.shards.get(shard).into_iter().flat_map(|shard| shard.replicas());
        // An insert is checked against the fence of the replica where it is made, and another owner may use another one.
        for replica in replicas() {
            self.fence.take(&replica.writer, key.partition, generation).await?;
        }
        for replica in replicas() {
            while !self.fence.is_free_of_others(&replica.writer, key, generation).await? {
                tokio::time::sleep(FENCE_POLL).await;
            }
        }
        if self.store.fleet.as_ref().is_some_and(|fleet| fleet.replica_path.is_some()) {
            // What other replicas have accepted up to now, this one must have too before it says how far the table is.
            let sync = Statement::of("SYSTEM SYNC REPLICA ").table(&self.events).sql(" LIGHTWEIGHT");
            writer.execute(&sync).await?;
        }
        self.highest_in(writer, key).await
    }

    /// The key under which a partition was loaded last, of whichever log. What is read of it then is read in the shard that has it.
    pub(super) async fn newest_key(&self, partition: u16) -> Result<Option<PartitionKey>, TableError> {
        let mut newest: Option<(Held, usize)> = None;
        for (number, shard) in self.store.shards.iter().enumerate() {
            let held = books::held(&shard.first().writer, &self.events).await?;
            let of_partition = held.into_iter().filter(|held| held.key.partition == partition).map(|held| (held, number));
            newest = newest.into_iter().chain(of_partition).max_by_key(|(held, _)| held.newest_ms);
        }
        let Some((Held { key, .. }, shard)) = newest else { return Ok(None) };
        self.shard_map.set(key, shard, true);
        Ok(Some(key))
    }

    /// The visitors of a partition who have events of a time, in sessions by time; of one project if one is given.
    pub(super) async fn visitors(&self, key: PartitionKey, time: Anew, project: Option<ProjectId>) -> Result<Vec<Visitor>, TableError> {
        self.past(self.writer(key)?, key).visitors(time, project).await
    }

    fn past<'a>(&'a self, server: &'a Client, key: PartitionKey) -> Past<'a> {
        Past { server, events: &self.events, key, partitions: self.partitions }
    }

    /// Inserts blocks as one part, or as one a day of receipt.
    async fn send(&self, writer: &Client, blocks: Vec<PendingBlock>) -> Result<(), TableError> {
        let query_id = self.fence.query_id_of(blocks.iter().map(|block| (block.key, block.generation)), random());
        let into = row::with_columns(Statement::of("INSERT INTO ").table(&self.events));
        Ok(writer.insert(&into, row::encode(&blocks), &query_id).await?)
    }
}

impl Table for EventTable {
    async fn take_fence(&self, key: PartitionKey) -> Result<(u64, Option<i64>), TableError> {
        let generation = random();
        let mut taken: BTreeMap<usize, Option<i64>> = BTreeMap::new();
        let only = if self.store.shards.len() == 1 { Some(0) } else { self.shard_map.pinned(key) };
        loop {
            let candidates = match only {
                Some(shard) => vec![shard],
                None => shard_map::candidates(key.partition, &self.evidence(key).await?),
            };
            let open: Vec<usize> = candidates.into_iter().filter(|shard| !taken.contains_key(shard)).collect();
            if open.is_empty() {
                break;
            }
            for shard in open {
                taken.insert(shard, self.take_fence_in(shard, key, generation).await?);
            }
        }
        let chosen = taken.iter().find(|(_, highest)| highest.is_some()).or_else(|| taken.iter().next());
        let (shard, highest) = chosen.map_or((0, None), |(shard, highest)| (*shard, *highest));
        self.shard_map.set(key, shard, highest.is_some());
        Ok((generation, highest))
    }

    async fn owner(&self, key: PartitionKey) -> Result<u64, TableError> {
        Ok(self.fence.owner(self.writer(key)?, key.partition).await?)
    }

    async fn highest(&self, key: PartitionKey) -> Result<Option<i64>, TableError> {
        self.highest_in(self.writer(key)?, key).await
    }

    async fn recall(&self, key: PartitionKey, limits: &MemoryLimits) -> Result<Memory, TableError> {
        let server = self.writer(key)?;
        let held = books::held(server, &self.events).await?;
        let past = self.past(server, key);
        let dedupe = past.recall(&held, limits.dedupe_bytes).await?;
        Ok(Memory { dedupe, sessions: past.recall_sessions(&held, limits).await? })
    }

    async fn visits(&self, key: PartitionKey, questions: &[Question]) -> Result<Pasts, TableError> {
        self.past(self.writer(key)?, key).visits(questions).await
    }

    async fn find(&self, key: PartitionKey, candidates: &[DuplicateCandidate]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        self.past(self.writer(key)?, key).find(candidates).await
    }

    async fn tie(&self, key: PartitionKey, ties: &[Tie]) -> Result<(), TableError> {
        let shard = self.shard_map.shard(key);
        let (writer, table) = (self.writer_of(shard, key)?, self.store.table(IDENTITIES.name()));
        let send = async |ties: Vec<Vec<Tie>>| Ok(identities::insert(writer, &table, &ties.concat()).await?);
        self.queues(shard, key)?.ties.insert(ties.to_vec(), send).await
    }

    async fn insert(&self, block: &Sealed, generation: u64) -> Result<(), TableError> {
        let key = block.key();
        let shard = self.shard_map.shard(key);
        let writer = self.writer_of(shard, key)?;
        let queue = &self.queues(shard, key)?.blocks;
        queue.insert(PendingBlock { key, generation, rows: Arc::clone(&block.rows) }, |blocks| self.send(writer, blocks)).await?;
        self.shard_map.pin(key);
        Ok(())
    }

    fn announce(&self, block: &Sealed) {
        self.data_versions.note(block.arrived.iter().map(|(at, events)| (*at, *events)));
        block.tied.iter().for_each(|(project, ties)| self.data_versions.note_ties(*project, ties.clone()));
    }
}

fn no_shard(shard: usize) -> TableError {
    TableError::Stop(format!("clickhouse.shards has no shard {shard}"))
}

/// A number that no one else draws; never [`crate::store::fence::NO_GENERATION`].
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 | 1
}
