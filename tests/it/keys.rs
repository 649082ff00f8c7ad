//! Keys that are made, limited, rotated and revoked while instances run: each is in force everywhere, and none of it needs the store
//! once it is known.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Http, PATIENCE, POLL, Pulse, program};

/// Runs `pulse keys` on the data directory of an instance.
fn cli(pulse: &Pulse, arguments: &[&str]) -> Value {
    let mut keys = std::process::Command::new(program());
    let output = keys.arg("keys").args(arguments).env("PULSE__DATA_DIR", pulse.data_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The admin key of a project, once the instance knows it.
async fn admin_of(pulse: &Pulse, project: &str) -> String {
    let key = cli(pulse, &["admin", project])[0]["admin_key"].as_str().unwrap().to_owned();
    until(async || ask(&pulse.http, Method::GET, "/v1/keys", &key, &Value::Null).await.0 == StatusCode::OK).await;
    key
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never is so");
}

async fn ask(http: &Http, method: Method, path: &str, key: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http.send(http.request(method, path, key, body)).await.unwrap()
}

fn event() -> String {
    json!({"type": "click", "anonymousId": "ada"}).to_string()
}

/// Sends an event with a key, from a page of `origin`: the status, and the code of a refusal.
async fn send(http: &Http, path: &str, key: &str, origin: &str) -> (u16, String) {
    let mut request = http.request(Method::POST, path, key, event());
    if !origin.is_empty() {
        request.headers_mut().insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
    }
    let response = http.respond(request).await;
    let opens = response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let answer: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let code = answer["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(opens, code != "forbidden_origin", "{answer}");
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let again: u32 = response.headers()[HeaderName::from_static("retry-after")].to_str().unwrap().parse().unwrap();
        assert!(again >= 1);
    }
    (response.status().as_u16(), code)
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

const TAKEN: (u16, String) = (200, String::new());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_limited_rotated_and_revoked_and_every_instance_goes_by_it() {
    let mut pulse = Pulse::start().await;
    let admin = admin_of(&pulse, "default").await;
    let (_, password) = pulse.engine_login("pulse_writer");
    let engine = [
        ("PULSE__ROLES", "ingest".to_owned()),
        ("PULSE__CLICKHOUSE__URL", format!("http://127.0.0.1:{}", pulse.engine_port())),
        ("PULSE__CLICKHOUSE__USER", "pulse_writer".to_owned()),
        ("PULSE__CLICKHOUSE__PASSWORD", password.trim_start_matches("X-ClickHouse-Key: ").to_owned()),
    ];
    // It only takes events, and knows the store by its address.
    let mut second = Pulse::start_beside(&pulse, &engine).await;
    let http = pulse.http.clone();

    // Only an admin key manages keys.
    for (key, status, code) in
        [(&http.read_key, 403, "wrong_key_kind"), (&http.write_key, 403, "wrong_key_kind"), (&"x".to_owned(), 401, "invalid_key")]
    {
        let (answered, answer) = ask(&http, Method::POST, "/v1/keys", key, &json!({"name": "mine", "kind": "admin"})).await;
        assert_eq!((answered.as_u16(), answer["code"].as_str().unwrap()), (status, code), "{answer}");
    }
    assert_eq!(ask(&http, Method::POST, "/v1/query/events", &admin, &json!({"limit": 1})).await.0, StatusCode::FORBIDDEN);

    // A secret key where events are sent is refused, and told of by what tells it from others.
    let imports = cli(&pulse, &[])[0]["import_key"].as_str().unwrap().to_owned();
    for key in [&http.read_key, &imports, &admin, &http.read_key] {
        assert_eq!(send(&http, "/v1/events", key, "").await, refused(403, "wrong_key_kind"));
        let in_address = http.keyless(Method::POST, &format!("/v1/events?key={key}"), event());
        assert_eq!(http.send(in_address).await.unwrap().0, StatusCode::FORBIDDEN);
    }
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("a secret key is used to send events")).collect();
    assert!(told.len() == 3 && ["read", "import", "admin"].iter().all(|kind| told.iter().any(|line| line.contains(kind))), "{told:?}");

    let settings = json!({"name": "web", "kind": "write", "origins": ["https://Shop.example"], "paths": ["/v1/events"], "rate": 1});
    let (status, made) = ask(&http, Method::POST, "/v1/keys", &admin, &settings).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    let path = format!("/v1/keys/{id}");
    assert_eq!(send(&http, "/v1/events", &key, "https://evil.example").await, refused(403, "forbidden_origin"));
    assert_eq!(send(&http, "/v1/events", &key, "null").await, refused(403, "forbidden_origin"));
    assert_eq!(send(&http, "/v1/batch", &key, "").await, refused(403, "forbidden_path"));
    assert_eq!(send(&http, "/v1/events", &key, "https://shop.example").await, TAKEN);
    until(async || send(&http, "/v1/events", &key, "").await == refused(429, "rate_limited")).await;
    assert_eq!(http.capture(&json!({"type": "click", "anonymousId": "ada"})).await.0, StatusCode::OK, "other keys are unaffected");
    assert_eq!(ask(&http, Method::GET, "/v1/keys", &key, &Value::Null).await.1["code"], "wrong_key_kind");

    // Without limits now, and with another secret beside the first.
    let (status, changed) = ask(&http, Method::PUT, &path, &admin, &json!({"name": "shop"})).await;
    assert_eq!((status, &changed["version"], &changed["rate"]), (StatusCode::OK, &json!(2), &Value::Null), "{changed}");
    let (status, rotated) = ask(&http, Method::POST, &format!("{path}/rotate"), &admin, &json!({"overlap": "1h"})).await;
    assert_eq!(status, StatusCode::OK, "{rotated}");
    let fresh = rotated["key"].as_str().unwrap().to_owned();
    for key in [&key, &fresh] {
        assert!(!send(&http, "/v1/batch", key, "https://evil.example").await.1.starts_with("forbidden"));
        assert_eq!(send(&http, "/v1/events", key, "").await, TAKEN);
        until(async || send(&second.http, "/v1/events", key, "").await == TAKEN).await;
    }
    let (status, running) = ask(&http, Method::POST, &format!("{path}/rotate"), &admin, &Value::Null).await;
    assert_eq!((status, &running["code"]), (StatusCode::PRECONDITION_FAILED, &json!("rotation_running")));
    let at_once = ask(&http, Method::POST, &format!("{path}/rotate"), &admin, &json!({"overlap": "0s"})).await.1;
    let newest = at_once["key"].as_str().unwrap().to_owned();
    assert_eq!(send(&http, "/v1/events", &fresh, "").await, refused(401, "invalid_key"));
    assert_eq!(send(&http, "/v1/events", &newest, "").await, TAKEN);
    until(async || send(&second.http, "/v1/events", &newest, "").await == TAKEN).await;

    // Another project knows nothing of it, and a write that expects something else changes nothing.
    cli(&pulse, &["create", "other"]);
    let other = admin_of(&pulse, "other").await;
    assert_eq!(ask(&http, Method::GET, "/v1/keys", &other, &Value::Null).await.1, json!({"project": "other", "keys": []}));
    assert_eq!(ask(&http, Method::DELETE, &path, &other, &Value::Null).await.0, StatusCode::NOT_FOUND);
    let mut stale = http.request(Method::PUT, &path, &admin, json!({"name": "late"}).to_string());
    stale.headers_mut().insert(header::IF_MATCH, HeaderValue::from_static("\"1\""));
    assert_eq!(http.send(stale).await.unwrap().0, StatusCode::PRECONDITION_FAILED);

    // By command, for an end: of the second key, whose name is not the same.
    let named = cli(&pulse, &["create", "default", "--name", "app", "--rate", "500"]);
    let [app_id, first_app] = ["id", "key"].map(|member| named[member].as_str().unwrap());
    until(async || send(&second.http, "/v1/events", first_app, "").await == TAKEN).await;
    let changed = cli(&pulse, &["set", "default", "--id", app_id, "--name", "mobile"]);
    assert_eq!((&changed["name"], &changed["rate"]), (&json!("mobile"), &Value::Null), "{changed}");
    let rotated = cli(&pulse, &["rotate", "default", "--id", app_id, "--overlap", "0s"]);
    let app = rotated["key"].as_str().unwrap().to_owned();
    assert_eq!(send(&http, "/v1/events", first_app, "").await, refused(401, "invalid_key"));
    assert_eq!(send(&http, "/v1/events", &app, "").await, TAKEN);
    until(async || send(&second.http, "/v1/events", &app, "").await == TAKEN).await;
    assert!(cli(&pulse, &["list", "default"])["keys"].as_array().unwrap().len() == 2);
    assert_eq!(cli(&pulse, &["revoke", "default", "--id", &id])["id"], json!(id));
    until(async || send(&second.http, "/v1/events", &newest, "").await == refused(403, "key_disabled")).await;
    assert_eq!(send(&http, "/v1/events", &newest, "").await, refused(403, "key_disabled"));
    assert_eq!(ask(&http, Method::PUT, &path, &admin, &json!({"name": "again"})).await.1["code"], "key_revoked");

    // What is made with a key that has a name is under that name.
    let (_, reading) = ask(&http, Method::POST, "/v1/keys", &admin, &json!({"name": "dashboards", "kind": "read"})).await;
    let noted = ask(&http, Method::POST, "/v1/notes", reading["key"].as_str().unwrap(), &json!({"text": "4.2"})).await;
    assert_eq!((noted.0, &noted.1["by"]), (StatusCode::CREATED, &json!("dashboards")));

    // The log says all of it, and no secret.
    let audit = cli(&pulse, &["audit", "default"]);
    let entries = audit["entries"].as_array().unwrap();
    let of =
        |id: &Value| entries.iter().filter(|entry| entry["id"] == *id).map(|entry| entry["action"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(of(&json!(id)), ["created", "changed", "rotated", "rotated", "revoked"], "{audit}");
    assert_eq!(of(&named["id"]), ["created", "changed", "rotated"]);
    assert!(entries.iter().all(|entry| entry["address"] == "127.0.0.1" && entry["by"]["name"] == "keys file"), "{audit}");
    assert_eq!((&entries[1]["after"]["name"], &entries[1]["after"]["kind"]), (&json!("shop"), &json!("write")));
    for secret in [key.as_str(), &fresh, &newest, first_app, &app, &admin] {
        assert!(!audit.to_string().contains(secret));
    }
    for instance in [&pulse, &second] {
        let log = std::fs::read_to_string(instance.data_dir().join("test.log")).unwrap();
        for secret in [key.as_str(), &fresh, &newest, first_app, &app, &admin, &other, &imports, &http.read_key, &http.write_key] {
            assert!(!log.contains(secret), "a key stands in the log");
        }
    }
    let kept = std::fs::read_to_string(second.data_dir().join("managed-keys.json")).unwrap();
    assert!(!kept.contains(&app) && kept.contains(&id));

    // The store is gone: whoever was known is, also after a restart, and who was not is not.
    pulse.kill().await;
    assert_eq!(send(&second.http, "/v1/events", &app, "").await, TAKEN);
    second.end().await;
    second.restart().await;
    assert_eq!(send(&second.http, "/v1/events", &app, "").await, TAKEN);
    assert_eq!(send(&second.http, "/v1/events", &newest, "").await, refused(403, "key_disabled"));
    assert!(second.stop().await);
}

#[tokio::test]
async fn operations_are_where_the_operator_says_and_nowhere_else() {
    let pulse = Pulse::start_with(&[("PULSE__HTTP__OPERATIONS_LISTEN", "127.0.0.1:0"), ("PULSE__INGEST__MAX_RATE_PER_CLIENT", "5")]).await;
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    let told = log.lines().find(|line| line.contains("operations")).unwrap();
    let address = told.split("http://").nth(1).unwrap().split(['"', ' ']).next().unwrap();
    let operations = Http { address: format!("http://{address}"), ..pulse.http.clone() };
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(operations.respond(operations.keyless(Method::GET, path, "")).await.status(), StatusCode::OK, "{path}");
        assert_eq!(pulse.http.respond(pulse.http.keyless(Method::GET, path, "")).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(operations.capture(&json!({"type": "click", "anonymousId": "ada"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(pulse.http.get("/openapi.json").await.0, StatusCode::OK);
    // The address sends as fast as it may, whatever its keys are.
    until(async || send(&pulse.http, "/v1/events", &pulse.http.write_key, "").await == refused(429, "rate_limited")).await;
    assert!(pulse.stop().await);
}

#[test]
fn in_a_folder_without_a_pulse_nothing_is_made_by_what_only_reads() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 9] = [
        &["export", "--output", "-"],
        &["export-config", "config"],
        &["dead"],
        &["keys"],
        &["keys", "list", "default"],
        &["keys", "create", "default", "--name", "web"],
        &["demo", "--remove"],
        &["replay"],
        &["sessions", "rebuild", "--from", "-1d"],
    ];
    for arguments in commands {
        let output = std::process::Command::new(program()).args(arguments).arg("--data-dir").arg(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("data_dir: there is no pulse in"), "{arguments:?}: {said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn printing_the_keys_writes_nothing_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let entries = json!([{"project": "default", "write_key": "w", "read_key": "r"}]);
    std::fs::write(folder.path().join("keys.json"), entries.to_string()).unwrap();
    let output = std::process::Command::new(program()).args(["keys", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), entries);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn of_two_who_make_the_first_keys_at_once_one_is_told_that_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("keys.json.lock");
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let create = || {
        let mut keys = std::process::Command::new(program());
        keys.args(["keys", "create", "default", "--data-dir"]).arg(folder.path());
        keys.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let both = [create(), create()];
    let has_come = |process: &std::process::Child| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", process.id())).into_iter().flatten().flatten();
        files.map(|file| std::fs::read_link(file.path())).any(|file| file.is_ok_and(|file| file == lock))
    };
    until(async || both.iter().all(has_come)).await;
    drop(held);
    let outputs = both.map(|process| process.wait_with_output().unwrap());
    let (made, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
    let said: Vec<_> = refused.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
    assert!(made.len() == 1 && said.len() == 1 && said[0].contains("project: `default` has keys already"), "{said:?}");
}
