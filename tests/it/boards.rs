//! Boards, notes and short links: what is saved is what was sent, for one project, and no write is lost to another.

use hyper::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use pulse::event::ids::ProjectId;
use pulse::store::tables::saved::{self, Saved, Shelf};
use serde_json::{Value, json};

use crate::harness::engine::alone;
use crate::harness::{Answer, Http, POLL, Pulse, program};

const SHOP: &str = "/v1/boards/shop";

struct Sent<'a> {
    body: Value,
    condition: Option<(HeaderName, &'a str)>,
}

impl Sent<'_> {
    fn new(body: Value) -> Self {
        Self { body, condition: None }
    }
}

async fn send(http: &Http, method: Method, path: &str, sent: Sent<'_>) -> Answer {
    let body = if sent.body.is_null() { String::new() } else { sent.body.to_string() };
    let mut request = http.request(method, path, &http.read_key, body);
    if let Some((name, value)) = sent.condition {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    http.send(request).await.unwrap()
}

fn trend(event: &str) -> Value {
    json!({"title": event, "report": "trends", "question": {"from": "-7d/d", "series": [{"event": event}]}, "view": "bars", "width": 6})
}

fn board(tiles: Value) -> Value {
    json!({"title": "Shop <script>alert('x')</script>", "description": "it's \\ \"x\"\n{p0:String} ü", "tiles": tiles})
}

/// Another project of the same instance, once its keys are known.
pub(crate) async fn other_project(pulse: &Pulse) -> Http {
    let mut create = std::process::Command::new(program());
    let created = create.args(["keys", "create", "other"]).env("PULSE__DATA_DIR", pulse.data_dir()).output().unwrap();
    let keys: Value = serde_json::from_slice(&created.stdout).unwrap();
    let key = |name: &str| keys[0][name].as_str().unwrap().to_owned();
    let mut other = pulse.http.clone();
    (other.read_key, other.write_key) = (key("read_key"), key("write_key"));
    while other.get("/v1/session").await.0 != StatusCode::OK {
        tokio::time::sleep(POLL).await;
    }
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_is_what_was_saved_and_no_write_overwrites_another_unseen() {
    let mut pulse = Pulse::start().await;
    let http = &pulse.http;
    let first = board(json!([trend("view"), {"report": "funnel", "question": {"from": "-7d", "steps": [{"event": "a"}, {"event": "b"}]}}]));
    let create = |body: Value| Sent { body, condition: Some((IF_NONE_MATCH, "*")) };
    assert_eq!(send(http, Method::PUT, SHOP, create(first.clone())).await, (StatusCode::OK, json!({"id": "shop", "version": 1})));
    assert_eq!(send(http, Method::PUT, SHOP, create(first.clone())).await.0, StatusCode::PRECONDITION_FAILED);
    let by = http.get("/v1/session").await.1["key"]["name"].clone();
    let mut shown = first.clone();
    shown.as_object_mut().unwrap().extend([
        ("id".to_owned(), json!("shop")),
        ("version".to_owned(), json!(1)),
        ("file".to_owned(), Value::Null),
        ("by".to_owned(), by.clone()),
    ]);
    assert_eq!(http.get(SHOP).await, (StatusCode::OK, shown.clone()));
    let listed = json!({"id": "shop", "title": first["title"], "version": 1, "file": null, "by": by});
    assert_eq!(http.get("/v1/boards").await.1, json!({"boards": [listed]}));

    // What is wrong is named, with its place, and nothing is saved of it.
    let bad = |tile: Value| board(json!([trend("view"), tile]));
    let cases = [
        (bad(json!({"report": "trends", "question": {"from": "-7d", "series": []}})), "invalid_series", "tiles[1]"),
        (bad(json!({"report": "trends", "question": {"from": "-7d", "serie": []}})), "unknown_key", "tiles[1]"),
        (
            bad(json!({"report": "trends", "question": {"from": "-7d", "series": [{"event": "a", "filters": [{"field": "contry"}]}]}})),
            "invalid_field",
            "tiles[1]",
        ),
        (bad(json!({"report": "rumours", "question": {}})), "unknown_report", "tiles[1]"),
        (bad(json!({"report": "ledger", "question": {}})), "unknown_report", "tiles[1]"),
        (
            bad(json!({"report": "trends", "question": {"from": "-7d", "series": [{"event": "a"}], "filters": [{"cohort": "none"}]}})),
            "unknown_cohort",
            "tiles[1]",
        ),
        (json!({"title": "x", "owner": "eve", "project_id": 7, "version": 9}), "unknown_key", "unknown key"),
    ];
    for (body, code, place) in cases {
        let (status, answer) = send(http, Method::PUT, SHOP, Sent::new(body.clone())).await;
        assert!(status == 400 && answer["code"] == code && answer["message"].as_str().unwrap().contains(place), "{body}: {answer}");
    }
    let huge = board(json!([{"report": "trends", "question": {"x": "x".repeat(300_000)}}]));
    assert_eq!(send(http, Method::PUT, SHOP, Sent::new(huge)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(http, Method::PUT, "/v1/boards/a%2Fb", Sent::new(first.clone())).await.1["code"], "invalid_board");
    assert_eq!(send(http, Method::POST, "/v1/boards", Sent::new(first.clone())).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(http.get(SHOP).await.1, shown, "nothing of it was saved");

    // Of those who have seen the same version one writes the next.
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let http = http.clone();
        writers.spawn(async move {
            let sent = Sent { body: board(json!([trend(&format!("event {number}"))])), condition: Some((IF_MATCH, "\"1\"")) };
            (number, send(&http, Method::PUT, SHOP, sent).await.0)
        });
    }
    let ended = writers.join_all().await;
    let won: Vec<i32> = ended.iter().filter(|(_, status)| *status == StatusCode::OK).map(|(number, _)| *number).collect();
    assert_eq!(won.len(), 1, "{ended:?}");
    assert!(ended.iter().all(|(_, status)| [StatusCode::OK, StatusCode::PRECONDITION_FAILED].contains(status)), "{ended:?}");

    // Another project sees nothing of it, and has one of the same name.
    let other = other_project(&pulse).await;
    assert_eq!(other.get("/v1/boards").await.1, json!({"boards": []}));
    let unknown = other.get(SHOP).await;
    assert_eq!((unknown.0, &unknown.1["message"]), (StatusCode::NOT_FOUND, &json!("there is no board `shop`")));
    assert_eq!(send(&other, Method::DELETE, SHOP, Sent::new(Value::Null)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(send(&other, Method::PUT, SHOP, Sent::new(board(json!([])))).await.1["version"], 1);

    pulse.end().await;
    pulse.restart().await;
    let http = &pulse.http;
    let (_, kept) = http.get(SHOP).await;
    assert_eq!((&kept["version"], &kept["tiles"]), (&json!(2), &json!([trend(&format!("event {}", won[0]))])), "it survives");
    assert_eq!(send(http, Method::DELETE, SHOP, Sent { body: Value::Null, condition: Some((IF_MATCH, "1")) }).await.0, 412);
    assert_eq!(send(http, Method::DELETE, SHOP, Sent::new(Value::Null)).await.0, StatusCode::OK);
    assert_eq!(http.get(SHOP).await.0, StatusCode::NOT_FOUND);
    assert_eq!(http.get("/v1/boards").await.1, json!({"boards": []}));
}

#[tokio::test]
async fn notes_are_found_by_time_and_a_script_that_deploys_need_not_be_able_to_read() {
    let pulse = Pulse::start().await;
    let http = &pulse.http;
    let keys: Value = serde_json::from_str(&std::fs::read_to_string(pulse.data_dir().join("keys.json")).unwrap()).unwrap();
    let mut script = http.clone();
    script.read_key = keys[0]["import_key"].as_str().unwrap().to_owned();
    let release = json!({"at": "2026-01-02T10:00:00.000Z", "text": "release 4.2 <b>", "kind": "release"});
    let (status, note) = send(&script, Method::POST, "/v1/notes", Sent::new(release.clone())).await;
    assert_eq!(
        (status, &note["at"], &note["text"], &note["kind"]),
        (StatusCode::CREATED, &release["at"], &release["text"], &json!("release"))
    );
    assert_eq!(send(&script, Method::POST, "/v1/notes", Sent::new(release.clone())).await.1, note, "sent again it is the same");
    let (_, now) = send(http, Method::POST, "/v1/notes", Sent::new(json!({"text": "now"}))).await;
    assert_eq!(now["kind"], "note");
    // Who wrote a note first is who wrote it.
    assert!(note["by"].as_str().is_some_and(|by| by.starts_with("import ")), "{note}");
    assert_eq!(now["by"], http.get("/v1/session").await.1["key"]["name"]);
    assert_eq!(send(http, Method::POST, "/v1/notes", Sent::new(release.clone())).await.1, note);

    let notes = async |query: &str| http.get(&format!("/v1/notes{query}")).await.1;
    assert_eq!(notes("").await, json!({"notes": [note, now], "next": null}));
    assert_eq!(notes("?from=2026-01-02&to=2026-01-03").await["notes"], json!([note]));
    assert_eq!(notes("?from=2026-01-02T10:00:00Z&to=2026-01-02T10:00:00.001Z").await["notes"], json!([note]));
    assert_eq!(notes("?from=2026-01-02T09:00:00Z&to=2026-01-02T10:00:00Z").await["notes"], json!([]));
    assert_eq!(notes(&format!("?cursor={}", note["id"].as_str().unwrap())).await["notes"], json!([now]));
    assert_eq!(notes("?from=soon").await["code"], "invalid_range");

    assert_eq!(script.get("/v1/notes").await.0, StatusCode::FORBIDDEN, "it writes and does not read");
    let with_write_key = http.request(Method::POST, "/v1/notes", &http.write_key, release.to_string());
    assert_eq!(http.send(with_write_key).await.unwrap().0, StatusCode::FORBIDDEN, "that key stands in every page");
    let path = format!("/v1/notes/{}", note["id"].as_str().unwrap());
    let other = other_project(&pulse).await;
    assert_eq!(other.get("/v1/notes").await.1["notes"], json!([]));
    assert_eq!(send(&other, Method::DELETE, &path, Sent::new(Value::Null)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(send(&script, Method::DELETE, &path, Sent::new(Value::Null)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send(http, Method::DELETE, &path, Sent::new(Value::Null)).await.0, StatusCode::OK);
    assert_eq!(send(http, Method::DELETE, &path, Sent::new(Value::Null)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(notes("").await["notes"], json!([now]));
    assert_eq!(send(http, Method::POST, "/v1/notes", Sent::new(json!({"text": "x".repeat(9_000)}))).await.0, 413);
}

#[tokio::test]
async fn an_address_has_one_short_link_in_its_project() {
    let pulse = Pulse::start().await;
    let http = &pulse.http;
    let other = other_project(&pulse).await;
    let address = json!({"address": "/trends?b=country"});
    let (status, link) = send(http, Method::POST, "/v1/links", Sent::new(address.clone())).await;
    assert_eq!((status, &link["address"]), (StatusCode::CREATED, &address["address"]));
    assert_eq!(send(http, Method::POST, "/v1/links", Sent::new(address)).await.1, link);
    let path = format!("/v1/links/{}", link["id"].as_str().unwrap());
    assert_eq!(http.get(&path).await, (StatusCode::OK, link));
    assert_eq!(other.get(&path).await.1["code"], "unknown_link");
    assert_eq!(send(http, Method::POST, "/v1/links", Sent::new(json!({"address": "//evil.example"}))).await.1["code"], "invalid_link");
}

#[tokio::test]
async fn where_there_is_no_room_the_oldest_of_a_shelf_go_and_nothing_is_left_of_them() {
    let (_folder, _engine, store) = alone().await;
    let shelf = |project| Shelf { project: ProjectId(project), kind: "link" };
    let put = async |project, name: &str, body: Value| {
        let saved = Saved { name: name.to_owned(), version: 1, body: body.to_string() };
        assert!(saved::put(&store, shelf(project), &saved).await.unwrap(), "{name}");
    };
    for (name, body) in [("new", json!({"at": 1_800_000_000_000_u64})), ("old", json!({"at": 9})), ("of-before", json!({}))] {
        put(7, name, body).await;
    }
    put(8, "of-others", json!({})).await;
    saved::drop_oldest(&store, shelf(7), 2).await.unwrap();
    let held = saved::all(&store, shelf(7)).await.unwrap();
    assert_eq!(held.iter().map(|saved| &*saved.name).collect::<Vec<_>>(), ["new"]);
    let held = saved::held(&store, shelf(7)).await.unwrap();
    assert_eq!((held.live, held.names), (1, 1), "nothing is left of what went");
    assert_eq!(saved::held(&store, shelf(8)).await.unwrap().live, 1);
    saved::drop_oldest(&store, shelf(9), 2).await.unwrap();
}
