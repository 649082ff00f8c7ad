//! One partition of the enriched topic: read, skip, dedupe, insert, commit.
//!
//! One insert is running while the next block fills. The order is always: fence, look, insert, commit.

mod ownership;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ownership::Ownership;
use super::block::{Block, EnrichedRecord, Sealed};
use super::error::TableError;
use super::flush_schedule::FlushSchedule;
use super::insert::{Inserted, Insertion, Pause, insert, wait};
use super::memory::MemoryLimits;
use super::raw_bounds::RawBounds;
use super::refusals::Refusals;
use super::stats::LoadStats;
use super::table::Table;
use crate::event::ids::LogEpoch;
use crate::event::record::{self, Enriched, Header, RawOrigin};
use crate::log::{LogError, PartitionReader, Record};
use crate::metrics::Counter;
use crate::outage::{Outage, Over};
use crate::store::books::PartitionKey;
use crate::{clock, failpoint};

const READ_BYTES: usize = 2 << 20;
/// Before an ownership that was lost is taken again.
const RETRY: Duration = Duration::from_millis(100);
/// How often a worker that waits at a gap checks whether a replay has filled it.
const GAP_POLL: Duration = Duration::from_secs(5);

/// How an ownership ended.
enum Ended {
    /// By request, or because the partition was taken away.
    Over,
    /// Another owner has loaded meanwhile.
    Overlap,
    /// The server has no memory for blocks of this size.
    TooLarge,
}

/// What the workers of all partitions use.
#[derive(Clone)]
pub(super) struct Shared<T, W> {
    pub(super) table: T,
    pub(super) raw: W,
    /// What one partition may keep in memory, to tell new events from copies and to know open sessions.
    pub(super) memory: MemoryLimits,
    pub(super) stats: Arc<LoadStats>,
    pub(super) flush_schedule: Arc<FlushSchedule>,
    pub(super) refusals: Arc<Refusals>,
}

/// Loads one partition.
pub(super) struct Worker<T, W, R> {
    shared: Shared<T, W>,
    reader: R,
    block: Block,
    /// Flushes of the instance when the block began.
    flushes: u64,
    /// Weight of the rows of the block, and of those that are on their way.
    weight: usize,
    sent_weight: usize,
    /// What a block of this partition may weigh: less than all together while the server refuses larger ones.
    max_weight: usize,
    content: Enriched,
    /// While the log does not answer.
    outage: Outage,
}

impl<T: Table, W: RawBounds, R: PartitionReader> Worker<T, W, R> {
    pub(super) fn new(shared: Shared<T, W>, reader: R) -> Self {
        Self {
            shared,
            reader,
            block: Block::new(),
            flushes: 0,
            weight: 0,
            sent_weight: 0,
            max_weight: usize::MAX,
            content: Enriched::default(),
            outage: Outage::default(),
        }
    }

    /// When to flush the block at the latest, if there is one.
    fn due_at(&self) -> Option<Instant> {
        self.block.since().map(|(since, late)| self.shared.flush_schedule.due_at(since, late))
    }

    /// Whether the block takes no more: all partitions together have gathered enough rows, or it alone as many as the server takes.
    fn is_full(&self) -> bool {
        !self.block.is_empty() && (self.flushes != self.shared.flush_schedule.flushes() || self.weight >= self.max_weight)
    }

    /// Loads until asked to stop or the partition is taken away; ends with everything read stored and committed.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        while !stop.is_cancelled() {
            let partition = self.reader.partition();
            match self.own(&stop).await {
                Ok(Ended::Over) => {
                    self.shared.refusals.forget(partition);
                    return Ok(());
                }
                Ok(Ended::Overlap) => tracing::warn!(partition, "another owner has loaded meanwhile: taking the fence again"),
                // As after an overlap: the table is asked how far it is, and what it lacks is read again.
                Ok(Ended::TooLarge) => self.max_weight = self.max_weight.min(self.sent_weight) / 2,
                // The next ownership finds in the table what was on its way.
                Err(why @ (LogError::Full(_) | LogError::Unavailable(_) | LogError::OutOfRange { .. })) => {
                    // Each try asks the log, which does not answer while brokers are away: logged once, not with each.
                    if self.outage.begins() {
                        tracing::warn!(partition, %why, "log refuses: trying again");
                    }
                }
                Err(ended) => return Err(ended),
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// One ownership: from taking the fence to its end.
    async fn own(&mut self, stop: &CancellationToken) -> Result<Ended, LogError> {
        let revoked = self.reader.revoked();
        let ends = Ends { stop: stop.clone(), revoked: revoked.clone() };
        (self.block, self.weight) = (Block::new(), 0);
        let start = self.reader.bounds().await?.start;
        // From the last committed record on, so that a table which lacks it is noticed although nothing follows.
        self.reader.seek(self.reader.committed().map_or(start, |next| next - 1).max(start));
        let mut ownership = Ownership::new(&self.shared.memory);
        loop {
            self.fill(&mut ownership, &ends).await?;
            let is_due = self.is_due(&ownership, stop.is_cancelled());
            if is_due && ownership.inserting.is_none() {
                if !self.flush(&mut ownership, &ends).await {
                    return Ok(Ended::Over);
                }
                continue;
            }
            if stop.is_cancelled() && ownership.inserting.is_none() && self.block.is_empty() {
                return Ok(Ended::Over);
            }
            let wants_more = !stop.is_cancelled() && ownership.pending.is_empty() && !self.is_full();
            let due_at = self.due_at();
            tokio::select! {
                biased;
                () = revoked.cancelled() => return Ok(Ended::Over),
                inserted = wait(&mut ownership.inserting) => {
                    ownership.inserting = None;
                    match inserted {
                        Inserted::Stored { sealed, generation } => self.finish(&mut ownership, sealed, generation).await?,
                        Inserted::Overlap => return Ok(Ended::Overlap),
                        Inserted::TooLarge => return Ok(Ended::TooLarge),
                        Inserted::Abandoned => return Ok(Ended::Over),
                    }
                }
                () = until(due_at), if ownership.inserting.is_none() => {}
                () = until(ownership.gap_poll_at), if ownership.inserting.is_none() && self.block.is_empty() => {
                    ownership.gap_poll_at = Some(Instant::now() + GAP_POLL);
                    if self.has_moved(&mut ownership, &ends).await {
                        return Ok(Ended::Overlap);
                    }
                }
                records = self.reader.next(READ_BYTES), if wants_more => ownership.pending.extend(records?),
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn is_due(&self, ownership: &Ownership, is_stopping: bool) -> bool {
        let Some(due_at) = self.due_at() else { return false };
        is_stopping || !ownership.pending.is_empty() || self.is_full() || due_at <= Instant::now()
    }

    /// Moves pending records into the block, as far as they fit.
    async fn fill(&mut self, ownership: &mut Ownership, ends: &Ends) -> Result<(), LogError> {
        while !self.is_full() {
            let Some(record) = ownership.pending.pop_front() else { return Ok(()) };
            match self.admit(ownership, &record) {
                Admitted::Skip => {}
                Admitted::Wait => {
                    ownership.pending.push_front(record);
                    return Ok(());
                }
                Admitted::NewEpoch(epoch) => {
                    ownership.pending.push_front(record);
                    if !self.begin(ownership, epoch, ends).await? {
                        return Ok(());
                    }
                    if ownership.highest.is_none() {
                        self.rewind(ownership).await?;
                    }
                }
                Admitted::Rewind => {
                    if !self.rewind(ownership).await? {
                        ownership.pending.push_front(record);
                    }
                }
                Admitted::Take(header, origin) => {
                    if self.block.is_empty() {
                        (self.flushes, self.weight) = (self.shared.flush_schedule.flushes(), 0);
                    }
                    let (rows, bytes) = (self.block.len(), self.block.bytes());
                    let record = EnrichedRecord { header: &header, origin, content: &self.content, offset: record.offset };
                    self.block.push(record, &mut ownership.memory);
                    let weight = self.shared.flush_schedule.weight(self.block.len() - rows, self.block.bytes() - bytes);
                    self.weight += weight;
                    self.shared.flush_schedule.gather(weight);
                    ownership.highest = Some(origin.offset);
                    ownership.has_taken = true;
                    (ownership.has_warned_of_gap, ownership.gap_poll_at) = (false, None);
                }
            }
        }
        Ok(())
    }

    /// What to do with the next record; its body is inflated only if it is to be taken.
    fn admit(&mut self, ownership: &mut Ownership, record: &Record) -> Admitted {
        let header = match record::header(&record.payload) {
            Ok(header) => header,
            Err(problem) => {
                // Process makes these records; one that cannot be read leaves a gap, which the next one shows.
                tracing::error!(partition = self.reader.partition(), offset = record.offset, %problem, "enriched record unreadable");
                return Admitted::Skip;
            }
        };
        let Some(origin) = header.origin else { return Admitted::Skip };
        if ownership.epoch != Some(origin.epoch) {
            return if self.block.is_empty() && ownership.inserting.is_none() { Admitted::NewEpoch(origin.epoch) } else { Admitted::Wait };
        }
        if ownership.highest.is_some_and(|highest| origin.offset <= highest) {
            return Admitted::Skip;
        }
        // Process may publish records behind one that failed, and that one later; also as the very first of a partition.
        if origin.previous > ownership.highest.unwrap_or(ownership.first_raw - 1) {
            if !ownership.has_taken && !ownership.is_rewound {
                return Admitted::Rewind;
            }
            if !ownership.has_warned_of_gap {
                tracing::error!(
                    partition = origin.partition,
                    stored = ownership.highest,
                    next = origin.offset,
                    "gap: raw offsets are missing from the enriched topic; nothing behind them is loaded until they are there: where \
                     the enriched topic has lost them, `pulse replay` loads them from the raw one"
                );
                (ownership.has_warned_of_gap, ownership.gap_poll_at) = (true, Some(Instant::now() + GAP_POLL));
            }
            return Admitted::Skip;
        }
        if !self.block.takes(&origin, header.day) {
            return Admitted::Wait;
        }
        match record::decode_enriched(&record.payload, &mut self.content) {
            Ok(header) => Admitted::Take(header, origin),
            Err(problem) => {
                tracing::error!(partition = origin.partition, offset = record.offset, %problem, "enriched record unreadable");
                Admitted::Skip
            }
        }
    }

    /// Goes back to the first record held, once in an ownership. The table is the truth and the committed offset a hint: where
    /// the table has less than was committed (it was emptied, restored or swapped), what it lacks is read again. Returns `false` if
    /// there is nothing before.
    async fn rewind(&mut self, ownership: &mut Ownership) -> Result<bool, LogError> {
        let start = self.reader.bounds().await?.start;
        if ownership.is_rewound || self.reader.committed().is_none_or(|committed| committed <= start) {
            ownership.is_rewound = true;
            return Ok(false);
        }
        tracing::warn!(
            partition = self.reader.partition(),
            start,
            "the table has less than was committed: reading again what the log holds"
        );
        ownership.is_rewound = true;
        ownership.pending.clear();
        self.reader.seek(start);
        Ok(true)
    }

    /// Takes the fence for an epoch of the log and reads what the table has. Returns `false` if this ends meanwhile.
    /// Errors: the log does not answer, or ends before what the table has of it.
    async fn begin(&mut self, ownership: &mut Ownership, epoch: LogEpoch, ends: &Ends) -> Result<bool, LogError> {
        let partition = self.reader.partition();
        let key = PartitionKey { epoch, partition };
        let (mut pause, mut fence) = (Pause::new(&self.shared.refusals), None);
        loop {
            let attempt = async {
                let (generation, highest) = held_fence(&self.shared.table, key, fence).await?;
                fence = Some((generation, highest));
                let memory = self.shared.table.recall(key, &self.shared.memory).await?;
                Ok::<_, TableError>((generation, highest, memory))
            };
            let result = tokio::select! {
                () = ends.any() => return Ok(false),
                result = attempt => result,
            };
            match result {
                Ok((generation, highest, memory)) => {
                    failpoint::point("load.fenced");
                    self.shared.refusals.ends(partition);
                    ownership.first_raw = self.shared.raw.first_held(key, highest.map_or(0, |highest| highest + 1)).await?;
                    tracing::info!(partition, generation, stored = highest, "loading");
                    (ownership.epoch, ownership.generation, ownership.highest, ownership.memory) =
                        (Some(epoch), generation, highest, memory);
                    return Ok(true);
                }
                Err(problem) => pause.after(&problem, partition, ends.any()).await,
            }
        }
    }

    /// Whether the table has come further while this worker waited at a gap.
    async fn has_moved(&mut self, ownership: &mut Ownership, ends: &Ends) -> bool {
        let Some(epoch) = ownership.epoch else { return false };
        let key = PartitionKey { epoch, partition: self.reader.partition() };
        tokio::select! {
            () = ends.any() => false,
            highest = self.shared.table.highest(key) => highest.is_ok_and(|highest| highest != ownership.highest),
        }
    }

    /// Looks up the candidates, seals the block and begins its insert. Returns `false` if this ends while the table does not answer.
    async fn flush(&mut self, ownership: &mut Ownership, ends: &Ends) -> bool {
        let mut pause = Pause::new(&self.shared.refusals);
        Counter::Suspects.add(self.block.candidates.len() as u64);
        while let Some(key) = self.block.key().filter(|_| !self.block.candidates.is_empty()) {
            let found = tokio::select! {
                () = ends.revoked.cancelled() => return false,
                found = self.shared.table.find(key, &self.block.candidates) => found,
            };
            match found {
                Ok(stored) => self.block.resolve_duplicates(|key| stored.get(key).copied(), &mut ownership.memory.sessions),
                Err(_) if ends.stop.is_cancelled() => return false,
                Err(problem) => pause.after(&problem, self.reader.partition(), ends.any()).await,
            }
        }
        if !self.settle_sessions(ownership, ends).await || !self.store_ties(ends).await {
            return false;
        }
        let Some(sealed) = self.block.seal() else { return true };
        failpoint::point("load.sealed");
        self.sent_weight = self.weight;
        ownership.memory.dedupe.begin_insert();
        let insertion = Insertion { table: self.shared.table.clone(), sealed, generation: ownership.generation };
        ownership.inserting = Some(Box::pin(insert(insertion, Pause::new(&self.shared.refusals), ends.stop.clone())));
        true
    }

    /// Gives every row of the block its session. `false` if the table does not answer and this ends.
    async fn settle_sessions(&mut self, ownership: &mut Ownership, ends: &Ends) -> bool {
        let Some(key) = self.block.key() else { return true };
        let sessions = &mut ownership.memory.sessions;
        let rows = self.block.waiting_rows(sessions);
        let mut settled = sessions.begin_settling();
        let (mut questions, mut pause) = (sessions.questions(&rows), Pause::new(&self.shared.refusals));
        Counter::SessionLookups.add(questions.len() as u64);
        while !questions.is_empty() {
            let visits = tokio::select! {
                () = ends.revoked.cancelled() => return false,
                visits = self.shared.table.visits(key, &questions) => visits,
            };
            match visits {
                Ok(pasts) => questions = sessions.settle(&rows, &questions, &pasts, &mut settled),
                Err(_) if ends.stop.is_cancelled() => return false,
                Err(problem) => pause.after(&problem, self.reader.partition(), ends.any()).await,
            }
        }
        Counter::SessionRevisions.add(settled.revisions.len() as u64);
        self.block.settle_sessions(settled, sessions);
        true
    }

    /// Writes what the events of the block tie. `false` if the table does not answer and this ends.
    async fn store_ties(&mut self, ends: &Ends) -> bool {
        let mut pause = Pause::new(&self.shared.refusals);
        while let Some(key) = self.block.key().filter(|_| !self.block.ties.open().is_empty()) {
            let stored = tokio::select! {
                () = ends.revoked.cancelled() => return false,
                stored = self.shared.table.tie(key, self.block.ties.open()) => stored,
            };
            match stored {
                Ok(()) => {
                    failpoint::point("load.tied");
                    return true;
                }
                Err(_) if ends.stop.is_cancelled() => return false,
                Err(problem) => pause.after(&problem, self.reader.partition(), ends.any()).await,
            }
        }
        true
    }

    /// After an insert: commits, and records how long the events took.
    async fn finish(&mut self, ownership: &mut Ownership, sealed: Sealed, generation: u64) -> Result<(), LogError> {
        failpoint::point("load.stored");
        self.shared.refusals.ends(self.reader.partition());
        ownership.generation = generation;
        ownership.memory.dedupe.end_insert();
        // Slowly: what is too large again ends the ownership again.
        self.max_weight = self.max_weight.saturating_add(self.max_weight / 32 + 1);
        self.shared.table.announce(&sealed);
        Counter::BlocksStored.add(1);
        Counter::RowsStored.add(sealed.rows.len() as u64);
        let now_ms = clock::now_ms();
        for (project, received_ms, events) in &sealed.waits {
            self.shared.stats.record(*project, u64::try_from(now_ms - received_ms).unwrap_or(0), *events);
        }
        if !ownership.has_warned_of_gap {
            self.reader.commit(sealed.next_enriched).await?;
            failpoint::point("load.committed");
        }
        if let Some(Over { failures, lasted }) = self.outage.ends() {
            tracing::info!(partition = self.reader.partition(), failures, ?lasted, "the log answers again");
        }
        self.block.reuse(sealed);
        Ok(())
    }
}

/// What ends an ownership from outside: pulse is to stop, or the partition was taken away.
struct Ends {
    stop: CancellationToken,
    revoked: CancellationToken,
}

impl Ends {
    async fn any(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.revoked.cancelled() => {}
        }
    }
}

/// What to do with a record.
enum Admitted {
    /// The table has it, or it cannot be read.
    Skip,
    /// It belongs to the next block.
    Wait,
    /// The fence must be taken first.
    NewEpoch(LogEpoch),
    /// It does not follow on what the table has; records before it may.
    Rewind,
    /// It goes into the block.
    Take(Header, RawOrigin),
}

/// The fence of a partition and how far the table is: as they are if the fence is still there that was taken `before`, since nobody else has loaded
/// then. Each one that is taken stays in the memory of the server.
async fn held_fence<T: Table>(table: &T, key: PartitionKey, before: Option<(u64, Option<i64>)>) -> Result<(u64, Option<i64>), TableError> {
    let Some(before) = before else { return table.take_fence(key).await };
    if table.owner(key).await? == before.0 { Ok(before) } else { table.take_fence(key).await }
}

async fn until(due_at: Option<Instant>) {
    match due_at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
