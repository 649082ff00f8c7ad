//! How a series is counted by bucket. Each way is one statement; its rows are start of a bucket, line, whether the row is the total, value.
//!
//! * Plain: the math of the events of each bucket, and of the range.
//! * Cumulative: the math of all events from the beginning of the range to the end of each bucket. Buckets are aggregated once and merged in
//!   their order; a bucket without events has no row, and the number of the one before.
//! * Grouped: what plain and cumulative numbers of different persons, sessions or values come to where a set of these is more than a question may
//!   hold: events are grouped by them first, with a bit for each bucket. Cost: as much as a set, and what does not fit is on the disk.
//! * Trailing: the persons of a window of days that ends with each bucket. Windows overlap, so the rows say by how much the number of persons
//!   changes from one bucket to the next: a person's windows are put together first. Cost: one look at each event, and a few numbers for
//!   each person.
//! * First times: each person once, in the bucket and the line of the first event of all times. It reads all events of the series up to
//!   the end of the range.

use super::series::{Series, Unit};
use crate::query::ask::breakdown::Breakdown;
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::interval::Buckets;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Expr, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::store::schema::IN_ORDER;

const AT: &str = "toUnixTimestamp64Milli(timestamp)";
const BY_LINE: &str = " GROUP BY GROUPING SETS ((bucket, line), (line))";
const SO_FAR: &str = " WINDOW so_far AS (PARTITION BY whole, line ORDER BY bucket)";
/// The start of a bucket behind the last one: no row of an answer has it.
const BEHIND_ALL: i64 = i64::MAX;

/// The bits of a number, and so most buckets of plain numbers that are grouped. Behind the last one is the range.
pub(super) const MOST_BITS: usize = 64;

/// What is counted: by these buckets, in lines.
pub(super) struct Counting<'a> {
    pub(super) buckets: &'a Buckets,
    /// The line of an event.
    pub(super) line: Expr,
}

impl Counting<'_> {
    /// The math of the events of each bucket.
    pub(super) fn plain(self, events: Selection, series: &Series) -> Expr {
        self.columns().named(series.aggregate(), " AS value").from(events).then(BY_LINE)
    }

    /// The math of all events up to the end of each bucket.
    pub(super) fn cumulative(self, events: Selection, series: &Series) -> Expr {
        let (states, merged) = series.states();
        let by_bucket = states.into_iter().fold(self.columns(), Select::column).from(events).then(BY_LINE);
        let rows = Expr::from("SELECT bucket, line, whole, ").then(merged).then(" AS value FROM ").then(by_bucket.enclosed());
        rows.then(SO_FAR)
    }

    /// How many different units there are in each bucket, by groups.
    pub(super) fn grouped(self, events: Selection, unit: Unit) -> Expr {
        let starts = || Expr::ints(self.buckets.starts().iter().copied());
        let bits = Expr::uints((0..self.buckets.len().min(MOST_BITS)).map(|bucket| 1_u64 << bucket));
        let bit = Expr::call("transform", [self.buckets.start(), starts(), bits, "toUInt64(0)".into()]);
        let seen = Expr::call("groupBitOrIf", [bit, unit.is_there]);
        let units = Select::default().named(self.line, " AS line").named(seen, " AS seen").from(events);
        let units = units.then(" GROUP BY line, ").then(unit.key).enclosed();
        let whole = || Expr::uint(MOST_BITS as u64);
        let places = Expr::call("arrayJoin", [Expr::call("arrayPushBack", ["bitPositionsToArray(seen)".into(), whole()])]);
        let places = Expr::from("SELECT line, seen, ").then(places).then(" AS place FROM ").then(units).enclosed();
        let bucket = Expr::call("arrayElement", [starts(), "place + 1".into()]);
        let columns = Select::default().named(bucket, " AS bucket").column("line").named(Expr::from("place = ").then(whole()), " AS whole");
        // What no event has is in a group, too, so that its line is there.
        columns.named("countIf(seen != 0)", " AS value").into_expr().then(" FROM ").then(places).then(" GROUP BY place, line")
    }

    /// How many different units there are up to the end of each bucket, by groups: each is new in one bucket.
    pub(super) fn grouped_so_far(self, events: Selection, unit: Unit) -> Expr {
        let first = Expr::call("minIf", [self.buckets.start(), unit.is_there.clone()]);
        let is_there = Expr::call("max", [unit.is_there]);
        let units = Select::default().named(self.line, " AS line").named(first, " AS first").named(is_there, " AS is_there").from(events);
        let units = units.then(" GROUP BY line, ").then(unit.key).enclosed();
        let new = Expr::from("SELECT first AS bucket, line, grouping(bucket) AS whole, countIf(is_there != 0) AS new FROM ")
            .then(units)
            .then(BY_LINE);
        let rows = Expr::from("SELECT bucket, line, whole, sum(new) OVER so_far AS value FROM ").then(new.enclosed());
        rows.then(SO_FAR)
    }

    /// How the number of persons changes from bucket to bucket.
    pub(super) fn trailing(self, events: Selection, windows: &Windows) -> Expr {
        let cuts = || Expr::ints(windows.cuts.iter().copied());
        let seen = Expr::call("groupUniqArray", [Expr::call("roundDown", [AT.into(), cuts()])]);
        let seen = Select::default().named(self.line, " AS line").named(Expr::call("arraySort", [seen]), " AS seen");
        let of_person = seen.from(events).then(" GROUP BY ").then(PERSON).then(", line");
        let each = |of_cuts: &[i64]| {
            let found = Expr::call("transform", ["cut".into(), cuts(), Expr::ints(of_cuts.iter().copied()), "toInt64(0)".into()]);
            Expr::call("arrayMap", [Expr::from("cut -> ").then(found), "seen".into()])
        };
        let start = Expr::int(self.buckets.starts().first().copied().unwrap_or_default());
        let before = Expr::from("arrayPushFront(arrayPopBack(behind), ").then(start).then(")");
        let enters = Expr::call("arrayMap", ["(begin, end) -> (greatest(begin, end), toInt64(1))".into(), "begins".into(), before]);
        let changes = Expr::call("arrayConcat", [enters, "arrayMap(end -> (end, toInt64(-1)), behind)".into()]);
        let columns = Select::default()
            .column("line")
            .named(each(&windows.begins), " AS begins")
            .named(each(&windows.ends), " AS behind")
            .named(Expr::call("arrayJoin", [changes]), " AS change");
        let changes = columns.into_expr().then(" FROM ").then(of_person.enclosed());
        let rows = Expr::from("SELECT change.1 AS bucket, line, 0 AS whole, sum(change.2) AS value FROM ").then(changes.enclosed());
        rows.then(" GROUP BY bucket, line")
    }

    /// The persons whose first event of `events`, which are of all times, is in each bucket; none is before `from_ms`.
    pub(super) fn first_times(self, events: Selection, from_ms: i64) -> Expr {
        let first = FirstTimes { events, value: self.line, from_ms }.persons(" AS line");
        let bucket = self.buckets.start_of("first_ms");
        let columns = Select::default().named(bucket, " AS bucket").column("line").named("grouping(bucket)", " AS whole");
        let columns = columns.named("count()", " AS value");
        columns.into_expr().then(" FROM ").then(first.enclosed()).then(BY_LINE)
    }

    fn columns(&self) -> Select {
        let columns = Select::default().named(self.buckets.start(), " AS bucket").named(self.line.clone(), " AS line");
        columns.named("grouping(bucket)", " AS whole")
    }
}

/// Persons and what their first event was.
pub(super) struct FirstTimes {
    /// Of all times up to an end.
    pub(super) events: Selection,
    /// What is asked of the first event.
    pub(super) value: Expr,
    /// It is not before this, milliseconds since 1970.
    pub(super) from_ms: i64,
}

impl FirstTimes {
    /// The values of a breakdown `by` which it has, ranked by persons. What follows is [`Breakdown::largest`].
    pub(super) fn ranking(self, by: &Dimensions) -> Expr {
        let persons = self.persons(" AS first_key").enclosed();
        let ranking = Breakdown::ranking_of("first_key".into(), "count()".into());
        ranking.into_expr().then(" FROM ").then(persons).then(" WHERE ").then(Breakdown::is_ranked(by))
    }

    /// The condition that an event is of a person of whose first event the value holds.
    pub(super) fn condition(self) -> Expr {
        let persons = self.persons(" AS holds").enclosed();
        let those = Expr::from("SELECT person FROM ").then(persons).then(" WHERE holds");
        Expr::from(PERSON).then(" GLOBAL IN ").then(those.enclosed())
    }

    fn persons(self, name: &'static str) -> Expr {
        let Self { events, value, from_ms } = self;
        let columns = Select::default().named(PERSON, " AS person").named("toUnixTimestamp64Milli(min(timestamp))", " AS first_ms");
        let columns = columns.named(Expr::call("argMin", [value, IN_ORDER.into()]), name);
        columns.from(events).then(" GROUP BY person HAVING first_ms >= ").then(Expr::int(from_ms))
    }
}

/// Windows of days, each of which ends with a bucket or, if that is earlier, with the day in which the range ends.
#[derive(Debug)]
pub(super) struct Windows {
    /// Between two of these the same windows are open.
    cuts: Vec<i64>,
    /// From each cut on: the first bucket whose window is open, and the one behind the last.
    begins: Vec<i64>,
    ends: Vec<i64>,
}

impl Windows {
    /// Where the window ends that ends with the bucket which holds the time just before `until_ms`.
    pub(super) fn end(range: &Range, buckets: &Buckets, until_ms: i64) -> Result<i64, QueryError> {
        let end = buckets.edges().iter().copied().find(|edge| *edge >= until_ms).unwrap_or(until_ms);
        Ok(end.min(range.end_of_day()?))
    }

    /// Windows of `days` by the calendar of `range`.
    ///
    /// # Errors
    /// 400 `invalid_range` where one leaves the calendar.
    pub(super) fn of(range: &Range, buckets: &Buckets, days: i64) -> Result<Self, QueryError> {
        let starts = buckets.starts();
        let last = Self::end(range, buckets, range.until_ms)?;
        let ends: Vec<i64> = starts.iter().skip(1).copied().chain([last]).collect();
        let opens = ends.iter().map(|end| range.days_before(*end, days)).collect::<Result<Vec<_>, _>>()?;
        let mut cuts: Vec<i64> = opens.iter().chain(&ends).copied().collect();
        cuts.sort_unstable();
        cuts.dedup();
        let bucket = |index: usize| starts.get(index).copied().unwrap_or(BEHIND_ALL);
        let (mut begins, mut behind) = (Vec::new(), Vec::new());
        for cut in &cuts {
            let first = ends.partition_point(|end| end <= cut);
            let last = opens.partition_point(|open| open <= cut);
            begins.push(bucket(first));
            // Between windows none is open.
            behind.push(bucket(last.max(first)));
        }
        Ok(Self { cuts, begins, ends: behind })
    }
}
