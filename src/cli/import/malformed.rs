//! Lines that cannot be read.

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
}
