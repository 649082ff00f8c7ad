//! What a query can answer other than a result. Texts never hold SQL, a host or another project's data.

/// Why a query was not answered. The HTTP layer adds the request id and writes `{"code","message","requestId"}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct QueryError {
    /// HTTP status.
    pub status: u16,
    /// Stable word for programs.
    pub code: &'static str,
    /// Sentence for people.
    pub message: String,
    /// Seconds after which asking again makes sense.
    pub retry_after: Option<u32>,
}

impl QueryError {
    /// The request itself is wrong (400).
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into(), retry_after: None }
    }

    /// The store cannot answer now (503).
    pub(crate) fn unavailable(code: &'static str, message: &str) -> Self {
        Self { status: 503, code, message: message.to_owned(), retry_after: Some(1) }
    }

    /// A bug of ours or an answer we cannot read (500).
    pub(crate) fn internal(message: &str) -> Self {
        Self { status: 500, code: "internal", message: message.to_owned(), retry_after: None }
    }

    /// It took longer than a query may (504).
    pub(crate) fn too_slow() -> Self {
        let message = "the query took longer than allowed".to_owned();
        Self { status: 504, code: "query_timeout", message, retry_after: None }
    }

    /// Its answer has more bytes than one may have (422).
    pub(crate) fn too_large() -> Self {
        let message = "the answer is larger than allowed: ask for fewer buckets, lines or a shorter range".to_owned();
        Self { status: 422, code: "answer_too_large", message, retry_after: None }
    }

    /// Whether it was refused only because too much is going on or the store is away: an older answer is better than none.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self.status, 429 | 503 | 504)
    }

    /// The class of an error that ClickHouse reports by its number.
    pub fn of_clickhouse(code: i32) -> Self {
        let refused = |status, code, message: &str| Self { status, code, message: message.to_owned(), retry_after: None };
        match code {
            // TIMEOUT_EXCEEDED
            159 => Self::too_slow(),
            // TOO_MANY_ROWS, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
            158 | 241 | 307 | 396 => refused(422, "query_too_expensive", "the query reads or holds more than allowed"),
            // CANNOT_COMPILE_REGEXP
            427 => refused(400, "invalid_regex", "the regular expression cannot be compiled (RE2 syntax)"),
            // TOO_MANY_SIMULTANEOUS_QUERIES
            202 => Self::unavailable("overloaded", "too many queries are running"),
            // SOCKET_TIMEOUT, NETWORK_ERROR, ALL_CONNECTION_TRIES_FAILED: a server of a cluster does not reach another one.
            209 | 210 | 279 => Self::unavailable("store_unavailable", "a part of the store cannot be reached"),
            _ => Self::internal("the store refused the query"),
        }
    }
}

/// The word of `known` nearest to `word`, for "did you mean".
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> &'static str {
    // A long word is nobody's typing error, and the distance costs the product of both lengths.
    let word: String = word.chars().take(64).collect();
    known.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(&word, candidate)).unwrap_or("")
}
