//! The dashboard's way in: a cookie that is a read key, for pages of this origin alone, as long as the key is in force.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Http, POLL, Pulse, program};

/// A key that was revoked is none any more within this time.
const REVOKED: Duration = Duration::from_secs(10);

/// A browser with a cookie: what it says of itself goes with each request.
struct Browser<'p> {
    http: &'p Http,
    cookie: String,
}

/// A page of the dashboard, and one of somebody else.
const OWN: &[(&str, &str)] = &[("sec-fetch-site", "same-origin")];
const FOREIGN: &[(&str, &str)] = &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];

impl<'p> Browser<'p> {
    /// Exchanges a key for the cookie.
    async fn log_in(http: &'p Http, key: &str, more: &[(&str, &str)]) -> (Self, String) {
        let mut request = http.request(Method::POST, "/v1/session", key, "");
        add(request.headers_mut(), more);
        let response = http.respond(request).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let given = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        let cookie = given.split(';').next().unwrap().to_owned();
        (Self { http, cookie }, given)
    }

    async fn send(&self, method: Method, path: &str, body: &Value, page: &[(&str, &str)]) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = self.http.keyless(method, path, body);
        add(request.headers_mut(), &[("cookie", &self.cookie)]);
        add(request.headers_mut(), page);
        let response = self.http.respond(request).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{path} is nobody else's business");
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
    }
}

fn add(headers: &mut hyper::HeaderMap, more: &[(&str, &str)]) {
    headers.extend(more.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())));
}

#[tokio::test]
async fn a_read_key_becomes_a_cookie_that_is_worth_nothing_once_the_key_is() {
    let behind = [
        ("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"),
        ("PULSE__HTTP__USER_HEADER", "x-forwarded-user"),
        ("PULSE__PROJECTS__DEFAULT__SESSION_GAP", "10m"),
        ("PULSE__PROJECTS__DEFAULT__SESSION_CUT_AT_MIDNIGHT", "true"),
        ("PULSE__PROJECTS__DEFAULT__INTERNAL_COOKIE", "staff=secret"),
    ];
    let pulse = Pulse::start_with(&behind).await;
    let (http, read_key) = (&pulse.http, &pulse.http.read_key);
    pulse.http.capture(&json!({"type": "view", "anonymousId": "ada"})).await;
    pulse.http.settled().await;

    let (browser, given) = Browser::log_in(http, read_key, OWN).await;
    assert!(given.ends_with("; HttpOnly; SameSite=Strict") && !given.contains(read_key), "{given}");
    let (secure, given) = Browser::log_in(http, read_key, &[("x-forwarded-proto", "https")]).await;
    assert!(given.starts_with("__Host-") && given.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{given}");
    let over_https = secure.send(Method::GET, "/v1/session", &Value::Null, &[("x-forwarded-proto", "https")]).await;
    assert_eq!(over_https.0, 200);
    assert_eq!(secure.send(Method::GET, "/v1/session", &Value::Null, OWN).await.0, 401, "that cookie is for https");

    // It is the read key, on every route of questions.
    let (status, who) = browser.send(Method::GET, "/v1/session", &Value::Null, OWN).await;
    assert_eq!((status, &who["project"]), (200, &json!({"name": "default", "timezone": "UTC"})));
    assert_eq!((&who["key"]["kind"], &who["user"]), (&json!("read"), &Value::Null));
    let rules = json!({
        "session_gap_ms": 600_000, "longest_session_ms": 86_400_000, "session_cut_at_midnight": true, "session_cut_at_campaign": false,
        "internal": ["cookie"], "exclude_data_centres": false,
    });
    assert_eq!(who["rules"], rules, "by what its own traffic is known, not which cookie it is");
    // A proxy that signs people in says who it is.
    let signed_in = [OWN, &[("x-forwarded-user", "ada")]].concat();
    assert_eq!(browser.send(Method::GET, "/v1/session", &Value::Null, &signed_in).await.1["user"], "ada");
    let question = json!({"from": "-1d", "series": [{"event": null}]});
    let asked = browser.send(Method::POST, "/v1/query/trends", &question, OWN).await;
    assert_eq!((asked.0, &asked.1["result"]["series"][0]["total"]), (200, &json!(1)));
    let cohort = json!({"filters": [{"field": "country", "op": "eq", "value": "DE"}]});
    assert_eq!(browser.send(Method::PUT, "/v1/cohorts/c", &cohort, OWN).await.0, 200);
    assert_eq!(browser.send(Method::GET, "/v1/cohorts/c", &Value::Null, OWN).await.1["by"], who["key"]["name"]);
    // Who saves something is written beside it.
    assert_eq!(browser.send(Method::PUT, "/v1/cohorts/c", &cohort, &signed_in).await.0, 200);
    assert_eq!(browser.send(Method::GET, "/v1/cohorts/c", &Value::Null, OWN).await.1["by"], "ada");
    assert_eq!(browser.send(Method::PUT, "/v1/boards/b", &json!({"title": "B", "tiles": []}), &signed_in).await.0, 200);
    for (path, body) in [("/v1/notes", json!({"text": "4.2"})), ("/v1/boards/b/shares", json!({}))] {
        assert_eq!(browser.send(Method::POST, path, &body, &signed_in).await.1["by"], "ada", "{path}");
    }
    for path in ["/v1/ledger", "/v1/cohorts", "/v1/people/ada", "/v1/dead-letters"] {
        assert_eq!(browser.send(Method::GET, path, &Value::Null, OWN).await.0, 200, "{path}");
        assert_eq!(browser.send(Method::GET, path, &Value::Null, &[]).await.0, 200, "{path} without a word of where it comes from");
    }

    // A page that shows another project than that of the cookie neither sees nor changes anything of this one.
    for (project, status) in [("default", 200), ("d%65fault", 200), ("other", 412), ("", 412)] {
        let page = [OWN[0], ("x-pulse-project", project)];
        for (method, path, body) in [
            (Method::GET, "/v1/ledger", &Value::Null),
            (Method::POST, "/v1/query/trends", &question),
            (Method::GET, "/v1/alerts", &Value::Null),
        ] {
            let (is, answer) = browser.send(method, path, body, &page).await;
            assert_eq!((is, is == 412 && answer["code"] != "other_project"), (status, false), "{project}: {path}");
        }
        assert_eq!(browser.send(Method::GET, "/v1/session", &Value::Null, &page).await.0, 200, "whose the cookie is, everybody may ask");
    }

    // Nobody else's page uses it, and nobody sends events with it.
    let refused = |(status, answer): (u16, Value)| (status, answer["code"].as_str().unwrap_or_default().to_owned());
    let cross_origin = (403, "cross_origin".to_owned());
    for page in [FOREIGN, &[("origin", "null")], &[("sec-fetch-site", "same-site")]] {
        assert_eq!(refused(browser.send(Method::GET, "/v1/ledger", &Value::Null, page).await), cross_origin);
        assert_eq!(refused(browser.send(Method::GET, "/v1/live", &Value::Null, page).await), cross_origin);
        assert_eq!(refused(browser.send(Method::POST, "/v1/query/trends", &question, page).await), cross_origin);
        assert_eq!(refused(browser.send(Method::PUT, "/v1/cohorts/c", &cohort, page).await), cross_origin);
        assert_eq!(refused(browser.send(Method::DELETE, "/v1/session", &Value::Null, page).await), cross_origin);
    }
    assert_eq!(
        refused(browser.send(Method::DELETE, "/v1/cohorts/c", &Value::Null, &[]).await),
        cross_origin,
        "a write says where it comes from"
    );
    let event = json!({"type": "view", "anonymousId": "eve"});
    let mut capture = http.keyless(Method::POST, "/v1/events", event.to_string());
    add(capture.headers_mut(), &[("cookie", &browser.cookie)]);
    assert_eq!(http.respond(capture).await.status(), StatusCode::UNAUTHORIZED);

    // A key in the headers wins, whichever it is; what is no read key becomes no cookie.
    let mut shown = http.request(Method::GET, "/v1/ledger", &http.write_key, "");
    add(shown.headers_mut(), &[("cookie", &browser.cookie)]);
    assert_eq!(http.respond(shown).await.status(), StatusCode::FORBIDDEN);
    for (key, status) in [(&*http.write_key, 403), ("pulse_rk_guessed", 401)] {
        assert_eq!(http.respond(http.request(Method::POST, "/v1/session", key, "")).await.status(), status);
    }
    assert_eq!(http.respond(http.keyless(Method::GET, "/v1/session", "")).await.status(), StatusCode::UNAUTHORIZED);
    for garbage in ["pulse_session=", "pulse_session=%%%", "pulse_session=bm9uZQ"] {
        let garbage = Browser { http, cookie: garbage.to_owned() };
        assert_eq!(garbage.send(Method::GET, "/v1/session", &Value::Null, OWN).await.0, 401);
    }

    // The key is revoked: the cookie goes with it, and can still be thrown away.
    let mut revoke = std::process::Command::new(program());
    let revoked = revoke.args(["keys", "revoke", "default"]).env("PULSE__DATA_DIR", pulse.data_dir()).output().unwrap();
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let out = async {
        while browser.send(Method::GET, "/v1/session", &Value::Null, OWN).await.0 != 401 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(REVOKED, out).await.expect("a key that was revoked is still one");
    assert_eq!(browser.send(Method::POST, "/v1/query/trends", &question, OWN).await.0, 401);
    assert_eq!(browser.send(Method::DELETE, "/v1/session", &Value::Null, OWN).await.0, 204);
}
