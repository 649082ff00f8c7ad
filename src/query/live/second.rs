//! What came of one project within a second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Shown;
use crate::event::field::Field;
use crate::event::packed::{Entry, EventHeader, Fields};
use crate::event::record::Tally;
use crate::outcome::Count;
use crate::query::ask::range::show_ms;
use crate::query::reader::number;

/// Types that are told apart; those beyond are counted together.
const MOST_TYPES: usize = 200;
/// Types that are shown, the most frequent.
const SHOWN_TYPES: usize = 20;
/// Events that are shown, of a type and in all; those of bots, who are in nobody's way, are as many as those of a type. The first of each
/// type that is told apart is shown however many there are, to those who have asked for the type.
const SHOWN_OF_TYPE: u64 = 5;
const SHOWN: u64 = 50;
/// Persons that are told apart.
const MOST_PERSONS: usize = 1_000_000;
/// An event that happened this long before it was received is late.
const LATE_MS: i64 = 3_600_000;
/// Longest text that is shown, bytes.
const SHOWN_TEXT: usize = 200;
const SHOWN_PROPERTIES: usize = 50;

/// The counters of a second.
#[derive(Debug, Default)]
pub(super) struct Second {
    events: u64,
    bots: u64,
    late: u64,
    rejected: u64,
    dead: u64,
    shown: u64,
    persons: HashSet<u64, foldhash::fast::RandomState>,
    types: HashMap<Arc<str>, u64, foldhash::fast::RandomState>,
    other_types: u64,
}

impl Second {
    /// Counts what did not become an event.
    pub(super) fn ended(&mut self, tally: &Tally) {
        for (count, number) in &tally.counts {
            match count {
                Count::Rejected(_) => self.rejected += u64::from(*number),
                Count::Dead(_) => self.dead += u64::from(*number),
                _ => {}
            }
        }
    }

    /// Counts an event; whose and what it is, as JSON, if it is one of those that are shown.
    pub(super) fn event(&mut self, header: &EventHeader, fields: &Fields<'_>) -> Option<(Shown, String)> {
        let is_late = header.received_ms - header.at_ms > LATE_MS;
        let event_type = fields.text(Field::Type);
        // As in every report, bots are beside what is counted.
        let is_of_bot = !fields.text(Field::Bot).is_empty();
        let (event_type, of_type) = if is_of_bot {
            self.bots += 1;
            (event_type.into(), self.bots)
        } else {
            self.events += 1;
            self.late += u64::from(is_late);
            if self.persons.len() < MOST_PERSONS {
                self.persons.insert(header.person.0);
            }
            self.count_type(event_type)
        };
        let is_for_few = !is_of_bot && self.shown >= SHOWN;
        if of_type > SHOWN_OF_TYPE || is_for_few && of_type > 1 {
            return None;
        }
        self.shown += u64::from(!is_of_bot && !is_for_few);
        Some((Shown { event_type, is_of_bot, is_for_few }, show(header, fields, is_late).to_string()))
    }

    /// How many of the type there are now; of one that is not told apart as many as are never shown.
    fn count_type(&mut self, event_type: &str) -> (Arc<str>, u64) {
        if let Some((known, of_type)) = self.types.get_key_value(event_type).map(|(known, of_type)| (Arc::clone(known), of_type + 1)) {
            self.types.insert(Arc::clone(&known), of_type);
            return (known, of_type);
        }
        let known: Arc<str> = event_type.into();
        if self.types.len() >= MOST_TYPES {
            self.other_types += 1;
            return (known, u64::MAX);
        }
        self.types.insert(Arc::clone(&known), 1);
        (known, 1)
    }

    /// The counters as JSON; the next second begins.
    pub(super) fn end(&mut self, now_ms: i64) -> String {
        let mut types: Vec<(&Arc<str>, &u64)> = self.types.iter().collect();
        types.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
        let others: u64 = types.iter().skip(SHOWN_TYPES).map(|(_, events)| **events).sum();
        let shown = types.iter().take(SHOWN_TYPES);
        let shown: Vec<Value> = shown.map(|(event_type, events)| json!({"type": &***event_type, "events": events})).collect();
        let counters = json!({
            "at": show_ms(now_ms), "events": self.events, "persons": self.persons.len(), "by_type": shown,
            "other_types": others + self.other_types, "bots": self.bots, "late": self.late, "rejected": self.rejected, "dead": self.dead,
        });
        self.persons.clear();
        self.types.clear();
        (self.events, self.bots, self.late, self.rejected) = (0, 0, 0, 0);
        (self.dead, self.shown, self.other_types) = (0, 0, 0);
        counters.to_string()
    }
}

/// An event as it is shown live: what tells most of it.
fn show(header: &EventHeader, fields: &Fields<'_>, is_late: bool) -> Value {
    let mut event = Map::new();
    event.insert("eventId".into(), uuid::Uuid::from_bytes(header.event_id).to_string().into());
    event.insert("timestamp".into(), show_ms(header.at_ms).into());
    event.insert("receivedAt".into(), show_ms(header.received_ms).into());
    let shown = [
        ("type", Field::Type),
        ("userId", Field::UserId),
        ("anonymousId", Field::AnonymousId),
        ("page", Field::PageUrl),
        ("referrerDomain", Field::ReferrerDomain),
        ("channel", Field::Channel),
        ("country", Field::Country),
        ("city", Field::City),
        ("browser", Field::Browser),
        ("os", Field::Os),
        ("deviceType", Field::DeviceType),
        ("bot", Field::Bot),
    ];
    for (name, field) in shown {
        let text = fields.text(field);
        if !text.is_empty() {
            event.insert(name.into(), cut(text).into());
        }
    }
    if is_late {
        event.insert("late".into(), true.into());
    }
    let text = |bytes| cut(std::str::from_utf8(bytes).unwrap_or_default());
    let properties = fields.properties().filter_map(|entry| match entry {
        Entry::String(key, value) => Some((text(key).to_owned(), text(value).into())),
        Entry::Number(key, value) => Some((text(key).to_owned(), number(value))),
        // A large array or object is shown as the beginning of its text: everybody who watches is sent it.
        Entry::Other(key, value) if value.len() > SHOWN_TEXT => Some((text(key).to_owned(), text(value).into())),
        Entry::Other(key, value) => Some((text(key).to_owned(), serde_json::from_slice(value).unwrap_or_default())),
        Entry::Field(..) | Entry::Damaged => None,
    });
    event.insert("properties".into(), Value::Object(properties.take(SHOWN_PROPERTIES).collect()));
    Value::Object(event)
}

/// The beginning of a text, as long as is shown.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::{PersonKey, ProjectId, VisitorKey};
    use crate::event::packed::{EventView, EventWriter};
    use crate::outcome::{DeadReason, Defect};

    /// Counts an event of this type, person and delay; whether it is shown to all.
    fn event(second: &mut Second, event_type: &str, person: u64, late_ms: i64, bot: &str) -> bool {
        shown(second, event_type, person, late_ms, bot).is_some_and(|shown| !shown.is_for_few)
    }

    /// Counts it; how it is shown.
    fn shown(second: &mut Second, event_type: &str, person: u64, late_ms: i64, bot: &str) -> Option<Shown> {
        let mut bytes = Vec::new();
        let mut writer = EventWriter::begin(&mut bytes);
        writer.field(Field::Type, event_type.as_bytes());
        writer.field(Field::Bot, bot.as_bytes());
        writer.string(b"plan", "\u{e4}".repeat(300).as_bytes());
        writer.other(b"large", format!("[{}]", ["1234567"; 1_000].join(",")).as_bytes());
        writer.other(b"small", b"[1]");
        writer.finish(&EventHeader {
            event_id: [1; 16],
            visitor: VisitorKey(person),
            person: PersonKey(person),
            at_ms: 10_000_000 - late_ms,
            received_ms: 10_000_000,
            ..EventHeader::default()
        });
        let view = EventView::take(&mut bytes.as_slice()).unwrap();
        let (shown, text) = second.event(&view.header, &Fields::of(&view).unwrap())?;
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&*shown.event_type, &told["type"], told["late"] == true), (event_type, &json!(event_type), late_ms > LATE_MS));
        assert_eq!(shown.is_of_bot, !bot.is_empty());
        assert_eq!(told["properties"]["plan"].as_str().unwrap().len(), 200);
        assert_eq!((told["properties"]["large"].as_str().unwrap().len(), &told["properties"]["small"]), (200, &json!([1])));
        Some(shown)
    }

    #[test]
    fn a_second_counts_all_and_shows_some_of_each_type() {
        let mut second = Second::default();
        let shown: Vec<bool> = (0..8).map(|person| event(&mut second, "view", person % 3, 0, "")).collect();
        assert_eq!(shown, [true, true, true, true, true, false, false, false]);
        assert!(event(&mut second, "buy", 1, LATE_MS + 1, "") && event(&mut second, "buy", 9, LATE_MS + 1, "crawler"));
        let counts = vec![(Count::Rejected(Defect::InvalidJson), 2), (Count::Dead(DeadReason::RecordFailed), 3), (Count::Received, 9)];
        second.ended(&Tally { project: ProjectId(1), minute: 0, counts });
        let counters: Value = serde_json::from_str(&second.end(0)).unwrap();
        let expected = json!({"at": "1970-01-01T00:00:00.000Z", "events": 9, "persons": 3, "other_types": 0, "bots": 1, "late": 1, "rejected": 2,
            "dead": 3, "by_type": [{"type": "view", "events": 8}, {"type": "buy", "events": 1}]});
        assert_eq!(counters, expected);
        let next: Value = serde_json::from_str(&second.end(0)).unwrap();
        assert_eq!((&next["events"], &next["persons"], &next["by_type"]), (&json!(0), &json!(0), &json!([])));
    }

    #[test]
    fn bots_take_no_place_of_people() {
        let mut second = Second::default();
        let bots = (0..1_000).filter(|number| event(&mut second, &format!("type {number}"), 1, 0, "crawler")).count();
        let people = (0..1_000).filter(|number| event(&mut second, &format!("type {number}"), 1, 0, "")).count();
        assert_eq!((bots as u64, people as u64), (SHOWN_OF_TYPE, SHOWN));
    }

    #[test]
    fn who_asks_for_a_rare_type_sees_it_however_many_others_are_busy() {
        let mut second = Second::default();
        let busy = (0..140).filter(|number| event(&mut second, &format!("type {}", number % 14), 1, 0, "")).count();
        assert_eq!(busy as u64, SHOWN);
        let rare = shown(&mut second, "rare", 1, 0, "");
        assert!(rare.is_some_and(|rare| rare.is_for_few), "the first one");
        assert!(shown(&mut second, "rare", 1, 0, "").is_none(), "no more of it: there are many already");
        second.end(0);
        assert!(event(&mut second, "rare", 1, 0, ""));
        // Types that nobody told apart are as many as a client likes.
        let made_up = (0..1_000).filter(|number| shown(&mut second, &format!("type {number}"), 1, 0, "").is_some()).count();
        assert_eq!(made_up, MOST_TYPES - 1);
    }

    #[test]
    fn a_client_that_makes_up_types_takes_bounded_room() {
        let mut second = Second::default();
        let shown = (0..1_000).filter(|number| event(&mut second, &format!("type {number}"), 1, 0, "")).count();
        assert_eq!((shown as u64, second.types.len()), (SHOWN, MOST_TYPES));
        let counters: Value = serde_json::from_str(&second.end(0)).unwrap();
        assert_eq!((&counters["other_types"], counters["by_type"].as_array().unwrap().len()), (&json!(980), SHOWN_TYPES));
    }
}
