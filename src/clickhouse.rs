//! ClickHouse: one way to talk to it, whether it is a fleet, one server or the embedded engine.
//!
//! Protocol only; what is in it is a matter of `store`. Owns the client and its three kinds of access, the one builder of statements,
//! the classes of errors, the circuit breaker, the embedded engine as a supervised child process, and the Native format. Promises: an
//! error says whether time, an operator or another owner decides what happens next; a statement never contains user input, values
//! are bound.

mod answer;
mod blocks;
mod breaker;
mod client;
mod config;
pub mod engine;
mod error;
mod fleet;
pub mod native;
mod statement;

pub use answer::{Answer, Format, Whole};
pub use blocks::{Block, BlockReader};
pub use breaker::{Breaker, Held, Permit};
pub use client::{ClickHouse, Client, RawStatement, SqlAccess};
pub use config::{ClickHouseConfig, ClickHouseSettings, Login, SqlLogin};
pub use error::{ClickHouseError, ErrorClass, Retry};
pub use fleet::{Fleet, Node, Shard};
pub use statement::{Identifier, Packed, Statement, TableName};
