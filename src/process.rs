//! x
pub mod sessionize;
