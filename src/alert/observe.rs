//! The question of a rule, and the numbers of slots in its answer.
//!
//! Promise: the same function reads what the live engine and a back-test are answered, so both judge the same numbers. A slot for which
//! the answer has no bucket has no number.

mod checks;
mod lines;
mod ratio;
mod touched;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use self::lines::{has_other, is_line, name_of, of_all, of_chart, paired, start_of, starts};
use super::rule::{BOARD, Rule, short};
use crate::query::notes::Unusual;
use crate::query::value_of_formula;

/// What is told apart by where numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A report of `POST /v1/query/…`.
    Report,
    /// The minutes of the ledger.
    Ledger,
    /// How far complete answers are behind the clock.
    Lag,
    /// The tiles of a board.
    Board,
}

/// A span of slots: the starts of the first and of the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
}

/// The numbers of one line by slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) values: BTreeMap<i64, f64>,
    /// How much is behind each number, where the report says it.
    pub(crate) counts: BTreeMap<i64, f64>,
}

/// What an answer says, by line: its breakdown as JSON, or nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) lines: BTreeMap<String, Series>,
    /// What stands for a line that is not in the answer.
    pub(crate) absent: Option<f64>,
    /// Lines beyond those that are watched.
    pub(crate) left_out: usize,
    /// Slots that were not as ever, as somebody says.
    pub(crate) unusual: BTreeSet<i64>,
    /// Where the answer has the largest lines only: the sum of the smallest of them. One that is not in it has no more.
    pub(crate) least: Option<f64>,
    /// What a board has instead of lines.
    pub(crate) tiles: Vec<ObservedTile>,
}

/// A tile of a board.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ObservedTile {
    pub(crate) title: String,
    pub(crate) lines: BTreeMap<String, Series>,
    /// Why there are none.
    pub(crate) problem: String,
}

/// How the numbers of a tile are asked for.
#[derive(Debug)]
pub(crate) enum OfTile {
    /// As a rule about its report would.
    Slots(Box<Rule>),
    /// Its report has one number for all of a time, and so it is asked about each slot by itself.
    Whole,
    /// It has none.
    Nothing(String),
}

/// Keys of a tile's question that say how a chart is cut and drawn.
const OF_CHART: [&str; 14] = [
    "as_of",
    "from",
    "to",
    "timezone",
    "interval",
    "compare",
    "view",
    "cumulative",
    "moving_average",
    "bins",
    "period",
    "periods",
    "refresh",
    "limit",
];

const DAY_MS: i64 = 86_400_000;
/// Most numbers of an answer, as reports have it.
pub(crate) const MOST_CELLS: usize = 1_000_000;
/// A time of which slots are as long as of any other.
const SOME_TIME_MS: i64 = 1_700_000_000_000;
/// Maths of trends by which events themselves, their users or sessions are counted.
const COUNTS: [&str; 3] = ["total", "unique_users", "unique_sessions"];
/// Others that are 0 where there are no events, beside `unique:FIELD`.
const ALSO_NONE: [&str; 5] = ["sum", "dau", "wau", "mau", "first_time_users"];
/// Maths of sessions of which there are none where there are no sessions.
const COUNTS_OF_SESSIONS: [&str; 2] = ["sessions", "visitors"];

impl Rule {
    /// Where its numbers come from.
    pub(crate) fn source(&self) -> Source {
        match self.body.report.as_str() {
            "ledger" => Source::Ledger,
            "lag" => Source::Lag,
            BOARD => Source::Board,
            _ => Source::Report,
        }
    }

    /// The request about a span of slots.
    pub(crate) fn question(&self, span: Span) -> Value {
        let mut question = self.body.question.clone();
        let interval = self.interval.name();
        question.insert("timezone".to_owned(), self.body.timezone.clone().into());
        question.insert("from".to_owned(), instant(span.from_ms).into());
        question.insert("to".to_owned(), instant(span.until_ms).into());
        match self.body.report.as_str() {
            "retention" => {
                // A cohort is as old as the period that is watched when the slot is over.
                let (back, periods) = (self.period(), self.period() + 1);
                let from = (0..back).try_fold(span.from_ms, |slot, _| self.interval.start_ms(slot - 1, &self.zone));
                let until = (0..back).try_fold(span.until_ms, |slot, _| self.interval.start_ms(slot - 1, &self.zone));
                question.insert("from".to_owned(), instant(from.unwrap_or(span.from_ms)).into());
                question.insert("to".to_owned(), instant(until.unwrap_or(span.until_ms)).into());
                question.insert("period".to_owned(), interval.into());
                question.insert("periods".to_owned(), periods.into());
            }
            "funnel" => {
                question.insert("view".to_owned(), "trend".into());
                question.insert("interval".to_owned(), interval.into());
            }
            _ => {
                question.insert("interval".to_owned(), interval.into());
            }
        }
        if question.contains_key("breakdown") {
            question.entry("limit").or_insert_with(|| self.body.max_groups.into());
        }
        Value::Object(question)
    }

    /// The parameters of the ledger for a span.
    pub(crate) fn ledger_query(&self, span: Span) -> String {
        let (from, to, interval) = (instant(span.from_ms), instant(span.until_ms), self.interval.name().to_owned());
        let parameters = [("from", from), ("to", to), ("interval", interval), ("timezone", self.body.timezone.clone())];
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
    }

    /// The request for how much is behind each number, where the answer does not say it. It has the same lines: of a breakdown the values
    /// with the highest average are not those with the most events.
    pub(crate) fn count_question(&self, span: Span) -> Option<Value> {
        if !self.needs_counts() {
            return None;
        }
        let mut question = self.question(span);
        let counted = match self.body.report.as_str() {
            "sessions" => json!({"math": "sessions"}),
            "trends" => {
                let watched = self.watched_series()?;
                let is_count = question.get("formula").is_some() && COUNTS.contains(&math_of(watched));
                let of_events = |key: &str| matches!(key, "event" | "filters") || is_count && key == "math";
                let kept = watched.iter().filter(|(key, _)| of_events(key)).map(|(key, value)| (key.clone(), value.clone()));
                let mut counted: Map<String, Value> = kept.collect();
                counted.entry("math").or_insert_with(|| "total".into());
                Value::Object(counted)
            }
            _ => return None,
        };
        let question_of = question.as_object_mut()?;
        question_of.remove("formula");
        match self.ranked_by().filter(|_| self.counts_apart()) {
            // Of a formula the lines are the largest of its first series.
            Some(ranked) => {
                question_of.insert("series".to_owned(), json!([ranked, counted]));
                question_of.insert("formula".to_owned(), "B".into());
            }
            None => drop(question_of.insert("series".to_owned(), json!([counted]))),
        }
        Some(question)
    }

    /// Whether how much is behind the numbers of several lines is asked by a question of its own.
    fn counts_apart(&self) -> bool {
        self.needs_counts() && self.body.report == "trends" && self.has_breakdown() && self.has_room_for_two()
    }

    /// Whether an answer of two series may have all that one verdict looks back on. Where it may not, how much is behind the numbers is asked
    /// alone, of the lines with the most of it.
    fn has_room_for_two(&self) -> bool {
        let some_slot = self.interval.start_ms(SOME_TIME_MS, &self.zone).unwrap_or_default();
        self.slots_back(some_slot).saturating_mul(2).saturating_mul(self.most_lines()) <= MOST_CELLS
    }

    /// The series of trends whose largest values are the lines.
    fn ranked_by(&self) -> Option<&Map<String, Value>> {
        let is_formula = self.body.question.get("formula").is_some_and(Value::is_string);
        if is_formula { self.series().next() } else { self.watched_series() }
    }

    fn has_breakdown(&self) -> bool {
        self.body.question.get("breakdown").is_some_and(|breakdown| !breakdown.is_null())
    }

    /// Most lines of an answer, what is beyond the limit and what has no value included.
    pub(crate) fn most_lines(&self) -> usize {
        if !self.has_breakdown() {
            return 1;
        }
        let limit = self.body.question.get("limit").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
        limit.unwrap_or(self.body.max_groups).saturating_add(2)
    }

    /// Most numbers of an answer for each of its slots, as reports count them.
    pub(crate) fn numbers_of_slot(&self) -> usize {
        self.numbers_of_line().saturating_mul(self.most_lines())
    }

    /// The same, for each of its lines.
    pub(crate) fn numbers_of_line(&self) -> usize {
        match self.body.report.as_str() {
            "funnel" => 3,
            "lifecycle" => 4,
            "retention" => self.body.at as usize + 1,
            // How much is behind them is asked with two.
            _ => self.series().count().max(if self.counts_apart() { 2 } else { 1 }),
        }
    }

    /// The series of the question.
    fn series(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.body.question.get("series").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    /// The series of trends that is watched: the one that `line` names, or the first; of a formula the one that it divides by first.
    fn watched_series(&self) -> Option<&Map<String, Value>> {
        if let Some(formula) = self.body.question.get("formula").and_then(Value::as_str) {
            let divisor = formula.split_once('/').and_then(|(_, behind)| behind.bytes().find(u8::is_ascii_uppercase));
            return self.series().nth(usize::from(divisor.unwrap_or(b'A') - b'A'));
        }
        self.series().find(|series| self.body.line.is_empty() || name_of_series(series) == self.body.line)
    }

    /// What `line` may be; none if anything may.
    fn names_of_lines(&self) -> Option<Vec<&str>> {
        let formula = self.body.question.get("formula").and_then(Value::as_str);
        match self.body.report.as_str() {
            "trends" => Some(formula.map_or_else(|| self.series().map(name_of_series).collect(), |formula| vec![formula])),
            "sessions" if self.series().next().is_none() => Some(vec!["sessions"]),
            "sessions" => Some(self.series().map(name_of_sessions).collect()),
            "lifecycle" => Some(vec!["new", "returning", "resurrected", "dormant"]),
            _ => None,
        }
    }

    /// Which period of a cohort is watched.
    fn period(&self) -> u64 {
        u64::from(self.body.at)
    }

    /// The numbers in an answer: its `result`, or a ledger.
    pub(crate) fn observe(&self, result: &Value) -> Observed {
        let mut lines = match self.body.report.as_str() {
            "funnel" => self.of_funnel(result),
            "retention" => self.of_cohorts(result),
            "ledger" => self.of_ledger(result),
            _ if self.report_at.is_some() => of_all(result),
            _ => of_chart(result, Some(&self.body.line).filter(|line| !line.is_empty()).map(String::as_str)),
        };
        if matches!(self.body.report.as_str(), "ledger" | "lifecycle") {
            // These numbers are themselves how much there is; those who stay away are below 0.
            lines.values_mut().for_each(|series| series.counts = series.values.iter().map(|(slot, value)| (*slot, value.abs())).collect());
        }
        let left_out = lines.len().saturating_sub(self.body.max_groups);
        if left_out > 0 {
            // The answer has the largest lines first, but the map does not know: those with the largest sums stay.
            let mut sums: Vec<(f64, String)> = lines.iter().map(|(name, series)| (series.values.values().sum(), name.clone())).collect();
            sums.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            sums.into_iter().skip(self.body.max_groups).for_each(|(_, name)| drop(lines.remove(&name)));
        }
        let is_cut = left_out > 0 || ["series", "groups", "cohorts"].iter().any(|kind| has_other(result.get(kind)));
        let sums = lines.values().map(|series| series.values.values().sum());
        let least = is_cut.then(|| sums.reduce(f64::min).unwrap_or_default());
        Observed { lines, absent: self.absent(is_cut), left_out, least, ..Observed::default() }
    }

    /// The board that is told; empty if there is none.
    pub(crate) fn board(&self) -> &str {
        self.body.question.get("board").and_then(Value::as_str).unwrap_or_default()
    }

    /// How the numbers of a tile are asked for.
    pub(crate) fn of_tile(&self, report: &str, question: &Map<String, Value>) -> OfTile {
        match report {
            "stickiness" | "paths" => OfTile::Whole,
            "trends" | "sessions" | "lifecycle" | "funnel" | "retention" => {
                let mut body = self.body.clone();
                report.clone_into(&mut body.report);
                body.question = question.clone();
                body.question.retain(|key, value| !OF_CHART.contains(&key.as_str()) && !value.is_null());
                match body.check() {
                    Ok(rule) => OfTile::Slots(Box::new(rule)),
                    Err(problem) => OfTile::Nothing(problem.to_string()),
                }
            }
            _ => OfTile::Nothing(format!("`{}` has no numbers", short(report))),
        }
    }

    /// The request about one slot, of a report that has one number for it.
    pub(crate) fn whole_question(&self, question: &Map<String, Value>, slot: Span) -> Value {
        let mut question = question.clone();
        question.retain(|key, _| !matches!(key.as_str(), "as_of" | "compare" | "refresh"));
        question.insert("timezone".to_owned(), self.body.timezone.clone().into());
        question.insert("from".to_owned(), instant(slot.from_ms).into());
        question.insert("to".to_owned(), instant(slot.until_ms).into());
        Value::Object(question)
    }

    /// The slots of a span that notes are about.
    pub(crate) fn unusual(&self, noted: Vec<Unusual>, span: Span) -> BTreeSet<i64> {
        let mut times: Vec<[i64; 2]> = noted.into_iter().filter_map(|noted| self.noted(noted)).collect();
        times.sort_unstable();
        let (mut slots, mut done_ms) = (BTreeSet::new(), span.from_ms);
        for [from_ms, until_ms] in times {
            // What notes have in common is gone through once.
            let mut slot = self.interval.start_ms(from_ms.max(done_ms), &self.zone);
            while let Some(at) = slot.filter(|at| *at < until_ms.min(span.until_ms)) {
                slots.insert(at);
                slot = self.next_slot(at);
            }
            done_ms = done_ms.max(until_ms);
        }
        slots
    }

    /// From when until when a note is: whole days in the zone of the rule, or its own time, which is a slot where it has no end.
    fn noted(&self, Unusual { is_holiday, at_ms, until_ms }: Unusual) -> Option<[i64; 2]> {
        if !is_holiday {
            return Some([at_ms, until_ms.unwrap_or(at_ms + 1)]);
        }
        // Midnight in UTC is what a date alone is read as: that date is meant, wherever it is.
        let is_date = |at_ms: i64| at_ms.rem_euclid(DAY_MS) == 0;
        let date = |at_ms: i64| {
            let zone = if is_date(at_ms) { TimeZone::UTC } else { self.zone.clone() };
            Some(Timestamp::from_millisecond(at_ms).ok()?.to_zoned_datetime(zone).date())
        };
        let end = match until_ms {
            Some(until_ms) if is_date(until_ms) => date(until_ms)?,
            until_ms => date(until_ms.unwrap_or(at_ms))?.tomorrow().ok()?,
        };
        let midnight = |date: Date| Some(date.to_zoned_datetime(self.zone.clone()).ok()?.timestamp().as_millisecond());
        Some([midnight(date(at_ms)?)?, midnight(end)?])
    }

    /// Takes over how much is behind each number from the answer to [`Self::count_question`].
    pub(crate) fn count(&self, observed: &mut Observed, result: &Value) {
        let counted = of_chart(result, None);
        for (name, series) in &mut observed.lines {
            series.counts = counted.get(name).map(|counted| counted.values.clone()).unwrap_or_default();
        }
    }

    /// What the number of a line is that is not in an answer, which is cut where it has the largest lines only.
    fn absent(&self, is_cut: bool) -> Option<f64> {
        let is_none = |math: &str| COUNTS.contains(&math) || ALSO_NONE.contains(&math) || math.starts_with("unique:");
        let formula = self.body.question.get("formula").and_then(Value::as_str);
        let is_count = match (self.body.report.as_str(), formula) {
            ("trends", Some(formula)) => {
                let none: Vec<Option<f64>> = self.series().map(|series| is_none(math_of(series)).then_some(0.0)).collect();
                // Of a line that is cut off the parts are not known to be 0.
                return if is_cut { None } else { value_of_formula(formula, &none) };
            }
            ("trends", None) => self.watched_series().is_some_and(|series| is_none(math_of(series))),
            ("sessions", _) => {
                let is_watched = |series: &&Map<String, Value>| self.body.line.is_empty() || name_of_sessions(series) == self.body.line;
                self.series().find(is_watched).is_none_or(|series| COUNTS_OF_SESSIONS.contains(&math_of_sessions(series)))
            }
            _ => false,
        };
        is_count.then_some(0.0)
    }

    fn of_funnel(&self, result: &Value) -> BTreeMap<String, Series> {
        let buckets = starts(result.get("buckets"));
        let groups = result.get("groups").and_then(Value::as_array).into_iter().flatten();
        let group = |group: &Value| {
            let values = paired(&buckets, group.get("rate"));
            Series { values, counts: paired(&buckets, group.get("entered")) }
        };
        groups.filter(|shown| is_line(shown)).map(|shown| (name_of(shown), group(shown))).collect()
    }

    fn of_cohorts(&self, result: &Value) -> BTreeMap<String, Series> {
        let mut lines: BTreeMap<String, Series> = BTreeMap::new();
        for cohort in result.get("cohorts").and_then(Value::as_array).into_iter().flatten().filter(|cohort| is_line(cohort)) {
            let start = cohort.get("start").and_then(start_of);
            let slot = start.and_then(|start| (0..self.period()).try_fold(start, |slot, _| self.next_slot(slot)));
            let size = cohort.get("size").and_then(Value::as_f64).unwrap_or_default();
            let back = cohort.get("values").and_then(|values| values.get(usize::try_from(self.period()).ok()?)?.as_f64());
            let Some(slot) = slot else { continue };
            let line = lines.entry(name_of(cohort)).or_default();
            line.counts.insert(slot, size);
            if let (true, Some(back)) = (size > 0.0, back) {
                line.values.insert(slot, back / size);
            }
        }
        lines
    }

    fn of_ledger(&self, result: &Value) -> BTreeMap<String, Series> {
        let outcome = self.body.question.get("outcome").and_then(Value::as_str).unwrap_or("dead");
        let mut series = Series::default();
        for minute in result.get("minutes").and_then(Value::as_array).into_iter().flatten() {
            let at = minute.get("minute").and_then(start_of);
            let slot = at.and_then(|at| self.interval.start_ms(at, &self.zone));
            let number = minute.get(outcome).and_then(Value::as_f64).unwrap_or_default();
            slot.into_iter().for_each(|slot| *series.values.entry(slot).or_default() += number);
        }
        BTreeMap::from([(String::new(), series)])
    }

    /// The slot that would be judged last at `now_ms`.
    pub(crate) fn newest_span(&self, now_ms: i64) -> Span {
        let newest = self.closed_slot(now_ms - self.delay_ms()).unwrap_or(now_ms);
        Span { from_ms: newest, until_ms: self.next_slot(newest).unwrap_or(now_ms) }
    }
}

/// What trends call a series.
fn name_of_series(series: &Map<String, Value>) -> &str {
    text_of(series, "name").or_else(|| text_of(series, "event")).unwrap_or("any event")
}

/// What sessions call a series.
fn name_of_sessions(series: &Map<String, Value>) -> &str {
    text_of(series, "name").unwrap_or_else(|| math_of_sessions(series))
}

fn math_of_sessions(series: &Map<String, Value>) -> &str {
    text_of(series, "math").unwrap_or("sessions")
}

fn math_of(series: &Map<String, Value>) -> &str {
    text_of(series, "math").unwrap_or("total")
}

fn text_of<'a>(series: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    series.get(key).and_then(Value::as_str)
}

/// The numbers of a report that has one for all of a time, by line.
pub(crate) fn of_whole(report: &str, result: &Value) -> BTreeMap<String, f64> {
    let list = |key: &str| result.get(key).and_then(Value::as_array).into_iter().flatten();
    if report == "paths" {
        let begin = list("nodes").filter(|node| node.get("step").and_then(Value::as_u64) == Some(1));
        let sessions: f64 = begin.filter_map(|node| node.get("sessions").and_then(Value::as_f64)).sum();
        return BTreeMap::from([("sessions".to_owned(), sessions)]);
    }
    let total = |series: &Value| Some((name_of(series), series.get("total").and_then(Value::as_f64)?));
    list("series").filter_map(total).collect()
}

/// A time as requests write it.
pub(crate) fn instant(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
