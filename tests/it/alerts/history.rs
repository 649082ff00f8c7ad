//! What the history of a rule says.

use hyper::StatusCode;
use serde_json::Value;

use super::World;
use crate::harness::{PATIENCE, POLL};

impl World {
    pub(super) async fn history(&self, id: &str) -> Value {
        let (status, history) = self.http().get(&format!("/v1/alerts/{id}/history?limit=1000")).await;
        assert_eq!(status, StatusCode::OK, "{history}");
        history
    }

    /// Waits until as many entries of a rule's history are like this, and returns them, newest first.
    pub(super) async fn entries(&self, id: &str, number: usize, is_like: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut last = Value::Null;
        let waiting = async {
            loop {
                last = self.history(id).await;
                let found: Vec<Value> = last["history"].as_array().unwrap().iter().filter(|entry| is_like(entry)).cloned().collect();
                if found.len() >= number {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("the history of {id} does not come to that: {last:#}"))
    }

    /// The same of the newest one.
    pub(super) async fn entry(&self, id: &str, is_like: impl Fn(&Value) -> bool) -> Value {
        self.entries(id, 1, is_like).await.swap_remove(0)
    }

    /// What channels were told of a rule, oldest first: what its history says, once each of that is delivered.
    pub(super) async fn told(&self, id: &str) -> Vec<String> {
        let waiting = async {
            loop {
                let history = self.history(id).await;
                if let Some(told) = told_and_delivered(&history) {
                    return told;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("something is not delivered")
    }
}

/// What happened to a rule, oldest first.
pub(super) fn changes(history: &Value) -> Vec<&str> {
    let all = history["history"].as_array().unwrap().iter().rev();
    all.filter(|entry| entry["event"] == "change").map(|entry| entry["change"].as_str().unwrap()).collect()
}

/// What channels were told of a rule with one channel, oldest first; none while something is on its way.
pub(super) fn told_and_delivered(history: &Value) -> Option<Vec<String>> {
    let entries = || history["history"].as_array().unwrap().iter().rev();
    let told = entries().filter(|entry| entry["event"] == "told").map(|entry| entry["kind"].as_str().unwrap().to_owned());
    let told: Vec<String> = told.collect();
    (entries().filter(|entry| entry["outcome"] == "delivered").count() == told.len()).then_some(told)
}
