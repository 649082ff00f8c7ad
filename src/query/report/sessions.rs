//! Sessions: how many began when, of whom, how long they were; or one by one.
//!
//! A session is in the bucket of its start; those that begin in the range are counted, whole, although they may end behind it. Of several
//! filters those on events hold of a session that has an event, at whatever time, of which they all hold; those on columns of sessions hold
//! of the session. Lines of a breakdown, which is by columns of sessions or traits of their persons, are the values of most sessions.
//! `visitors` are the persons of the sessions' first events. Where there are no sessions, numbers of sessions and persons are 0 and all
//! others null.
//!
//! Cost: one statement for all series, and one for the largest values of a breakdown; filters on events read the events once more. The
//! list computes every session of its range and gives the newest.

mod bar;
mod list;
mod series;

use self::bar::{KEYS as BAR_KEYS, SessionsBar};
use self::list::List;
use self::series::Series;
use super::trends::chart::{Chart, Head, Lines};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::{Breakdown, Tops};
use crate::query::ask::compare::Compared;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::session_columns::START;
use crate::query::ask::sessions::SessionSelection;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Fields, Range, Scope, Select};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};

/// Most numbers of one answer.
const MAX_CELLS: u64 = 1_000_000;

const KEYS: [&str; 11] = ["from", "to", "timezone", "filters", "interval", "series", "breakdown", "limit", "compare", "list", "cursor"];
/// Of these the ones of a chart, and those of a list.
const OF_CHART: [&str; 4] = ["interval", "series", "breakdown", "compare"];
const OF_LIST: [&str; 1] = ["cursor"];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    range: Range,
    filters: Vec<Filter>,
    shown: Shown,
}

/// What is shown of the sessions.
#[derive(Clone, Debug)]
enum Shown {
    Numbers(Numbers),
    List(List),
}

/// Numbers by time.
#[derive(Clone, Debug)]
struct Numbers {
    interval: Interval,
    series: Vec<Series>,
    breakdown: Breakdown,
    compare: Option<Compared>,
}

impl Canonical for Sessions {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, filters, shown } = self;
        to.field("range", range).set("filters", filters);
        match shown {
            Shown::Numbers(numbers) => to.field("numbers", numbers),
            Shown::List(list) => to.field("list", list),
        };
    }
}

impl Canonical for Numbers {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { interval, series, breakdown, compare } = self;
        to.field("interval", interval).field("series", series).field("breakdown", breakdown).field("compare", compare);
    }
}

impl Report for Sessions {
    const NAME: &'static str = "sessions";
    const IS_OF_SESSIONS: bool = true;
    const CHEAPER: &'static str = "a shorter range, or sessions of fewer events by `filters`";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let is_list = list::is_asked_for(ask.body)?;
        let fields = Fields::open(ask.body, &KEYS)?;
        let (others, what) = if is_list { (&OF_CHART[..], "without `list`") } else { (&OF_LIST[..], "with `list` true") };
        if let Some(other) = others.iter().find(|other| fields.value(other).is_some()) {
            return Err(QueryError::invalid("unknown_key", format!("unknown key `{other}`: it is for sessions {what}")));
        }
        let range = Range::parse(fields, ask.now_ms)?;
        let shown = match is_list {
            true => Shown::List(List::parse(fields)?),
            false => Shown::Numbers(Numbers::parse(fields, &range, ask.now_ms)?),
        };
        Ok(Self { filters: filter::parse_all(fields, ask.context)?, range, shown })
    }

    /// The range of the chart, then the one it is compared with.
    fn ranges(&self) -> Vec<&Range> {
        let compared = match &self.shown {
            Shown::Numbers(numbers) => numbers.compare.as_ref().map(|compared| &compared.range),
            Shown::List(_) => None,
        };
        std::iter::once(&self.range).chain(compared).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.ranges().into_iter().map(|range| EventSet { range, event: None, filters: vec![&self.filters] }).collect()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let numbers = match &self.shown {
            Shown::List(list) => return list.answer(runner, self.select(runner.scope(&self.range))).await,
            Shown::Numbers(numbers) => numbers,
        };
        let tops = self.tops(runner, numbers).await?;
        let sessions = self.select(runner.scope(&self.range));
        let mut chart = numbers.chart(runner, sessions, &self.range, &tops).await?;
        if let Some(Compared { range, .. }) = &numbers.compare {
            let sessions = self.select(runner.scope(range));
            chart.compare = Some(Box::new(numbers.chart(runner, sessions, range, &tops).await?));
        }
        to_json(&chart)
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(SessionsBar::parse(self, bar)?))
    }
}

impl Numbers {
    fn parse(fields: Fields<'_>, range: &Range, now_ms: i64) -> Result<Self, QueryError> {
        let breakdown = Breakdown::parse_of_sessions(fields)?;
        if breakdown.by.iter().flat_map(|by| &by.fields).any(|field| !field.is_of_session() && !field.is_trait()) {
            let message = "sessions are broken down by what they are and whose: `session.<column>` or `person.<trait>`";
            return Err(QueryError::invalid("invalid_breakdown", message));
        }
        let compare = fields.value("compare").map(|value| Compared::parse(value, range, now_ms)).transpose()?;
        let numbers = Self { interval: Interval::parse(fields)?, series: Series::parse_all(fields)?, breakdown, compare };
        let mut buckets = 0;
        for range in std::iter::once(range).chain(numbers.compare.as_ref().map(|compared| &compared.range)) {
            buckets += Buckets::of(range, numbers.interval)?.len() as u64;
        }
        if buckets * numbers.series.len() as u64 * numbers.breakdown.most_lines() > MAX_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MAX_CELLS} numbers")));
        }
        Ok(numbers)
    }

    /// Start of the bucket, line, whether the row is the total, the value of each series.
    fn columns(&self, buckets: &Buckets, tops: &Tops) -> Select {
        let line = self.breakdown.by.as_ref().map_or("toInt64(0)".into(), |by| tops.line(by));
        let columns =
            Select::default().named(buckets.start_of(START), " AS bucket").named(line, " AS line").named("grouping(bucket)", " AS whole");
        self.series.iter().fold(columns, |columns, series| columns.column(series.aggregate()))
    }

    /// The chart of `sessions`, which begin in `range`.
    async fn chart(
        &self,
        runner: &mut StatementRunner<'_>,
        sessions: SessionSelection,
        range: &Range,
        tops: &Tops,
    ) -> Result<Chart, QueryError> {
        let buckets = Buckets::of(range, self.interval)?;
        let with_breakdown = self.breakdown.by.is_some();
        let own = if with_breakdown { tops.len() } else { 1 };
        let mut lines: Vec<Lines> = self.series.iter().map(|series| Lines::new(&buckets, own, series.of_nothing())).collect();
        let numbers = sessions.select(self.columns(&buckets, tops)).then(" GROUP BY GROUPING SETS ((bucket, line), (line))");
        let add = |row| lines.iter_mut().enumerate().for_each(|(at, lines)| lines.add(&row, 3 + at, &buckets));
        runner.each(numbers.into(), add).await?;
        let mut chart = Chart::new(range, &buckets, runner.now_ms());
        for (series, lines) in self.series.iter().zip(lines) {
            let head = Head { name: series.name().to_owned(), event: None, math: series.math().to_owned() };
            chart.add(head, with_breakdown.then_some(tops), lines);
        }
        Ok(chart)
    }
}

impl Sessions {
    /// The sessions that begin in the scope and pass the filters.
    fn select(&self, scope: Scope) -> SessionSelection {
        SessionSelection::of(scope).filters(&self.filters)
    }

    /// The largest values of the breakdown; none without one.
    async fn tops(&self, runner: &mut StatementRunner<'_>, numbers: &Numbers) -> Result<Tops, QueryError> {
        let Some(by) = &numbers.breakdown.by else { return Ok(Tops::default()) };
        let sessions = self.select(runner.scope(&self.range)).and(Breakdown::is_ranked(by));
        let ranked = sessions.select(Breakdown::ranking(by, "count()".into())).then(numbers.breakdown.largest());
        Ok(Tops::read(&runner.rows(ranked.into()).await?, by))
    }
}
