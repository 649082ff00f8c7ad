//! pulse: realtime product analytics in one binary.
//!
//! # The path of an event
//! `ingest` decodes and checks a request, appends its events to the `raw` topic and answers once they are durable.
//! `process` enriches them and publishes the `enriched` topic. `load` drops what is already stored, gives each event its session and
//! inserts the rest into ClickHouse as one atomic part together with the books of the block. `query` answers from there; `alert` asks it.
//! Roles meet only in topics and tables, even inside one process, and in what [`store`] says of the tables.
//!
//! # Promises
//! * An event answered as accepted is durable: it survives a crash at any moment.
//! * An accepted event is counted once, at any distance between copies, through crash, retry and replay.
//! * Every event ends in exactly one counted outcome.
//!
//! # Module map (imports point down only; `tests/it/layers.rs` enforces it)
//! | layer | modules |
//! |---|---|
//! | 5 | `main`, [`cli`] |
//! | 4 | [`app`], [`config`], [`replay`] |
//! | 3 | [`ingest`], [`process`], [`load`], [`query`], and [`alert`], which alone asks another of them: `query` |
//! | 2 | [`store`], [`auth`] |
//! | 1 | [`log`], [`clickhouse`], [`http`], [`redis`] |
//! | 0 | [`event`], [`outcome`], [`role`], [`metrics`], [`clock`], [`project`], [`backoff`], [`outage`], [`byte_budget`], [`byte_size`], [`failpoint`], [`secret`], [`wire`], and [`lifecycle`], which alone of them knows tokio |
//!
//! # Glossary
//! *Record*: a packed batch of events of one partition, as the log holds it. *Visitor*: the one that `anonymousId` (or,
//! without one, `userId`) names; partitions, sessions and deduplication are by visitor. *Epoch*: identity of a log, so that the
//! offsets of a re-created one are never mistaken for those of its predecessor. *Books*: the rows in a block that say how
//! its events ended.

#![warn(unreachable_pub)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod alert;
pub mod app;
pub mod auth;
pub mod backoff;
pub mod byte_budget;
pub mod byte_size;
pub mod cli;
pub mod clickhouse;
pub mod clock;
pub mod config;
pub mod event;
pub mod failpoint;
pub mod http;
pub mod ingest;
pub mod lifecycle;
pub mod load;
pub mod log;
pub mod metrics;
pub mod outage;
pub mod outcome;
pub mod process;
pub mod project;
pub mod query;
pub mod redis;
pub mod replay;
pub mod role;
pub mod secret;
pub mod store;
pub mod wire;
