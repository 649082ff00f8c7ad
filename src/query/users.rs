//! The people behind a bar of another report, or behind plain conditions.
//!
//! A bar is the report's own request and where the bar stands in it (`"compare": true` beside `of`: in the chart that it is compared
//! with), so its people are counted by the very conditions that counted the bar: `total` is the number on the chart. Pages are in the order of the person's key, which no event changes:
//! whoever belongs to the bar throughout appears on exactly one page, whatever arrives meanwhile. First and last time and
//! the number of events are those of the bar.

use serde_json::{Map, Value, json};

use super::error::{QueryError, nearest};
use super::filter::{self, Filter};
use super::request::{Fields, shortened};
use super::run::{Row, Run, StatementRunner, to_json};
use super::sql::Statement;
use super::time::{Range, show_ms};
use super::trends::{self, Bar, BarRequest, Tops};
use crate::event::ids::ProjectId;

/// A checked request.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Plan {
    of: Of,
    limit: u64,
    after: Option<u64>,
}

/// Whose people.
#[derive(Clone, Debug, Hash)]
enum Of {
    Events { project: ProjectId, range: Range, event: Option<String>, filters: Vec<Filter> },
    Trends { plan: Box<trends::Plan>, bar: Bar },
}

/// Reports whose bars have people.
const REPORTS: [&str; 1] = ["trends"];

impl Plan {
    /// Checks a request.
    pub(crate) fn parse(project: ProjectId, body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let (fields, of) = match body.get("of").filter(|of| !of.is_null()) {
            Some(of) => {
                let fields = Fields::open(body, &["of", "compare", "limit", "cursor"])?;
                (fields, Of::bar(project, (of, is_compared(fields)?), now_ms)?)
            }
            None => {
                let fields = Fields::open(body, &["of", "from", "to", "timezone", "event", "filters", "limit", "cursor"])?;
                (fields, Of::events(project, fields, now_ms)?)
            }
        };
        let after = fields.text("cursor", "invalid_cursor")?.map(cursor).transpose()?;
        Ok(Self { of, limit: fields.limit("limit", 100, 10_000)?, after })
    }

    /// The ranges that the answer depends on.
    pub(crate) fn ranges(&self) -> Vec<&Range> {
        match &self.of {
            Of::Events { range, .. } => vec![range],
            // The largest values of the chart decide what is left over for others.
            Of::Trends { plan, bar } => vec![&plan.range, bar.range()],
        }
    }

    fn page(&self, tops: &[Tops]) -> Result<Statement, QueryError> {
        let to = Statement::default().sql(
            "SELECT person_id, if(max(user_id) != '', max(user_id), max(anonymous_id)), \
             toUnixTimestamp64Milli(min(timestamp)), toUnixTimestamp64Milli(max(timestamp)), count()",
        );
        let mut to = self.of.conditions(to, tops)?;
        if let Some(person) = self.after {
            to = to.sql(" AND person_id > ").uint(person);
        }
        Ok(to.sql(" GROUP BY person_id ORDER BY person_id LIMIT ").uint(self.limit + 1))
    }

    fn total(&self, tops: &[Tops]) -> Result<Statement, QueryError> {
        self.of.conditions(Statement::default().sql("SELECT uniqExact(person_id)"), tops)
    }
}

/// Answers a request.
pub(crate) async fn answer<R: Run>(plan: &Plan, runner: &mut StatementRunner<'_, R>) -> Result<Vec<u8>, QueryError> {
    let tops = match &plan.of {
        Of::Trends { plan, bar } if bar.needs_tops() => plan.tops(runner).await?,
        _ => Vec::new(),
    };
    let total = runner.rows(plan.total(&tops)?).await?.first().map_or(0, |row| row.uint(0));
    let mut rows = runner.rows(plan.page(&tops)?).await?;
    let limit = usize::try_from(plan.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| format!("{:016x}", row.uint(0)));
    to_json(&json!({"users": rows.iter().map(user).collect::<Vec<_>>(), "total": total, "next": next}))
}

impl Of {
    fn events(project: ProjectId, fields: Fields<'_>, now_ms: i64) -> Result<Self, QueryError> {
        let range = Range::parse_open(fields, now_ms)?;
        Ok(Self::Events {
            project,
            range,
            event: fields.text("event", "invalid_event")?.map(str::to_owned),
            filters: filter::parse_all(fields)?,
        })
    }

    fn bar(project: ProjectId, (of, is_compared): (&Value, bool), now_ms: i64) -> Result<Self, QueryError> {
        let Value::Object(object) = of else {
            return Err(QueryError::invalid("invalid_of", "`of` is the request of a report and the bar in it"));
        };
        let report = object.get("report").and_then(Value::as_str).unwrap_or("");
        if !REPORTS.contains(&report) {
            let hint = nearest(report, REPORTS);
            let message = format!("`of.report` cannot be `{}`, did you mean `{hint}`?", shortened(report));
            return Err(QueryError::invalid("invalid_of", message));
        }
        let own = object.iter().filter(|(key, _)| *key != "report").map(|(key, value)| (key.clone(), value.clone()));
        let (bar, own): (Map<_, _>, Map<_, _>) = own.partition(|(key, _)| trends::BAR_KEYS.contains(&key.as_str()));
        let plan = trends::Plan::parse(project, &Value::Object(own), now_ms)?;
        let bar = Value::Object(bar);
        let fields = Fields::open(&bar, &trends::BAR_KEYS)?;
        let bar = Bar::parse(BarRequest { plan: &plan, is_compared, fields }, now_ms)?;
        Ok(Self::Trends { plan: Box::new(plan), bar })
    }

    /// Appends scope and conditions.
    fn conditions(&self, to: Statement, tops: &[Tops]) -> Result<Statement, QueryError> {
        match self {
            Self::Trends { plan, bar } => plan.bar(to, bar, tops),
            Self::Events { project, range, event, filters } => {
                let to = to.scope(&range.scope(*project));
                let to = match event {
                    Some(event) => to.sql(" AND type = ").string(event),
                    None => to,
                };
                Ok(filter::and_all(to, filters))
            }
        }
    }
}

fn is_compared(fields: Fields<'_>) -> Result<bool, QueryError> {
    match fields.value("compare") {
        None => Ok(false),
        Some(Value::Bool(is_compared)) => Ok(*is_compared),
        Some(_) => Err(QueryError::invalid("invalid_of", "`compare` beside `of` is true for a bar of the chart that it is compared with")),
    }
}

fn cursor(text: &str) -> Result<u64, QueryError> {
    let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let person = u64::from_str_radix(text, 16).ok().filter(|_| is_ours);
    person.ok_or_else(|| QueryError::invalid("invalid_cursor", format!("`{}` is not a cursor of an earlier answer", shortened(text))))
}

fn user(row: &Row) -> Value {
    json!({"user": row.text(1), "first_seen": show_ms(row.int(2)), "last_seen": show_ms(row.int(3)), "events": row.uint(4)})
}
