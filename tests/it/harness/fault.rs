//! What a fault does to those who send: nothing is accepted, something is again.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Http, PATIENCE};

/// Whether things take as long as they do in life: with `make faults`.
#[allow(clippy::disallowed_methods, reason = "how long a test runs is for whoever runs it")]
pub(crate) fn is_long() -> bool {
    std::env::var("PULSE_TEST_LONG").is_ok()
}

/// How long something stays away: a while with every test run, long with `make faults`.
pub(crate) fn absence(short: u64, long: u64) -> Duration {
    Duration::from_secs(if is_long() { long } else { short })
}

pub(crate) fn odd_event() -> Value {
    // Refused for its own fault, which is answered once it is durably noted: tells whether the log takes anything.
    json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "", "anonymousId": "x"})
}

/// Asks for as long; every answer must be a refusal.
pub(crate) async fn nothing_is_accepted(http: &Http, span: Duration) {
    let until = tokio::time::Instant::now() + span;
    while let Ok(answered) = tokio::time::timeout_at(until, http.try_capture(&odd_event())).await {
        assert_eq!(answered.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    }
}

/// Waits until an instance says that it is not ready, and asks for as long: it must stay so.
pub(crate) async fn nothing_is_ready(http: &Http, span: Duration) {
    let noticed = async {
        while http.get("/readyz").await.0 == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("an instance that can write nothing says that it is ready");
    let until = tokio::time::Instant::now() + span;
    while tokio::time::Instant::now() < until {
        assert_eq!(http.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn something_is_accepted(http: &Http) {
    let answered = async {
        while http.capture(&odd_event()).await.0 != StatusCode::BAD_REQUEST {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the log takes nothing again");
}
