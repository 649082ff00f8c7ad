//! Answers of instances that share them, and the table with others.

use super::*;

/// Values that are shared at once.
#[derive(Default)]
struct Level(Mutex<std::collections::HashMap<String, (Bytes, Instant)>>);

impl SharedCache for Level {
    fn find(&self, key: String) -> futures_util::future::BoxFuture<'_, Option<SharedValue>> {
        let held = self.0.lock().unwrap().get(&key).cloned().filter(|(_, until)| *until > Instant::now());
        Box::pin(async move { held.map(|(value, until)| SharedValue { value, left: until - Instant::now() }) })
    }

    fn put(&self, key: String, value: Bytes, kept: Duration) -> futures_util::future::BoxFuture<'_, ()> {
        self.0.lock().unwrap().insert(key, (value, Instant::now() + kept));
        Box::pin(async {})
    }
}

/// A table in which a block appears that was sealed long before.
#[derive(Clone, Default)]
struct Imported(Arc<std::sync::atomic::AtomicU64>);

impl Run for Imported {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        let imported = self.0.load(std::sync::atomic::Ordering::SeqCst);
        let since_ms = || statement.params().next().and_then(|(_, since)| since.parse().ok()).unwrap_or(0);
        let body = match statement.text() {
            recent if recent.contains("$arrivals") && since_ms() > NOW_MS - 86_400_000 => String::new(),
            history if history.contains("$arrivals") => format!("[7,1,0,{imported},0]\n"),
            _ => format!("[0,0,1,{imported}]\n"),
        };
        Ok(Answer { body: Bytes::from(body), read_rows: 1 })
    }
}

fn instance(store: &Imported, level: &Arc<Level>) -> Queries {
    let loads = LoadedBy::Fleet(Arc::default(), Some(Arc::clone(level) as Arc<dyn SharedCache>));
    Queries::new(store.clone(), QueryConfig::default().check().unwrap(), loads)
}

/// How many events the month before last had, by an instance at `now_ms`.
async fn total(queries: &Queries, now_ms: i64) -> u64 {
    let asked = trends(json!({"from": "2025-12-01", "to": "2026-01-01", "interval": "month"})).to_string();
    let answer = queries.answer(PROJECT, "trends", asked.as_bytes(), now_ms).await.unwrap();
    serde_json::from_slice::<Value>(answer.result()).unwrap()["series"][0]["total"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_instance_whose_clock_is_ahead_is_given_for_no_longer_than_others() {
    let (store, level) = (Imported::default(), Arc::new(Level::default()));
    let (ahead, finds) = (instance(&store, &level), instance(&store, &level));
    let began = Instant::now();
    let now_ms = || NOW_MS + i64::try_from(began.elapsed().as_millis()).unwrap();
    assert_eq!(total(&ahead, now_ms() + 55_000).await, 0);
    tokio::time::sleep(Duration::from_secs(50)).await;
    store.0.store(5, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(total(&finds, now_ms()).await, 0, "it is shared");
    while total(&finds, now_ms()).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(62), "a minute that it is shared");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_import_no_instance_shows_the_past_without_it_for_longer_than_answers_are_shared() {
    let (store, level) = (Imported::default(), Arc::new(Level::default()));
    let (notes, computes) = (instance(&store, &level), instance(&store, &level));
    let began = Instant::now();
    let total = async |queries: &Queries| total(queries, NOW_MS + i64::try_from(began.elapsed().as_millis()).unwrap()).await;
    assert_eq!(total(&notes).await, 0);
    tokio::time::sleep(Duration::from_secs(50)).await;
    level.0.lock().unwrap().clear();
    assert_eq!(total(&computes).await, 0, "shared from now on");
    tokio::time::sleep(Duration::from_secs(1)).await;

    store.0.store(5, std::sync::atomic::Ordering::SeqCst);
    let imported = Instant::now();
    while total(&notes).await == 0 {
        assert!(imported.elapsed() < Duration::from_secs(122), "a minute to look back, and a minute that it is shared");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
