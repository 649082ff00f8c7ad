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
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, StatementRunner, number as shown_number, to_json};

/// As many as [`SKETCHED`] asks for.
pub(super) const MAX_VALUES: u64 = 100;
const DEFAULT_RANGE: &str = "-30d";
/// What a sketch of values finds: 100 of them, how often each was seen at least, and how often more at most. It keeps 1000 candidates, and is
/// exact while there are no more.
pub(super) const SKETCHED: &str = "arrayMap(c -> tuple(toString(c.1), c.2 - c.3, c.3), approx_top_k(100, 1000)";

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

/// All that were counted, as [`SKETCHED`] gives them.
pub(super) const COUNTED: &str = "groupArray(tuple(value, events, 0))";

/// A map that holds properties of an event.
struct Held {
    /// The kind of its value `v`.
    kind: &'static str,
    columns: &'static str,
    /// Which of its values are listed.
    is_short: &'static str,
}

/// Each is grouped as it is kept: to write a number as a text for each event would take longer than all the rest. Each number is in one
/// of them: what a float cannot say is in `others`.
const MAPS: [Held; 3] = [
    Held { kind: "'string'", columns: "SELECT mapKeys(strings) AS names, mapValues(strings) AS held", is_short: " AND length(v) <= 256" },
    // Zero has one sign.
    Held { kind: "'number'", columns: "SELECT mapKeys(numbers) AS names, arrayMap(v -> v + 0, mapValues(numbers)) AS held", is_short: "" },
    Held {
        kind: "multiIf(v IN ('true', 'false'), 'boolean', v = 'null', 'null', startsWith(v, '['), 'array', match(v, '^[-0-9]'), 'number', 'object')",
        columns: "SELECT mapKeys(others) AS names, mapValues(others) AS held",
        is_short: " AND length(v) <= 256",
    },
];

impl Held {
    /// `columns` of each property `n` with its value `v` of these events, behind its kind and name.
    fn select(&self, columns: Expr, events: Selection) -> Expr {
        let columns = Expr::from("SELECT ").then(self.kind).then(" AS kind, toString(n) AS name, ").then(columns);
        columns.then(" FROM ").then(events.behind(self.columns.into()).enclosed()).then(" ARRAY JOIN names AS n, held AS v")
    }

    /// The same of the names that are listed.
    fn select_listed(&self, columns: Expr, names: Expr, events: Selection) -> Expr {
        self.select(columns, events).then(" WHERE n IN ").then(names).then(self.is_short)
    }
}

/// What `select` makes of each map, one behind the other.
fn of_maps(select: impl Fn(&Held) -> Expr) -> Expr {
    let mut selected = MAPS.iter().map(select);
    let first = selected.next().unwrap_or_default();
    selected.fold(first, |all, next| all.then(" UNION ALL ").then(next)).enclosed()
}

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
            // The numbers of a name may be in two maps.
            let own = tops.iter().filter(|[of_kind, of_name, _]| of_kind.text() == kind && of_name.text() == name);
            let found = own.flat_map(|[_, _, candidates]| candidates.items().map(Cell::json));
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
        let events = || sample.select(self.events.select(self.scope));
        let counted = of_maps(|map| map.select("count() AS found".into(), events()).then(" GROUP BY kind, n"));
        Expr::from("SELECT kind, name, sum(found) AS events FROM ")
            .then(counted)
            .then(" WHERE kind != 'null' GROUP BY kind, name ORDER BY events DESC, name, kind LIMIT ")
            .then(Expr::uint(self.limit))
    }
}

impl Properties {
    /// Kind and name of properties that are called like these, and their values as [`candidates`] reads them.
    fn top_values(&self, scope: Scope, sample: Sample, properties: &[Property]) -> Expr {
        let events = || sample.select(self.events.select(scope));
        let names = || Expr::texts(properties.iter().map(|property| property.name.clone()));
        if sample.is_asked() {
            let sketched = || Expr::from(SKETCHED).then("(v)) AS found");
            let found = of_maps(|map| map.select_listed(sketched(), names(), events()).then(" GROUP BY kind, n"));
            return Expr::from("SELECT kind, name, found FROM ").then(found);
        }
        let counted = || Expr::from("toString(v) AS value, count() AS events");
        Expr::from("SELECT kind, name, ")
            .then(COUNTED)
            .then(" FROM (SELECT kind, name, value, events FROM ")
            .then(of_maps(|map| map.select_listed(counted(), names(), events()).then(" GROUP BY n, v")))
            .then(" ORDER BY events DESC, value LIMIT ")
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
pub(super) fn candidates<'a>(found: impl Iterator<Item = &'a Value>, limit: u64) -> Vec<Candidate<'a>> {
    let mut counted: Vec<Candidate<'a>> = found.filter_map(Candidate::read).filter(|candidate| candidate.found > 0).collect();
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
