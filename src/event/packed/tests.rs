use proptest::prelude::*;
use strum::VariantArray as _;

use super::*;
use crate::event::ids::{PersonKey, VisitorKey};

fn header(id: u8, project: u16) -> EventHeader {
    EventHeader {
        event_id: [id; 16],
        visitor: VisitorKey(u64::from(id) << 33),
        person: PersonKey(7),
        at_ms: -5,
        original_ms: 1,
        sent_ms: i64::MAX,
        received_ms: 1_700_000_000_000,
        flags: 3,
        project,
    }
}

#[derive(Clone, Debug)]
enum Part {
    Field(usize, Vec<u8>),
    String(String, String),
    Number(String, f64),
    Other(String, String),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        (0..Field::VARIANTS.len(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(at, bytes)| Part::Field(at, bytes)),
        (".{1,20}", ".{0,200}").prop_map(|(key, value)| Part::String(key, value)),
        (".{1,20}", -1e300..1e300).prop_map(|(key, value)| Part::Number(key, value)),
        (".{1,20}", ".{0,20}").prop_map(|(key, value)| Part::Other(key, value)),
    ];
    prop::collection::vec(part, 0..20)
}

fn write(out: &mut Vec<u8>, header: &EventHeader, parts: &[Part]) {
    let mut writer = EventWriter::begin(out);
    for part in parts {
        match part {
            Part::Field(at, bytes) => writer.field(Field::VARIANTS[*at], bytes),
            Part::String(key, value) => writer.string(key.as_bytes(), value.as_bytes()),
            Part::Number(key, value) => writer.number(key.as_bytes(), *value),
            Part::Other(key, value) => writer.other(key.as_bytes(), value.as_bytes()),
        }
    }
    writer.finish(header);
}

fn expected(parts: &[Part]) -> Vec<Entry<'_>> {
    parts
        .iter()
        .map(|part| match part {
            Part::Field(at, bytes) => Entry::Field(Field::VARIANTS[*at] as u8, bytes),
            Part::String(key, value) => Entry::String(key.as_bytes(), value.as_bytes()),
            Part::Number(key, value) => Entry::Number(key.as_bytes(), *value),
            Part::Other(key, value) => Entry::Other(key.as_bytes(), value.as_bytes()),
        })
        .collect()
}

#[test]
fn damaged_lengths_end_a_split_without_losing_bytes() {
    let mut bytes = Vec::new();
    write(&mut bytes, &header(1, 0), &[]);
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    let (piece, events, rest) = split(&bytes, 0);
    assert_eq!((events, piece.len() + rest.len()), (1, bytes.len()));
    assert_eq!(split(rest, 10), (&[] as &[u8], 0, rest));
}

proptest! {
    #[test]
    fn pieces_hold_all_events_in_order_and_none_exceeds_the_limit_needlessly(all in prop::collection::vec(parts(), 1..8), max in 0_usize..3_000) {
        let mut bytes = Vec::new();
        all.iter().for_each(|parts| write(&mut bytes, &header(1, 0), parts));
        let (mut rest, mut joined, mut events) = (bytes.as_slice(), Vec::new(), 0);
        while !rest.is_empty() {
            let (piece, number, after) = split(rest, max);
            prop_assert!(number == 1 || (number > 1 && piece.len() <= max));
            joined.extend_from_slice(piece);
            events += number as usize;
            rest = after;
        }
        prop_assert_eq!((joined, events), (bytes.clone(), all.len()));
    }

    #[test]
    fn written_events_read_back_equal(first in parts(), second in parts()) {
        let mut out = Vec::new();
        write(&mut out, &header(1, 0), &first);
        write(&mut out, &header(2, 9), &second);
        let mut body = out.as_slice();
        let one = EventView::take(&mut body).unwrap();
        let two = EventView::take(&mut body).unwrap();
        prop_assert!(body.is_empty());
        prop_assert_eq!(one.header, header(1, 0));
        prop_assert_eq!(two.header, header(2, 9));
        prop_assert_eq!(one.entries().collect::<Vec<_>>(), expected(&first));
        prop_assert_eq!(two.entries().collect::<Vec<_>>(), expected(&second));
        prop_assert_eq!([one.encoded(), two.encoded()].concat(), out);
    }

    #[test]
    fn agents_stand_apart_and_nothing_else_is_changed(all in prop::collection::vec(parts(), 1..5)) {
        let (mut bytes, mut body, mut agents) = (Vec::new(), Vec::new(), Vec::new());
        all.iter().for_each(|parts| write(&mut bytes, &header(1, 3), parts));
        put_apart(&bytes, 513, &mut body, &mut agents);
        let is_agent = |entry: &&Entry<'_>| matches!(entry, Entry::Field(tag, _) if *tag == Field::UserAgent as u8);
        let mut events = RawEvents::new(&body, &agents);
        for parts in &all {
            let event = events.next().unwrap();
            let whole = expected(parts);
            // What stands behind the first property is not looked at; ingest writes no field there.
            let (fields, rest) = whole.split_at(parts.iter().take_while(|part| matches!(part, Part::Field(..))).count());
            let kept: Vec<_> = fields.iter().filter(|entry| !is_agent(entry)).chain(rest).copied().collect();
            let agent = fields.iter().rfind(is_agent).map_or(&[] as &[u8], |entry| match entry { Entry::Field(_, text) => text, _ => &[] });
            prop_assert_eq!((event.view.header, event.view.entries().collect::<Vec<_>>()), (header(1, 513), kept));
            prop_assert_eq!(event.agent, agent);

            let mut joined = Vec::new();
            put_as(&event, &header(2, 0), &mut joined);
            let joined = EventView::take(&mut joined.as_slice()).map(|event| (event.header, Fields::of(&event).unwrap().get(Field::UserAgent).to_vec()));
            let expected = event.fields().unwrap();
            if rest.iter().any(|entry| is_agent(&entry)) {
                continue;
            }
            prop_assert_eq!(joined, Some((header(2, 0), expected.get(Field::UserAgent).to_vec())));
        }
        prop_assert!(events.next().is_none() && events.rest.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut body = bytes.as_slice();
        while let Some(event) = EventView::take(&mut body) {
            let _ = Fields::of(&event);
        }
        let (events, enrichments) = bytes.split_at(bytes.len() / 2);
        let (mut body, mut agents) = (Vec::new(), Vec::new());
        put_apart(&bytes, 513, &mut body, &mut agents);
        for event in RawEvents::new(events, enrichments) {
            let _ = event.fields();
        }
        for (event, enrichment) in EnrichedEvents::new(events, enrichments) {
            let _ = Fields::enriched(&event, enrichment);
        }
    }
}

#[test]
fn additions_replace_fields_and_entries_of_unknown_tags_are_passed_over() {
    let mut events = Vec::new();
    let mut writer = EventWriter::begin(&mut events);
    writer.field(Field::Type, b"signup");
    writer.string(b"plan", b"pro");
    writer.out.push(200);
    wire::put_bytes(writer.out, b"of a later version");
    writer.finish(&header(1, 0));
    write(&mut events, &header(2, 0), &[]);
    write(&mut events, &header(3, 0), &[]);

    let mut enrichments = Vec::new();
    let mut enrichment = Enrichment::begin(&mut enrichments);
    enrichment.field(Field::Type, b"renamed");
    enrichment.field(Field::Browser, b"Chrome");
    enrichment.field(Field::Os, b"");
    enrichment.finish();
    let mut enrichment = Enrichment::begin(&mut enrichments);
    enrichment.field(Field::Browser, b"of an event that is dropped");
    enrichment.mark_dropped();
    Enrichment::begin(&mut enrichments).finish();

    let mut enriched = EnrichedEvents::new(&events, &enrichments);
    let (event, enrichment) = enriched.next().unwrap();
    let fields = Fields::enriched(&event, enrichment).unwrap();
    assert_eq!([Field::Type, Field::Browser, Field::Os].map(|field| fields.text(field)), ["renamed", "Chrome", ""]);
    assert_eq!(fields.properties().next(), Some(Entry::String(b"plan", b"pro")));
    let (event, enrichment) = enriched.next().unwrap();
    assert_eq!((event.header, enrichment), (header(3, 0), &[] as &[u8]));
    assert!(enriched.next().is_none());
}
