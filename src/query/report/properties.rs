//! The names of properties with their kinds, how many events have them, and their most frequent values.
//!
//! A name that comes as several kinds is listed once a kind; values longer than 256 bytes are not listed. All is counted exactly, which
//! takes reading all properties of the range and remembering each distinct value: beyond what a question may take it is refused. With
//! `sample` a share of the events is looked at where there are many, values are found by a sketch, counts are scaled up, and each says by
//! how much it may be off ([`Sample`]).

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::sample::{Count, Sample};
use super::{Ask, Report};
use crate::query::ask::number;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, StatementRunner, number as shown_number, to_json};

/// As many as [`SKETCHED`] asks for.
pub(super) const MAX_VALUES: u64 = 100;
const DEFAULT_RANGE: &str = "-30d";
/// What a sketch of values finds: 100 of them, how often each was seen at least, and how often more at most. It keeps 1000 candidates, and is
/// exact while there are no more.
pub(super) const SKETCHED: &str = "arrayMap(c -> tuple(c.1, c.2 - c.3, c.3), approx_top_k(100, 1000)";

/// What is asked for instead where all values are too many.
pub(super) const CHEAPER: &str = "a shorter range, one `event`, or an estimate with `\"sample\": true`";

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Properties {
    range: Range,
    events: EventMatch,
    /// Most names.
    limit: u64,
    /// Most values of a name.
    values: u64,
    /// Whether an estimate does.
    sample: bool,
}

impl Canonical for Properties {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, events, limit, values, sample } = self;
        to.field("range", range).field("events", events).field("limit", limit).field("values", values).field("sample", sample);
    }
}

/// One name of one kind.
pub(super) struct Property {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) count: Count,
}

/// Kind and name of every property of every event, up to the kind of what is kept as JSON text.
const NAMES: &str = "SELECT pair.1 AS kind, pair.2 AS name, count() AS events FROM (SELECT arrayJoin(arrayConcat(\
    arrayMap(n -> ('string', toString(n)), mapKeys(strings)), \
    arrayMap(n -> ('number', toString(n)), mapKeys(numbers)), \
    arrayMap((n, v) -> (";
const NAMES_END: &str = ", toString(n)), mapKeys(others), mapValues(others)))) AS pair";
/// Kind, name and value of every property of every event, up to the kind of what is kept as JSON text.
const VALUES: &str = "SELECT arrayJoin(arrayConcat(\
    arrayMap((n, v) -> ('string', toString(n), v), mapKeys(strings), mapValues(strings)), \
    arrayMap((n, v) -> ('number', toString(n), toString(v + 0)), mapKeys(numbers), mapValues(numbers)), \
    arrayMap((n, v) -> (";
const VALUES_END: &str = ", toString(n), v), mapKeys(others), mapValues(others)))) AS triple";
/// All that were counted, as [`SKETCHED`] gives them.
pub(super) const COUNTED: &str = "groupArray(tuple(value, events, 0))";
/// The kind of the JSON text `v`.
const KIND: &str = "multiIf(v IN ('true', 'false'), 'boolean', v = 'null', 'null', startsWith(v, '['), 'array', \
    match(v, '^[-0-9]'), 'number', 'object')";

impl Report for Properties {
    const NAME: &'static str = "properties";
    const CHEAPER: &'static str = CHEAPER;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "event", "filters", "limit", "values", "sample"])?;
        let range = Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?;
        let events = EventMatch::parse(fields, ask.context)?;
        let (limit, values) = (fields.limit("limit", 100, 1_000)?, fields.limit("values", 10, MAX_VALUES)?);
        Ok(Self { range, events, limit, values, sample: fields.flag("sample", "invalid_sample")? })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![self.events.set(&self.range)]
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let scope = runner.scope(&self.range);
        let names = Names { events: &self.events, scope, limit: self.limit, sample: self.sample };
        let (sample, properties) = names.read(runner).await?;
        let top_values = self.top_values(scope, sample, &properties);
        let tops = if properties.is_empty() { Vec::new() } else { runner.rows(top_values.into()).await? };
        let tops: Vec<[Cell<'_>; 3]> = tops.iter().map(|row| row.columns()).collect();
        let shown = properties.into_iter().map(|Property { kind, name, count }| {
            let top = tops.iter().find(|[of_kind, of_name, _]| of_kind.text() == kind && of_name.text() == name);
            let found = top.map_or(&Value::Null, |[_, _, candidates]| candidates.json());
            let values =
                candidates(found, self.values).into_iter().map(|candidate| candidate.shown(sample, |text| shown_value(&kind, text)));
            ShownProperty { values: values.collect(), name, kind, events: count.events, error: count.error }
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
    /// Whether an estimate does.
    pub(super) sample: bool,
}

impl Names<'_> {
    /// What was looked at, and the properties of these events, the most frequent first.
    pub(super) async fn read(self, runner: &mut StatementRunner<'_>) -> Result<(Sample, Vec<Property>), QueryError> {
        let sample = Sample::of(self.sample, self.events.select(self.scope), runner).await?;
        let names = runner.rows(self.statement(sample).into()).await?;
        let properties = names.iter().map(|row| {
            let [kind, name, events] = row.columns();
            Property { kind: kind.text().to_owned(), name: name.text().to_owned(), count: sample.count(events.uint(), 0) }
        });
        Ok((sample, properties.collect()))
    }

    fn statement(self, sample: Sample) -> Expr {
        sample
            .select(self.events.select(self.scope))
            .behind(Expr::from(NAMES).then(KIND).then(NAMES_END))
            .then(") WHERE kind != 'null' GROUP BY kind, name ORDER BY events DESC, name, kind LIMIT ")
            .then(Expr::uint(self.limit))
    }
}

impl Properties {
    /// Kind and name of these properties, and their values as [`candidates`] reads them.
    fn top_values(&self, scope: Scope, sample: Sample, properties: &[Property]) -> Expr {
        let keys = properties.iter().map(|property| format!("{} {}", property.kind, property.name));
        let events = sample.select(self.events.select(scope)).behind(Expr::from(VALUES).then(KIND).then(VALUES_END));
        let is_listed = Expr::from(" WHERE length(triple.3) <= 256 AND concat(triple.1, ' ', triple.2) IN ").then(Expr::texts(keys));
        let listed = Expr::from("triple.1 AS kind, triple.2 AS name, ");
        let from = Expr::from(" FROM (").then(events).then(")").then(is_listed).then(" GROUP BY kind, name");
        if sample.is_asked() {
            return Expr::from("SELECT ").then(listed).then(SKETCHED).then("(triple.3))").then(from);
        }
        let counted = Expr::from("SELECT ").then(listed).then("triple.3 AS value, count() AS events").then(from);
        Expr::from("SELECT kind, name, ")
            .then(COUNTED)
            .then(" FROM (")
            .then(counted)
            .then(", value ORDER BY events DESC, value LIMIT ")
            .then(Expr::uint(self.values))
            .then(" BY kind, name) GROUP BY kind, name")
    }
}

/// A value, and how often it was found.
pub(super) struct Candidate<'a> {
    text: &'a str,
    found: u64,
    /// How often it may have been there beside.
    more: u64,
}

impl<'a> Candidate<'a> {
    fn read(found: &'a Value) -> Option<Self> {
        let number = |at| {
            let number: &Value = found.get(at)?;
            number.as_u64().or_else(|| number.as_str()?.parse().ok())
        };
        Some(Self { text: found.get(0)?.as_str()?, found: number(1)?, more: number(2)? })
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// As it is listed, where `value` writes it.
    pub(super) fn shown(self, sample: Sample, value: impl FnOnce(&str) -> Box<RawValue>) -> ShownValue {
        let Count { events, error } = sample.count(self.found, self.more);
        ShownValue { value: value(self.text), events, error }
    }
}

/// At most `limit` of the values that [`SKETCHED`] or [`COUNTED`] has found, the most frequent first.
pub(super) fn candidates(found: &Value, limit: u64) -> Vec<Candidate<'_>> {
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut counted: Vec<Candidate<'_>> = found.iter().filter_map(Candidate::read).filter(|candidate| candidate.found > 0).collect();
    counted.sort_by(|left, right| right.found.cmp(&left.found).then(left.text.cmp(right.text)));
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
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<u64>,
    values: Vec<ShownValue>,
}

/// A value on the wire.
#[derive(Serialize)]
pub(super) struct ShownValue {
    value: Box<RawValue>,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<u64>,
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
