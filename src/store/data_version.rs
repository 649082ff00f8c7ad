//! Data versions: what has become visible in the event table, by project and by the quarter of an hour of the event.
//!
//! The loader notes a block right after the table has it; the query cache compares the versions of now with those that an answer was
//! computed from. Promises: a note is never lost, and costs one look-up a quarter touched. It knows what this process has stored, and what
//! other processes have stored as far as the freshness watcher notes it.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::ids::ProjectId;
use crate::store::tables::identities::TieState;

/// A day since 1970 in UTC. Times beyond the last one count as that one.
pub type Day = u16;

/// A quarter of an hour since 1970. In every time zone of today hours and days begin with one.
pub type Quarter = u32;

/// Quarters of a row.
pub type Span = RangeInclusive<Quarter>;

/// The length of a quarter, milliseconds.
pub const QUARTER_MS: i64 = 900_000;
/// Most quarters that are told apart of a project: nearly two years. Beyond that all are forgotten, and everything counts as changed.
const MOST_QUARTERS: usize = 65_536;
/// Most ties that are kept for those who ask who is who: some megabytes. Beyond that all are dropped, and the table is to be read.
const MOST_TIES: usize = 50_000;

/// A position in the order of all notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

/// How many events of a block there are, by project and quarter; none where only something else is said of the events of the quarter.
#[derive(Debug, Default)]
pub struct Arrived {
    counts: BTreeMap<(ProjectId, Quarter), u64>,
    /// Neighbours are mostly alike, and the map costs more than the row.
    last: Option<(ProjectId, Quarter)>,
    of_last: u64,
}

impl Arrived {
    /// Adds an event.
    pub fn add(&mut self, project: ProjectId, at_ms: i64) {
        let at = Some((project, DataVersions::quarter(at_ms)));
        if self.last != at {
            self.settle();
            self.last = at;
        }
        self.of_last += 1;
    }

    /// Adds that something is said of events from `from_ms` to `to_ms`.
    pub fn touch(&mut self, project: ProjectId, from_ms: i64, to_ms: i64) {
        for quarter in DataVersions::quarter(from_ms)..=DataVersions::quarter(to_ms) {
            self.counts.entry((project, quarter)).or_default();
        }
    }

    /// All of them; none are left.
    pub fn take(&mut self) -> BTreeMap<(ProjectId, Quarter), u64> {
        self.settle();
        std::mem::take(&mut self.counts)
    }

    fn settle(&mut self) {
        if let Some(last) = self.last.take() {
            *self.counts.entry(last).or_default() += std::mem::take(&mut self.of_last);
        }
    }
}

/// The versions of all projects. One for each store.
#[derive(Debug, Default)]
pub struct DataVersions {
    clock: AtomicU64,
    // One entry a project that ever had an event: as few as there are keys.
    projects: Mutex<HashMap<ProjectId, Noted>>,
    everything: AtomicU64,
    ties: Mutex<NewTies>,
}

/// Ties that this process has stored since somebody asked.
#[derive(Debug, Default)]
struct NewTies {
    /// By project, of those that were asked about.
    of: HashMap<ProjectId, Vec<TieState>>,
    count: usize,
}

/// What was noted of a project.
#[derive(Debug, Default)]
struct Noted {
    /// Of unknown times.
    any: Version,
    /// Of ties that were stored, some of which may say what is known.
    ties: Version,
    /// Of who is who.
    people: Version,
    /// Of who was who before, as far as this process may not have known it.
    people_before: Version,
    /// Of what was ruled of that by hand.
    ruled: Version,
    /// The last note, and the events of all.
    quarters: BTreeMap<Quarter, (Version, u64)>,
}

impl Noted {
    fn arrive(&mut self, quarter: Quarter, events: u64, version: Version) {
        if self.quarters.len() >= MOST_QUARTERS && !self.quarters.contains_key(&quarter) {
            self.quarters.clear();
            self.any = version;
        }
        let (last, sum) = self.quarters.entry(quarter).or_default();
        (*last, *sum) = (version, *sum + events);
    }

    /// What is noted of a span; nothing of one that ends before it begins.
    fn of(&self, span: &Span) -> impl DoubleEndedIterator<Item = (&Quarter, &(Version, u64))> {
        Some(span).filter(|span| span.start() <= span.end()).map(|span| self.quarters.range(span.clone())).into_iter().flatten()
    }

    fn any_since(&self, span: &Span, seen: Version) -> bool {
        // The newest first: that is where events arrive.
        self.any > seen || self.of(span).rev().any(|(_, (version, _))| *version > seen)
    }
}

impl DataVersions {
    /// The day of an instant, in milliseconds since 1970.
    pub fn day(at_ms: i64) -> Day {
        at_ms.div_euclid(86_400_000).clamp(0, i64::from(Day::MAX)) as Day
    }

    /// The quarter of an instant, in milliseconds since 1970.
    pub fn quarter(at_ms: i64) -> Quarter {
        at_ms.div_euclid(QUARTER_MS).clamp(0, i64::from(Quarter::MAX)) as Quarter
    }

    /// Notes that so many more events of these quarters can be read now.
    pub fn note(&self, arrived: impl IntoIterator<Item = ((ProjectId, Quarter), u64)>) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.next();
        for ((project, quarter), events) in arrived {
            projects.entry(project).or_default().arrive(quarter, events, version);
        }
    }

    /// Notes that events of `project` can be read now, of whatever times.
    pub fn note_all(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project).or_default().any = self.next();
    }

    /// Notes that it changed which ids of `project` belong to one person.
    pub fn note_people(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project).or_default().people = self.next();
    }

    /// Notes that these ties of `project` can be read now.
    pub fn note_ties(&self, project: ProjectId, ties: Vec<TieState>) {
        let mut new = self.new_ties();
        if let Some(of) = new.of.get_mut(&project) {
            let more = ties.len();
            of.extend(ties);
            new.count += more;
            if new.count > MOST_TIES {
                *new = NewTies::default();
            }
        }
        drop(new);
        // Whether that changes who is who is found out by who looks: most ties of a busy project say what is known.
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project).or_default().ties = self.next();
    }

    /// The ties of `project` that were noted since this was called last; `None` if some of them may have been dropped.
    pub fn take_ties(&self, project: ProjectId) -> Option<Vec<TieState>> {
        let mut new = self.new_ties();
        let ties = new.of.insert(project, Vec::new());
        new.count -= ties.as_ref().map_or(0, Vec::len);
        ties
    }

    fn new_ties(&self) -> MutexGuard<'_, NewTies> {
        self.ties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody has ruled which ids of `project` belong to one person.
    pub fn note_ruling(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let (noted, version) = (projects.entry(project).or_default(), self.next());
        (noted.people, noted.people_before, noted.ruled) = (version, version, version);
    }

    /// Notes that it changed which ids of `project` belong to one person, also for questions that look back: something was ruled that this process
    /// has only found, or may have been while it did not look.
    pub fn note_people_before(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let (noted, version) = (projects.entry(project).or_default(), self.next());
        (noted.people, noted.people_before) = (version, version);
    }

    /// Whether it changed since `seen` who was who for questions that look back.
    pub fn people_before_since(&self, project: ProjectId, seen: Version) -> bool {
        self.now() != seen && self.noted_since(project, seen, |noted| noted.people_before)
    }

    /// Whether it may have changed since `seen` which ids of `project` belong to one person: ties were stored, or it is known that it did.
    pub fn ties_since(&self, project: ProjectId, seen: Version) -> bool {
        self.people_since(project, seen) || self.now() != seen && self.noted_since(project, seen, |noted| noted.ties)
    }

    /// Whether it changed since `seen` which ids of `project` belong to one person.
    pub fn people_since(&self, project: ProjectId, seen: Version) -> bool {
        self.now() != seen
            && (Version(self.everything.load(Ordering::SeqCst)) > seen || self.noted_since(project, seen, |noted| noted.people))
    }

    /// Whether somebody has ruled on that in this process since `seen`.
    pub fn ruled_since(&self, project: ProjectId, seen: Version) -> bool {
        self.now() != seen && self.noted_since(project, seen, |noted| noted.ruled)
    }

    fn noted_since(&self, project: ProjectId, seen: Version, version: impl Fn(&Noted) -> Version) -> bool {
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.get(&project).is_some_and(|noted| version(noted) > seen)
    }

    /// Notes that anything may have arrived.
    pub fn note_everything(&self) {
        let Version(now) = self.next();
        self.everything.fetch_max(now, Ordering::SeqCst);
    }

    fn next(&self) -> Version {
        Version(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Now: what is noted from here on is later.
    pub fn now(&self) -> Version {
        Version(self.clock.load(Ordering::SeqCst))
    }

    /// Whether events of `project` in one of `spans` have arrived since `seen`.
    pub fn any_since(&self, project: ProjectId, spans: &[Span], seen: Version) -> bool {
        if self.now() == seen {
            return false;
        }
        if Version(self.everything.load(Ordering::SeqCst)) > seen {
            return true;
        }
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.get(&project).is_some_and(|noted| spans.iter().any(|span| noted.any_since(span, seen)))
    }

    /// How many events of `project` in `spans`, which do not overlap, were ever noted; `None` if some whose number is not known arrived
    /// since `seen`, or have been forgotten.
    pub fn events(&self, project: ProjectId, spans: &[Span], seen: Version) -> Option<u64> {
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = Version(self.everything.load(Ordering::SeqCst)) <= seen;
        let Some(noted) = projects.get(&project) else { return is_known.then_some(0) };
        let events = spans.iter().flat_map(|span| noted.of(span)).map(|(_, (_, events))| events).sum();
        (is_known && noted.any <= seen).then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::PersonKey;
    use crate::store::tables::identities::{Pair, Ruling, TieKind};

    const ADA: ProjectId = ProjectId(1);
    const BOB: ProjectId = ProjectId(2);

    /// Whether there is news of a project in a span.
    fn has_news(versions: &DataVersions, project: ProjectId, span: Span, seen: Version) -> bool {
        versions.any_since(project, &[span], seen)
    }

    #[test]
    fn only_the_quarters_and_the_project_that_were_touched_have_news() {
        let versions = DataVersions::default();
        let before = versions.now();
        versions.note([((ADA, 10), 1), ((ADA, 20), 1)]);

        assert!(has_news(&versions, ADA, 0..=10, before));
        assert!(has_news(&versions, ADA, 15..=Quarter::MAX, before));
        assert!(!has_news(&versions, ADA, 11..=19, before));
        assert!(!has_news(&versions, BOB, 0..=Quarter::MAX, before));
        assert!(!has_news(&versions, ADA, 0..=Quarter::MAX, versions.now()));
        assert!(!has_news(&versions, ADA, Span::new(11, 9), before), "nothing is in a span that ends before it begins");

        versions.note_all(ADA);
        assert!(has_news(&versions, ADA, 11..=19, before));
        assert!(!has_news(&versions, BOB, 0..=Quarter::MAX, before));
        versions.note_everything();
        assert!(has_news(&versions, BOB, 0..=0, before));
    }

    #[test]
    fn what_is_said_of_events_is_news_of_their_quarters_and_adds_none() {
        let (versions, mut block) = (DataVersions::default(), Arrived::default());
        let before = versions.now();
        block.add(ADA, 3 * QUARTER_MS);
        block.touch(ADA, 2 * QUARTER_MS + 1, 3 * QUARTER_MS);
        versions.note(block.take());
        assert!(has_news(&versions, ADA, 2..=2, before) && has_news(&versions, ADA, 3..=3, before));
        assert!(!has_news(&versions, ADA, 0..=1, before) && !has_news(&versions, ADA, 4..=Quarter::MAX, before));
        assert_eq!(versions.events(ADA, &[0..=9], before), Some(1));
    }

    #[test]
    fn events_are_counted_by_quarter_and_no_number_is_given_where_some_are_forgotten() {
        let versions = DataVersions::default();
        let mut block = Arrived::default();
        for at_ms in [0, 1, QUARTER_MS, 0, 2 * QUARTER_MS] {
            block.add(ADA, at_ms);
        }
        block.add(BOB, 0);
        versions.note(block.take());
        versions.note([((ADA, 1), 5)]);
        let seen = versions.now();
        let count = |spans: &[Span], seen| versions.events(ADA, spans, seen);
        assert_eq!((count(&[0..=0], seen), count(&[0..=0, 2..=9], seen), count(&[1..=1], seen)), (Some(3), Some(4), Some(6)));
        assert_eq!((versions.events(BOB, &[0..=9], seen), versions.events(ProjectId(3), &[0..=9], seen)), (Some(1), Some(0)));
        assert!(block.take().is_empty());

        versions.note((0..=MOST_QUARTERS as Quarter).map(|quarter| ((ADA, quarter), 1)));
        assert_eq!(count(&[0..=0], seen), None);
        assert!(has_news(&versions, ADA, 0..=0, seen) && has_news(&versions, ADA, 90_000..=90_000, seen));
        assert_eq!(count(&[0..=0], versions.now()), Some(0));

        let seen = versions.now();
        versions.note_all(BOB);
        assert_eq!([ADA, BOB].map(|project| versions.events(project, &[0..=0], seen)), [Some(0), None]);
        versions.note_everything();
        assert_eq!(versions.events(ADA, &[0..=0], seen), None);
    }

    #[test]
    fn a_later_note_is_news_after_an_earlier_one_was_seen() {
        let versions = DataVersions::default();
        versions.note([((ADA, 10), 1)]);
        let seen = versions.now();
        versions.note([((ADA, 10), 1)]);
        assert!(has_news(&versions, ADA, 10..=10, seen));
    }

    #[test]
    fn who_is_who_changes_apart_from_what_arrived() {
        let versions = DataVersions::default();
        let seen = versions.now();
        versions.note_people(ADA);
        assert!(!versions.ruled_since(ADA, seen) && !versions.people_before_since(ADA, seen));
        versions.note_people_before(ADA);
        assert!(!versions.ruled_since(ADA, seen) && versions.people_before_since(ADA, seen));
        assert!(versions.people_since(ADA, seen) && !has_news(&versions, ADA, 0..=Quarter::MAX, seen) && !versions.people_since(BOB, seen));
        let seen = versions.now();
        versions.note([((ADA, 10), 1)]);
        assert!(!versions.people_since(ADA, seen));
        versions.note_everything();
        assert!(versions.people_since(ADA, seen));
    }

    #[test]
    fn ties_are_told_once_unless_there_were_too_many() {
        let pair = |from| Pair { kind: TieKind::Device, from: PersonKey(from), to: PersonKey(0) };
        let tie = |from| TieState { pair: pair(from), first_ms: None, ruling: Ruling::default(), written_ms: 0, known_ms: 0 };
        let told = |versions: &DataVersions, project| versions.take_ties(project).map(|ties| ties.len());
        let versions = DataVersions::default();
        let seen = versions.now();
        versions.note_ties(ADA, vec![tie(1)]);
        assert!(versions.ties_since(ADA, seen) && !versions.people_since(ADA, seen) && !versions.ties_since(BOB, seen));
        assert_eq!(told(&versions, ADA), None, "nobody had asked by then");
        assert_eq!(told(&versions, ADA), Some(0));
        versions.note_ties(ADA, vec![tie(1), tie(2)]);
        versions.note_ties(ADA, vec![tie(3)]);
        versions.note_ties(BOB, vec![tie(4)]);
        assert_eq!((told(&versions, ADA), told(&versions, ADA)), (Some(3), Some(0)));
        for _ in 0..3 {
            versions.note_ties(ADA, (0..MOST_TIES as u64 / 2).map(tie).collect());
        }
        assert_eq!((told(&versions, ADA), told(&versions, ADA)), (None, Some(0)));
    }

    #[test]
    fn days_are_those_of_utc_and_end_with_the_last_that_a_day_can_be() {
        assert_eq!([0, 86_399_999, 86_400_000, i64::MAX, -1].map(DataVersions::day), [0, 0, 1, Day::MAX, 0]);
    }
}
