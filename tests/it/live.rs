//! What comes in is seen live: counted by second, shown in part, from where a reader was cut off.

use std::collections::BTreeMap;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Pulse};

/// A reader of the stream, as a browser is one.
struct Reader {
    response: Response<Incoming>,
    rest: String,
    last_id: String,
}

impl Reader {
    async fn open(pulse: &Pulse, parameters: &str, last_id: &str) -> Self {
        let mut request = pulse.http.request(Method::GET, &format!("/v1/live?{parameters}"), &pulse.http.read_key, "");
        if !last_id.is_empty() {
            request.headers_mut().insert("last-event-id", last_id.parse().unwrap());
        }
        let response = pulse.http.client.request(request).await.unwrap();
        assert_eq!((response.status(), response.headers()["content-type"].as_bytes()), (StatusCode::OK, &b"text/event-stream"[..]));
        Self { response, rest: String::new(), last_id: String::new() }
    }

    /// The next message, its kind and what it says; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((message, rest)) = self.rest.split_once("\n\n") {
                let fields: BTreeMap<&str, &str> = message.lines().filter_map(|line| line.split_once(": ")).collect();
                let said = fields.get("event").map(|kind| ((*kind).to_owned(), serde_json::from_str(fields["data"]).unwrap()));
                if let Some(id) = fields.get("id") {
                    self.last_id = (*id).to_owned();
                }
                self.rest = rest.to_owned();
                if said.is_some() {
                    return said;
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.response.body_mut().frame()).await.expect("nothing comes");
            let data = frame?.ok()?.into_data().unwrap();
            self.rest.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// Reads until so many events were counted; their number, and the types of those that were shown.
    async fn count(&mut self, events: u64) -> (u64, Vec<String>) {
        let (mut counted, mut shown) = (0, Vec::new());
        while counted < events {
            match self.next().await.expect("the stream has ended") {
                (kind, counters) if kind == "counters" => counted += counters["events"].as_u64().unwrap(),
                (_, event) => shown.push(event["type"].as_str().unwrap_or("none").to_owned()),
            }
        }
        (counted, shown)
    }
}

async fn send(pulse: &Pulse, event_type: &str, events: usize) {
    let event = |number: usize| json!({"type": event_type, "anonymousId": format!("visitor {number}"), "properties": {"plan": "pro"}});
    let batch: Vec<Value> = (0..events).map(event).collect();
    assert_eq!(pulse.http.capture(&json!({"batch": batch})).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_counted_and_some_of_each_type_are_shown() {
    let pulse = Pulse::start().await;
    send(&pulse, "before", 3).await;
    pulse.http.settled().await;
    let (mut all, mut buys, mut counters) =
        (Reader::open(&pulse, "", "").await, Reader::open(&pulse, "type=buy", "").await, Reader::open(&pulse, "events=false", "").await);
    // The follower begins with the first reader: what comes from its first counters on is counted.
    assert_eq!(all.next().await.unwrap().0, "counters");
    send(&pulse, "view", 40).await;
    send(&pulse, "buy", 2).await;
    let (counted, shown) = all.count(42).await;
    let of = |event_type: &str| shown.iter().filter(|shown| *shown == event_type).count();
    assert_eq!((counted, of("before"), of("buy")), (42, 0, 2));
    assert!((5..=20).contains(&of("view")), "{shown:?}");
    assert_eq!(buys.count(42).await, (42, vec!["buy".to_owned(); 2]));
    assert_eq!(counters.count(42).await, (42, Vec::new()));

    // Those who filter see and count what passes, and of bots nothing unless they ask.
    let filters =
        json!([{"field": "properties.plan", "value": "pro"}, {"field": "anonymousId", "op": "in", "value": ["visitor 1", "visitor 5"]}]);
    let filters = url::form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters.to_string()).finish();
    let (mut some, mut bots) = (Reader::open(&pulse, &filters, "").await, Reader::open(&pulse, "include_bots=true&type=crawl", "").await);
    // The events go to those who watch when they come.
    some.next().await.unwrap();
    bots.next().await.unwrap();
    let crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let crawl = json!({"type": "crawl", "anonymousId": "visitor 1", "properties": {"plan": "pro"}, "context": {"userAgent": crawler}});
    assert_eq!(pulse.http.capture(&crawl).await.0, StatusCode::OK);
    send(&pulse, "view", 20).await;
    assert_eq!(some.count(2).await, (2, vec!["view".to_owned(); 2]));
    assert_eq!(bots.count(20).await, (20, vec!["crawl".to_owned()]));
    all.count(20).await;
    buys.count(20).await;

    // One who was cut off goes on behind what it has seen.
    let last_id = all.last_id.clone();
    drop(all);
    send(&pulse, "late", 7).await;
    buys.count(7).await;
    let mut resumed = Reader::open(&pulse, "", &last_id).await;
    let (counted, shown) = resumed.count(7).await;
    assert_eq!((counted, shown.iter().filter(|shown| *shown == "late").count()), (7, 5));

    for parameters in
        ["events=maybe", "nothing=1", "type=", "filters=1", "include_bots=1", "filters=%5B%7B%22field%22%3A%22session.pages%22%7D%5D"]
    {
        assert_eq!(pulse.http.get(&format!("/v1/live?{parameters}")).await.0, StatusCode::BAD_REQUEST, "{parameters}");
    }
    let refused = pulse.http.request(Method::GET, "/v1/live", &pulse.http.write_key, "");
    assert_eq!(pulse.http.send(refused).await.unwrap().0, StatusCode::FORBIDDEN);
    // Readers hold up no stop.
    assert!(pulse.stop().await);
    while resumed.next().await.is_some() {}
}
