//! The query role: reports over the event table.
//!
//! A request goes through `request` (wire) → plan (checked) → `sql` (bound values) → `run` (guarded) → fold → answer; one
//! file a report. Promises: whatever comes in, the SQL text consists of constants and every value is a server-side
//! parameter; every statement of events is limited to one project and one time range; no answer holds SQL or a host.
//! May go wrong: the request is refused (4xx), the store is away or too busy (503), the query is too dear (422, 504).

pub mod error;
mod events;
mod field;
mod filter;
mod formula;
pub mod guard;
pub mod ledger;
mod properties;
mod request;
pub mod run;
pub mod sql;
pub mod store;
mod time;
mod trends;
mod users;

use serde_json::{Value, json};

pub use self::error::QueryError;
use self::guard::Guard;
pub use self::guard::{QueryConfig, QueryLimits};
use self::run::Session;
pub use self::run::{Answer, Run};
pub use self::sql::Statement;
use crate::event::ids::ProjectId;

/// Answers the reports of every project.
pub struct Queries<R> {
    run: R,
    guard: Guard,
}

/// When and about what an answer was made.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The clock at the time of asking, milliseconds since 1970.
    pub now_ms: i64,
    /// Everything received up to here is loaded, milliseconds since 1970.
    pub data_through_ms: i64,
}

impl<R: Run> Queries<R> {
    /// Answers through `run`, within `limits`.
    pub fn new(run: R, limits: QueryLimits) -> Self {
        Self { run, guard: Guard::new(limits) }
    }

    /// Answers `report` for `project`: `body` is the JSON request, the result the JSON answer with `result` and `meta`.
    ///
    /// # Errors
    /// As [`QueryError`] describes; 404 `unknown_report` for a report that is not there.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the running statement and gives its place back.
    pub async fn answer(&self, project: ProjectId, report: &str, body: &[u8], asked: Asked) -> Result<Vec<u8>, QueryError> {
        let started = std::time::Instant::now();
        let body = request::parse(body)?;
        let plan = Report::parse(project, report, &body, asked.now_ms)?;
        let _place = self.guard.enter(project).await?;
        let mut session = Session::new(&self.run);
        let result = plan.answer(&mut session).await?;
        let meta = json!({
            "computed_at": time::show_ms(asked.now_ms),
            "data_through": time::show_ms(asked.data_through_ms),
            "cached": false,
            "age_ms": 0,
            "query_ms": started.elapsed().as_millis() as u64,
            "rows_read": session.rows_read(),
            "refresh_after_ms": guard::refresh_after_ms(asked.now_ms),
            "sampled": session.is_sampled(),
        });
        serde_json::to_vec(&json!({"result": result, "meta": meta})).map_err(|_| QueryError::internal("the answer cannot be written"))
    }
}

/// A checked request of any report.
enum Report {
    Trends(trends::Plan),
    Events(events::Plan),
    Users(users::Plan),
    Properties(properties::Plan),
}

impl Report {
    fn parse(project: ProjectId, report: &str, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        match report {
            "trends" => trends::Plan::parse(project, body, now_ms).map(Self::Trends),
            "events" => events::Plan::parse(project, body, now_ms).map(Self::Events),
            "users" => users::Plan::parse(project, body, now_ms).map(Self::Users),
            "properties" => properties::Plan::parse(project, body, now_ms).map(Self::Properties),
            other => Err(QueryError {
                status: 404,
                code: "unknown_report",
                message: format!("there is no report `{}`", request::shortened(other)),
                retry_after: None,
            }),
        }
    }

    async fn answer<R: Run>(&self, session: &mut Session<'_, R>) -> Result<Value, QueryError> {
        match self {
            Self::Trends(plan) => trends::answer(plan, session).await,
            Self::Events(plan) => events::answer(plan, session).await,
            Self::Users(plan) => users::answer(plan, session).await,
            Self::Properties(plan) => properties::answer(plan, session).await,
        }
    }
}

/// A time as requests write it, RFC 3339 or relative, in milliseconds since 1970; `None` if it cannot be read.
pub fn instant(text: &str, now_ms: i64) -> Option<i64> {
    time::instant(text, now_ms, &jiff::tz::TimeZone::UTC).ok()
}

#[cfg(test)]
mod tests;
