//! Requests as other clients send them.

use super::cases::{Case, DISABLED, READ, WRITE, gzip};

fn post(name: &str, path: &str, body: impl Into<Vec<u8>>) -> Case {
    let headers = vec![("content-type", "application/json".to_owned())];
    Case { name: name.to_owned(), method: "POST", path: path.to_owned(), headers, body: body.into() }
}

fn get(name: &str, path: &str) -> Case {
    Case { name: name.to_owned(), method: "GET", path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

pub(in crate::ingest::tests) fn settings() -> Vec<Case> {
    let host = |case: Case| case.with("host", "pulse.example:8080");
    vec![
        host(get("segment", "/v1/projects/k/settings")),
        host(get("segment, of a secure page", "/v1/projects/k/settings").with("origin", "https://shop.example")),
        host(get("segment, a key of another kind", "/v1/projects/%22%3Cx/settings").with("x-forwarded-proto", "https")),
        get("rudderstack", "/sourceConfig/?p=npm&v=3&writeKey=k"),
        get("posthog, a script", "/array/k/config.js"),
        get("posthog", "/array/k/config"),
        post("posthog's flags", "/flags/?v=2", gzip(r#"{"token":"k"}"#)),
        get("head", "/array/k/config").method("HEAD"),
        get("preflight", "/sourceConfig/").method("OPTIONS").with("access-control-request-headers", "authorization"),
    ]
}

pub(in crate::ingest::tests) fn posthog() -> Vec<Case> {
    let event =
        |id: &str, more: &str| format!(r#"{{"event":"order","distinct_id":"ada","uuid":"{id}","properties":{{"total":12.5{more}}}}}"#);
    let batch =
        |key: &str, events: &[String]| format!(r#"{{"api_key":"{key}","batch":[{}],"sent_at":"2026-01-01T00:00:00Z"}}"#, events.join(","));
    let good = || batch(WRITE, &[event("e-1", "")]);
    let with_key = |key: &str| event("e-1", &format!(r#","token":"{key}""#));
    vec![
        post("batch", "/batch/", good()),
        post("gzip that says so", "/batch/", gzip(&good())).with("content-encoding", "gzip"),
        post("gzip that does not", "/e/?compression=gzip-js", gzip(&good())),
        post("gzip that is cut", "/e/", gzip(&good()).into_iter().take(40).collect::<Vec<u8>>()),
        post("gzip of too much", "/e/", gzip(&" ".repeat((10 << 20) + 1))),
        post("base64", "/e/?compression=base64", data(&good())).with("content-type", "application/x-www-form-urlencoded"),
        post("base64 that is none", "/e/?compression=base64", "data=%%%"),
        post("one event", "/i/v0/e/", format!(r#"{{"api_key":"{WRITE}",{}"#, event("e-1", "").trim_start_matches('{'))),
        post("keys in the events", "/e/", format!("[{},{}]", with_key(WRITE), with_key(WRITE))),
        post("two keys", "/e/", format!("[{},{}]", with_key(WRITE), with_key(DISABLED))),
        post("of a page that sends with credentials", "/e/", good()).with("origin", "https://shop.example"),
        get("in the address", &format!("/capture/?{}", data(&good()))),
        post("what is said of the user in passing", "/batch/", batch(WRITE, &[event("e-1", r#","$set":{"plan":"pro"}"#)])),
        post(
            "one odd",
            "/batch/",
            batch(WRITE, &[event("e-1", ""), r#"{"event":5,"distinct_id":"ada"}"#.to_owned(), event("e-2", r#","x":"\ud800""#)]),
        ),
        post("nothing to accept", "/batch/", batch(WRITE, &["5".to_owned(), r#"{"event":"$","distinct_id":[]}"#.to_owned()])),
        post("no events", "/batch/", batch(WRITE, &[])),
        post("too many", "/batch/", batch(WRITE, &vec!["1".to_owned(); 100_000])),
        post("no key", "/batch/", format!(r#"{{"batch":[{}]}}"#, event("e-1", ""))),
        post("wrong key", "/batch/", batch("x", &[event("e-1", "")])),
        post("read key", "/batch/", batch(READ, &[event("e-1", "")])),
        post("disabled key", "/batch/", batch(DISABLED, &[event("e-1", "")])),
        post("no JSON", "/batch/", "x"),
        post("nothing", "/batch/", ""),
    ]
}

fn data(body: &str) -> String {
    format!("data={}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, body).replace('+', "%2B"))
}

pub(in crate::ingest::tests) fn amplitude() -> Vec<Case> {
    let event = |more: &str| format!(r#"{{"event_type":"order","user_id":"ada","time":1735740800000{more}}}"#);
    let batch = |key: &str, events: &[String]| format!(r#"{{"api_key":"{key}","events":[{}]}}"#, events.join(","));
    let known = event(r#","insert_id":"i-1","event_properties":{"total":12.5}"#);
    let send = |name: &str, key: &str, events: &[String]| post(name, "/2/httpapi", batch(key, events));
    vec![
        send("batch", WRITE, std::slice::from_ref(&known)),
        send("one of two refused, the other known by its id", WRITE, &[known.clone(), r#"{"event_type":5,"user_id":"ada"}"#.to_owned()]),
        send("one of two refused, the other without an id", WRITE, &[event(""), "5".to_owned()]),
        send("nothing to accept", WRITE, &["5".to_owned(), event(r#","time":"now""#)]),
        send("no events", WRITE, &[]),
        send("too many", WRITE, &vec!["1".to_owned(); 100_000]),
        send("wrong key", "x", std::slice::from_ref(&known)),
        post("no key", "/2/httpapi", batch("x", &[known]).replace("api_key", "key")),
        post("no JSON", "/2/httpapi", "x"),
    ]
}

pub(in crate::ingest::tests) fn mixpanel() -> Vec<Case> {
    let event = |key: &str, more: &str| {
        format!(r#"{{"event":"order","properties":{{"token":"{key}","distinct_id":"ada","$insert_id":"i-1"{more}}}}}"#)
    };
    let good = || event(WRITE, "");
    let form = |case: Case| case.with("accept", "*/*");
    vec![
        get("one in the address", &format!("/track?ip=0&verbose=0&{}", data(&good()))),
        form(post("a form", "/track/?verbose=1&ip=1&_=1735740800000", data(&format!("[{}]", good())))),
        post("a form of JSON", "/track", format!("data={}&verbose=1&ip=0", good().replace('"', "%22"))),
        post("JSON", "/track?verbose=0", format!("[{},{}]", good(), good())),
        post("import", "/import?strict=1", format!("[{}]", good())),
        Case {
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            ..post("import of a form", "/import", format!("{}&verbose=1", data(&format!("[{}]", good()))))
        },
        post("of a page that sends with credentials", "/track?verbose=0", format!("[{}]", good())).with("origin", "https://shop.example"),
        post("profile", "/engage?verbose=1", data(&format!(r#"[{{"$token":"{WRITE}","$distinct_id":"ada","$set":{{"team":"blue"}}}}]"#))),
        post("group", "/groups", format!(r#"[{{"$token":"{WRITE}","$group_key":"team","$group_id":"x","$set":{{"seats":5}}}}]"#)),
        post("one refused", "/track", format!("[{},5]", good())),
        post("nothing to accept", "/track?verbose=0", format!("[{}]", event(WRITE, r#","time":"now""#))),
        post("two keys", "/track", format!("[{},{}]", good(), event("x", ""))),
        post("wrong key", "/track", event("x", "")),
        post("no key", "/track", "[5]"),
        post("no data", "/track", "a=b"),
        get("nothing", "/track"),
    ]
}

pub(in crate::ingest::tests) fn snowplow() -> Vec<Case> {
    let event = |key: &str, more: &str| format!(r#"{{"e":"pv","eid":"e-1","aid":"{key}","duid":"d","url":"https://a.example/"{more}}}"#);
    let batch = |events: &[String]| format!(r#"{{"schema":"iglu:x","data":[{}]}}"#, events.join(","));
    let send = |name: &str, events: &[String]| post(name, "/com.snowplowanalytics.snowplow/tp2", batch(events));
    let good = || event(WRITE, "");
    let deep = format!(r#","ue_pr":"{}""#, "[".repeat(100_000));
    let wide = format!(r#","co":"[1{}]""#, ",1".repeat(300_000));
    vec![
        send("batch", &[good()]).with("origin", "https://shop.example"),
        send("one odd", &[good(), event(WRITE, "").replace("pv", "ue"), "[]".to_owned(), event(WRITE, r#","x":"\ud800""#)]),
        send("a nest in a text", &[good(), event(WRITE, &deep).replace("pv", "ue")]),
        send("a list in a text", &[event(WRITE, &wide)]),
        send("nothing to accept", &["5".to_owned(), good().replace("pv", "ue")]),
        send("too many", &vec!["1".to_owned(); 100_000]),
        post("too large", "/com.snowplowanalytics.snowplow/tp2", vec![b' '; (2 << 20) + 1]),
        send("two keys", &[good(), event("x", "")]),
        send("wrong key", &[event("x", "")]),
        send("of whom nobody names", &[good().replace(r#""duid":"d","#, "")]),
        get("in the address", &format!("/i?e=pv&eid=e-2&aid={WRITE}&duid=d&p=web")),
        get("in the address, nothing to accept", &format!("/i?e=pv&eid=e-2&aid={WRITE}&p=srv")),
        get("in the address, wrong key", "/i?e=pv&aid=x&duid=d"),
        get("an address of nothing", "/i"),
        send("preflight", &[])
            .method("OPTIONS")
            .with("origin", "https://shop.example")
            .with("access-control-request-headers", "content-type"),
    ]
}

pub(in crate::ingest::tests) fn trackers() -> Vec<Case> {
    let header = |case: Case, key: &str| case.with("x-write-key", key);
    let jitsu = |name: &str, kind: &str, body: &str| post(name, &format!("/api/s/{kind}"), body);
    let track = r#"{"type":"track","event":"order","userId":"ada","messageId":"m-1","writeKey":"***"}"#;
    let umami = |name: &str, key: &str, more: &str| {
        post(name, "/api/send", format!(r#"{{"type":"event","payload":{{"website":"{key}","hostname":"a.example","url":"/"{more}}}}}"#))
    };
    let plausible = |name: &str, key: &str, more: &str| {
        let case = post(name, "/api/event", format!(r#"{{"n":"pageview","u":"https://a.example/","d":"{key}","r":null{more}}}"#));
        Case { headers: vec![("content-type", "text/plain".to_owned())], ..case }
    };
    let openpanel = |name: &str, key: &str, body: &str| post(name, "/openpanel/track", body).with("openpanel-client-id", key);
    let google = |name: &str, key: &str, body: &str| post(name, &format!("/mp/collect?measurement_id=G-1&api_secret={key}"), body);
    vec![
        header(jitsu("jitsu", "track", track), &format!("{WRITE}:secret")),
        header(jitsu("jitsu, by its path", "page", r#"{"userId":"ada","messageId":"m-2"}"#), WRITE),
        jitsu("jitsu, no key", "track", track),
        umami("umami", WRITE, ""),
        umami("umami, wrong types", WRITE, r#","name":5,"data":[[]],"screen":{},"title":[]"#),
        umami("umami, wrong key", "x", ""),
        post("umami, no key", "/api/send", "{}"),
        post("umami, no object", "/api/send", "5"),
        plausible("plausible", WRITE, r#","p":{"plan":"pro"}"#),
        plausible("plausible, wrong types", WRITE, r#","p":5,"w":"x""#),
        plausible("plausible, wrong key", "x", ""),
        google("google", WRITE, r#"{"client_id":"c","events":[{"name":"page_view","params":{"page_location":"https://a.example/"}}]}"#),
        google("google, wrong types", WRITE, r#"{"client_id":[],"user_properties":5,"events":[{"name":"a","params":5},5]}"#),
        google("google, of nobody", WRITE, r#"{"events":[{"name":"a"}]}"#),
        google("google, no events", WRITE, r#"{"client_id":"c"}"#),
        google("google, wrong key", "x", r#"{"client_id":"c","events":[{"name":"a"}]}"#),
        google("google, no JSON", WRITE, "x"),
        openpanel("openpanel", WRITE, r#"{"type":"track","payload":{"name":"order","profileId":"ada","properties":{"total":12.5}}}"#),
        openpanel("openpanel, a recording", WRITE, r#"{"type":"replay","payload":{"payload":"x"}}"#),
        openpanel("openpanel, wrong key", "x", r#"{"type":"track","payload":{"name":"order","profileId":"ada"}}"#),
    ]
}

/// Exports of OpenTelemetry's logs; the first two are good.
pub(in crate::ingest::tests) fn otlp() -> Vec<Case> {
    let logs = |records: &str| {
        let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}"#;
        format!(r#"{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"scope":{{}},"logRecords":[{records}]}}]}}]}}"#)
    };
    let record = |name: &str| {
        format!(
            r#"{{"timeUnixNano":"1735740800000000000","eventName":"{name}","attributes":[{{"key":"user.id","value":{{"stringValue":"ada"}}}},{{"key":"total","value":{{"doubleValue":12.5}}}}]}}"#
        )
    };
    let exported = |records: &[Vec<u8>]| field(1, &field(2, &records.iter().flat_map(|record| field(2, record)).collect::<Vec<u8>>()));
    let user = field(6, &[field(1, b"user.id"), field(2, &field(1, b"ada"))].concat());
    let time = [vec![1 << 3 | 1], 1_735_740_800_000_000_000_u64.to_le_bytes().to_vec()].concat();
    let good = [time, user, field(12, b"order")].concat();
    let of = |name: &str, kind: &str, body: Vec<u8>| Case::post(name, "/v1/logs", WRITE, body).with("content-type", kind);
    let protobuf = |name: &str, body: Vec<u8>| of(name, "application/x-protobuf", body);
    let json = |name: &str, body: &str| of(name, "application/json; charset=utf-8", body.into());
    let one = exported(std::slice::from_ref(&good));
    vec![
        protobuf("protobuf", one.clone()),
        json("JSON", &logs(&record("order"))),
        protobuf("protobuf, one refused", exported(&[good.clone(), field(5, &field(1, b"a line"))])),
        json("JSON, one refused", &logs(&format!(r#"{},{{"body":{{"stringValue":"a line"}}}}"#, record("order")))),
        protobuf("protobuf, nothing to accept", exported(&[field(12, b"of nobody"), field(12, &[0xff])])),
        json("JSON, nothing to accept", &logs(r#"{"eventName":"of nobody"},5,{"eventName":5}"#)),
        json("JSON, wrong types", &logs(r#"{"eventName":"a","attributes":[{"key":"user.id","value":"ada"}]},{"timeUnixNano":"now"}"#)),
        protobuf("protobuf, no records", Vec::new()),
        json("JSON, no records", "{}"),
        json("JSON, nothing", ""),
        protobuf("protobuf, too many", exported(&vec![Vec::new(); 1_001])),
        json("JSON, too many", &logs(&vec!["{}"; 1_001].join(","))),
        protobuf("no protobuf", b"{}".to_vec()),
        protobuf("protobuf that is cut", one[..one.len() - 1].to_vec()),
        json("no JSON", "x"),
        of("neither", "text/csv", b"a,b".to_vec()),
        Case::post("wrong key", "/v1/logs", "x", one.clone()).with("content-type", "application/x-protobuf"),
        post("no key", "/v1/logs", one),
    ]
}

/// A field of a protobuf message that is bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut field, mut length) = (vec![tag << 3 | 2], bytes.len());
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}
