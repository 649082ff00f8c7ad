//! Errors of ClickHouse, and what each says: the only place that knows the server's codes, but for what
//! `query` tells of statements that somebody wrote.
//!
//! The code is read from the text of the exception: the HTTP status says little (159 comes as 408, 241 and 252 as 500).

use std::time::Duration;

/// Why ClickHouse did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClickHouseError {
    /// It answered with an error of its own.
    #[error("clickhouse error {code}: {message}")]
    Server {
        /// The number of the error.
        code: i32,
        /// What it said; not for users' eyes, it may name hosts and SQL.
        message: String,
    },
    /// It could not be reached, or the connection broke: whether the statement ran is unknown.
    #[error("clickhouse unreachable: {0}")]
    Network(String),
    /// It did not answer in time: whether the statement ran is unknown.
    #[error("clickhouse did not answer within {0:?}")]
    TimedOut(Duration),
    /// Its answer has more bytes than the client accepts.
    #[error("clickhouse's answer has more than {0} bytes")]
    TooLarge(usize),
    /// It was not asked: it is away or overloaded, and the circuit breaker stays open for this long.
    #[error("clickhouse is left alone for {0:?}")]
    CircuitOpen(Duration),
}

impl From<clickhouse::error::Error> for ClickHouseError {
    fn from(error: clickhouse::error::Error) -> Self {
        match error {
            clickhouse::error::Error::BadResponse(text) => Self::of_text(text),
            other => Self::Network(chain(&other)),
        }
    }
}

/// The codes that decide something, under the server's names for them.
mod code {
    pub(super) const NO_SUCH_COLUMN_IN_TABLE: i32 = 16;
    pub(super) const ATTEMPT_TO_READ_AFTER_EOF: i32 = 32;
    pub(super) const CANNOT_READ_ALL_DATA: i32 = 33;
    pub(super) const CHECKSUM_DOESNT_MATCH: i32 = 40;
    pub(super) const UNKNOWN_FUNCTION: i32 = 46;
    pub(super) const UNKNOWN_IDENTIFIER: i32 = 47;
    pub(super) const TYPE_MISMATCH: i32 = 53;
    pub(super) const UNKNOWN_TABLE: i32 = 60;
    pub(super) const SYNTAX_ERROR: i32 = 62;
    pub(super) const CANNOT_CONVERT_TYPE: i32 = 70;
    pub(super) const UNKNOWN_DATABASE: i32 = 81;
    pub(super) const FILE_DOESNT_EXIST: i32 = 107;
    pub(super) const UNKNOWN_SETTING: i32 = 115;
    pub(super) const INCORRECT_DATA: i32 = 117;
    pub(super) const TOO_MANY_ROWS: i32 = 158;
    pub(super) const TIMEOUT_EXCEEDED: i32 = 159;
    pub(super) const CANNOT_ALLOCATE_MEMORY: i32 = 173;
    pub(super) const UNKNOWN_USER: i32 = 192;
    pub(super) const WRONG_PASSWORD: i32 = 193;
    pub(super) const REQUIRED_PASSWORD: i32 = 194;
    pub(super) const TOO_MANY_SIMULTANEOUS_QUERIES: i32 = 202;
    pub(super) const SOCKET_TIMEOUT: i32 = 209;
    pub(super) const NETWORK_ERROR: i32 = 210;
    pub(super) const NO_FILE_IN_DATA_PART: i32 = 226;
    pub(super) const BAD_SIZE_OF_FILE_IN_DATA_PART: i32 = 228;
    pub(super) const MEMORY_LIMIT_EXCEEDED: i32 = 241;
    pub(super) const TABLE_IS_READ_ONLY: i32 = 242;
    pub(super) const NOT_ENOUGH_SPACE: i32 = 243;
    pub(super) const CORRUPTED_DATA: i32 = 246;
    pub(super) const TOO_MANY_PARTS: i32 = 252;
    pub(super) const CANNOT_DECOMPRESS: i32 = 271;
    pub(super) const ALL_CONNECTION_TRIES_FAILED: i32 = 279;
    pub(super) const TOO_MANY_BYTES: i32 = 307;
    pub(super) const TOO_MANY_ROWS_OR_BYTES: i32 = 396;
    pub(super) const CANNOT_COMPILE_REGEXP: i32 = 427;
    pub(super) const CANNOT_SCHEDULE_TASK: i32 = 439;
    pub(super) const VIOLATED_CONSTRAINT: i32 = 469;
    pub(super) const ACCESS_DENIED: i32 = 497;
    pub(super) const AUTHENTICATION_FAILED: i32 = 516;
    pub(super) const SERVER_OVERLOADED: i32 = 745;
}

/// What is said of a part that is not what was written.
const OF_DAMAGE: [i32; 7] = [
    code::ATTEMPT_TO_READ_AFTER_EOF,
    code::CANNOT_READ_ALL_DATA,
    code::CHECKSUM_DOESNT_MATCH,
    code::NO_FILE_IN_DATA_PART,
    code::BAD_SIZE_OF_FILE_IN_DATA_PART,
    code::CORRUPTED_DATA,
    code::CANNOT_DECOMPRESS,
];

/// What an error says of the store, the statement and the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The statement was not sent: the circuit breaker stays open for this long.
    NotSent(Duration),
    /// The server did not answer; whether the statement ran is unknown.
    Unreachable,
    /// The server did not answer in time; whether the statement ran is unknown.
    NoAnswer,
    /// The answer is larger than the client accepts.
    AnswerTooLarge,
    /// The server has too much to do.
    Overloaded,
    /// The server runs as many statements as it may: this one did not begin.
    TooManyStatements,
    /// The memory of the whole server is used up.
    ServerMemory,
    /// The statements of its user hold what they may hold together; the server has more.
    UserMemory,
    /// The statement would hold more memory than it may.
    StatementMemory,
    /// The statement would read more than it may.
    TooExpensive,
    /// The statement took longer than it may.
    TooSlow,
    /// A server of the cluster does not reach another one.
    PeerUnreachable,
    /// The table takes no insert for now: merges lag, its disk is full or it is read-only. Nothing of the insert is stored. Of a question:
    /// the disk has no room for what it puts aside.
    NoInserts,
    /// Another owner of the partition has the fence: ours is the only constraint.
    Fenced,
    /// The database or the table is not there.
    Missing,
    /// Schema, rights or configuration are not as they must be; an operator must act.
    Misconfigured,
    /// A regular expression of the statement cannot be compiled.
    InvalidRegex,
    /// What is on the disk is not what was written.
    Damaged,
    /// Any other state of the server, which may pass.
    Other,
}

/// What to do after a failed insert or look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Retry: the same may succeed later.
    Later,
    /// Give up the partition: the fence has the generation of another owner.
    Fenced,
    /// Wait for an operator: schema, rights or configuration are not as they must be. The data is good and stays in the log.
    Stop,
}

impl ClickHouseError {
    pub(super) fn of_text(text: String) -> Self {
        let code = text.split_once("Code: ").map_or(text.as_str(), |(_, rest)| rest);
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(code) => Self::Server { code, message: text },
            Err(_) => Self::Network(text),
        }
    }

    /// What it says.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Server { code, message } => ErrorClass::of_server(*code, message),
            Self::Network(_) => ErrorClass::Unreachable,
            Self::TimedOut(_) => ErrorClass::NoAnswer,
            Self::TooLarge(_) => ErrorClass::AnswerTooLarge,
            Self::CircuitOpen(pause) => ErrorClass::NotSent(*pause),
        }
    }

    /// Whether a text, which may hold the texts of other errors, names a code of damage.
    pub fn is_of_damage(text: &str) -> bool {
        let codes = text.split("Code: ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i32>().ok());
        codes.into_iter().any(|code| OF_DAMAGE.contains(&code))
    }

    /// Whether the server has answered, be it with a refusal.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Server { .. })
    }
}

impl ErrorClass {
    fn of_server(code: i32, message: &str) -> Self {
        match code {
            code::VIOLATED_CONSTRAINT => Self::Fenced,
            // It has two meanings: merges lag, or one block spans too many partitions, which never passes.
            code::TOO_MANY_PARTS if message.contains("partitions for single INSERT block") => Self::Misconfigured,
            code::UNKNOWN_TABLE | code::UNKNOWN_DATABASE => Self::Missing,
            code::NO_SUCH_COLUMN_IN_TABLE
            | code::UNKNOWN_IDENTIFIER
            | code::TYPE_MISMATCH
            | code::SYNTAX_ERROR
            | code::UNKNOWN_FUNCTION
            | code::ACCESS_DENIED
            | code::AUTHENTICATION_FAILED
            | code::UNKNOWN_USER
            | code::REQUIRED_PASSWORD
            | code::WRONG_PASSWORD
            | code::UNKNOWN_SETTING
            | code::INCORRECT_DATA
            | code::CANNOT_CONVERT_TYPE => Self::Misconfigured,
            // A column of another type: the code is that of the text that could not be read as it.
            _ if message.contains("while converting column") => Self::Misconfigured,
            _ => Self::of_state(code, message),
        }
    }

    /// Of what may pass with time.
    fn of_state(code: i32, message: &str) -> Self {
        match code {
            code::TOO_MANY_PARTS | code::TABLE_IS_READ_ONLY | code::NOT_ENOUGH_SPACE => Self::NoInserts,
            // What the embedded engine could not put aside for want of room (`engine::writes`).
            code::FILE_DOESNT_EXIST if message.contains("/tmp/tmp") => Self::NoInserts,
            code::MEMORY_LIMIT_EXCEEDED => Self::of_memory(message),
            code::CANNOT_ALLOCATE_MEMORY | code::CANNOT_SCHEDULE_TASK | code::SERVER_OVERLOADED => Self::Overloaded,
            code::TOO_MANY_SIMULTANEOUS_QUERIES => Self::TooManyStatements,
            code::SOCKET_TIMEOUT | code::NETWORK_ERROR | code::ALL_CONNECTION_TRIES_FAILED => Self::PeerUnreachable,
            code::TOO_MANY_ROWS | code::TOO_MANY_BYTES | code::TOO_MANY_ROWS_OR_BYTES => Self::TooExpensive,
            code::TIMEOUT_EXCEEDED => Self::TooSlow,
            code::CANNOT_COMPILE_REGEXP => Self::InvalidRegex,
            // Of a part alone: what is sent can be cut short as well.
            code if OF_DAMAGE.contains(&code)
                && ["while reading from part", "marks file '"].iter().any(|of_a_part| message.contains(of_a_part)) =>
            {
                Self::Damaged
            }
            _ => Self::Other,
        }
    }

    /// Of the limit that a text names first, as newer releases of the server and older ones do: what follows may be the statement's own.
    fn of_memory(message: &str) -> Self {
        const LIMITS: [(ErrorClass, [&str; 3]); 3] = [
            (ErrorClass::ServerMemory, ["(total) memory limit", "Memory limit (total)", "(total) memory tracker"]),
            (ErrorClass::UserMemory, ["User memory limit", "Memory limit (for user)", "(for user) memory limit"]),
            (ErrorClass::StatementMemory, ["Query memory limit", "Memory limit (for query)", "(for query) memory limit"]),
        ];
        let first = |texts: &[&str; 3]| texts.iter().filter_map(|text| message.find(text)).min();
        let named = LIMITS.iter().filter_map(|(class, texts)| Some((first(texts)?, *class)));
        named.min_by_key(|(at, _)| *at).map_or(Self::StatementMemory, |(_, class)| class)
    }

    /// What to do after it.
    pub fn retry(self) -> Retry {
        match self {
            Self::Fenced => Retry::Fenced,
            Self::Missing | Self::Misconfigured => Retry::Stop,
            _ => Retry::Later,
        }
    }

    /// Whether the store is away or has too much to do, rather than that it did not like the statement. Too many parts, a full disk
    /// or a missing Keeper stop inserts, not queries.
    pub fn is_overload(self) -> bool {
        matches!(
            self,
            Self::NotSent(_)
                | Self::Unreachable
                | Self::NoAnswer
                | Self::Overloaded
                | Self::TooManyStatements
                | Self::ServerMemory
                | Self::PeerUnreachable
        )
    }

    /// Whether a limit of memory was met: what is smaller may succeed.
    pub fn is_of_memory(self) -> bool {
        matches!(self, Self::ServerMemory | Self::UserMemory | Self::StatementMemory)
    }

    /// Whether an insert has ended before it stored anything, and the server will not come back to it. Other answers leave that open:
    /// a proxy may have sent the insert twice, or the server may have failed after it had stored.
    pub fn is_nothing_stored(self) -> bool {
        self.is_of_memory() || matches!(self, Self::NotSent(_) | Self::NoInserts | Self::TooManyStatements)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: i32, message: &str) -> ErrorClass {
        ClickHouseError::Server { code, message: message.to_owned() }.class()
    }

    #[test]
    fn the_code_is_read_from_the_text_of_the_exception() {
        let error = ClickHouseError::of_text("Code: 469. DB::Exception: Constraint `fenced` is violated".to_owned());
        assert!(matches!(error, ClickHouseError::Server { code: 469, .. }));
        let error = ClickHouseError::of_text("60".to_owned());
        assert!(matches!(error, ClickHouseError::Server { code: 60, .. }));
        assert!(matches!(ClickHouseError::of_text("<html>".to_owned()), ClickHouseError::Network(_)));
    }

    #[test]
    fn each_kind_of_trouble_has_its_answer() {
        assert_eq!(server(469, "").retry(), Retry::Fenced);
        assert_eq!(server(252, "Too many parts (3000)").retry(), Retry::Later);
        assert_eq!(server(252, "Too many partitions for single INSERT block (more than 100)").retry(), Retry::Stop);
        assert_eq!(server(60, "").retry(), Retry::Stop);
        let converted =
            "Array does not start with '[' character: while converting column `page_title` from type String to type Array(UInt8)";
        assert_eq!(server(130, converted).retry(), Retry::Stop);
        assert_eq!(server(243, "").retry(), Retry::Later);
        assert_eq!(server(107, "Cannot open file /d/data/tmp/tmp863d698a: , errno: 2"), ErrorClass::NoInserts);
        assert_eq!(server(107, "Cannot open file /d/data/store/e72/data.bin: , errno: 2"), ErrorClass::Other);
        assert_eq!(ClickHouseError::Network(String::new()).class().retry(), Retry::Later);
    }

    #[test]
    fn memory_of_the_server_is_overload_and_memory_of_a_statement_is_its_own_fault() {
        assert!(server(241, "Memory limit (total) exceeded").is_overload());
        assert!(!server(241, "Memory limit (for query) exceeded").is_overload());
        assert!(server(241, "").is_nothing_stored());
    }

    #[test]
    fn which_memory_is_used_up_is_what_the_server_says_first_and_not_what_the_statement_does() {
        for whole in ["(total) memory limit exceeded: would use", "Memory limit (total) exceeded"] {
            assert_eq!(server(241, whole), ErrorClass::ServerMemory, "{whole}");
        }
        for of_user in ["User memory limit exceeded: would use", "Memory limit (for user) exceeded", "(for user) memory limit exceeded"] {
            assert_eq!(server(241, of_user), ErrorClass::UserMemory, "{of_user}");
            assert!(!server(241, of_user).is_overload() && server(241, of_user).is_nothing_stored(), "others are served: {of_user}");
        }
        let of_one = "Query memory limit exceeded: would use 2.01 GiB: while executing 'FUNCTION equals(x, '(total) memory limit') :: 3'";
        assert_eq!(server(241, of_one), ErrorClass::StatementMemory);
    }

    #[test]
    fn an_insert_is_over_only_where_the_server_says_so_before_it_begins() {
        assert!([252, 241, 243, 242, 202].iter().all(|code| server(*code, "").is_nothing_stored()));
        assert!(ClickHouseError::CircuitOpen(Duration::ZERO).class().is_nothing_stored());
        assert!(![159, 209, 210, 999].iter().any(|code| server(*code, "").is_nothing_stored()));
        assert!(!ClickHouseError::Network(String::new()).class().is_nothing_stored());
    }

    #[test]
    fn damage_is_what_was_read_from_a_part() {
        assert_eq!(server(246, "Corrupted: (while reading from part /a/b)"), ErrorClass::Damaged);
        assert_eq!(server(33, "Cannot read all data"), ErrorClass::Other);
    }
}
