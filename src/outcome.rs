//! How events end. Every event gets exactly one outcome, and every outcome is counted.
//!
//! Law of conservation, by project and at any instant: `received = stored + duplicate + filtered + dead + waiting`.
//! `rejected` stands beside it: those events were refused at the edge and never received into the log.

use std::ops::{Range, RangeInclusive};

use strum::{FromRepr, IntoStaticStr, VariantArray};

/// What is wrong with an event that ingest refuses. The name is the `code` of the answer and of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Defect {
    /// An element of a batch is not a JSON object.
    EventNotObject = 64,
    /// Larger than one event may be.
    EventTooLarge = 65,
    /// Nested deeper than allowed.
    NestingTooDeep = 66,
    /// The same key twice in one object.
    DuplicateKey = 67,
    /// A number that no 64-bit float can hold.
    NumberOutOfRange = 68,
    /// A lone surrogate.
    InvalidUnicode = 69,
    /// A control character where none may be.
    InvalidCharacter = 70,
    /// More properties than allowed.
    TooManyProperties = 71,
    /// A property key that is empty or too long.
    PropertyKeyInvalid = 72,
    /// `properties` is not an object.
    PropertiesInvalid = 73,
    /// `eventId` is not a UUID.
    EventIdInvalid = 74,
    /// `type` is missing or empty.
    EventNameRequired = 75,
    /// `type` is longer than allowed.
    EventNameTooLong = 76,
    /// `type` starts with a prefix that pulse keeps for itself.
    EventNameReserved = 77,
    /// `type` is not a string.
    EventNameInvalid = 78,
    /// Neither `anonymousId` nor `userId`.
    UserRequired = 79,
    /// `userId` or `anonymousId` is not a string of 1-200 bytes.
    UserIdInvalid = 80,
    /// `userId` or `anonymousId` is a placeholder such as `null`, not an id.
    UserIdIllegal = 81,
    /// A time that cannot be read.
    TimestampInvalid = 82,
    /// A time too far in the future or the past.
    TimestampOutOfRange = 83,
    /// `sessionId` is not a string of 1-200 bytes.
    SessionIdInvalid = 84,
    /// A line of NDJSON is not JSON.
    InvalidJson = 85,
}

impl Defect {
    /// The `code` of the answer.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why an event was put aside with its original bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum DeadReason {
    /// A line of an import that its format does not allow.
    LineMalformed = 192,
    /// An event of an import that ingest would have refused.
    EventInvalid = 193,
    /// A record of the raw topic that is none of ours, or damaged.
    RecordUndecodable = 194,
    /// An event inside a record that cannot be read.
    EventUndecodable = 195,
    /// A record that can be read, but not processed: a fault of pulse itself.
    RecordFailed = 196,
    /// A record whose enriched form is larger than the log takes.
    RecordTooLarge = 197,
    /// What only a later release knows: a letter that it wrote is kept all the same.
    OfLaterRelease = 255,
}

impl DeadReason {
    /// The name in the table and in the ledger.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The reason called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|reason| reason.as_str() == name)
    }
}

/// Codes of the ways in which an event may be refused, known to this release or not.
const REJECTED: Range<u8> = 64..128;
/// Codes of the ways in which an event may be left out by a rule.
const FILTERED: Range<u8> = 128..192;
/// Codes of the reasons for which an event may be put aside.
const DEAD: RangeInclusive<u8> = 192..=u8::MAX;

/// One thing the books count. In the log it is one byte ([`Self::code`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Events received into the log.
    Received,
    /// Events in the table.
    Stored,
    /// Copies of events that the table has.
    Duplicate,
    /// Of the duplicates, those that differ from the copy stored.
    Conflict,
    /// Events refused at the edge.
    Rejected(Defect),
    /// Events put aside.
    Dead(DeadReason),
    /// Something that a later release counts. It is passed on as it is, so that releases may run beside each other.
    Unknown(u8),
}

impl Count {
    /// The byte that stands for it in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Stored => 1,
            Self::Duplicate => 2,
            Self::Conflict => 3,
            Self::Rejected(defect) => defect as u8,
            Self::Dead(reason) => reason as u8,
            Self::Unknown(code) => code,
        }
    }

    /// What a byte stands for.
    pub fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Received,
            1 => Self::Stored,
            2 => Self::Duplicate,
            3 => Self::Conflict,
            _ => {
                let rejected = || Defect::from_repr(code).map(Self::Rejected);
                let dead = || DeadReason::from_repr(code).map(Self::Dead);
                rejected().or_else(dead).unwrap_or(Self::Unknown(code))
            }
        }
    }

    /// Whether it counts events refused at the edge, for whatever reason.
    pub fn is_rejected(self) -> bool {
        REJECTED.contains(&self.code())
    }

    /// Whether it counts events put aside, for whatever reason.
    pub fn is_dead(self) -> bool {
        DEAD.contains(&self.code())
    }

    /// The name in the books: the outcome, and the reason where there is one. Where only a later release knows the reason, its
    /// code stands for it: the outcome follows from the range that the code lies in.
    pub fn name(self) -> String {
        match self {
            Self::Received => "received".to_owned(),
            Self::Stored => "stored".to_owned(),
            Self::Duplicate => "duplicate".to_owned(),
            Self::Conflict => "conflict".to_owned(),
            Self::Rejected(defect) => format!("rejected:{}", defect.as_str()),
            Self::Dead(reason) => format!("dead:{}", reason.as_str()),
            Self::Unknown(code) if self.is_rejected() => format!("rejected:{code}"),
            Self::Unknown(code) if FILTERED.contains(&code) => format!("filtered:{code}"),
            Self::Unknown(code) if self.is_dead() => format!("dead:{code}"),
            Self::Unknown(code) => format!("unknown:{code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_count_and_leads_back_to_itself() {
        let names: std::collections::BTreeSet<String> = (0..=u8::MAX)
            .map(|code| {
                assert_eq!(Count::of_code(code).code(), code);
                Count::of_code(code).name()
            })
            .collect();
        assert_eq!(names.len(), 256, "no two have the same name");
        let known = (0..=u8::MAX).filter(|code| !matches!(Count::of_code(*code), Count::Unknown(_))).count();
        assert_eq!(known, 4 + Defect::VARIANTS.len() + DeadReason::VARIANTS.len());
    }

    #[test]
    fn a_code_lies_in_the_range_of_its_outcome_so_that_earlier_releases_count_it_as_that() {
        assert!(Defect::VARIANTS.iter().all(|defect| Count::Rejected(*defect).is_rejected()));
        assert!(DeadReason::VARIANTS.iter().all(|reason| Count::Dead(*reason).is_dead()));
        assert_eq!(
            [Count::Unknown(127), Count::Unknown(191), Count::Unknown(254)].map(Count::name),
            ["rejected:127", "filtered:191", "dead:254"]
        );
    }

    #[test]
    fn names_are_those_that_the_table_and_the_clients_have() {
        assert_eq!(Defect::EventNotObject.as_str(), "event_not_object");
        assert_eq!(Defect::InvalidJson.as_str(), "invalid_json");
        assert_eq!(DeadReason::named("line_malformed"), Some(DeadReason::LineMalformed));
        assert_eq!(DeadReason::named("record_failed"), Some(DeadReason::RecordFailed));
        assert_eq!(DeadReason::named("of a later release"), None);
    }
}
