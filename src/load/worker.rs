//! One partition of the enriched topic: read, skip, dedupe, insert, commit.
//!
//! One insert is on its way while the next block fills. The order is always: fence, look, insert, commit.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::block::{Block, Sealed};
use super::dedupe::Dedupe;
use super::home::PartitionKey;
use super::raw::RawLog;
use super::stats::LoadStats;
use super::table::{Table, TableError};
use super::timetable::Timetable;
use crate::backoff::Backoff;
use crate::event::ids::LogEpoch;
use crate::event::record::{self, Enriched, Header, RawOrigin};
use crate::log::outage::{Outage, Over};
use crate::log::{LogError, PartitionReader, Record};
use crate::metrics::Counter;
use crate::{clock, failpoint};

const READ_BYTES: usize = 2 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a worker that waits at a gap looks whether a replay has filled it.
const GAP_LOOK: Duration = Duration::from_secs(5);

/// How an insert ended: with the block in the table, as its last one, and the generation that holds the fence; because
/// someone else has loaded meanwhile, and all that is known must be learnt again; or in doubt, because pulse is to stop and the
/// table does not do its part: the log has the rows, and the next look at the table tells.
enum Inserted {
    Stored { sealed: Sealed, generation: u64 },
    Overlap,
    GivenUp,
}

type Inserting = Pin<Box<dyn Future<Output = Inserted> + Send>>;

/// Loads one partition.
pub(super) struct Worker<T, W, R> {
    table: T,
    raw: W,
    reader: R,
    /// Memory for telling new events from copies, bytes.
    dedupe_memory: usize,
    stats: Arc<LoadStats>,
    timetable: Arc<Timetable>,
    block: Block,
    /// Departures when the block began.
    departures: u64,
    content: Enriched,
    /// While the log does not answer.
    outage: Outage,
}

/// What a worker knows once it has taken the fence.
struct Tenure {
    epoch: Option<LogEpoch>,
    generation: u64,
    /// Highest raw offset that is in the table or on its way.
    highest: Option<i64>,
    /// First raw offset held: where a table begins that has nothing.
    first_raw: i64,
    dedupe: Dedupe,
    inserting: Option<Inserting>,
    /// Records read but not yet in a block.
    pending: VecDeque<Record>,
    gap_told: bool,
    /// When to look again whether the gap is still there.
    gap_look_at: Option<Instant>,
    /// Whether reading went back to the first record held, because the committed offset did not fit the table.
    is_rewound: bool,
    /// Whether a record was taken.
    has_taken: bool,
}

impl<T: Table, W: RawLog, R: PartitionReader> Worker<T, W, R> {
    pub(super) fn new((table, raw): (T, W), reader: R, dedupe_memory: usize, shared: (Arc<LoadStats>, Arc<Timetable>)) -> Self {
        let (stats, timetable) = shared;
        Self {
            table,
            raw,
            reader,
            dedupe_memory,
            stats,
            timetable,
            block: Block::new(),
            departures: 0,
            content: Enriched::default(),
            outage: Outage::default(),
        }
    }

    /// When the block is to be sent at the latest, if there is one.
    fn due_at(&self) -> Option<Instant> {
        self.block.since().map(|(since, late)| self.timetable.due_at(since, late))
    }

    /// Whether the block takes no more: enough has gathered, here and elsewhere.
    fn is_full(&self) -> bool {
        !self.block.is_empty() && self.departures != self.timetable.departures()
    }

    /// Loads until asked to stop or the partition is taken away; ends with everything read stored and committed.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        while !stop.is_cancelled() {
            let partition = self.reader.partition();
            match self.tenure(&stop).await {
                Ok(true) => return Ok(()),
                Ok(false) => tracing::warn!(partition, "the table was loaded by someone else meanwhile: looking again"),
                // What was on its way to the table is found there by the next look.
                Err(why @ (LogError::Full(_) | LogError::Unavailable(_) | LogError::OutOfRange { .. })) => {
                    // Each look asks the log, which says nothing while brokers are away: said once, not with each.
                    if self.outage.begins() {
                        tracing::warn!(partition, %why, "log refuses: looking again");
                    }
                }
                Err(ended) => return Err(ended),
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        Ok(())
    }

    /// One tenure: from taking the fence to the end (`true`) or to an overlap with another owner (`false`).
    async fn tenure(&mut self, stop: &CancellationToken) -> Result<bool, LogError> {
        let revoked = self.reader.revoked();
        let ends = Ends { stop: stop.clone(), revoked: revoked.clone() };
        self.block = Block::new();
        let start = self.reader.bounds().await?.start;
        // From the last record that was committed: it tells whether the table has it, which may have less, also when nothing follows.
        self.reader.seek(self.reader.committed().map_or(start, |next| next - 1).max(start));
        let mut tenure = Tenure {
            epoch: None,
            generation: 0,
            highest: None,
            first_raw: 0,
            dedupe: Dedupe::new(64, i64::MIN),
            inserting: None,
            pending: VecDeque::new(),
            gap_told: false,
            gap_look_at: None,
            is_rewound: false,
            has_taken: false,
        };
        loop {
            self.fill(&mut tenure, &ends).await?;
            let is_due = self.is_due(&tenure, stop.is_cancelled());
            if is_due && tenure.inserting.is_none() {
                if !self.flush(&mut tenure, &ends).await {
                    return Ok(true);
                }
                continue;
            }
            if stop.is_cancelled() && tenure.inserting.is_none() && self.block.is_empty() {
                return Ok(true);
            }
            let wants_more = !stop.is_cancelled() && tenure.pending.is_empty() && !self.is_full();
            let due_at = self.due_at();
            tokio::select! {
                biased;
                () = revoked.cancelled() => return Ok(true),
                inserted = wait(&mut tenure.inserting) => {
                    tenure.inserting = None;
                    match inserted {
                        Inserted::Stored { sealed, generation } => self.settle(&mut tenure, sealed, generation).await?,
                        Inserted::Overlap => return Ok(false),
                        Inserted::GivenUp => return Ok(true),
                    }
                }
                () = until(due_at), if tenure.inserting.is_none() => {}
                () = until(tenure.gap_look_at), if tenure.inserting.is_none() && self.block.is_empty() => {
                    tenure.gap_look_at = Some(Instant::now() + GAP_LOOK);
                    if self.has_moved(&mut tenure, &ends).await {
                        return Ok(false);
                    }
                }
                records = self.reader.next(READ_BYTES), if wants_more => tenure.pending.extend(records?),
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn is_due(&self, tenure: &Tenure, is_stopping: bool) -> bool {
        let Some(due_at) = self.due_at() else { return false };
        is_stopping || !tenure.pending.is_empty() || self.is_full() || due_at <= Instant::now()
    }

    /// Moves pending records into the block, as far as they fit.
    async fn fill(&mut self, tenure: &mut Tenure, ends: &Ends) -> Result<(), LogError> {
        while !self.is_full() {
            let Some(record) = tenure.pending.pop_front() else { return Ok(()) };
            match self.admit(tenure, &record) {
                Admitted::Skip => {}
                Admitted::Wait => {
                    tenure.pending.push_front(record);
                    return Ok(());
                }
                Admitted::NewEpoch(epoch) => {
                    tenure.pending.push_front(record);
                    if !self.begin(tenure, epoch, ends).await? {
                        return Ok(());
                    }
                    if tenure.highest.is_none() {
                        self.rewind(tenure).await?;
                    }
                }
                Admitted::Rewind => {
                    if !self.rewind(tenure).await? {
                        tenure.pending.push_front(record);
                    }
                }
                Admitted::Take(header, origin) => {
                    if self.block.is_empty() {
                        self.departures = self.timetable.departures();
                    }
                    let before = self.block.len();
                    self.block.push(&header, origin, (&self.content, record.offset), &mut tenure.dedupe);
                    self.timetable.gather(self.block.len() - before);
                    tenure.highest = Some(origin.offset);
                    tenure.has_taken = true;
                    (tenure.gap_told, tenure.gap_look_at) = (false, None);
                }
            }
        }
        Ok(())
    }

    /// What to do with the next record; its body is inflated only if it is to be taken.
    fn admit(&mut self, tenure: &mut Tenure, record: &Record) -> Admitted {
        let header = match record::header(&record.payload) {
            Ok(header) => header,
            Err(problem) => {
                // Process makes these records; one that cannot be read leaves a gap, which the next one shows.
                tracing::error!(partition = self.reader.partition(), offset = record.offset, %problem, "enriched record unreadable");
                return Admitted::Skip;
            }
        };
        let Some(origin) = header.origin else { return Admitted::Skip };
        if tenure.epoch != Some(origin.epoch) {
            return if self.block.is_empty() && tenure.inserting.is_none() { Admitted::NewEpoch(origin.epoch) } else { Admitted::Wait };
        }
        if tenure.highest.is_some_and(|highest| origin.offset <= highest) {
            return Admitted::Skip;
        }
        // Process may publish records behind one that failed, and that one later; also as the very first of a partition.
        if origin.previous > tenure.highest.unwrap_or(tenure.first_raw - 1) {
            if !tenure.has_taken && !tenure.is_rewound {
                return Admitted::Rewind;
            }
            if !tenure.gap_told {
                tracing::error!(
                    partition = origin.partition,
                    stored = tenure.highest,
                    next = origin.offset,
                    "gap: raw offsets are missing from the enriched topic; nothing behind them is loaded until they are there: where \
                     the enriched topic has lost them, `pulse replay` loads them from the raw one"
                );
                (tenure.gap_told, tenure.gap_look_at) = (true, Some(Instant::now() + GAP_LOOK));
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

    /// Goes back to the first record held, once in a tenure. The table is the truth and the committed offset a hint: where
    /// the table has less than was committed (it was emptied, restored or swapped), what it lacks is read again. `false` if there
    /// is nothing before.
    async fn rewind(&mut self, tenure: &mut Tenure) -> Result<bool, LogError> {
        let start = self.reader.bounds().await?.start;
        if tenure.is_rewound || self.reader.committed().is_none_or(|committed| committed <= start) {
            tenure.is_rewound = true;
            return Ok(false);
        }
        tracing::warn!(
            partition = self.reader.partition(),
            start,
            "the table has less than was committed: reading again what the log holds"
        );
        tenure.is_rewound = true;
        tenure.pending.clear();
        self.reader.seek(start);
        Ok(true)
    }

    /// Takes the fence for an epoch of the log and learns what the table has. `false` if this ends meanwhile.
    /// Errors: the log does not answer, or ends before what the table has of it.
    async fn begin(&mut self, tenure: &mut Tenure, epoch: LogEpoch, ends: &Ends) -> Result<bool, LogError> {
        let partition = self.reader.partition();
        let place = PartitionKey { epoch, partition };
        let mut pause = Pause::default();
        loop {
            let attempt = async {
                let (generation, highest) = self.table.take_fence(place).await?;
                let dedupe = self.table.recall(place, self.dedupe_memory).await?;
                Ok::<_, TableError>((generation, highest, dedupe))
            };
            let result = tokio::select! {
                () = ends.any() => return Ok(false),
                result = attempt => result,
            };
            match result {
                Ok((generation, highest, dedupe)) => {
                    failpoint::point("load.fenced");
                    tenure.first_raw = self.raw.first_held(place, highest.map_or(0, |highest| highest + 1)).await?;
                    tracing::info!(partition, generation, stored = highest, "loading");
                    (tenure.epoch, tenure.generation, tenure.highest, tenure.dedupe) = (Some(epoch), generation, highest, dedupe);
                    return Ok(true);
                }
                Err(problem) => pause.after(&problem, partition, ends.any()).await,
            }
        }
    }

    /// Whether the table has come further while this worker waited at a gap.
    async fn has_moved(&mut self, tenure: &mut Tenure, ends: &Ends) -> bool {
        let Some(epoch) = tenure.epoch else { return false };
        let place = PartitionKey { epoch, partition: self.reader.partition() };
        tokio::select! {
            () = ends.any() => false,
            highest = self.table.highest(place) => highest.is_ok_and(|highest| highest != tenure.highest),
        }
    }

    /// Judges the suspects, seals the block and sends it. `false` if the table does not answer and this ends.
    async fn flush(&mut self, tenure: &mut Tenure, ends: &Ends) -> bool {
        let mut pause = Pause::default();
        Counter::Suspects.add(self.block.suspects.len() as u64);
        while let Some(place) = self.block.place().filter(|_| !self.block.suspects.is_empty()) {
            let found = tokio::select! {
                () = ends.revoked.cancelled() => return false,
                found = self.table.find(place, &self.block.suspects) => found,
            };
            match found {
                Ok(stored) => self.block.judge(|key| stored.get(key).copied()),
                Err(_) if ends.stop.is_cancelled() => return false,
                Err(problem) => pause.after(&problem, self.reader.partition(), ends.any()).await,
            }
        }
        let Some(sealed) = self.block.seal() else { return true };
        failpoint::point("load.sealed");
        tenure.dedupe.begin_insert();
        tenure.inserting = Some(Box::pin(insert(self.table.clone(), sealed, tenure.generation, ends.stop.clone())));
        true
    }

    /// After an insert: commits, and tells how long the events took.
    async fn settle(&mut self, tenure: &mut Tenure, sealed: Sealed, generation: u64) -> Result<(), LogError> {
        failpoint::point("load.stored");
        tenure.generation = generation;
        tenure.dedupe.end_insert();
        self.table.announce(&sealed);
        Counter::BlocksStored.add(1);
        Counter::RowsStored.add(sealed.rows.len() as u64);
        let now_ms = clock::now_ms();
        for (project, received_ms, events) in &sealed.waits {
            self.stats.record(*project, u64::try_from(now_ms - received_ms).unwrap_or(0), *events);
        }
        if !tenure.gap_told {
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

/// What ends a tenure from outside: pulse is to stop, or the partition is someone else's.
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

/// What is to be done with a record.
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

/// Inserts a block until the table has it. After any doubt: fence, look, and only then insert again. Where the server has refused, and
/// there is no doubt that nothing is on its way any more, a look is enough.
async fn insert<T: Table>(table: T, sealed: Sealed, mut generation: u64, stop: CancellationToken) -> Inserted {
    let mut pause = Pause::default();
    loop {
        let Err(mut problem) = table.insert(&sealed, generation).await else { return Inserted::Stored { sealed, generation } };
        let is_over = problem.is_over();
        loop {
            if stop.is_cancelled() {
                tracing::warn!(partition = sealed.partition, ?problem, "insert given up to stop: the log has its events");
                return Inserted::GivenUp;
            }
            pause.after(&problem, sealed.partition, stop.cancelled()).await;
            let looked = match is_over {
                true => table.highest(sealed.place()).await.map(|highest| (generation, highest)),
                false => table.take_fence(sealed.place()).await,
            };
            match looked {
                Ok((taken, Some(highest))) if highest == sealed.last_offset => return Inserted::Stored { sealed, generation: taken },
                // Another owner came further, or cut the log into other blocks: what this worker remembers is out of date.
                Ok((_, Some(highest))) if highest >= sealed.first_offset => return Inserted::Overlap,
                // The table lost or was given other rows meanwhile: this block would leave a hole before it.
                Ok((_, highest)) if highest.unwrap_or(-1) < sealed.previous => return Inserted::Overlap,
                Ok((taken, _)) => {
                    generation = taken;
                    break;
                }
                Err(again) => problem = again,
            }
        }
    }
}

/// Waits between attempts: longer each time, and says what kind of trouble it is.
struct Pause(Backoff);

impl Default for Pause {
    fn default() -> Self {
        Self(Backoff::new(FIRST_PAUSE, LONGEST_PAUSE))
    }
}

impl Pause {
    /// Waits, or until `ends`: who is to stop tries once more at once.
    async fn after(&mut self, problem: &TableError, partition: u16, ends: impl Future<Output = ()>) {
        Counter::LoadRetries.add(1);
        match problem {
            TableError::Stop(why) => tracing::error!(partition, why, "loading stopped until this is mended; nothing is lost"),
            TableError::Fenced => tracing::warn!(partition, "insert refused by the fence"),
            TableError::Later(why) | TableError::Refused(why) => tracing::warn!(partition, why, "clickhouse refuses for now"),
        }
        let _ = tokio::time::timeout(self.0.next_pause(), ends).await;
    }
}

/// Waits for an insert; for ever if there is none.
async fn wait(inserting: &mut Option<Inserting>) -> Inserted {
    match inserting {
        Some(insert) => insert.await,
        None => std::future::pending().await,
    }
}

async fn until(due_at: Option<Instant>) {
    match due_at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
