//! One number of a chart, as the events behind it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Trends;
use crate::query::ask::breakdown::LineOf;
use crate::query::ask::fields::shortened;
use crate::query::ask::interval::Buckets;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Range, Selection, range};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Bar, People, Report};

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
        let Bar { fields, is_compared, now_ms } = bar;
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        let index = fields.value("series_index").map_or(Some(0), Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let series = index
            .filter(|index| *index < chart.series.len())
            .ok_or_else(|| invalid(format!("`series_index` must be a whole number below {}", chart.series.len())))?;
        let compared =
            || chart.compare.as_ref().map(|compared| &compared.range).ok_or_else(|| invalid("the chart has no `compare`".into()));
        let whole = if is_compared { compared()? } else { &chart.range };
        let range = match fields.text("bucket", "invalid_of")? {
            None => whole.clone(),
            Some(text) => {
                let start = range::instant(text, now_ms, &whole.zone)?;
                let found = Buckets::of(whole, chart.interval)?.part(whole, start);
                found.ok_or_else(|| invalid(format!("no bucket of the chart starts at `{}`", shortened(text))))?
            }
        };
        let names_line = LineOf::KEYS.iter().any(|key| fields.value(key).is_some());
        let line = match &chart.breakdown.by {
            Some(by) => Some(LineOf::parse(fields, by)?),
            None if names_line => return Err(invalid("the chart has no `breakdown`, so no `breakdown_value`".into())),
            None => None,
        };
        Ok(Self { chart, series, range, line })
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let needs_tops = self.line.as_ref().is_some_and(LineOf::needs_tops);
        let tops = if needs_tops { self.chart.tops(runner).await? } else { Vec::new() };
        let of_another_chart = || QueryError::internal("the bar is of another chart");
        let series = self.chart.series.get(self.series).ok_or_else(of_another_chart)?;
        let mut events = self.chart.events(runner.scope(&self.range), series);
        if let Some(is_measured) = series.is_measured() {
            events = events.and(is_measured);
        }
        let (Some(by), Some(line)) = (&self.chart.breakdown.by, &self.line) else { return Ok(events) };
        Ok(events.and(line.condition(by, &tops.get(self.series).cloned().unwrap_or_default())))
    }
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
        vec![&self.chart.range, &self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.chart.series.get(self.series).map(|series| self.chart.event_set(&self.range, series)).into_iter().collect()
    }

    fn events<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Selection, QueryError>> {
        self.selection(runner).boxed()
    }
}
