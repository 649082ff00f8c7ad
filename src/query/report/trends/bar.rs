//! One number of a chart, as the events behind it.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use serde_json::Value;

use super::Trends;
use super::counting::FirstTimes;
use crate::query::ask::breakdown::LineOf;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Range, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar of a chart.
pub(super) const KEYS: [&str; 4] = ["series_index", "bucket", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar of a chart.
pub(super) struct ChartBar {
    chart: Trends,
    /// Index of its series.
    series: usize,
    /// The part of the range that its bucket covers.
    range: Range,
    /// Its line; none without a breakdown.
    line: Option<LineOf>,
}

impl ChartBar {
    /// Reads `series_index` (0 by default), `bucket` (a start; the whole range without one), `breakdown_value` and
    /// `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(chart: Trends, bar: Bar<'_>) -> Result<Self, QueryError> {
        let fields = bar.fields;
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        let index = fields.value("series_index").map_or(Some(0), Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let series = index
            .filter(|index| *index < chart.series.len())
            .ok_or_else(|| invalid(format!("`series_index` must be a whole number below {}", chart.series.len())))?;
        let whole = bar.range(&chart.range, chart.compare.as_ref())?;
        let part = bar.part(whole, chart.interval)?;
        let line = LineOf::of_bar(fields, &chart.breakdown)?;
        let counted = chart.series.get(series).ok_or_else(of_another_chart)?;
        let range = chart.counted_in(whole, &part, counted)?;
        Ok(Self { chart, series, range, line })
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let needs_tops = self.line.as_ref().is_some_and(LineOf::needs_tops);
        let mut held = runner.memory();
        let tops = if needs_tops { self.chart.tops(runner, &mut held, Vec::new()).await? } else { Vec::new() };
        let series = self.chart.series.get(self.series).ok_or_else(of_another_chart)?;
        let mut events = self.chart.events(runner.scope(&self.range), series);
        if let Some(is_measured) = series.is_measured() {
            events = events.and(is_measured);
        }
        let is_in_line = match (&self.chart.breakdown.by, &self.line) {
            (Some(by), Some(line)) => Some(line.condition(by, &tops.get(self.series).cloned().unwrap_or_default())),
            _ => None,
        };
        if series.counts_first_times() {
            let ever = self.chart.events(runner.scope(&self.chart.looked_at(&self.range, series)?), series);
            let value = is_in_line.unwrap_or_else(|| "1".into());
            return Ok(events.and(FirstTimes { events: ever, value, from_ms: self.range.from_ms }.condition()));
        }
        Ok(is_in_line.into_iter().fold(events, Selection::and))
    }
}

fn of_another_chart() -> QueryError {
    QueryError::internal("the bar is of another chart")
}

impl Canonical for ChartBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { chart, series, range, line } = self;
        to.field(Trends::NAME, chart).field("series", series).field("range", range).field("line", line);
    }
}

impl People for ChartBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the chart decide what is left over for `$other`.
        [&self.chart.range, &self.range].into_iter().chain(&self.chart.lookbacks).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.chart.series.get(self.series).map(|series| self.chart.event_set(&self.range, series)).into_iter().collect()
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        self.selection(runner).map_ok(Actors::OfEvents).boxed()
    }
}
