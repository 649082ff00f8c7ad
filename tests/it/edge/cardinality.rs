//! Names without number (E11): of events, properties, users, pages, agents and addresses, each of which is seen once.
//!
//! With `PULSE_TEST_LONG` a million of each, but a hundred thousand addresses and origins, each of which is a request.

use std::ops::Range;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::memory::{status, warm};
use crate::harness::fault::is_long;
use crate::harness::{Http, Pulse};

const BATCH: u64 = 1_000;
const CLIENTS: u64 = 2;
/// Clients that send requests of one event, each from another address.
const TRAVELLERS: usize = 32;
/// How much memory may grow by all of it, and how much by the second half of it, MiB.
const MOST: u64 = 200;
const NOISE: u64 = 32;

/// An event of which everything that has a name has one of its own.
fn event(nth: u64) -> Value {
    json!({
        "eventId": format!("names-{nth}"), "type": format!("name {nth}"), "userId": format!("user {nth}"), "anonymousId": format!("device {nth}"),
        "sessionId": format!("session {nth}"), "properties": {format!("property {nth}"): nth, "text": format!("value {nth}")},
        "context": {
            "ip": std::net::Ipv4Addr::from_bits(0x0900_0000 + nth as u32).to_string(), "locale": format!("xx-{nth}"), "timezone": format!("Zone/{nth}"),
            "userAgent": format!("Mozilla/5.0 (X11; Linux x86_64; rv:{nth}.0) Gecko/20100101 Firefox/{nth}.0"),
            "app": {"name": format!("app {nth}"), "version": nth.to_string()}, "device": {"model": format!("model {nth}")},
            "page": {"url": format!("https://host-{nth}.example/page-{nth}?utm_source=source-{nth}"), "referrer": format!("https://from-{nth}.example/")},
        },
    })
}

/// A request with events from an address and an origin that only this number has.
fn request(http: &Http, events: &[Value], nth: u64) -> Request<Full<Bytes>> {
    let mut request = http.request(Method::POST, "/v1/events", &http.write_key, json!(events).to_string());
    let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + nth as u32);
    request.headers_mut().insert("x-forwarded-for", address.to_string().parse().unwrap());
    request.headers_mut().insert("origin", format!("https://page-{nth}.example").parse().unwrap());
    request
}

/// Sends the events of these numbers in batches.
async fn send(http: &Http, numbers: Range<u64>) {
    let batches = (numbers.end - numbers.start) / BATCH;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (http, first) = (http.fresh(), numbers.start);
        clients.spawn(async move {
            for batch in (client..batches).step_by(CLIENTS as usize) {
                let first = first + batch * BATCH;
                let events: Vec<Value> = (first..first + BATCH).map(event).collect();
                let (status, answer) = http.send(request(&http, &events, batch)).await.unwrap();
                assert_eq!((status.as_u16(), &answer["accepted"]), (200, &json!(BATCH)), "{answer}");
            }
        });
    }
    clients.join_all().await;
    http.settled().await;
}

/// Sends an event from each of these addresses and origins.
async fn travel(http: &Http, numbers: Range<u64>) {
    let mut clients = JoinSet::new();
    for client in 0..TRAVELLERS {
        let (http, numbers) = (http.fresh(), numbers.clone());
        clients.spawn(async move {
            for nth in numbers.skip(client).step_by(TRAVELLERS) {
                let event = json!({"eventId": format!("address-{nth}"), "type": "travel", "anonymousId": "ada"});
                let (status, answer) = http.send(request(&http, &[event], nth)).await.unwrap();
                assert_eq!((status.as_u16(), &answer["accepted"]), (200, &json!(1)), "{answer}");
            }
        });
    }
    clients.join_all().await;
    http.settled().await;
}

/// The series that pulse tells of itself.
async fn series(http: &Http) -> usize {
    let metrics = http.respond(http.keyless(Method::GET, "/metrics", "")).await;
    String::from_utf8_lossy(metrics.body()).lines().filter(|line| !line.starts_with('#')).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_without_number_cost_their_rows_and_nothing_else() {
    // More addresses than buckets are kept.
    let (half, half_way) = if is_long() { (500_000, 50_000) } else { (10_000, 9_000) };
    let pulse =
        Pulse::start_with(&[("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"), ("PULSE__INGEST__MAX_RATE_PER_CLIENT", "1000000")]).await;
    let http = pulse.http.clone();
    warm(&pulse).await;
    // Somebody looks on.
    let live = http.request(Method::GET, "/v1/live", &http.read_key, "");
    let mut live = http.client.request(live).await.unwrap().into_body();
    let mut watching = JoinSet::new();
    watching.spawn(async move { while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut live).await {} });
    send(&http, 0..BATCH * CLIENTS).await;
    let (before, first) = (series(&http).await, status(pulse.pid(), "VmRSS") >> 10);
    println!("{} names of each kind: {first} MiB, {before} series", BATCH * CLIENTS);
    let mut has = vec![first];
    for (from, until) in [(BATCH * CLIENTS, half), (half, 2 * half)] {
        send(&http, from..until).await;
        let (now, with) = (series(&http).await, status(pulse.pid(), "VmRSS") >> 10);
        println!("{until} names of each kind: {with} MiB, {now} series");
        assert!(now <= before + 5, "{now} series, {before} before");
        has.push(with);
    }
    println!("{} bytes of memory for each more", (has[2].saturating_sub(first) << 20) / (2 * half - BATCH * CLIENTS));
    // By so few an instance has not yet grown to its size.
    assert!(has[2] < has[1] + NOISE || !is_long(), "{has:?} MiB: names stay in memory");
    for until in [half_way, 2 * half_way] {
        travel(&http, until - half_way..until).await;
        let (now, with) = (series(&http).await, status(pulse.pid(), "VmRSS") >> 10);
        println!("{until} addresses and origins: {with} MiB, {now} series");
        assert!(now <= before + 5, "{now} series, {before} before");
        has.push(with);
    }
    assert!(has[4] < has[3] + NOISE && has[4] < first + MOST, "{has:?} MiB: addresses or names stay in memory");

    // What is asked of them is answered in part, and says so.
    let ask = json!({"from": "-1d", "series": [{}], "breakdown": "type", "refresh": true});
    for (asked, (status, answer)) in [
        ("names", http.get("/v1/catalogue/events?limit=100").await),
        ("properties", http.get("/v1/catalogue/fields").await),
        ("lines", http.query("trends", &ask).await),
    ] {
        let size = answer.to_string().len();
        println!("{asked}: {status}, {size} bytes");
        assert!(status.is_success() && size < 100_000, "{asked}: {answer}");
    }
    watching.abort_all();
    assert!(pulse.stop().await);
}
