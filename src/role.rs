//! The roles an instance can play.

use std::fmt;
use std::str::FromStr;

/// One part of the pipeline. An instance runs any set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// HTTP to the raw topic.
    Ingest,
    /// Raw topic to enriched topic.
    Process,
    /// Enriched and dead topics to ClickHouse.
    Load,
    /// Reports, live view and ledger.
    Query,
    /// Rules that watch numbers, and who is told.
    Alert,
}

impl Role {
    /// Every role, in the order of an event's path.
    pub const ALL: [Self; 5] = [Self::Ingest, Self::Process, Self::Load, Self::Query, Self::Alert];

    /// The name used in configuration, labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Process => "process",
            Self::Load => "load",
            Self::Query => "query",
            Self::Alert => "alert",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown role `{0}`: expected ingest, process, load, query or alert")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == word.trim()).ok_or_else(|| UnknownRole(word.to_owned()))
    }
}
