//! One number of a stickiness, as the events of its persons.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Span, Stickiness};
use crate::query::ask::breakdown::{LineOf, Tops};
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Range, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar.
pub(super) const KEYS: [&str; 4] = ["times", "at_least", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar.
pub(super) struct StickinessBar {
    chart: Stickiness,
    /// What its chart is about.
    span: Span,
    /// In how many periods; none for the total.
    times: Option<Times>,
    /// Its line; none without a breakdown.
    line: Option<LineOf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Exactly(u64),
    AtLeast(u64),
}

impl StickinessBar {
    /// Reads `times` or `at_least` (the total without either), `breakdown_value` and `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(chart: Stickiness, bar: Bar<'_>) -> Result<Self, QueryError> {
        bar.range(&chart.own.range, chart.compare.as_ref())?;
        let span = chart.compared.as_ref().filter(|_| bar.is_compared).unwrap_or(&chart.own).clone();
        let most = span.periods.len() as u64;
        let number = |key: &str| {
            let read = |value: &Value| value.as_u64().filter(|times| (1..=most).contains(times));
            let number =
                bar.fields.value(key).map(|value| read(value).ok_or_else(|| format!("`{key}` must be a whole number from 1 to {most}")));
            number.transpose().map_err(|message| QueryError::invalid("invalid_of", message))
        };
        let times = match (number("times")?, number("at_least")?) {
            (Some(_), Some(_)) => return Err(QueryError::invalid("invalid_of", "a bar has `times` or `at_least`, not both")),
            (Some(times), None) => Some(Times::Exactly(times)),
            (None, at_least) => at_least.map(Times::AtLeast),
        };
        let line = LineOf::of_bar(bar.fields, &chart.breakdown)?;
        Ok(Self { chart, span, times, line })
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let needs_tops = self.line.as_ref().is_some_and(LineOf::needs_tops);
        let tops = if needs_tops { self.chart.tops(runner).await? } else { Tops::default() };
        let in_line = self.chart.breakdown.condition(self.line.as_ref(), &tops);
        let events = self.chart.events.select(runner.scope(&self.span.range));
        let events = in_line.into_iter().fold(events, Selection::and);
        let Some(times) = self.times else { return Ok(events) };
        let people = self.span.people(events.clone(), "toInt64(0)".into());
        let is_in = match times {
            Times::Exactly(times) => Expr::from(" WHERE times = ").then(Expr::uint(times)),
            Times::AtLeast(times) => Expr::from(" WHERE times >= ").then(Expr::uint(times)),
        };
        let persons = Expr::from("SELECT person FROM ").then(people.enclosed()).then(is_in);
        Ok(events.and(Expr::from(PERSON).infix(" GLOBAL IN ", persons.enclosed())))
    }
}

impl Canonical for Times {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::Exactly(times) => to.field("exactly", times),
            Self::AtLeast(times) => to.field("at_least", times),
        };
    }
}

impl Canonical for StickinessBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { chart, span, times, line } = self;
        to.field(Stickiness::NAME, chart).field("of", &span.range).field("times", times).field("line", line);
    }
}

impl People for StickinessBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the chart decide what is left over for `$other`.
        vec![&self.chart.own.range, &self.span.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![self.chart.events.set(&self.span.range)]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        async { Ok(Actors::OfEvents(self.selection(runner).await?)) }.boxed()
    }
}
