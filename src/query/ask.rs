//! The typed pieces that questions are made of, the same in every report: how each is written in a request, what it means, its
//! canonical form, and its SQL.
//!
//! | piece | in a request |
//! |---|---|
//! | [`range`], [`compare`] | `from`, `to`, `timezone`, and what a range is compared with |
//! | [`interval`] | `interval`: the buckets of a range |
//! | [`selection`] | `event` and `filters`: which events |
//! | [`filter`], [`field`], [`number`] | `{"field","op","value"}`, `any`, `all`, `did`, `cohort` |
//! | [`breakdown`] | `breakdown` (of one or more [`dimensions`]) and `limit`: the largest values, `$other`, `$none`, and a bar's `breakdown_value` |
//! | [`traits`] | `person.NAME`: what is known of the person of an event |
//! | [`session_columns`], [`sessions`] | `session.NAME`: what the session of an event is; and sessions themselves |
//! | [`periods`] | in which periods people were active |
//! | [`page`] | `limit` and `cursor` of a list |
//! | [`common`], [`as_of`] | `refresh`, `include_bots` and `as_of`, which no report reads itself |

mod as_of;
pub(crate) mod breakdown;
pub(crate) mod canonical;
mod common;
pub(crate) mod compare;
mod context;
pub(crate) mod dimensions;
mod event_id;
pub(crate) mod expr;
pub(crate) mod field;
pub(crate) mod fields;
pub(crate) mod filter;
pub(crate) mod interval;
pub(crate) mod number;
pub(crate) mod page;
pub(crate) mod people_names;
pub(crate) mod periods;
pub(crate) mod range;
pub(crate) mod secret;
pub(crate) mod selection;
pub(crate) mod session_columns;
pub(crate) mod sessions;
mod traits;

pub(crate) use self::as_of::AsOf;
pub(crate) use self::canonical::{Canonical, CanonicalForm};
pub(crate) use self::common::Common;
pub(crate) use self::context::{Cohorts, Context};
pub(crate) use self::expr::Expr;
pub(crate) use self::fields::Fields;
pub(crate) use self::range::Range;
pub(crate) use self::selection::{EventMatch, EventSet, Scope, Select, Selection};
