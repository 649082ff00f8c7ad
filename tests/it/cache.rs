//! The cache and the breaker from outside: what 200 dashboards cost, how soon an event is seen, what a store that is away does.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use pulse::clickhouse::Statement;
use pulse::event::ids::ProjectId;
use pulse::query::{LoadedBy, Queries, QueryConfig, StoreReader};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::engine::alone;
use crate::harness::{PATIENCE, Pulse, signal};

fn trend() -> Value {
    json!({"from": "-1d", "series": [{"event": "view"}]})
}

fn event(number: u64) -> Value {
    json!({"eventId": format!("0190f7a4-0000-7000-8000-{number:012x}"), "type": "view", "anonymousId": "ada"})
}

/// A counter from `/metrics`.
async fn counter(pulse: &Pulse, name: &str) -> u64 {
    let text = pulse.http.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} is not there")).parse().unwrap()
}

#[tokio::test]
async fn two_hundred_who_ask_the_same_at_once_cost_one_computation() {
    let pulse = Pulse::start().await;
    pulse.http.capture(&event(1)).await;
    pulse.http.settled().await;
    // A counter is there once it has counted.
    pulse.http.query("users", &json!({})).await;
    let before = counter(&pulse, "pulse_query_cache_misses_total").await;

    let mut askers = JoinSet::new();
    for asker in 0..200 {
        let http = pulse.http.clone();
        // The same question, spelled in two ways.
        let request =
            if asker % 2 == 0 { trend() } else { json!({"series": [{"math": "total", "event": "view"}], "to": "now", "from": "-24h"}) };
        askers.spawn(async move { http.query("trends", &request).await });
    }
    while let Some(answer) = askers.join_next().await {
        let (status, answer) = answer.unwrap();
        assert_eq!((status, &answer["result"]["series"][0]["total"]), (StatusCode::OK, &json!(1)), "{answer}");
    }
    assert_eq!(counter(&pulse, "pulse_query_cache_misses_total").await - before, 1);
}

#[tokio::test]
async fn an_event_is_in_the_next_answer_although_the_one_before_is_kept() {
    let pulse = Pulse::start().await;
    for number in 1..=10 {
        pulse.http.capture(&event(number)).await;
        pulse.http.settled().await;
        let (_, answer) = pulse.http.query("trends", &trend()).await;
        assert_eq!(answer["result"]["series"][0]["total"], number, "{answer}");
        let (_, again) = pulse.http.query("trends", &trend()).await;
        assert_eq!((&again["meta"]["cached"], &again["result"]), (&json!(true), &answer["result"]));
        let mut anew = trend();
        anew["refresh"] = json!(true);
        let (_, anew) = pulse.http.query("trends", &anew).await;
        assert_eq!((&anew["meta"]["cached"], &anew["result"]), (&json!(false), &answer["result"]));
        assert_eq!(pulse.http.events().await.len(), number as usize);
        // What is computed often within a second may be a second late.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_closed_day_changes_by_exactly_the_events_that_come_late_and_by_no_others() {
    let pulse = Pulse::start().await;
    let day = (jiff::Timestamp::now().as_millisecond() / 86_400_000 - 3) * 86_400_000;
    let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let ask = |from: i64, until: i64| json!({"from": show(from), "to": show(until), "interval": "day", "series": [{"event": "view"}]});
    let (whole, evening) = (ask(day, day + 86_400_000), ask(day + 72_000_000, day + 86_400_000));
    let http = &pulse.http;
    let send = async |hours: &[i64]| {
        let at = |hour: &i64| json!({"type": "view", "anonymousId": "ada", "timestamp": show(day + hour * 3_600_000 + 1)});
        assert_eq!(http.capture(&json!({"batch": hours.iter().map(at).collect::<Vec<_>>()})).await.0, StatusCode::OK);
        http.settled().await;
    };
    let answer = async |question: &Value| {
        let (_, answer) = http.query("trends", question).await;
        let meta = &answer["meta"];
        (answer["result"]["series"][0]["total"].clone(), meta["late"].clone(), meta["cached"].clone())
    };

    send(&[1, 21]).await;
    assert_eq!(answer(&whole).await, (json!(2), Value::Null, json!(false)), "there is no answer before it");
    assert_eq!(answer(&evening).await, (json!(1), Value::Null, json!(false)));
    send(&[2, 3, 4, 24, -1]).await;
    assert_eq!(answer(&whole).await, (json!(5), json!(3), json!(false)), "two of the five are of other days");
    assert_eq!(answer(&whole).await, (json!(5), json!(3), json!(true)));
    assert_eq!(answer(&evening).await, (json!(1), Value::Null, json!(true)), "nothing came for these hours");
    send(&[23]).await;
    assert_eq!(answer(&evening).await, (json!(2), json!(1), json!(false)));
    assert_eq!(answer(&whole).await, (json!(6), json!(1), json!(false)));
}

#[tokio::test]
async fn while_the_store_is_away_kept_answers_are_given_as_stale_and_others_are_refused_at_once() {
    let pulse = Pulse::start_with(&[("PULSE__QUERY__MAX_TIME", "3s")]).await;
    pulse.http.capture(&event(1)).await;
    pulse.http.settled().await;
    let (_, answer) = pulse.http.query("trends", &trend()).await;
    signal(pulse.engine_pid(), Signal::KILL);

    let mut anew = trend();
    anew["refresh"] = json!(true);
    let mut refused = 0;
    // The engine is started again by its supervisor, so the store comes back by itself.
    let came_back = async {
        loop {
            let (status, now) = pulse.http.query("trends", &anew).await;
            assert_eq!((status, &now["result"]), (StatusCode::OK, &answer["result"]), "{now}");
            let other = pulse.http.request(Method::POST, "/v1/query/users", &pulse.http.read_key, "{\"refresh\":true}");
            let (status, _) = pulse.http.send(other).await.unwrap();
            match now["meta"].get("stale") {
                Some(stale) => {
                    assert_eq!((stale, &now["meta"]["cached"]), (&json!(true), &json!(true)));
                    assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status));
                    refused += 1;
                }
                None if status == StatusCode::OK && refused > 0 => return,
                None => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), came_back).await.expect("the store did not come back");
    assert!(counter(&pulse, "pulse_store_breaker_opened_total").await >= 1);
    assert_eq!(counter(&pulse, "pulse_store_breaker_state").await, 0);

    // One that takes statements and answers none: nobody waits for longer than a question may take.
    let engine = pulse.engine_pid();
    signal(engine, Signal::STOP);
    let (status, now) = pulse.http.query("trends", &anew).await;
    // Of events no answer is kept.
    let (refused, other) = pulse.http.query("events", &json!({})).await;
    signal(engine, Signal::CONT);
    assert_eq!((status, &now["result"], &now["meta"]["stale"]), (StatusCode::OK, &answer["result"], &json!(true)), "{now}");
    assert_eq!((refused, &other["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("query_timeout")), "{other}");
    let answered = async { while pulse.http.query("events", &json!({})).await.0 != StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("the store did not come back");
}

#[tokio::test]
async fn what_another_process_loads_is_in_the_answers_of_this_one_a_second_later() {
    let (_folder, _engine, store) = alone().await;
    let queries = Queries::new(StoreReader::new(&store), QueryConfig::default().check().unwrap(), LoadedBy::Fleet(Arc::default(), None));
    let now_ms = pulse::clock::now_ms();
    let day = (now_ms / 86_400_000 - 3) * 86_400_000;
    let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let closed = json!({"from": show(day), "to": show(day + 86_400_000), "interval": "day", "series": [{"event": "view"}]});
    let answer = async |question: &Value| {
        let answer = queries.answer(ProjectId(7), "trends", question.to_string().as_bytes(), pulse::clock::now_ms()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.to_json()).unwrap();
        (answer["result"]["series"][0]["total"].as_u64().unwrap(), answer["meta"]["late"].clone(), answer["meta"]["cached"].clone())
    };
    assert_eq!((answer(&trend()).await.0, answer(&closed).await.0), (0, 0));
    // Whether each event is of the closed day, and how many of both days are stored then.
    for (offset, is_late, [today, before]) in [(1, false, [1, 0]), (2, true, [1, 1]), (3, false, [2, 1])] {
        // As a loader does: events and what arrived in one block.
        let at_ms = if is_late { day + 1 } else { now_ms };
        let time = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().strftime("%Y-%m-%d %H:%M:%S.000").to_string();
        let (at, sealed) = (time(at_ms), time(pulse::clock::now_ms()));
        let event = json!({"project_id": 7, "type": "view", "timestamp": at, "received_day": sealed[..10], "log_offset": offset});
        let arrived = json!({(at_ms / 900_000).to_string(): 1});
        let arrivals = json!({"project_id": 0, "visitor_id": 7, "type": "$arrivals", "timestamp": sealed, "received_day": sealed[..10],
            "log_offset": offset, "numbers": arrived});
        let insert = format!("INSERT INTO pulse.events SETTINGS async_insert = 0 FORMAT JSONEachRow {event}\n{arrivals}");
        store.writer.execute(&Statement::raw(insert)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(answer(&trend()).await.0, today);
        let late = if offset == 1 { Value::Null } else { json!(1) };
        assert_eq!(answer(&closed).await, (before, late, json!(!is_late)), "an answer of a day is kept while nothing comes for it");
    }
}

/// Up to when a fresh answer says that it is complete.
async fn data_through(pulse: &Pulse) -> jiff::Timestamp {
    let mut anew = trend();
    anew["refresh"] = json!(true);
    let told = async {
        loop {
            let (status, answer) = pulse.http.query("trends", &anew).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            // On a slow machine the first looks at the log may take too long.
            if let Some(through) = answer["meta"]["data_through"].as_str() {
                return through.parse().unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("nothing is promised")
}

#[tokio::test]
async fn while_an_event_waits_no_answer_promises_more_than_its_receipt() {
    let mut pulse = Pulse::start_with(&[("PULSE__ROLES", "ingest,process,query")]).await;
    let began = data_through(&pulse).await;
    pulse.http.capture(&event(1)).await;
    let acknowledged = jiff::Timestamp::now();
    // Longer than one look at the log serves.
    for _ in 0..8 {
        let through = data_through(&pulse).await;
        assert!(began <= through && through <= acknowledged, "{began} {through} {acknowledged}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        pulse.http.capture(&event(2)).await;
    }
    pulse.end().await;
    assert!(pulse.restart_with(&[("PULSE__ROLES", "ingest,process,load,query")]).await);
    pulse.http.settled().await;
    let complete = async {
        while data_through(&pulse).await <= acknowledged {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, complete).await.expect("everything is loaded");
    assert_eq!(pulse.http.events().await.len(), 2);
}

#[tokio::test]
async fn limits_that_the_reader_of_a_server_lacks_are_named() {
    let (_folder, engine, store) = alone().await;
    let settings = engine.settings();
    let missing = pulse::query::missing_limits(&StoreReader::new(&store)).await.unwrap();
    assert!(missing.is_empty(), "the embedded engine's reader has them all: {missing:?}");

    let (url, user, password) =
        ((*settings.url).to_owned(), settings.migrator.user.clone(), settings.migrator.password.reveal().to_owned());
    let only_user = [("PULSE__CLICKHOUSE__URL", url), ("PULSE__CLICKHOUSE__USER", user), ("PULSE__CLICKHOUSE__PASSWORD", password)];
    let pulse = Pulse::start_with(&only_user).await;
    let warned = async {
        loop {
            let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
            if let Some(line) = log.lines().find(|line| line.contains("nothing limits the questions")) {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let warned = tokio::time::timeout(PATIENCE, warned).await.expect("nothing was said");
    for name in ["readonly", "max_execution_time", "max_memory_usage", "max_rows_to_read", "max_result_bytes", "on_client_close"] {
        assert!(warned.contains(name), "{warned}");
    }
}
