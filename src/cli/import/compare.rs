//! Numbers before and after: what the files have and what the project has, by type of event and day of UTC.
//!
//! Owns the counts made while the files are read, and the one question that is asked when all of it is stored. Promises: what is counted of the files
//! is what they say happened, also what stands in them twice or is refused afterwards; lines that are no events, or say no time, are in no row.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::history::millis;
use crate::cli::printable::printable;

/// Most types that are asked for: what a breakdown takes.
const MOST_TYPES: u64 = 1_000;
/// Letters of a day, with which the time begins at which it does.
const DAY: usize = "2024-05-01".len();

/// How often each type of event happened on each day, by the files.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<String, BTreeMap<Date, u64>>);

/// What is looked at of an event.
#[derive(Deserialize)]
struct Happened {
    #[serde(rename = "type")]
    kind: String,
    timestamp: Json,
}

impl Counts {
    /// Counts an event, as it is sent.
    pub(super) fn add(&mut self, line: &[u8]) {
        let Ok(Happened { kind, timestamp }) = serde_json::from_slice(line) else { return };
        let at = millis(&timestamp).and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
        let Some(at) = at else { return };
        *self.0.entry(kind).or_default().entry(TimeZone::UTC.to_datetime(at).date()).or_default() += 1;
    }

    /// The question whose answer has what is there of them; `None` where there is nothing to ask for.
    pub(super) fn question(&self) -> Option<Json> {
        let days = || self.0.values().flat_map(BTreeMap::keys);
        let (first, last) = (days().min()?, days().max()?.tomorrow().ok()?);
        Some(json!({
            "from": first.to_string(), "to": last.to_string(), "timezone": "UTC", "interval": "day", "series": [{}],
            "breakdown": "type", "limit": MOST_TYPES, "include_bots": true, "refresh": true,
        }))
    }

    /// Each type and day beside what `answer` says of it, the earliest day first.
    pub(super) fn beside(&self, answer: &Answer) -> Vec<Compared> {
        let Trends { buckets, series } = &answer.result;
        let places: HashMap<&str, usize> =
            buckets.iter().enumerate().filter_map(|(place, begins)| Some((begins.get(..DAY)?, place))).collect();
        let mut rows = Vec::new();
        for (kind, days) in &self.0 {
            // One that has no line is not there, or is one of very many.
            let line = series.iter().find(|line| line.kind == "value" && line.breakdown.as_deref() == Some(kind.as_str()));
            let is_unknown = line.is_none() && series.iter().any(|line| line.kind == "other");
            for (day, files) in days {
                let place = places.get(day.to_string().as_str());
                let there = line.zip(place).and_then(|(line, place)| line.values.get(*place).copied()).unwrap_or_default();
                rows.push(Compared { day: *day, kind: kind.clone(), files: *files, project: (!is_unknown).then_some(there) });
            }
        }
        rows.sort_by(|one, other| (one.day, &one.kind).cmp(&(other.day, &other.kind)));
        rows
    }
}

/// The answer of the trends report.
#[derive(Deserialize)]
pub(super) struct Answer {
    result: Trends,
}

#[derive(Deserialize)]
struct Trends {
    /// When each begins.
    buckets: Vec<String>,
    series: Vec<TypeLine>,
}

#[derive(Deserialize)]
struct TypeLine {
    breakdown: Option<String>,
    /// `value`, `other` or `none`.
    kind: String,
    values: Vec<u64>,
}

/// A type of event on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Compared {
    #[serde(serialize_with = "as_text")]
    day: Date,
    #[serde(rename = "type")]
    kind: String,
    /// Events in the files, with those that are in them twice.
    files: u64,
    /// Events in the project, with those that came otherwise; `None` if that is not known.
    project: Option<u64>,
}

fn as_text<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

/// Prints a row each, with the difference where there is one.
pub(super) fn print(rows: &[Compared], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "\n{:10}  {:>12}  {:>12}  {:>12}  type", "day (UTC)", "files", "project", "difference")?;
    for Compared { day, kind, files, project } in rows {
        let difference = project.map(|project| i128::from(project) - i128::from(*files)).filter(|difference| *difference != 0);
        let [project, difference] = [project.map(|there| there.to_string()), difference.map(|difference| format!("{difference:+}"))];
        let [project, difference] = [project.unwrap_or_else(|| "?".to_owned()), difference.unwrap_or_default()];
        writeln!(out, "{:10}  {files:>12}  {project:>12}  {difference:>12}  {}", day.to_string(), printable(kind))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lines: &[&str]) -> Counts {
        let mut counts = Counts::default();
        lines.iter().for_each(|line| counts.add(line.as_bytes()));
        counts
    }

    fn answer(series: Json) -> Answer {
        serde_json::from_value(json!({"result": {"buckets": ["2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z"], "series": series}})).unwrap()
    }

    #[test]
    fn what_has_no_type_or_no_time_is_in_no_row_and_a_day_is_one_of_utc() {
        let counts = counts(&[
            r#"{"type":"order","timestamp":"2024-05-02T01:30:00+02:00"}"#,
            r#"{"type":"order","timestamp":1714608000000}"#,
            r#"{"type":"order"}"#,
            r#"{"type":7,"timestamp":"2024-05-01T00:00:00Z"}"#,
            r#"{"dead":{}}"#,
            "no JSON",
        ]);
        let question = counts.question().unwrap();
        assert_eq!([&question["from"], &question["to"]], ["2024-05-01", "2024-05-03"]);
        let rows = counts.beside(&answer(json!([])));
        let rows: Vec<(String, u64)> = rows.iter().map(|row| (row.day.to_string(), row.files)).collect();
        assert_eq!(rows, [("2024-05-01".to_owned(), 1), ("2024-05-02".to_owned(), 1)]);
        assert_eq!(Counts::default().question(), None);
    }

    #[test]
    fn each_type_and_day_stands_beside_what_the_project_has_of_it() {
        let counts = counts(&[
            r#"{"type":"page","timestamp":"2024-05-01T09:00:00Z"}"#,
            r#"{"type":"page","timestamp":"2024-05-02T09:00:00Z"}"#,
            r#"{"type":"order","timestamp":"2024-05-02T09:00:00Z"}"#,
        ]);
        let page = json!({"breakdown": "page", "kind": "value", "values": [1, 3]});
        let row =
            |day: &str, kind: &str, project: Option<u64>| Compared { day: day.parse().unwrap(), kind: kind.to_owned(), files: 1, project };
        let [first, last] = [row("2024-05-01", "page", Some(1)), row("2024-05-02", "page", Some(3))];
        let rows = counts.beside(&answer(json!([page])));
        assert_eq!(rows, [first.clone(), row("2024-05-02", "order", Some(0)), last.clone()]);
        // Of very many types some have no line.
        let other = json!({"breakdown": "$other", "kind": "other", "values": [5, 5]});
        assert_eq!(counts.beside(&answer(json!([page, other]))), [first, row("2024-05-02", "order", None), last]);
        let mut printed = Vec::new();
        print(&rows, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let lines: Vec<Vec<&str>> = printed.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [vec!["2024-05-01", "1", "1", "page"], vec!["2024-05-02", "1", "0", "-1", "order"], vec!["2024-05-02", "1", "3", "+2", "page"]]
        );
    }
}
