//! What is in ClickHouse: which tables and columns there are, who may insert, and what the books say.
//!
//! Owns the schema ([`schema`], [`tables`], [`migrate`], [`swap`]) and the views over it that statements of others read ([`sql_views`]), the
//! fence of each log partition ([`fence`]), the reading of the books ([`books`]), what late events say of earlier ones ([`revisions`]), how
//! far tables had come in the log ([`places`]) and the versions of what can be queried ([`data_version`]). Promises: a column is one line of
//! [`schema`] and a migration, a table is one file of [`tables`], one line of its list and a migration. Roles that share a table meet here
//! and know nothing of each other. May go wrong: as [`crate::clickhouse::ErrorClass`] says.

pub mod books;
pub mod data_version;
pub mod fence;
pub mod migrate;
pub mod places;
pub mod revisions;
pub mod schema;
pub mod sql_views;
pub mod swap;
pub mod tables;
