//! The examples of `docs/questions.md` are what happens.

use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::harness::Pulse;

/// The blocks of JSON of the page, each behind its word: `events`, `answer`, or the report that is asked.
fn blocks() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/questions.md")).unwrap();
    let block = |rest: &str| {
        let (word, rest) = rest.split_once('\n').unwrap();
        let json = rest.split("```").next().unwrap();
        (word.to_owned(), serde_json::from_str(json).unwrap_or_else(|fault| panic!("{fault} in {json}")))
    };
    text.split("```json ").skip(1).map(block).collect()
}

/// Whether an answer has all that is shown of it.
fn has(answer: &Value, shown: &Value) -> bool {
    match (answer, shown) {
        (Value::Object(answer), Value::Object(shown)) => {
            shown.iter().all(|(key, value)| answer.get(key).is_some_and(|own| has(own, value)))
        }
        (Value::Array(answer), Value::Array(shown)) => {
            answer.len() == shown.len() && answer.iter().zip(shown).all(|(answer, shown)| has(answer, shown))
        }
        (answer, shown) => answer == shown,
    }
}

#[tokio::test]
async fn the_examples_of_the_questions_are_what_happens() {
    let pulse = Pulse::start_with(&[("PULSE__INGEST__MAX_EVENT_AGE", "36500d")]).await;
    let (write, read) = (pulse.http.write_key.clone(), pulse.http.read_key.clone());
    let blocks = blocks();
    for (_, events) in blocks.iter().filter(|(word, _)| word == "events") {
        let (status, verdicts) = pulse.http.send(pulse.http.request(Method::POST, "/v1/events", &write, events.to_string())).await.unwrap();
        assert_eq!((status, verdicts["rejected"].as_array().map(Vec::len)), (StatusCode::OK, Some(0)), "{verdicts}");
    }
    pulse.http.settled().await;
    let mut asked = 0;
    for pair in blocks.windows(2) {
        let [(report, request), (word, shown)] = pair else { continue };
        if word == "answer" {
            let path = format!("/v1/query/{report}");
            let sent = pulse.http.request(Method::POST, &path, &read, request.to_string());
            let (status, answer) = pulse.http.send(sent).await.unwrap();
            assert_eq!(status, StatusCode::OK, "{report}: {answer}");
            assert!(has(&answer["result"], shown), "{report} {request}\nanswers {}\nnot {shown}", answer["result"]);
            asked += 1;
        }
    }
    assert!(asked > 0);
}
