//! The values of a field, the most frequent first.
//!
//! Values longer than 256 bytes are not listed. All are counted exactly unless the question takes a sample, as [`properties`] does it.
//!
//! [`properties`]: crate::query::report::properties

use serde::Serialize;

use super::{DEFAULT_RANGE, Search};
use crate::query::ask::field::{Field, Kind};
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Scope, Select};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};
use crate::query::report::properties::{CHEAPER, COUNTED, MAX_VALUES, SAMPLED, ShownValue, candidates, shown_value};
use crate::query::report::sample::{COUNTED_APART, PARTS, Sample};
use crate::query::report::{Ask, Report, Route};

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct FieldValues {
    field: Field,
    range: Range,
    events: EventMatch,
    search: Search,
    limit: u64,
    /// Whether an estimate does.
    sample: bool,
}

impl Canonical for FieldValues {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { field, range, events, search, limit, sample } = self;
        to.field("field", field).field("range", range).field("events", events).field("search", search).field("limit", limit);
        to.field("sample", sample);
    }
}

impl Report for FieldValues {
    const NAME: &'static str = "catalogue-values";
    const ROUTE: Route = Route::Kept("/v1/catalogue/values");
    const CHEAPER: &'static str = CHEAPER;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "field", "event", "search", "limit", "sample"])?;
        let missing = || QueryError::invalid("invalid_field", "`field` is missing: which field has the values?");
        let field = Field::parse(fields.text("field", "invalid_field")?.ok_or_else(missing)?)?;
        Ok(Self {
            field,
            range: Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?,
            events: EventMatch::parse(fields, ask.context)?,
            search: Search::parse(fields)?,
            limit: fields.limit("limit", 20, MAX_VALUES)?,
            sample: fields.flag("sample", "invalid_sample")?,
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
        let sample = Sample::of(self.sample, &self.events, scope, runner).await?;
        let rows = runner.rows(self.statement(scope, &sample).into()).await?;
        let found = rows.first().into_iter().flat_map(|row| row.cell(0).items());
        let values = candidates(found, &sample, self.limit).into_iter().filter_map(|candidate| {
            let (kind, text) = Kind::split(candidate.text())?;
            let kind = match kind {
                Kind::Text => "string",
                Kind::Number => "number",
                Kind::Json => "json",
                Kind::Missing => return None,
            };
            Some(candidate.shown(|_| shown_value(kind, text)))
        });
        to_json(&Answer { values: values.collect() })
    }
}

impl FieldValues {
    /// One row: the values as [`candidates`] reads them.
    fn statement(&self, scope: Scope, sample: &Sample) -> Expr {
        let events = sample.select(self.events.select(scope)).and(self.field.is_missing().grouped().negated());
        let keys = events.behind(Select::default().named(self.field.key(), " AS value").into_expr()).enclosed();
        // A letter says the kind, then comes the text.
        let from = Expr::from(" FROM ").then(keys).then(" WHERE length(value) <= 257");
        let from = match self.search.is_in("substring(value, 2)".into()) {
            Some(condition) => from.then(" AND ").then(condition),
            None => from,
        };
        let (collected, values) = match sample.estimate() {
            None => (COUNTED, Expr::from("SELECT value, count() AS events").then(from)),
            Some(estimate) => {
                let apart = Expr::from("SELECT value, ").then(COUNTED_APART).then(from).then(" GROUP BY value, stratum").enclosed();
                let counted = Expr::from("SELECT value, ").then(PARTS).then(", ").then(estimate).then(" AS events FROM ");
                (SAMPLED, counted.then(apart))
            }
        };
        let largest = values.then(" GROUP BY value ORDER BY events DESC, value LIMIT ").then(Expr::uint(self.limit));
        Expr::from("SELECT ").then(collected).then(" FROM ").then(largest.enclosed())
    }
}

#[derive(Serialize)]
struct Answer {
    values: Vec<ShownValue>,
}
