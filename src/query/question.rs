//! A question: what a request of `POST /v1/query/…` asks, once it is checked.

use std::sync::Arc;

use serde_json::Value;

use super::ask::{self, Cohorts, Common, Context, Range};
use super::cache::Reach;
use super::error::QueryError;
use super::progress::Watch;
use super::report::{Ask, Plan, REPORTS, ReportKind};
use super::{RELEASE, unknown_report};

/// A request of `POST /v1/query/…`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) report: &'a str,
    pub(super) body: &'a [u8],
    pub(super) now_ms: i64,
    /// Whether it came by a link: then it is answered without what names places in the log, which all projects share.
    pub(super) is_guest: bool,
    /// By what those find it who look how far it is.
    pub(super) watch: Option<&'a Watch>,
}

impl<'a> Request<'a> {
    /// By a key of the project.
    pub(super) fn of(report: &'a str, body: &'a [u8], now_ms: i64) -> Self {
        Self { report, body, now_ms, is_guest: false, watch: None }
    }
}

/// A checked request of `POST /v1/query/…`.
pub(super) struct Question {
    pub(super) kind: &'static ReportKind,
    pub(super) plan: Box<dyn Plan>,
    /// The ranges that its filters ask about beside those of the report.
    did_in: Vec<Range>,
    /// Whether it asks for what is said of sessions, and for traits of persons.
    names_sessions: bool,
    names_traits: bool,
    pub(super) common: Common,
}

impl Question {
    /// Checks a request; the filters of `cohorts` are those that it may name.
    ///
    /// # Errors
    /// 404 `unknown_report`; what its report refuses.
    pub(super) fn parse(request: Request<'_>, mut body: Value, cohorts: Arc<Cohorts>) -> Result<Self, QueryError> {
        let Request { report, .. } = request;
        let common = Common::take(&mut body)?;
        let now_ms = common.now_ms(request.now_ms);
        let kind = REPORTS.iter().find(|kind| kind.route.takes_body() && kind.name == report).ok_or_else(|| unknown_report(report))?;
        let named = |is_in: fn(&Value) -> bool| is_in(&body) || cohorts.values().any(is_in);
        let of = body["of"]["report"].as_str();
        let is_of_sessions = |kind: &ReportKind| kind.is_of_sessions && (kind.name == report || of == Some(kind.name));
        let names_sessions = REPORTS.iter().any(is_of_sessions) || named(ask::session_columns::are_named_in);
        let names_traits = named(ask::field::names_traits);
        let context = Context::of(&body, now_ms, cohorts)?;
        let plan = (kind.parse)(Ask { project_name: "", body: &body, now_ms, context: &context })?;
        Ok(Self { kind, plan, did_in: context.did_in(), names_sessions, names_traits, common })
    }

    /// Its identity.
    pub(super) fn fingerprint(&self) -> u128 {
        self.plan.fingerprint(RELEASE, &self.common)
    }

    /// What its answer depends on.
    pub(super) fn reach(&self, now_ms: i64, longest_session_ms: i64) -> Reach {
        if self.common.as_of.is_some() {
            return Reach::looking_back();
        }
        let (own, mut others) = (self.plan.ranges(), self.did_in.clone());
        if self.names_sessions {
            // What a session of a range is, events beside it decide too.
            others.extend(own.iter().copied().chain(&self.did_in).filter_map(|range| range.around(longest_session_ms)));
        }
        if self.names_traits {
            others.push(Range::everything());
        }
        Reach::of(&own, &others, now_ms)
    }
}
