//! x
pub(crate) mod dedupe;
