//! The statements of questions: see [`Statement`].

pub use crate::clickhouse::Statement;
