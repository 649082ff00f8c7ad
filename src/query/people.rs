//! People: which ids of a project belong to one person, as questions see it.
//!
//! Owns, for the projects that are asked about, the ties as they are in the table, and the [`PersonMap`] that follows from them. A question
//! is answered with one map, whatever changes meanwhile, and an answer for which the map was used is outdated once the map changes.
//!
//! **How fresh it is.** In the process that loads, a tie is known as soon as its event can be read, and the table is not read for it. What
//! other processes write is looked for every [`POLL`] while questions come. A merge or unmerge that was answered is seen by the next
//! question here, and elsewhere within [`POLL`]. Where making the map takes long, it is not made again for what is stored within
//! [`REST_SHARE`] times as long. When a shared device changed hands is read from its events: again once events have arrived, but no sooner
//! than [`TURNS_POLL`] and [`TURNS_SHARE`] times what reading it took.
//! **Looking back.** Who was who before ([`People::map_as_of`]) follows from the ties that were known then and the events that were there; of
//! what was ruled by hand the last word counts at any time. The last such map is kept: a chart is looked at with the people behind its bars.
//! **What it costs.** Ties are read in whole at first and every [`WHOLE`], in between those written lately. Memory: 40 bytes a tie and as
//! much for the map; at most [`MOST_TIES`] ties a project, [`MOST_BYTES`] for all, beyond which the projects asked about least lately are
//! forgotten. A project with more ties is answered as if the others had not been made, which the log and `meta.warnings` say.
//! May go wrong: the store is away; then a question that counts people fails as it would anyway.

pub(crate) mod api;
pub(crate) mod map;
mod times;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use self::map::{PersonMap, Ties, Turns};
use super::ask::AsOf;
use super::error::QueryError;
use crate::clickhouse::{ClickHouse, ClickHouseError};
use crate::clock;
use crate::event::ids::ProjectId;
use crate::store::data_version::{DataVersions, Quarter, Version};
use crate::store::places::Places;
use crate::store::tables::identities::{self, TieKind, TiePoints, TieState};

/// How often what others wrote is looked for.
const POLL: Duration = Duration::from_millis(500);
/// How often shared devices are read again at most, while events arrive.
const TURNS_POLL: Duration = Duration::from_secs(1);
const TURNS_SHARE: u32 = 20;
/// Making the map of a large project takes a second: that long times this it is not made again but for a ruling, so that logins by the second
/// do not keep a core busy. What takes less than [`QUICK`] need not rest.
const REST_SHARE: u32 = 20;
const QUICK: Duration = Duration::from_millis(25);
/// From so many ties on they are looked through beside the tasks of the runtime.
const MANY_TIES: usize = 20_000;
/// How often all ties are read again.
const WHOLE: Duration = Duration::from_secs(60);
/// An insert may become visible this long after the time that its rows carry.
const LATE_MS: i64 = 60_000;
/// Most ties of a project.
const MOST_TIES: usize = 1_000_000;
/// Most memory of all projects.
const MOST_BYTES: usize = 128 << 20;

/// The people of all projects.
pub(super) struct People {
    store: ClickHouse,
    arrivals: Arc<DataVersions>,
    /// Whether other processes write ties, too.
    is_shared: bool,
    projects: Mutex<HashMap<ProjectId, Arc<Project>>>,
}

#[derive(Default)]
struct Project {
    current: Mutex<Option<Current>>,
    /// The last map of those who were who before.
    then: Mutex<Option<Then>>,
    /// Held while it is read; the others wait for the result.
    known: tokio::sync::Mutex<Known>,
}

/// What questions are answered with.
#[derive(Clone)]
struct Current {
    map: Arc<PersonMap>,
    /// The clock when it was read, milliseconds since 1970: what is known later counts as later.
    at_ms: i64,
    /// The same for equal rulings by hand.
    rulings: u64,
    /// What had arrived before it was read.
    seen: Version,
    read: Instant,
    /// How long the map of many ties was made, without the reading of them.
    took: Duration,
    turns: ReadTurns,
    bytes: usize,
}

/// Who was who before.
#[derive(Clone)]
struct Then {
    people_ms: i64,
    places: Places,
    /// What was ruled of it.
    rulings: u64,
    map: Arc<PersonMap>,
}

impl Then {
    fn is(&self, as_of: &AsOf, rulings: u64) -> bool {
        self.people_ms == as_of.people_ms && self.rulings == rulings && self.places == as_of.places
    }
}

/// Who is who, and when that was read.
pub(super) struct KnownPeople {
    pub(super) map: Arc<PersonMap>,
    /// Milliseconds since 1970.
    pub(super) at_ms: i64,
    /// The same for equal rulings by hand, whichever instance has read them.
    pub(super) rulings: u64,
}

impl From<&Current> for KnownPeople {
    fn from(current: &Current) -> Self {
        Self { map: Arc::clone(&current.map), at_ms: current.at_ms, rulings: current.rulings }
    }
}

/// The ties of a project as they were read.
#[derive(Default)]
struct Known {
    /// In order.
    states: Vec<TieState>,
    /// When all of them were read.
    whole: Option<Instant>,
    newest_ms: i64,
    points: TiePoints,
    turns: HashMap<u64, Turns>,
    read_turns: ReadTurns,
}

/// The last time that shared devices were read.
#[derive(Clone, Copy, Default)]
struct ReadTurns {
    /// What had arrived by then.
    seen: Version,
    /// Until when they are not read again for what arrives; `None` if there are none.
    rest: Option<Instant>,
}

impl ReadTurns {
    /// Whether they may have changed, and it is time to look.
    fn is_due(self, arrivals: &DataVersions, project: ProjectId) -> bool {
        self.rest.is_some_and(|rest| Instant::now() >= rest) && arrivals.any_since(project, &[0..=Quarter::MAX], self.seen)
    }
}

impl People {
    pub(super) fn new(store: ClickHouse, arrivals: Arc<DataVersions>, is_shared: bool) -> Self {
        Self { store, arrivals, is_shared, projects: Mutex::default() }
    }

    /// Who is who in `project`, with all that was to be seen when this was asked. If that is another map than before, answers that used
    /// the one before are outdated.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn map(&self, project: ProjectId) -> Result<Arc<PersonMap>, QueryError> {
        Ok(self.known(project).await?.map)
    }

    /// The same, with its time for [`Self::map_as_of`].
    pub(super) async fn known(&self, project: ProjectId) -> Result<KnownPeople, QueryError> {
        let own = self.own(project);
        if let Some(known) = self.fresh(project, &own) {
            return Ok(known);
        }
        let mut known = own.known.lock().await;
        if let Some(known) = self.fresh(project, &own) {
            return Ok(known);
        }
        self.renew(project, &own, &mut known).await
    }

    /// Reads it anew. If that is another map than before, answers that used the one before are outdated; if other things were ruled, those
    /// too that look back.
    async fn renew(&self, project: ProjectId, own: &Project, known: &mut Known) -> Result<KnownPeople, QueryError> {
        let before = own.current().as_ref().map(KnownPeople::from);
        let current = self.read(project, own, known).await?;
        let now = KnownPeople::from(&current);
        *own.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
        match before {
            Some(before) if before.rulings != now.rulings => self.arrivals.note_people_before(project),
            // What was ruled since the last answers is not known.
            None => self.arrivals.note_people_before(project),
            Some(before) if before.map.fingerprint() == now.map.fingerprint() => {}
            _ => self.arrivals.note_people(project),
        }
        self.forget_others(project);
        Ok(now)
    }

    /// Who was who in `project` as of then.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn map_as_of(&self, project: ProjectId, as_of: &AsOf) -> Result<Arc<PersonMap>, QueryError> {
        let mut now = self.known(project).await?;
        let own = self.own(project);
        if let Some(then) = own.then().filter(|then| then.is(as_of, now.rulings)) {
            return Ok(then.map);
        }
        let mut known = own.known.lock().await;
        // A reading that was given up leaves them empty, and another instance may have known of more by then.
        if known.whole.is_none() || now.at_ms < as_of.people_ms {
            now = self.renew(project, &own, &mut known).await?;
        }
        let is_too_many = known.states.len() >= MOST_TIES;
        let states: Vec<TieState> = known.states.iter().filter(|state| state.known_ms <= as_of.people_ms).copied().collect();
        let is_all = states.len() == known.states.len();
        drop(known);
        let is_large = states.len() >= MANY_TIES;
        let (ties, points) = aside(is_large, move || {
            let ties = Ties::of(&states).without_some(is_too_many);
            let points = points(&ties, &states);
            (ties, points)
        })
        .await?;
        if points.devices.is_empty() && is_all {
            return Ok(now.map);
        }
        let turns = match points.devices.is_empty() {
            true => HashMap::new(),
            false => {
                let turns = identities::turns(&self.store.reader, project, &points, Some(&as_of.places)).await;
                turns.map_err(of_store)?.into_iter().collect()
            }
        };
        let map = Arc::new(aside(is_large, move || ties.with_turns(&turns)).await?);
        let AsOf { people_ms, places, .. } = as_of;
        let then = Then { people_ms: *people_ms, places: places.clone(), rulings: now.rulings, map: Arc::clone(&map) };
        *own.then.lock().unwrap_or_else(PoisonError::into_inner) = Some(then);
        self.forget_others(project);
        Ok(map)
    }

    fn own(&self, project: ProjectId) -> Arc<Project> {
        Arc::clone(self.projects.lock().unwrap_or_else(PoisonError::into_inner).entry(project).or_default())
    }

    fn fresh(&self, project: ProjectId, own: &Project) -> Option<KnownPeople> {
        let current = own.current()?;
        let is_polled = !self.is_shared || current.read.elapsed() < POLL;
        let is_due = current.turns.is_due(&self.arrivals, project);
        let is_current = is_polled && !is_due && !self.arrivals.ties_since(project, current.seen);
        let is_fresh = is_current || self.is_resting(project, &current);
        is_fresh.then(|| KnownPeople::from(&current))
    }

    fn is_resting(&self, project: ProjectId, current: &Current) -> bool {
        let rest = if current.took < QUICK { Duration::ZERO } else { current.took * REST_SHARE };
        current.read.elapsed() < rest && !self.arrivals.ruled_since(project, current.seen)
    }

    async fn read(&self, project: ProjectId, own: &Project, known: &mut Known) -> Result<Current, QueryError> {
        let (seen, now) = (self.arrivals.now(), Instant::now());
        let at_ms = own.current().map_or(0, |current| current.at_ms + 1).max(clock::now_ms());
        let reader = &self.store.reader;
        let told = self.arrivals.take_ties(project).filter(|_| !self.is_shared);
        let is_ruled = own.current().is_none_or(|current| self.arrivals.ruled_since(project, current.seen));
        if known.whole.is_none_or(|whole| now - whole >= WHOLE) {
            known.renew(identities::states(reader, project, 0, MOST_TIES).await.map_err(of_store)?);
            known.whole = Some(now);
        } else if let Some(told) = told.filter(|_| !is_ruled) {
            known.add(told.into_iter().map(|state| TieState { known_ms: at_ms, ..state }).collect());
        } else {
            known.add(identities::states(reader, project, known.newest_ms - LATE_MS, MOST_TIES).await.map_err(of_store)?);
        }
        let is_too_many = known.states.len() >= MOST_TIES;
        if is_too_many {
            tracing::warn!(project = project.0, most = MOST_TIES, "a project has more ties of ids than are looked at");
            known.states.truncate(MOST_TIES);
        }
        known.newest_ms = known.states.iter().map(|state| state.written_ms).max().unwrap_or(0);
        let is_large = known.states.len() >= MANY_TIES;
        // A future that is dropped on the way leaves nothing behind that is not whole: all is read again then.
        let (whole, states) = (known.whole.take(), std::mem::take(&mut known.states));
        let mut making = Instant::now();
        let (states, ties, points, rulings) = aside(is_large, move || {
            let ties = Ties::of(&states).without_some(is_too_many);
            let (points, rulings) = (points(&ties, &states), rulings(&states));
            (states, ties, points, rulings)
        })
        .await?;
        (known.whole, known.states) = (whole, states);
        let mut took = making.elapsed();
        self.read_turns(project, points, known).await?;
        let turns = known.turns.clone();
        making = Instant::now();
        let map = Arc::new(aside(is_large, move || ties.with_turns(&turns)).await?);
        took += making.elapsed();
        // What the store took says nothing of how much there is: a new tie is in the next answer, however slow the store was before.
        let took = if is_large { took } else { Duration::ZERO };
        let bytes = map.bytes() + known.states.len() * size_of::<TieState>();
        Ok(Current { map, at_ms, rulings, seen, read: Instant::now(), took, turns: known.read_turns, bytes })
    }

    /// Reads when shared devices changed hands, if that may have changed.
    async fn read_turns(&self, project: ProjectId, points: TiePoints, known: &mut Known) -> Result<(), QueryError> {
        if points == known.points && !known.read_turns.is_due(&self.arrivals, project) {
            return Ok(());
        }
        if points.devices.is_empty() {
            (known.points, known.turns, known.read_turns) = (points, HashMap::new(), ReadTurns::default());
            return Ok(());
        }
        let (seen, began) = (self.arrivals.now(), Instant::now());
        let turns = identities::turns(&self.store.reader, project, &points, None).await.map_err(of_store)?;
        (known.points, known.turns) = (points, turns.into_iter().collect());
        let rest = Some(Instant::now() + TURNS_POLL.max(began.elapsed() * TURNS_SHARE));
        known.read_turns = ReadTurns { seen, rest };
        Ok(())
    }

    /// Forgets projects until the rest takes no more than it may. The one that was just asked about stays.
    fn forget_others(&self, asked: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let of_then = |own: &Project| own.then.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |then| then.map.bytes());
        let read = |own: &Project| own.current().map(|current| (current.read, current.bytes + of_then(own)));
        let mut bytes: usize = projects.values().filter_map(|own| read(own)).map(|(_, bytes)| bytes).sum();
        while bytes > MOST_BYTES {
            let others = projects.iter().filter(|(project, _)| **project != asked);
            let oldest = others.filter_map(|(project, own)| read(own).map(|(at, bytes)| (at, *project, bytes))).min_by_key(|(at, ..)| *at);
            let Some((_, project, of_project)) = oldest else { return };
            projects.remove(&project);
            bytes = bytes.saturating_sub(of_project);
        }
    }
}

impl Project {
    fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn then(&self) -> Option<Then> {
        self.then.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Known {
    /// Takes all ties as they were read anew; what was known before still was.
    fn renew(&mut self, mut states: Vec<TieState>) {
        for state in &mut states {
            if let Ok(at) = self.states.binary_search_by_key(&state.pair, |known| known.pair) {
                state.known_ms = self.states[at].known_ms;
            }
        }
        self.states = states;
    }

    /// Adds what was written lately, some of which may be known.
    fn add(&mut self, lately: Vec<TieState>) {
        if lately.is_empty() {
            return;
        }
        self.states.extend(lately);
        self.states.sort_by_key(|state| state.pair);
        self.states.dedup_by(|later, earlier| {
            let is_same = later.pair == earlier.pair;
            if is_same {
                earlier.first_ms = earlier.first_ms.into_iter().chain(later.first_ms).min();
                earlier.ruling = earlier.ruling.max(later.ruling);
                earlier.written_ms = earlier.written_ms.max(later.written_ms);
                earlier.known_ms = earlier.known_ms.min(later.known_ms);
            }
            is_same
        });
    }
}

fn of_store(problem: ClickHouseError) -> QueryError {
    QueryError::of_store(problem.class())
}

/// Does `work`, beside the tasks of the runtime if it is a lot of it.
async fn aside<T: Send + 'static>(is_large: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, QueryError> {
    if !is_large {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| QueryError::internal("who is who could not be put together"))
}

/// The same for equal rulings by hand; 0 where nothing was ruled.
fn rulings(states: &[TieState]) -> u64 {
    let ruled = states.iter().filter_map(|state| Some((state.pair, state.ruling.at_ms()?, state.ruling.is_undone())));
    let bytes: Vec<u8> = ruled
        .flat_map(|(pair, at_ms, is_undone)| {
            let numbers = [u64::from(pair.kind.code()), pair.from.0, pair.to.0, at_ms as u64, u64::from(is_undone)];
            numbers.map(u64::to_le_bytes).into_iter().flatten()
        })
        .collect();
    if bytes.is_empty() { 0 } else { xxh3_64(&bytes) }
}

/// What is to be read of the shared devices: ties that were ruled hold from then on where no event made them.
fn points(ties: &Ties, states: &[TieState]) -> TiePoints {
    let devices: Vec<u64> = ties.shared().map(|(device, _)| device).collect();
    let of_shared = || states.iter().filter(|state| devices.binary_search(&state.pair.from.0).is_ok());
    let made = of_shared().filter(|state| !state.ruling.is_undone());
    let more = made.filter_map(|state| Some((state.pair.from.0, state.first_ms.or(state.ruling.at_ms())?, state.pair.to.0))).collect();
    // An alias may say the same as a login that is undone: it ties from then on, and what the login said is not looked at.
    let is_undone = |state: &&TieState| state.pair.kind == TieKind::Device && state.ruling.is_undone();
    let undone = of_shared().filter(is_undone).map(|state| (state.pair.from.0, state.pair.to.0)).collect();
    TiePoints { devices, more, undone }
}
