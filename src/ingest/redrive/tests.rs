use super::*;
use crate::event::dead_letter::{DeadLetterId, LogPosition, REST_UNREADABLE};
use crate::event::ids::{LogEpoch, PersonKey, VisitorKey};
use crate::event::packed::EventWriter;
use crate::event::record::{Header, Tallies, day_of};
use crate::ingest::tests::fake_log::{FakeLog, Mood};
use crate::ingest::tests::{NOW, limits};
use crate::outcome::Count;

const SHOP: ProjectId = ProjectId(7);
const BLOG: ProjectId = ProjectId(8);
const PLACE: LogPosition = LogPosition { epoch: LogEpoch(5), partition: 1, offset: 40, index: 2 };
const LINE: &[u8] = br#"{"type":"order","anonymousId":"ada"}"#;

fn letter<'a>(reason: DeadReason, original: &'a [u8]) -> DeadLetter<'a> {
    DeadLetter {
        project: SHOP,
        received_ms: NOW,
        reason,
        message: "",
        source: "",
        line: 0,
        original,
        id: DeadLetterId::NONE,
        position: PLACE,
    }
}

fn redrive() -> (FakeLog, Redrive<FakeLog>) {
    let log = FakeLog::new(Mood::Willing);
    (log.clone(), Redrive::new(log, limits(), Geo::default()))
}

/// What is published for `letter`: project and header of each event, in order of project.
async fn published(letter: &DeadLetter<'_>) -> Vec<(ProjectId, EventHeader)> {
    let (log, mut redrive) = redrive();
    let given = redrive.attempt(letter);
    redrive.publish().await.unwrap();
    let mut events = Vec::new();
    for record in log.records() {
        let mut rest = record.body.as_slice();
        let received = record.header.tallies.0.iter().map(|tally| tally.count(Count::Received)).sum::<u32>();
        assert_eq!((received, record.header.letters, record.header.source), (record.header.events, 0, 0));
        assert_eq!(record.header.day, day_of(record.header.received_ms));
        for _ in 0..record.header.events {
            let header = EventView::take(&mut rest).unwrap().header;
            assert_eq!(header.visitor.partition(4), record.partition);
            assert_eq!(header.received_ms, record.header.received_ms);
            events.push((record.header.projects[usize::from(header.project)], header));
        }
        assert!(rest.is_empty());
    }
    assert_eq!(events.len() as u32, given);
    events.sort_by_key(|(project, header)| (*project, header.event_id));
    events
}

fn put_event(id: u8, project: u16, body: &mut Vec<u8>) {
    let mut writer = EventWriter::begin(body);
    writer.string(b"plan", b"pro");
    writer.finish(&EventHeader {
        event_id: [id; 16],
        visitor: VisitorKey(u64::from(id) << 60),
        person: PersonKey(1),
        at_ms: NOW - 5,
        original_ms: NOW - 5,
        sent_ms: 0,
        received_ms: NOW,
        flags: flag::SERVER_ID | flag::TRUNCATED,
        project,
    });
}

fn record((events, letters): (u32, u32), body: &[u8]) -> Vec<u8> {
    let (projects, tallies) = (vec![SHOP, BLOG], Tallies::default());
    record::encode(&Header { source: 3, day: day_of(NOW), events, received_ms: NOW, projects, tallies, letters, origin: None }, body)
}

#[tokio::test]
async fn a_line_without_an_id_gets_that_of_its_place_and_keeps_its_time() {
    let first = published(&letter(DeadReason::EventInvalid, LINE)).await;
    let [(SHOP, header)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((header.event_id, header.at_ms, header.flags), (PLACE.event_id(0), NOW, flag::SERVER_TIME));
    assert_ne!(header.received_ms, NOW, "it is received anew");
    let again = published(&letter(DeadReason::EventInvalid, LINE)).await;
    assert_eq!((again[0].1.event_id, again[0].1.at_ms), (header.event_id, header.at_ms));

    let own =
        br#"{"eventId":"0190f7a4-0000-7000-8000-000000000001","type":"order","anonymousId":"ada","timestamp":"1970-01-01T00:00:01Z"}"#;
    let own = published(&letter(DeadReason::EventInvalid, own)).await;
    assert_eq!((own[0].1.event_id[15], own[0].1.at_ms), (1, 1_000), "an import's time is any time since 1970");
}

#[tokio::test]
async fn a_record_gives_its_events_and_the_lines_behind_them_each_to_its_project() {
    let mut body = Vec::new();
    put_event(1, 0, &mut body);
    put_event(2, 1, &mut body);
    for (reason, original) in [(DeadReason::EventInvalid, LINE), (DeadReason::LineMalformed, LINE), (DeadReason::EventInvalid, LINE)] {
        DeadLetter { project: BLOG, position: LogPosition::UNKNOWN, ..letter(reason, original) }.put(&mut body);
    }
    let whole = record((2, 3), &body);
    let events = published(&DeadLetter { project: ProjectId::BOOKS, ..letter(DeadReason::RecordUndecodable, &whole) }).await;
    let mut ids: Vec<(ProjectId, [u8; 16])> = events.iter().map(|(project, header)| (*project, header.event_id)).collect();
    let mut expected = [(SHOP, [1; 16]), (BLOG, [2; 16]), (BLOG, PLACE.event_id(0)), (BLOG, PLACE.event_id(2))];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    let (_, first) = events[0];
    assert_eq!((first.at_ms, first.flags), (NOW - 5, flag::TRUNCATED), "a copy of it is looked for");
}

#[tokio::test]
async fn an_event_of_unknown_project_stays_where_it_is() {
    let mut body = Vec::new();
    put_event(1, 1, &mut body);
    let alone = published(&letter(DeadReason::EventUndecodable, &body)).await;
    assert_eq!(alone[0].0, SHOP, "the letter of a single event has its project");
    put_event(2, 0, &mut body);
    let rest = DeadLetter { message: REST_UNREADABLE, ..letter(DeadReason::EventUndecodable, &body) };
    let rest = published(&rest).await;
    assert_eq!(rest.iter().map(|(project, header)| (*project, header.event_id)).collect::<Vec<_>>(), [(SHOP, [2; 16])]);
}

#[tokio::test]
async fn what_still_cannot_be_read_leaves_no_trace() {
    let mut body = Vec::new();
    put_event(1, 0, &mut body);
    let cut = record((1, 0), &body);
    for (reason, original) in [
        (DeadReason::LineMalformed, LINE),
        (DeadReason::EventInvalid, b"{\"type\":\"\",\"anonymousId\":\"ada\"}".as_slice()),
        (DeadReason::EventInvalid, b""),
        (DeadReason::RecordUndecodable, b"garbage"),
        (DeadReason::RecordUndecodable, cut.get(..cut.len() - 1).unwrap()),
        (DeadReason::EventUndecodable, body.get(..body.len() - 1).unwrap()),
    ] {
        assert!(published(&letter(reason, original)).await.is_empty(), "{reason:?}");
    }
}

#[tokio::test]
async fn a_dry_run_publishes_nothing() {
    let (log, mut redrive) = redrive();
    assert_eq!(redrive.attempt(&letter(DeadReason::EventInvalid, LINE)), 1);
    redrive.forget();
    redrive.publish().await.unwrap();
    assert!(log.records().is_empty());
}
