//! ClickHouse: one way to talk to it, whether it is a fleet, one server or the embedded engine.
//!
//! Owns the client and its three kinds of access, the classification of errors, the circuit breaker in front of them, what is
//! known of new rows, the embedded engine as a supervised child
//! process, the Native format and the migrations. Promises: an error says whether time, a person or another owner decides
//! what happens next; a statement never contains user input, values are bound.

mod arrivals;
mod breaker;
mod client;
pub mod engine;
mod fleet;
mod insert;
pub mod migrate;
pub mod native;
pub mod swap;

pub use arrivals::{Arrivals, Day, Moment};
pub use breaker::{Breaker, BreakerState, Permit, is_damage, is_overload};
pub use client::{Answer, ClickHouse, ClickHouseConfig, ClickHouseError, ClickHouseSettings, Client, Format, Login, Statement};
pub use fleet::{Fleet, Node, Shard};
pub use insert::{Retry, retry};
