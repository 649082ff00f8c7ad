//! The names of properties with their kinds, how many events have them, and their most frequent values.
//!
//! A name that comes as several kinds is listed once a kind. Cost is bounded: beyond [`SAMPLE_EVENTS`] only a share of the
//! people is looked at (a range of the person's key), counts are scaled up and `sampled` says so. Values longer than 256 bytes are no
//! candidates; of a name with more than 1000 distinct values the counts are lower bounds.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::{Ask, Report};
use crate::query::ask::number;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, StatementRunner, number as shown_number, to_json};

/// Up to this many events all are looked at: about a second of work on one core.
const SAMPLE_EVENTS: u64 = 2_000_000;
/// As many as [`VALUES`] asks for.
const MAX_VALUES: u64 = 100;
const DEFAULT_RANGE: &str = "-30d";

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Properties {
    range: Range,
    events: EventMatch,
    /// Most names.
    limit: u64,
    /// Most values of a name.
    values: u64,
}

impl Canonical for Properties {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, events, limit, values } = self;
        to.field("range", range).field("events", events).field("limit", limit).field("values", values);
    }
}

/// One name of one kind.
pub(super) struct Property {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) events: u64,
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

impl Report for Properties {
    const NAME: &'static str = "properties";

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "event", "filters", "limit", "values"])?;
        let range = Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?;
        let events = EventMatch::parse(fields, ask.context)?;
        Ok(Self { range, events, limit: fields.limit("limit", 100, 1_000)?, values: fields.limit("values", 10, MAX_VALUES)? })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![self.events.set(&self.range)]
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let scope = runner.scope(&self.range);
        let (share, properties) = Names { events: &self.events, scope, limit: self.limit }.read(runner).await?;
        let top_values = self.top_values(scope, share, &properties);
        let tops = if properties.is_empty() { Vec::new() } else { runner.rows(top_values.into()).await? };
        let tops: Vec<[Cell<'_>; 3]> = tops.iter().map(|row| row.columns()).collect();
        let shown = properties.into_iter().map(|Property { kind, name, events }| {
            let top = tops.iter().find(|[of_kind, of_name, _]| of_kind.text() == kind && of_name.text() == name);
            let values = top.map_or_else(Vec::new, |[_, _, candidates]| self.values(*candidates, &kind, share));
            ShownProperty { name, kind, events, values }
        });
        to_json(&Answer { properties: shown.collect() })
    }
}

/// Which names are looked for.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) events: &'a EventMatch,
    pub(super) scope: Scope,
    /// Most names, each of one kind.
    pub(super) limit: u64,
}

impl Names<'_> {
    /// One part in how many of the people was looked at, and the properties of their events, the most frequent first.
    pub(super) async fn read(self, runner: &mut StatementRunner<'_>) -> Result<(u64, Vec<Property>), QueryError> {
        let share = share(self.events.select(self.scope), runner).await?;
        let names = runner.rows(self.statement(share).into()).await?;
        let properties = names.iter().map(|row| {
            let [kind, name, events] = row.columns();
            Property { kind: kind.text().to_owned(), name: name.text().to_owned(), events: events.uint() * share }
        });
        Ok((share, properties.collect()))
    }

    fn statement(self, share: u64) -> Expr {
        of_share(self.events.select(self.scope), share)
            .behind(Expr::from(NAMES).then(KIND).then(NAMES_END))
            .then(") WHERE kind != 'null' GROUP BY kind, name ORDER BY events DESC, name, kind LIMIT ")
            .then(Expr::uint(self.limit))
    }
}

/// One part in how many of the people is looked at, so that no more events than [`SAMPLE_EVENTS`] are; noted in the answer.
pub(super) async fn share(events: Selection, runner: &mut StatementRunner<'_>) -> Result<u64, QueryError> {
    let count = Select::default().column("count()").from(events);
    let events = runner.rows(count.into()).await?.first().map_or(0, |row| row.cell(0).uint());
    let share = events.div_ceil(SAMPLE_EVENTS).max(1);
    if share > 1 {
        runner.mark_sampled();
    }
    Ok(share)
}

/// Of these events those of one person in `share`.
pub(super) fn of_share(events: Selection, share: u64) -> Selection {
    if share > 1 { events.and(Expr::from(PERSON).infix(" <= ", Expr::uint(u64::MAX / share))) } else { events }
}

impl Properties {
    fn top_values(&self, scope: Scope, share: u64, properties: &[Property]) -> Expr {
        let keys = properties.iter().map(|property| format!("{} {}", property.kind, property.name));
        of_share(self.events.select(scope), share)
            .behind(Expr::from(VALUES).then(KIND).then(VALUES_END))
            .then(") WHERE length(triple.3) <= 256 AND concat(triple.1, ' ', triple.2) IN ")
            .then(Expr::texts(keys))
            .then(" GROUP BY kind, name")
    }

    /// The values of one name, the most frequent first.
    fn values(&self, found: Cell<'_>, kind: &str, share: u64) -> Vec<ShownValue> {
        let top = candidates(found.json(), self.values).into_iter();
        top.map(|(text, events)| ShownValue { value: shown_value(kind, text), events: events * share }).collect()
    }
}

/// At most `limit` of the values that a sketch has found, the most frequent first.
pub(super) fn candidates(found: &Value, limit: u64) -> Vec<(&str, u64)> {
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut counted: Vec<(&str, u64)> = found.iter().filter_map(candidate).filter(|(_, events)| *events > 0).collect();
    counted.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
    counted.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    counted
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

fn candidate(pair: &Value) -> Option<(&str, u64)> {
    let (text, events) = (pair.get(0)?.as_str()?, pair.get(1)?);
    let events = events.as_u64().or_else(|| events.as_str()?.parse().ok())?;
    Some((text, events))
}

/// A value of a kind as JSON.
pub(super) fn shown_value(kind: &str, text: &str) -> Box<RawValue> {
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
    use crate::event::ids::ProjectId;
    use crate::query::ask::Context;
    use crate::query::sql::Statement;

    const NOW_MS: i64 = 1_767_355_200_000;

    #[test]
    fn many_events_are_read_from_a_share_of_the_people() {
        let ask = Ask { project_name: "", body: &json!({}), now_ms: NOW_MS, context: &Context::new(NOW_MS) };
        let properties = Properties::parse(ask).unwrap();
        let scope = Scope::new(ProjectId(7), &properties.range);
        let names = Names { events: &properties.events, scope, limit: 100 };
        let names = |share| Statement::from(names.statement(share));

        assert!(!names(1).text().contains(PERSON));
        let shared = names(4);
        assert!(shared.text().contains(" AND {person} <= {p3:UInt64})"), "{}", shared.text());
        assert!(shared.params().any(|(_, value)| value == (u64::MAX / 4).to_string()));
    }
}
