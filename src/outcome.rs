//! How events end. Every event gets exactly one outcome, and every outcome is counted.
//!
//! Law of conservation, by project and at any instant: `received = stored + duplicate + filtered + dead + waiting`.
//! `rejected` stands beside it: those events were refused at the edge and never received into the log.

/// What is wrong with an event that ingest refuses. The name is the `code` of the answer and of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// `userId` or `anonymousId` is a placeholder that stands for nobody.
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
    /// Every defect.
    pub const ALL: [Self; 22] = [
        Self::EventNotObject,
        Self::EventTooLarge,
        Self::NestingTooDeep,
        Self::DuplicateKey,
        Self::NumberOutOfRange,
        Self::InvalidUnicode,
        Self::InvalidCharacter,
        Self::TooManyProperties,
        Self::PropertyKeyInvalid,
        Self::PropertiesInvalid,
        Self::EventIdInvalid,
        Self::EventNameRequired,
        Self::EventNameTooLong,
        Self::EventNameReserved,
        Self::EventNameInvalid,
        Self::UserRequired,
        Self::UserIdInvalid,
        Self::UserIdIllegal,
        Self::TimestampInvalid,
        Self::TimestampOutOfRange,
        Self::SessionIdInvalid,
        Self::InvalidJson,
    ];

    /// The `code` of the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventNotObject => "event_not_object",
            Self::EventTooLarge => "event_too_large",
            Self::NestingTooDeep => "nesting_too_deep",
            Self::DuplicateKey => "duplicate_key",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::InvalidUnicode => "invalid_unicode",
            Self::InvalidCharacter => "invalid_character",
            Self::TooManyProperties => "too_many_properties",
            Self::PropertyKeyInvalid => "property_key_invalid",
            Self::PropertiesInvalid => "properties_invalid",
            Self::EventIdInvalid => "event_id_invalid",
            Self::EventNameRequired => "event_name_required",
            Self::EventNameTooLong => "event_name_too_long",
            Self::EventNameReserved => "event_name_reserved",
            Self::EventNameInvalid => "event_name_invalid",
            Self::UserRequired => "user_required",
            Self::UserIdInvalid => "user_id_invalid",
            Self::UserIdIllegal => "user_id_illegal",
            Self::TimestampInvalid => "timestamp_invalid",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::SessionIdInvalid => "session_id_invalid",
            Self::InvalidJson => "invalid_json",
        }
    }
}

/// Why an event was put aside with its original bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::LineMalformed, Self::EventInvalid, Self::RecordUndecodable, Self::EventUndecodable];

    /// The name in the table and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LineMalformed => "line_malformed",
            Self::EventInvalid => "event_invalid",
            Self::RecordUndecodable => "record_undecodable",
            Self::EventUndecodable => "event_undecodable",
        }
    }

    /// The reason called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

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
        }
    }

    /// What a byte stands for; `None` if this version does not know it.
    pub fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Received),
            1 => Some(Self::Stored),
            2 => Some(Self::Duplicate),
            3 => Some(Self::Conflict),
            _ => Defect::ALL
                .into_iter()
                .find(|defect| *defect as u8 == code)
                .map(Self::Rejected)
                .or_else(|| DeadReason::ALL.into_iter().find(|reason| *reason as u8 == code).map(Self::Dead)),
        }
    }

    /// The name in the books: the outcome, and the reason where there is one.
    pub fn name(self) -> String {
        match self {
            Self::Received => "received".to_owned(),
            Self::Stored => "stored".to_owned(),
            Self::Duplicate => "duplicate".to_owned(),
            Self::Conflict => "conflict".to_owned(),
            Self::Rejected(defect) => format!("rejected:{}", defect.as_str()),
            Self::Dead(reason) => format!("dead:{}", reason.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_code_of_its_own_that_leads_back_to_it() {
        let mut all = vec![Count::Received, Count::Stored, Count::Duplicate, Count::Conflict];
        all.extend(Defect::ALL.map(Count::Rejected));
        all.extend(DeadReason::ALL.map(Count::Dead));
        for count in all {
            assert_eq!(Count::of_code(count.code()), Some(count), "{}", count.name());
        }
    }
}
