//! Data versions: what has become visible in the event table, by project and by the UTC day of the event.
//!
//! The loader notes a block right after the table has it; the query cache compares the versions of now with those that an answer was
//! computed from. Promises: a note is never lost, and costs one look-up a day touched. It knows what this process has stored, and what
//! other processes have stored as far as the freshness watcher notes it.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::event::ids::ProjectId;

/// A day since 1970 in UTC. Times beyond the last one count as that one.
pub type Day = u16;

/// A position in the order of all notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

/// The versions of all projects. One for each store.
#[derive(Debug, Default)]
pub struct DataVersions {
    clock: AtomicU64,
    // One entry a project that ever had an event: as few as there are keys, each with at most 65,536 days.
    projects: Mutex<HashMap<ProjectId, Noted>>,
    everything: AtomicU64,
}

/// What was noted of a project.
#[derive(Debug, Default)]
struct Noted {
    /// Of unknown days.
    any: Version,
    /// Of who is who.
    people: Version,
    days: BTreeMap<Day, Version>,
}

impl DataVersions {
    /// The day of an instant, in milliseconds since 1970.
    pub fn day(at_ms: i64) -> Day {
        at_ms.div_euclid(86_400_000).clamp(0, i64::from(Day::MAX)) as Day
    }

    /// Notes that events of these days can be read now.
    pub fn note(&self, touched: impl IntoIterator<Item = (ProjectId, Day)>) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let version = Version(self.clock.fetch_add(1, Ordering::SeqCst) + 1);
        for (project, day) in touched {
            projects.entry(project).or_default().days.insert(day, version);
        }
    }

    /// Notes that events of `project` can be read now, of whatever days.
    pub fn note_all(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project).or_default().any = Version(self.clock.fetch_add(1, Ordering::SeqCst) + 1);
    }

    /// Notes that it changed which ids of `project` belong to one person.
    pub fn note_people(&self, project: ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.entry(project).or_default().people = Version(self.clock.fetch_add(1, Ordering::SeqCst) + 1);
    }

    /// Whether it changed since `seen` which ids of `project` belong to one person.
    pub fn people_since(&self, project: ProjectId, seen: Version) -> bool {
        if self.now() == seen {
            return false;
        }
        if Version(self.everything.load(Ordering::SeqCst)) > seen {
            return true;
        }
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.get(&project).is_some_and(|noted| noted.people > seen)
    }

    /// Notes that anything may have arrived.
    pub fn note_everything(&self) {
        self.everything.fetch_max(self.clock.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    }

    /// Now: what is noted from here on is later.
    pub fn now(&self) -> Version {
        Version(self.clock.load(Ordering::SeqCst))
    }

    /// Whether events of `project` on one of `days` have arrived since `seen`.
    pub fn any_since(&self, project: ProjectId, days: RangeInclusive<Day>, seen: Version) -> bool {
        if self.now() == seen {
            return false;
        }
        if Version(self.everything.load(Ordering::SeqCst)) > seen {
            return true;
        }
        let projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest days first: that is where events arrive.
        let Some(noted) = projects.get(&project) else { return false };
        noted.any > seen || noted.days.range(days).rev().any(|(_, version)| *version > seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: ProjectId = ProjectId(1);
    const BOB: ProjectId = ProjectId(2);

    #[test]
    fn only_the_days_and_the_project_that_were_touched_have_news() {
        let versions = DataVersions::default();
        let before = versions.now();
        versions.note([(ADA, 10), (ADA, 20)]);

        assert!(versions.any_since(ADA, 0..=10, before));
        assert!(versions.any_since(ADA, 15..=Day::MAX, before));
        assert!(!versions.any_since(ADA, 11..=19, before));
        assert!(!versions.any_since(BOB, 0..=Day::MAX, before));
        assert!(!versions.any_since(ADA, 0..=Day::MAX, versions.now()));

        versions.note_all(ADA);
        assert!(versions.any_since(ADA, 11..=19, before));
        assert!(!versions.any_since(BOB, 0..=Day::MAX, before));
        versions.note_everything();
        assert!(versions.any_since(BOB, 0..=0, before));
    }

    #[test]
    fn a_later_note_is_news_after_an_earlier_one_was_seen() {
        let versions = DataVersions::default();
        versions.note([(ADA, 10)]);
        let seen = versions.now();
        versions.note([(ADA, 10)]);
        assert!(versions.any_since(ADA, 10..=10, seen));
    }

    #[test]
    fn who_is_who_changes_apart_from_what_arrived() {
        let versions = DataVersions::default();
        let seen = versions.now();
        versions.note_people(ADA);
        assert!(versions.people_since(ADA, seen) && !versions.any_since(ADA, 0..=Day::MAX, seen) && !versions.people_since(BOB, seen));
        let seen = versions.now();
        versions.note([(ADA, 10)]);
        assert!(!versions.people_since(ADA, seen));
        versions.note_everything();
        assert!(versions.people_since(ADA, seen));
    }

    #[test]
    fn days_are_those_of_utc_and_end_with_the_last_that_a_day_can_be() {
        assert_eq!([0, 86_399_999, 86_400_000, i64::MAX, -1].map(DataVersions::day), [0, 0, 1, Day::MAX, 0]);
    }
}
