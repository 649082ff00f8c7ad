//! What those are told who wait for a question that takes long.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;

use super::super::batch::Batch;
use super::super::reader::RunningStatement;
use super::*;

/// A store whose statements end when they may; of those that run, it has read a thousand rows more each time that it is asked.
struct Patient {
    may_end: Semaphore,
    running: Mutex<Vec<RunningStatement>>,
}

impl Patient {
    fn new() -> Arc<Self> {
        Arc::new(Self { may_end: Semaphore::new(0), running: Mutex::default() })
    }
}

impl Run for Patient {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        let id = statement.id().expect("a statement of a question has an id").to_owned();
        self.running.lock().unwrap().push(RunningStatement { id: id.clone(), rows_read: 0 });
        self.may_end.acquire().await.unwrap().forget();
        self.running.lock().unwrap().retain(|statement| statement.id != id);
        Ok(Answer { body: Bytes::new(), read_rows: 50_000 })
    }

    async fn running(&self, ids: String) -> Result<Vec<RunningStatement>, QueryError> {
        let mut running = self.running.lock().unwrap();
        assert!(running.iter().all(|statement| statement.id.starts_with(&ids) && statement.id.len() > ids.len()));
        running.iter_mut().for_each(|statement| statement.rows_read += 1_000);
        Ok(running.clone())
    }
}

/// The lines of an answer.
struct Lines(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl Lines {
    fn of(store: &Arc<Patient>, queries: Value, shows_progress: bool) -> Self {
        let limits = QueryConfig::default().check().unwrap();
        let asked = Queries::new(Arc::clone(store), limits, LoadedBy::ThisProcess(Arc::default()));
        let batch = Batch::parse(json!({"queries": queries}).to_string().as_bytes()).unwrap();
        Self(batch.showing_progress(shows_progress).answers(asked, PROJECT, NOW_MS).boxed())
    }

    /// The next one, whatever pieces it comes in.
    async fn next(&mut self) -> Option<Value> {
        let mut line = self.0.next().await?.to_vec();
        while !line.ends_with(b"\n") {
            line.extend_from_slice(&self.0.next().await.expect("a line has an end"));
        }
        Some(serde_json::from_slice(&line).unwrap())
    }
}

fn asked(id: &str, event: &str) -> Value {
    json!({"id": id, "report": "trends", "from": "-7d", "series": [{"event": event}]})
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_how_many_rows_were_read_so_far_and_then_the_answer() {
    let store = Patient::new();
    let mut lines = Lines::of(&store, json!([asked("a", "view"), asked("b", "order"), {"report": "none"}]), true);
    // What is known at once comes at once.
    assert_eq!(lines.next().await.unwrap()["error"]["code"], "unknown_report");
    for rows_read in [1_000, 2_000] {
        for (index, id) in ["a", "b"].into_iter().enumerate() {
            assert_eq!(lines.next().await.unwrap(), json!({"index": index, "id": id, "progress": {"rows_read": rows_read}}));
        }
    }
    store.may_end.add_permits(100);
    let mut answered: Vec<Value> = Vec::new();
    while let Some(line) = lines.next().await {
        assert_eq!(line["status"], 200, "nothing is said of what is answered: {line}");
        answered.push(line["id"].clone());
    }
    answered.sort_by_key(Value::to_string);
    assert_eq!(answered, [json!("a"), json!("b")]);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_joins_another_is_as_far_as_that_and_who_does_not_ask_is_told_nothing() {
    let store = Patient::new();
    // Two lines of one question: it is computed once.
    let mut lines = Lines::of(&store, json!([asked("a", "view"), asked("b", "view")]), true);
    for id in ["a", "b"] {
        let line = lines.next().await.unwrap();
        assert_eq!((&line["id"], &line["progress"]), (&json!(id), &json!({"rows_read": 1_000})));
    }
    assert_eq!(store.running.lock().unwrap().len(), 1);
    drop(lines);

    let mut silent = Lines::of(&store, json!([asked("a", "order")]), false);
    let ending = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        store.may_end.add_permits(100);
    };
    let (first, ()) = tokio::join!(silent.next(), ending);
    assert_eq!(first.unwrap()["status"], 200);
    assert_eq!(silent.next().await, None);
}
