//! The reports. **A report is one file in this folder, with a folder of parts if it is large, and one line in [`REPORTS`].**
//!
//! A report checks its request, names the ranges that its answer depends on and its canonical form, and answers through a
//! [`StatementRunner`], which knows the project and guards every statement. Cache, HTTP, deadlines and `users` work for all that are
//! registered.

pub(crate) mod catalogue;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod funnel;
pub(crate) mod ledger;
pub(crate) mod lifecycle;
pub(crate) mod paths;
pub(crate) mod properties;
pub(crate) mod retention;
mod sample;
pub(crate) mod sessions;
pub(crate) mod stickiness;
pub(crate) mod trends;
pub(crate) mod users;

use std::future::Future;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use serde_json::Value;

use super::ask::{Canonical, CanonicalForm, Common, Context, EventSet, Fields, Range, Selection, range};
use super::error::QueryError;
use super::reader::StatementRunner;
use crate::query::ask::compare::Compared;
use crate::query::ask::fields::shortened;
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::selection::Traffic;

/// Every report.
pub(crate) const REPORTS: &[ReportKind] = &[
    ReportKind::of::<trends::Trends>(),
    ReportKind::of::<funnel::Funnel>(),
    ReportKind::of::<sessions::Sessions>(),
    ReportKind::of::<lifecycle::Lifecycle>(),
    ReportKind::of::<stickiness::Stickiness>(),
    ReportKind::of::<retention::Retention>(),
    ReportKind::of::<paths::Paths>(),
    ReportKind::of::<users::Users>(),
    ReportKind::of::<events::Events>(),
    ReportKind::of::<export::Export>(),
    ReportKind::of::<properties::Properties>(),
    ReportKind::of::<catalogue::events::EventNames>(),
    ReportKind::of::<catalogue::fields::FieldNames>(),
    ReportKind::of::<catalogue::values::FieldValues>(),
    ReportKind::of::<ledger::Ledger>(),
    ReportKind::of::<dead_letters::DeadLetters>(),
];

/// Where a report is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /v1/query/NAME`; the answer has `result` and `meta`, and comes from the cache while nothing has changed.
    Query,
    /// The same, and `GET` this path, with parameters; the answer is then the result itself.
    Kept(&'static str),
    /// `GET` this path, with parameters; the answer is the result itself, computed each time.
    Get(&'static str),
}

impl Route {
    /// Whether it is asked for with a body, alone or among others.
    pub(crate) fn takes_body(self) -> bool {
        matches!(self, Self::Query | Self::Kept(_))
    }

    /// Its own path.
    pub(crate) fn path(self) -> Option<&'static str> {
        match self {
            Self::Query => None,
            Self::Kept(path) | Self::Get(path) => Some(path),
        }
    }
}

/// A request of a report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The name of the project, for answers that show it.
    pub(crate) project_name: &'a str,
    /// The body, or the parameters as an object of texts.
    pub(crate) body: &'a Value,
    /// When it is asked, milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// What its filters are read with.
    pub(crate) context: &'a Context,
}

impl<'a> Ask<'a> {
    /// The parameters of a [`Route::Get`].
    pub(crate) fn parameters(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let parameters = self.body.as_object().into_iter().flatten();
        parameters.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }
}

/// A checked request of one report.
pub(crate) trait Report: Canonical + Sized + Send + Sync + 'static {
    /// Its name in paths and in `of`.
    const NAME: &'static str;
    /// Where it is asked for.
    const ROUTE: Route = Route::Query;
    /// Whether its answers are kept.
    const IS_KEPT: bool = true;
    /// Whether it asks up to when the events are complete ([`StatementRunner::settled_through_ms`]).
    const NEEDS_DATA_THROUGH: bool = false;
    /// Whether it is about whole sessions: then events around its ranges decide its answer too.
    const IS_OF_SESSIONS: bool = false;
    /// Whether several of one request may read together ([`Self::scan`]).
    const SHARES_SCANS: bool = false;
    /// The keys that name one of its bars, beside those of its request. A report without any has no bars.
    const BAR_KEYS: &'static [&'static str] = &[];
    /// What to ask for where it costs more than a question may.
    const CHEAPER: &'static str = "a shorter range or fewer events by `filters`";

    /// Checks a request.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse(ask: Ask<'_>) -> Result<Self, QueryError>;

    /// The ranges that the answer depends on, beside those of its filters: events that arrive in one of them outdate it.
    fn ranges(&self) -> Vec<&Range>;

    /// The events that it is about, for what `meta` says of all of them. None where that would cost more than the answer.
    fn event_sets(&self) -> Vec<EventSet<'_>>;

    /// Answers it: the result as JSON.
    fn answer(&self, runner: &mut StatementRunner<'_>) -> impl Future<Output = Result<Vec<u8>, QueryError>> + Send;

    /// What it reads that other questions of one request may read with it, if [`Self::SHARES_SCANS`]; none where that is no gain.
    fn scan(&self, _now_ms: i64) -> Option<funnel::Scan> {
        None
    }

    /// Answers it where what [`Self::scan`] says was read.
    fn answer_scanned(
        &self,
        runner: &mut StatementRunner<'_>,
        _scanned: funnel::Scanned,
    ) -> impl Future<Output = Result<Vec<u8>, QueryError>> + Send {
        self.answer(runner)
    }

    /// The people behind one of its bars.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such bar.
    fn people(self, _: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Err(QueryError::invalid("invalid_of", format!("`{}` has no bars", Self::NAME)))
    }
}

/// Which bar of a report.
#[derive(Clone, Copy)]
pub(crate) struct Bar<'a> {
    /// The report's [`Report::BAR_KEYS`].
    pub(crate) fields: Fields<'a>,
    /// Whether it is a bar of the chart that the report is compared with.
    pub(crate) is_compared: bool,
    /// When it is asked for, milliseconds since 1970.
    pub(crate) now_ms: i64,
}

impl Bar<'_> {
    /// The range of its chart: that of the report, or the one that is compared with it.
    ///
    /// # Errors
    /// 400 `invalid_of` where nothing is compared.
    fn range<'r>(&self, own: &'r Range, compare: Option<&'r Compared>) -> Result<&'r Range, QueryError> {
        match (self.is_compared, compare) {
            (false, _) => Ok(own),
            (true, Some(compared)) => Ok(&compared.range),
            (true, None) => Err(QueryError::invalid("invalid_of", "the chart has no `compare`")),
        }
    }

    /// The part of `whole`, a range of its chart, that `bucket` names: all of it without one.
    ///
    /// # Errors
    /// 400 `invalid_of` where no bucket starts there, and what is wrong with the time.
    fn part(&self, whole: &Range, interval: Interval) -> Result<Range, QueryError> {
        let Some(text) = self.fields.text("bucket", "invalid_of")? else { return Ok(whole.clone()) };
        let start = range::instant(text, self.now_ms, &whole.zone)?;
        let part = Buckets::of(whole, interval)?.part(whole, start);
        let none_starts = || QueryError::invalid("invalid_of", format!("no bucket of the chart starts at `{}`", shortened(text)));
        part.ok_or_else(none_starts)
    }
}

/// Who is behind a bar. Their number is the number that the bar shows of persons.
pub(crate) enum Actors {
    /// The persons of these events.
    OfEvents(Selection),
    /// These persons, by key in ascending order, and the events that are shown of them.
    Known { persons: Vec<u64>, events: Selection },
}

/// The people behind a bar.
pub(crate) trait People: Canonical + Send + Sync {
    /// The ranges that decide who they are.
    fn ranges(&self) -> Vec<&Range>;

    /// As [`Report::event_sets`].
    fn event_sets(&self) -> Vec<EventSet<'_>>;

    /// Who they are, once it is known what decides that.
    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>>;
}

/// A [`Report`] of any kind.
pub(crate) trait Plan: Send + Sync {
    /// As [`Report::ranges`].
    fn ranges(&self) -> Vec<&Range>;

    /// As [`Report::event_sets`].
    fn event_sets(&self) -> Vec<EventSet<'_>>;

    /// Identity of the question with what it says beside, in this and every other process of `release`.
    fn fingerprint(&self, release: &str, common: &Common) -> u128;

    /// As [`Report::answer`].
    fn answer<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Vec<u8>, QueryError>>;

    /// As [`Report::scan`].
    fn scan(&self, now_ms: i64) -> Option<funnel::Scan>;

    /// As [`Report::answer_scanned`].
    fn answer_scanned<'a, 'r: 'a>(
        &'a self,
        runner: &'a mut StatementRunner<'r>,
        scanned: funnel::Scanned,
    ) -> BoxFuture<'a, Result<Vec<u8>, QueryError>>;

    /// As [`Report::people`].
    fn people(self: Box<Self>, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError>;
}

impl<T: Report> Plan for T {
    fn ranges(&self) -> Vec<&Range> {
        Report::ranges(self)
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Report::event_sets(self)
    }

    fn fingerprint(&self, release: &str, common: &Common) -> u128 {
        let mut form = CanonicalForm::of(release, T::NAME);
        form.field("include_bots", &(common.traffic == Traffic::All)).field("as_of", &common.as_of);
        self.canonical(&mut form);
        form.fingerprint()
    }

    fn answer<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Vec<u8>, QueryError>> {
        Report::answer(self, runner).map_err(|problem| problem.advising(T::CHEAPER)).boxed()
    }

    fn scan(&self, now_ms: i64) -> Option<funnel::Scan> {
        Report::scan(self, now_ms)
    }

    fn answer_scanned<'a, 'r: 'a>(
        &'a self,
        runner: &'a mut StatementRunner<'r>,
        scanned: funnel::Scanned,
    ) -> BoxFuture<'a, Result<Vec<u8>, QueryError>> {
        Report::answer_scanned(self, runner, scanned).map_err(|problem| problem.advising(T::CHEAPER)).boxed()
    }

    fn people(self: Box<Self>, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Report::people(*self, bar)
    }
}

/// A registered report.
pub(crate) struct ReportKind {
    pub(crate) name: &'static str,
    pub(crate) route: Route,
    pub(crate) is_kept: bool,
    pub(crate) needs_data_through: bool,
    pub(crate) is_of_sessions: bool,
    pub(crate) shares_scans: bool,
    pub(crate) bar_keys: &'static [&'static str],
    pub(crate) parse: fn(Ask<'_>) -> Result<Box<dyn Plan>, QueryError>,
}

impl ReportKind {
    const fn of<T: Report>() -> Self {
        Self {
            name: T::NAME,
            route: T::ROUTE,
            is_kept: T::IS_KEPT,
            needs_data_through: T::NEEDS_DATA_THROUGH,
            is_of_sessions: T::IS_OF_SESSIONS,
            shares_scans: T::SHARES_SCANS,
            bar_keys: T::BAR_KEYS,
            parse: |ask| Ok(Box::new(T::parse(ask)?)),
        }
    }
}
