//! Identifiers, each a type of its own so that they cannot be mixed up.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A project (tenant). Derived from its name, so a fleet needs no shared registry. Never 0: that is [`ProjectId::BOOKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub u64);

impl ProjectId {
    /// Under this id the table keeps bookkeeping rows; no project has it, so no project's query can see them.
    pub const BOOKS: Self = Self(0);

    /// The id of the project called `name`.
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()).max(1))
    }
}

/// A visitor inside a project: hash of `anonymousId`, or of `userId` where there is no other. It has no secret, so it identifies only
/// together with the project: to aim at a visitor of one's own project there is no need for a hash, its id will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitorKey(pub u64);

impl VisitorKey {
    /// The key of the visitor that `id` names within `project`.
    pub fn of(project: ProjectId, id: &str) -> Self {
        Self(xxh3_64_with_seed(id.as_bytes(), project.0))
    }

    /// The partition out of `partitions` that holds this visitor's events. `partitions` is at least 1.
    pub fn partition(self, partitions: u16) -> u16 {
        // The high half: hash tables inside a partition use the low bits.
        ((u64::from((self.0 >> 32) as u32) * u64::from(partitions)) >> 32) as u16
    }
}

/// A person: hash of `userId`, or of `anonymousId` while no user is known. What `unique_users` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonKey(pub u64);

impl PersonKey {
    /// The key of the person that `id` names within `project`.
    pub fn of(project: ProjectId, id: &str) -> Self {
        Self(VisitorKey::of(project, id).0)
    }
}

/// Identity of a log. A topic that is deleted and created again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogEpoch(pub u64);
