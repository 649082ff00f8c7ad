use proptest::prelude::*;

use super::*;
use crate::auth::Keys;
use crate::auth::keys::KeysConfig;
use crate::event::dead_letter::DeadLetter;
use crate::event::field::Field;
use crate::event::ids::ProjectId;
use crate::ingest::contract::RequestFacts;
use crate::ingest::dead_letters::{FULL, MAX_MESSAGE, MAX_ORIGINAL};
use crate::ingest::geo::{Geo, RequestGeo};
use crate::ingest::intake::Sender;
use crate::ingest::tests::read::events_of;
use crate::ingest::tests::{NOW, SHOP, decoded_as, facts, limits};
use crate::ingest::verdict::{Decoded, LetterBatch};

/// What a body of lines becomes: events, and records of letters.
fn taken(body: &[u8]) -> Result<(u32, Vec<LetterBatch>), Refusal> {
    let run = run("run=7&source=access.log").unwrap();
    let decoded = decoded_as(SHOP, |request| request.is_import = true, |intake| lines(body, &run, intake))?;
    Ok((decoded.verdicts.accepted, decoded.letters))
}

fn letters(record: &LetterBatch) -> Vec<DeadLetter<'_>> {
    let mut rest = record.bytes.as_slice();
    std::iter::from_fn(|| DeadLetter::take(&mut rest)).collect()
}

/// A line of an import, and whether it is an event.
fn line() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let event = |visitor: u32, size: usize| {
        let text = "v".repeat(size);
        format!(r#"{{"type":"view","anonymousId":"{visitor}","timestamp":"2026-01-01T00:00:00Z","properties":{{"x":"{text}"}}}}"#)
            .into_bytes()
    };
    let dead = |message: String, original: Vec<u8>| {
        let original = base64::engine::general_purpose::STANDARD.encode(original);
        format!(r#"{{"$dead":{{"message":"{message}","line":3,"original_base64":"{original}"}}}}"#).into_bytes()
    };
    prop_oneof![
        4 => (any::<u32>(), 0..20_000_usize).prop_map(move |(visitor, size)| (event(visitor, size), true)),
        2 => prop::collection::vec(any::<u8>().prop_filter("ends the line", |byte| *byte != b'\n'), 1..2_000).prop_map(|mut bytes| {
            bytes.insert(0, b'x');
            (bytes, false)
        }),
        2 => ("[a-z]{0,2000}", prop::collection::vec(any::<u8>(), 0..2_000))
            .prop_map(move |(message, original)| (dead(message, original), false)),
        1 => (MAX_ORIGINAL - 2..MAX_ORIGINAL + 200_000).prop_map(|size| (vec![b'x'; size], false)),
        1 => (MAX_ORIGINAL - 2..MAX_ORIGINAL + 2).prop_map(move |size| (dead(String::new(), vec![b'x'; size]), false)),
        1 => (1_000..40_000_usize).prop_map(|size| (format!("[1{}", ",1".repeat(size)).into_bytes(), false)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_the_lines_are_each_is_an_event_or_a_letter_and_every_record_stays_small(lines in prop::collection::vec(line(), 1..12)) {
        let body = lines.iter().map(|(line, _)| line.as_slice()).collect::<Vec<_>>().join(&b'\n');
        let (events, records) = taken(&body).unwrap();
        prop_assert_eq!(events as usize, lines.iter().filter(|(_, is_event)| *is_event).count());
        let written: Vec<DeadLetter<'_>> = records.iter().flat_map(letters).collect();
        prop_assert_eq!(written.len(), lines.len() - events as usize);
        prop_assert_eq!(records.iter().map(|record| record.count as usize).sum::<usize>(), written.len());
        for record in &records {
            prop_assert!(record.bytes.len() < FULL + MAX_ORIGINAL + 2 * MAX_MESSAGE + MAX_SOURCE);
            prop_assert!(record.bytes.len() <= limits().largest_record());
        }
    }
}

#[test]
fn of_a_line_of_many_megabytes_the_beginning_is_kept() {
    let (events, records) = taken(&vec![b'x'; 17 << 20]).unwrap();
    assert_eq!((events, records.len()), (0, 1));
    assert_eq!(letters(&records[0])[0].original, vec![b'x'; MAX_ORIGINAL]);
}

#[test]
fn an_address_where_a_line_is_cut_is_not_kept_in_part() {
    let line = |before: usize| format!("{} 203.0.113.77 {}", "x".repeat(MAX_ORIGINAL - before), "y".repeat(100));
    for before in 1..20 {
        let (_, records) = taken(line(before).as_bytes()).unwrap();
        let original = String::from_utf8(letters(&records[0])[0].original.to_vec()).unwrap();
        assert!(!original.contains("203"), "{before}: {}", &original[original.len() - 20..]);
        assert!(original.len() > MAX_ORIGINAL - 30);
    }
    // No address is as long.
    let (_, records) = taken(format!("x{}", "a".repeat(2 * MAX_ORIGINAL)).as_bytes()).unwrap();
    assert_eq!(letters(&records[0])[0].original.len(), MAX_ORIGINAL);
}

#[test]
fn a_request_has_no_more_lines_than_it_may_whatever_they_are() {
    let dead = r#"{"$dead":{"message":"","original_base64":""}}"#;
    for line in ["x", dead, r#"{"type":"a","anonymousId":"b"}"#] {
        let lines = |number| taken(format!("{line}\n").repeat(number).as_bytes()).map(drop);
        assert_eq!(lines(MAX_LINES), Ok(()));
        assert_eq!(lines(MAX_LINES + 1).unwrap_err().code(), "batch_too_many", "{line}");
    }
}

#[test]
fn a_run_and_a_short_source_are_asked_for() {
    assert_eq!(run("run=7&source=a%20b"), Ok(Run { id: 7, source: "a b".to_owned(), has_visitors_by_address: false }));
    assert!(run("run=7&visitors=address").unwrap().has_visitors_by_address);
    assert_eq!(run("run=7&visitors=agent").unwrap_err().code, "invalid_visitors");
    assert_eq!(run("run=0").unwrap_err().code, "invalid_run");
    assert_eq!(run("").unwrap_err().code, "invalid_run");
    assert!(run(&format!("run=7&source={}", "x".repeat(MAX_SOURCE))).is_ok());
    assert_eq!(run(&format!("run=7&source={}", "x".repeat(MAX_SOURCE + 1))).unwrap_err().code, "invalid_source");
}

/// What lines become of an import into the project `default` whose keys are these.
fn imported(keys: &Keys, query: &str, line: &str, received_ms: i64, client: [u8; 4]) -> Decoded {
    let (geo, limits) = (Geo::default(), limits());
    let geo = RequestGeo::new(&geo);
    let request = RequestFacts {
        partitions: 1,
        received_ms,
        user_agent: "importer",
        client: client.into(),
        is_import: true,
        secrets: Some(keys),
        ..facts(&geo)
    };
    let mut intake = Intake::new(Sender::Known(ProjectId::of_name("default")), request, &limits);
    lines(line.as_bytes(), &run(query).unwrap(), &mut intake).unwrap();
    intake.finish().unwrap()
}

#[test]
fn a_client_of_an_access_log_has_one_name_in_a_project_whoever_imports_it_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
    let name = |query: &str, line: &str, received_ms: i64, client: [u8; 4]| {
        let decoded = imported(&keys, query, line, received_ms, client);
        events_of(&decoded.partitions[0].bytes).first().map(|event| event.text(Field::AnonymousId))
    };
    let line = |rest: &str| format!(r#"{{"type":"http_request","timestamp":"2024-01-01T00:00:00Z"{rest}}}"#);
    let of = |ip: &str| line(&format!(r#","context":{{"ip":"{ip}","userAgent":"x"}}"#));
    let (day, by_address) = (86_400_000, "run=7&visitors=address");
    let first = name(by_address, &of("203.0.113.7"), NOW, [192, 0, 2, 1]).unwrap();
    assert_eq!(first.len(), 32);
    assert_eq!(name(by_address, &of("203.0.113.7"), NOW + 40 * day, [192, 0, 2, 2]).as_ref(), Some(&first));
    assert_eq!(name(by_address, &of("::ffff:203.0.113.7"), NOW, [192, 0, 2, 1]).as_ref(), Some(&first));
    assert_ne!(name(by_address, &of("203.0.113.8"), NOW, [192, 0, 2, 1]).as_ref(), Some(&first));
    // Who has a name keeps it, and without an address nobody is known by that of the importer.
    assert_eq!(name(by_address, &line(r#","anonymousId":"a""#), NOW, [192, 0, 2, 1]).as_deref(), Some("a"));
    assert_eq!(name(by_address, &line(""), NOW, [192, 0, 2, 1]), None);
    assert_eq!(name("run=7", &of("203.0.113.7"), NOW, [192, 0, 2, 1]), None);
}

#[test]
fn a_line_that_is_refused_keeps_the_name_that_its_visitor_has_by_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
    let decoded = |line: &str| imported(&keys, "run=7&visitors=address", line, NOW, [192, 0, 2, 1]);
    let name = |decoded: &Decoded| events_of(&decoded.partitions[0].bytes).first().map(|event| event.text(Field::AnonymousId)).unwrap();
    let good = r#" { "type":"http_request","timestamp":"2024-01-01T00:00:00Z","context":{"ip":"203.0.113.7"}}"#;
    let visitor = name(&decoded(good));
    let bad = good.replace(r#""http_request""#, r#""""#);
    for line in
        [bad.clone(), bad.replace(r#"{ ""#, r#"{"anonymousId": null, ""#), bad.replace(r#"{ ""#, r#"{"userId":"","anonymousId":" ", ""#)]
    {
        let dead = decoded(&line);
        assert_eq!((dead.verdicts.accepted, dead.verdicts.dead), (0, 1), "{line}");
        let original = String::from_utf8(letters(&dead.letters[0])[0].original.to_vec()).unwrap();
        assert!(original.contains(&visitor) && !original.contains("203.0.113"), "{original}");
        // Read again as letters are, once it can be.
        let mended = original.replace(r#""type":"""#, r#""type":"http_request""#);
        let take = |intake: &mut Intake<'_>| {
            envelope::alone(mended.as_bytes(), 0, pulse::event, intake);
            Ok(())
        };
        let again = decoded_as(SHOP, |request| (request.partitions, request.is_import) = (1, true), take).unwrap();
        assert_eq!((again.verdicts.rejected.as_slice(), name(&again)), ([].as_slice(), visitor.clone()), "{mended}");
    }
    // Who has a name keeps it.
    let named = decoded(&bad.replace(r#"{ ""#, r#"{"userId":"ada", ""#));
    let original = String::from_utf8(letters(&named.letters[0])[0].original.to_vec()).unwrap();
    assert!(!original.contains("anonymousId"), "{original}");
}
