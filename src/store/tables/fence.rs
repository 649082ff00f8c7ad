//! `fence`: who may insert into a log partition's rows. See [`crate::store::fence`] for what is done with it.

use super::{Rebuild, Rows, Table};

/// The table.
pub const FENCE: Table = Table { name: "fence", rows: Rows::Local, rebuild: Rebuild::Beside("_fence"), is_fenced: false };
