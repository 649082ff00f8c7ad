//! The values of a field, the most frequent first.
//!
//! Values longer than 256 bytes are no candidates. Of a field with more than 1000 distinct ones the counts are lower bounds; a search makes
//! them fewer.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{DEFAULT_RANGE, Search};
use crate::query::ask::field::{Field, Kind};
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Select};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};
use crate::query::report::properties::{candidates, of_share, share, shown_value};
use crate::query::report::{Ask, Report, Route};

/// As many as [`TOP`] asks for.
const MAX_VALUES: u64 = 100;
/// The sketch keeps 1000 candidates; a count is taken at its lower bound.
const TOP: &str = "SELECT arrayMap(c -> tuple(c.1, c.2 - c.3), approx_top_k(100, 1000)(value_key)) FROM ";

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct FieldValues {
    field: Field,
    range: Range,
    events: EventMatch,
    search: Search,
    limit: u64,
}

impl Canonical for FieldValues {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { field, range, events, search, limit } = self;
        to.field("field", field).field("range", range).field("events", events).field("search", search).field("limit", limit);
    }
}

impl Report for FieldValues {
    const NAME: &'static str = "catalogue-values";
    const ROUTE: Route = Route::Kept("/v1/catalogue/values");

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "field", "event", "search", "limit"])?;
        let missing = || QueryError::invalid("invalid_field", "`field` is missing: which field has the values?");
        let field = Field::parse(fields.text("field", "invalid_field")?.ok_or_else(missing)?)?;
        Ok(Self {
            field,
            range: Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?,
            events: EventMatch::parse(fields, ask.context)?,
            search: Search::parse(fields)?,
            limit: fields.limit("limit", 20, MAX_VALUES)?,
        })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    /// None: nobody who chooses a value asks for what bots did.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let scope = runner.scope(&self.range);
        let share = share(self.events.select(scope), runner).await?;
        let events = of_share(self.events.select(scope), share).and(self.field.is_missing().grouped().negated());
        let keys = Select::default().named(self.field.key(), " AS value_key").from(events).enclosed();
        let top = Expr::from(TOP).then(keys).then(" WHERE length(value_key) <= 257");
        let top = match self.search.is_in("substring(value_key, 2)".into()) {
            Some(condition) => top.then(" AND ").then(condition),
            None => top,
        };
        let rows = runner.rows(top.into()).await?;
        let found = rows.first().map_or(Value::Null, |row| row.cell(0).json().clone());
        let values = candidates(&found, self.limit).into_iter().filter_map(|(key, events)| {
            let (kind, text) = Kind::split(key)?;
            let kind = match kind {
                Kind::Text => "string",
                Kind::Number => "number",
                Kind::Json => "json",
                Kind::Missing => return None,
            };
            Some(ShownValue { value: shown_value(kind, text), events: events * share })
        });
        to_json(&Answer { values: values.collect() })
    }
}

#[derive(Serialize)]
struct Answer {
    values: Vec<ShownValue>,
}

#[derive(Serialize)]
struct ShownValue {
    value: Box<RawValue>,
    events: u64,
}
