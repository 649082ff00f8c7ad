//! The worker against a table and a log that fail, delay and change owners at random: every event once, and each promise of
//! the table needed.
//!
//! The table does what ClickHouse does: an insert goes on although its sender is gone, checks the fence when it writes and not
//! when it arrives, and its reply may be lost. Time is simulated, so a thousand seeds take seconds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::super::block::DuplicateCandidate;
use super::super::dedupe::{Dedupe, EventKey, Fingerprint};
use super::super::memory::Memory;
use super::super::sessions::{Past, Pasts, Question, Sessions, Visit};
use super::*;
use crate::event::ids::{PersonKey, ProjectId, VisitorKey};
use crate::event::session::{Campaign, Moment, SessionId, SessionRules};
use crate::load::BlockLimits;
use crate::project::ProjectsConfig;
use crate::store::tables::identities::{Pair, Tie, TieKind};
use rows::rows_of;
use script::{at_ms, pair, script};

const SEEDS: u64 = 300;
const RAW_RECORDS: i64 = 60;
const NOON_MS: i64 = 1_700_000_000_000;
const EPOCH: LogEpoch = LogEpoch(9);

/// A promise that the table does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// Inserts are not checked against the fence.
    Fence,
    /// Who takes the fence does not wait for inserts that passed it before.
    Wait,
    /// The table does not say how far it is.
    Watermark,
    /// Earlier events are not recalled, and nothing is a candidate.
    Window,
    /// Of the events within the reach that is told, some are not recalled.
    Reach,
    /// It says that an insert is over which still goes on.
    Over,
}

/// What the table never answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    Fence,
    Find,
    Insert,
}

/// Numbers that only the seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pause(&mut self) -> Duration {
        // Mostly short, now and then long enough for another owner to come and go.
        let limit = if self.is(10) { 30_000 } else { 300 };
        Duration::from_millis(self.below(limit))
    }
}

/// One row of the table: raw offset, the event unless it is a row of the books, and its session.
type Row = (i64, Option<EventKey>, SessionId);

struct State {
    dice: Dice,
    broken: Option<Broken>,
    /// Whether faults still strike.
    is_stormy: bool,
    log: Vec<Record>,
    committed: Option<i64>,
    generation: u64,
    /// Generations of inserts that run.
    running: Vec<u64>,
    rows: Vec<Row>,
    /// What was tied, by whatever owner.
    tied: HashSet<Pair>,
    /// How often the table was asked how far it is, beside the fences taken.
    looks: u64,
    /// What it answers to every insert instead, if anything.
    refusal: Option<TableError>,
    /// For how many rows at a time it has memory.
    most_rows: usize,
    /// The rows of inserts that were sent.
    sent_rows: Vec<usize>,
    /// What it never answers, if anything.
    silent: Option<Silent>,
    /// How often its past cannot be read.
    unread: usize,
}

impl State {
    fn highest(&self) -> Option<i64> {
        let of_rows = || self.rows.iter().map(|(offset, ..)| *offset).max();
        if self.broken == Some(Broken::Watermark) { None } else { of_rows() }
    }
}

#[derive(Clone)]
struct World(Arc<Mutex<State>>);

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> (Self, HashSet<EventKey>) {
        let mut dice = Dice(seed);
        let (log, keys) = script(&mut dice);
        let state = State {
            dice,
            broken,
            is_stormy: true,
            log,
            committed: None,
            generation: 0,
            running: Vec::new(),
            rows: Vec::new(),
            tied: HashSet::new(),
            looks: 0,
            refusal: None,
            most_rows: usize::MAX,
            sent_rows: Vec::new(),
            silent: None,
            unread: 0,
        };
        (Self(Arc::new(Mutex::new(state))), keys)
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.lock().unwrap())
    }

    fn strikes(&self, percent: u64) -> bool {
        self.with(|state| state.is_stormy && state.dice.is(percent))
    }

    /// Never ends if the table is silent about that.
    async fn answers(&self, to: Silent) {
        if self.with(|state| state.silent == Some(to)) {
            std::future::pending::<()>().await;
        }
    }

    async fn pause(&self) {
        let pause = self.with(|state| if state.is_stormy { state.dice.pause() } else { Duration::from_millis(1) });
        tokio::time::sleep(pause).await;
    }
}

impl Table for World {
    async fn take_fence(&self, _: PartitionKey) -> Result<(u64, Option<i64>), TableError> {
        self.answers(Silent::Fence).await;
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("the fence cannot be taken".to_owned()));
        }
        let generation = self.with(|state| {
            state.generation += 1;
            state.generation
        });
        while self.with(|state| state.broken != Some(Broken::Wait) && state.running.iter().any(|running| *running != generation)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.pause().await;
        Ok((generation, self.with(|state| state.highest())))
    }

    async fn owner(&self, _: PartitionKey) -> Result<u64, TableError> {
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("nothing can be read".to_owned()));
        }
        Ok(self.with(|state| state.generation))
    }

    async fn highest(&self, _: PartitionKey) -> Result<Option<i64>, TableError> {
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("nothing can be read".to_owned()));
        }
        Ok(self.with(|state| {
            state.looks += 1;
            state.highest()
        }))
    }

    async fn recall(&self, _: PartitionKey, limits: &MemoryLimits) -> Result<Memory, TableError> {
        self.pause().await;
        let is_unread = self.with(|state| {
            let left = state.unread;
            state.unread = left.saturating_sub(1);
            left > 0
        });
        if is_unread || self.strikes(10) {
            return Err(TableError::Later("nothing can be read".to_owned()));
        }
        Ok(self.with(|state| {
            let mut memory = limits.nothing(i64::MIN);
            // Of nobody it is known what the table has.
            memory.sessions = Sessions::new(limits.projects.clone(), limits.max_visitors, i64::MAX / 4);
            if state.broken == Some(Broken::Window) {
                return memory;
            }
            // What was received before that may be in the table without being recalled. It decides whose events are certainly new: some by
            // whatever is received when.
            let since = NOON_MS + state.dice.below(60) as i64 - state.dice.below(41 * 3_600_000) as i64;
            memory.dedupe = Dedupe::new(limits.dedupe_bytes, since);
            let forgets = state.broken == Some(Broken::Reach);
            let keys = state.rows.iter().filter_map(|(_, key, _)| *key).enumerate();
            keys.filter(|(number, _)| !forgets || number % 4 != 0).for_each(|(_, key)| memory.dedupe.recall(key, NOON_MS));
            memory
        }))
    }

    async fn find(&self, _: PartitionKey, candidates: &[DuplicateCandidate]) -> Result<HashMap<EventKey, Fingerprint>, TableError> {
        self.answers(Silent::Find).await;
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("nothing can be read".to_owned()));
        }
        let stored: HashSet<EventKey> = self.with(|state| state.rows.iter().filter_map(|(_, key, _)| *key).collect());
        Ok(candidates
            .iter()
            .filter(|candidate| stored.contains(&candidate.key))
            .map(|candidate| (candidate.key, candidate.fingerprint))
            .collect())
    }

    async fn visits(&self, _: PartitionKey, questions: &[Question]) -> Result<Pasts, TableError> {
        self.answers(Silent::Find).await;
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("nothing can be read".to_owned()));
        }
        let visits = |question: &Question| {
            let of_visitor = |state: &mut State| {
                let of_visitor = |(_, key, session): &Row| Some((key.filter(|key| key.visitor == question.visitor.key)?, *session));
                state
                    .rows
                    .iter()
                    .filter_map(of_visitor)
                    .map(|(key, session)| Visit { moment: Moment { at_ms: at_ms(&key), campaign: Campaign::NONE }, session })
                    .collect()
            };
            (question.visitor, Past { visits: self.with(of_visitor), revisions: Vec::new() })
        };
        Ok(questions.iter().map(visits).collect())
    }

    async fn tie(&self, _: PartitionKey, ties: &[Tie]) -> Result<(), TableError> {
        self.pause().await;
        if self.strikes(10) {
            return Err(TableError::Later("the connection was reset".to_owned()));
        }
        self.with(|state| state.tied.extend(ties.iter().map(|tie| tie.pair)));
        Ok(())
    }

    async fn insert(&self, block: &Sealed, generation: u64) -> Result<(), TableError> {
        self.answers(Silent::Insert).await;
        if let Some(refusal) = self.with(|state| state.refusal.clone()) {
            return Err(refusal);
        }
        let (sent, most) = (block.rows.len(), self.with(|state| (state.sent_rows.push(block.rows.len()), state.most_rows).1));
        if sent > most {
            return Err(TableError::TooLarge("Memory limit exceeded".to_owned()));
        }
        let (world, rows) = (self.clone(), rows_of(block));
        // The server goes on whether or not the sender is still there.
        let served = crate::lifecycle::spawn_apart(async move {
            world.with(|state| state.running.push(generation));
            world.pause().await;
            let passes = world.with(|state| state.generation == generation || state.broken == Some(Broken::Fence));
            world.pause().await;
            let is_stored = passes && !world.strikes(10);
            world.with(|state| {
                let at = state.running.iter().position(|running| *running == generation).unwrap();
                state.running.remove(at);
                if is_stored {
                    let untied = rows.iter().filter_map(|(_, key, _)| *key).find(|key| !state.tied.contains(&pair(key)));
                    assert_eq!(untied, None, "stored before what it ties");
                    state.rows.extend(rows);
                }
            });
            match (passes, is_stored) {
                (false, _) => Err(TableError::Fenced),
                (true, false) => Err(TableError::Refused("too many parts".to_owned())),
                (true, true) => Ok(()),
            }
        });
        let is_cut = self.strikes(15);
        if is_cut {
            self.pause().await;
            let is_over = self.with(|state| state.broken == Some(Broken::Over));
            let kind = if is_over { TableError::Refused } else { TableError::Later };
            return Err(kind("the connection was reset".to_owned()));
        }
        served.await.unwrap()
    }

    fn announce(&self, _: &Sealed) {}
}

impl RawBounds for World {
    async fn first_held(&self, _: PartitionKey, _: i64) -> Result<i64, LogError> {
        Ok(0)
    }
}

struct Reader {
    world: World,
    next: i64,
    revoked: CancellationToken,
}

impl Reader {
    fn new(world: &World) -> Self {
        Self { world: world.clone(), next: 0, revoked: CancellationToken::new() }
    }
}

impl PartitionReader for Reader {
    fn partition(&self) -> u16 {
        0
    }

    fn committed(&self) -> Option<i64> {
        self.world.with(|state| state.committed)
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        Ok(0..self.world.with(|state| state.log.len() as i64))
    }

    fn seek(&mut self, next_offset: i64) {
        self.next = next_offset;
    }

    async fn next(&mut self, _: usize) -> Result<Vec<Record>, LogError> {
        self.world.pause().await;
        let (number, end) = self.world.with(|state| (1 + state.dice.below(5) as i64, state.log.len() as i64));
        let last = (self.next + number).min(end);
        if last <= self.next {
            return std::future::pending().await;
        }
        let records = self.world.with(|state| state.log[self.next as usize..last as usize].to_vec());
        self.next = last;
        Ok(records)
    }

    async fn commit(&mut self, next_offset: i64) -> Result<(), LogError> {
        // Lost now and then: it is a hint.
        if !self.revoked.is_cancelled() && !self.world.strikes(20) {
            self.world.with(|state| state.committed = Some(next_offset));
        }
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }
}

/// Lets another owner load, until it is aborted or, gently, its partition taken away.
fn begin(world: &World) -> (tokio::task::JoinHandle<Result<(), LogError>>, CancellationToken) {
    let rules = SessionRules { idle_gap_ms: 20, longest_ms: 100, ..SessionRules::default() };
    let projects = ProjectsConfig::default().check(rules).unwrap();
    let limits = BlockLimits {
        max_rows: 12,
        max_bytes: 1 << 20,
        max_age: Duration::from_millis(200),
        memory: MemoryLimits { dedupe_bytes: 1 << 12, max_visitors: 4, projects },
    };
    let flush_schedule = Arc::new(FlushSchedule::new(&limits));
    let reader = Reader::new(world);
    let revoked = reader.revoked.clone();
    let (memory, stats, refusals) = (limits.memory, Arc::default(), Arc::default());
    let shared = Shared { table: world.clone(), raw: world.clone(), memory, stats, flush_schedule, refusals };
    let worker = Worker::new(shared, reader);
    (crate::lifecycle::spawn_apart(worker.run(CancellationToken::new())), revoked)
}

/// Runs one seed; says what is wrong, if anything.
async fn run(seed: u64, broken: Option<Broken>) -> Result<(), String> {
    let (world, sent) = World::new(seed, broken);
    let mut owners = Vec::new();
    for _ in 0..8 {
        owners.push(begin(&world));
        world.pause().await;
        world.pause().await;
        // The last owner ends: it crashes, it is told, or, frozen, it stays beside the next one for a while.
        match world.with(|state| state.dice.below(3)) {
            0 => owners.drain(..).for_each(|(owner, _)| owner.abort()),
            1 => owners.drain(..).for_each(|(_, revoked)| revoked.cancel()),
            _ => {}
        }
    }
    owners.drain(..).for_each(|(owner, _)| owner.abort());
    world.with(|state| state.is_stormy = false);
    let (last, _) = begin(&world);
    // Much longer than all of it takes; what an earlier owner left running ends meanwhile too.
    tokio::time::sleep(Duration::from_secs(600)).await;
    last.abort();
    let rows = world.with(|state| state.rows.clone());
    let stored: Vec<EventKey> = rows.iter().filter_map(|(_, key, _)| *key).collect();
    let distinct: HashSet<EventKey> = stored.iter().copied().collect();
    let offsets: BTreeSet<i64> = rows.iter().map(|(offset, ..)| *offset).collect();
    match () {
        () if stored.len() != distinct.len() => Err(format!("{} events doubled", stored.len() - distinct.len())),
        () if distinct != sent => Err(format!("{} events lost", sent.difference(&distinct).count())),
        () if offsets.last() != Some(&(RAW_RECORDS - 1)) => Err(format!("the table ends at {:?}", offsets.last())),
        () => Ok(()),
    }
}

fn simulated<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn every_event_is_stored_once_whatever_fails_and_whoever_owns() {
    for seed in 0..SEEDS {
        if let Err(problem) = simulated(run(seed, None)) {
            panic!("seed {seed}: {problem}");
        }
    }
}

#[test]
fn each_promise_of_the_table_is_needed() {
    for broken in [Broken::Fence, Broken::Wait, Broken::Watermark, Broken::Window, Broken::Reach, Broken::Over] {
        let caught = (0..SEEDS).filter(|seed| simulated(run(*seed, Some(broken))).is_err()).count();
        assert!(caught > 0, "{broken:?} is broken and nobody noticed");
        println!("{broken:?} broken: noticed in {caught} of {SEEDS} runs");
    }
}

mod rows;
mod scenes;
mod script;
