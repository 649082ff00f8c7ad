//! The names of properties with their kinds, how many events have them, and their most frequent values.
//!
//! A name that comes as several kinds is listed once a kind. Cost is bounded: beyond [`SAMPLE_EVENTS`] only a share of the
//! people is looked at (a range of the person's key), counts are scaled up and `sampled` says so. Values longer than 256 bytes are no candidates; of a name with more than 1000 distinct values the counts are lower
//! bounds.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::error::QueryError;
use super::filter::{self, Filter};
use super::number;
use super::request::Fields;
use super::run::{Row, Run, StatementRunner, number as shown_number, to_json};
use super::sql::Statement;
use super::time::Range;
use crate::event::ids::ProjectId;

/// Up to this many events all are looked at: about a second of work on one core.
const SAMPLE_EVENTS: u64 = 2_000_000;
/// As many as [`VALUES`] asks for.
const MAX_VALUES: u64 = 100;
const DEFAULT_RANGE: &str = "-30d";

/// A checked request.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Plan {
    project: ProjectId,
    pub(crate) range: Range,
    event: Option<String>,
    filters: Vec<Filter>,
    limit: u64,
    values: u64,
}

/// One name of one kind.
struct Property {
    kind: String,
    name: String,
    events: u64,
}

/// Kind and name of every property of every event, up to the kind of what is kept as JSON text.
const NAMES: &str = "SELECT pair.1 AS kind, pair.2 AS name, count() AS events FROM (SELECT arrayJoin(arrayConcat(\
    arrayMap(n -> ('string', toString(n)), mapKeys(strings)), \
    arrayMap(n -> ('number', toString(n)), mapKeys(numbers)), \
    arrayMap((n, v) -> (";
const NAMES_END: &str = ", toString(n)), mapKeys(others), mapValues(others)))) AS pair";
/// As [`NAMES`], with the values. The sketch keeps 1000 candidates a name and is exact while there are no more values than
/// that; a count is taken at its lower bound.
const VALUES: &str = "SELECT triple.1 AS kind, triple.2 AS name, \
    arrayMap(c -> tuple(c.1, c.2 - c.3), approx_top_k(100, 1000)(triple.3)) FROM (SELECT arrayJoin(arrayConcat(\
    arrayMap((n, v) -> ('string', toString(n), v), mapKeys(strings), mapValues(strings)), \
    arrayMap((n, v) -> ('number', toString(n), toString(v + 0)), mapKeys(numbers), mapValues(numbers)), \
    arrayMap((n, v) -> (";
const VALUES_END: &str = ", toString(n), v), mapKeys(others), mapValues(others)))) AS triple";
/// The kind of the JSON text `v`.
const KIND: &str = "multiIf(v IN ('true', 'false'), 'boolean', v = 'null', 'null', startsWith(v, '['), 'array', \
    match(v, '^[-0-9]'), 'number', 'object')";

impl Plan {
    /// Checks a request.
    pub(crate) fn parse(project: ProjectId, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["from", "to", "timezone", "event", "filters", "limit", "values"])?;
        let range = Range::parse_since(fields, now_ms, DEFAULT_RANGE)?;
        Ok(Self {
            project,
            range,
            event: fields.text("event", "invalid_event")?.map(str::to_owned),
            filters: filter::parse_all(fields)?,
            limit: fields.limit("limit", 100, 1_000)?,
            values: fields.limit("values", 10, MAX_VALUES)?,
        })
    }

    /// Appends scope and conditions, for one person in `share`.
    fn conditions(&self, to: Statement, share: u64) -> Statement {
        let to = to.scope(&self.range.scope(self.project));
        let to = match &self.event {
            Some(event) => to.sql(" AND type = ").string(event),
            None => to,
        };
        let to = filter::and_all(to, &self.filters);
        if share > 1 { to.sql(" AND person_id <= ").uint(u64::MAX / share) } else { to }
    }

    fn count(&self) -> Statement {
        self.conditions(Statement::default().sql("SELECT count()"), 1)
    }

    fn names(&self, share: u64) -> Statement {
        let to = self.conditions(Statement::default().sql(NAMES).sql(KIND).sql(NAMES_END), share);
        to.sql(") WHERE kind != 'null' GROUP BY kind, name ORDER BY events DESC, name, kind LIMIT ").uint(self.limit)
    }

    fn top_values(&self, share: u64, properties: &[Property]) -> Statement {
        let to = self.conditions(Statement::default().sql(VALUES).sql(KIND).sql(VALUES_END), share);
        let keys: Vec<String> = properties.iter().map(|property| format!("{} {}", property.kind, property.name)).collect();
        let to = to.sql(") WHERE length(triple.3) <= 256 AND concat(triple.1, ' ', triple.2) IN ");
        to.strings(keys.iter().map(String::as_str)).sql(" GROUP BY kind, name")
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, runner: &mut StatementRunner<'_, R>) -> Result<Vec<u8>, QueryError> {
    let events = runner.rows(plan.count()).await?.first().map_or(0, |row| row.uint(0));
    let share = events.div_ceil(SAMPLE_EVENTS).max(1);
    if share > 1 {
        runner.mark_sampled();
    }
    let names = runner.rows(plan.names(share)).await?;
    let properties: Vec<Property> = names
        .iter()
        .map(|row| Property { kind: row.text(0).to_owned(), name: row.text(1).to_owned(), events: row.uint(2) * share })
        .collect();
    let tops = if properties.is_empty() { Vec::new() } else { runner.rows(plan.top_values(share, &properties)).await? };
    let mut shown = Vec::new();
    for Property { kind, name, events } in properties {
        let row = tops.iter().find(|row| row.text(0) == kind && row.text(1) == name);
        let values = row.map_or_else(Vec::new, |row| values(row, &kind, (plan.values, share)));
        shown.push(ShownProperty { name, kind, events, values });
    }
    to_json(&Answer { properties: shown })
}

#[derive(Serialize)]
struct Answer {
    properties: Vec<ShownProperty>,
}

#[derive(Serialize)]
struct ShownProperty {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    events: u64,
    values: Vec<ShownValue>,
}

#[derive(Serialize)]
struct ShownValue {
    value: Box<RawValue>,
    events: u64,
}

/// The values of one name, the most frequent first.
fn values(row: &Row, kind: &str, (limit, share): (u64, u64)) -> Vec<ShownValue> {
    let Value::Array(candidates) = row.value(2) else { return Vec::new() };
    let mut counted: Vec<(u64, &str)> = candidates.iter().filter_map(candidate).filter(|(events, _)| *events > 0).collect();
    counted.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    counted.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    counted.into_iter().map(|(events, text)| ShownValue { value: shown_value(kind, text), events: events * share }).collect()
}

fn candidate(pair: &Value) -> Option<(u64, &str)> {
    let (text, events) = (pair.get(0)?.as_str()?, pair.get(1)?);
    let events = events.as_u64().or_else(|| events.as_str()?.parse().ok())?;
    Some((events, text))
}

fn shown_value(kind: &str, text: &str) -> Box<RawValue> {
    match kind {
        "string" => to_raw_value(text).unwrap_or_default(),
        // Kept as a float, and shown as all of them are.
        "number" if number::is_float(text) => to_raw_value(&text.parse().map_or(Value::Null, shown_number)).unwrap_or_default(),
        _ => RawValue::from_string(text.to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_events_are_read_from_a_share_of_the_people() {
        let plan = Plan::parse(ProjectId(7), &json!({}), 1_767_355_200_000).unwrap();

        assert!(!plan.names(1).text().contains("person_id"));
        let shared = plan.names(4);
        assert!(shared.text().contains(" AND person_id <= {p3:UInt64})"), "{}", shared.text());
        assert!(shared.params().any(|(_, value)| value == (u64::MAX / 4).to_string()));
    }
}
