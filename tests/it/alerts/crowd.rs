//! A thousand rules: what they ask, how soon they are judged, and whom a receiver that hangs delays.

use std::fmt::Write as _;
use std::time::Instant;

use super::{MINUTE_MS, World};
use crate::harness::receiver::{Reaction, Received, Receiver};
use crate::harness::{PATIENCE, POLL};

/// Rules of one question, rules of questions of their own, and of the former those that tell somebody who hangs and somebody who does not.
const SAME: usize = 1_000;
const OTHERS: usize = 50;
const TELLING: usize = 20;

#[tokio::test]
async fn a_thousand_rules_of_one_question_ask_it_once_and_a_receiver_that_hangs_delays_no_other() {
    let hung = Receiver::start().await;
    hung.react(std::iter::repeat_n(Reaction::Silence, 1_000));
    let mut files = format!("[channels.hung]\nkind = 'webhook'\nurl = '{}'\n", hung.url("/hung"));
    let mut rule = |id: &str, kind: &str, channels: &str| {
        let (question, condition) = (format!("{{series = [{{event = '{kind}'}}]}}"), "{above = 2}");
        writeln!(
            files,
            "[alerts.{id}]\nreport = 'trends'\ninterval = 'minute'\nevaluation_delay = '0s'\nquestion = {question}\ncondition = {condition}\nchannels = {channels}"
        )
        .unwrap();
    };
    for number in 0..SAME {
        let channels = match number {
            number if number < TELLING => "['hung']",
            number if number < 2 * TELLING => "['hook']",
            _ => "[]",
        };
        rule(&format!("same{number}"), "signup", channels);
    }
    (0..OTHERS).for_each(|number| rule(&format!("other{number}"), &format!("other{number}"), "[]"));
    // What is asked about slots of the past is not counted with what is asked of one that is over.
    let mut world = World::start(&files, &[("PULSE__ALERTS__REVISE_EVERY", "1d".to_owned())]).await;

    let mut delays = Vec::new();
    for (minute, number) in [(0, 1), (1, 3), (2, 1)] {
        world.send("signup", number).await;
        let asked = world.http().counter("pulse_statements_total").await;
        world.begin_minute();
        let (over, over_ms) = (Instant::now(), world.now_ms());
        let judged = judged(&world, over_ms).await;
        let asked = world.http().counter("pulse_statements_total").await - asked;
        let p99 = |part: f64| judged[((judged.len() - 1) as f64 * part) as usize];
        // A question is a statement or two, and how far the data is is asked twice a second while anything is due.
        assert!(asked < SAME as u64, "{asked} statements for {} questions", OTHERS + 1);
        println!(
            "minute {minute}: {} rules judged with {asked} statements; from the end of the minute to the verdict {} ms at the median, {} ms at p99",
            judged.len(),
            p99(0.5),
            p99(0.99)
        );
        if minute > 0 {
            let told = world.receiver.wait("/hook", minute * TELLING).await;
            delays.push(over.elapsed());
            assert_eq!(told.len(), minute * TELLING);
        }
    }
    let told = world.hooks();
    let of_kind = |kind: &str| told.iter().filter(|told| told.kind() == kind).count();
    assert_eq!((of_kind("firing"), of_kind("resolved")), (TELLING, TELLING), "{told:#?}");
    let hung: Vec<Received> = hung.at("/hung");
    assert!(!hung.is_empty(), "nobody was made to wait");
    println!("{TELLING} notices to one receiver while another hangs with as many: all are there {delays:?} after the end of the minute");
    world.pulse.end().await;
}

/// How long after `over_ms` each rule was judged up to the minute before that, in milliseconds, sorted.
async fn judged(world: &World, over_ms: i64) -> Vec<i64> {
    let slot = over_ms.div_euclid(MINUTE_MS) * MINUTE_MS - MINUTE_MS;
    let judged = format!(
        "SELECT toString(arraySort(groupArray(ms))) FROM (SELECT toUnixTimestamp64Milli(min(at)) - {over_ms} AS ms FROM pulse.alert_states \
         WHERE kind = 'slot' AND toUnixTimestamp64Milli(slot) = {slot} GROUP BY rule)"
    );
    let waiting = async {
        loop {
            let judged: Vec<i64> = serde_json::from_str(&world.pulse.sql(&judged)).unwrap();
            if judged.len() == SAME + OTHERS {
                return judged;
            }
            tokio::time::sleep(10 * POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("some rules are not judged")
}
