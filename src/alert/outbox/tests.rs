use std::collections::VecDeque;

use super::*;
use crate::alert::notice::Kind;
use crate::alert::target::Trust;

fn catalogue() -> Catalogue {
    let written = serde_json::json!({"kind": "webhook", "url": "http://127.0.0.1:1/"});
    let channel = NamedChannel::open("hook", written.as_object().unwrap(), &Trust::Operator).unwrap();
    Catalogue { channels: vec![channel], ..Catalogue::default() }
}

fn notice(rule: &str, kind: Kind) -> Notice {
    Notice { rule: rule.to_owned(), kind, ..Notice::about_pulse(kind, 0) }
}

fn stored(row: &AlertRow) -> Stored {
    let AlertRow { kind, project, rule, entry, slot, at, body } = row.clone();
    Stored { kind: kind.to_owned(), project, rule, entry, slot, at, body, version: 0 }
}

fn later() -> Sent {
    Sent::Later { why: "no".to_owned(), pause: None }
}

#[tokio::test(start_paused = true)]
async fn notices_of_a_rule_keep_their_order_and_those_of_others_do_not_wait() {
    let (mut outbox, catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    outbox.add(&notice("a", Kind::Firing), &hook, 0);
    outbox.add(&notice("a", Kind::Resolved), &hook, 0);
    outbox.add(&notice("b", Kind::Firing), &hook, 0);
    let begun = outbox.begin(&catalogue, 0);
    let rules: Vec<(&str, Kind)> = begun.iter().map(|begun| (begun.delivery.notice.rule.as_str(), begun.delivery.notice.kind)).collect();
    assert_eq!(rules, [("a", Kind::Firing), ("b", Kind::Firing)]);
    let (first, id) = (begun[0].number, begun[0].delivery.id);
    let (rows, ended) = outbox.end(first, later(), &catalogue, 0);
    assert_eq!((ended, rows.len(), rows[0].kind), (Ended::Retried, 1, kind::HISTORY));
    let (entry, slot) = (rows[0].entry.clone(), rows[0].slot);
    assert!(rows[0].body.contains(r#""outcome":"retried""#) && rows[0].body.contains(r#""why":"no""#), "{}", rows[0].body);
    assert!(outbox.begin(&catalogue, 0).is_empty(), "not before its pause is over, and nothing passes it");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(outbox.begin(&catalogue, 0)[0].delivery.id, id, "the same id again");
    let (rows, ended) = outbox.end(first, Sent::Done, &catalogue, 0);
    assert_eq!((ended, rows[0].kind, rows[0].body.as_str()), (Ended::Delivered, kind::OUTBOX, ""));
    assert_eq!((rows[1].entry.as_str(), rows[1].slot), (entry.as_str(), slot), "it takes the place of the other one");
    assert_eq!(outbox.begin(&catalogue, 0)[0].delivery.notice.kind, Kind::Resolved);
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_tried_for_a_day_and_one_that_was_read_again_goes_on() {
    let (mut outbox, catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    let rows = Outbox::rows(&notice("a", Kind::Firing), &hook, 5);
    let row = &rows[0];
    let stored = stored(row);
    outbox.restore(&stored);
    outbox.restore(&stored);
    assert_eq!(outbox.len(), 1, "once");
    let begun = outbox.begin(&catalogue, 10);
    assert_eq!(begun[0].delivery.id.to_string(), row.entry);
    assert_eq!(outbox.end(begun[0].number, later(), &catalogue, PATIENCE_MS).1, Ended::Retried);
    tokio::time::advance(Duration::from_secs(2)).await;
    let begun = outbox.begin(&catalogue, 10);
    let (rows, ended) = outbox.end(begun[0].number, later(), &catalogue, PATIENCE_MS + 6);
    assert_eq!((ended, rows.len()), (Ended::GivenUp, 2));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_gone_is_asked_no_more_until_it_is_switched_on_or_written_anew() {
    let (mut outbox, mut catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    outbox.add(&notice("a", Kind::Firing), &hook, 0);
    let begun = outbox.begin(&catalogue, 0);
    let (rows, _) = outbox.end(begun[0].number, Sent::Gone, &catalogue, 0);
    assert_eq!(rows.last().map(|row| row.kind), Some(kind::GONE));
    outbox.add(&notice("b", Kind::Firing), &hook, 0);
    let begun = outbox.begin(&catalogue, 0);
    assert!(matches!(begun[0].channel.tell(&begun[0].delivery).await, Sent::Never(_)));
    catalogue.channels[0].fingerprint += 1;
    outbox.end(begun[0].number, Sent::Done, &catalogue, 0);
    outbox.add(&notice("c", Kind::Firing), &hook, 0);
    let begun = outbox.begin(&catalogue, 0);
    assert!(matches!(begun[0].channel.tell(&begun[0].delivery).await, Sent::Later { .. }), "it is asked: nothing listens there");
    let (rows, _) = outbox.end(begun[0].number, Sent::Gone, &catalogue, 0);
    outbox.restore(&stored(rows.last().unwrap()));
    assert!(outbox.is_switched_off(&catalogue.channels[0]), "and is gone again");
    catalogue.channels[0].switched_on += 1;
    assert!(!outbox.is_switched_off(&catalogue.channels[0]));
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_answers_is_of_the_channel_that_was_told_and_not_of_what_it_has_become() {
    let (mut outbox, mut catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    let pause = Sent::Later { why: "slowly".to_owned(), pause: Some(Duration::from_secs(60)) };
    for (rule, answer) in [("a", Sent::Gone), ("b", pause)] {
        outbox.add(&notice(rule, Kind::Firing), &hook, 0);
        let begun = outbox.begin(&catalogue, 0);
        catalogue.channels[0].fingerprint += 1;
        let (rows, _) = outbox.end(begun[0].number, answer, &catalogue, 0);
        assert!(rows.iter().all(|row| row.kind != kind::GONE));
        let channel = &catalogue.channels[0];
        assert!(!outbox.is_switched_off(channel) && !outbox.is_paused(channel, Instant::now()), "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_channels_are_slow_delays_no_other() {
    let (mut outbox, catalogue) = (Outbox::default(), catalogue());
    for rule in 0..20 {
        let slow = Notice { project: 1, ..notice(&rule.to_string(), Kind::Firing) };
        outbox.add(&slow, &["hook".to_owned(), format!("hook-{rule}")], 0);
    }
    outbox.add(&Notice { project: 2, ..notice("a", Kind::Firing) }, &["hook".to_owned()], 0);
    let projects = |begun: &[Begun]| begun.iter().map(|begun| begun.delivery.notice.project).collect::<Vec<_>>();
    assert_eq!(projects(&outbox.begin(&catalogue, 0)), [vec![1; MOST_PER_PROJECT], vec![2]].concat());
    assert!(outbox.begin(&catalogue, 0).is_empty(), "all of them run");
}

#[tokio::test(start_paused = true)]
async fn a_project_with_more_notices_than_can_wait_keeps_out_no_other_and_all_of_its_own_are_told_in_order() {
    let (mut outbox, catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    let of = |number: i64| Notice { project: 1, slot: number, ..notice("a", Kind::Firing) };
    let mut store: Vec<Stored> = Vec::new();
    let total = MOST_WAITING as i64 * 5 / 2;
    let add = |outbox: &mut Outbox, store: &mut Vec<Stored>, number: i64| {
        store.extend(Outbox::rows(&of(number), &hook, 0).iter().map(stored));
        outbox.add(&of(number), &hook, 0);
    };
    (0..total - 1).for_each(|number| add(&mut outbox, &mut store, number));
    assert_eq!((outbox.len(), outbox.wants_more()), (MOST_WAITING, None), "the others wait in the store");
    outbox.add(&Notice { project: 2, ..notice("b", Kind::Firing) }, &hook, 0);
    let (mut told, mut others) = (Vec::new(), 0);
    let mut begun: VecDeque<Begun> = outbox.begin(&catalogue, 0).into();
    while let Some(Begun { number, delivery, .. }) = begun.pop_front() {
        // One that comes while there is room is behind those of the store.
        if told.len() == MOST_WAITING / 4 {
            add(&mut outbox, &mut store, total - 1);
        }
        if delivery.notice.project == 1 {
            told.push(delivery.notice.slot)
        } else {
            others += 1
        };
        let entry = delivery.id.to_string();
        outbox.end(number, Sent::Done, &catalogue, 0);
        store.retain(|row| row.entry != entry);
        if let Some(project) = outbox.wants_more() {
            outbox.more(project, &store[..store.len().min(MOST_WAITING)], &HashSet::new());
        }
        begun.extend(outbox.begin(&catalogue, 0));
    }
    assert_eq!((told, others), ((0..total).collect(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_told_several_at_a_time_and_nothing_before_it_wants_to_be_told() {
    let (mut outbox, mut catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    for rule in 0..20 {
        outbox.add(&notice(&rule.to_string(), Kind::Firing), &hook, 0);
        outbox.add(&notice(&rule.to_string(), Kind::Resolved), &hook, 0);
    }
    let begun = outbox.begin(&catalogue, 0);
    let told: Vec<(&str, Kind)> = begun.iter().map(|begun| (begun.delivery.notice.rule.as_str(), begun.delivery.notice.kind)).collect();
    let rules: Vec<String> = (0..MOST_PER_CHANNEL).map(|rule| rule.to_string()).collect();
    assert_eq!(told, rules.iter().map(|rule| (rule.as_str(), Kind::Firing)).collect::<Vec<_>>(), "of each rule the first one alone");
    outbox.end(begun[0].number, Sent::Later { why: "slowly".to_owned(), pause: Some(Duration::from_secs(60)) }, &catalogue, 0);
    begun.iter().skip(1).for_each(|begun| drop(outbox.end(begun.number, Sent::Done, &catalogue, 0)));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(outbox.begin(&catalogue, 0).is_empty());
    catalogue.channels[0].fingerprint += 1;
    let begun = outbox.begin(&catalogue, 0);
    assert_eq!(begun.len(), MOST_PER_CHANNEL, "one that was written anew has not said so");
    begun.iter().for_each(|begun| drop(outbox.end(begun.number, Sent::Done, &catalogue, 0)));
    catalogue.channels[0].fingerprint -= 1;
    assert!(outbox.begin(&catalogue, 0).is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    let first = &outbox.begin(&catalogue, 0)[0].delivery.notice;
    assert_eq!((first.rule.as_str(), first.kind), ("0", Kind::Firing), "the one that it did not take comes first");
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_all_projects_is_left_alone_by_all_of_them_until_it_wants_to_be_told() {
    let (mut outbox, catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    outbox.add(&Notice { project: 1, ..notice("a", Kind::Firing) }, &hook, 0);
    let begun = outbox.begin(&catalogue, 0);
    outbox.add(&Notice { project: 2, ..notice("b", Kind::Firing) }, &hook, 0);
    outbox.end(begun[0].number, Sent::Later { why: "slowly".to_owned(), pause: Some(Duration::from_secs(60)) }, &catalogue, 0);
    assert!(outbox.is_paused(&catalogue.channels[0], Instant::now()));
    assert!(outbox.begin(&catalogue, 0).is_empty());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(!outbox.is_paused(&catalogue.channels[0], Instant::now()));
    assert_eq!(outbox.begin(&catalogue, 0).len(), 2);
}

#[test]
fn pauses_double_up_to_the_longest_and_differ_from_one_notice_to_the_next() {
    for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (1_000, 300)] {
        let whole = Duration::from_secs(seconds);
        let pauses: HashSet<Duration> = (0..200).map(|_| pause_after(attempts)).collect();
        assert!(pauses.iter().all(|pause| (whole.mul_f64(0.75)..=whole.mul_f64(1.25)).contains(pause)), "{attempts}: {pauses:?}");
        assert!(pauses.len() > 50, "what failed together comes back together: {pauses:?}");
    }
}

#[tokio::test]
async fn what_a_channel_has_no_word_for_or_not_all_have_ends_and_says_why() {
    let (mut outbox, catalogue, hook) = (Outbox::default(), catalogue(), ["hook".to_owned()]);
    for (sent, word) in [(Sent::Skipped("why".to_owned()), "skipped"), (Sent::Partly("why".to_owned()), "partly_delivered")] {
        outbox.add(&notice(word, Kind::Summary), &hook, 0);
        let number = outbox.begin(&catalogue, 0)[0].number;
        let (rows, ended) = outbox.end(number, sent, &catalogue, 0);
        let said: serde_json::Value = serde_json::from_str(&rows[1].body).unwrap();
        assert_eq!((ended.as_str(), &said["outcome"], &said["why"]), (word, &json!(word), &json!("why")));
        assert_eq!((rows[0].kind, rows[0].body.as_str(), outbox.len()), (kind::OUTBOX, "", 0), "it waits no more");
    }
}
