//! The raw log worked through again: nothing is counted twice, and what the table lost comes back.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Pulse, program};

fn replay(pulse: &Pulse, arguments: &[&str]) -> Result<Value, String> {
    let output = Command::new(program()).args(["replay", "--json", "--data-dir"]).arg(pulse.data_dir()).args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn summary(read: u64, stored: u64, duplicate: u64, skipped: u64) -> Value {
    json!({"read": read, "stored": stored, "duplicate": duplicate, "dead": 0, "skipped": skipped, "interrupted": false})
}

/// Sends `requests` requests of 100 events by 7 visitors; the first event of each request is sent twice.
async fn load(pulse: &Pulse, requests: u64) {
    for request in 0..requests {
        let mut batch: Vec<Value> = (0..100)
            .map(|index| {
                let id = uuid::Uuid::new_v4().to_string();
                json!({"eventId": id, "type": "page_view", "anonymousId": format!("v{}", index % 7), "properties": {"request": request}})
            })
            .collect();
        batch.push(batch[0].clone());
        assert_eq!(pulse.http.capture(&json!(batch)).await.0, 200);
    }
    pulse.http.settled().await;
}

/// All events with everything that is known of them, in one order.
async fn table(pulse: &Pulse) -> Vec<String> {
    let mut events: Vec<String> = pulse.http.events().await.iter().map(Value::to_string).collect();
    events.sort();
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_in_place_stores_nothing_that_is_there_and_one_beside_stores_everything() {
    let mut pulse = Pulse::start().await;
    load(&pulse, 20).await;
    let (books, events) = (pulse.http.settled().await, table(&pulse).await);
    assert_eq!((books["stored"].clone(), books["duplicate"].clone()), (json!(2_000), json!(20)));

    let refusal = replay(&pulse, &["--from-offset", "0"]).unwrap_err();
    assert!(refusal.contains("data_dir"), "a running instance has the log: {refusal}");
    pulse.end().await;

    assert_eq!(replay(&pulse, &["--dry-run"]).unwrap(), summary(2_020, 0, 0, 0), "a dry run only counts");
    for _ in 0..2 {
        assert_eq!(replay(&pulse, &["--from-offset", "0"]).unwrap(), summary(2_020, 0, 0, 2_020));
    }
    assert_eq!(replay(&pulse, &["--from-time", "-1d", "--to-table", "again"]).unwrap(), summary(2_020, 2_000, 20, 0));
    assert_eq!(replay(&pulse, &["--from-time", "-1d", "--to-table", "again"]).unwrap(), summary(2_020, 0, 0, 2_020), "and once only");
    assert_eq!(replay(&pulse, &["--to-table", "rebuilt", "--swap"]).unwrap(), summary(2_020, 2_000, 20, 0));

    pulse.restart().await;
    assert_eq!(pulse.http.settled().await, books, "the books of the swapped table are the same");
    assert_eq!(table(&pulse).await, events, "and so is every event");
    load(&pulse, 1).await;
    assert_eq!(pulse.http.settled().await["stored"], 2_100, "loading goes on in the swapped table");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_arguments_of_a_replay_are_named() {
    let mut pulse = Pulse::start().await;
    load(&pulse, 1).await;
    pulse.end().await;
    for (arguments, part) in [
        (&["--from-offset", "99999"][..], "--from-offset 99999: partition 0 holds raw offsets 0 to"),
        (&["--from-time", "soon"][..], "--from-time `soon`"),
        (&["--partition", "7"][..], "--partition 7: the log has partitions 0 to"),
        (&["--to-table", "events"][..], "--to-table \"events\""),
        (&["--to-table", "x; DROP"][..], "--to-table"),
    ] {
        let problem = replay(&pulse, arguments).unwrap_err();
        assert!(problem.contains(part), "{arguments:?}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_table_is_filled_again_from_the_log_at_the_next_start() {
    let mut pulse = Pulse::start().await;
    load(&pulse, 10).await;
    let (books, events) = (pulse.http.settled().await, table(&pulse).await);
    pulse.sql("TRUNCATE TABLE pulse.events");
    pulse.kill().await;
    pulse.restart().await;
    assert_eq!(pulse.http.settled().await, books);
    assert_eq!(table(&pulse).await, events);
}
