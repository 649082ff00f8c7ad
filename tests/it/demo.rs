//! Two months of a tea shop in a project of its own: there after one command, once however often it is asked for, and taken away again.

use std::process::{Command, Output, Stdio};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Pulse, program};

fn demo(pulse: &Pulse, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["demo", "--people", "300", "--data-dir"]).arg(pulse.data_dir()).args(arguments);
    command.output().unwrap()
}

/// What it says of a run that went well.
fn filled(pulse: &Pulse, arguments: &[&str]) -> Value {
    let output = demo(pulse, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(filled: &Value, name: &str) -> u64 {
    filled[name].as_u64().unwrap()
}

/// What `pulse keys` prints of the data directory.
fn keys(pulse: &Pulse, arguments: &[&str]) -> Value {
    let output = Command::new(program()).args(["keys", "--data-dir"]).arg(pulse.data_dir()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Begins a demo in a project and cuts it off as soon as that has keys.
async fn cut_off(pulse: &Pulse, project: &str) {
    let mut command = Command::new(program());
    command.args(["demo", "--project", project, "--data-dir"]).arg(pulse.data_dir()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut begun = command.spawn().unwrap();
    let named = format!("\"project\": \"{project}\"");
    while !std::fs::read_to_string(pulse.data_dir().join("keys.json")).unwrap().contains(&named) {
        assert!(begun.try_wait().unwrap().is_none(), "the demo ended before it had keys");
        tokio::time::sleep(crate::harness::POLL).await;
    }
    begun.kill().unwrap();
    begun.wait().unwrap();
}

/// Asks with the key of the address that was printed.
async fn ask(pulse: &Pulse, filled: &Value, path: &str, body: &Value) -> (StatusCode, Value) {
    let key = filled["url"].as_str().unwrap().split("#key=").nth(1).unwrap();
    let method = if body.is_null() { Method::GET } else { Method::POST };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    pulse.http.send(pulse.http.request(method, path, key, body)).await.unwrap()
}

/// What people make in a project, by the path that lists it: boards, one with a link, cohorts, a channel, rules; some from files that
/// are applied.
const MADE: [&str; 4] = ["/v1/boards", "/v1/cohorts", "/v1/channels", "/v1/alerts"];

async fn make_things(pulse: &Pulse, filled: &Value) {
    let key = filled["url"].as_str().unwrap().split("#key=").nth(1).unwrap();
    let things = [
        ("/v1/boards/own", json!({"title": "Own", "tiles": []})),
        ("/v1/cohorts/own", json!({"filters": [{"field": "country", "op": "eq", "value": "DE"}]})),
        ("/v1/channels/own", json!({"kind": "webhook", "url": "https://hooks.example/pulse"})),
    ];
    for (path, body) in things {
        let (status, answer) = pulse.http.send(pulse.http.request(Method::PUT, path, key, body.to_string())).await.unwrap();
        assert!(status.is_success(), "{path}: {answer}");
    }
    let (_, rule) = ask(pulse, filled, "/v1/alerts/conversion-fell", &Value::Null).await;
    let applied = [
        ("/v1/boards/applied", json!({"title": "Applied", "tiles": []})),
        ("/v1/cohorts/applied", json!({"filters": [{"field": "country", "op": "eq", "value": "DE"}]})),
        ("/v1/alerts/conversion-fell", rule["rule"].clone()),
    ];
    for (path, body) in applied {
        let mut request = pulse.http.request(Method::PUT, path, key, body.to_string());
        request.headers_mut().insert("x-pulse-file", "shop.toml".parse().unwrap());
        let (status, answer) = pulse.http.send(request).await.unwrap();
        assert!(status.is_success(), "{path}: {answer}");
    }
    let until = json!({"expires_at": (jiff::Timestamp::now() + jiff::Span::new().hours(24)).to_string()});
    let (status, answer) = ask(pulse, filled, "/v1/boards/own/shares", &until).await;
    assert!(status.is_success(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_fills_a_project_of_its_own_once_and_is_removed_again() {
    let pulse = Pulse::start().await;
    let first = filled(&pulse, &[]);
    let sent = count(&first, "sent");
    assert_eq!((count(&first, "stored"), count(&first, "duplicate")), (sent, 0));
    assert!(first["url"].as_str().unwrap().starts_with(pulse.http.address()), "{first}");

    let steps = ["page_view", "product_viewed", "cart_added", "order_completed"].map(|event| json!({"event": event}));
    let funnel = json!({"from": "-29d/d", "window": "1d", "steps": steps});
    let (status, answer) = ask(&pulse, &first, "/v1/query/funnel", &funnel).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let steps = answer["result"]["groups"][0]["steps"].as_array().unwrap();
    let counts: Vec<u64> = steps.iter().map(|step| count(step, "count")).collect();
    assert!(counts[0] > 150 && counts[3] > 0 && counts.windows(2).all(|pair| pair[0] > pair[1]), "{counts:?}");
    assert!(count(&answer["meta"], "excluded_bots") > 0, "{answer}");

    // Every tile of its board is answered.
    let (_, board) = ask(&pulse, &first, "/v1/boards/demo-shop", &Value::Null).await;
    for tile in board["tiles"].as_array().unwrap() {
        let report = tile["report"].as_str().unwrap();
        let (status, answer) = ask(&pulse, &first, &format!("/v1/query/{report}"), &tile["question"]).await;
        assert_eq!(status, StatusCode::OK, "{tile}: {answer}");
    }
    let (_, notes) = ask(&pulse, &first, "/v1/notes?from=-60d", &Value::Null).await;
    assert!(notes["notes"].as_array().unwrap().len() >= 6, "{notes}");
    let (_, alerts) = ask(&pulse, &first, "/v1/alerts", &Value::Null).await;
    assert!(alerts["alerts"].as_array().unwrap().iter().any(|rule| rule["id"] == "conversion-fell"), "{alerts}");
    // Each of its rules can be tried on the month that is there; so few people leave gaps that the one for them sees.
    for rule in alerts["alerts"].as_array().unwrap() {
        let id = rule["id"].as_str().unwrap();
        let (status, tested) = ask(&pulse, &first, &format!("/v1/alerts/{id}/test"), &json!({"from": "-30d"})).await;
        assert_eq!(status, StatusCode::OK, "{id}: {tested}");
        println!("{id}: {} of {} slots would have fired", tested["fired"], tested["slots"]);
        // Of the lag nothing is known of the past.
        assert_eq!(count(&tested, "slots") == 0, id == "pulse-behind", "{id}");
        assert!(count(&tested, "fired") > 0 || id != "traffic-stopped");
    }

    // Again, though somebody has deleted its board: only what happened since.
    let read_key = first["url"].as_str().unwrap().split("#key=").nth(1).unwrap();
    let delete = pulse.http.request(Method::DELETE, "/v1/boards/demo-shop", read_key, String::new());
    assert!(pulse.http.send(delete).await.unwrap().0.is_success());
    let second = filled(&pulse, &[]);
    assert_eq!(count(&second, "duplicate"), sent);
    assert_eq!(count(&second, "stored"), count(&second, "sent") - sent);
    assert_eq!(ask(&pulse, &second, "/v1/boards/demo-shop", &Value::Null).await.0, StatusCode::OK);
    // Nobody else's project is touched.
    assert_eq!(pulse.http.settled().await["received"], 0);
    let refused = demo(&pulse, &["--project", "default"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`default` is there already and is no demo's"), "{refused:?}");

    make_things(&pulse, &second).await;
    keys(&pulse, &["admin", "demo"]);
    let named = keys(&pulse, &["create", "demo", "--name", "mine", "--kind", "read"]);
    let named = json!({"url": format!("/#key={}", named["key"].as_str().unwrap())});
    assert_eq!(ask(&pulse, &named, "/v1/boards", &Value::Null).await.0, StatusCode::OK);
    assert_eq!(filled(&pulse, &["--remove"]), json!({"project": "demo", "removed": true}));
    let mut status = StatusCode::OK;
    let deadline = tokio::time::Instant::now() + crate::harness::PATIENCE;
    while status != StatusCode::UNAUTHORIZED && tokio::time::Instant::now() < deadline {
        status = ask(&pulse, &second, "/v1/boards", &Value::Null).await.0;
        tokio::time::sleep(crate::harness::POLL).await;
    }
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let gone = demo(&pulse, &["--remove"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no `demo`"), "{gone:?}");
    // A project is its name: what was made in it does not come back with it.
    let made = keys(&pulse, &["create", "demo"]);
    let made = json!({"url": format!("{}/#key={}", pulse.http.address(), made[0]["read_key"].as_str().unwrap())});
    while ask(&pulse, &made, "/v1/boards", &Value::Null).await.0 != StatusCode::OK && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(crate::harness::POLL).await;
    }
    for path in MADE.into_iter().chain(["/v1/boards/own/shares"]) {
        let (status, answer) = ask(&pulse, &made, path, &Value::Null).await;
        let listed = answer.as_object().and_then(|listed| listed.values().next()).and_then(Value::as_array).map_or(0, Vec::len);
        assert!(listed == 0 && (status.is_success() || status == StatusCode::NOT_FOUND), "{path}: {status} {answer}");
    }
    assert_eq!(ask(&pulse, &named, "/v1/boards", &Value::Null).await.0, StatusCode::UNAUTHORIZED);

    cut_off(&pulse, "cut").await;
    assert_eq!(filled(&pulse, &["--project", "cut", "--remove"]), json!({"project": "cut", "removed": true}));
    assert!(pulse.stop().await);
}
