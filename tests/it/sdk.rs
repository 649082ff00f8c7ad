//! SDKs that people already have, unmodified, from their registries, and our own: what they send arrives, and they are content with the
//! answers.

mod front;
mod sdks;
mod weather;

use std::path::{Path, PathBuf};

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use pulse::clickhouse::engine::cache_dir;
use serde_json::Value;
use tokio::process::Command;

use crate::harness::{self, Pulse};

/// Most bytes of our own SDK, compressed.
const MOST_BYTES: usize = 5_000;

/// Where the SDKs are.
fn modules() -> PathBuf {
    let modules = cache_dir().expect("no cache directory").join("sdk/node_modules");
    assert!(modules.is_dir(), "the SDKs are not there: `make fetch-test` brings them");
    modules
}

/// Runs a script of `tests/sdk` against pulse; what it wrote.
async fn run(pulse: &Pulse, script: &str) -> String {
    let modules = modules();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script);
    let mut command = Command::new("node");
    command.arg(script).env("NODE_PATH", modules).env("HOST", pulse.http.address());
    command.env("KEY", &pulse.http.write_key).env("READ_KEY", &pulse.http.read_key);
    let output = harness::output(&mut command).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    said
}

/// Runs tests of our own SDKs that need no pulse: servers of theirs do what the real one would need minutes for.
async fn run_tests(program: &str, arguments: &[&str], folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let output = harness::output(Command::new(program).args(arguments).current_dir(folder).env("NODE_PATH", modules())).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn each_snippet_for_those_who_come_from_elsewhere_sends_its_order_once() {
    let pulse = Pulse::start().await;
    assert_eq!(run(&pulse, "snippets.cjs").await.trim(), "38 snippets");
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn what_pages_send_in_other_forms_or_leave_behind_arrives_once() {
    let pulse = Pulse::start().await;
    assert_eq!(run(&pulse, "forms.cjs").await.trim(), "3 forms");
    pulse.http.settled().await;
    let events = pulse.http.events().await;
    for form in ["in batches", "compressed", "not compressed"] {
        let of_form = |event: &&Value| event["type"] == "order" && event["properties"]["sdk"] == form;
        let mut orders: Vec<u64> = events.iter().filter(of_form).map(|order| order["properties"]["n"].as_u64().unwrap()).collect();
        orders.sort_unstable();
        assert_eq!(orders, [0, 1, 2, 3, 4, 5], "{form}");
    }
    assert!(pulse.stop().await);
}

#[tokio::test]
#[ignore = "measures and asserts nothing: `make bench-sdk`"]
async fn what_sdks_cost_a_page() {
    let pulse = Pulse::start().await;
    println!("{}", run(&pulse, "bench.cjs").await);
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn our_sdk_tells_what_happens_in_a_page_and_keeps_to_what_its_visitor_wants() {
    run_tests("node", &["ours.cjs"], "tests/sdk").await;
}

#[tokio::test]
async fn our_sdk_asks_again_leaves_and_forgets_as_it_says() {
    run_tests("node", &["units.cjs"], "tests/sdk").await;
}

#[tokio::test]
async fn our_sdk_is_a_package_that_an_empty_application_installs_and_its_types_hold() {
    run_tests("node", &["package.cjs"], "tests/sdk").await;
}

#[tokio::test]
async fn our_sdk_for_python_loses_nothing_across_threads_forks_and_kills() {
    run_tests("python3", &["-m", "unittest", "tests.test_client"], "sdk/python").await;
}

#[tokio::test]
async fn our_sdk_is_small_and_any_page_may_load_it() {
    let pulse = Pulse::start().await;
    for path in ["/sdk/pulse.js", "/sdk/pulse.mjs"] {
        let ask = |method: Method, header: &str, value: &str| {
            let mut request = pulse.http.keyless(method, path, "");
            request.headers_mut().insert(HeaderName::try_from(header).unwrap(), value.parse().unwrap());
            request
        };
        let response = pulse.http.respond(ask(Method::GET, "accept-encoding", "gzip")).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((response.status(), &*header("content-encoding")), (StatusCode::OK, "gzip"), "pulse was built without it (`make web`)");
        assert!(response.body().len() <= MOST_BYTES, "{path} has {} bytes", response.body().len());
        assert_eq!(
            ["content-type", "access-control-allow-origin", "cross-origin-resource-policy"].map(header),
            ["text/javascript; charset=utf-8", "*", "cross-origin"]
        );
        assert!(header("cache-control").contains("max-age=3600"));
        let known = pulse.http.respond(ask(Method::GET, "if-none-match", &header("etag"))).await;
        assert_eq!((known.status(), known.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(pulse.http.respond(ask(Method::POST, "accept", "*/*")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    let none = pulse.http.respond(pulse.http.keyless(Method::GET, "/sdk/none.js", "")).await;
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    assert!(pulse.stop().await);
}

/// Stored events by their ids.
async fn stored(pulse: &Pulse, ids: &[&str]) -> Vec<Value> {
    let mut events = Vec::new();
    for id in ids {
        let ask = serde_json::json!({"from": "-1d", "to": "now", "filters": [{"field": "eventId", "op": "eq", "value": id}]});
        let (_, answer) = pulse.http.query("events", &ask).await;
        let found = answer["result"]["events"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        assert_eq!(found.len(), 1, "{id}: {found:?}");
        events.extend(found);
    }
    events
}

#[tokio::test]
async fn what_segments_sdk_sends_arrives_once() {
    let pulse = Pulse::start().await;
    assert_eq!(run(&pulse, "segment.cjs").await.trim(), "flushed");
    let total = pulse.http.settled().await;
    assert_eq!([&total["received"], &total["stored"], &total["duplicate"], &total["rejected"]], [5, 4, 1, 0]);
    let events = stored(&pulse, &["m-1", "m-2", "m-3", "m-4"]).await;
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Order Completed", "Order Completed", "identify", "page"]);
    assert_eq!(events[0]["properties"], serde_json::json!({"total": 12.5, "plan": "pro"}));
    assert_eq!(
        (events[1]["anonymousId"].as_str(), events[1]["context"]["page"]["url"].as_str()),
        (Some("anon"), Some("https://shop.example/a"))
    );
    assert_eq!(events[2]["properties"], serde_json::json!({"team": "blue"}));
    assert!(pulse.stop().await);
}

#[tokio::test]
async fn what_rudderstacks_sdk_sends_arrives() {
    let pulse = Pulse::start().await;
    assert_eq!(run(&pulse, "rudderstack.cjs").await.trim(), "flushed");
    let total = pulse.http.settled().await;
    assert_eq!([&total["received"], &total["stored"], &total["rejected"]], [3, 3, 0]);
    let events = stored(&pulse, &["r-1", "r-2", "r-3"]).await;
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Order Completed", "identify", "group"]);
    assert_eq!(events[2]["properties"], serde_json::json!({"seats": 5, "groupId": "g"}));
    assert!(pulse.stop().await);
}
