//! Every record that ingest makes, and records that it never would, through process, into blocks and to those who watch: nothing panics,
//! what comes out fits the log, and what was received is what is stored, what is a copy, and what is dead.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::config::{Config, Settings};
use crate::event::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, LogPosition};
use crate::event::ids::{LogEpoch, ProjectId};
use crate::event::packed::EnrichedEvents;
use crate::event::record::{self, Enriched, Raw, RawOrigin, Tallies};
use crate::ingest::{Geo, Redrive};
use crate::load::probe;
use crate::log::embedded::EmbeddedLog;
use crate::log::{Log, ReadRequest, RunningLog, Topic};
use crate::outcome::{Count, DeadReason};
use crate::process::Enricher;
use crate::process::enrich::agent::AgentParser;
use crate::query::live_probe;

/// Largest record: as small as it may be for [`settings`].
const LIMIT: usize = 2 << 20;
const PROJECT: ProjectId = ProjectId(9);

fn settings() -> Settings {
    let mut config = Config::default();
    config.log.embedded.max_record_bytes = LIMIT as u64;
    (config.ingest.seal_size, config.ingest.max_event_size) = (LIMIT / 16, LIMIT / 16);
    config.check().unwrap()
}

/// The raw records that ingest makes of lines, and the number of events in them.
fn ingested(lines: &[Value]) -> (Vec<Vec<u8>>, u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (dir, settings) = (tempfile::tempdir().unwrap(), settings());
        let log = EmbeddedLog::open(dir.path(), settings.config.log.embedded.clone().check().unwrap()).unwrap();
        let geo = Geo::open(&settings.config.geo, None).unwrap();
        let mut redrive = Redrive::new(log.clone(), settings.ingest.clone(), geo);
        let mut events = 0;
        for (index, line) in (0..).zip(lines) {
            events += redrive.attempt(&letter(index, line.to_string().as_bytes()));
        }
        redrive.publish().await.unwrap();
        let held = log.bounds(Topic::Raw, 0).await.unwrap();
        let mut records = Vec::new();
        while (records.len() as i64) < held.end {
            let read = log.read(ReadRequest::new(Topic::Raw, 0, records.len() as i64, 1 << 20)).await.unwrap();
            records.extend(read.into_iter().map(|record| record.payload.to_vec()));
        }
        log.close().await;
        (records, events)
    })
}

fn letter(index: u32, original: &[u8]) -> DeadLetter<'_> {
    DeadLetter {
        project: PROJECT,
        received_ms: crate::clock::now_ms(),
        reason: DeadReason::EventInvalid,
        message: "",
        source: "",
        line: 0,
        original,
        id: DeadLetterId::NONE,
        position: LogPosition { epoch: LogEpoch(1), partition: 0, offset: 0, index },
    }
}

/// What became of raw records.
struct Ended {
    books: Tallies,
    letters: usize,
}

impl Ended {
    fn sum(&self, counts: impl Fn(Count) -> bool) -> u64 {
        let all = self.books.0.iter().flat_map(|tally| &tally.counts);
        all.filter(|(count, _)| counts(*count)).map(|(_, number)| u64::from(*number)).sum()
    }
}

/// Takes raw records to blocks.
fn worked_through(raw: &[Vec<u8>]) -> Result<Ended, TestCaseError> {
    static AGENTS: LazyLock<Arc<AgentParser>> = LazyLock::new(|| Arc::new(AgentParser::new()));
    let mut enricher = Enricher::new(Arc::clone(&AGENTS), LIMIT);
    let (mut enriched, mut letters) = (Vec::new(), 0);
    for (offset, payload) in (0..).zip(raw) {
        let origin = RawOrigin { epoch: LogEpoch(1), partition: 0, offset, previous: offset - 1 };
        let (record, dead) = enricher.enrich(origin, payload);
        prop_assert!(record.len() <= LIMIT && dead.iter().all(|record| record.len() <= LIMIT));
        for record in dead {
            let record = DeadLetterRecord::decode(&record).unwrap();
            for letter in record.letters() {
                prop_assert!(letter.reason != DeadReason::RecordFailed, "{}", letter.message);
                letters += 1;
            }
        }
        enriched.push(record);
    }
    check_told(&live_probe::told(PROJECT, &enriched))?;
    let (books, rows) = probe::load(&enriched);
    let ended = Ended { books, letters };
    let stored = ended.sum(|count| count == Count::Stored);
    let ended_otherwise = ended.sum(|count| count == Count::Duplicate || count.is_dead());
    prop_assert_eq!(ended.sum(|count| count == Count::Received), stored + ended_otherwise);
    prop_assert!(rows as u64 >= stored);
    Ok(ended)
}

/// Holds what is told live to its form: each a message of JSON, however odd the events, the counters last.
fn check_told(messages: &[String]) -> Result<(), TestCaseError> {
    for message in messages {
        let data = message.lines().find_map(|line| line.strip_prefix("data: "));
        prop_assert!(data.is_some_and(|data| serde_json::from_str::<Value>(data).is_ok()), "{message}");
        prop_assert_eq!((message.matches("\ndata: ").count(), message.ends_with("\n\n")), (1, true), "{}", message);
    }
    prop_assert!(messages.last().is_some_and(|message| message.contains("event: counters")));
    Ok(())
}

/// Bytes that no compression makes smaller.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed) as u8).collect()
}

fn text() -> impl Strategy<Value = String> {
    let long =
        (any::<u64>(), 0_usize..7_000).prop_map(|(seed, size)| noise(seed, size).iter().map(|byte| char::from(byte % 94 + 33)).collect());
    let page = ("[a-z0-9.\\[\\]:%]{0,30}", "\\PC{0,200}").prop_map(|(host, query)| {
        format!("https://{host}/a?utm_source={query}&utm_medium={query}&utm_campaign={query}&gclid={query}&q=%{query}")
    });
    let agent = "Mozilla/5\\.0 \\(\\PC{0,40}\\) \\PC{0,60} (Chrome|Version|bot)/[0-9.]{0,9}";
    prop_oneof![4 => "\\PC{0,30}", 2 => ".{0,300}", 2 => page, 1 => agent, 1 => long]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<i64>().prop_map(Value::from),
        1 => prop::collection::vec(text().prop_map(Value::from), 0..4).prop_map(Value::from),
        1 => prop::collection::hash_map(text(), any::<bool>(), 0..4).prop_map(|map| json!(map)),
    ]
}

/// A line with fields that events have; nearly all are accepted.
fn line() -> impl Strategy<Value = Value> {
    let name = "[a-zA-Z\\PC]{1,30}";
    (name, "\\PC{1,50}", prop::collection::vec(text(), 9), prop::collection::vec((text(), value()), 0..12), any::<u32>()).prop_map(
        |(name, visitor, texts, properties, at)| {
            let [url, title, referrer, agent, locale, session, app, source, user] = texts.try_into().unwrap();
            let properties: Map<String, Value> = properties.into_iter().collect();
            json!({"type": format!("a{name}"), "anonymousId": format!("a{visitor}"), "timestamp": i64::from(at) * 300, "properties": properties,
                "context": {"page": {"url": url, "title": title, "referrer": referrer}, "userAgent": agent, "locale": locale,
                    "app": {"name": app}, "campaign": {"source": source}},
                "sessionId": session, "userId": user})
        },
    )
}

/// Something that a record of ours never has: what is changed, where, and to what.
type Mutation = (u8, usize, u64);

fn mutated(record: &[u8], (kind, at, value): Mutation) -> Vec<u8> {
    let mut record = record.to_vec();
    let at = at % record.len().max(1);
    match kind % 16 {
        0 => record.iter_mut().skip(at).take(1).for_each(|byte| *byte = value as u8),
        1 => record.truncate(at),
        2 => record.extend(noise(value, at % 200)),
        3 => record = noise(value, at % LIMIT),
        4 => record.iter_mut().skip(2).take(1).for_each(|version| *version = value as u8),
        _ => return changed(&record, (kind, at, value)),
    }
    record
}

/// The same record with other things in its header or body, as if somebody had encoded it that way.
fn changed(record: &[u8], (kind, at, value): Mutation) -> Vec<u8> {
    let mut raw = Raw::default();
    let Ok(mut header) = record::decode_raw(record, &mut raw) else { return record.to_vec() };
    let Raw { body, agents } = &mut raw;
    let at = at % body.len().max(1);
    // Now and then, beside what else is changed.
    if value.is_multiple_of(5) {
        agents.iter_mut().skip(at % 99).zip(value.to_le_bytes()).for_each(|(byte, changed)| *byte = changed);
    }
    match kind % 16 {
        5 => header.events = value as u32,
        6 => header.letters = value as u32,
        7 => header.received_ms = value as i64,
        8 => header.projects = noise(value, at % 9).into_iter().map(|byte| ProjectId(u64::from(byte % 3))).collect(),
        9 => header.tallies.add(ProjectId(value), value as i64, Count::of_code(at as u8), value as u32),
        10 => header.day = value as u16,
        11 => body.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(byte, changed)| *byte = changed),
        12 => body.truncate(at),
        13 => body.extend(noise(value, at % 300)),
        14 => header.tallies = Tallies::default(),
        _ => {
            letter(1, &noise(value, at)).put(body);
            header.letters += 1;
        }
    }
    record::encode_raw(&header, &raw)
}

#[test]
fn the_agent_that_a_client_sends_is_in_no_enriched_record() {
    let agent = "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0 Told/77";
    let line = json!({"type": "view", "anonymousId": "ada", "context": {"userAgent": agent}, "properties": {"plan": "pro"}});
    let (records, _) = ingested(&[line]);
    let mut raw = Raw::default();
    record::decode_raw(&records[0], &mut raw).unwrap();
    assert!(String::from_utf8_lossy(&raw.agents).contains(agent) && !String::from_utf8_lossy(&raw.body).contains("Told/77"));
    let origin = RawOrigin { epoch: LogEpoch(1), partition: 0, offset: 0, previous: -1 };
    let (enriched, _) = Enricher::new(Arc::new(AgentParser::new()), LIMIT).enrich(origin, &records[0]);
    let mut content = Enriched::default();
    record::decode_enriched(&enriched, &mut content).unwrap();
    assert_eq!(EnrichedEvents::new(&content.events, &content.enrichments).count(), 1);
    let [events, enrichments] = [&content.events, &content.enrichments].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(!events.contains("Told/77") && !enrichments.contains("Told/77"), "{events}");
    assert!(enrichments.contains("Firefox"), "{enrichments}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_event_that_ingest_accepts_is_stored(lines in prop::collection::vec(line(), 1..12)) {
        let (records, events) = ingested(&lines);
        let ended = worked_through(&records)?;
        prop_assert_eq!(ended.letters, 0);
        prop_assert_eq!(ended.sum(|count| count == Count::Stored) + ended.sum(|count| count == Count::Duplicate), u64::from(events));
    }

    #[test]
    fn a_record_that_ingest_would_never_make_costs_at_most_itself(
        lines in prop::collection::vec(line(), 1..6),
        mutations in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<usize>(), any::<u64>()), 1..4), 1..30),
    ) {
        let (good, events) = ingested(&lines);
        prop_assume!(events > 0);
        let alone = worked_through(&good)?.sum(|count| count == Count::Stored);
        let bad: Vec<Vec<u8>> = mutations.iter().map(|mutations| mutations.iter().fold(good[0].clone(), |record, mutation| mutated(&record, *mutation))).collect();
        worked_through(&bad)?;
        // Its neighbours are stored as if it were not there. They come first, so that none of them can be a copy of what it holds.
        let among: Vec<Vec<u8>> = good.iter().chain(&bad).cloned().collect();
        prop_assert!(worked_through(&among)?.sum(|count| count == Count::Stored) >= alone);
    }
}
