//! Funnels as they are asked for.

use super::*;
use crate::wire::{put_bytes, put_varint};

/// A request of two steps, with `more`.
pub(super) fn with(more: Value) -> Value {
    let mut request = json!({"from": "-7d", "steps": [{"event": "view"}, {"event": "buy"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn of(more: Value) -> Value {
    let mut of = with(more);
    of["report"] = json!("funnel");
    json!({"of": of})
}

#[test]
fn what_makes_no_sense_of_a_funnel_is_refused_by_name() {
    for (more, code) in [
        (json!({"steps": null}), "invalid_steps"),
        (json!({"steps": [{"event": "view"}]}), "invalid_steps"),
        (json!({"steps": vec![json!({"event": "view"}); 21]}), "invalid_steps"),
        (json!({"steps": [{"event": "view", "optional": true}, {"event": "buy"}]}), "invalid_steps"),
        (json!({"steps": [{"event": []}, {"event": "buy"}]}), "invalid_event"),
        (json!({"steps": [{"event": 7}, {"event": "buy"}]}), "invalid_event"),
        (json!({"steps": [{"event": "view", "step": 1}, {"event": "buy"}]}), "unknown_key"),
        (json!({"window": "29s"}), "invalid_window"),
        (json!({"window": "367d"}), "invalid_window"),
        (json!({"window": "99999999999999999999d"}), "invalid_window"),
        (json!({"window": "d"}), "invalid_window"),
        (json!({"window": "5\u{fc}"}), "invalid_window"),
        (json!({"window": 7}), "invalid_window"),
        (json!({"order": "any"}), "invalid_order"),
        (json!({"order": "strict", "count": "totals"}), "invalid_order"),
        (json!({"count": "events"}), "invalid_count"),
        (json!({"exclusions": [{"event": "x", "from_step": 2, "to_step": 2}]}), "invalid_exclusions"),
        (json!({"exclusions": [{"event": "x", "from_step": 0}]}), "invalid_exclusions"),
        (json!({"exclusions": [{"event": "x", "to_step": 3}]}), "invalid_exclusions"),
        (json!({"exclusions": vec![json!({"event": "x"}); 11]}), "invalid_exclusions"),
        (json!({"hold": ["contry"]}), "invalid_field"),
        (json!({"hold": "country"}), "invalid_hold"),
        (json!({"hold": vec!["country"; 6]}), "invalid_field"),
        (json!({"attribution": "step:3"}), "invalid_attribution"),
        (json!({"attribution": "middle"}), "invalid_attribution"),
        (json!({"view": "table"}), "invalid_view"),
        (json!({"bins": 0}), "invalid_limit"),
        (json!({"view": "trend", "from": "-50y", "interval": "minute"}), "too_many_buckets"),
        (json!({"complete_windows_only": 1}), "invalid_complete_windows_only"),
    ] {
        assert_eq!(refused("funnel", &with(more.clone())), code, "{more}");
    }
    for more in [
        json!({}),
        json!({"step": 3}),
        json!({"step": 1, "converted": false}),
        json!({"step": 1, "bucket": "2026-01-01T00:00:01Z"}),
        json!({"step": 1, "breakdown_value": "DE"}),
    ] {
        assert_eq!(refused("users", &of(more.clone())), "invalid_of", "{more}");
    }
}

#[test]
fn a_funnel_depends_on_what_happens_within_a_window_behind_its_range() {
    let asked = |more: Value, now_ms| parsed("funnel", &with(more), now_ms);
    let fixed = asked(json!({"from": "2025-12-01", "to": "2025-12-02", "window": "3d"}), NOW_MS);
    let ranges = fixed.plan.ranges();
    assert_eq!(ranges.len(), 1);
    assert_eq!((ranges[0].until_ms - ranges[0].from_ms) / 86_400_000, 4);
    let same = |more: Value| asked(more.clone(), NOW_MS).fingerprint() == asked(more, NOW_MS + 60_000).fingerprint();
    assert!(same(json!({"from": "-7d", "to": "now", "window": "3d", "compare": "previous"})));
}

#[test]
fn one_funnel_spelled_in_many_ways_is_one_question() {
    let plain = question("funnel", &with(json!({})), NOW_MS);
    for more in [
        json!({"window": "336h", "order": "ordered", "count": "users", "attribution": "first", "view": "steps", "exclusions": [], "hold": []}),
        json!({"to": "now", "limit": 25, "steps": [{"event": "view", "optional": false, "name": "view"}, {"filters": [], "event": "buy"}]}),
    ] {
        assert_eq!(question("funnel", &with(more.clone()), NOW_MS), plain, "{more}");
    }
    for more in [
        json!({"window": "13d"}),
        json!({"order": "strict"}),
        json!({"count": "totals"}),
        json!({"hold": ["country"]}),
        json!({"attribution": "step:1"}),
        json!({"view": "trend"}),
        json!({"exclusions": [{"event": "x"}]}),
        json!({"complete_windows_only": true}),
        json!({"steps": [{"event": "buy"}, {"event": "view"}]}),
    ] {
        assert_ne!(question("funnel", &with(more.clone()), NOW_MS), plain, "{more}");
    }
}

/// A store in which so many people view so often and then buy.
struct Crowd(u64);

/// How often each of them views.
const VIEWS: usize = 9;

impl Crowd {
    /// Views and purchases of some of them, in Native format.
    fn block(persons: &[u64]) -> Vec<u8> {
        let mut block = Vec::new();
        put_varint(&mut block, 3);
        put_varint(&mut block, ((VIEWS + 1) * persons.len()) as u64);
        let mut column = |type_name: &str, values: Vec<u8>| {
            put_bytes(&mut block, b"column");
            put_bytes(&mut block, type_name.as_bytes());
            block.extend(values);
        };
        let both = || persons.iter().flat_map(|person| std::iter::repeat_n((*person, 1_u32), VIEWS).chain([(*person, 2)]));
        column("UInt64", both().flat_map(|(person, _)| person.to_le_bytes()).collect());
        column("Int64", both().flat_map(|(_, bits)| (NOW_MS - 1_000 + i64::from(bits)).to_le_bytes()).collect());
        column("UInt32", both().flat_map(|(_, bits)| bits.to_le_bytes()).collect());
        block
    }

    /// The parts of persons that a statement asks for.
    fn parts(statement: &Statement) -> std::ops::Range<u64> {
        let Some((_, rest)) = statement.text().split_once(PART) else { return 0..256 };
        let (from, until) = rest.split_once(PART).unwrap();
        let value = |bound: &str| {
            let index = bound.split_once("{p").unwrap().1.split(':').next().unwrap();
            statement.params().nth(index.parse().unwrap()).unwrap().1.parse().unwrap()
        };
        value(from)..value(until)
    }
}

/// The part of a person, in a statement.
const PART: &str = "bitShiftRight(key * 11400714819323198485, 56)";

impl Run for Crowd {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        Ok(Answer::default())
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        let parts = Self::parts(&statement);
        let part = |person: &u64| person.wrapping_mul(11_400_714_819_323_198_485) >> 56;
        let mut own = (0..self.0).filter(|person| parts.contains(&part(person))).peekable();
        while own.peek().is_some() {
            let persons: Vec<u64> = own.by_ref().take(1_000).collect();
            if take(&Self::block(&persons)).is_break() {
                break;
            }
        }
        Ok(1)
    }
}

#[tokio::test]
async fn more_events_than_memory_holds_are_folded_in_passes_and_many_more_are_refused() {
    let asked = async |people: u64| {
        // However slow the machine is: it is about memory.
        let limits = QueryConfig { max_memory: 16 << 20, max_time: Duration::from_secs(3_600), ..QueryConfig::default() };
        let queries = Queries::new(Crowd(people), limits.check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
        queries.answer(PROJECT, "funnel", with(json!({})).to_string().as_bytes(), NOW_MS).await
    };
    for people in [1_000, 40_000] {
        let answer: Value = serde_json::from_slice(asked(people).await.unwrap().result()).unwrap();
        let steps = &answer["groups"][0]["steps"];
        assert_eq!([&steps[0]["count"], &steps[1]["count"]], [people, people]);
    }
    let refused = asked(2_000_000).await.unwrap_err();
    assert_eq!((refused.class, refused.code), (ErrorClass::TooExpensive, "query_too_expensive"));
}

/// A store in which people view and then buy, and the first of them view twice in one millisecond, with different countries; and what it was
/// asked for of events.
struct TiedStore {
    people: u64,
    tied: u64,
    asked: Arc<Mutex<Vec<Read>>>,
}

/// What a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    with_places: bool,
    /// Of so many keys; none for all.
    keys: Option<usize>,
}

/// An event of one of them: its bits, the number of its country, and its place in the log.
#[derive(Clone, Copy)]
struct TiedEvent {
    at_ms: i64,
    bits: u32,
    country: u64,
    place: i64,
}

/// Reads places in the log.
const PLACE: &str = "log_offset * 65536 + log_index";
/// Reads the events of some keys alone.
const OF_KEYS: &str = " AND key IN {p";

impl TiedStore {
    fn events(&self, person: u64) -> Vec<TiedEvent> {
        let view = TiedEvent { at_ms: NOW_MS - 1_000, bits: 1, country: 1, place: 2 };
        let another = (person < self.tied).then_some(TiedEvent { country: 2, place: 1, ..view });
        let buy = TiedEvent { at_ms: view.at_ms + 1, bits: 2, country: 0, place: 3 };
        [view].into_iter().chain(another).chain([buy]).collect()
    }

    fn block(&self, persons: &[u64], with_places: bool) -> Vec<u8> {
        let rows: Vec<_> = persons.iter().flat_map(|person| self.events(*person).into_iter().map(|event| (*person, event))).collect();
        let mut block = Vec::new();
        put_varint(&mut block, if with_places { 7 } else { 4 });
        put_varint(&mut block, rows.len() as u64);
        let mut column = |type_name: &str, values: Vec<u8>| {
            put_bytes(&mut block, b"column");
            put_bytes(&mut block, type_name.as_bytes());
            block.extend(values);
        };
        column("UInt64", rows.iter().flat_map(|(person, _)| person.to_le_bytes()).collect());
        column("Int64", rows.iter().flat_map(|(_, event)| event.at_ms.to_le_bytes()).collect());
        column("UInt32", rows.iter().flat_map(|(_, event)| event.bits.to_le_bytes()).collect());
        column("UInt64", rows.iter().flat_map(|(_, event)| event.country.to_le_bytes()).collect());
        if with_places {
            column("UInt64", vec![0; 8 * rows.len()]);
            column("UInt16", vec![0; 2 * rows.len()]);
            column("Int64", rows.iter().flat_map(|(_, event)| event.place.to_le_bytes()).collect());
        }
        block
    }

    /// The keys that a statement names.
    fn keys(statement: &Statement) -> Option<Vec<u64>> {
        let index: usize = statement.text().split_once(OF_KEYS)?.1.split(':').next()?.parse().unwrap();
        let (_, list) = statement.params().nth(index).unwrap();
        Some(serde_json::from_str(list).unwrap())
    }
}

impl Run for TiedStore {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        Ok(Answer::default())
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        let (keys, with_places) = (Self::keys(&statement), statement.text().contains(PLACE));
        self.asked.lock().unwrap().push(Read { with_places, keys: keys.as_ref().map(Vec::len) });
        for persons in keys.unwrap_or_else(|| (0..self.people).collect()).chunks(1_000) {
            if take(&self.block(persons, with_places)).is_break() {
                break;
            }
        }
        Ok(1)
    }
}

#[tokio::test]
async fn places_in_the_log_are_read_of_those_alone_whose_line_depends_on_them_while_a_statement_can_name_them() {
    let (all, places) = (Read { with_places: false, keys: None }, |keys| Read { with_places: true, keys });
    for (people, tied, more, expected) in [
        (50, 0, json!({"breakdown": "country"}), vec![all]),
        (50, 9, json!({"breakdown": "country"}), vec![all, places(Some(9))]),
        (50, 50, json!({"breakdown": "country"}), vec![all, places(Some(50))]),
        (100_010, 100_001, json!({"breakdown": "country"}), vec![all, places(None)]),
    ] {
        let asked = Arc::default();
        let store = TiedStore { people, tied, asked: Arc::clone(&asked) };
        let limits = QueryConfig { max_time: Duration::from_secs(3_600), ..QueryConfig::default() };
        let queries = Queries::new(store, limits.check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
        let answer = queries.answer(PROJECT, "funnel", with(more).to_string().as_bytes(), NOW_MS).await.unwrap();
        let answer: Value = serde_json::from_slice(answer.result()).unwrap();
        let steps = &answer["groups"][0]["steps"];
        assert_eq!([&steps[0]["count"], &steps[1]["count"]], [people, people], "{tied} tied");
        assert_eq!(*asked.lock().unwrap(), expected, "{tied} tied");
    }
}
