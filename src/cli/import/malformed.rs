//! Lines that cannot be read.

use std::str::Utf8Error;

use super::lines::MAX_LINE;

/// What is wrong with a line: a word that stands for all lines of the kind, and a sentence about this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Malformed {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(super) fn not_utf_8(problem: Utf8Error) -> Self {
        Self::new("encoding", format!("not UTF-8 from byte {}; --encoding names another one", problem.valid_up_to() + 1))
    }
}

/// Refuses a line of which only the beginning was kept.
pub(super) fn whole(is_cut: bool) -> Result<(), Malformed> {
    if is_cut { Err(Malformed::new("too_long", format!("longer than {MAX_LINE} bytes"))) } else { Ok(()) }
}
