//! How rows are written for those who take them elsewhere: files, by their names in requests, to the server and over HTTP.

use bytes::Bytes;

use super::ask::fields::shortened;
use super::csv;
use super::error::QueryError;

/// Headers of a file of events: how many it has, where the next page begins, whether nothing is left, and up to when of receipt.
pub(crate) const FILE_EVENTS: &str = "pulse-events";
pub(crate) const FILE_NEXT: &str = "pulse-next";
pub(crate) const FILE_COMPLETE: &str = "pulse-complete";
pub(crate) const FILE_THROUGH: &str = "pulse-through";

/// How the rows of an answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Json,
    Csv,
    Parquet,
    Arrow,
}

/// Each by its name in requests.
pub(crate) const OUTPUTS: [(&str, Output); 4] =
    [("json", Output::Json), ("csv", Output::Csv), ("parquet", Output::Parquet), ("arrow", Output::Arrow)];

/// The types that an answer may have.
pub(crate) const CONTENT_TYPES: [&str; 4] =
    [Output::Json.content_type(), Output::Csv.content_type(), Output::Parquet.content_type(), Output::Arrow.content_type()];

impl Output {
    /// The one of that name in a request; `more` are names that the request knows beside.
    ///
    /// # Errors
    /// 400 `invalid_format`.
    pub(crate) fn named(format: &str, more: &[&str]) -> Result<Self, QueryError> {
        let unknown = || {
            let known: Vec<&str> = more.iter().copied().chain(OUTPUTS.map(|(name, _)| name)).collect();
            QueryError::invalid("invalid_format", format!("`format` is `{}`: one of {}", shortened(format), known.join(", ")))
        };
        OUTPUTS.iter().find(|(name, _)| *name == format).map(|(_, output)| *output).ok_or_else(unknown)
    }

    /// Its name in requests.
    pub(crate) fn name(self) -> &'static str {
        OUTPUTS.iter().find(|(_, output)| *output == self).map_or("", |(name, _)| name)
    }

    /// Its name to the server. JSON is written anew from what comes.
    pub(crate) fn of_server(self) -> &'static str {
        match self {
            Self::Json => "JSONCompact",
            Self::Csv => "CSVWithNames",
            Self::Parquet => "Parquet",
            Self::Arrow => "ArrowStream",
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// What the server has written, as it may go out: CSV holds no formulas.
    pub(crate) fn safe(self, written: Bytes) -> Bytes {
        match self {
            Self::Csv => csv::without_formulas(&written).into(),
            Self::Json | Self::Parquet | Self::Arrow => written,
        }
    }
}
