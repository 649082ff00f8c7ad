//! Steps and exclusions of a request: which events they are, and how a statement tells them apart.

use serde_json::{Value, json};

use super::fold::{Between, MOST_STEPS};
use crate::query::ask::filter::{self, Filter};
use crate::query::ask::{Canonical, CanonicalForm, Context, EventSet, Expr, Fields, Range, Scope};
use crate::query::error::QueryError;

/// Most exclusions of a funnel; their bits stand above those of the steps.
pub(super) const MOST_EXCLUSIONS: usize = 10;
/// Most types of events of one step.
const MOST_EVENTS: usize = 50;

/// Events of certain types that pass filters.
#[derive(Clone, Debug)]
pub(super) struct Events {
    /// Their types; none means any.
    names: Vec<String>,
    filters: Vec<Filter>,
    /// Whether they were given as a list.
    is_list: bool,
}

impl Events {
    fn parse(fields: Fields<'_>, context: &Context) -> Result<Self, QueryError> {
        let invalid = || QueryError::invalid("invalid_event", format!("`event` is a text or a list of 1 to {MOST_EVENTS} texts"));
        let name = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(invalid);
        let (names, is_list) = match fields.value("event") {
            None => (Vec::new(), false),
            Some(Value::Array(names)) if (1..=MOST_EVENTS).contains(&names.len()) => {
                (names.iter().map(name).collect::<Result<_, _>>()?, true)
            }
            Some(one) => (vec![name(one)?], false),
        };
        Ok(Self { names, filters: filter::parse_all(fields, context)?, is_list })
    }

    /// As it was asked for.
    pub(super) fn shown(&self) -> Value {
        match self.names.as_slice() {
            [] => Value::Null,
            [name] if !self.is_list => json!(name),
            names => json!(names),
        }
    }

    /// Their types; none means any.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether an event's type alone says that it is one of these.
    pub(super) fn is_types_alone(&self) -> bool {
        !self.names.is_empty() && self.filters.is_empty()
    }

    fn called(&self) -> String {
        if self.names.is_empty() { "any event".to_owned() } else { self.names.join(" or ") }
    }

    /// The events of `range` that are these and pass `filters`.
    pub(super) fn sets<'a>(&'a self, range: &'a Range, filters: &'a [Filter]) -> Vec<EventSet<'a>> {
        let of = |event| EventSet { range, event, filters: vec![filters, &self.filters] };
        if self.names.is_empty() { vec![of(None)] } else { self.names.iter().map(|name| of(Some(name.as_str()))).collect() }
    }
}

impl Canonical for Events {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { names, filters, is_list } = self;
        to.set("names", names).set("filters", filters).field("is_list", is_list);
    }
}

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) events: Events,
    pub(super) is_optional: bool,
}

impl Canonical for Step {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { name, events, is_optional } = self;
        to.field("name", name).field("events", events).field("is_optional", is_optional);
    }
}

/// Events that must not happen between two steps.
#[derive(Clone, Debug)]
pub(super) struct Exclusion {
    pub(super) events: Events,
    pub(super) between: Between,
}

impl Canonical for Exclusion {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { events, between: Between { from, to: until } } = self;
        to.field("events", events).field("from", from).field("until", until);
    }
}

/// Reads `steps`.
///
/// # Errors
/// 400 `invalid_steps`, and what is wrong with one of them.
pub(super) fn parse_steps(fields: Fields<'_>, context: &Context) -> Result<Vec<Step>, QueryError> {
    let values = fields.list("steps", "invalid_steps")?;
    if !(2..=MOST_STEPS).contains(&values.len()) {
        return Err(QueryError::invalid("invalid_steps", format!("`steps` must have 2 to {MOST_STEPS} entries, not {}", values.len())));
    }
    let steps = values.iter().enumerate().map(|(index, value)| {
        let parsed = parse_step(value, context).and_then(|step| match index {
            0 if step.is_optional => Err(QueryError::invalid("invalid_steps", "the first step cannot be optional")),
            _ => Ok(step),
        });
        parsed.map_err(|problem| problem.within(&format!("steps[{index}]")))
    });
    steps.collect()
}

fn parse_step(value: &Value, context: &Context) -> Result<Step, QueryError> {
    let fields = Fields::open(value, &["event", "filters", "optional", "name"])?;
    let events = Events::parse(fields, context)?;
    let name = fields.text("name", "invalid_steps")?.map_or_else(|| events.called(), str::to_owned);
    Ok(Step { name, events, is_optional: fields.flag("optional", "invalid_steps")? })
}

/// Reads `exclusions` of a funnel of `steps` steps.
///
/// # Errors
/// 400 `invalid_exclusions`, and what is wrong with one of them.
pub(super) fn parse_exclusions(fields: Fields<'_>, steps: usize, context: &Context) -> Result<Vec<Exclusion>, QueryError> {
    let values = fields.list("exclusions", "invalid_exclusions")?;
    if values.len() > MOST_EXCLUSIONS {
        return Err(QueryError::invalid("invalid_exclusions", format!("`exclusions` has more than {MOST_EXCLUSIONS} entries")));
    }
    let exclusions = values
        .iter()
        .enumerate()
        .map(|(index, value)| parse_exclusion(value, steps, context).map_err(|problem| problem.within(&format!("exclusions[{index}]"))));
    exclusions.collect()
}

fn parse_exclusion(value: &Value, steps: usize, context: &Context) -> Result<Exclusion, QueryError> {
    let fields = Fields::open(value, &["event", "filters", "from_step", "to_step"])?;
    let step = |key: &str, default: usize| match fields.value(key) {
        None => Some(default),
        Some(value) => value.as_u64().and_then(|step| usize::try_from(step).ok()),
    };
    match (step("from_step", 1), step("to_step", steps)) {
        (Some(from), Some(to)) if 1 <= from && from < to && to <= steps => {
            Ok(Exclusion { events: Events::parse(fields, context)?, between: Between { from: from - 1, to: to - 1 } })
        }
        _ => {
            let message = format!("`from_step` and `to_step` are steps from 1 to {steps}, the first before the second");
            Err(QueryError::invalid("invalid_exclusions", message))
        }
    }
}

/// Whether no event can be of two of these steps, as their types alone say.
pub(super) fn are_disjoint(steps: &[Step]) -> bool {
    let mut names: Vec<&String> = steps.iter().flat_map(|step| &step.events.names).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    // A type that is named twice in one step is no harm, but not worth telling apart.
    names.len() == all && steps.iter().all(|step| !step.events.names.is_empty())
}

/// The types of events that any of these can be; none if that is any.
pub(super) fn types<'e>(events: impl IntoIterator<Item = &'e Events>) -> Option<Vec<&'e str>> {
    let mut types: Vec<&str> = Vec::new();
    for events in events {
        if events.names.is_empty() {
            return None;
        }
        for name in &events.names {
            if !types.contains(&name.as_str()) {
                types.push(name);
            }
        }
    }
    Some(types)
}

/// A number with a bit for each of these that an event of `scope` is, the lowest bit `first`.
pub(super) fn bits<'e>(events: impl IntoIterator<Item = &'e Events>, scope: Scope, first: usize) -> Expr {
    let bits = events.into_iter().enumerate().map(|(index, events)| {
        let is_one = scope.matches(&events.names, &events.filters).grouped();
        Expr::call("toUInt32", [is_one]).infix(" * ", Expr::uint(1 << (first + index)))
    });
    Expr::list(" + ", bits)
}
