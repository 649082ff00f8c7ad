#![allow(clippy::disallowed_methods, reason = "a test owns its tasks")]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::packed::EventView;
use crate::event::record::Tally;
use crate::ingest::tests::fake_log::{FakeLog, Mood, Opened};
use crate::ingest::tests::{NOW, limits, lines, lines_of};
use crate::outcome::Defect;

const DAY_MS: i64 = 86_400_000;

fn id(number: usize) -> String {
    format!("0190f7a4-0000-7000-8000-{number:012x}")
}

/// A request of events with these numbers, from a visitor each.
fn request(project: u64, received_ms: i64, numbers: impl IntoIterator<Item = usize>) -> Contribution {
    let project = ProjectId(project);
    let lines: String = numbers
        .into_iter()
        .map(|number| format!("{{\"eventId\":\"{}\",\"type\":\"view\",\"anonymousId\":\"visitor {number}\"}}\n", id(number)))
        .collect();
    Contribution { receipt: Receipt { project, received_ms }, partitions: lines_of(project, lines.as_bytes()).unwrap().partitions }
}

fn publisher(log: &FakeLog, seal_size: usize) -> Publisher<FakeLog> {
    Publisher::new(log.clone(), &IngestLimits { seal_size, ..limits() })
}

/// The events of a record, each with the project it belongs to.
fn events(record: &Opened) -> Vec<(ProjectId, [u8; 16])> {
    let mut rest = record.body.as_slice();
    (0..record.header.events)
        .map(|_| {
            let header = EventView::take(&mut rest).unwrap().header;
            (record.header.projects[usize::from(header.project)], header.event_id)
        })
        .collect()
}

fn counted(records: &[Opened], count: Count) -> u32 {
    records.iter().flat_map(|record| &record.header.tallies.0).map(|tally: &Tally| tally.count(count)).sum()
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let log = FakeLog::new(Mood::Slow);
    let publisher = publisher(&log, 1);
    let waiting = tokio::spawn(async move { publisher.publish(request(1, NOW, [1]), &[]).await });
    log.appended().await;
    assert!(!waiting.is_finished());
    log.settle();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_behind_gets_larger_records_instead_of_more() {
    let log = FakeLog::new(Mood::Slow);
    let publisher = publisher(&log, 1 << 20);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let publisher = publisher.clone();
        // The same visitor, so the same partition.
        let request = request(1, NOW, [5]);
        waiting.push(tokio::spawn(async move { publisher.publish(request, &[]).await }));
        tokio::time::sleep(limits().linger * 2).await;
    }
    let sizes = |log: &FakeLog| log.records().iter().map(|record| record.header.events).collect::<Vec<_>>();
    assert_eq!(sizes(&log), [1, 1]);
    log.settle();
    tokio::time::sleep(limits().linger).await;
    assert_eq!(sizes(&log), [1, 1, 18], "the rest goes as soon as the log has caught up");
    log.settle();
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn whatever_the_log_refuses_is_told_to_every_request_in_the_record() {
    for mood in [Mood::Full, Mood::Failing] {
        let publisher = publisher(&FakeLog::new(mood), 1 << 20);
        let (one, two) = tokio::join!(publisher.publish(request(1, NOW, [1]), &[]), publisher.publish(request(2, NOW, [1]), &[]));
        for told in [one, two] {
            assert!(matches!((mood, told), (Mood::Full, Err(LogError::Full(_))) | (Mood::Failing, Err(LogError::Unavailable(_)))));
        }
    }
}

#[tokio::test]
async fn requests_of_several_projects_share_a_record_and_each_event_keeps_its_own() {
    let log = FakeLog::new(Mood::Willing);
    let publisher = publisher(&log, 1 << 20);
    let (one, two) = tokio::join!(publisher.publish(request(7, NOW, [1]), &[]), publisher.publish(request(9, NOW, 0..50), &[]));
    assert!(one.is_ok() && two.is_ok());
    let records = log.records();
    assert!(records.iter().any(|record| record.header.projects.len() == 2));
    let mut found: Vec<_> = records.iter().flat_map(events).collect();
    found.sort_unstable();
    assert_eq!(found.len(), 51);
    assert_eq!(found[0].0, ProjectId(7));
    assert!(found[1..].iter().all(|(project, _)| *project == ProjectId(9)));
}

#[tokio::test]
async fn a_request_larger_than_a_record_is_spread_over_several_and_loses_nothing() {
    let log = FakeLog::new(Mood::Willing);
    assert!(publisher(&log, 1_000).publish(request(1, NOW, 0..500), &[]).await.is_ok());
    let records = log.records();
    assert!(records.iter().all(|record| record.body.len() <= 2_000));
    let mut found: Vec<_> = records.iter().flat_map(events).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 500);
    assert_eq!(counted(&records, Count::Received), 500);
}

#[tokio::test]
async fn a_request_that_is_refused_whole_is_in_the_books_before_it_is_answered() {
    let log = FakeLog::new(Mood::Willing);
    let decoded = lines(b"17\n{\"type\":\"x\"}\n17").unwrap();
    let contribution = Contribution { receipt: Receipt { project: ProjectId(1), received_ms: NOW }, partitions: decoded.partitions };
    assert!(publisher(&log, 1).publish(contribution, &decoded.verdicts.rejected).await.is_ok());
    let records = log.records();
    assert_eq!(counted(&records, Count::Rejected(Defect::EventNotObject)), 2);
    assert_eq!(counted(&records, Count::Rejected(Defect::UserRequired)), 1);
    assert_eq!(counted(&records, Count::Received), 0);
}

#[tokio::test]
async fn a_record_holds_one_day_of_receipt() {
    let log = FakeLog::new(Mood::Willing);
    let publisher = publisher(&log, 1 << 20);
    let (one, two) = tokio::join!(publisher.publish(request(1, NOW, [1]), &[]), publisher.publish(request(1, NOW + DAY_MS, [1]), &[]));
    assert!(one.is_ok() && two.is_ok());
    let days: Vec<u16> = log.records().iter().map(|record| record.header.day).collect();
    assert_eq!(days, [day_of(NOW), day_of(NOW) + 1]);
}

#[tokio::test]
async fn an_import_never_shares_a_record_with_live_events_nor_its_letters_with_its_events() {
    let log = FakeLog::new(Mood::Willing);
    let publisher = publisher(&log, 1 << 20);
    let letters = (0..3).map(|count| LetterBatch { bytes: vec![1; 10], count: count + 1 }).collect();
    let import = ImportRecord { source: 5, letters };
    let (live, import) =
        tokio::join!(publisher.publish(request(1, NOW, 0..20), &[]), publisher.publish_import(request(1, NOW, 20..40), import));
    assert!(live.is_ok() && import.is_ok());
    let (imported, live): (Vec<_>, Vec<_>) = log.records().into_iter().partition(|record| record.header.source == 5);
    assert_eq!(counted(&live, Count::Received), 20);
    assert_eq!(counted(&imported, Count::Received), 20 + 6);
    let letters: Vec<(u16, u32, u32)> =
        imported.iter().filter(|record| record.header.letters > 0).map(|r| (r.partition, r.header.letters, r.header.events)).collect();
    assert_eq!(letters, [(0, 1, 0), (0, 2, 0), (0, 3, 0)]);
}

#[tokio::test]
async fn a_panic_while_a_record_is_open_costs_that_record_and_no_later_one() {
    let log = FakeLog::new(Mood::Willing);
    let publisher = publisher(&log, 1);
    for partition in 0..4 {
        let publisher = publisher.clone();
        let holder = std::thread::spawn(move || {
            let _open = publisher.open(partition);
            panic!("on purpose");
        });
        assert!(holder.join().is_err());
    }
    assert!(publisher.publish(request(1, NOW, 0..20), &[]).await.is_ok());
    assert_eq!(counted(&log.records(), Count::Received), 20);
}

/// Requests as the property below makes them: project, minutes after the start, number of events, seal size.
fn any_requests() -> impl Strategy<Value = Vec<(u64, i64, usize)>> {
    prop::collection::vec((1_u64..4, 0_i64..3_000, 0_usize..40), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_records_and_their_books_hold_what_the_requests_brought(requests in any_requests(), seal_size in 1_usize..5_000) {
        let log = FakeLog::new(Mood::Willing);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut next = 0;
        let mut expected = Vec::new();
        let mut books: BTreeMap<(ProjectId, u32), u32> = BTreeMap::new();
        runtime.block_on(async {
            let publisher = publisher(&log, seal_size);
            let mut running = tokio::task::JoinSet::new();
            for (project, minute, events) in requests {
                let (received_ms, numbers) = (NOW + minute * 60_000, next..next + events);
                next += events;
                if events == 0 {
                    continue;
                }
                *books.entry((ProjectId(project), record::minute_of(received_ms))).or_default() += events as u32;
                expected.extend(numbers.clone().map(|number| (ProjectId(project), uuid::Uuid::parse_str(&id(number)).unwrap().into_bytes())));
                let publisher = publisher.clone();
                running.spawn(async move { publisher.publish(request(project, received_ms, numbers), &[]).await });
            }
            while let Some(fate) = running.join_next().await {
                fate.unwrap().unwrap();
            }
        });
        let records = log.records();
        let mut found: Vec<_> = records.iter().flat_map(events).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
        let mut counted: BTreeMap<(ProjectId, u32), u32> = BTreeMap::new();
        for tally in records.iter().flat_map(|record| &record.header.tallies.0) {
            *counted.entry((tally.project, tally.minute)).or_default() += tally.count(Count::Received);
        }
        prop_assert_eq!(counted, books);
        // A piece is at most a record, or one event, which takes 200 bytes here.
        let largest = records.iter().map(|record| record.body.len()).max().unwrap_or_default();
        prop_assert!(largest < seal_size + seal_size.max(200), "{largest} for {seal_size}");
    }
}
