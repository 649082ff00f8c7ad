use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::event::dead_letter::DeadLetterRecord;
use crate::event::ids::{LogEpoch, PersonKey, VisitorKey};
use crate::event::packed::{self, EnrichedEvents, Entry, EventHeader, EventWriter};
use crate::event::record::Enriched;

const PROJECT: ProjectId = ProjectId(9);
/// Largest record.
const LIMIT: usize = 1 << 20;
const NOW: i64 = 1_790_000_000_000;
const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

fn origin(offset: i64) -> RawOrigin {
    RawOrigin { epoch: LogEpoch(5), partition: 1, offset, previous: offset - 1 }
}

fn pipeline() -> Pipeline {
    pipeline_of(LIMIT)
}

fn pipeline_of(max_record: usize) -> Pipeline {
    let mut pipeline = Pipeline::new(agents(), max_record);
    pipeline.starts_at(NOW);
    pipeline
}

/// Tables of agents take a while to make.
fn agents() -> Arc<AgentParser> {
    static AGENTS: LazyLock<Arc<AgentParser>> = LazyLock::new(|| Arc::new(AgentParser::new()));
    Arc::clone(&AGENTS)
}

/// Its dead letters, by what they say, whose they are and what they hold.
fn letters_of(applied: &Applied) -> Vec<(String, ProjectId, Vec<u8>)> {
    let records = applied.dead.iter().map(|record| DeadLetterRecord::decode(record).unwrap());
    let read = |record: DeadLetterRecord| -> Vec<_> {
        record.letters().map(|letter| (letter.message.to_owned(), letter.project, letter.original.to_vec())).collect()
    };
    let letters: Vec<_> = records.flat_map(read).collect();
    assert_eq!(letters.len() as u64, applied.letters);
    letters
}

fn put_event(body: &mut Vec<u8>, visitor: u64, fields: &[(Field, &str)]) {
    let mut writer = EventWriter::begin(body);
    fields.iter().for_each(|(field, text)| writer.field(*field, text.as_bytes()));
    writer.string(b"plan", b"pro");
    writer.finish(&EventHeader {
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
    a_letter(line).put(body);
}

fn a_letter(line: u64) -> DeadLetter<'static> {
    DeadLetter {
        project: PROJECT,
        received_ms: NOW,
        reason: DeadReason::LineMalformed,
        message: "cut short",
        source: "access.log",
        line,
        original: b"GET",
        id: DeadLetterId::NONE,
        position: LogPosition::UNKNOWN,
    }
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
    assert_eq!(EnrichedEvents::new(&content.events, &content.enrichments).count(), header.events as usize);
    (header, content)
}

/// Received equals what goes on plus what ended here.
fn assert_conserved(header: &Header) {
    let sum = |counts: fn(Count) -> bool| -> u64 {
        let all = header.tallies.0.iter().flat_map(|tally| &tally.counts);
        all.filter(|(count, _)| counts(*count)).map(|(_, number)| u64::from(*number)).sum()
    };
    assert_eq!(sum(|count| count == Count::Received), u64::from(header.events) + sum(Count::is_dead), "{header:?}");
}

#[test]
fn an_event_leaves_with_what_its_agent_page_and_visitor_say() {
    let mut body = Vec::new();
    let page = "https://shop.example/?utm_source=google&gclid=abc";
    put_event(&mut body, 1, &[(Field::Type, "view"), (Field::UserAgent, CHROME), (Field::PageUrl, page), (Field::Os, "Given")]);
    let applied = pipeline().apply(origin(7), &record(1, 0, &body));
    let (header, content) = read(&applied);
    let (event, enrichment) = EnrichedEvents::new(&content.events, &content.enrichments).next().unwrap();
    let fields = Fields::enriched(&event, enrichment).unwrap();
    assert_eq!(header.origin, Some(origin(7)));
    assert_eq!(fields.properties().collect::<Vec<_>>(), [Entry::String(b"plan", b"pro")]);
    assert_eq!([fields.text(Field::Browser), fields.text(Field::Os)], ["Chrome", "Given"]);
    assert_eq!([fields.text(Field::Channel), fields.text(Field::ClickIdKind)], ["paid_search", "gclid"]);
    assert_conserved(&header);
}

#[test]
fn the_agent_of_an_event_is_read_and_does_not_go_on() {
    let mut packed = Vec::new();
    for visitor in 1..4 {
        let agent = format!("{CHROME} Secret/{visitor}");
        put_event(&mut packed, visitor, &[(Field::Type, "view"), (Field::UserAgent, if visitor == 2 { "" } else { &agent })]);
    }
    let mut raw = record::Raw::default();
    packed::put_apart(&packed, 0, &mut raw.body, &mut raw.agents);
    put_letter(&mut raw.body, 3);
    let header = record::header(&record(3, 1, &[])).unwrap();
    let applied = pipeline().apply(origin(7), &record::encode_raw(&header, &raw));
    let (header, content) = read(&applied);
    let browsers: Vec<String> = EnrichedEvents::new(&content.events, &content.enrichments)
        .map(|(event, enrichment)| {
            let fields = Fields::enriched(&event, enrichment).unwrap();
            assert_eq!(fields.text(Field::UserAgent), "");
            fields.text(Field::Browser).to_owned()
        })
        .collect();
    assert_eq!((browsers, applied.letters), (["Chrome", "", "Chrome"].map(str::to_owned).to_vec(), 1));
    let all = [content.events, content.enrichments].concat();
    assert!(!String::from_utf8_lossy(&all).contains("Secret/"));
    assert_conserved(&header);
}

#[test]
fn a_campaign_is_found_in_whichever_field_of_the_page_carries_it() {
    let long = format!("https://shop.example/?a={}&utm_source=bing&utm_medium=cpc", "x".repeat(5_000));
    let pages: [&[(Field, &str)]; 6] = [
        &[(Field::PageUrl, "https://shop.example/?utm_source=bing&utm_medium=cpc")],
        &[(Field::PageUrl, &long)],
        &[(Field::PageUrl, "/?utm_source=bing&utm_medium=cpc")],
        &[(Field::PageUrl, "https://shop.example/"), (Field::PageSearch, "?utm_source=bing&utm_medium=cpc")],
        &[(Field::PagePath, "/"), (Field::PageSearch, "utm_source=bing&utm_medium=cpc")],
        &[(Field::PagePath, "/?utm_source=bing&utm_medium=cpc")],
    ];
    for page in pages {
        let mut body = Vec::new();
        put_event(&mut body, 1, page);
        let applied = pipeline().apply(origin(7), &record(1, 0, &body));
        let (_, content) = read(&applied);
        let (event, enrichment) = EnrichedEvents::new(&content.events, &content.enrichments).next().unwrap();
        let fields = Fields::enriched(&event, enrichment).unwrap();
        assert_eq!([fields.text(Field::CampaignSource), fields.text(Field::Channel)], ["bing", "paid_search"], "{page:?}");
    }
}

#[test]
fn letters_are_moved_with_their_place_and_counted() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    put_letter(&mut body, 3);
    let applied = pipeline().apply(origin(7), &record(1, 1, &body));
    let record = DeadLetterRecord::decode(&applied.dead[0]).unwrap();
    let letter = record.letters().next().unwrap();
    assert_eq!((letter.line, letter.original), (3, b"GET".as_slice()));
    assert_eq!(letter.position, LogPosition { epoch: LogEpoch(5), partition: 1, offset: 7, index: 0 });
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
        assert_eq!((header.events, applied.letters), if offset == 1 { (0, 1) } else { (1, 0) });
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
    let kept: Vec<(String, String)> = EnrichedEvents::new(&content.events, &content.enrichments)
        .map(|(event, enrichment)| {
            let fields = Fields::enriched(&event, enrichment).unwrap();
            (fields.text(Field::Type).to_owned(), fields.text(Field::Browser).to_owned())
        })
        .collect();
    let expected = [("first", ""), ("third", "Chrome")].map(|(name, browser)| (name.to_owned(), browser.to_owned()));
    assert_eq!((kept, applied.letters), (expected.to_vec(), 1));
    assert_conserved(&header);
}

/// Processing an event of this visitor fails as a fault of our own would.
const FAILS: VisitorKey = VisitorKey(u64::MAX);

pub(super) fn fail_for(visitor: VisitorKey) {
    assert!(visitor != FAILS, "a fault of our own");
}

/// Bytes that no compression makes smaller.
fn noise(size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()) >> 7) as u8).collect()
}

#[test]
fn a_record_that_makes_processing_panic_is_a_letter_and_costs_its_neighbours_nothing() {
    let mut pipeline = pipeline();
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    let good = record(1, 0, &body);
    put_event(&mut body, FAILS.0, &[(Field::Type, "view")]);
    let bad = record(2, 0, &body);
    for (offset, payload) in [(0, &good), (1, &bad), (2, &good)] {
        let applied = pipeline.apply(origin(offset), payload);
        let (header, _) = read(&applied);
        assert_conserved(&header);
        if offset == 1 {
            let said = "processing panicked: a fault of our own";
            assert_eq!(applied.fault.as_deref(), Some(said));
            assert_eq!(letters_of(&applied), [(said.to_owned(), PROJECT, bad.clone())]);
            assert_eq!(header.tallies.0[0].count(Count::Dead(DeadReason::RecordFailed)), 2, "each of its events is counted");
        } else {
            assert_eq!((header.events, applied.fault), (1, None));
        }
    }
}

#[test]
fn a_line_of_seventeen_mebibytes_and_letters_that_do_not_compress_fit_the_log() {
    let line = vec![b'x'; 17 << 20];
    let (near, over) = (noise(LIMIT - 40), noise(LIMIT + 1));
    for original in [line.as_slice(), &near, &over] {
        let mut body = Vec::new();
        put_event(&mut body, 1, &[(Field::Type, "view")]);
        let letter = DeadLetter { project: PROJECT, original, ..a_letter(1) };
        letter.put(&mut body);
        let applied = pipeline().apply(origin(7), &record(1, 1, &body));
        let (header, _) = read(&applied);
        assert!(applied.enriched.len() <= LIMIT && applied.dead.iter().all(|record| record.len() <= LIMIT));
        assert_eq!(letters_of(&applied).len(), 1);
        assert_conserved(&header);
    }
}

#[test]
fn a_foreign_record_as_large_as_the_log_takes_is_kept_as_far_as_it_fits() {
    let garbage = noise(LIMIT);
    let applied = pipeline().apply(origin(7), &garbage);
    let letters = letters_of(&applied);
    let (message, _, original) = &letters[0];
    assert!(message.ends_with("(original cut)") && garbage.starts_with(original) && original.len() >= LIMIT / 2, "{message}");
    assert!(applied.enriched.len() <= LIMIT && applied.dead[0].len() <= LIMIT);
}

/// An event whose enriched form is much larger than itself.
fn put_growing(body: &mut Vec<u8>, visitor: u64) {
    let page = format!("https://a.example/?utm_source={0}&utm_medium={0}&utm_campaign={0}", visitor * 1_000_003);
    put_event(body, visitor, &[(Field::Type, "view"), (Field::PageUrl, &page), (Field::UserAgent, CHROME)]);
}

#[test]
fn a_record_that_grows_beyond_the_limit_keeps_its_events_as_they_came() {
    let mut body = Vec::new();
    (1..500).for_each(|visitor| put_growing(&mut body, visitor));
    let raw = record(499, 0, &body);
    let whole = pipeline().apply(origin(7), &raw).enriched;
    let applied = pipeline_of(whole.len() - 1).apply(origin(7), &raw);
    let (header, content) = read(&applied);
    assert_eq!((header.events, applied.letters), (499, 0));
    assert!(applied.enriched.len() < whole.len());
    let mut events = EnrichedEvents::new(&content.events, &content.enrichments);
    assert!(events.all(|(event, enrichment)| Fields::enriched(&event, enrichment).unwrap().get(Field::Browser).is_empty()));
    assert_conserved(&header);

    // Not even those fit behind a raw record that fills the log.
    let applied = pipeline_of(raw.len()).apply(origin(7), &raw);
    let (header, _) = read(&applied);
    assert_eq!((header.events, applied.letters), (0, 1));
    assert_eq!(header.tallies.0[0].count(Count::Dead(DeadReason::RecordTooLarge)), 499);
    assert_eq!(letters_of(&applied)[0].1, PROJECT);
    assert_conserved(&header);
}

/// A record under another header.
fn under(change: impl FnOnce(&mut Header), events: u32, body: &[u8]) -> Vec<u8> {
    let mut header = record::header(&record(events, 0, body)).unwrap();
    change(&mut header);
    record::encode(&header, body)
}

#[test]
fn an_event_of_no_project_is_a_letter_and_no_row_of_the_books() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    for projects in [Vec::new(), vec![ProjectId::BOOKS]] {
        let applied = pipeline().apply(origin(7), &under(|header| header.projects = projects, 1, &body));
        let (header, _) = read(&applied);
        assert_eq!(header.events, 0);
        assert_eq!(letters_of(&applied), [("project unknown".to_owned(), ProjectId::BOOKS, body.clone())]);
        assert_conserved(&header);
    }
}

#[test]
fn the_letter_of_an_event_holds_its_agent() {
    let mut packed = Vec::new();
    put_event(&mut packed, 1, &[(Field::UserAgent, CHROME), (Field::Type, "view")]);
    let mut raw = record::Raw::default();
    packed::put_apart(&packed, 0, &mut raw.body, &mut raw.agents);
    let header = record::header(&under(|header| header.projects = vec![ProjectId::BOOKS], 1, &[])).unwrap();
    let applied = pipeline().apply(origin(7), &record::encode_raw(&header, &raw));
    assert_eq!(letters_of(&applied), [("project unknown".to_owned(), ProjectId::BOOKS, packed)]);
}

#[test]
fn what_a_record_of_several_projects_holds_is_shown_to_none_of_them() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    let whole = body.len();
    put_event(&mut body, 2, &[(Field::Type, "secret")]);
    body.truncate(body.len() - 1);
    let applied = pipeline().apply(origin(7), &under(|header| header.projects.push(ProjectId(10)), 2, &body));
    assert_eq!(letters_of(&applied), [(dead_letter::REST_UNREADABLE.to_owned(), ProjectId::BOOKS, body[whole..].to_vec())]);
    assert_conserved(&read(&applied).0);
}

#[test]
fn the_books_are_of_what_the_record_holds_whatever_its_header_says() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    let lies = |header: &mut Header| {
        header.day = 9;
        header.tallies = Tallies::default();
        for count in [Count::Received, Count::Stored, Count::Dead(DeadReason::LineMalformed), Count::Unknown(250)] {
            header.tallies.add(PROJECT, NOW, count, u32::MAX);
        }
        header.tallies.add(ProjectId(77), i64::MAX, Count::Received, u32::MAX);
        header.tallies.add(PROJECT, NOW, Count::Unknown(130), 5);
    };
    let applied = pipeline().apply(origin(7), &under(lies, 1, &body));
    let (header, _) = read(&applied);
    let mut expected = Tallies::default();
    expected.add(PROJECT, NOW, Count::Unknown(130), 5);
    expected.add(PROJECT, NOW, Count::Received, 1);
    assert_eq!((header.day, header.tallies), (day_of(NOW), expected), "what a later release counts at the edge is passed on");
}

#[test]
fn a_header_that_promises_more_than_the_body_can_hold_is_one_event_of_nobody() {
    let mut body = Vec::new();
    put_event(&mut body, 1, &[(Field::Type, "view")]);
    for (events, letters) in [(u32::MAX, 0), (1, u32::MAX), (u32::MAX, u32::MAX)] {
        let lies = |header: &mut Header| (header.events, header.letters) = (events, letters);
        let applied = pipeline().apply(origin(7), &under(lies, 1, &body));
        let (header, _) = read(&applied);
        assert_eq!(header.tallies.0[0].count(Count::Received), 1);
        assert_eq!(header.tallies.0[0].project, ProjectId::BOOKS);
        assert_conserved(&header);
    }
}

proptest! {
    #[test]
    fn damaged_records_conserve_their_events_and_letters_and_never_panic(
        events in 1_u64..6, letters in 0_u64..4, at in 0_usize..1_000, byte: u8, cut in 0_usize..1_000,
    ) {
        let mut body = Vec::new();
        (0..events).for_each(|visitor| put_event(&mut body, visitor, &[(Field::Type, "view"), (Field::PageUrl, "https://a.example/")]));
        (0..letters).for_each(|line| put_letter(&mut body, line));
        let position = at % body.len();
        body[position] = byte;
        body.truncate(body.len() - cut % body.len());
        let applied = pipeline().apply(origin(1), &record(events as u32, letters as u32, &body));
        let (header, _) = read(&applied);
        assert_conserved(&header);
    }
}
