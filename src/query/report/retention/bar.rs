//! One number of a table, as the entries of its persons: those of a row, or of them those who return in a cell, or who do not.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::Retention;
use super::people::{self, Span};
use crate::query::ask::breakdown::{LineOf, Tops};
use crate::query::ask::fields::shortened;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Range, Selection, range};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar.
pub(super) const KEYS: [&str; 5] = ["cohort_start", "index", "returned", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar.
pub(super) struct RetentionBar {
    table: Retention,
    /// What its table is about.
    span: Span,
    /// The number of its row.
    cohort: usize,
    /// Where the entries of the row are.
    range: Range,
    /// Its cell; none for all of the row.
    cell: Option<Cell>,
    /// Its line; none without a breakdown.
    line: Option<LineOf>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    index: u64,
    /// Whether the persons are those who return.
    returned: bool,
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_of", message)
}

impl RetentionBar {
    /// Reads `cohort_start`, `index` (of a cell, from 0; all of the row without it), `returned` (true by default),
    /// `breakdown_value` and `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such number.
    pub(super) fn parse(table: Retention, bar: Bar<'_>) -> Result<Self, QueryError> {
        bar.range(&table.own.range, table.compare.as_ref())?;
        let span = table.compared.as_ref().filter(|_| bar.is_compared).unwrap_or(&table.own).clone();
        let text =
            bar.fields.text("cohort_start", "invalid_of")?.ok_or_else(|| invalid("`cohort_start` is missing: the start of a row"))?;
        let start = range::instant(text, bar.now_ms, &span.range.zone)?;
        let none_starts = || invalid(format!("no cohort of the table starts at `{}`", shortened(text)));
        let cohort = span.periods.number(start).filter(|number| *number < span.cohorts).ok_or_else(none_starts)?;
        let (from_ms, until_ms) = span.part(cohort).ok_or_else(none_starts)?;
        let range = Range::of(from_ms, until_ms, span.range.zone.clone())?;
        let cell = Cell::parse(&table, &bar)?;
        if let Some(Cell { index, .. }) = cell
            && span.cell(&table.asked, cohort, index as usize).is_none_or(|(begins, _)| begins > bar.now_ms)
        {
            return Err(invalid(format!("period {index} of the cohort has not begun")));
        }
        let line = LineOf::of_bar(bar.fields, &table.asked.breakdown)?;
        Ok(Self { table, span, cohort, range, cell, line })
    }

    async fn selection(&self, runner: &mut StatementRunner<'_>) -> Result<Selection, QueryError> {
        let needs_tops = self.line.as_ref().is_some_and(LineOf::needs_tops);
        let tops = if needs_tops { self.table.tops(runner).await? } else { Tops::default() };
        let asked = &self.table.asked;
        let is_in_line = asked.breakdown.condition(self.line.as_ref(), &tops).unwrap_or_else(|| "1".into());
        let entries = self.span.entries(asked, runner.scope(&self.span.history), is_in_line.grouped());
        let of_row = Expr::from(" WHERE line = 1 AND cohort = ").then(Expr::int(self.cohort as i64));
        let persons = match self.cell {
            None => Expr::from("SELECT person FROM ").then(entries.enclosed()).then(of_row),
            Some(Cell { index, returned }) => {
                let entries = people::with_cells(asked, self.span.joined(asked, runner, entries));
                let is_in = Expr::call("bitTest", ["cells".into(), Expr::uint(index)]).then(if returned { " = 1" } else { " = 0" });
                Expr::from("SELECT person FROM ").then(entries.enclosed()).then(of_row).then(" AND ").then(is_in)
            }
        };
        let events = people::matching(asked, runner.scope(&self.range), &asked.cohort_event);
        Ok(events.and(Expr::from(PERSON).infix(" GLOBAL IN ", persons.enclosed())))
    }
}

impl Cell {
    fn parse(table: &Retention, bar: &Bar<'_>) -> Result<Option<Self>, QueryError> {
        let periods = table.asked.periods as u64;
        let returned = match bar.fields.value("returned") {
            None => true,
            Some(Value::Bool(returned)) => *returned,
            Some(_) => return Err(invalid("`returned` must be true or false")),
        };
        match bar.fields.value("index") {
            Some(index) => {
                let index = index.as_u64().filter(|index| *index < periods);
                let index = index.ok_or_else(|| invalid(format!("`index` must be a whole number below {periods}")))?;
                Ok(Some(Self { index, returned }))
            }
            None if !returned => Err(invalid("`returned` is of a cell: `index` is missing")),
            None => Ok(None),
        }
    }
}

impl Canonical for Cell {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { index, returned } = self;
        to.field("index", index).field("returned", returned);
    }
}

impl Canonical for RetentionBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { table, span, cohort, range, cell, line } = self;
        to.field(Retention::NAME, table).field("of", &span.range).field("cohort", cohort).field("range", range);
        to.field("cell", cell).field("line", line);
    }
}

impl People for RetentionBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the table decide what is left over for `$other`.
        self.table.own.ranges().into_iter().chain(self.span.ranges()).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        let event = &self.table.asked.cohort_event;
        vec![EventSet { range: &self.range, event: event.event.as_deref(), filters: vec![&self.table.asked.filters, &event.filters] }]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        async { Ok(Actors::OfEvents(self.selection(runner).await?)) }.boxed()
    }
}
