//! What the parts of a request are read with and do not say themselves, and what reading them shows of the question.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::fields::Fields;
use super::range::{self, Range};
use crate::query::error::QueryError;

/// Most conditions of a request on what a person did: each is a statement of its own.
const MAX_DIDS: usize = 10;

/// The filters of saved cohorts, by name.
pub(crate) type Cohorts = BTreeMap<String, Value>;

/// When and where a request is read. One for each request.
#[derive(Debug)]
pub(crate) struct Context {
    /// When it is asked, milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// The zone of its times.
    pub(crate) zone: TimeZone,
    /// The cohorts that its filters may name.
    pub(crate) cohorts: Arc<Cohorts>,
    /// The times in which people must have done something, of all conditions read so far.
    did_in: RefCell<Vec<Range>>,
}

impl Context {
    /// The context of a request whose times are those of UTC.
    pub(crate) fn new(now_ms: i64) -> Self {
        Self { now_ms, zone: TimeZone::UTC, cohorts: Arc::default(), did_in: RefCell::default() }
    }

    /// The context of the request `body`; that of a bar's people is that of the bar.
    ///
    /// # Errors
    /// 400 `invalid_timezone`.
    pub(crate) fn of(body: &Value, now_ms: i64, cohorts: Arc<Cohorts>) -> Result<Self, QueryError> {
        let zone = match Fields::unchecked(body.get("of").filter(|of| !of.is_null()).unwrap_or(body)) {
            Some(fields) => range::zone(fields)?,
            None => TimeZone::UTC,
        };
        Ok(Self { zone, cohorts, ..Self::new(now_ms) })
    }

    /// Notes a condition on what a person did in `range`.
    ///
    /// # Errors
    /// 400 `filter_too_complex` if there are too many.
    pub(crate) fn note_did(&self, range: Range) -> Result<(), QueryError> {
        let mut did_in = self.did_in.borrow_mut();
        if did_in.len() == MAX_DIDS {
            return Err(QueryError::invalid("filter_too_complex", format!("at most {MAX_DIDS} conditions of `did` are allowed")));
        }
        did_in.push(range);
        Ok(())
    }

    /// The times in which people must have done something: events that arrive in one of them change the answer.
    pub(crate) fn did_in(self) -> Vec<Range> {
        self.did_in.into_inner()
    }
}
