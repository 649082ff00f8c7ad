//! The embedded engine: who may ask it, who can read what it writes, and what happens when it falls silent.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper::StatusCode;
use pulse::clickhouse::engine::{EngineConfig, find_library};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{PATIENCE, POLL, Pulse, program, signal};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_pulse_is_let_into_the_engine_and_no_page_of_a_browser() {
    let pulse = Pulse::start().await;
    let keys = pulse.data_dir().join("keys.json").display().to_string();
    let steals = format!("SELECT * FROM file('{keys}', LineAsString)");
    let named = |name: &str| format!("X-ClickHouse-User: {name}");
    let (_, password) = pulse.engine_login("pulse_writer");
    let strangers: [&[&str]; 8] = [
        &[],
        &["-u", "default:"],
        &["-H", &named("default")],
        &["-H", &named("default"), "-H", &named("pulse_writer")],
        &["-H", &named("pulse_writer"), "-H", &named("default")],
        &["-H", &named("pulse_writer")],
        &["-H", &named("pulse_writer"), "-u", "default:"],
        &["-H", &named("a_pulse_writer"), "-H", &password],
    ];
    let origin = ["-H", "Origin: https://shop.example", "-D", "-"];
    for stranger in strangers {
        for path in ["/", "/?add_http_cors_header=1", "/?user=default", "/?user=default&add_http_cors_header=1", "/ping", "/play"] {
            for statement in ["SELECT 'let in'", &steals] {
                let said = pulse.ask_engine(path, &[&origin, stranger, &["-d", statement]].concat()).unwrap().to_lowercase();
                assert!(said.starts_with("http/1.1 403"), "{path} {stranger:?}: {said}");
                assert!(!said.contains("access-control-allow") && !said.contains("write_key"), "{path} {stranger:?}: {said}");
            }
            let preflight = pulse.ask_engine(path, &[&origin, stranger, &["-X", "OPTIONS"]].concat()).unwrap().to_lowercase();
            assert!(!preflight.contains("access-control-allow"), "{path} {stranger:?}: {preflight}");
        }
    }
    let (user, password) = pulse.engine_login("pulse_writer");
    let own = ["-H", user.as_str(), "-H", password.as_str(), "-d", "SELECT 'let in'"];
    let said = pulse.ask_engine("/?add_http_cors_header=1", &[&origin[..], &own].concat()).unwrap().to_lowercase();
    assert!(said.starts_with("http/1.1 200") && said.ends_with("let in") && !said.contains("access-control-allow"), "{said}");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_waits_for_an_engine_that_does_not_answer_in_time() {
    // Longer than it is waited for whether the engine is there: as on a busy machine nothing of the schema is made by then.
    let pulse = Pulse::start_with(&[("FAILPOINTS", "migrate.asked=1*sleep(5000)->off")]).await;
    assert_eq!(pulse.http.capture(&json!({"type": "first", "anonymousId": "ada"})).await.0, StatusCode::OK);
    pulse.http.settled().await;
    assert_eq!(pulse.sql("SELECT count() FROM pulse.events WHERE type = 'first' FORMAT TSV"), "1");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_pulse_can_read_no_file_ask_no_address_and_see_no_other_database() {
    let pulse = Pulse::start().await;
    for name in ["pulse_reader", "pulse_writer", "pulse_migrator"] {
        let (user, password) = pulse.engine_login(name);
        let ask = |statement: &str| pulse.ask_engine("/", &["--fail-with-body", "-H", &user, "-H", &password, "-d", statement]);
        assert_eq!(ask("SELECT count() FROM pulse.events"), Ok("0".to_owned()), "{name}");
        for statement in [
            "SELECT * FROM file('/etc/hostname', LineAsString)",
            "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
            "SELECT * FROM remote('127.0.0.1:1', system.one)",
            "INSERT INTO FUNCTION file('stolen', TSV, 'a String') VALUES ('x')",
            "CREATE DATABASE other",
            "CREATE TABLE default.other (a UInt8) ENGINE = Memory",
            "SELECT * FROM system.users",
            "SYSTEM SHUTDOWN",
        ] {
            let refused = ask(statement).expect_err(statement);
            assert!(refused.contains("Code: 497") || refused.contains("Code: 164"), "{name}: {statement}: {refused}");
        }
    }
    assert!(pulse.stop().await);
}

/// Every file and folder below, but links, and what others than its owner may do with it.
fn modes_below(folder: &Path, modes: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        // The engine removes parts meanwhile.
        let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_symlink() {
            continue;
        }
        modes.push((entry.path().display().to_string(), metadata.permissions().mode() & 0o077));
        if metadata.is_dir() && entry.path().exists() {
            modes_below(&entry.path(), modes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pulse_and_its_engine_write_can_be_read_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let pulse = Pulse::start_in::<&str>(dir, &[]).await;
    assert_eq!(pulse.http.capture(&json!({"type": "view", "anonymousId": "ada"})).await.0, StatusCode::OK);
    pulse.http.settled().await;
    let mut modes = Vec::new();
    modes_below(pulse.data_dir(), &mut modes);
    // The test's own.
    modes.retain(|(path, _)| !path.ends_with("/test.log"));
    assert!(modes.iter().any(|(path, _)| path.ends_with("data.bin")) && modes.iter().any(|(path, _)| path.ends_with(".seg")));
    let open: Vec<_> = modes.iter().filter(|(_, mode)| *mode != 0).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_falls_silent_is_started_again_on_its_own_port() {
    let pulse = Pulse::start_with(&[("PULSE__CLICKHOUSE__ENGINE__MAX_SILENCE", "4s")]).await;
    assert_eq!(pulse.http.capture(&json!({"type": "view", "anonymousId": "ada"})).await.0, StatusCode::OK);
    pulse.http.settled().await;
    let frozen = pulse.engine_pid();
    signal(frozen, Signal::STOP);
    assert_eq!(pulse.http.capture(&json!({"type": "view", "anonymousId": "ada"})).await.0, StatusCode::OK);
    let replaced = async {
        while std::fs::exists(format!("/proc/{frozen}")).unwrap() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("the engine is still waited for");
    assert_eq!(pulse.http.settled().await["stored"], 2);
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_falls_silent_under_a_replay_is_started_again_and_the_replay_ends() {
    let mut pulse = Pulse::start().await;
    for number in 0..10 {
        let event =
            |at: usize| json!({"eventId": uuid::Uuid::new_v4().to_string(), "type": "view", "anonymousId": format!("v{number} {at}")});
        assert_eq!(pulse.http.capture(&json!((0..50).map(event).collect::<Vec<_>>())).await.0, StatusCode::OK);
    }
    let books = pulse.http.settled().await;
    pulse.end().await;

    let mut command = tokio::process::Command::new(program());
    command.args(["replay", "--json", "--to-table", "again", "--swap", "--data-dir"]).arg(pulse.data_dir());
    // Once it has made its tables: it finds the engine silent and back again, and nothing of it is under way.
    command.env("PULSE__CLICKHOUSE__ENGINE__MAX_SILENCE", "4s").env("FAILPOINTS", "swap.copied=1*sleep(20000)->off");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    pulse.child = command.spawn().unwrap();
    let has_table = || {
        let (user, password) = pulse.engine_login("pulse_migrator");
        let asked = "SELECT count() FROM system.tables WHERE name = 'again'";
        pulse.ask_engine("/", &["--fail-with-body", "-H", &user, "-H", &password, "-d", asked]) == Ok("1".to_owned())
    };
    let made = async {
        while !has_table() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the replay makes no table");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let frozen = pulse.engine_pid();
    signal(frozen, Signal::STOP);
    let replay = std::mem::replace(&mut pulse.child, tokio::process::Command::new("true").spawn().unwrap());
    let output = tokio::time::timeout(PATIENCE, replay.wait_with_output()).await.expect("the replay waits for ever").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!std::fs::exists(format!("/proc/{frozen}")).unwrap(), "it was never replaced");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["read"], &summary["stored"]), (&json!(500), &json!(500)), "{summary}");

    pulse.restart().await;
    assert_eq!(pulse.http.settled().await, books);
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_engine_is_away_nobody_takes_its_port() {
    let pulse = Pulse::start().await;
    let port: u16 = pulse.engine_port();
    signal(pulse.engine_pid(), Signal::KILL);
    // Bound by pulse all the time: it does not matter whether the engine is back by now.
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect_err("the port was free");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    pulse.http.settled().await;
    assert!(pulse.stop().await);
}

/// Its parent was killed before it could ask to be told: the next pulse's engine would find the data taken, and end.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_parent_is_gone_touches_no_data() {
    let mut pulse = Pulse::start().await;
    let folder = pulse.data_dir().join("clickhouse");
    pulse.end().await;
    let data = folder.join("orphan");
    let (lifeline, parent) = std::io::pipe().unwrap();
    drop(parent);
    let ended = std::process::Command::new(program())
        .arg("engine")
        .arg(find_library(&EngineConfig::default()).unwrap())
        .arg("--config-file")
        .arg(folder.join("config.xml"))
        .arg("--path")
        .arg(&data)
        .args(["--query", "SELECT 1"])
        .stdin(lifeline)
        .status()
        .unwrap();
    assert!(ended.success() && !data.exists());
    pulse.restart().await;
    assert!(pulse.stop().await);
}
