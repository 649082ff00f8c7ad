//! What the README shows is what happens.

use hyper::{Method, StatusCode};

use crate::harness::Pulse;

/// The bodies that the README's curl commands send, in order.
fn bodies() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    text.split("-d '").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned()).collect()
}

/// The questions that it asks by curl: report and body.
fn questions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let question = |rest: &str| {
        let (report, rest) = rest.split_once(' ')?;
        Some((report.to_owned(), rest.split_once("-d '")?.1.split('\'').next()?.to_owned()))
    };
    text.split("curl http://127.0.0.1:8080/v1/query/").skip(1).filter_map(question).collect()
}

#[tokio::test]
async fn the_first_event_of_the_readme_is_in_the_first_answer() {
    let pulse = Pulse::start().await;
    let bodies = bodies();
    assert!(bodies.len() > 2);
    let (write, read) = (pulse.http.write_key.clone(), pulse.http.read_key.clone());
    for _ in 0..2 {
        let sent = pulse.http.send(pulse.http.request(Method::POST, "/v1/events", &write, bodies[0].clone())).await.unwrap();
        assert_eq!(sent, (StatusCode::OK, serde_json::json!({"accepted": 1, "rejected": []})));
    }
    pulse.http.settled().await;
    let (status, answer) = pulse.http.send(pulse.http.request(Method::POST, "/v1/query/trends", &read, bodies[1].clone())).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!([&answer["result"]["series"][0]["total"], &answer["result"]["series"][1]["total"]], [1, 1]);
    // Every other question of it is answered.
    for (report, body) in questions() {
        let asked = pulse.http.request(Method::POST, &format!("/v1/query/{report}"), &read, body.clone());
        let (status, answer) = pulse.http.send(asked).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{report} {body}: {answer}");
    }
}
