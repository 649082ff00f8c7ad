//! A real Redis, there and gone: it makes answers cheaper, and its loss makes none wrong, late or missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use pulse::event::ids::ProjectId;
use pulse::query::{Answer, LoadedBy, Queries, QueryConfig, QueryError, Run, SharedCache, SharedValue, Statement};
use pulse::redis::{Redis, RedisConfig};
use serde_json::json;

use crate::harness::Pulse;
use crate::harness::redis::RedisServer;
use crate::harness::wire::{Pace, Wire};

const PROJECT: ProjectId = ProjectId(7);
const NOW_MS: i64 = 1_774_742_400_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A store to which nothing comes, and that counts the statements of reports.
#[derive(Clone, Default)]
struct Store(Arc<AtomicU64>);

impl Run for Store {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        let text = statement.text();
        if text.contains("$arrivals") || text.contains("$books") {
            return Ok(Answer { body: Bytes::from_static(b"[\"7\",\"1\",0,5,5]\n"), read_rows: 1 });
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Answer { body: Bytes::from_static(b"[0,\"\",1,3,3]\n"), read_rows: 1 })
    }
}

struct Answers(Redis);

impl SharedCache for Answers {
    fn find(&self, key: String) -> BoxFuture<'_, Option<SharedValue>> {
        async move { self.0.get_with_left(&key).await.map(|(value, left)| SharedValue { value, left }) }.boxed()
    }

    fn put(&self, key: String, value: Bytes, kept: Duration) -> BoxFuture<'_, ()> {
        async move { self.0.set(&key, value, kept).await }.boxed()
    }
}

fn connect(server: &RedisServer) -> Redis {
    connect_to(server.url())
}

fn connect_to(url: String) -> Redis {
    Redis::open(&RedisConfig { url: url.into(), ..RedisConfig::default() }).unwrap().unwrap()
}

/// Waits until a value that is written can be read.
async fn settled(redis: &Redis) {
    let works = async {
        loop {
            redis.set("probe", Bytes::from_static(b"1"), PATIENCE).await;
            if redis.get("probe").await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, works).await.expect("redis is not used again");
}

/// One instance of the query role.
struct Instance {
    queries: Queries,
    store: Store,
}

impl Instance {
    fn new(redis: &Redis) -> Self {
        let store = Store::default();
        let second = Arc::new(Answers(redis.clone())) as Arc<dyn SharedCache>;
        let loads = LoadedBy::Fleet(Arc::default(), Some(second));
        Self { queries: Queries::new(store.clone(), QueryConfig::default().check().unwrap(), loads), store }
    }

    /// Asks question `number`; every question is another one, of one statement.
    async fn ask(&self, number: usize) {
        let body = json!({"from": "-1d", "include_bots": true, "series": [{"event": format!("event {number}")}]}).to_string();
        let answer = self.queries.answer(PROJECT, "trends", body.as_bytes(), NOW_MS).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.to_json()).unwrap();
        assert_eq!(answer["result"]["series"][0]["total"], 3);
    }

    fn statements(&self) -> u64 {
        self.store.0.load(Ordering::SeqCst)
    }
}

/// Asks `from..from + 200`, each for the first time; a Redis that is away may cost a few of them its limit, not all.
async fn ask_two_hundred(instance: &Instance, from: usize) {
    let (began, before) = (Instant::now(), instance.statements());
    for number in from..from + 200 {
        instance.ask(number).await;
    }
    assert_eq!(instance.statements() - before, 200);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: that is half of what asking it each time would take");
}

/// Two instances share answers; returns once they do.
async fn sharing(redis: &Redis, from: usize) {
    settled(redis).await;
    let works = async {
        for number in from.. {
            let (first, second) = (Instance::new(redis), Instance::new(redis));
            first.ask(number).await;
            // The answer is put there in the background.
            tokio::time::sleep(Duration::from_millis(20)).await;
            second.ask(number).await;
            if second.statements() == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, works).await.expect("answers are not shared");
}

#[tokio::test]
async fn an_answer_of_one_instance_costs_the_other_no_statement() {
    let server = RedisServer::start(&[]).await;
    sharing(&connect(&server), 0).await;
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_empty_costs_no_answer() {
    let mut server = RedisServer::start(&[]).await;
    let redis = connect(&server);
    sharing(&redis, 0).await;
    server.kill().await;
    let instance = Instance::new(&redis);
    ask_two_hundred(&instance, 1_000).await;
    server.restart().await;
    sharing(&redis, 2_000).await;
}

#[tokio::test]
async fn a_redis_that_is_a_black_hole_costs_a_question_or_two_its_limit_and_then_nothing() {
    let server = RedisServer::start(&[]).await;
    let redis = connect(&server);
    sharing(&redis, 0).await;
    server.freeze();
    let instance = Instance::new(&redis);
    ask_two_hundred(&instance, 1_000).await;
    server.thaw();
    sharing(&redis, 2_000).await;
}

#[tokio::test]
async fn a_redis_that_answers_after_a_second_costs_a_question_or_two_its_limit_and_then_nothing() {
    let server = RedisServer::start(&[]).await;
    let wire = Wire::start(server.address()).await;
    let redis = connect_to(format!("redis://{}/0", wire.address()));
    sharing(&redis, 0).await;
    wire.set(Pace { delay: Duration::from_secs(1), bytes_per_s: 0 });
    let instance = Instance::new(&redis);
    ask_two_hundred(&instance, 1_000).await;
    wire.set(Pace::default());
    sharing(&redis, 2_000).await;
}

#[tokio::test]
async fn a_redis_that_is_full_costs_no_answer() {
    for policy in ["noeviction", "allkeys-lru"] {
        let server = RedisServer::start(&["--maxmemory", "3mb", "--maxmemory-policy", policy]).await;
        let redis = connect(&server);
        settled(&redis).await;
        for number in 0..64 {
            redis.set(&format!("ballast {number}"), Bytes::from(vec![0; 256 << 10]), PATIENCE).await;
        }
        let instance = Instance::new(&redis);
        ask_two_hundred(&instance, 1_000).await;
    }
}

/// Sends to both instances in turn until `events` were accepted; returns how long that took, and whether a refusal came.
async fn accept(instances: &[Pulse; 2], events: u64) -> (Duration, bool) {
    let (began, mut accepted, mut was_refused) = (Instant::now(), 0, false);
    for number in 0.. {
        let event = |_| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "click", "anonymousId": "ada"});
        let batch: Vec<_> = (0..10).map(event).collect();
        let (status, answer) = instances[number % 2].http.capture(&json!(batch)).await;
        match status {
            StatusCode::OK => accepted += 10,
            _ => {
                assert_eq!((status, &answer["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")), "{answer}");
                was_refused = true;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if accepted >= events {
            break;
        }
    }
    (began.elapsed(), was_refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_share_the_rate_of_a_project_and_each_goes_on_alone_without_redis() {
    const RATE: u64 = 200;
    let mut server = RedisServer::start(&[]).await;
    let (url, rate) = (server.url(), RATE.to_string());
    let environment = [("PULSE__ROLES", "ingest"), ("PULSE__REDIS__URL", url.as_str()), ("PULSE__INGEST__MAX_RATE", rate.as_str())];
    let first = Pulse::start_with(&environment).await;
    let second = Pulse::start_beside(&first, &environment).await;
    let instances = [first, second];

    // Each alone would need half of the time. Each has a second's worth in store at first.
    let (alone, was_refused) = accept(&instances, RATE * 6).await;
    assert!(was_refused);
    assert!(alone >= Duration::from_secs(3), "the instances do not know of each other: {alone:?}");
    server.kill().await;
    let (without, _) = accept(&instances, RATE * 4).await;
    println!("{} events in {alone:?} with redis, {} in {without:?} without", RATE * 6, RATE * 4);
    let refused = instances[0].http.text("/metrics").await;
    assert!(refused.contains("pulse_requests_limited_total"), "{refused}");
    for pulse in instances {
        assert!(pulse.stop().await);
    }
}
