//! The ledger: how every event ended, as the books in the table and the log together say.
//!
//! Books and watermarks come from one statement, so from one state of the table (with several shards, of each: a log partition
//! is in one of them); the log is then asked for what lies above
//! those very watermarks. That is why `received = stored + duplicate + filtered + dead + waiting` holds at any instant: an
//! event is on exactly one side of a watermark.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::{Ask, Report, Route};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::query::ask::fields::shortened;
use crate::query::ask::interval::Interval;
use crate::query::ask::range::{self, LATEST_MS};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Range};
use crate::query::error::QueryError;
use crate::query::pending::{Backlog, PendingTally, Watermark};
use crate::query::reader::StatementRunner;
use crate::query::sql::Statement;

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    project_name: String,
    period: Period,
    /// By what it is told; minutes where nothing is said.
    interval: Option<Interval>,
    zone: TimeZone,
}

/// What of a project's books is asked for.
#[derive(Clone, Copy, Debug)]
struct Period {
    /// First minute of receipt, milliseconds since 1970.
    from_ms: i64,
    /// The minute of receipt after the last one.
    to_ms: i64,
    /// One import run; all events without one.
    source: Option<u64>,
}

impl Period {
    fn takes(self, tally: &PendingTally) -> bool {
        (self.from_ms..self.to_ms).contains(&tally.minute_ms) && self.source.is_none_or(|source| source == tally.source)
    }

    /// Its bounds as the store takes them: a shard reads a later time back as another one, and then its columns have other names than
    /// those asked for.
    fn bounds(self) -> (i64, i64) {
        (self.from_ms.clamp(0, LATEST_MS), self.to_ms.clamp(0, LATEST_MS))
    }
}

impl Canonical for Ledger {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { project_name: _, period: Period { from_ms, to_ms, source }, interval, zone } = self;
        to.field("from", from_ms).field("to", to_ms).field("source", source);
        to.field("interval", interval).field("zone", &zone.iana_name());
    }
}

impl Report for Ledger {
    const NAME: &'static str = "ledger";
    const ROUTE: Route = Route::Get("/v1/ledger");
    const IS_KEPT: bool = false;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let mut period = Period { from_ms: 0, to_ms: i64::MAX / 2, source: None };
        let (mut interval, mut zone) = (None, TimeZone::UTC);
        for (key, value) in ask.parameters() {
            let shown = shortened(value);
            let invalid = || QueryError::invalid("invalid_range", format!("`{key}` is `{shown}`, which cannot be read"));
            let time = || range::instant_in_utc(value, ask.now_ms).ok_or_else(invalid);
            match key {
                "from" => period.from_ms = time()?,
                "to" => period.to_ms = time()?,
                "run" => period.source = Some(value.parse().map_err(|_| invalid())?),
                "interval" => interval = Some(Interval::named(value)?),
                "timezone" => {
                    let problem = |_| QueryError::invalid("invalid_timezone", format!("unknown IANA time zone `{shown}`"));
                    zone = TimeZone::get(value).map_err(problem)?;
                }
                _ => {
                    let message = format!("unknown parameter `{}`: from, to, run, interval and timezone are known", shortened(key));
                    return Err(QueryError::invalid("invalid_parameter", message));
                }
            }
        }
        range::check_order(period.from_ms, period.to_ms)?;
        Ok(Self { project_name: ask.project_name.to_owned(), period, interval, zone })
    }

    /// None: it is about receipt, and never kept.
    fn ranges(&self) -> Vec<&Range> {
        Vec::new()
    }

    /// None: it counts whatever was received.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let (project, period) = (runner.project(), self.period);
        let step = self.step();
        let (mut times, watermarks) = books(runner, period, step).await?;
        let Backlog { tallies, lags } = runner.backlog(&watermarks).await?;
        for tally in tallies.iter().filter(|tally| tally.project == project && period.takes(tally)) {
            let sums = times.entry(step.start_ms(tally.minute_ms)).or_default();
            sums.waiting += tally.events;
            *sums.by_name.entry("rejected".to_owned()).or_default() += tally.rejected;
        }
        for (at_ms, reason, copies) in copies(runner, period, step).await {
            if let Some(sums) = times.get_mut(&at_ms) {
                sums.count_copies(&reason, copies);
            }
        }
        let lag = lag_json(project, &tallies, lags.iter().any(|lag| lag.is_estimated), runner.now_ms());
        Ok(self.to_json(&self.starts(times), lag, runner.latency()).to_string().into_bytes())
    }
}

/// Most minutes shown where no interval is asked for: a day. Totals are over the whole range all the same.
const MAX_MINUTES: usize = 1_440;
/// Most intervals shown: as many as a chart may have.
const MAX_INTERVALS: usize = 20_000;

/// How long the times are that the store sums up: the clock of no zone is moved by parts of a quarter of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Minute,
    Quarter,
}

impl Step {
    const fn ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Quarter => 900_000,
        }
    }

    fn start_ms(self, at_ms: i64) -> i64 {
        at_ms - at_ms.rem_euclid(self.ms())
    }

    /// The start of that of a receipt in milliseconds, in SQL.
    const fn of_receipt(self) -> &'static str {
        match self {
            Self::Minute => "intDiv(toUnixTimestamp64Milli(received_at), 60000) * 60000",
            Self::Quarter => "intDiv(toUnixTimestamp64Milli(received_at), 900000) * 900000",
        }
    }

    /// The start of that of a time, in SQL.
    const fn of_time(self) -> &'static str {
        match self {
            Self::Minute => "timestamp",
            Self::Quarter => "toStartOfInterval(timestamp, INTERVAL 15 MINUTE, 'UTC')",
        }
    }
}

impl Ledger {
    fn step(&self) -> Step {
        match self.interval {
            None | Some(Interval::Minute) => Step::Minute,
            Some(_) => Step::Quarter,
        }
    }

    /// Sums by interval instead of by step.
    fn starts(&self, times: BTreeMap<i64, Sums>) -> BTreeMap<i64, Sums> {
        let Some(interval) = self.interval else { return times };
        let mut starts: BTreeMap<i64, Sums> = BTreeMap::new();
        for (at_ms, sums) in times {
            // A time beyond the years that there are has no interval, and nothing is received then.
            let start_ms = interval.start_ms(at_ms, &self.zone).unwrap_or(at_ms);
            starts.entry(start_ms).or_default().add(&sums);
        }
        starts
    }
}

/// The sums of one project, minute or range.
#[derive(Clone, Debug, Default)]
struct Sums {
    by_name: BTreeMap<String, u64>,
    waiting: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        for (name, number) in &other.by_name {
            *self.by_name.entry(name.clone()).or_default() += number;
        }
        self.waiting += other.waiting;
    }

    fn of(&self, outcome: &str) -> u64 {
        let is_of = |name: &str| name == outcome || name.strip_prefix(outcome).is_some_and(|rest| rest.starts_with(':'));
        self.by_name.iter().filter(|(name, _)| is_of(name)).map(|(_, number)| number).sum()
    }

    /// Letters about lines that had one already: what the books call dead is a duplicate.
    fn count_copies(&mut self, reason: &str, copies: u64) {
        // A letter may be stored a moment before the block that counts it.
        let Some(dead) = self.by_name.get_mut(&format!("dead:{reason}")) else { return };
        let copies = copies.min(*dead);
        *dead -= copies;
        *self.by_name.entry("duplicate".to_owned()).or_default() += copies;
    }

    fn reasons(&self, outcome: &str) -> Map<String, Value> {
        let prefix = format!("{outcome}:");
        self.by_name.iter().filter_map(|(name, number)| Some((name.strip_prefix(&prefix)?.to_owned(), (*number).into()))).collect()
    }

    fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("received".to_owned(), (self.of("received") + self.waiting).into());
        for outcome in ["stored", "duplicate", "filtered", "rejected", "dead"] {
            json.insert(outcome.to_owned(), self.of(outcome).into());
        }
        json.insert("waiting".to_owned(), self.waiting.into());
        json
    }
}

impl Ledger {
    fn to_json(&self, times: &BTreeMap<i64, Sums>, lag: Value, latency_ms: Value) -> Value {
        let mut total = Sums::default();
        times.values().for_each(|sums| total.add(sums));
        let mut total_json = total.to_json();
        total_json.insert("conflict".to_owned(), total.of("conflict").into());
        for outcome in ["filtered", "rejected", "dead"] {
            total_json.insert(format!("{outcome}_by_reason"), Value::Object(total.reasons(outcome)));
        }
        let mut project = Map::from_iter([("project".to_owned(), Value::from(self.project_name.as_str()))]);
        project.extend(total.to_json());
        let most = if self.interval.is_some() { MAX_INTERVALS } else { MAX_MINUTES };
        let skipped = times.len().saturating_sub(most);
        let minutes: Vec<Value> = times.iter().skip(skipped).map(|(at_ms, sums)| minute_json(*at_ms, sums)).collect();
        json!({"total": total_json, "projects": [project], "minutes": minutes, "lag": lag, "latency_ms": latency_ms})
    }
}

/// Letters about lines that had one already, by time of receipt and reason. Of one import run they stay what they are: dead. While
/// the letters cannot be read the ledger leaves them out: the books stand without them.
async fn copies(runner: &mut StatementRunner<'_>, period: Period, step: Step) -> Vec<(i64, String, u64)> {
    if period.source.is_some() {
        return Vec::new();
    }
    let (from_ms, to_ms) = period.bounds();
    let statement = Statement::default()
        .sql("SELECT ")
        .sql(step.of_receipt())
        .sql(", reason, count() FROM dead_letters FINAL WHERE project_id = ")
        .uint(runner.project().0)
        .sql(" AND is_copy = 1 AND toStartOfMinute(received_at) >= fromUnixTimestamp64Milli(")
        .int(from_ms)
        .sql(") AND toStartOfMinute(received_at) < fromUnixTimestamp64Milli(")
        .int(to_ms)
        .sql(") GROUP BY ALL");
    let rows = runner.rows(statement).await.unwrap_or_else(|problem| {
        tracing::debug!(%problem, "ledger without copies of letters");
        Vec::new()
    });
    let copies = rows.iter().map(|row| {
        let [minute_ms, reason, copies] = row.columns();
        (minute_ms.int(), reason.text().to_owned(), copies.uint())
    });
    copies.collect()
}

fn minute_json(at_ms: i64, sums: &Sums) -> Value {
    let at = jiff::Timestamp::from_millisecond(at_ms).map(|at| at.to_string()).unwrap_or_default();
    let mut json = Map::from_iter([("minute".to_owned(), Value::from(at))]);
    json.extend(sums.to_json());
    Value::Object(json)
}

/// How far the project is behind: its lag does not show what others send.
fn lag_json(project: ProjectId, tallies: &[PendingTally], is_estimated: bool, now_ms: i64) -> Value {
    let waiting = || tallies.iter().filter(|tally| tally.project == project && tally.events > 0);
    let oldest = waiting().map(|tally| tally.received_ms).filter(|received_ms| *received_ms > 0).min();
    json!({
        "events": waiting().map(|tally| tally.events).sum::<u64>(),
        "estimated": is_estimated,
        "oldest_ms": oldest.map_or(0, |oldest| (now_ms - oldest).max(0)),
    })
}

type Books = (BTreeMap<i64, Sums>, Vec<Watermark>);

/// The books of a project by step, and every partition's watermark, from one statement.
async fn books(runner: &mut StatementRunner<'_>, period: Period, step: Step) -> Result<Books, QueryError> {
    let (from_ms, to_ms) = period.bounds();
    let source = period.source.unwrap_or(0);
    let statement = Statement::default()
        .sql("SELECT toUnixTimestamp64Milli(toDateTime64(")
        .sql(step.of_time())
        .sql(", 3, 'UTC')), log_epoch, log_partition, max(log_offset), sumMapIf(numbers, visitor_id = ")
        .uint(runner.project().0)
        .sql(" AND (")
        .uint(source)
        .sql(" = 0 OR person_id = ")
        .uint(source)
        .sql(") AND timestamp >= fromUnixTimestamp64Milli(")
        .int(from_ms)
        .sql(") AND timestamp < fromUnixTimestamp64Milli(")
        .int(to_ms)
        .sql(")), grouping(log_epoch) FROM events WHERE project_id = 0 AND type = '$books'")
        .sql(" GROUP BY GROUPING SETS ((")
        .sql(step.of_time())
        .sql("), (log_epoch, log_partition))");
    let mut minutes: BTreeMap<i64, Sums> = BTreeMap::new();
    let mut watermarks = Vec::new();
    for row in runner.rows(statement).await? {
        let [minute_ms, epoch, partition, offset, numbers, is_minute] = row.columns();
        if is_minute.uint() == 0 {
            let Ok(partition) = u16::try_from(partition.uint()) else { continue };
            watermarks.push(Watermark { epoch: LogEpoch(epoch.uint()), partition, offset: offset.int() });
        } else if let Some(numbers) = numbers.json().as_object().filter(|numbers| !numbers.is_empty()) {
            let sums = minutes.entry(minute_ms.int()).or_default();
            for (name, number) in numbers {
                *sums.by_name.entry(name.clone()).or_default() += number.as_f64().unwrap_or(0.0) as u64;
            }
        }
    }
    Ok((minutes, watermarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_sees_its_own_lag_and_no_other() {
        let tally = |project, received_ms, events| PendingTally {
            project: ProjectId(project),
            minute_ms: 0,
            received_ms,
            source: 0,
            events,
            rejected: 0,
        };
        let tallies = [tally(2, 1_000, 500), tally(1, 7_000, 3), tally(1, 0, 2), tally(1, 5_000, 0)];
        assert_eq!(lag_json(ProjectId(1), &tallies, false, 10_000), json!({"events": 5, "estimated": false, "oldest_ms": 3_000}));
        assert_eq!(lag_json(ProjectId(1), &tallies[..1], false, 10_000), json!({"events": 0, "estimated": false, "oldest_ms": 0}));
    }

    #[test]
    fn a_rule_is_given_all_of_its_range_by_its_own_slots_and_people_the_last_day() {
        let hours = |hours: i64| hours * 3_600_000;
        let minutes: BTreeMap<i64, Sums> = (0..hours(49) / 60_000)
            .map(|minute| (minute * 60_000, Sums { by_name: [("dead:a".to_owned(), 1)].into(), ..Sums::default() }))
            .collect();
        let of = |interval, zone: &str| {
            let period = Period { from_ms: 0, to_ms: hours(49), source: None };
            Ledger { project_name: String::new(), period, interval, zone: TimeZone::get(zone).unwrap() }
        };
        let shown = |ledger: &Ledger| ledger.to_json(&ledger.starts(minutes.clone()), Value::Null, Value::Null)["minutes"].clone();
        assert_eq!(shown(&of(None, "UTC")).as_array().unwrap().len(), MAX_MINUTES);
        assert_eq!(shown(&of(Some(Interval::Minute), "UTC")).as_array().unwrap().len(), 49 * 60);
        let days = shown(&of(Some(Interval::Day), "Asia/Kathmandu"));
        let starts: Vec<&str> = days.as_array().unwrap().iter().map(|day| day["minute"].as_str().unwrap()).collect();
        // On this day the clocks of Nepal were five and a half hours ahead.
        assert_eq!(starts, ["1969-12-31T18:30:00Z", "1970-01-01T18:30:00Z", "1970-01-02T18:30:00Z"]);
        let dead: Vec<u64> = days.as_array().unwrap().iter().map(|day| day["dead"].as_u64().unwrap()).collect();
        assert_eq!(dead, [1_110, 1_440, 390]);
    }

    #[test]
    fn outcomes_add_up_over_their_reasons() {
        let mut sums = Sums::default();
        for (name, number) in [("received", 10), ("stored", 6), ("dead:line_malformed", 1), ("dead:event_invalid", 2), ("duplicate", 1)] {
            sums.by_name.insert(name.to_owned(), number);
        }
        sums.waiting = 4;
        sums.count_copies("line_malformed", 0);
        let json = Value::Object(sums.to_json());
        assert_eq!(json, json!({"received": 14, "stored": 6, "duplicate": 1, "filtered": 0, "rejected": 0, "dead": 3, "waiting": 4}));
        assert_eq!(Value::Object(sums.reasons("dead")), json!({"line_malformed": 1, "event_invalid": 2}));
    }

    #[test]
    fn a_letter_that_came_again_is_a_duplicate_and_the_sum_stays() {
        let mut sums = Sums::default();
        sums.by_name.extend([("received".to_owned(), 5), ("dead:line_malformed".to_owned(), 3), ("duplicate".to_owned(), 2)]);
        sums.count_copies("line_malformed", 2);
        assert_eq!((sums.of("dead"), sums.of("duplicate"), sums.of("received")), (1, 4, 5));
        // One that is stored before the block that counts it, and one of a reason that the minute has not.
        sums.count_copies("line_malformed", 2);
        sums.count_copies("event_invalid", 1);
        assert_eq!((sums.of("dead"), sums.of("duplicate")), (0, 5));
    }
}
