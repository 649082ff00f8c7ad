//! The people behind a bar of another report, or behind plain conditions.
//!
//! A bar is the report's own request and where the bar stands in it (`"compare": true` beside `of`: in the chart that it is compared
//! with), so its people are counted by the very conditions that counted the bar: `total` is the number on the chart. Pages are in the
//! order of the person's key, which no event changes: a person who belongs to the bar throughout appears on exactly one page, whatever
//! arrives meanwhile. First and last time and the number of events are those of the bar.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{Actors, Ask, Bar, People, REPORTS, Report};
use crate::query::ask::fields::shortened;
use crate::query::ask::page::{Cursor, Page};
use crate::query::ask::people_names::{USER_ID, names_of_persons};
use crate::query::ask::range::show_ms;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{Canonical, CanonicalForm, EventMatch, EventSet, Expr, Fields, Range, Select, Selection};
use crate::query::error::{QueryError, nearest};
use crate::query::reader::{Cell, Row, StatementRunner, to_json};

/// Most people of a page.
const MAX_PAGE: u64 = 10_000;

/// A checked request.
pub(crate) struct Users {
    of: Box<dyn People>,
    page: Page<PersonKey>,
}

/// The key of a person, which orders the list.
#[derive(Clone, Copy, Debug)]
struct PersonKey(u64);

impl Cursor for PersonKey {
    fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_ours).map(Self)
    }
}

impl Canonical for PersonKey {
    fn canonical(&self, to: &mut CanonicalForm) {
        self.0.canonical(to);
    }
}

impl Canonical for Users {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { of, page } = self;
        to.field("of", of.as_ref()).field("page", page);
    }
}

impl Report for Users {
    const NAME: &'static str = "users";
    const CHEAPER: &'static str = "people of a shorter range, or of one `bucket`";

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        match ask.body.get("of").filter(|of| !of.is_null()) {
            Some(of) => {
                let fields = Fields::open(ask.body, &["of", "compare", "limit", "cursor"])?;
                let of = behind(Ask { body: of, ..ask }, is_compared(fields)?)?;
                Ok(Self { of, page: Page::parse(fields, MAX_PAGE)? })
            }
            None => {
                let fields = Fields::open(ask.body, &["of", "from", "to", "timezone", "event", "filters", "limit", "cursor"])?;
                let events = EventMatch::parse(fields, ask.context)?;
                let anyone = Anyone { range: Range::parse_open(fields, ask.now_ms)?, events };
                Ok(Self { of: Box::new(anyone), page: Page::parse(fields, MAX_PAGE)? })
            }
        }
    }

    fn ranges(&self) -> Vec<&Range> {
        self.of.ranges()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.of.event_sets()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let (total, persons, events) = match self.of.actors(runner).await? {
            Actors::OfEvents(events) => {
                let counted = runner.rows(self.counted(events.clone()).into()).await?;
                let counted = counted.first().map(|row| (row.cell(0).uint(), row.cell(1).items().map(Cell::uint).collect()));
                let (total, persons): (u64, Vec<u64>) = counted.unwrap_or_default();
                (total, persons, events)
            }
            Actors::Known { persons, events } => (persons.len() as u64, self.of_page(&persons).collect(), events),
        };
        // What is told of people is looked up of those of the page alone: to group all by their names costs several times as much.
        let is_of_page = Expr::from(PERSON).infix(" IN ", Expr::uints(persons));
        let mut rows = runner.rows(people(events.and(is_of_page)).into()).await?;
        let next = self.page.cut(&mut rows).map(|last| format!("{:016x}", last.cell(0).uint()));
        let names = names(runner, &rows).await?;
        to_json(&json!({"users": rows.iter().map(|row| user(row, &names)).collect::<Vec<_>>(), "total": total, "next": next}))
    }
}

impl Users {
    /// Of these persons, whose keys ascend, those of the page and the next one.
    fn of_page(&self, persons: &[u64]) -> impl Iterator<Item = u64> {
        let before = self.page.after.map_or(0, |PersonKey(after)| persons.partition_point(|person| *person <= after));
        persons.iter().skip(before).take(self.page.rows() as usize).copied()
    }

    /// One row: how many people `events` have, and the keys of those of the page and the next one.
    fn counted(&self, events: Selection) -> Expr {
        let keys = Select::default().named(PERSON, " AS key").from(events).then(" GROUP BY key");
        // As many as the largest page has, and the next one: it is no parameter of a statement.
        let listed = match self.page.after {
            Some(PersonKey(person)) => {
                Expr::from("groupArraySortedIf(10001)(key, ").then(Expr::from("key").infix(" > ", Expr::uint(person)))
            }
            None => "groupArraySorted(10001)(key".into(),
        };
        let page = Expr::from("arraySlice(").then(listed).then("), 1, ").then(Expr::uint(self.page.rows())).then(")");
        Expr::from("SELECT count(), ").then(page).then(" FROM ").then(keys.enclosed())
    }
}

/// What is told of the people of `events`, in the order of their keys.
fn people(events: Selection) -> Expr {
    let columns = Select::default()
        .column(PERSON)
        .column(Expr::call("max", [USER_ID.into()]))
        .column("max(anonymous_id)")
        .column("toUnixTimestamp64Milli(min(timestamp))")
        .column("toUnixTimestamp64Milli(max(timestamp))")
        .column("count()");
    columns.from(events).then(" GROUP BY ").then(PERSON).then(" ORDER BY ").then(PERSON)
}

/// What people are called whom ties name, by key: the same whatever of them the bar has.
async fn names(runner: &mut StatementRunner<'_>, people: &[Row]) -> Result<HashMap<u64, String>, QueryError> {
    let keys: Vec<u64> = people.iter().filter(|_| runner.people().has_ties()).map(|row| row.cell(0).uint()).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = names_of_persons(runner.project(), PERSON).then(" HAVING key IN ").then(Expr::uints(keys));
    let rows = runner.rows(statement.into()).await?;
    Ok(rows.iter().map(|row| (row.cell(0).uint(), row.cell(1).text().to_owned())).collect())
}

fn user(row: &Row, names: &HashMap<u64, String>) -> Value {
    let [person, user, device, first, last, events] = row.columns();
    let known = names.get(&person.uint()).map(String::as_str).or(Some(user.text()).filter(|user| !user.is_empty()));
    json!({"user": known.unwrap_or(device.text()), "first_seen": show_ms(first.int()), "last_seen": show_ms(last.int()), "events": events.uint()})
}

/// The people behind a bar: `ask` is the request of a report and the bar in it.
fn behind(ask: Ask<'_>, is_compared: bool) -> Result<Box<dyn People>, QueryError> {
    let Value::Object(object) = ask.body else {
        return Err(QueryError::invalid("invalid_of", "`of` is the request of a report and the bar in it"));
    };
    let name = object.get("report").and_then(Value::as_str).unwrap_or("");
    let with_bars = || REPORTS.iter().filter(|report| !report.bar_keys.is_empty());
    let report = with_bars().find(|report| report.name == name).ok_or_else(|| {
        let hint = nearest(name, with_bars().map(|report| report.name));
        QueryError::invalid("invalid_of", format!("`of.report` cannot be `{}`, did you mean `{hint}`?", shortened(name)))
    })?;
    let own = object.iter().filter(|(key, _)| *key != "report").map(|(key, value)| (key.clone(), value.clone()));
    let (bar, own): (Map<_, _>, Map<_, _>) = own.partition(|(key, _)| report.bar_keys.contains(&key.as_str()));
    let (bar, own) = (Value::Object(bar), Value::Object(own));
    let plan = (report.parse)(Ask { body: &own, ..ask })?;
    plan.people(Bar { fields: Fields::open(&bar, report.bar_keys)?, is_compared, now_ms: ask.now_ms })
}

fn is_compared(fields: Fields<'_>) -> Result<bool, QueryError> {
    match fields.value("compare") {
        None => Ok(false),
        Some(Value::Bool(is_compared)) => Ok(*is_compared),
        Some(_) => Err(QueryError::invalid("invalid_of", "`compare` beside `of` is true for a bar of the chart that it is compared with")),
    }
}

/// The people of all events of a range that match.
struct Anyone {
    range: Range,
    events: EventMatch,
}

impl Canonical for Anyone {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { range, events } = self;
        to.field("range", range).field("events", events);
    }
}

impl People for Anyone {
    fn ranges(&self) -> Vec<&Range> {
        vec![&self.range]
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        vec![self.events.set(&self.range)]
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        let events = self.events.select(runner.scope(&self.range));
        async move { Ok(Actors::OfEvents(events)) }.boxed()
    }
}
