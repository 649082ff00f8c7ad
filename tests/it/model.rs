//! What the reports should answer, computed event by event: one file a report, one line in [`MODELS`].

pub(crate) mod catalogue;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod filters;
pub(crate) mod funnel;
pub(crate) mod ledger;
pub(crate) mod lifecycle;
pub(crate) mod lines;
pub(crate) mod paths;
pub(crate) mod people;
pub(crate) mod properties;
pub(crate) mod reconciliation;
pub(crate) mod retention;
pub(crate) mod sessions;
pub(crate) mod stickiness;
pub(crate) mod trends;
pub(crate) mod users;

use jiff::tz::TimeZone;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::report::{Asker, Case};

/// Asks a report about the events of a case, and compares the answer with what its definition gives for them.
pub(crate) type Check = fn(Asker<'_>, &Case) -> Result<(), TestCaseError>;

/// The model of every report.
pub(crate) const MODELS: &[(&str, Check)] = &[
    ("trends", trends::check),
    ("funnel", funnel::check),
    ("sessions", sessions::check),
    ("lifecycle", lifecycle::check),
    ("stickiness", stickiness::check),
    ("retention", retention::check),
    ("paths", paths::check),
    ("users", users::check),
    ("events", events::check),
    ("export", export::check),
    ("properties", properties::check),
    ("catalogue-events", catalogue::events),
    ("catalogue-fields", catalogue::fields),
    ("catalogue-values", catalogue::values),
    ("ledger", ledger::check),
    ("dead-letters", dead_letters::check),
];

/// Every zone here changes its clocks, and begins its hours, at a multiple of this.
pub(crate) const HALF_HOUR_MS: i64 = 1_800_000;
pub(crate) const MATHS: [&str; 20] = [
    "total",
    "unique_users",
    "unique_sessions",
    "unique:country",
    "unique:properties.plan",
    "unique:person.plan",
    "unique:session.pages",
    "per_user",
    "dau",
    "wau",
    "mau",
    "first_time_users",
    "sum",
    "avg",
    "min",
    "max",
    "p50",
    "p90",
    "p95",
    "p99",
];
pub(crate) const INTERVALS: [&str; 5] = ["minute", "hour", "day", "week", "month"];
pub(crate) const BREAKDOWNS: [Breakdown; 18] = [
    Breakdown { fields: &[], is_list: false },
    Breakdown { fields: &["properties.plan"], is_list: false },
    Breakdown { fields: &["properties.amount"], is_list: false },
    Breakdown { fields: &["country"], is_list: false },
    Breakdown { fields: &["country"], is_list: true },
    Breakdown { fields: &["country", "properties.plan"], is_list: true },
    Breakdown { fields: &["properties.plan", "country", "properties.amount"], is_list: true },
    Breakdown { fields: &["session.pages"], is_list: false },
    Breakdown { fields: &["session.is_bounce"], is_list: false },
    Breakdown { fields: &["session.entry_page"], is_list: false },
    Breakdown { fields: &["session.country", "session.is_bounce"], is_list: true },
    Breakdown { fields: &["session.channel"], is_list: false },
    Breakdown { fields: &["session.browser", "session.os", "session.campaign_source"], is_list: true },
    Breakdown { fields: &["session.person"], is_list: false },
    Breakdown { fields: &["session.visitor", "session.device_type"], is_list: true },
    Breakdown { fields: &["person.plan"], is_list: false },
    Breakdown { fields: &["person.amount", "person.plan"], is_list: true },
    Breakdown { fields: &["session.is_bounce", "person.amount"], is_list: true },
];
/// No session of the cases is longer: half of what a project's may be.
const SESSION_MS: i64 = 12 * 3_600_000;
/// A number that no float holds.
pub(crate) const BIG: i64 = 9_007_199_254_740_993;

/// The fields by which numbers are broken down; none without a breakdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breakdown {
    pub(crate) fields: &'static [&'static str],
    pub(crate) is_list: bool,
}

/// The values of an event for a breakdown, each as a text that sorts as the ranking does.
pub(crate) type Key = Vec<String>;

impl Breakdown {
    /// As a request has it.
    pub(crate) fn request(self) -> Value {
        match self.fields {
            [] => Value::Null,
            [field] if !self.is_list => json!(field),
            fields => json!(fields),
        }
    }

    /// The key of events without any of its values.
    pub(crate) fn none(self) -> Key {
        vec!["z".to_owned(); self.fields.len()]
    }
}

/// A stored event, as far as these reports see it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) at_ms: i64,
    /// The device and the user that it came with; one of them at least.
    pub(crate) device: Option<u64>,
    pub(crate) user: Option<u64>,
    /// Whose it is by all that is tied: [`people::resolve`].
    pub(crate) person: u64,
    /// What that one is called.
    pub(crate) called: String,
    /// What is known of that one.
    pub(crate) traits: Traits,
    pub(crate) session: u64,
    pub(crate) plan: Option<Value>,
    pub(crate) amount: Option<i64>,
    pub(crate) country: &'static str,
    pub(crate) bot: &'static str,
    /// What is said of its session, by the events that are looked at with it.
    pub(crate) of_session: OfSession,
}

/// What is known of a person.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Traits {
    pub(crate) plan: Option<Value>,
    pub(crate) amount: Option<i64>,
}

/// What is said of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OfSession {
    pub(crate) person: u64,
    pub(crate) traits: Traits,
    /// What that person is called.
    pub(crate) called: String,
    pub(crate) start_ms: i64,
    pub(crate) duration_ms: i64,
    pub(crate) events: usize,
    pub(crate) pages: usize,
    pub(crate) entry_page: &'static str,
    pub(crate) exit_page: &'static str,
    /// Of its first event.
    pub(crate) kind: &'static str,
    pub(crate) country: &'static str,
}

impl OfSession {
    pub(crate) fn is_bounce(&self) -> bool {
        self.events == 1 || self.pages == 1 && self.duration_ms < 10_000
    }
}

/// The events, each with what is said of its session: by all of them or, where bots are left out, by those that are bots as it is or not.
pub(crate) fn with_sessions(mut events: Vec<Event>, include_bots: bool) -> Vec<Event> {
    let all = events.clone();
    for event in &mut events {
        let is_beside = |other: &&Event| include_bots || other.bot.is_empty() == event.bot.is_empty();
        let mut session: Vec<&Event> = all.iter().filter(|other| other.session_key() == event.session_key()).filter(is_beside).collect();
        // Those of one moment in the order of the list.
        session.sort_by_key(|event| event.at_ms);
        let pages: Vec<&&Event> = session.iter().filter(|event| event.kind == "page_view").collect();
        event.of_session = OfSession {
            person: session[0].person,
            traits: session[0].traits.clone(),
            called: session[0].called.clone(),
            start_ms: session[0].at_ms,
            duration_ms: session[session.len() - 1].at_ms - session[0].at_ms,
            events: session.len(),
            pages: pages.len(),
            entry_page: pages.first().map_or("", |event| event.page_path()),
            exit_page: pages.last().map_or("", |event| event.page_path()),
            kind: session[0].kind,
            country: session[0].country,
        };
    }
    events
}

/// `from` included, `until` excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Event {
    /// As a row of the table; `index` makes its id.
    pub(crate) fn row(&self, project: u64, index: usize) -> Value {
        let at = format!("{}.{:03}", self.at_ms / 1_000, self.at_ms % 1_000);
        let mut row = json!({
            "project_id": project, "type": self.kind, "timestamp": at, "received_at": at, "received_day": "2100-01-01",
            "person_id": people::key(self.user.or(self.device).unwrap()), "visitor_id": people::key(self.device.or(self.user).unwrap()),
            "user_id": self.user.map(people::name).unwrap_or_default(), "anonymous_id": self.device.map(people::name).unwrap_or_default(),
            "event_id": id(index), "session_id": self.session_id(), "country": self.country, "bot": self.bot,
            "page_path": self.page_path(),
            // Columns of sessions, by what else the event is.
            "channel": self.kind, "browser": self.kind, "campaign_source": self.country, "os": self.country, "device_type": self.country,
            "strings": {}, "numbers": {}, "others": {},
        });
        match &self.plan {
            Some(Value::String(text)) => row["strings"]["plan"] = json!(text),
            Some(Value::Number(number)) if *number != json!(BIG).as_number().unwrap().clone() => row["numbers"]["plan"] = json!(number),
            Some(other) => row["others"]["plan"] = json!(stored(other)),
            None => {}
        }
        match self.amount {
            Some(BIG) => row["others"]["amount"] = json!(BIG.to_string()),
            Some(amount) => row["numbers"]["amount"] = json!(amount),
            None => {}
        }
        row
    }

    /// Its session: of one visitor, within half a day.
    pub(crate) fn session_key(&self) -> (u64, u64, i64) {
        (self.device.or(self.user).unwrap(), self.session, self.at_ms.div_euclid(SESSION_MS))
    }

    pub(crate) fn session_id(&self) -> String {
        let (visitor, session, half_day) = self.session_key();
        format!("00000000-0000-{visitor:04}-{session:04}-{half_day:012}")
    }

    pub(crate) fn page_path(&self) -> &'static str {
        ["", "/a", "/b"][self.at_ms.rem_euclid(3) as usize]
    }

    pub(crate) fn key(&self, breakdown: Breakdown) -> Key {
        breakdown.fields.iter().map(|field| self.value(field, &self.traits)).collect()
    }

    /// The key of its session, whose person is that of its first event.
    pub(crate) fn key_of_session(&self, breakdown: Breakdown) -> Key {
        breakdown.fields.iter().map(|field| self.value(field, &self.of_session.traits)).collect()
    }

    /// The value of a field as a key.
    pub(crate) fn value_of(&self, field: &str) -> String {
        self.value(field, &self.traits)
    }

    fn value(&self, field: &str, traits: &Traits) -> String {
        match field {
            "person.amount" => amount_key(traits.amount),
            "person.plan" => plan_key(traits.plan.as_ref()),
            "country" if self.country.is_empty() => "z".to_owned(),
            "country" => format!("s{}", self.country),
            "session.pages" => format!("n{}", self.of_session.pages),
            "session.is_bounce" => format!("o{}", self.of_session.is_bounce()),
            "session.entry_page" => text_key(self.of_session.entry_page),
            "session.country" | "session.campaign_source" | "session.os" | "session.device_type" => text_key(self.of_session.country),
            "session.channel" | "session.browser" => text_key(self.of_session.kind),
            "session.person" => text_key(&self.of_session.called),
            "session.visitor" => text_key(&people::name(self.device.or(self.user).unwrap())),
            "properties.amount" => amount_key(self.amount),
            _ => plan_key(self.plan.as_ref()),
        }
    }
}

fn amount_key(amount: Option<i64>) -> String {
    amount.map_or_else(|| "z".to_owned(), |amount| number_key(&json!(amount)))
}

fn plan_key(plan: Option<&Value>) -> String {
    match plan {
        None | Some(Value::Null) => "z".to_owned(),
        Some(Value::String(text)) => format!("s{text}"),
        Some(number @ Value::Number(_)) => number_key(number),
        Some(other) => format!("o{}", stored(other)),
    }
}

fn text_key(text: &str) -> String {
    if text.is_empty() { "z".to_owned() } else { format!("s{text}") }
}

/// When what happened at `at_ms` was received: what is kept for a time after it is received must still be there.
pub(crate) fn received_ms(at_ms: i64) -> i64 {
    at_ms + 70 * 365 * 86_400_000
}

/// The range of receipt, from included, of what happened in a range.
pub(crate) fn received_range(range: Range) -> (i64, i64) {
    (received_ms(range.from), received_ms(range.until))
}

/// JSON as it was sent and stored: with the keys of objects in another order than the one in which they are read back.
pub(crate) fn stored(value: &Value) -> String {
    if *value == plan_with_an_object() { r#"[{"sku":"x","qty":1}]"#.to_owned() } else { value.to_string() }
}

pub(crate) fn plan_with_an_object() -> Value {
    json!([{"qty": 1, "sku": "x"}])
}

pub(crate) fn number_key(number: &Value) -> String {
    match number.as_f64() {
        _ if *number == json!(BIG) => format!("o{number}"),
        Some(0.0) => "n0".to_owned(),
        _ => format!("n{number}"),
    }
}

/// The id of the event that was inserted as number `index`.
pub(crate) fn id(index: usize) -> String {
    format!("00000000-0000-4000-8000-{index:012}")
}

/// The starts of the buckets and the end of the last one: wherever the wall clock shows the beginning of one.
pub(crate) fn edges(range: Range, interval: &str, zone: &str) -> Vec<i64> {
    if interval == "minute" {
        let minutes = (range.from..range.until).step_by(60_000);
        return minutes.chain([range.until]).collect();
    }
    let zone = TimeZone::get(zone).unwrap();
    let at = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone());
    let label = |at_ms: i64| match interval {
        "day" => at(at_ms).date().to_string(),
        "week" => format!("{:?}", (at(at_ms).date().iso_week_date().year(), at(at_ms).date().iso_week_date().week())),
        _ => format!("{} {}", at(at_ms).year(), at(at_ms).month()),
    };
    let is_edge = |at_ms: i64| match interval {
        "hour" => at(at_ms).minute() == 0,
        _ => label(at_ms) != label(at_ms - HALF_HOUR_MS),
    };
    let mut start = range.from;
    while !is_edge(start) {
        start -= HALF_HOUR_MS;
    }
    let mut edges = vec![start];
    let mut next = start + HALF_HOUR_MS;
    loop {
        if is_edge(next) {
            edges.push(next);
            if next >= range.until {
                return edges;
            }
        }
        next += HALF_HOUR_MS;
    }
}
