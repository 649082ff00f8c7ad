//! The fields that filters, breakdowns and maths can name: columns, what is said of sessions, traits of persons, and properties of events.
//!
//! A property or trait that comes as several kinds is listed once, as the kind that it comes as most often.

use std::collections::HashSet;

use serde::Serialize;

use super::DEFAULT_RANGE;
use crate::query::ask::selection::Traffic;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Fields, Range, field, session_columns};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};
use crate::query::report::properties::{CHEAPER, Names, Property};
use crate::query::report::{Ask, Report, Route};

/// Most properties, and most traits.
const MOST: u64 = 1_000;

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct FieldNames {
    range: Range,
    /// All times: what is known of a person is what was ever said.
    ever: Range,
    events: EventMatch,
    /// Whether names that are rare may be left out.
    sample: bool,
}

impl Canonical for FieldNames {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, ever: _, events, sample } = self;
        to.field("range", range).field("events", events).field("sample", sample);
    }
}

impl Report for FieldNames {
    const NAME: &'static str = "catalogue-fields";
    const ROUTE: Route = Route::Kept("/v1/catalogue/fields");
    const CHEAPER: &'static str = CHEAPER;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "event", "sample"])?;
        let range = Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?;
        let (events, sample) = (EventMatch::parse(fields, ask.context)?, fields.flag("sample", "invalid_sample")?);
        Ok(Self { range, ever: Range::everything(), events, sample })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range, &self.ever]
    }

    /// None: nobody who chooses a name asks for what bots did.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let said = EventMatch { event: Some("identify".to_owned()), filters: Vec::new() };
        // What a bot said of a person counts, as it does for `person.NAME`.
        let ever = runner.scope(&self.ever).with_traffic(Traffic::All);
        let traits = Names { events: &said, scope: ever, limit: MOST, sample: self.sample }.read(runner).await?.1;
        let scope = runner.scope(&self.range);
        let properties = Names { events: &self.events, scope, limit: MOST, sample: self.sample }.read(runner).await?.1;
        let columns = field::columns().map(|(name, kind)| ShownField { name: name.to_owned(), kind: kind.to_owned() });
        let sessions = session_columns::all().map(|(name, kind)| ShownField { name: format!("session.{name}"), kind: kind.to_owned() });
        let (traits, properties) = (named("person.", traits), named("properties.", properties));
        let fields = columns.chain(sessions).chain(traits).chain(properties).collect();
        to_json(&Answer { fields, sampled: runner.is_sampled() })
    }
}

/// Each name once, as the kind that it comes as most often, which is the first one.
fn named(prefix: &'static str, found: Vec<Property>) -> impl Iterator<Item = ShownField> {
    let mut seen = HashSet::new();
    let first = found.into_iter().filter(move |property| seen.insert(property.name.clone()));
    first.map(move |Property { kind, name, .. }| ShownField { name: format!("{prefix}{name}"), kind })
}

#[derive(Serialize)]
struct Answer {
    fields: Vec<ShownField>,
    /// Whether names may be missing that are rare.
    sampled: bool,
}

#[derive(Serialize)]
struct ShownField {
    name: String,
    kind: String,
}
