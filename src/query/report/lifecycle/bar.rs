//! One number of a lifecycle, as the events behind it: of those who are active their events of the period, of the dormant those of the
//! period before.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Lifecycle, STATUSES, Span, Status};
use crate::query::ask::breakdown::{LineOf, Tops};
use crate::query::ask::fields::shortened;
use crate::query::ask::periods;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Range, Selection, range};
use crate::query::error::{QueryError, nearest};
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar.
pub(super) const KEYS: [&str; 4] = ["status", "bucket", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar.
pub(super) struct LifecycleBar {
    chart: Lifecycle,
    /// What its chart is about.
    span: Span,
    status: Status,
    /// The number of its period.
    period: usize,
    /// Where the events are.
    range: Range,
    /// Its line; none without a breakdown.
    line: Option<LineOf>,
}

impl LifecycleBar {
    /// Reads `status`, `bucket` (a start), `breakdown_value` and `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(chart: Lifecycle, bar: Bar<'_>) -> Result<Self, QueryError> {
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        bar.range(&chart.own.range, chart.compare.as_ref())?;
        let span = chart.compared.as_ref().filter(|_| bar.is_compared).unwrap_or(&chart.own).clone();
        let word = bar.fields.text("status", "invalid_of")?.unwrap_or_default();
        let status = STATUSES.iter().find(|(name, _)| *name == word).map(|(_, status)| *status).ok_or_else(|| {
            let hint = nearest(word, STATUSES.iter().map(|(name, _)| *name));
            invalid(format!("`status` cannot be `{}`, did you mean `{hint}`?", shortened(word)))
        })?;
        let text = bar.fields.text("bucket", "invalid_of")?.ok_or_else(|| invalid("`bucket` is missing: the start of a period".into()))?;
        let start = range::instant(text, bar.now_ms, &span.range.zone)?;
        let none_starts = || invalid(format!("no bucket of the chart starts at `{}`", shortened(text)));
        let period = span.periods.number(start).filter(|number| *number > 0).ok_or_else(none_starts)?;
        let (first, last) = if status == Status::Dormant { (0, period - 1) } else { (span.range.from_ms, period) };
        let (from_ms, until_ms) = span.periods.bounds(last).ok_or_else(none_starts)?;
        let range = Range::of(from_ms.max(first), until_ms.min(span.range.until_ms), span.range.zone.clone())?;
        let line = LineOf::of_bar(bar.fields, &chart.breakdown)?;
        Ok(Self { chart, span, status, period, range, line })
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let needs_tops = self.line.as_ref().is_some_and(LineOf::needs_tops);
        let tops = if needs_tops { self.chart.tops(runner).await? } else { Tops::default() };
        let in_line = self.chart.breakdown.condition(self.line.as_ref(), &tops);
        let of = |range: &Range| {
            let events = self.chart.events.select(runner.scope(range));
            in_line.clone().into_iter().fold(events, Selection::and)
        };
        let people = self.span.people(of(&self.span.history), "toInt64(0)".into());
        let word = self.span.word(self.status, periods::word_of_period(self.period));
        let persons = Expr::from("SELECT person FROM ").then(people.enclosed()).then(" WHERE ").then(periods::has_bit(word, self.period));
        Ok(of(&self.range).and(Expr::from(PERSON).infix(" GLOBAL IN ", persons.enclosed())))
    }
}

impl Canonical for LifecycleBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { chart, span, status, period, range, line } = self;
        to.field(Lifecycle::NAME, chart).field("of", &span.range).field("status", status).field("period", period);
        to.field("range", range).field("line", line);
    }
}

impl People for LifecycleBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the chart decide what is left over for `$other`.
        vec![&self.chart.own.history, &self.span.history]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![self.chart.events.set(&self.range)]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        async { Ok(Actors::OfEvents(self.selection(runner).await?)) }.boxed()
    }
}
