//! Why a request is refused as a whole. What HTTP says of it stands in `accept`.

use crate::auth::AuthError;

/// What is wrong with a request or its body.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Key(#[from] AuthError),
    #[error("the {whose} sends more than {per_second} events a second; nothing was accepted, try again in {seconds} s")]
    TooFast { whose: &'static str, per_second: f64, seconds: u32 },
    #[error("the body is empty")]
    Empty,
    #[error("the body holds no event")]
    NoEvent,
    #[error("the batch holds no event")]
    EmptyBatch,
    #[error("a request takes at most {0} events")]
    TooManyEvents(usize),
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body is no protobuf message")]
    NotProtobuf,
    #[error("the body nests deeper than {0}")]
    TooDeep(usize),
    #[error("the body is neither an event, an array of events nor a batch")]
    NotEvents,
    #[error("the request holds several keys: events of one project only")]
    SeveralKeys,
    #[error("the body is neither JSON nor a form whose `data` is JSON or base64 of it")]
    NotData,
    #[error("`{0}` is given twice")]
    BatchTwice(&'static str),
    #[error("`{0}` is not an array")]
    BatchNotArray(&'static str),
    #[error("`{name}` takes more than {max} bytes, and would be part of each event")]
    MemberTooLarge { name: String, max: usize },
    #[error("more than {0} members stand around the events")]
    TooManyMembers(usize),
    #[error("a `$dead` line cannot be read: {0}")]
    DeadLine(String),
    #[error("`original_base64`: {0}")]
    DeadLineBytes(String),
}

impl Refusal {
    /// A stable word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::TooFast { .. } => "rate_limited",
            Self::Empty | Self::NoEvent => "empty_body",
            Self::EmptyBatch => "batch_empty",
            Self::TooManyEvents(_) => "batch_too_many",
            Self::NotJson(_) | Self::TooDeep(_) | Self::DeadLine(_) | Self::DeadLineBytes(_) => "invalid_json",
            Self::TooManyMembers(_) => "too_many_values",
            Self::SeveralKeys => "several_keys",
            Self::NotEvents
            | Self::NotData
            | Self::NotProtobuf
            | Self::BatchTwice(_)
            | Self::BatchNotArray(_)
            | Self::MemberTooLarge { .. } => "invalid_body",
        }
    }
}
