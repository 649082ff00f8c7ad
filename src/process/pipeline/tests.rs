use proptest::prelude::*;

use super::*;
use crate::event::ids::{LogEpoch, PersonKey, VisitorKey};
use crate::event::packed::{EnrichedEvents, Entry, EventWriter, Fixed};
use crate::event::record::Enriched;

const PROJECT: ProjectId = ProjectId(9);
const NOW: i64 = 1_790_000_000_000;
const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

fn origin(offset: i64) -> RawOrigin {
    RawOrigin { epoch: LogEpoch(5), partition: 1, offset, previous: offset - 1 }
}

fn pipeline() -> Pipeline {
    let mut pipeline = Pipeline::new(1_800_000, 1_000, Arc::new(AgentParser::new()));
    pipeline.starts_at(NOW);
    pipeline
}

fn put_event(body: &mut Vec<u8>, visitor: u64, fields: &[(Field, &str)]) {
    let mut writer = EventWriter::begin(body);
    fields.iter().for_each(|(field, text)| writer.field(*field, text.as_bytes()));
    writer.string(b"plan", b"pro");
    writer.finish(&Fixed {
        event_id: [visitor as u8; 16],
        visitor: VisitorKey(visitor),
        person: PersonKey(visitor),
        at_ms: NOW,
        original_ms: NOW,
        sent_ms: 0,
        received_ms: NOW,
        flags: 0,
        project: 0,
    });
}

fn put_letter(body: &mut Vec<u8>, line: u64) {
    let letter = Letter {
        project: PROJECT,
        received_ms: NOW,
        reason: DeadReason::LineMalformed,
        message: "cut short",
        source: "access.log",
        line,
        original: b"GET",
        id: LetterId::NONE,
        place: Place::UNKNOWN,
    };
    letter.put(body);
}

fn record(events: u32, letters: u32, body: &[u8]) -> Vec<u8> {
    let mut tallies = Tallies::default();
    tallies.add(PROJECT, NOW, Count::Received, events + letters);
    let header = Header { source: 0, day: day_of(NOW), events, received_ms: NOW, projects: vec![PROJECT], tallies, letters, origin: None };
    record::encode(&header, body)
}

/// The enriched record, taken apart.
fn read(applied: &Applied) -> (Header, Enriched) {
    let mut content = Enriched::default();
    let header = record::decode_enriched(&applied.enriched, &mut content).unwrap();
    assert_eq!(EnrichedEvents::new(&content.events, &content.additions).count(), header.events as usize);
    (header, content)
}

/// Received equals what goes on plus what ended here.
fn assert_conserved(header: &Header) {
    for tally in &header.tallies.0 {
        let dead: u32 = tally.counts.iter().filter(|(count, _)| matches!(count, Count::Dead(_))).map(|(_, number)| number).sum();
        assert_eq!(tally.count(Count::Received), header.events + dead, "{tally:?}");
    }
}

#[test]
fn an_event_leaves_with_what_its_agent_page_and_visitor_say() {
    let mut body = Vec::new();
    let page = "https://shop.example/?utm_source=google&gclid=abc";
    put_event(&mut body, 1, &[(Field::Type, "view"), (Field::UserAgent, CHROME), (Field::PageUrl, page), (Field::Os, "Given")]);
    let applied = pipeline().apply(origin(7), &record(1, 0, &body));
    let (header, content) = read(&applied);
    let (event, addition) = EnrichedEvents::new(&content.events, &content.additions).next().unwrap();
    let fields = Fields::enriched(&event, addition).unwrap();
    assert_eq!(header.origin, Some(origin(7)));
    assert_eq!(fields.properties().collect::<Vec<_>>(), [Entry::String(b"plan", b"pro")]);
    assert_eq!([fields.text(Field::Browser), fields.text(Field::Os)], ["Chrome", "Given"]);
    assert_eq!([fields.text(Field::Channel), fields.text(Field::ClickIdKind)], ["paid_search", "gclid"]);
    assert_eq!(fields.get(Field::Session).len(), 16);
    assert_conserved(&header);
}

#[test]
fn letters_are_moved_with_their_place_and_counted() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    put_letter(&mut body, 3);
    let applied = pipeline().apply(origin(7), &record(1, 1, &body));
    let letter = Letter::take(&mut applied.letters[0].as_slice()).unwrap();
    assert_eq!((letter.line, letter.original), (3, b"GET".as_slice()));
    assert_eq!(letter.place, Place { epoch: LogEpoch(5), partition: 1, offset: 7, index: 0 });
    let (header, _) = read(&applied);
    assert_eq!((header.events, header.tallies.0[0].count(Count::Dead(DeadReason::LineMalformed))), (1, 1));
    assert_conserved(&header);
}

#[test]
fn garbage_between_good_records_is_one_letter_and_costs_its_neighbours_nothing() {
    let mut pipeline = pipeline();
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    let good = record(1, 0, &body);
    for (offset, payload) in [(0, good.as_slice()), (1, b"garbage"), (2, good.as_slice())] {
        let applied = pipeline.apply(origin(offset), payload);
        let (header, _) = read(&applied);
        assert_eq!((header.events, applied.letters.len()), if offset == 1 { (0, 1) } else { (1, 0) });
        assert_eq!(header.day, day_of(NOW), "whatever it holds, a block must fit one day");
        assert_conserved(&header);
    }
}

#[test]
fn an_event_whose_fields_are_damaged_is_a_letter_and_its_neighbours_keep_what_is_theirs() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "first")]);
    let second = body.len();
    put_event(&mut body, 2, &[(Field::Type, "damaged")]);
    let third = body.len();
    put_event(&mut body, 3, &[(Field::Type, "third"), (Field::UserAgent, CHROME)]);
    // Its last property reaches behind its end.
    let length_of_value = third - b"pro".len() - 1;
    assert!(length_of_value > second);
    body[length_of_value] = 100;
    let applied = pipeline().apply(origin(7), &record(3, 0, &body));
    let (header, content) = read(&applied);
    let kept: Vec<(String, String)> = EnrichedEvents::new(&content.events, &content.additions)
        .map(|(event, addition)| {
            let fields = Fields::enriched(&event, addition).unwrap();
            (fields.text(Field::Type).to_owned(), fields.text(Field::Browser).to_owned())
        })
        .collect();
    let expected = [("first", ""), ("third", "Chrome")].map(|(name, browser)| (name.to_owned(), browser.to_owned()));
    assert_eq!((kept, applied.letters.len()), (expected.to_vec(), 1));
    assert_conserved(&header);
}

proptest! {
    #[test]
    fn damaged_records_conserve_their_events_and_letters_and_never_panic(
        events in 1_u64..6, letters in 0_u64..4, at in 0_usize..1_000, byte: u8, cut in 0_usize..1_000,
    ) {
        let mut body = Vec::new();
        (0..events).for_each(|visitor| put_event(&mut body, visitor, &[(Field::Type, "view"), (Field::PageUrl, "https://a.example/")]));
        (0..letters).for_each(|line| put_letter(&mut body, line));
        let place = at % body.len();
        body[place] = byte;
        body.truncate(body.len() - cut % body.len());
        let applied = pipeline().apply(origin(1), &record(events as u32, letters as u32, &body));
        let (header, _) = read(&applied);
        let sum = |counts: fn(Count) -> bool| -> u32 {
            let all = header.tallies.0.iter().flat_map(|tally| &tally.counts);
            all.filter(|(count, _)| counts(*count)).map(|(_, number)| number).sum()
        };
        let dead = sum(|count| matches!(count, Count::Dead(_)));
        prop_assert_eq!(sum(|count| count == Count::Received), header.events + dead);
    }
}
