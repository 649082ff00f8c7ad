//! Entries, and what their persons did afterwards, as statements.

use super::{Asked, Measure};
use crate::query::ask::periods::{AT, Periods};
use crate::query::ask::range::LATEST_MS;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{EventMatch, Expr, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::store::schema::IN_ORDER;

/// Stands for the size where a row has the number of a cell: behind all bits of a word.
pub(super) const SIZE: u64 = 64;

/// What a table is about.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) range: Range,
    /// Where entries are looked for.
    pub(super) history: Range,
    /// Where returns are.
    pub(super) returns: Range,
    /// Those of the rows, and those after them that belong to a cell.
    pub(super) periods: Periods,
    /// How many rows there are.
    pub(super) cohorts: usize,
}

impl Span {
    pub(super) fn of(range: Range, asked: &Asked) -> Result<Self, QueryError> {
        let cohorts = Periods::of(&range, asked.period, [0, 0])?.len();
        let periods = Periods::of(&range, asked.period, [0, asked.periods - 1])?;
        let end_ms = match (asked.is_or_after, asked.is_rolling) {
            (true, _) => LATEST_MS,
            (false, true) => range.until_ms + asked.periods as i64 * asked.rolling_ms(),
            (false, false) => periods.bounds(periods.len() - 1).map_or(LATEST_MS, |(_, end)| end),
        };
        let returns = Range::of(range.from_ms, end_ms.clamp(range.until_ms, LATEST_MS), range.zone.clone())?;
        let history = if asked.is_first_time { range.with_all_before() } else { range.clone() };
        Ok(Self { range, history, returns, periods, cohorts })
    }

    pub(super) fn ranges(&self) -> [&Range; 2] {
        [&self.history, &self.returns]
    }

    /// The part of the range in which the entries of a row lie.
    pub(super) fn part(&self, cohort: usize) -> Option<(i64, i64)> {
        let (start, end) = self.periods.bounds(cohort)?;
        Some((start.max(self.range.from_ms), end.min(self.range.until_ms)))
    }

    /// From when to when cell `index` of a row may last: of rolling periods the first begins with the first possible entry, and the
    /// last ends with the last one's.
    pub(super) fn cell(&self, asked: &Asked, cohort: usize, index: usize) -> Option<(i64, i64)> {
        if !asked.is_rolling {
            return self.periods.bounds(cohort + index);
        }
        let (first, last) = self.part(cohort)?;
        let length = asked.rolling_ms();
        Some((first + index as i64 * length, last - 1 + (index as i64 + 1) * length))
    }

    /// One row an entry: `person`, `entered_at`, `cohort` (the number of its row), and `line`, which `line` says of its event.
    pub(super) fn entries(&self, asked: &Asked, scope: Scope, line: Expr) -> Expr {
        let line = match &asked.breakdown.by {
            Some(_) => Expr::call("argMin", [line, IN_ORDER.into()]),
            // The same for all: no reason to read what orders events.
            None => Expr::call("any", [line]),
        };
        let columns =
            Select::default().named(PERSON, " AS person").named(Expr::call("min", [AT.into()]), " AS entered_at").named(line, " AS line");
        let events = matching(asked, scope, &asked.cohort_event);
        if !asked.is_first_time {
            return columns.named(self.periods.number_of(AT), " AS cohort").from(events).then(" GROUP BY person, cohort");
        }
        let columns = columns.named(self.periods.number_of("entered_at"), " AS cohort");
        let entries = columns.from(events).then(" GROUP BY person HAVING entered_at >= ");
        entries.then(Expr::int(self.range.from_ms))
    }

    /// One row a return of each entry: its columns, `cell`, `is_return` and `amount`. An entry without any return has one row, which is
    /// none.
    pub(super) fn joined(&self, asked: &Asked, runner: &StatementRunner<'_>, entries: Expr) -> Expr {
        let returns = matching(asked, runner.scope(&self.returns), &asked.return_event);
        let amount = match &asked.value {
            Measure::Users => "toFloat64(0)".into(),
            Measure::Sum(field) => Expr::call("if", [field.has_number(), Expr::call("toFloat64", [field.number()]), "toFloat64(0)".into()]),
        };
        let columns = Select::default().named(PERSON, " AS person").named(AT, " AS at").named(amount, " AS amount");
        let returns = columns.from(returns);
        let (cell, has_begun) = self.cell_of_return(asked, runner.now_ms());
        let last = Expr::int(asked.periods as i64 - 1);
        let (cell, is_cell) = match asked.is_or_after {
            true => (Expr::call("least", [cell, last]), "1".into()),
            false => (cell.clone(), cell.grouped().then(" <= ").then(last)),
        };
        let is_return = Expr::all(["at >= entered_at".into(), is_cell, has_begun]);
        let columns = Expr::from("SELECT entries.person AS person, cohort, line, amount, ")
            .then(cell)
            .then(" AS cell, ")
            .then(is_return)
            .then(" AS is_return FROM ");
        columns.then(returns.enclosed()).then(" AS returns ALL RIGHT JOIN ").then(entries.enclosed()).then(" AS entries USING (person)")
    }

    /// In which period after the entry `at` is, and whether that has begun.
    fn cell_of_return(&self, asked: &Asked, now_ms: i64) -> (Expr, Expr) {
        if asked.is_rolling {
            let length = || Expr::int(asked.rolling_ms());
            let cell = Expr::from("intDiv(at - entered_at, ").then(length()).then(")");
            let begins = Expr::from("entered_at + ").then(cell.clone()).then(" * ").then(length());
            return (cell, begins.then(" <= ").then(Expr::int(now_ms)));
        }
        let cell = self.periods.number_of("at").then(" - cohort");
        // The period of now has begun, and none after it.
        let end_of_now = Range::of(now_ms, now_ms + 1, self.range.zone.clone())
            .and_then(|now| Periods::of(&now, asked.period, [0, 0]))
            .ok()
            .and_then(|periods| Some(periods.bounds(0)?.1));
        (cell, Expr::from("at < ").then(Expr::int(end_of_now.unwrap_or(LATEST_MS))))
    }
}

/// The events of `scope` that `event` means.
pub(super) fn matching(asked: &Asked, scope: Scope, event: &EventMatch) -> Selection {
    event.select(scope).filters(&asked.filters)
}

/// One row an entry of [`Span::joined`]: `person`, `cohort`, `line` and, as bits of `cells`, in which cells it counts.
pub(super) fn with_cells(asked: &Asked, joined: Expr) -> Expr {
    let cells = match asked.is_or_after {
        // Who is in a cell is in all before it.
        true => "if(countIf(is_return) = 0, toUInt64(0), bitShiftLeft(toUInt64(1), bitAnd(maxIf(cell, is_return) + 1, 63)) - 1)",
        false => "groupBitOrIf(bitShiftLeft(toUInt64(1), bitAnd(cell, 63)), is_return)",
    };
    let columns = Expr::from("SELECT person, cohort, line, ").then(cells).then(" AS cells FROM ");
    columns.then(joined.enclosed()).then(" GROUP BY person, cohort, line")
}

/// Numbers of persons: cohort, line, number of the cell or [`SIZE`], persons.
pub(super) fn users(asked: &Asked, joined: Expr) -> Expr {
    let numbers = Expr::call("arrayPushBack", ["bitPositionsToArray(cells)".into(), Expr::uint(SIZE)]);
    let cells = Expr::from("SELECT cohort, line, arrayJoin(").then(numbers).then(") AS cell FROM ");
    let cells = cells.then(with_cells(asked, joined).enclosed());
    Expr::from("SELECT cohort, line, cell, count() FROM ").then(cells.enclosed()).then(" GROUP BY cohort, line, cell")
}

/// Sums: cohort, line, persons, numbers of cells, the sum of each.
pub(super) fn sums(joined: Expr) -> Expr {
    let sums = "SELECT cohort, line, uniqExact(person), sumMapIf([cell], [amount], is_return) AS sums, sums.1, sums.2 FROM ";
    Expr::from(sums).then(joined.enclosed()).then(" GROUP BY cohort, line")
}
