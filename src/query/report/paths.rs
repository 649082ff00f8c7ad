//! Paths: which ways sessions take, step by step.
//!
//! The sessions are those that begin in the range, as the report `sessions` counts them, each whole; of their events those that pass the
//! `filters` are looked at, by time and then by place in the log. An event's node is its `type`, its `page_path` or any other field,
//! `$none` where it is missing. Repeats of one node in a row are one, unless `collapse` is false. Step 1 is the first node, or the first
//! that is `start`; with `end` it is the last one that is `end`, and steps count backwards: a link's `to` was before its `from`. A session
//! without such a node is left out. Of each step the `limit` nodes of most sessions are shown by name and all others together as
//! `$other`. What enters a node leaves it by links or is its drop-off; behind the last step nothing is looked at, so there all of it is.
//!
//! Cost: two statements, which read the events of the range and of a longest session before and behind it three times, the columns of the
//! question; 24 bytes of each event are held until its session is known, and each different node once. May go wrong: more events than the
//! memory of a statement holds; then it is refused as too expensive.

mod bar;
mod sessions;
mod shown;

use serde_json::Value;

use self::bar::{KEYS as BAR_KEYS, PathBar};
use self::shown::{Nodes, Numbers};
use super::{Ask, Bar, People, Report};
use crate::query::ask::breakdown::ValueOf;
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::field::Field;
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Fields, Range};
use crate::query::error::QueryError;
use crate::query::reader::{StatementRunner, to_json};

/// Most nodes of a step that are shown by name.
const MOST_NODES: u64 = 100;

const KEYS: [&str; 10] = ["from", "to", "timezone", "filters", "node", "start", "end", "steps", "limit", "collapse"];

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    range: Range,
    filters: Vec<Filter>,
    /// What an event is on a path: a single field.
    node: Dimensions,
    anchor: Option<Anchor>,
    steps: usize,
    /// Nodes of a step that are shown by name.
    limit: u64,
    is_collapsed: bool,
}

/// Where a path begins, or ends.
#[derive(Clone, Debug)]
struct Anchor {
    is_end: bool,
    node: ValueOf,
}

impl Canonical for Paths {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, filters, node, anchor, steps, limit, is_collapsed } = self;
        to.field("range", range).set("filters", filters).field("node", node).field("anchor", anchor);
        to.field("steps", steps).field("limit", limit).field("is_collapsed", is_collapsed);
    }
}

impl Canonical for Anchor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { is_end, node } = self;
        to.field("is_end", is_end).field("node", node);
    }
}

impl Report for Paths {
    const NAME: &'static str = "paths";
    const IS_OF_SESSIONS: bool = true;
    const CHEAPER: &'static str = "a shorter range, or sessions of fewer events by `filters`";
    const BAR_KEYS: &'static [&'static str] = &BAR_KEYS;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let fields = Fields::open(ask.body, &KEYS)?;
        let node = Field::parse(fields.text("node", "invalid_node")?.unwrap_or("type")).map_err(|problem| problem.within("node"))?;
        Ok(Self {
            range: Range::parse(fields, ask.now_ms)?,
            filters: filter::parse_all(fields, ask.context)?,
            node: Dimensions { fields: vec![node], is_list: false },
            anchor: Anchor::parse(fields)?,
            steps: steps(fields)?,
            limit: fields.limit("limit", 10, MOST_NODES)?,
            is_collapsed: fields.value("collapse").is_none() || fields.flag("collapse", "invalid_collapse")?,
        })
    }

    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![EventSet { range: &self.range, event: None, filters: vec![&self.filters] }]
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let nodes = self.nodes(runner).await?;
        let statement = self.moves(runner.scope(&self.range), &nodes);
        let mut numbers = Numbers::default();
        runner.each(statement.into(), |row| numbers.add(&row)).await?;
        to_json(&numbers.chart(&nodes))
    }

    fn people(self, bar: Bar<'_>) -> Result<Box<dyn People>, QueryError> {
        Ok(Box::new(PathBar::parse(self, bar)?))
    }
}

/// The number of steps.
fn steps(fields: Fields<'_>) -> Result<usize, QueryError> {
    let Some(value) = fields.value("steps") else { return Ok(5) };
    let steps = value.as_u64().filter(|steps| (2..=10).contains(steps));
    let steps = steps.ok_or_else(|| QueryError::invalid("invalid_steps", "`steps` must be a whole number from 2 to 10"))?;
    Ok(steps as usize)
}

impl Anchor {
    fn parse(fields: Fields<'_>) -> Result<Option<Self>, QueryError> {
        let of = |value: &Value, is_end| Some(Self { is_end, node: ValueOf::named(value) });
        match (fields.value("start"), fields.value("end")) {
            (Some(_), Some(_)) => Err(QueryError::invalid("invalid_paths", "a path has a `start` or an `end`, not both")),
            (Some(start), None) => Ok(of(start, false)),
            (None, Some(end)) => Ok(of(end, true)),
            (None, None) => Ok(None),
        }
    }
}

impl Paths {
    /// The nodes of each step that are shown by name.
    async fn nodes(&self, runner: &mut StatementRunner<'_>) -> Result<Nodes, QueryError> {
        let ranking = self.ranking(runner.scope(&self.range));
        Ok(Nodes::read(&runner.rows(ranking.into()).await?, self.steps, &self.node))
    }
}
