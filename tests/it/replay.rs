//! The raw log worked through again: nothing is counted twice, and what the table lost comes back.

use std::process::Command;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::clock::Clock;
use crate::harness::kafka::Kafka;
use crate::harness::load::Moments;
use crate::harness::{Pulse, program};

fn replay(pulse: &Pulse, arguments: &[&str]) -> Result<Value, String> {
    replay_with(pulse, arguments, "")
}

/// The same, with points at which it crashes.
fn replay_with(pulse: &Pulse, arguments: &[&str], points: &str) -> Result<Value, String> {
    let mut command = Command::new(program());
    command.args(["replay", "--json", "--data-dir"]).arg(pulse.data_dir()).args(arguments).env("FAILPOINTS", points);
    let output = command.output().unwrap();
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

/// Sends a thousand events of the last two days in no order, of twenty devices of ten people who log in now and then.
async fn load_visits(pulse: &Pulse) {
    let (mut moments, now_ms) = (Moments::new(37), pulse::clock::now_ms());
    for _ in 0..10 {
        let mut event = |number: usize| {
            let (device, ago_ms) = (moments.below(20), moments.below(2 * 86_400_000) as i64);
            let id = uuid::Uuid::new_v4().to_string();
            let user = (number.is_multiple_of(9)).then(|| format!("user {}", device / 2));
            json!({"eventId": id, "type": "visit", "anonymousId": format!("device {device}"), "userId": user, "timestamp": now_ms - ago_ms,
                "properties": {"number": number, "even": number.is_multiple_of(2), "name": format!("no. {number}")}})
        };
        let batch: Vec<Value> = (0..100).map(&mut event).collect();
        assert_eq!(pulse.http.capture(&json!(batch)).await.0, 200);
        // Each in a block of its own, so that what comes late changes what is stored.
        pulse.http.settled().await;
    }
}

/// The rows of events and of ties, every column but those of who wrote a row and of the session, of which revisions have the last word.
fn rows(pulse: &Pulse) -> [String; 2] {
    let events = "SELECT * EXCEPT (session_id, generation) FROM pulse.events WHERE project_id != 0 ORDER BY event_id FORMAT TSV";
    let ties = "SELECT project_id, kind, from_key, to_key, max(from_id), max(to_id), min(first), max(ruling) FROM pulse.identities \
                GROUP BY project_id, kind, from_key, to_key ORDER BY project_id, kind, from_key, to_key FORMAT TSV";
    [events, ties].map(|statement| pulse.sql(statement))
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
async fn late_visits_and_logins_that_are_replayed_have_the_rows_sessions_and_people_that_they_had() {
    let mut pulse = Pulse::start().await;
    load_visits(&pulse).await;
    let (books, events, stored) = (pulse.http.settled().await, table(&pulse).await, rows(&pulse));
    assert_eq!((events.len(), stored[0].lines().count()), (1_000, 1_000));
    assert!(stored[1].lines().count() >= 10, "{}", stored[1]);
    let again = ["--to-table", "rebuilt", "--swap"];
    for how in [&[][..], &["--from-offset", "0"], &again] {
        if how.is_empty() {
            // Into a table that has lost everything.
            pulse.sql("TRUNCATE TABLE pulse.events");
            pulse.kill().await;
        } else {
            pulse.end().await;
            replay(&pulse, how).unwrap();
        }
        pulse.restart().await;
        assert_eq!(pulse.http.settled().await, books, "{how:?}");
        assert_eq!(table(&pulse).await, events, "{how:?}: what is shown");
        let found = rows(&pulse);
        let differ = |table: usize| found[table].lines().zip(stored[table].lines()).filter(|(found, stored)| found != stored).count();
        let [events, ties] = [differ(0), differ(1)];
        println!("{how:?}: {} events, {events} rows differ, {} ties, {ties} differ", found[0].lines().count(), found[1].lines().count());
        assert!(found == stored, "{how:?}: {events} rows of events and {ties} of ties differ");
    }
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
    for is_killed in [true, false] {
        pulse.sql("TRUNCATE TABLE pulse.events");
        // After a clean stop everything is committed and nothing new comes.
        if is_killed {
            pulse.kill().await
        } else {
            pulse.end().await
        }
        pulse.restart().await;
        assert_eq!(pulse.http.settled().await, books);
        assert_eq!(table(&pulse).await, events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_is_cut_after_any_statement_is_ended_by_the_next_and_loading_goes_on_between() {
    let mut pulse = Pulse::start().await;
    load(&pulse, 3).await;
    for passed in 0.. {
        let (books, events) = (pulse.http.settled().await, table(&pulse).await);
        pulse.end().await;
        let name = format!("rebuilt_{passed}");
        let again = ["--to-table", &name, "--swap"];
        let cut = replay_with(&pulse, &again, &format!("swap.executed={passed}*off->return"));
        let is_whole = cut.is_ok();
        pulse.restart().await;
        load(&pulse, 1).await;
        let after = pulse.http.settled().await;
        let stored = |books: &Value| books["stored"].as_u64().unwrap();
        assert_eq!(stored(&after), stored(&books) + 100, "after {passed} statements: loading goes on");
        assert_eq!(table(&pulse).await.iter().filter(|event| events.contains(event)).count(), events.len(), "after {passed} statements");
        if is_whole {
            assert!(passed > 4, "the point was never reached");
            let refusal = replay_with(&pulse, &again, "").unwrap_err();
            assert!(refusal.contains("data_dir"), "{refusal}");
            pulse.end().await;
            let refusal = replay_with(&pulse, &again, "").unwrap_err();
            assert!(refusal.contains("before an earlier swap"), "what was swapped is not swapped back: {refusal}");
            return;
        }
        let events = table(&pulse).await;
        pulse.end().await;
        // Cut behind its last statement it was whole, and is not done a second time.
        if let Err(problem) = replay(&pulse, &again) {
            assert!(passed > 4 && problem.contains("before an earlier swap"), "after {passed} statements: {problem}");
        }
        pulse.restart().await;
        assert_eq!(pulse.http.settled().await, after, "after {passed} statements");
        assert_eq!(table(&pulse).await, events, "after {passed} statements");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_swap_does_not_replay_is_kept_whole_days_and_parts_of_one_wherever_copying_is_cut() {
    let clock = Clock::new();
    clock.set_ahead(-2 * 86_400);
    let mut pulse = Pulse::start_with(&clock.environment()).await;
    load(&pulse, 2).await;
    clock.set_ahead(0);
    load(&pulse, 2).await;
    // A replay begins where a block does.
    load(&pulse, 1).await;
    let last: String = pulse.sql("SELECT max(log_offset) FROM pulse.events WHERE project_id != 0");
    let (books, events) = (pulse.http.settled().await, table(&pulse).await);
    assert_eq!(events.len(), 500);
    pulse.end().await;
    let arguments = ["--from-offset", &last, "--to-table", "kept", "--swap"];
    let mut cuts = 0;
    while let Err(problem) = replay_with(&pulse, &arguments, &format!("swap.copied={cuts}*off->return")) {
        cuts += 1;
        assert!(cuts < 20, "{problem}");
    }
    // Behind the link of a day, and behind each statement that copies a part of the other one.
    assert_eq!(cuts, 5);
    pulse.restart().await;
    assert_eq!(pulse.sql("SELECT count() FROM system.tables WHERE name = 'kept_copy'"), "0");
    assert_eq!(pulse.http.settled().await, books);
    assert_eq!(table(&pulse).await, events);
    load(&pulse, 1).await;
    assert_eq!(table(&pulse).await.len(), 600, "loading goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_while_a_table_is_swapped_in_is_not_lost_though_nothing_comes_after_it() {
    let kafka = Kafka::start(1).await;
    let cluster = crate::harness::clickhouse::Cluster::start(1).await;
    let environment = [kafka.environment("swap"), cluster.environment_of_one()].concat();
    let pulse = Pulse::start_with(&environment).await;
    load(&pulse, 5).await;

    let dir = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(program());
    command.args(["replay", "--json", "--to-table", "rebuilt", "--swap", "--data-dir"]).arg(dir.path());
    // Between what it has read and the exchange.
    let replaying = command.envs(environment.clone()).env("FAILPOINTS", "swap.executed=1*sleep(8000)->off").output();
    let sending = async {
        let marked = "SELECT name FROM system.tables WHERE name = 'rebuilt' AND comment != ''";
        while cluster.rows::<(String,)>(0, marked).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        load(&pulse, 5).await;
        pulse.http.settled().await
    };
    let (replayed, books) = tokio::join!(replaying, sending);
    let replayed = replayed.unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    assert_eq!(pulse.http.settled().await, books);
    assert_eq!(pulse.http.events().await.len(), 1_000);

    // Retention cuts where it likes: here the first record of a block of several is gone.
    let several = "SELECT log_partition, log_offset, toInt64(flags) FROM pulse.events WHERE project_id = 0 AND type = '$books' AND flags > 1 \
                   ORDER BY log_offset DESC LIMIT 1";
    let (partition, last, reach) = loop {
        if let Some(block) = cluster.rows::<(u16, i64, i64)>(0, several).await.first() {
            break *block;
        }
        load(&pulse, 3).await;
    };
    let (books, events) = (pulse.http.settled().await, table(&pulse).await);
    kafka.delete_records("swap-raw", partition.into(), last - reach + 2).await;
    let mut command = tokio::process::Command::new(program());
    command.args(["replay", "--json", "--to-table", "again", "--swap", "--data-dir"]).arg(dir.path());
    let replayed = command.envs(environment.clone()).output().await.unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    assert_eq!(pulse.http.settled().await, books, "the books of a block that the log holds in part");
    assert_eq!(table(&pulse).await, events);
}
