//! Files that round-trip: what is saved in a project goes into files, into another project, and is the same there.

use std::path::Path;
use std::process::{Command, Output};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::boards::other_project;
use crate::harness::{Http, Pulse, program};

const HOOK: &str = "https://93.184.216.34/hook?token=s3cret";

struct Shell<'a> {
    pulse: &'a Pulse,
    address: Option<&'a str>,
}

impl Shell<'_> {
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(program());
        command.args(arguments).env("PULSE__DATA_DIR", self.pulse.data_dir());
        if let Some(address) = self.address {
            command.env("PULSE_CHANNEL_HOOK_URL", address);
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.contains("s3cret"), "no address of a channel is shown: {text}");
        (status.code().unwrap(), text)
    }
}

fn text_of(dir: &Path) -> String {
    let sections = ["alerts", "boards", "channels", "cohorts", "notes"];
    sections.map(|section| std::fs::read_to_string(dir.join(section).with_extension("toml")).unwrap()).concat()
}

async fn save(http: &Http, path: &str, body: &Value) {
    let (status, answer) = http.send(http.request(Method::PUT, path, &http.read_key, body.to_string())).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_a_board_goes_into_another_project_together_with_the_board() {
    let pulse = Pulse::start().await;
    let shell = Shell { pulse: &pulse, address: None };
    let other = other_project(&pulse).await;
    save(&pulse.http, "/v1/boards/shop", &json!({"title": "Shop"})).await;
    let daily = json!({"report": "board", "question": {"board": "shop"}, "interval": "day", "report_at": "09:00"});
    save(&pulse.http, "/v1/alerts/daily", &daily).await;
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().display().to_string();
    assert_eq!(shell.run(&["export-config", &files]).0, 0);
    let (code, told) = shell.run(&["apply", "--plan", &files, "--project", "other"]);
    assert_eq!((code, told.matches("     new  ").count()), (4, 2), "{told}");
    let (code, told) = shell.run(&["apply", &files, "--project", "other"]);
    assert_eq!((code, told.matches("     new  ").count()), (0, 2), "{told}");
    assert_eq!(other.get("/v1/alerts/daily").await.1["rule"]["question"], json!({"board": "shop"}));
    // One that is in no file is still missing.
    std::fs::remove_file(folder.path().join("boards.toml")).unwrap();
    let mut gone = other.request(Method::DELETE, "/v1/boards/shop", &other.read_key, String::new());
    gone.headers_mut().insert("x-pulse-file", hyper::header::HeaderValue::from_static(""));
    assert_eq!(other.send(gone).await.unwrap().0, StatusCode::OK);
    let text = std::fs::read_to_string(folder.path().join("alerts.toml")).unwrap();
    std::fs::write(folder.path().join("alerts.toml"), text.replace("09:00", "10:00")).unwrap();
    let (code, told) = shell.run(&["apply", "--plan", &files, "--project", "other"]);
    assert!(code == 2 && told.contains("alerts.daily: question: there is no board `shop`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_goes_into_files_and_into_another_project_as_it_is() {
    let pulse = Pulse::start().await;
    let (http, shell) = (&pulse.http, Shell { pulse: &pulse, address: Some(HOOK) });
    let other = other_project(&pulse).await;
    save(http, "/v1/cohorts/buyers", &json!({"filters": [{"did": {"event": "buy"}}]})).await;
    save(http, "/v1/channels/hook", &json!({"kind": "webhook", "url": HOOK})).await;
    let question = json!({"from": "-7d/d", "series": [{"event": "view", "name": null}], "filters": [{"cohort": "buyers"}]});
    let tiles = json!([{"title": "Views", "report": "trends", "question": question, "view": {"page": "/trends?a=\"b\"", "odd": [null]}, "width": 6}]);
    save(http, "/v1/boards/shop", &json!({"title": "Shop ü", "description": "it's \\ \"x\"\n", "tiles": tiles})).await;
    let rule = json!({"report": "trends", "question": {"series": [{"event": "x"}]}, "condition": {"below": 1}, "reduce": {"sum": 3}, "channels": ["hook"]});
    save(http, "/v1/alerts/few", &rule).await;
    let note = json!({"at": "2026-01-02T09:00:00Z", "text": "4.2 is out", "kind": "release"});
    let noted = http.send(http.request(Method::POST, "/v1/notes", &http.read_key, note.to_string())).await.unwrap();
    assert_eq!(noted.0, StatusCode::CREATED);

    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (dir("first"), dir("second"));
    let (code, told) = shell.run(&["export-config", &first]);
    assert_eq!((code, told.matches("       1  ").count()), (0, 5), "{told}");
    assert!(!text_of(first.as_ref()).contains("s3cret"));

    // A plan says what is missing, and changes nothing; what is applied is the same, and applied again changes nothing.
    let plan = |files: &str| shell.run(&["apply", "--plan", files, "--project", "other"]);
    let (code, told) = plan(&first);
    assert_eq!((code, told.matches("     new  ").count()), (4, 5), "{told}");
    assert_eq!(other.get("/v1/boards").await.1, json!({"boards": []}));
    let (code, told) = shell.run(&["apply", &first, "--project", "other"]);
    assert_eq!((code, told.matches("     new  ").count()), (0, 5), "{told}");
    let (code, told) = shell.run(&["apply", &first, "--project", "other"]);
    assert_eq!((code, told.matches("as it is  ").count(), told.contains("new")), (0, 4, false), "{told}");
    assert_eq!(other.get("/v1/boards/shop").await.1["version"], 1);
    assert_eq!(shell.run(&["export-config", &second, "--project", "other"]).0, 0);
    assert_eq!(text_of(first.as_ref()), text_of(second.as_ref()));

    // Without its address a channel stays as it is; another one is a change, as is one of a board.
    let without = Shell { pulse: &pulse, address: None };
    let (code, told) = without.run(&["apply", "--plan", &first, "--project", "other"]);
    assert!(code == 0 && told.contains("no `PULSE_CHANNEL_HOOK_URL`: the address that is saved stays"), "{told}");
    let moved = Shell { pulse: &pulse, address: Some("https://93.184.216.34/other") };
    let (code, told) = moved.run(&["apply", "--plan", &first, "--project", "other"]);
    assert!(code == 4 && told.contains("changed  channels.hook: url"), "{told}");
    // What a file says is changed there alone, and says which file that is; a request that says that it is of none changes it.
    let of_file = Path::new(&first).join("boards.toml").display().to_string();
    let shown = other.get("/v1/boards/shop").await.1;
    assert_eq!((&shown["file"], &other.get("/v1/boards").await.1["boards"][0]["file"]), (&json!(of_file), &json!(of_file)));
    assert_eq!(other.get("/v1/alerts/few").await.1["file"], json!(of_file.replace("boards", "alerts")));
    assert_eq!(other.get("/v1/channels/hook").await.1["file"], json!(of_file.replace("boards", "channels")));
    for (path, body) in [
        ("boards/shop", json!({"title": "Mine"})),
        ("cohorts/buyers", json!({"filters": [{"field": "country", "op": "exists"}]})),
        ("alerts/few", rule.clone()),
    ] {
        for method in [Method::PUT, Method::DELETE] {
            let (status, refused) =
                other.send(other.request(method, &format!("/v1/{path}"), &other.read_key, body.to_string())).await.unwrap();
            assert_eq!((status, &refused["code"]), (StatusCode::PRECONDITION_FAILED, &json!("owned_by_file")), "{path}: {refused}");
        }
    }
    let mut write = other.request(Method::PUT, "/v1/boards/shop", &other.read_key, json!({"title": "Mine", "tiles": []}).to_string());
    write.headers_mut().insert("x-pulse-file", hyper::header::HeaderValue::from_static(""));
    assert_eq!(other.send(write).await.unwrap().0, StatusCode::OK);
    save(&other, "/v1/boards/shop", &json!({"title": "Mine", "tiles": []})).await;
    save(&other, "/v1/boards/mine", &json!({"title": "Mine"})).await;
    let (code, told) = plan(&first);
    assert!(
        code == 4 && told.contains("changed  boards.shop: description, tiles, title, file") && told.contains(" no file  boards.mine"),
        "{told}"
    );

    let (code, told) = shell.run(&["apply", "--editable", &first, "--project", "other"]);
    assert!(code == 0 && told.contains("changed  cohorts.buyers: file") && told.contains("changed  boards.shop: "), "{told}");
    assert_eq!(other.get("/v1/boards/shop").await.1["file"], Value::Null);
    assert_eq!(shell.run(&["apply", &first, "--project", "other"]).0, 0);

    // What cannot be saved is named with file, field and value, and then nothing is written.
    let bad = folder.path().join("bad.toml");
    let file = bad.display().to_string();
    let good = "[boards.good]\ntitle = 'good'\n[cohorts.buyers]\nfilters = [{did = {event = 'buys'}}]\n";
    let tile = |question: &str| format!("[[boards.bad.tiles]]\nreport = 'trends'\nquestion = {question}\n[boards.bad]\ntitle = 'x'\n");
    let cases = [
        (tile("{from = '-7d', series = [{event = 'a', filters = [{field = 'contry'}]}]}"), "boards.bad: tiles[0]: "),
        (tile("{from = '-7d', series = [{event = 'a'}], filters = [{cohort = 'none'}]}"), "boards.bad: tiles[0]: "),
        ("[cohorts.bad]\nfilters = []\n".to_owned(), "cohorts.bad: a cohort needs at least one filter"),
        (
            "[alerts.bad]\nreport = 'lag'\ninterval = 'minute'\ncondition = {above = 1}\nchannels = ['no']\n".to_owned(),
            "alerts.bad: channels: there is no channel `no`",
        ),
        ("[channels.bad]\nkind = 'webhook'\nurl = 'http://127.0.0.1/'\n".to_owned(), "channels.bad: url: "),
        (
            "[channels.bad]\nkind = 'pagerduty'\nrouting_key = 'env:HOME'\n".to_owned(),
            "channels.bad: routing_key: only a file of this instance",
        ),
        ("[[notes]]\ntext = 'x'\nat = '-3d'\n".to_owned(), "notes[0]: `at`"),
    ];
    for (text, part) in cases {
        let (good, text) = if text.contains("[cohorts") { ("", text) } else { (good, text) };
        std::fs::write(&bad, format!("{text}{good}")).unwrap();
        let (code, told) = shell.run(&["apply", &file, "--project", "other"]);
        assert!(code == 2 && told.contains(&format!("{file}: {part}")), "{text}: {code} {told}");
        assert_eq!(other.get("/v1/boards/good").await.0, StatusCode::NOT_FOUND, "{text}");
    }
    assert_eq!(other.get("/v1/cohorts/buyers").await.1["version"], 3);

    // The same files are checked and tried on the past.
    assert_eq!(shell.run(&["alerts", "--project", "other", "test", "few"]).0, 0);
    let rules = dir("rules");
    std::fs::create_dir(&rules).unwrap();
    std::fs::copy(Path::new(&first).join("alerts.toml"), Path::new(&rules).join("alerts.toml")).unwrap();
    assert_eq!(shell.run(&["alerts", "check", "--files", &rules]).0, 0);
    let (code, tested) = shell.run(&["alerts", "test", "--files", &rules, "few"]);
    assert!(code == 0 && tested.starts_with("would have fired"), "{tested}");
    std::fs::write(Path::new(&rules).join("alerts.toml"), "[alerts.few]\nreport = 'trends'\nconditions = 1\n").unwrap();
    let (code, refused) = shell.run(&["alerts", "check", "--files", &rules]);
    assert!(code == 2 && refused.contains("unknown field `conditions`"), "{code} {refused}");
}
