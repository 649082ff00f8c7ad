//! The types of events, the most frequent first.

use serde::Serialize;

use super::{DEFAULT_RANGE, Search};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Expr, Fields, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};
use crate::query::report::{Ask, Report, Route};

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct EventNames {
    range: Range,
    search: Search,
    limit: u64,
}

impl Canonical for EventNames {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, search, limit } = self;
        to.field("range", range).field("search", search).field("limit", limit);
    }
}

impl Report for EventNames {
    const NAME: &'static str = "catalogue-events";
    const ROUTE: Route = Route::Kept("/v1/catalogue/events");

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &["from", "to", "timezone", "search", "limit"])?;
        let range = Range::parse_since(fields, ask.now_ms, DEFAULT_RANGE)?;
        Ok(Self { range, search: Search::parse(fields)?, limit: fields.limit("limit", 100, 1_000)? })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    /// None: nobody who chooses a name asks for what bots did.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let events = Selection::of(runner.scope(&self.range));
        let events = match self.search.is_in("type".into()) {
            Some(condition) => events.and(condition),
            None => events,
        };
        let names = Select::default().column("type").column("count()").from(events);
        let names = names.then(" GROUP BY type ORDER BY count() DESC, type LIMIT ").then(Expr::uint(self.limit));
        let rows = runner.rows(names.into()).await?;
        let events = rows.iter().map(|row| {
            let [name, events] = row.columns();
            ShownEvent { name: name.text().to_owned(), events: events.uint() }
        });
        to_json(&Answer { events: events.collect() })
    }
}

#[derive(Serialize)]
struct Answer {
    events: Vec<ShownEvent>,
}

#[derive(Serialize)]
struct ShownEvent {
    name: String,
    events: u64,
}
