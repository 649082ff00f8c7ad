//! The names of properties with their kinds, how many events have them, and their most frequent values.
//!
//! A name that comes as several kinds is listed once a kind; values longer than 256 bytes are not listed. All is counted exactly, which
//! takes reading all properties of the range and remembering each distinct value: beyond what a question may take it is refused. With
//! `sample` slices of the time are looked at where there are many events, counts are scaled up, and each says by how much it may be off
//! ([`Sample`]).

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::sample::{COUNTED_APART, Count, PARTS, Sample, Sampled};
use super::{Ask, Report};
use crate::query::ask::number;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, StatementRunner, number as shown_number, to_json};

pub(super) const MAX_VALUES: u64 = 100;
const DEFAULT_RANGE: &str = "-30d";

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

/// Values that were counted, as [`candidates`] reads them, ...
pub(super) const COUNTED: &str = "groupArray(tuple(value, [tuple(-1, events, 0)]))";
/// ... and the same of a sample.
pub(super) const SAMPLED: &str = "groupArray(tuple(value, parts))";

/// What [`COUNTED_APART`] counts, of values.
const VALUES_APART: &str = "toString(v) AS value, stratum, count() AS some, sum(side) AS apart";

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
    fn select(&self, columns: Expr, events: Sampled) -> Expr {
        let columns = Expr::from("SELECT ").then(self.kind).then(" AS kind, toString(n) AS name, ").then(columns);
        columns.then(" FROM ").then(events.behind(self.columns).enclosed()).then(" ARRAY JOIN names AS n, held AS v")
    }

    /// The same of the names that are listed.
    fn select_listed(&self, columns: Expr, names: Expr, events: Sampled) -> Expr {
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
        let top_values = self.top_values(scope, &sample, &properties);
        let tops = if properties.is_empty() { Vec::new() } else { runner.rows(top_values.into()).await? };
        let tops: Vec<[Cell<'_>; 3]> = tops.iter().map(|row| row.columns()).collect();
        let shown = properties.into_iter().map(|Property { kind, name, count }| {
            // The numbers of a name may be in two maps.
            let own = tops.iter().filter(|[of_kind, of_name, _]| of_kind.text() == kind && of_name.text() == name);
            let found = own.flat_map(|[_, _, candidates]| candidates.items());
            let values =
                candidates(found, &sample, self.values).into_iter().map(|candidate| candidate.shown(|text| shown_value(&kind, text)));
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
        let sample = Sample::of(self.sample, self.events, self.scope, runner).await?;
        let names = runner.rows(self.statement(&sample).into()).await?;
        let properties = names.iter().map(|row| {
            let [kind, name, parts] = row.columns();
            Property { kind: kind.text().to_owned(), name: name.text().to_owned(), count: sample.count(parts) }
        });
        let properties = properties.collect();
        Ok((sample, properties))
    }

    /// Kind and name of properties, and how many there are as [`Sample::count`] reads it.
    fn statement(self, sample: &Sample) -> Expr {
        let events = || sample.select(self.events.select(self.scope));
        let names = match sample.estimate() {
            None => {
                let counted = of_maps(|map| map.select("count() AS found".into(), events()).then(" GROUP BY kind, n"));
                Expr::from("SELECT kind, name, [tuple(-1, sum(found), 0)] AS parts, sum(found) AS events FROM ").then(counted)
            }
            Some(estimate) => {
                let counted = of_maps(|map| map.select(COUNTED_APART.into(), events()).then(" GROUP BY kind, n, stratum"));
                // The numbers of a name may be in two maps.
                let once = Expr::from("SELECT kind, name, stratum, sum(some) AS some, sum(apart) AS apart FROM ").then(counted);
                let once = once.then(" GROUP BY kind, name, stratum").enclosed();
                Expr::from("SELECT kind, name, ").then(PARTS).then(", ").then(estimate).then(" AS events FROM ").then(once)
            }
        };
        names.then(" WHERE kind != 'null' GROUP BY kind, name ORDER BY events DESC, name, kind LIMIT ").then(Expr::uint(self.limit))
    }
}

impl Properties {
    /// Kind and name of properties that are called like these, and their values as [`candidates`] reads them.
    fn top_values(&self, scope: Scope, sample: &Sample, properties: &[Property]) -> Expr {
        let events = || sample.select(self.events.select(scope));
        let names = || Expr::texts(properties.iter().map(|property| property.name.clone()));
        let listed =
            |columns: &'static str, keys: &'static str| of_maps(|map| map.select_listed(columns.into(), names(), events()).then(keys));
        let (collected, values) = match sample.estimate() {
            None => {
                let values = listed("toString(v) AS value, count() AS events", " GROUP BY n, v");
                (COUNTED, Expr::from("SELECT kind, name, value, events FROM ").then(values))
            }
            Some(estimate) => {
                let values = listed(VALUES_APART, " GROUP BY n, v, stratum");
                let counted = Expr::from("SELECT kind, name, value, ").then(PARTS).then(", ").then(estimate).then(" AS events FROM ");
                (SAMPLED, counted.then(values).then(" GROUP BY kind, name, value"))
            }
        };
        let largest = values.then(" ORDER BY events DESC, value LIMIT ").then(Expr::uint(self.values)).then(" BY kind, name");
        Expr::from("SELECT kind, name, ").then(collected).then(" FROM ").then(largest.enclosed()).then(" GROUP BY kind, name")
    }
}

/// A value, and how often it is there.
pub(super) struct Candidate<'a> {
    text: &'a str,
    count: Count,
}

impl<'a> Candidate<'a> {
    fn read(found: Cell<'a>, sample: &Sample) -> Option<Self> {
        let mut columns = found.items();
        Some(Self { text: columns.next()?.text(), count: sample.count(columns.next()?) })
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// As it is listed, where `value` writes it.
    pub(super) fn shown(self, value: impl FnOnce(&str) -> Box<RawValue>) -> ShownValue {
        let Count { events, error } = self.count;
        ShownValue { value: value(self.text), events, error }
    }
}

/// At most `limit` of the values that [`COUNTED`] or [`SAMPLED`] has found, the most frequent first.
pub(super) fn candidates<'a>(found: impl Iterator<Item = Cell<'a>>, sample: &Sample, limit: u64) -> Vec<Candidate<'a>> {
    let mut counted: Vec<Candidate<'a>> = found.filter_map(|found| Candidate::read(found, sample)).collect();
    counted.sort_by(|left, right| right.count.events.cmp(&left.count.events).then(left.text.cmp(right.text)));
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
