//! Why a question gets no result. Texts never hold SQL, a host or another project's data.

use crate::clickhouse;

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct QueryError {
    /// Whose fault it is, and whether asking again helps.
    pub class: ErrorClass,
    /// Stable word for programs.
    pub code: &'static str,
    /// Sentence for people; without what would cost less.
    pub message: String,
    /// Seconds after which asking again makes sense.
    pub retry_after: Option<u32>,
    pub(crate) advice: Advice,
}

/// What would cost less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nothing, or the message says it.
    NotNeeded,
    /// It cost more than a question may, and its report has not said yet what would cost less.
    Missing,
    /// This.
    AskFor(&'static str),
}

/// Kinds of [`QueryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request is wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// There is such a thing, but not for the one who asks.
    Forbidden,
    /// What is to be changed is not what the request expects.
    Conflict,
    /// The answer can be had, but of no type that the one who asks takes.
    NotAcceptable,
    /// The answer costs more than a question may.
    TooExpensive,
    /// The project asks too much at once.
    TooMany,
    /// The store cannot answer now.
    Unavailable,
    /// It took longer than a question may.
    TimedOut,
    /// A bug of ours, or an answer of the store that cannot be read.
    Internal,
}

/// The code of [`QueryError::no_room`].
const NO_ROOM: &str = "no_room";

impl ErrorClass {
    /// Whether the question was right and the answer is missing because of this side.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut | Self::Internal)
    }
}

impl QueryError {
    fn of(class: ErrorClass, code: &'static str, message: impl Into<String>) -> Self {
        Self { class, code, message: message.into(), retry_after: None, advice: Advice::NotNeeded }
    }

    /// The request itself is wrong.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::of(ErrorClass::Invalid, code, message)
    }

    /// The same, of the part of the request at `path`; an empty one is the request itself.
    pub(crate) fn within(self, path: &str) -> Self {
        if path.is_empty() { self } else { Self { message: format!("{path}: {}", self.message), ..self } }
    }

    /// The same, of something that the request names: what there is not is wrong there.
    pub(crate) fn of_a_part(self) -> Self {
        let class = if self.class == ErrorClass::NotFound { ErrorClass::Invalid } else { self.class };
        Self { class, ..self }
    }

    /// There is no such thing to ask for.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::of(ErrorClass::NotFound, code, message)
    }

    /// It is not for the one who asks.
    pub(crate) fn forbidden(code: &'static str, message: &str) -> Self {
        Self::of(ErrorClass::Forbidden, code, message)
    }

    /// What is to be changed is not what the request expects.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::of(ErrorClass::Conflict, code, message)
    }

    /// The answer is of a type that the one who asks does not take.
    pub(crate) fn not_acceptable(message: impl Into<String>) -> Self {
        Self::of(ErrorClass::NotAcceptable, "not_acceptable", message)
    }

    /// The store cannot answer now.
    pub(crate) fn unavailable(code: &'static str, message: &str) -> Self {
        Self { retry_after: Some(1), ..Self::of(ErrorClass::Unavailable, code, message) }
    }

    /// Too many questions of the project run at once.
    pub(crate) fn too_many() -> Self {
        let message = "too many queries of this project are running";
        Self { retry_after: Some(1), ..Self::of(ErrorClass::TooMany, "too_many_queries", message) }
    }

    /// A bug of ours or an answer that cannot be read.
    pub(crate) fn internal(message: &str) -> Self {
        Self::of(ErrorClass::Internal, "internal", message)
    }

    /// It took longer than a question may.
    pub(crate) fn too_slow() -> Self {
        let too_slow = Self::of(ErrorClass::TimedOut, "query_timeout", "the query took longer than allowed");
        Self { advice: Advice::Missing, ..too_slow }
    }

    /// The same, where it cost more than a question may and nothing says yet what would cost less: `cheaper` does.
    pub(crate) fn advising(self, cheaper: &'static str) -> Self {
        let advice = if self.advice == Advice::Missing { Advice::AskFor(cheaper) } else { self.advice };
        Self { advice, ..self }
    }

    /// What is said to the one who asked: also what would cost less.
    pub(crate) fn said(&self) -> String {
        match self.advice {
            Advice::AskFor(cheaper) => format!("{}: ask for {cheaper}", self.message),
            Advice::NotNeeded | Advice::Missing => self.message.clone(),
        }
    }

    /// It takes more memory or work than a question may; `message` says what would take less.
    pub(crate) fn too_expensive(message: &str) -> Self {
        Self::of(ErrorClass::TooExpensive, "query_too_expensive", message)
    }

    /// Whether it read or held more than a question may, or than the store has, so that another way to the same answer may be open.
    pub(crate) fn takes_too_much(&self) -> bool {
        matches!(self.class, ErrorClass::TooExpensive | ErrorClass::Unavailable) && self.advice == Advice::Missing
    }

    /// Whether it was refused before the store did anything for it: what ran may be told what would cost less.
    pub(crate) fn has_cost_nothing(&self) -> bool {
        self.is_overload() && self.advice == Advice::NotNeeded
    }

    /// Other questions hold the memory that it needs.
    pub(crate) fn out_of_memory() -> Self {
        Self::unavailable("overloaded", "other questions hold the memory that questions may take: ask again")
    }

    /// There is no room for it beside those who share what was read: it is answered by itself, so nobody is told this.
    pub(crate) fn no_room() -> Self {
        Self::unavailable(NO_ROOM, "there is no room beside the other questions of the request: ask it alone")
    }

    /// Whether it is [`Self::no_room`].
    pub(crate) fn is_no_room(&self) -> bool {
        self.code == NO_ROOM
    }

    /// As many answers wait to be taken by clients as may.
    pub(crate) fn too_many_answers() -> Self {
        Self::unavailable("too_many_answers", "as many answers wait to be taken by their clients as may: ask again")
    }

    /// Its answer has more bytes than one may have.
    pub(crate) fn too_large() -> Self {
        let message = "the answer is larger than allowed: ask for fewer buckets, lines or a shorter range";
        Self::of(ErrorClass::TooExpensive, "answer_too_large", message)
    }

    /// Whether it was refused only because too much is going on or the store is away: an older answer is better than none.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self.class, ErrorClass::TooMany | ErrorClass::Unavailable | ErrorClass::TimedOut)
    }

    /// What an error of the store is to the one who asked.
    pub(crate) fn of_store(class: clickhouse::ErrorClass) -> Self {
        use clickhouse::ErrorClass as Store;
        let unavailable = || Self::unavailable("store_unavailable", "the store cannot be reached");
        match class {
            Store::NotSent(pause) => Self { retry_after: Some(pause.as_secs() as u32 + 1), ..unavailable() },
            Store::Unreachable => unavailable(),
            Store::NoAnswer | Store::TooSlow => Self::too_slow(),
            Store::AnswerTooLarge => Self::too_large(),
            Store::TooExpensive | Store::StatementMemory => {
                Self { advice: Advice::Missing, ..Self::too_expensive("the query reads or holds more than allowed") }
            }
            // Others hold it, or the query itself where nothing limits what one may hold: asking again helps, and so does asking for less.
            Store::ServerMemory | Store::UserMemory => {
                let message = "the store has no memory left for the query";
                Self { advice: Advice::Missing, ..Self::unavailable("overloaded", message) }
            }
            Store::InvalidRegex => Self::invalid("invalid_regex", "the regular expression cannot be compiled (RE2 syntax)"),
            Store::TooManyStatements => Self::unavailable("overloaded", "too many queries are running"),
            Store::Overloaded => Self::unavailable("overloaded", "the store has too much to do"),
            Store::Missing => Self::unavailable("store_unavailable", "the tables of the store are not there yet"),
            Store::NoInserts => {
                Self::unavailable("store_unavailable", "the store takes nothing for now: its disk may be full, or its merges lag")
            }
            Store::Damaged => Self::unavailable("store_unavailable", "a part of the store is damaged and is being mended"),
            Store::PeerUnreachable => Self::unavailable("store_unavailable", "a part of the store cannot be reached"),
            Store::Fenced | Store::Misconfigured | Store::Other => Self::internal("the store refused the query"),
        }
    }
}

/// The word of `known` nearest to `word`, for "did you mean".
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> &'static str {
    // A long word is no typing error, and the distance costs the product of both lengths.
    let word: String = word.chars().take(64).collect();
    known.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(&word, candidate)).unwrap_or("")
}
