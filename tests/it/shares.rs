//! A board by link: what the link opens is its board as it is now, and nothing else.

use hyper::{Method, StatusCode};
use pulse::app::openapi;
use serde_json::{Value, json};

use crate::harness::{Answer, Http, Pulse};

async fn send(http: &Http, method: Method, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http.send(http.request(method, path, &http.read_key, body)).await.unwrap()
}

/// As one who has nothing but the link.
async fn look(http: &Http, path: &str) -> Answer {
    http.send(http.keyless(Method::GET, path, "")).await.unwrap()
}

async fn people(http: &Http, path: &str, body: &Value) -> Answer {
    http.send(http.keyless(Method::POST, &format!("{path}/people"), body.to_string())).await.unwrap()
}

fn tiles() -> Value {
    let chart = |more: Value| {
        let mut question = json!({"from": "-7d/d", "series": [{"event": "view"}]});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"title": "views", "report": "trends", "question": question})
    };
    let pro = json!([{"field": "properties.plan", "value": "pro"}]);
    json!([
        chart(json!({})), chart(json!({"filters": pro})), chart(json!({"breakdown": "userId"})),
        {"report": "users", "question": {"of": {"report": "trends", "from": "-7d/d", "series": [{"event": "view"}]}}},
    ])
}

struct Links {
    http: Http,
}

impl Links {
    /// Makes a link to the board: where it leads, and its id.
    async fn make(&self, share: &Value) -> (String, String) {
        let (status, made) = send(&self.http, Method::POST, "/v1/boards/shop/shares", share).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        assert!(text("token").len() == 43 && text("id") != text("token"), "{made}");
        (format!("/v1/shared/{}", text("token")), text("id"))
    }
}

async fn total(http: &Http, path: &str) -> (u16, Value) {
    let (status, answer) = look(http, path).await;
    let shown = if status == StatusCode::OK { answer["result"]["series"][0]["total"].clone() } else { answer["code"].clone() };
    (status.as_u16(), shown)
}

#[tokio::test]
async fn a_link_opens_its_board_and_nothing_else() {
    // Every path there is asks for a key.
    let mut pulse = Pulse::start_with(&[("PULSE__QUERY__MCP", "true")]).await;
    let event = |who: &str, plan: &str, shop: &str| json!({"type": "view", "userId": who, "properties": {"plan": plan, "shop": shop}});
    let events = [event("ada", "pro", "a"), event("bob", "free", "a"), event("cy", "pro", "b"), event("cy", "pro", "b")];
    pulse.http.capture(&json!({"batch": events})).await;
    pulse.http.settled().await;
    let http = pulse.http.clone();
    let board = json!({"title": "Shop", "tiles": tiles()});
    assert_eq!(send(&http, Method::PUT, "/v1/boards/shop", &board).await.0, StatusCode::OK);
    let links = Links { http: http.clone() };

    let (closed, id) = links.make(&json!({"filters": [{"field": "properties.shop", "value": "a"}]})).await;
    let (status, shown) = look(&http, &closed).await;
    assert_eq!((status, &shown["title"], shown["tiles"].as_array().unwrap().len()), (StatusCode::OK, &json!("Shop"), 4));
    assert!(!shown.to_string().contains("filters"), "what is left out is nobody's business: {shown}");
    assert_eq!(total(&http, &format!("{closed}/tiles/0")).await, (200, json!(2)), "of this shop alone");
    assert_eq!(total(&http, &format!("{closed}/tiles/1")).await, (200, json!(1)), "and of the tile's own filter");
    for (path, code) in [
        ("/tiles/2", "people_not_shared"),
        ("/tiles/3", "people_not_shared"),
        ("/tiles/0?from=-1d", "dates_not_shared"),
        ("/tiles/4", "unknown_tile"),
        ("/tiles/-1", "unknown_tile"),
        ("/tiles/0?filters=%5B%5D", "invalid_parameter"),
    ] {
        assert_eq!(look(&http, &format!("{closed}{path}")).await.1["code"], code, "{path}");
    }
    // All tiles at once, each as it is alone; what is wrong with one costs itself.
    let all = async |path: &str| {
        let response = http.respond(http.keyless(Method::GET, path, "")).await;
        assert_eq!((response.status(), response.headers()["cache-control"].as_bytes()), (StatusCode::OK, &b"private, no-store"[..]));
        let lines = String::from_utf8(response.into_body().to_vec()).unwrap();
        let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["index"].as_u64());
        lines
            .into_iter()
            .map(|line| if line["error"].is_null() { line["result"]["series"][0]["total"].clone() } else { line["error"]["code"].clone() })
            .collect::<Vec<_>>()
    };
    let refused = json!("people_not_shared");
    assert_eq!(all(&format!("{closed}/tiles")).await, [json!(2), json!(1), refused.clone(), refused]);
    assert_eq!(all(&format!("{closed}/tiles?from=-1d")).await[0], "dates_not_shared");
    assert_eq!(people(&http, &format!("{closed}/tiles/0"), &json!({"bar": {}})).await.1["code"], "people_not_shared");

    let (open, _) = links.make(&json!({"dates": true, "people": true, "filters": [{"field": "properties.shop", "value": "b"}]})).await;
    assert_eq!(total(&http, &format!("{open}/tiles/0?from=-1d&interval=hour")).await, (200, json!(2)));
    assert_eq!(total(&http, &format!("{open}/tiles/0?from=2001-01-01&to=2001-01-02")).await, (200, json!(0)));
    let (status, behind) = people(&http, &format!("{open}/tiles/0"), &json!({"bar": {"series_index": 0}})).await;
    assert_eq!((status, &behind["result"]["users"][0]["user"], &behind["result"]["total"]), (StatusCode::OK, &json!("cy"), &json!(1)));
    for times in ["", "?interval=hour"] {
        let path = format!("{open}/tiles/3{times}");
        assert_eq!(look(&http, &path).await.1["result"]["total"], 1, "what is by no interval is asked without: {path}");
    }
    // The locked filter cannot be replaced by one of the bar.
    for bar in [json!({"filters": []}), json!({"from": "-9d"}), json!({"report": "events"})] {
        assert_eq!(people(&http, &format!("{open}/tiles/0"), &json!({"bar": bar})).await.0, StatusCode::BAD_REQUEST, "{bar}");
    }

    embedded(&links).await;
    nothing_else(&http, open.trim_start_matches("/v1/shared/")).await;

    // It follows its board, survives, and ends when it is revoked.
    let fewer = json!({"title": "Fewer", "tiles": []});
    assert_eq!(send(&http, Method::PUT, "/v1/boards/shop", &fewer).await.0, StatusCode::OK);
    pulse.end().await;
    pulse.restart().await;
    let http = &pulse.http;
    assert_eq!(look(http, &closed).await.1["title"], "Fewer");
    let listed = http.get("/v1/boards/shop/shares").await.1;
    assert_eq!((listed["shares"].as_array().unwrap().len(), &listed["shares"][0]["id"]), (2, &json!(id)), "{listed}");
    assert!(!listed.to_string().contains("token"), "{listed}");
    // Who made it stays among those who may revoke it.
    assert_eq!(listed["shares"][0]["by"], http.get("/v1/session").await.1["key"]["name"]);
    assert_eq!(look(http, &closed).await.1.get("by"), None);
    assert_eq!(send(http, Method::DELETE, &format!("/v1/shares/{id}"), &Value::Null).await.0, StatusCode::OK);
    assert_eq!(send(http, Method::DELETE, &format!("/v1/shares/{id}"), &Value::Null).await.0, StatusCode::NOT_FOUND);
    let revoked = look(http, &closed).await;
    let guessed = look(http, "/v1/shared/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!((revoked.0, &revoked.1["code"], &revoked.1["message"]), (guessed.0, &guessed.1["code"], &guessed.1["message"]));
    assert_eq!(revoked.0, StatusCode::NOT_FOUND);
    assert_eq!(look(http, &format!("{closed}/tiles")).await.1["code"], revoked.1["code"]);
    assert_eq!(look(http, &open).await.0, StatusCode::OK);
    assert_eq!(send(http, Method::DELETE, "/v1/boards/shop", &Value::Null).await.0, StatusCode::OK);
    assert_eq!(look(http, &open).await.1["code"], revoked.1["code"], "without its board it opens nothing");
    assert_eq!(send(http, Method::POST, "/v1/boards/shop/shares", &json!({})).await.0, StatusCode::NOT_FOUND);
    // One that has ended is as one that never was.
    assert_eq!(send(http, Method::PUT, "/v1/boards/shop", &fewer).await.0, StatusCode::OK);
    assert_eq!(look(http, &open).await.0, StatusCode::NOT_FOUND, "another board of the name of its own");
    let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(1)).unwrap().to_string();
    let links = Links { http: http.clone() };
    let (short, _) = links.make(&json!({"expires_at": soon})).await;
    while look(http, &short).await.0 != StatusCode::NOT_FOUND {
        tokio::time::sleep(crate::harness::POLL).await;
    }
}

/// A page that holds the screen in a frame is one that the link of its address names.
async fn embedded(links: &Links) {
    let (path, id) = links.make(&json!({"embed": ["https://Shop.example:443", "https://*.partner.example"]})).await;
    let http = &links.http;
    assert_eq!(look(http, &path).await.1["id"], json!(id));
    let headers = async |path: &str| http.respond(http.keyless(Method::GET, path, "")).await.headers().clone();
    let frames = async |path: &str| {
        let policy = headers(path).await["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        policy.split_once("frame-ancestors ").unwrap().1.to_owned()
    };
    let own = format!("/embed/{id}");
    assert_eq!(frames(&own).await, "https://shop.example https://*.partner.example");
    assert_eq!(headers(&own).await["cache-control"], "no-store");
    let (_, of_none) = links.make(&json!({})).await;
    let elsewhere = ["/", "/shared", "/embed", "/embed/", "/boards/shop", "/embed/AAAA"].map(str::to_owned);
    for path in elsewhere.into_iter().chain([format!("/embed/{of_none}"), format!("/shared/{id}"), format!("{own}/x")]) {
        assert_eq!(frames(&path).await, "'none'", "{path}");
    }
    for id in [id, of_none] {
        assert_eq!(send(http, Method::DELETE, &format!("/v1/shares/{id}"), &Value::Null).await.0, StatusCode::OK);
    }
    assert_eq!(frames(&own).await, "'none'", "the link has ended");
}

/// Whether the token is a key anywhere: on every path of the description that asks for one.
async fn nothing_else(http: &Http, token: &str) {
    let mut tried = 0;
    let paths = openapi::document()["paths"].as_object().unwrap();
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("/v1/shared/")) {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
            let is_open = operation["security"].as_array().is_some_and(|ways| ways.contains(&json!({})));
            if is_open || operation["tags"] == json!(["compatible"]) {
                continue;
            }
            let path = path.replace("{id}", "shop").replace(['{', '}'], "");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let body = r#"{"from":"-7d","series":[{"event":"view"}],"text":"x","title":"x","filters":[{"field":"country"}]}"#;
            let as_key = http.request(method.clone(), &path, token, body);
            let mut as_cookie = http.keyless(method.clone(), &path, body);
            let cookie = format!("pulse_session={}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token));
            as_cookie.headers_mut().insert("cookie", cookie.parse().unwrap());
            as_cookie.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
            let in_address = http.keyless(method.clone(), &format!("{path}?key={token}&token={token}"), body);
            for request in [as_key, as_cookie, in_address] {
                let status = http.respond(request).await.status();
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "{tried}");
}
