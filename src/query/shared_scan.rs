//! One scan for those questions of a request that read the same events: who takes part in it, and what each gets.
//!
//! A dashboard asks several funnels about one range with one filter. Each of them that may share a scan has a [`Seat`], which it takes once it has
//! to be computed. It gives it up where its answer is kept or comes from an execution under way, and where it is refused. Once that is known of
//! all seats, what those need who took theirs is read at once, within the futures of those who wait for it. Then they go on one after the other, by
//! one permit.
//!
//! Promises: a question is answered as if it had been asked alone, of what had arrived by then: the scan begins after all who share it. Nobody waits
//! for the seat of one who waits for a turn. What is read for all takes no more memory than one question may; who has no room there reads alone in
//! its turn. All do, two at a time and by permits of their own, where the scan is more than the store takes on, or takes half of the time of a
//! question. The time of each (`query.max_time`) begins with its turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::ask::selection::Traffic;
use super::data_through::Shown;
use super::error::QueryError;
use super::question::Request;
use super::reader::{Guard, Permit, RowsRead, Turn};
use super::report::REPORTS;
use super::report::funnel::{MOST_TYPES, Scan, Scanned};
use super::{Inner, Queries};
use crate::event::ids::ProjectId;

/// Most questions that share a scan, which share the memory of one, and most of a request that are looked at for that: what is known of each by then
/// is kept until it is asked.
const MOST_TOGETHER: usize = 8;
const MOST_OF_REQUEST: usize = 32;
/// How many go on at a time where nobody got anything of a scan.
const ALONE_AT_ONCE: usize = 2;

/// Questions of one request whose scans are one.
pub(super) struct Together {
    pub(super) project: ProjectId,
    pub(super) now_ms: i64,
    pub(super) traffic: Traffic,
    /// Whose permits they take; those of all without any.
    pub(super) permits: Option<Arc<Guard>>,
    pub(super) scans: Vec<Scan>,
}

/// What a question gets of a scan.
pub(super) struct Portion {
    pub(super) scanned: Scanned,
    pub(super) turn: Turn,
    pub(super) shown: Shown,
    pub(super) excluded_bots: Option<u64>,
}

/// A scan that is over.
pub(super) struct Outcome {
    /// By this those go on who took part, if any of them got something.
    pub(super) permit: Option<Permit>,
    /// When it began, and what of the time that it took is one question's.
    pub(super) began: Instant,
    pub(super) took_each: Duration,
    /// By the numbers of the questions; who must read alone has none.
    portions: Mutex<HashMap<usize, Portion>>,
    turns: Semaphore,
}

impl Outcome {
    pub(super) fn of(permit: Permit, began: Instant, portions: Vec<(usize, Portion)>, questions: usize) -> Self {
        let took_each = began.elapsed() / u32::try_from(questions.max(1)).unwrap_or(u32::MAX);
        let (permit, at_once) = if portions.is_empty() { (None, ALONE_AT_ONCE) } else { (Some(permit), 1) };
        Self { permit, began, took_each, portions: Mutex::new(portions.into_iter().collect()), turns: Semaphore::new(at_once) }
    }
}

/// Where a question goes on that took part in a scan.
pub(super) struct Share {
    number: usize,
    pub(super) outcome: Arc<Outcome>,
}

impl Share {
    /// Waits for its turn among those who took part, of whom each has a limited time.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, QueryError> {
        self.outcome.turns.acquire().await.map_err(|_| QueryError::internal("the turns of a scan were given up"))
    }

    /// What it gets of the scan, once; `None` if it must read alone.
    pub(super) fn portion(&self) -> Option<Portion> {
        self.outcome.portions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Of one who leaves before its turn: the others need the room.
        drop(self.portion());
    }
}

/// Who takes part.
struct Seats {
    /// So many have neither taken theirs nor given it up.
    undecided: usize,
    taken: Vec<usize>,
}

/// Says who takes part.
pub(super) struct Takers(watch::Receiver<Seats>);

impl Takers {
    /// Waits until that is decided.
    pub(super) async fn decided(&mut self) {
        // Without anybody left it is decided, too.
        let _ = self.0.wait_for(|seats| seats.undecided == 0).await;
    }

    /// The numbers of those who do now: some leave.
    pub(super) fn numbers(&self) -> Vec<usize> {
        let mut numbers = self.0.borrow().taken.clone();
        numbers.sort_unstable();
        numbers
    }
}

/// `None` where there is nobody to share it with.
type Reading = Shared<BoxFuture<'static, Result<Option<Arc<Outcome>>, QueryError>>>;

/// The seat of a question; given up when dropped.
pub(super) struct Seat {
    number: usize,
    /// The identity of the question that it is of.
    question: u128,
    seats: Arc<watch::Sender<Seats>>,
    reading: Reading,
    rows_read: Arc<RowsRead>,
    is_taken: bool,
}

impl Seat {
    /// Whether it is the seat of the question of that identity: between two looks at a request a cohort that it names may change.
    pub(super) fn is_of(&self, question: u128) -> bool {
        self.question == question
    }

    /// The rows that are read for all who share the scan.
    pub(super) fn rows_read(&self) -> Arc<RowsRead> {
        Arc::clone(&self.rows_read)
    }

    /// Takes part in the scan; `None` if there is nobody to share it with.
    ///
    /// # Errors
    /// There was no scan: no turn in time, or the store is away.
    ///
    /// # Cancel safety
    /// Dropping the future gives the seat up; the scan goes on for the others.
    pub(super) async fn read(mut self) -> Result<Option<Share>, QueryError> {
        self.is_taken = true;
        self.seats.send_modify(|seats| {
            seats.undecided -= 1;
            seats.taken.push(self.number);
        });
        let outcome = self.reading.clone().await?;
        Ok(outcome.map(|outcome| Share { number: self.number, outcome }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.send_modify(|seats| match self.is_taken {
            true => seats.taken.retain(|number| *number != self.number),
            false => seats.undecided -= 1,
        });
    }
}

/// Questions that may become one scan.
struct Group {
    form: u128,
    /// The types of all scans, in order.
    types: Vec<String>,
    together: Together,
    members: Vec<Member>,
}

/// The place of a request among those that were looked at, and the identity of its question.
struct Member {
    place: usize,
    question: u128,
}

/// A request, by its place, that has a seat: those with the same first place sit together.
pub(super) struct Seated {
    pub(super) place: usize,
    pub(super) first: usize,
    pub(super) seat: Seat,
}

impl Group {
    /// The types with those of one more scan, if there is room for it.
    fn with_types_of(&self, scan: &Scan) -> Option<Vec<String>> {
        if self.members.len() == MOST_TOGETHER {
            return None;
        }
        let mut types = self.types.clone();
        for name in scan.types() {
            if let Err(at) = types.binary_search_by(|of| of.as_str().cmp(name)) {
                types.insert(at, name.to_owned());
            }
        }
        Some(types).filter(|types| types.len() <= MOST_TYPES)
    }

    /// The seats of all members; none of one who is alone.
    fn seats(self, inner: Arc<Inner>) -> Vec<Seated> {
        let Self { together, members, .. } = self;
        let Some(first) = members.first().filter(|_| members.len() > 1).map(|member| member.place) else { return Vec::new() };
        let (seats, takers) = watch::channel(Seats { undecided: members.len(), taken: Vec::new() });
        let (seats, rows_read) = (Arc::new(seats), Arc::<RowsRead>::default());
        let reading = inner.scan(together, Takers(takers), Arc::clone(&rows_read)).boxed().shared();
        let seat = |(number, Member { place, question })| {
            let (seats, reading, rows_read) = (Arc::clone(&seats), reading.clone(), Arc::clone(&rows_read));
            Seated { place, first, seat: Seat { number, question, seats, reading, rows_read, is_taken: false } }
        };
        members.into_iter().enumerate().map(seat).collect()
    }
}

impl Queries {
    /// The seats of those requests, by their places, that may share a scan with another one.
    pub(super) async fn seats(&self, project: ProjectId, requests: Vec<(usize, Request<'_>)>) -> Vec<Seated> {
        let shares = |report: &str| REPORTS.iter().any(|kind| kind.shares_scans && kind.name == report);
        let sharing: Vec<_> = requests.into_iter().filter(|(_, request)| shares(request.report)).take(MOST_OF_REQUEST).collect();
        if sharing.len() < 2 {
            return Vec::new();
        }
        let mut groups: Vec<Group> = Vec::new();
        for (place, request) in sharing {
            let question = match self.question(project, request).await {
                Ok(question) => question,
                // The store is away, as it is for the next one.
                Err(problem) if problem.class.is_ours() => break,
                // What is wrong with it is said when it is asked.
                Err(_) => continue,
            };
            let (now_ms, traffic) = (request.now_ms, question.common.traffic);
            let Some(scan) = question.plan.scan(now_ms).filter(|_| question.common.as_of.is_none()) else { continue };
            let (form, member) = (scan.form(), Member { place, question: question.fingerprint() });
            let mut alike = groups.iter_mut().filter(|group| group.form == form && group.together.traffic == traffic);
            match alike.find_map(|group| Some((group.with_types_of(&scan)?, group))) {
                Some((types, group)) => {
                    let scan = match group.together.scans.first() {
                        Some(first) => scan.with_filters_of(first),
                        None => scan,
                    };
                    group.types = types;
                    group.together.scans.push(scan);
                    group.members.push(member);
                }
                None => {
                    let types = scan.types().map(str::to_owned).collect();
                    let together = Together { project, now_ms, traffic, permits: self.1.clone(), scans: vec![scan] };
                    groups.push(Group { form, types, together, members: vec![member] });
                }
            }
        }
        groups.into_iter().flat_map(|group| group.seats(Arc::clone(&self.0))).collect()
    }
}
