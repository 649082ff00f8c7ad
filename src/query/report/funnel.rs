//! Funnels: how far people come along steps, in which time, and where they stop.
//!
//! A statement finds the events that fit steps or exclusions and says of each whose it is, when it was and what it fits; what chains they
//! make is decided here ([`fold`]), by existence and to the letter, whatever order they arrived in. Events may follow the range by as much
//! as the window; nothing after now exists.
//! Cost: one scan of the events of the range and the window behind it, and the order of those that fit: 16 bytes for each, a third of it once
//! memory is short ([`packed`]), or 24 for `sessions` and 12 more with places in the log, which are not packed; and what their different
//! values of `hold` and of a breakdown take, some 35 bytes each. Where
//! that is more than memory may hold (`query.max_memory`) those of some people are folded first and the rest is read again, in up to 64
//! passes; beyond that the question is refused. A breakdown takes another scan for the values; it, `strict`, `totals` and steps that share
//! events take a third one of those who have different events in one millisecond, if there are any: their order in the log tells.
//! May go wrong: the events of one person alone are too many, or their chains take too much work; then the question is refused, too.

mod bar;
mod fold;
mod kinds;
mod lines;
mod outcomes;
mod packed;
mod part;
mod reading;
mod rows;
mod shared;
mod steps;
mod view;

use std::sync::Arc;

use self::bar::{FunnelBar, KEYS as BAR_KEYS};
use self::fold::Order;
use self::lines::Lines;
use self::outcomes::{Attribution, Counting, Outcomes};
use self::reading::{Passes, Reading};
use self::rows::{Columns, Rows};
pub(crate) use self::shared::{MOST_TYPES, Scan, Scanned, read as read_shared};
use self::steps::{Exclusion, Step};
use self::view::{Picture, Shown, View};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::Breakdown;
use crate::query::ask::compare::Compared;
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::fields::shortened;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::interval::{Buckets, Interval};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Fields, Range};
use crate::query::error::{QueryError, nearest};
use crate::query::reader::{StatementRunner, to_json};

/// Most fields that a chain holds.
const MOST_HELD: usize = 5;
/// Most bins of `time_to_convert`, and how many there are by default.
const MOST_BINS: u64 = 1_000;
const BINS: u64 = 20;
/// Most numbers of a trend.
const MOST_CELLS: u64 = 1_000_000;
/// The shortest and the longest window, milliseconds.
const SHORTEST_WINDOW_MS: i64 = 30_000;
const LONGEST_WINDOW_MS: i64 = 366 * 86_400_000;
const WINDOW_MS: i64 = 14 * 86_400_000;

const KEYS: [&str; 18] = [
    "from",
    "to",
    "timezone",
    "filters",
    "steps",
    "window",
    "order",
    "count",
    "exclusions",
    "hold",
    "breakdown",
    "limit",
    "attribution",
    "view",
    "interval",
    "bins",
    "complete_windows_only",
    "compare",
];

/// Of what there is a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Users,
    Sessions,
    Totals,
}

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Funnel {
    whole: Whole,
    filters: Vec<Filter>,
    steps: Vec<Step>,
    window_ms: i64,
    order: Order,
    count: Count,
    exclusions: Vec<Exclusion>,
    hold: Option<Dimensions>,
    breakdown: Breakdown,
    attribution: Attribution,
    view: View,
    interval: Interval,
    complete_windows_only: bool,
    compare: Option<ComparedWhole>,
}

/// A range, and how far events reach that follow an entry in it.
#[derive(Clone, Debug)]
struct Whole {
    range: Range,
    reach: Range,
}

#[derive(Clone, Debug)]
struct ComparedWhole {
    compared: Compared,
    whole: Whole,
}

impl Whole {
    fn of(range: &Range, window_ms: i64) -> Self {
        Self { range: range.clone(), reach: range.and_later(window_ms) }
    }
}

impl Canonical for Funnel {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { whole: Whole { range, reach: _ }, filters, steps, window_ms, order, count, exclusions, hold, .. } = self;
        let Self { breakdown, attribution, view, interval, complete_windows_only, compare, .. } = self;
        to.field("range", range).set("filters", filters).field("steps", steps).field("window_ms", window_ms);
        to.field("order", &ORDERS.word(*order)).field("count", &COUNTS.word(*count)).field("exclusions", exclusions);
        to.field("hold", hold).field("breakdown", breakdown).field("attribution", attribution).field("view", view);
        to.field("interval", interval).field("complete_windows_only", complete_windows_only);
        to.field("compare", &compare.as_ref().map(|compare| &compare.compared));
    }
}

impl Canonical for Attribution {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            Self::First => to.word("first"),
            Self::Last => to.word("last"),
            Self::Step(step) => {
                to.field("step", step);
            }
        }
    }
}

/// Words of a request and what they mean, the default first.
struct Words<T: 'static>(&'static str, &'static [(&'static str, T)]);

const ORDERS: Words<Order> = Words("order", &[("ordered", Order::Ordered), ("strict", Order::Strict), ("unordered", Order::Unordered)]);
const COUNTS: Words<Count> = Words("count", &[("users", Count::Users), ("sessions", Count::Sessions), ("totals", Count::Totals)]);

impl<T: Copy + PartialEq> Words<T> {
    fn parse(&self, fields: Fields<'_>, code: &'static str) -> Result<T, QueryError> {
        let Self(key, words) = self;
        let asked = fields.text(key, code)?;
        let known = || words.iter().map(|(word, _)| *word);
        let word = asked.or(known().next()).unwrap_or_default();
        let found = words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| {
            let hint = nearest(word, known());
            QueryError::invalid(code, format!("unknown {key} `{}`, did you mean `{hint}`?", shortened(word)))
        })
    }

    fn word(&self, meaning: T) -> &'static str {
        self.1.iter().find(|(_, known)| *known == meaning).map_or("", |(word, _)| word)
    }
}

impl Report for Funnel {
    const NAME: &'static str = "funnel";
    const CHEAPER: &'static str = "a shorter range or `window`, or steps with fewer events";
    const SHARES_SCANS: bool = true;
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let range = Range::parse(fields, ask.now_ms)?;
        let (steps, window_ms) = (steps::parse_steps(fields, ask.context)?, window_ms(fields)?);
        let compare = fields.value("compare").map(|value| Compared::parse(value, &range, ask.now_ms)).transpose()?;
        let compare = compare.map(|compared| ComparedWhole { whole: Whole::of(&compared.range, window_ms), compared });
        let funnel = Self {
            whole: Whole::of(&range, window_ms),
            filters: filter::parse_all(fields, ask.context)?,
            exclusions: steps::parse_exclusions(fields, steps.len(), ask.context)?,
            attribution: attribution(fields, steps.len())?,
            steps,
            window_ms,
            order: ORDERS.parse(fields, "invalid_order")?,
            count: COUNTS.parse(fields, "invalid_count")?,
            hold: hold(fields)?,
            breakdown: Breakdown::parse(fields)?,
            view: view(fields)?,
            interval: Interval::parse(fields)?,
            complete_windows_only: fields.flag("complete_windows_only", "invalid_complete_windows_only")?,
            compare,
        };
        funnel.check()?;
        Ok(funnel)
    }

    fn ranges(&self) -> Vec<&Range> {
        self.wholes().map(|whole| &whole.reach).collect()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        let exclusions = self.exclusions.iter().map(|exclusion| &exclusion.events);
        let events: Vec<&steps::Events> = self.steps.iter().map(|step| &step.events).chain(exclusions).collect();
        let mut sets = Vec::new();
        for whole in self.wholes() {
            for (index, events) in events.iter().enumerate() {
                sets.extend(events.sets(if index == 0 { &whole.range } else { &whole.reach }, &self.filters));
            }
        }
        sets
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        self.answered(runner, None).await
    }

    fn scan(&self, now_ms: i64) -> Option<Scan> {
        self.scan_at(now_ms)
    }

    async fn answer_scanned(&self, runner: &mut StatementRunner<'_>, scanned: Scanned) -> Result<Vec<u8>, QueryError> {
        self.answered(runner, Some(scanned.rows)).await
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(FunnelBar::parse(self, bar)?))
    }
}

impl Funnel {
    /// The answer; `scanned` are the events of the range where they were read already.
    async fn answered(&self, runner: &mut StatementRunner<'_>, scanned: Option<Rows>) -> Result<Vec<u8>, QueryError> {
        let outcomes = self.outcomes(runner, &self.whole, scanned).await?;
        let lines = self.lines(runner, &outcomes).await?;
        let mut shown = self.shown(runner.now_ms(), &self.whole.range, &outcomes, &lines)?;
        if let Some(ComparedWhole { whole, .. }) = &self.compare {
            let outcomes = self.outcomes(runner, whole, None).await?;
            shown.compare = Some(Box::new(self.shown(runner.now_ms(), &whole.range, &outcomes, &lines)?));
        }
        to_json(&shown)
    }

    fn check(&self) -> Result<(), QueryError> {
        if self.count == Count::Totals && self.order != Order::Ordered {
            let message = format!("`count` `totals` knows the order `ordered`, not `{}`", ORDERS.word(self.order));
            return Err(QueryError::invalid("invalid_order", message));
        }
        if self.view != View::Trend {
            return Ok(());
        }
        let mut buckets = 0;
        for whole in self.wholes() {
            buckets += Buckets::of(&whole.range, self.interval)?.len() as u64;
        }
        if buckets * self.breakdown.most_lines() * 3 > MOST_CELLS {
            return Err(QueryError::invalid("too_many_buckets", format!("the answer would have more than {MOST_CELLS} numbers")));
        }
        Ok(())
    }

    /// That of the funnel, then that of the one it is compared with.
    fn wholes(&self) -> impl Iterator<Item = &Whole> {
        std::iter::once(&self.whole).chain(self.compare.as_ref().map(|compare| &compare.whole))
    }

    /// Until when events are looked at: nothing after now exists.
    fn seen(&self, whole: &Whole, now_ms: i64) -> Option<Range> {
        let until_ms = whole.reach.until_ms.min(now_ms.saturating_add(1));
        Range::of(whole.reach.from_ms, until_ms, whole.range.zone.clone()).ok()
    }

    fn counting(&self, whole: &Whole, now_ms: i64) -> Counting {
        let complete_ms = if self.complete_windows_only { now_ms - self.window_ms } else { now_ms };
        let until_ms = whole.range.until_ms.min(complete_ms.saturating_add(1));
        let optional = self.steps.iter().enumerate().filter(|(_, step)| step.is_optional).fold(0, |bits, (index, _)| bits | 1 << index);
        let funnel = fold::Funnel {
            steps: self.steps.len(),
            optional,
            order: self.order,
            window_ms: self.window_ms,
            exclusions: self.exclusions.iter().map(|exclusion| exclusion.between).collect(),
            entries: whole.range.from_ms..until_ms,
        };
        Counting { funnel, attribution: self.attribution, each_attempt: self.count == Count::Totals, places_matter: self.places_matter() }
    }

    /// How far all came who entered in the range of `whole`. Of those alone whose outcome depends on them events are read once more, with
    /// their places in the log: most questions need none of them, and they are a third of what is read.
    async fn outcomes(&self, runner: &mut StatementRunner<'_>, whole: &Whole, scanned: Option<Rows>) -> Result<Outcomes, QueryError> {
        let mut outcomes = Outcomes::new(runner.memory());
        let Some(seen) = self.seen(whole, runner.now_ms()) else { return Ok(outcomes) };
        let counting = Arc::new(self.counting(whole, runner.now_ms()));
        let mut question = Passes { funnel: self, seen, counting, outcomes: &mut outcomes, shares_memory: scanned.is_some() };
        question.run(runner, Reading { columns: self.columns(), keys: None }, scanned).await?;
        let tied = question.outcomes.take_tied();
        if !tied.is_empty() {
            let columns = Columns { place: true, ..self.columns() };
            question.run(runner, Reading { columns, keys: Some(tied) }, None).await?;
        }
        Ok(outcomes)
    }

    /// The lines of the funnel; those of what it is compared with are the same.
    async fn lines(&self, runner: &mut StatementRunner<'_>, outcomes: &Outcomes) -> Result<Lines, QueryError> {
        let seen = self.seen(&self.whole, runner.now_ms()).unwrap_or_else(|| self.whole.reach.clone());
        let events = self.attributed_events(runner.scope(&seen));
        Lines::find(runner, &self.breakdown, events, outcomes).await
    }

    fn shown(&self, now_ms: i64, range: &Range, outcomes: &Outcomes, lines: &Lines) -> Result<Shown, QueryError> {
        let picture = Picture { steps: &self.steps, outcomes, lines, by_number: self.order == Order::Unordered };
        Ok(match self.view {
            View::Steps => picture.steps(),
            View::TimeToConvert(bins) => picture.times(bins),
            View::Trend => picture.trend(range, &Buckets::of(range, self.interval)?, now_ms),
        })
    }
}

/// Reads `window`.
fn window_ms(fields: Fields<'_>) -> Result<i64, QueryError> {
    window_of(fields.text("window", "invalid_window")?)
}

/// The window that is written as `text`, or the one of a funnel that names none, milliseconds.
pub(crate) fn window_of(text: Option<&str>) -> Result<i64, QueryError> {
    let Some(text) = text else { return Ok(WINDOW_MS) };
    let unit_ms = |unit: &str| match unit {
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(7 * 86_400_000),
        _ => None,
    };
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let window_ms = number.parse::<i64>().ok().zip(unit_ms(unit)).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    let is_inside = |window_ms: &i64| (SHORTEST_WINDOW_MS..=LONGEST_WINDOW_MS).contains(window_ms);
    window_ms.filter(is_inside).ok_or_else(|| {
        let message = format!("`window` must be from 30s to 366d, in s, m, h, d or w, not `{}`", shortened(text));
        QueryError::invalid("invalid_window", message)
    })
}

/// Reads `attribution` of a funnel of `steps` steps.
fn attribution(fields: Fields<'_>, steps: usize) -> Result<Attribution, QueryError> {
    let word = fields.text("attribution", "invalid_attribution")?.unwrap_or("first");
    let step = || word.strip_prefix("step:")?.parse::<usize>().ok().filter(|step| (1..=steps).contains(step));
    match word {
        "first" => Ok(Attribution::First),
        "last" => Ok(Attribution::Last),
        _ => step().map(|step| Attribution::Step(step - 1)).ok_or_else(|| {
            let message = format!("`attribution` is first, last or step:1 to step:{steps}, not `{}`", shortened(word));
            QueryError::invalid("invalid_attribution", message)
        }),
    }
}

/// Reads `hold`.
fn hold(fields: Fields<'_>) -> Result<Option<Dimensions>, QueryError> {
    match fields.list("hold", "invalid_hold")? {
        [] => Ok(None),
        names => Dimensions::parse_up_to(MOST_HELD, "hold", names).map(Some),
    }
}

/// Reads `view` and `bins`.
fn view(fields: Fields<'_>) -> Result<View, QueryError> {
    let bins = fields.limit("bins", BINS, MOST_BINS)? as usize;
    match fields.text("view", "invalid_view")? {
        None | Some("steps") => Ok(View::Steps),
        Some("time_to_convert") => Ok(View::TimeToConvert(bins)),
        Some("trend") => Ok(View::Trend),
        Some(other) => {
            let message = format!("unknown view `{}`: expected steps, time_to_convert or trend", shortened(other));
            Err(QueryError::invalid("invalid_view", message))
        }
    }
}
