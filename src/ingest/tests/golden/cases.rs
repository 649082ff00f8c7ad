//! The requests.

use std::io::Write as _;

pub(in crate::ingest::tests) const WRITE: &str = "pulse_wk_golden";
pub(in crate::ingest::tests) const READ: &str = "pulse_rk_golden";
pub(in crate::ingest::tests) const IMPORT: &str = "pulse_ik_golden";
pub(in crate::ingest::tests) const DISABLED: &str = "pulse_wk_disabled";

pub(in crate::ingest::tests) struct Case {
    pub(in crate::ingest::tests) name: String,
    pub(in crate::ingest::tests) method: &'static str,
    pub(in crate::ingest::tests) path: String,
    pub(in crate::ingest::tests) headers: Vec<(&'static str, String)>,
    pub(in crate::ingest::tests) body: Vec<u8>,
}

impl Case {
    pub(in crate::ingest::tests) fn post(name: &str, path: &str, key: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("authorization", format!("Bearer {key}"))];
        Self { name: name.to_owned(), method: "POST", path: path.to_owned(), headers, body: body.into() }
    }

    pub(in crate::ingest::tests) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(in crate::ingest::tests) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn header(&self, wanted: &str) -> &str {
        self.headers.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value)
    }

    pub(in crate::ingest::tests) fn is_lines(&self) -> bool {
        self.header("content-type").contains("ndjson")
    }

    /// Whether its events would be packed into the same bytes again: those without an id get another each time.
    pub(in crate::ingest::tests) fn has_fixed_events(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        self.method == "POST"
            && self.header("content-encoding").is_empty()
            && text.matches("\"type\"").count() <= text.matches("\"eventId\"").count()
    }
}

fn event(more: &str) -> String {
    format!(r#"{{"eventId":"0190f7a4-0000-7000-8000-000000000001","type":"view","anonymousId":"ada"{more}}}"#)
}

fn numbered(number: u32, more: &str) -> String {
    format!(r#"{{"eventId":"e{number}","type":"view","anonymousId":"v{}"{more}}}"#, number % 7)
}

pub(in crate::ingest::tests) fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const FULL: &str = r#","userId":"bob","sessionId":17,"timestamp":"2025-01-01T14:13:20.000Z","sentAt":"2025-01-01T14:13:21.000Z",
"context":{"ip":"203.0.113.7","locale":"de-DE","timezone":"Europe/Berlin","userAgent":"Mozilla/5.0 (X11)",
"app":{"name":"shop","version":2,"build":"7"},"browser":{"name":"Firefox","version":"130"},"device":{"type":"desktop","model":"x","manufacturer":"y"},
"os":{"name":"Linux","version":6.1},"page":{"url":"https://shop.example/a?utm_source=x","host":"shop.example","path":"/a","title":"Aä","search":"?utm_source=x","referrer":"https://google.com/"},
"campaign":{"source":"s","medium":"m","name":"n","term":"t","content":"c"},"screen":{"width":1440,"height":"900","density":2.5}},
"properties":{"plan":"pro","price":12.5,"n":9007199254740993,"trial":false,"tags":["a",1,null,{"b":"c"}],"address":{"town":"Ulm","zip":{"code":"89073"}},"none":null,"empty":{}}"#;

/// Bodies of one event, each with something special.
fn of_one_event() -> Vec<(String, String)> {
    let mut bodies: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, body: String| bodies.push((name.to_owned(), body));
    add("plain", event(""));
    add("full", event(FULL));
    for (name, more) in [
        (
            "unknown fields",
            r#","mood":"good","context":{"library":{"name":"x"},"page":{"url":"/","depth":2},"screen":{"width":1,"colors":2}}"#,
        ),
        (
            "warnings in order",
            r#","zzz":1,"sentAt":"yesterday","sessionId":true,"context":{"ip":"no","app":{"name":{},"x":1},"y":2,"page":"p"},"properties":{"a.b":1,"a":{"b":2},"":3,"t":"x\u0000"}"#,
        ),
        ("context is text", r#","context":"x""#),
        ("context is empty list", r#","context":[]"#),
        ("user agent twice", r#","context":{"userAgent":"a","userAgent":""}"#),
        ("screen odd", r#","context":{"screen":{"width":-1,"height":70000,"density":"x"}}"#),
        ("session odd", r#","sessionId":"undefined""#),
        ("clamped", r#","timestamp":4102444800000"#),
        ("sent ignored", r#","timestamp":1735740800000,"sentAt":"9999-01-01T00:00:00Z""#),
        ("timestamp bad", r#","timestamp":"yesterday""#),
        ("timestamp old", r#","timestamp":"1971-01-01T00:00:00Z""#),
        ("timestamp bool", r#","timestamp":true"#),
        ("user null", r#","userId":null"#),
        ("user number", r#","userId":7"#),
        ("user placeholder", r#","userId":" null ""#),
        ("user NUL", r#","userId":"a\u0000""#),
        ("duplicate", r#","userId":"a","userId":"b""#),
        ("duplicate null", r#","userId":null,"userId":"b""#),
        ("duplicate id", r#","eventId":"x""#),
        ("properties list", r#","properties":[1]"#),
        ("properties empty list", r#","properties":[]"#),
        ("properties text", r#","properties":"x""#),
        ("big number", r#","properties":{"n":100000000000000000000,"m":[1.5e300,-7,18446744073709551615]}"#),
        ("infinite in list", r#","properties":{"n":[1e999]}"#),
        ("number out of range", r#","properties":{"n":1e400}"#),
        ("lone surrogate", r#","properties":{"x":"\ud800"}"#),
        ("surrogate and more", r#","properties":{"x":"\ud800\u0041"}"#),
        ("bad escape", r#","properties":{"x":"C:\Users"}"#),
        ("short hex", r#","properties":{"x":"\u12"}"#),
        ("control character", ",\"properties\":{\"x\":\"a\nb\"}"),
    ] {
        add(name, event(more));
    }
    add("key long", event(&format!(r#","properties":{{"{}":1,"a":2}}"#, "k".repeat(129))));
    add("value long", event(&format!(r#","properties":{{"t":"{}"}}"#, "x".repeat(9_000))));
    add("url long", event(&format!(r#","context":{{"page":{{"path":"/{}"}}}}"#, "x".repeat(3_000))));
    let many: Vec<String> = (0..257).map(|number| format!(r#""p{number}":1"#)).collect();
    add("many properties", event(&format!(r#","properties":{{{}}}"#, many.join(","))));
    add(
        "too large",
        event(&format!(
            r#","properties":{{{}}}"#,
            (0..9).map(|number| format!(r#""p{number}":"{}""#, "x".repeat(8_000))).collect::<Vec<_>>().join(",")
        )),
    );
    add("array too large", event(&format!(r#","properties":{{"a":["{}"]}}"#, "x".repeat(70_000))));
    add("nested", event(&format!(r#","properties":{}1{}"#, r#"{"x":"#.repeat(9), "}".repeat(9))));
    add("nested lists", event(&format!(r#","properties":{{"x":{}{}}}"#, "[".repeat(9), "]".repeat(9))));
    add("nested beyond the parser", event(&format!(r#","properties":{{"x":{}{}}}"#, "[".repeat(2_000), "]".repeat(2_000))));
    add("too many values", event(&format!(r#","properties":{{"x":[1{}]}}"#, ",1".repeat(600_000))));
    for (name, body) in [
        ("no type", r#"{"eventId":"e","anonymousId":"a"}"#),
        ("type null", r#"{"eventId":"e","type":null,"anonymousId":"a"}"#),
        ("type number", r#"{"eventId":"e","type":1,"anonymousId":"a"}"#),
        ("type blank", r#"{"eventId":"e","type":" ","anonymousId":"a"}"#),
        ("type NUL", r#"{"eventId":"e","type":"a\u0000b","anonymousId":"a"}"#),
        ("type reserved", r#"{"eventId":"e","type":"$view","anonymousId":"a"}"#),
        ("type reserved too", r#"{"eventId":"e","type":"pulse_view","anonymousId":"a"}"#),
        ("type twice and id behind", r#"{"type":"a","type":"b","eventId":"e","anonymousId":"a"}"#),
        ("id twice", r#"{"type":"a","eventId":5,"eventId":"e","anonymousId":"a"}"#),
        ("id null and again", r#"{"type":"a","eventId":null,"eventId":"e","anonymousId":"a"}"#),
        ("nobody", r#"{"eventId":"e","type":"a"}"#),
        ("nobody in blanks", r#"{"eventId":"e","type":"a","userId":" ","anonymousId":""}"#),
        ("only user", r#"{"eventId":"e","type":"a","userId":"u"}"#),
        ("id number", r#"{"eventId":5,"type":"a","userId":"u"}"#),
        ("id blank", r#"{"eventId":" ","type":"a","userId":"u"}"#),
        ("id zero", r#"{"eventId":"00000000-0000-0000-0000-000000000000","type":"a","userId":"u"}"#),
        ("no id", r#"{"type":"a","userId":"u"}"#),
        ("empty object", "{}"),
    ] {
        add(name, body.to_owned());
    }
    add("type long", event("").replace("view", &"x".repeat(201)));
    add("id long", event("").replace("0190f7a4-0000-7000-8000-000000000001", &"x".repeat(201)));
    add("user long", event(&format!(r#","userId":"{}""#, "u".repeat(201))));
    bodies
}

/// Bodies that hold several, or none.
fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let list = |events: &[String]| format!("[{}]", events.join(","));
    let many: Vec<String> = (0..1_001).map(|number| numbered(number, "")).collect();
    let mixed = [numbered(1, ""), "17".to_owned(), numbered(2, r#","timestamp":"x""#), "null".to_owned(), numbered(3, ""), "[]".to_owned()];
    let odd =
        [numbered(1, ""), numbered(2, r#","properties":{"x":"\ud800"}"#), numbered(3, ""), numbered(4, r#","properties":{"n":1e400}"#)];
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        ("list", list(&[numbered(1, ""), numbered(2, "")]).into()),
        ("list of all kinds", list(&mixed).into()),
        ("list with odd ones", list(&odd).into()),
        ("batch", format!(r#"{{"batch":{},"sentAt":"2026-09-21T14:13:21Z"}}"#, list(&many[..20])).into()),
        ("batch with odd ones", format!(r#"{{"sentAt":1789999999000,"batch":{}}}"#, list(&odd)).into()),
        ("batch, sent unreadable", format!(r#"{{"sentAt":{{}},"batch":{}}}"#, list(&odd[..1])).into()),
        ("batch twice", format!(r#"{{"batch":{0},"batch":{0}}}"#, list(&mixed[..1])).into()),
        ("batch twice, odd", format!(r#"{{"batch":{0},"batch":{0}}}"#, list(&odd)).into()),
        ("batch null", br#"{"batch":null}"#.to_vec()),
        ("batch null, odd", br#"{"batch":null,"x":"\ud800"}"#.to_vec()),
        ("batch object, odd", br#"{"batch":{"a":1},"x":"\ud800"}"#.to_vec()),
        ("batch empty", br#"{"batch":[]}"#.to_vec()),
        ("batch empty, odd", br#"{"batch":[],"x":"\ud800"}"#.to_vec()),
        ("list empty", b"[]".to_vec()),
        ("as many as may be", list(&many[..1_000]).into()),
        ("one too many", list(&many).into()),
        ("one too many, odd", list(&[many.as_slice(), &odd].concat()).into()),
        ("empty", b"".to_vec()),
        ("blank", b" \n ".to_vec()),
        ("mark", b"\xEF\xBB\xBF".to_vec()),
        ("mark and event", [b"\xEF\xBB\xBF".as_slice(), numbered(1, "").as_bytes()].concat()),
        ("no JSON", b"hello".to_vec()),
        ("half", br#"{"type":"a""#.to_vec()),
        ("behind", [numbered(1, "").as_bytes(), b" x"].concat()),
        ("number", b"17".to_vec()),
        ("text", br#""x""#.to_vec()),
        ("text, odd", br#""\ud800""#.to_vec()),
        ("null", b"null".to_vec()),
        (
            "Latin-1",
            [
                b"[".as_slice(),
                numbered(1, "").as_bytes(),
                b",",
                &numbered(2, r#","properties":{"n":"M?ller"}"#)
                    .into_bytes()
                    .iter()
                    .map(|byte| if *byte == b'?' { 0xfc } else { *byte })
                    .collect::<Vec<u8>>(),
                b"]",
            ]
            .concat(),
        ),
        ("bad byte outside", b"[{}, \xff]".to_vec()),
    ];
    bodies.push(("nested without end", "[".repeat(2_000_000).into_bytes()));
    bodies
}

fn lines() -> Vec<(&'static str, Vec<u8>)> {
    let many: String = (0..1_001).map(|number| numbered(number, "") + "\n").collect();
    vec![
        ("lines", format!("{}\n\n {}\r\n", numbered(1, ""), numbered(2, "")).into()),
        (
            "lines, some odd",
            format!("{}\n17\nx\n{}\n[{}]\n", numbered(1, ""), numbered(2, r#","properties":{"x":"\ud800"}"#), numbered(3, "")).into(),
        ),
        ("lines, all odd", b"x\ny\n".to_vec()),
        ("lines, empty", b"".to_vec()),
        ("lines, blank", b"\n \n".to_vec()),
        ("lines, one too many", many.into()),
    ]
}

pub(in crate::ingest::tests) fn events() -> Vec<Case> {
    let post = |name: &str, body: Vec<u8>| Case::post(name, "/v1/events", WRITE, body);
    let mut cases: Vec<Case> = of_one_event().into_iter().map(|(name, body)| post(&name, body.into())).collect();
    cases.extend(envelopes().into_iter().map(|(name, body)| post(name, body)));
    cases.extend(lines().into_iter().map(|(name, body)| post(name, body).with("content-type", "application/x-ndjson")));
    let one = || post("", event("").into());
    let named = |name: &str, case: Case| Case { name: name.to_owned(), ..case };
    let keyed = |name: &str, header: (&'static str, String)| Case { headers: vec![header], ..named(name, one()) };
    cases.extend([
        named("text/plain", one().with("content-type", "text/plain;charset=UTF-8")),
        named("form", one().with("content-type", "application/x-www-form-urlencoded")),
        named("UTF-16", one().with("content-type", "application/json; charset=utf-16")),
        named("XML", one().with("content-type", "application/xml")),
        named("do not track", one().with("dnt", "1").with("user-agent", "Mozilla/5.0 x")),
        named("gzip", post("", gzip(&event(""))).with("content-encoding", "gzip")),
        named("no gzip", one().with("content-encoding", "gzip")),
        named("unknown encoding", one().with("content-encoding", "compress")),
        named("too large", post("", vec![b' '; (2 << 20) + 1])),
        named("too large inflated", post("", gzip(&" ".repeat((8 << 20) + 1))).with("content-encoding", "gzip")),
        keyed("no key", ("x-nothing", "1".to_owned())),
        keyed("wrong key", ("authorization", "Bearer nonsense".to_owned())),
        keyed("read key", ("authorization", format!("Bearer {READ}"))),
        keyed("import key", ("authorization", format!("Bearer {IMPORT}"))),
        keyed("disabled key", ("authorization", format!("Bearer {DISABLED}"))),
        keyed("no scheme", ("authorization", WRITE.to_owned())),
        keyed("other scheme", ("authorization", format!("Digest {WRITE}"))),
        keyed("bad basic", ("authorization", "Basic ???".to_owned())),
        keyed("basic", ("authorization", "Basic cHVsc2Vfd2tfZ29sZGVuOg==".to_owned())),
        keyed("header of its own", ("x-write-key", WRITE.to_owned())),
        named("two keys", one().with("authorization", "Bearer x")),
        named("preflight", one().method("OPTIONS").with("access-control-request-headers", "authorization, x-a")),
        named("preflight without headers", one().method("OPTIONS")),
        named("read", one().method("GET")),
        named("put", one().method("PUT")),
        Case { path: "/v1/event".to_owned(), ..named("no such path", one()) },
        Case { path: "/v1/events?a=b".to_owned(), ..named("with a query", one()) },
    ]);
    let from_page = |name: &str, key: &str, body: Vec<u8>| Case {
        path: format!("/v1/events?key={key}"),
        headers: vec![("content-type", "text/plain".to_owned())],
        ..post(name, body)
    };
    cases.extend([
        from_page("key in the address", WRITE, event("").into()),
        from_page("gzip of a page", WRITE, gzip(&event(""))),
        from_page("wrong key in the address", "nonsense", event("").into()),
        from_page("read key in the address", READ, event("").into()),
        from_page("no key in the address", "", event("").into()),
        from_page("two keys, the header's is meant", WRITE, event("").into()).with("authorization", "Bearer nonsense"),
    ]);
    cases
}

pub(in crate::ingest::tests) fn import() -> Vec<Case> {
    let post = |name: &str, body: &str| Case::post(name, "/v1/import?run=7&source=a.log", IMPORT, body);
    let at = |name: &str, path: &str| Case { path: path.to_owned(), ..post(name, &event("")) };
    let dead = r#"{"$dead":{"message":"no time","line":3,"id":"x","original_base64":"MTAuMC4wLjEgLQ=="}}"#;
    let old = event(r#","timestamp":"1971-01-01T00:00:00Z""#);
    let mut cases = vec![
        post("lines", &format!("{}\n{old}\n\n{dead}\n", numbered(1, ""))),
        post("refused ones", &format!("17\n{}\nx 10.1.2.3\n{}\n", numbered(1, r#","userId":7"#), numbered(2, r#","userId":8"#))),
        post("nothing", ""),
        post("dead that is none", r#"{"$dead":5}"#),
        post("dead without base64", r#"{"$dead":{"message":"m","original_base64":"?"}}"#),
        post("one too many", &format!("{}\n", event("")).repeat(10_001)),
        at("no run", "/v1/import"),
        at("run 0", "/v1/import?run=0"),
        at("run no number", "/v1/import?run=%20x"),
        at("source long", &format!("/v1/import?run=1&source={}", "s".repeat(256))),
        Case { method: "OPTIONS", ..at("preflight", "/v1/import?run=1") },
        Case { method: "GET", ..at("read", "/v1/import?run=1") },
    ];
    for (name, key) in [("read key", READ), ("write key", WRITE), ("wrong key", "x"), ("disabled key", DISABLED)] {
        cases.push(Case { headers: vec![("authorization", format!("Bearer {key}"))], ..post(name, &event("")) });
    }
    cases.push(Case { headers: Vec::new(), ..post("no key", &event("")) });
    cases.push(Case { body: gzip(&event("")), ..post("gzip", "").with("content-encoding", "gzip") });
    cases
}

pub(in crate::ingest::tests) fn one_of_each() -> Vec<Case> {
    let thirty: Vec<String> = (0..30).map(|number| numbered(number, "")).collect();
    let events = Case::post("events", "/v1/events", WRITE, format!("[{}]", thirty.join(",")));
    vec![events, Case::post("refused", "/v1/events", WRITE, "{}"), Case::post("import", "/v1/import?run=7", IMPORT, numbered(1, ""))]
}

pub(in crate::ingest::tests) fn pixel() -> Vec<Case> {
    let get = |name: &str, query: &str| {
        let path = format!("/v1/pixel.gif?{query}");
        Case { name: name.to_owned(), method: "GET", path, headers: Vec::new(), body: Vec::new() }
    };
    let good = format!("key={WRITE}&type=open&userId=ada&eventId=e1");
    vec![
        get("one event", &good),
        get(
            "everything",
            &format!(
                "{good}&sessionId=s&anonymousId=a&context.page.url=https%3A%2F%2Fa.example%2F%3Fb%3Dc&context.locale=de&properties.plan=pro+plus&properties.a.b=1&empty=&other=x"
            ),
        ),
        get("refused event", &format!("key={WRITE}&type=open")),
        get("no key", "type=open&userId=ada"),
        get("wrong key", "key=x&type=open&userId=ada"),
        get("read key", &format!("key={READ}&type=open&userId=ada")),
        Case { headers: vec![("authorization", format!("Bearer {WRITE}"))], ..get("key in a header", "type=open&userId=ada&eventId=e2") },
        Case { method: "POST", ..get("another method", &good) },
    ]
}

/// As the SDKs for Node.js send them.
pub(in crate::ingest::tests) fn segment() -> Vec<Case> {
    const LIBRARY: &str = r#""library":{"name":"@segment/analytics-node","version":"3.1.0"}"#;
    let track = |id: &str, more: &str| {
        format!(
            r#"{{"integrations":{{}},"event":"Order Completed","type":"track","properties":{{"total":12.5}},"context":{{{LIBRARY}}},"userId":"ada","anonymousId":null,"messageId":"{id}","_metadata":{{"nodeVersion":"v20.20.2"}}{more}}}"#
        )
    };
    let batch = |key: &str, calls: &[String]| format!(r#"{{"batch":[{}]{key},"sentAt":"2026-01-01T00:00:00.000Z"}}"#, calls.join(","));
    let post = |name: &str, path: &str, body: String| {
        let headers = vec![("content-type", "application/json".to_owned())];
        Case { name: name.to_owned(), method: "POST", path: path.to_owned(), headers, body: body.into() }
    };
    // The user name is the key.
    let basic = |case: Case| case.with("authorization", "Basic cHVsc2Vfd2tfZ29sZGVuOg==");
    let key = format!(r#","writeKey":"{WRITE}""#);
    let identify = format!(r#"{{"type":"identify","userId":"ada","traits":{{"team":"blue"}},"context":{{{LIBRARY}}},"messageId":"m-3"}}"#);
    let odd = track("m-4", r#","x":"\ud800""#);
    let form = post("a form that is gzip", "/v1/batch", String::new());
    let form = Case { headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())], ..form };
    vec![
        basic(post("batch", "/v1/batch", batch(&key, &[track("m-1", ""), identify.clone()]))),
        post("key in the body", "/v1/b", batch(&key, &[track("m-1", ""), identify])),
        post("key in the body, one odd", "/v1/batch", batch(&key, &[track("m-2", ""), odd])),
        post("no key", "/v1/batch", batch("", &[track("m-1", "")])),
        post("no key, no JSON", "/v1/batch", "x".to_owned()),
        post("a list has no key", "/v1/batch", format!("[{}]", track("m-1", ""))),
        post("wrong key", "/v1/batch", batch(r#","writeKey":"x""#, &[track("m-1", "")])),
        post("read key", "/v1/batch", batch(&format!(r#","writeKey":"{READ}""#), &[track("m-1", "")])),
        post("key is a number", "/v1/batch", batch(r#","writeKey":5"#, &[track("m-1", "")])),
        post("one call", "/v1/t", track("m-1", &key)),
        basic(post("a page by its path", "/v1/page", r#"{"userId":"ada","messageId":"m-5","name":"Home"}"#.to_owned())),
        basic(post("nothing to accept", "/v1/batch", batch("", &[r#"{"type":"track"}"#.to_owned(), "5".to_owned()]))),
        basic(Case { body: gzip(&batch("", &[track("m-1", "")])), ..form }.with("content-encoding", "gzip")),
        post("preflight", "/v1/t", String::new()).method("OPTIONS").with("access-control-request-headers", "authorization"),
        post("read", "/v1/track", String::new()).method("GET"),
    ]
}
