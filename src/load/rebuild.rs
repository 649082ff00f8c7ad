//! The sessions of the past, computed again by the rules of now: `pulse sessions rebuild`.
//!
//! Day by day and partition by partition the visitors of the range are looked at; whose sessions are others by the present rules gets
//! revisions that say so. Promises: afterwards sessions are those that the rules make of the events of the range; a second run writes
//! nothing; cut at any moment it goes on where it was. It may run while instances load: what is written is computed behind the fence
//! of its partition, so nothing is stored between the look and the insert, and a loader whose fence was taken reads its partition anew.
//! A swap of `pulse replay` does the same in the table that is to take the place of the events table, of visitors alone of whom more was
//! said than is replayed.
//! Cost: each visitor of a day is looked up once; a loader loses a few hundred milliseconds for each batch that is written beside it.
//! May go wrong: a visitor with more events than [`MOST_VISITS`] within a day is left as it is, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::block::Sealed;
use super::error::TableError;
use super::insert::Pause;
use super::row::{RowOrigin, Rows};
use super::sessions::{Anew, MOST_VISITS, Question, Recut, Revision, recut, recut_question};
use super::table::{EventTable, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Identifier};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::event::session::Visitor;
use crate::project::Projects;
use crate::store::books::PartitionKey;
use crate::store::data_version::{Arrived, DataVersions};
use crate::store::swap::Revised;
use crate::{clock, failpoint};

/// Visitors looked at in one go.
const CHUNK: usize = 500;
/// Visitors written at a time: few enough that a loader which wants the fence back seldom comes between.
const BATCH: usize = 100;
const DAY_MS: i64 = 86_400_000;
/// How often a table that refuses is asked again before it is given up.
const TRIES: u32 = 20;

/// What is to be computed again.
#[derive(Clone, Debug)]
pub struct RebuildRequest {
    /// The first moment, milliseconds since 1970.
    pub from_ms: i64,
    /// The one behind the last.
    pub until_ms: i64,
    /// Only this project.
    pub project: Option<ProjectId>,
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RebuildSummary {
    /// Visitors looked at, each once a day.
    pub visitors: u64,
    /// Of these how many had other sessions.
    pub changed: u64,
    /// What was written.
    pub revisions: u64,
    /// Visitors with too many events to be looked at.
    pub skipped: u64,
    /// Set if it was asked to stop before the end.
    pub interrupted: bool,
}

/// Why it ended early.
#[derive(Debug, thiserror::Error)]
#[error("the table refuses: {0}")]
pub struct RebuildError(String);

/// A rebuild under way.
pub struct SessionRebuild {
    table: EventTable,
    partitions: u16,
    projects: Projects,
    summary: RebuildSummary,
}

impl SessionRebuild {
    /// One of the events of a table of `store`, which a log of so many partitions loads.
    pub fn new(store: ClickHouse, table: &Identifier, partitions: u16, projects: Projects) -> Self {
        let table = EventTable::new(store, Arc::<DataVersions>::default(), partitions, table);
        Self { table, partitions, projects, summary: RebuildSummary::default() }
    }

    /// Does what is asked until asked to stop; `progress` is told how much is done, and how much there is in all.
    pub async fn run(
        mut self,
        request: &RebuildRequest,
        stop: CancellationToken,
        progress: impl Fn(u64, u64),
    ) -> Result<RebuildSummary, RebuildError> {
        let days: Vec<Anew> = days(request.from_ms..request.until_ms).collect();
        let all = days.len() as u64 * u64::from(self.partitions);
        let mut done = 0;
        for partition in 0..self.partitions {
            let key = self.key(partition).await?;
            for time in &days {
                let part = Part { key, time: *time };
                let visitors = self.retried(partition, |table| table.visitors(key, *time, request.project)).await?;
                self.anew(part, &visitors, &stop).await?;
                if stop.is_cancelled() {
                    self.summary.interrupted = true;
                    return Ok(self.summary);
                }
                done += 1;
                progress(done, all);
            }
        }
        Ok(self.summary)
    }

    /// Does it of those whom `revised` names alone.
    pub async fn run_of(mut self, revised: &Revised<'_>, stop: CancellationToken) -> Result<RebuildSummary, RebuildError> {
        let refused = |problem: ClickHouseError| RebuildError(problem.to_string());
        for (partition, until_ms) in revised.partitions() {
            let key = self.key(partition).await?;
            for day in revised.days(partition, until_ms).await.map_err(refused)? {
                let time = Anew { from_ms: day * DAY_MS, until_ms: until_ms.min((day + 1) * DAY_MS) };
                let visitors = revised.visitors(partition, time.from_ms..time.until_ms).await.map_err(refused)?;
                let visitors: Vec<Visitor> = visitors.into_iter().map(|(project, key)| Visitor { project, key }).collect();
                self.anew(Part { key, time }, &visitors, &stop).await?;
                if stop.is_cancelled() {
                    self.summary.interrupted = true;
                    return Ok(self.summary);
                }
            }
        }
        Ok(self.summary)
    }

    async fn key(&self, partition: u16) -> Result<PartitionKey, RebuildError> {
        let key = self.retried(partition, |table| table.newest_key(partition)).await?;
        Ok(key.unwrap_or(PartitionKey { epoch: LogEpoch(0), partition }))
    }

    /// Looks at visitors of one day in one partition.
    async fn anew(&mut self, part: Part, visitors: &[Visitor], stop: &CancellationToken) -> Result<(), RebuildError> {
        for chunk in visitors.chunks(CHUNK) {
            if stop.is_cancelled() {
                return Ok(());
            }
            let looked = self.looked(part, chunk).await?;
            self.summary.visitors += chunk.len() as u64;
            self.summary.skipped += looked.skipped;
            let changed: Vec<Visitor> = looked.changed.into_iter().collect();
            self.summary.changed += changed.len() as u64;
            for batch in changed.chunks(BATCH) {
                self.write(part, batch).await?;
            }
        }
        Ok(())
    }

    async fn looked(&self, part: Part, visitors: &[Visitor]) -> Result<Looked, RebuildError> {
        self.retried(part.key.partition, |table| look(table, &self.projects, part, visitors)).await
    }

    /// Writes what has changed of a few visitors. Where a loader took the fence back meanwhile, fewer at a time.
    async fn write(&mut self, part: Part, visitors: &[Visitor]) -> Result<(), RebuildError> {
        let (mut left, mut size, mut pause) = (visitors, visitors.len(), Pause::default());
        for _ in 0..TRIES * BATCH as u32 {
            let (now, later) = left.split_at(size.min(left.len()));
            if now.is_empty() {
                return Ok(());
            }
            match self.written(part, now).await {
                Ok(revisions) => {
                    self.summary.revisions += revisions;
                    left = later;
                }
                Err(TableError::Fenced) => size = (size / 2).max(1),
                Err(TableError::Stop(why)) => return Err(RebuildError(why)),
                Err(problem) => pause.after(&problem, part.key.partition, std::future::pending()).await,
            }
        }
        Err(RebuildError(format!("loaders never let go of partition {}", part.key.partition)))
    }

    /// Takes the fence, looks again, and inserts what is to be said, until a look behind the fence finds nothing: what a loader stored
    /// between that knew nothing of it is found by the next look, and its next insert is refused. Returns the number of revisions.
    async fn written(&self, part: Part, visitors: &[Visitor]) -> Result<u64, TableError> {
        let mut revisions = 0;
        loop {
            let (generation, highest) = self.table.take_fence(part.key).await?;
            let looked = look(&self.table, &self.projects, part, visitors).await?;
            let Some(sealed) = sealed(part.key, highest.unwrap_or(0), &looked.revisions) else { return Ok(revisions) };
            self.table.insert(&sealed, generation).await?;
            failpoint::point("rebuild.written");
            revisions += looked.revisions.len() as u64;
        }
    }

    /// What the table answers, asked again while it refuses.
    async fn retried<'a, T, F>(&'a self, partition: u16, ask: impl Fn(&'a EventTable) -> F) -> Result<T, RebuildError>
    where
        F: Future<Output = Result<T, TableError>>,
    {
        let mut pause = Pause::default();
        for _ in 0..TRIES {
            match ask(&self.table).await {
                Ok(answer) => return Ok(answer),
                Err(TableError::Stop(why)) => return Err(RebuildError(why)),
                Err(problem) => pause.after(&problem, partition, std::future::pending()).await,
            }
        }
        Err(RebuildError(format!("no answer about partition {partition}")))
    }
}

fn days(time: Range<i64>) -> impl Iterator<Item = Anew> {
    let firsts = (0..).map(move |day| time.start + day * DAY_MS).take_while(move |day_ms| *day_ms < time.end);
    firsts.map(move |from_ms| Anew { from_ms, until_ms: time.end.min(from_ms + DAY_MS) })
}

/// A day of a partition.
#[derive(Clone, Copy)]
struct Part {
    key: PartitionKey,
    time: Anew,
}

/// What the present rules say of visitors.
#[derive(Default)]
struct Looked {
    changed: BTreeSet<Visitor>,
    revisions: Vec<Revision>,
    skipped: u64,
}

/// What the rules say of visitors in a day of a partition, and the table does not.
async fn look(table: &EventTable, projects: &Projects, part: Part, visitors: &[Visitor]) -> Result<Looked, TableError> {
    let question = |visitor: &Visitor| recut_question(&projects.of(visitor.project).sessions, *visitor, part.time);
    let mut questions: Vec<Question> = visitors.iter().map(question).collect();
    let mut looked = Looked::default();
    while !questions.is_empty() {
        let pasts = table.visits(part.key, &questions).await?;
        let mut further = Vec::new();
        for question in &questions {
            let Some(past) = pasts.get(&question.visitor) else { continue };
            if past.visits.len() >= MOST_VISITS {
                looked.skipped += 1;
                continue;
            }
            match recut(&projects.of(question.visitor.project).sessions, question, past) {
                Recut::Needs(question) => further.push(question),
                Recut::Done(revisions) if revisions.is_empty() => {}
                Recut::Done(revisions) => {
                    looked.changed.insert(question.visitor);
                    looked.revisions.extend(revisions);
                }
            }
        }
        questions = further;
    }
    Ok(looked)
}

/// A block of revisions alone, at the place where the table's rows of the partition end; none without any.
fn sealed(key: PartitionKey, offset: i64, revisions: &[Revision]) -> Option<Sealed> {
    let (now_ms, mut rows) = (clock::now_ms(), Rows::new());
    let origin = RowOrigin { day: DataVersions::day(now_ms), offset, index: 0 };
    let mut arrived = Arrived::default();
    for revision in revisions {
        rows.revision(revision, now_ms, origin);
        arrived.touch(revision.visitor.project, revision.from_ms, revision.to_ms);
    }
    let arrived = arrived.take();
    rows.all_arrivals(&arrived, now_ms, origin);
    let sealed = Sealed {
        epoch: key.epoch,
        partition: key.partition,
        previous: offset,
        first_offset: offset,
        last_offset: offset,
        next_enriched: 0,
        rows: Arc::new(rows),
        waits: Vec::new(),
        arrived,
        tied: BTreeMap::new(),
    };
    (!revisions.is_empty()).then_some(sealed)
}
