//! One number of a chart of sessions, as the events behind it.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use serde_json::Value;

use super::{Sessions, Shown};
use crate::query::ask::breakdown::{LineOf, Tops};
use crate::query::ask::selection::PERSON;
use crate::query::ask::session_columns::PERSON_KEY;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Range, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar of a chart.
pub(super) const KEYS: [&str; 4] = ["series_index", "bucket", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar of a chart. Behind each series are the same people.
pub(super) struct SessionsBar {
    chart: Sessions,
    /// The part of the range that its bucket covers.
    range: Range,
    /// Its line; none without a breakdown.
    line: Option<LineOf>,
}

impl SessionsBar {
    /// Reads `series_index` (0 by default), `bucket` (a start; the whole range without one), `breakdown_value` and
    /// `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(chart: Sessions, bar: Bar<'_>) -> Result<Self, QueryError> {
        let fields = bar.fields;
        let invalid = |message: &str| QueryError::invalid("invalid_of", message);
        let Shown::Numbers(numbers) = &chart.shown else { return Err(invalid("a list of sessions has no bars")) };
        let index = fields.value("series_index").map_or(Some(0), Value::as_u64).and_then(|index| usize::try_from(index).ok());
        if index.is_none_or(|index| index >= numbers.series.len()) {
            return Err(invalid(&format!("`series_index` must be a whole number below {}", numbers.series.len())));
        }
        let whole = bar.range(&chart.range, numbers.compare.as_ref())?;
        let range = bar.part(whole, numbers.interval)?;
        let line = LineOf::of_bar(fields, &numbers.breakdown)?;
        Ok(Self { chart, range, line })
    }

    /// The events of those sessions that are of the person whom the session counts for.
    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let of_person = Expr::from(PERSON).infix(" = ", PERSON_KEY);
        let events = self.chart.select(runner.scope(&self.range)).events().and(of_person);
        let (Shown::Numbers(numbers), Some(line)) = (&self.chart.shown, &self.line) else { return Ok(events) };
        let Some(by) = &numbers.breakdown.by else { return Ok(events) };
        let tops = if line.needs_tops() { self.chart.tops(runner, numbers).await? } else { Tops::default() };
        Ok(events.and(line.condition(by, &tops)))
    }
}

impl Canonical for SessionsBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { chart, range, line } = self;
        to.field(Sessions::NAME, chart).field("range", range).field("line", line);
    }
}

impl People for SessionsBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the chart decide what is left over for `$other`.
        vec![&self.chart.range, &self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![EventSet { range: &self.range, event: None, filters: vec![&self.chart.filters] }]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        self.selection(runner).map_ok(Actors::OfEvents).boxed()
    }
}
