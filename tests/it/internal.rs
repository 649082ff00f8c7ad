//! Traffic of a project's own: left out as bots are, with the reason, and no address is kept.

use hyper::header::{COOKIE, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Pulse;
use crate::harness::mmdb;

const OWN: [(&str, &str); 3] = [
    ("PULSE__PROJECTS__DEFAULT__INTERNAL_NETWORKS", "192.0.2.0/24, 2001:db8::/48"),
    ("PULSE__PROJECTS__DEFAULT__INTERNAL_COOKIE", "staff"),
    ("PULSE__PROJECTS__DEFAULT__INTERNAL_PARAMETER", "internal=1"),
];

/// A database in which 203.0.113.0/24 is of a data centre and 198.51.100.0/24 is not, in a folder that keeps it.
fn networks() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("networks.mmdb");
    let known = [([203, 0, 113, 0], 24, 16509, "Amazon.com, Inc."), ([198, 51, 100, 0], 24, 64_500, "An access provider")];
    std::fs::write(&path, mmdb::networks(&known)).unwrap();
    (folder, path.display().to_string())
}

#[tokio::test]
async fn traffic_of_ones_own_is_left_out_with_its_reason_and_everything_else_is_not() {
    let (_folder, networks) = networks();
    let of_networks = [("PULSE__GEO__NETWORK_DATABASE", networks.as_str()), ("PULSE__PROJECTS__DEFAULT__EXCLUDE_DATA_CENTRES", "true")];
    let pulse = Pulse::start_with(&[&OWN[..], &of_networks].concat()).await;
    let http = &pulse.http;
    let googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let event = |who: &str, context: Value| json!({"type": "view", "anonymousId": who, "context": context});
    let events = [
        event("office", json!({"ip": "192.0.2.77"})),
        event("tunnel", json!({"ip": "2001:db8::5"})),
        event("stranger", json!({"ip": "198.51.100.7"})),
        event("crawler", json!({"ip": "198.51.100.8", "userAgent": googlebot})),
        event("crawler in the office", json!({"ip": "192.0.2.78", "userAgent": googlebot})),
        event("preview", json!({"ip": "198.51.100.9", "page": {"url": "https://shop.example/?internal=1"}})),
        event("other preview", json!({"ip": "198.51.100.9", "page": {"url": "https://shop.example/?internal=2"}})),
        event("rented", json!({"ip": "203.0.113.9"})),
        event("rented by the office", json!({"ip": "203.0.113.9", "page": {"url": "https://shop.example/?internal=1"}})),
    ];
    assert_eq!(http.capture(&json!({"batch": events})).await.0, StatusCode::OK);
    let mut of_staff = http.request(Method::POST, "/v1/events", &http.write_key, event("staff", json!({"ip": "198.51.100.7"})).to_string());
    of_staff.headers_mut().insert(COOKIE, HeaderValue::from_static("theme=dark; staff=1"));
    assert_eq!(http.send(of_staff).await.unwrap().0, StatusCode::OK);
    assert_eq!(http.settled().await["stored"], 10, "nothing is dropped, and the ledger counts all");

    let (_, seen) = http.query("events", &json!({})).await;
    let mut seen: Vec<&str> =
        seen["result"]["events"].as_array().unwrap().iter().map(|event| event["anonymousId"].as_str().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["other preview", "stranger"]);
    let all = http.events().await;
    let reason = |who: &str| all.iter().find(|event| event["anonymousId"] == who).unwrap()["context"]["bot"].clone();
    for (who, expected) in [
        ("office", "internal:network"),
        ("tunnel", "internal:network"),
        ("crawler in the office", "internal:network"),
        ("preview", "internal:parameter"),
        ("staff", "internal:cookie"),
        ("rented", "data-centre"),
        ("rented by the office", "internal:parameter"),
    ] {
        assert_eq!(reason(who), expected, "{who}");
    }
    assert!(!reason("crawler").as_str().unwrap().starts_with("internal"), "{}", reason("crawler"));
    let (_, trends) = http.query("trends", &json!({"from": "-1d", "series": [{"event": "view"}]})).await;
    assert_eq!((&trends["result"]["series"][0]["total"], &trends["meta"]["excluded_bots"]), (&json!(2), &json!(8)));
    let network = |who: &str| all.iter().find(|event| event["anonymousId"] == who).unwrap()["context"]["geo"]["network"].clone();
    assert_eq!((network("rented"), network("stranger")), (json!("Amazon.com, Inc."), json!("An access provider")));
    let text = serde_json::to_string(&all).unwrap();
    assert!(!text.contains("192.0.2.") && !text.contains("theme=dark"), "an address or a cookie was kept");
}

#[tokio::test]
async fn servers_that_say_they_are_send_from_an_address_that_is_nobodys() {
    let (_folder, networks) = networks();
    let of_networks = [("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"), ("PULSE__GEO__NETWORK_DATABASE", networks.as_str())];
    let pulse = Pulse::start_with(&[&OWN[..1], &of_networks].concat()).await;
    let http = &pulse.http;
    let send = async |path: &str, body: Value| {
        let mut request = http.request(Method::POST, path, &http.write_key, body.to_string());
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.5"));
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        let (status, answer) = http.send(request).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
    };
    let key = &http.write_key;
    let posthog = |who: &str, more: Value| json!({"event": "view", "distinct_id": who, "uuid": uuid::Uuid::new_v4(), "properties": more});
    let of_server = posthog("posthog server", json!({"$geoip_disable": true, "$set": {"plan": "pro"}}));
    send("/batch/", json!({"api_key": key, "batch": [of_server, posthog("posthog page", json!({}))]})).await;
    let amplitude = |who: &str, more: Value| {
        let mut event = json!({"event_type": "view", "user_id": who, "insert_id": who});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let events = [amplitude("amplitude server", json!({})), amplitude("amplitude page", json!({"ip": "$remote"}))];
    send("/2/httpapi", json!({"api_key": key, "events": events})).await;
    let mixpanel = |who: &str| json!([{"event": "view", "properties": {"token": key, "distinct_id": who, "$insert_id": who}}]);
    send("/track?ip=0", mixpanel("mixpanel server")).await;
    send("/track?ip=1", mixpanel("mixpanel page")).await;
    let segment =
        |who: &str, library: &str| json!({"event": "view", "userId": who, "messageId": who, "context": {"library": {"name": library}}});
    send("/v1/track", segment("segment server", "analytics-python")).await;
    send("/v1/track", segment("segment page", "analytics.js")).await;
    let rented = json!({"type": "view", "userId": "rented", "context": {"ip": "203.0.113.9"}});
    assert_eq!(http.capture(&rented).await.0, StatusCode::OK);
    http.settled().await;
    let all = http.events().await;
    let reasons =
        |who: &str| all.iter().filter(|event| event["userId"] == who).map(|event| event["context"]["bot"].clone()).collect::<Vec<_>>();
    // Where a project does not ask for it, nobody is left out for their network.
    assert_eq!(reasons("rented"), [Value::Null]);
    for (product, events) in [("posthog", 2), ("amplitude", 1), ("mixpanel", 1), ("segment", 1)] {
        assert_eq!(reasons(&format!("{product} server")), vec![Value::Null; events], "{product}");
        assert_eq!(reasons(&format!("{product} page")), ["internal:network"], "{product}");
    }
}
