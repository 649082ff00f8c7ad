//! Every channel against a receiver that speaks its protocol, and receivers that misbehave.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{World, ask, many, write};
use crate::harness::receiver::{MailServer, Reaction, Received};
use crate::harness::{PATIENCE, POLL, eventually};

pub(super) const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The signature that a receiver with this secret computes by itself.
pub(super) fn signature(received: &Received, secret: &str) -> String {
    let text = format!("{}.{}.{}", received.header("webhook-id"), received.header("webhook-timestamp"), received.text);
    let script = "import sys,hmac,hashlib,base64;print('v1,'+base64.b64encode(hmac.new(base64.b64decode(sys.argv[1]),sys.stdin.buffer.read(),hashlib.sha256).digest()).decode())";
    let mut child = std::process::Command::new("python3")
        .args(["-c", script, secret])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn every_channel_is_told_in_its_own_words_and_one_that_is_broken_stops_no_other() {
    let mail = MailServer::start().await;
    let channels = format!(
        r#"
        [channels.slack]
        kind = "slack"
        url = "{{url}}/slack"
        [channels.pager]
        kind = "pagerduty"
        url = "{{url}}/pager"
        routing_key = "env:HOOK_SECRET"
        [channels.manager]
        kind = "alertmanager"
        url = "{{url}}/api/v2/alerts"
        [channels.broken]
        kind = "template"
        url = "{{url}}/broken"
        template = '{{{{ lines.of.nothing() }}}}'
        [channels.mail]
        kind = "email"
        url = "{}"
        from = "pulse <pulse@example.com>"
        to = ["late@example.com", "ada@example.com", "gone@example.com", "bob@example.com"]
        [channels.alive]
        kind = "webhook"
        url = "{{url}}/alive"
        heartbeat = "1s"
        "#,
        mail.url()
    );
    // Those that the README offers, as they stand there.
    let readme = include_str!("../../../README.md");
    let offered = readme.split("```").find(|block| block.contains("[channels.discord]")).unwrap().trim_start_matches("toml");
    let offered = offered.replace("env:DISCORD_URL", "{url}/discord").replace("env:TEAMS_URL", "{url}/teams");
    let often = ("PULSE__ALERTS__REPEAT_EVERY", "1s".to_owned());
    let mut world = World::start(&(channels + &offered), &[often]).await;
    let mut rule = many("signup", &["hook", "slack", "pager", "manager", "discord", "teams", "broken", "mail"]);
    rule["name"] = json!("<!channel> & signups");
    rule["severity"] = json!("critical");
    world.put("signups", &rule).await;
    world.judged("signups").await;
    let ends = |told: &Received| told.body[0]["endsAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for number in [3, 1] {
        world.send("signup", number).await;
        world.pass(60);
        world.judged("signups").await;
        if number == 3 {
            // It forgets: told once that it goes on, and again before that is over.
            let going = world.receiver.wait("/api/v2/alerts", 3).await;
            assert!(going.iter().all(|told| ends(told).as_millisecond() > world.now_ms()), "{going:#?}");
            assert!(ends(&going[2]) > ends(&going[0]), "{going:#?}");
        }
    }
    let hooks = world.receiver.wait("/hook", 2).await;
    assert!(hooks.iter().all(|hook| hook.header("webhook-signature") == signature(hook, SECRET)), "{hooks:#?}");
    assert_eq!((&hooks[0].body["version"], &hooks[0].body["alerts"][0]["labels"]["severity"]), (&json!("4"), &json!("critical")));

    let slack = world.receiver.wait("/slack", 2).await;
    assert!(slack[0].body["text"].as_str().unwrap().contains("&lt;!channel&gt; &amp; signups"), "{slack:#?}");
    assert!(slack[0].body["blocks"].as_array().unwrap().len() <= 50);

    let pager = world.receiver.wait("/pager", 2).await;
    let actions: Vec<&Value> = pager.iter().map(|event| &event.body["event_action"]).collect();
    assert_eq!((actions, &pager[0].body["dedup_key"]), (vec![&json!("trigger"), &json!("resolve")], &pager[1].body["dedup_key"]));
    assert_eq!(pager[0].body["payload"]["severity"], "critical");

    // The one notice whose end lies before that of the first is that of its end.
    let manager = || world.receiver.at("/api/v2/alerts");
    let over = || manager().iter().filter(|told| ends(told) < ends(&manager()[0])).count();
    let waiting = async {
        while over() == 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("Alertmanager is not told of the end");
    assert!(manager().iter().all(|told| told.body[0]["labels"]["alertname"] == "<!channel> & signups"));
    // Nobody says afterwards that it goes on, while what is told each second goes on being told.
    let seconds = async |number: usize| world.receiver.wait("/alive", world.receiver.at("/alive").len() + number).await;
    seconds(1).await;
    let told = manager().len();
    seconds(3).await;
    assert_eq!((manager().len(), over()), (told, 1));

    let discord = world.receiver.wait("/discord", 2).await;
    assert!(discord[1].body["content"].as_str().unwrap().starts_with("[resolved] <!channel> & signups\n"), "{discord:#?}");
    assert_eq!(discord[1].body["allowed_mentions"], json!({"parse": []}));
    let teams = world.receiver.wait("/teams", 2).await;
    let card = &teams[0].body["attachments"][0]["content"]["body"];
    assert!(card[0]["text"] == "[firing] <!channel> & signups" && card[1]["text"].as_str().unwrap().contains("firing: 3"), "{teams:#?}");
    assert!(world.receiver.wait("/broken", 2).await[0].text.contains("signups"), "the plain notice");

    // To each of those whom the server knows, and once.
    let mails = mail.wait(6).await;
    assert_eq!(mails.len(), 6, "{mails:#?}");
    let header = |mail: &String, name: &str| mail.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(header(&mails[0], "In-Reply-To:"), header(&mails[5], "In-Reply-To:"), "one thread: {mails:#?}");
    assert!(mails[0].contains("bob@example.com") && header(&mails[0], "Subject:").contains("firing"), "{mails:#?}");

    assert!(world.receiver.wait("/alive", 2).await.iter().all(|alive| alive.kind() == "heartbeat"));
    for id in ["hook", "slack", "pager", "manager", "mail"] {
        let (status, tried) = ask(world.http(), Method::POST, &format!("/v1/channels/{id}/test"), &Value::Null).await;
        let outcome = if id == "mail" { "partly_delivered" } else { "delivered" };
        assert_eq!((status, &tried["outcome"]), (StatusCode::OK, &json!(outcome)), "{tried}");
    }
    // That one of its addresses gets none is seen.
    let why = "the mail server refuses for good: gone@example.com";
    let refused = async |world: &World| {
        let failed = world.http().get("/v1/channels/mail").await.1["failed"].clone();
        (failed["kind"].clone(), failed["outcome"].clone(), failed["why"].clone())
    };
    eventually(async || refused(&world).await, (json!("resolved"), json!("partly_delivered"), json!(why))).await;
    let history = world.history("signups").await;
    let mails = history["history"].as_array().unwrap().iter().filter(|entry| entry["channel"] == "mail");
    assert!(mails.clone().count() == 2 && mails.clone().all(|mail| mail["why"] == why), "{history:#}");
}

#[tokio::test]
async fn a_receiver_that_misbehaves_is_tried_again_under_the_same_id_and_never_followed() {
    let mut world = World::start("", &[]).await;
    for (id, kind) in [("a", "a"), ("b", "b"), ("c", "c")] {
        world.put(id, &many(kind, &["hook"])).await;
        world.judged(id).await;
    }
    let http_500 = Reaction::Status(500, "");
    let limited = Reaction::Status(429, "retry-after: 2\r\n");
    world.receiver.react([http_500.clone(), Reaction::Reset, http_500, limited, Reaction::Silence, Reaction::Endless]);
    world.send("a", 3).await;
    world.pass(60);
    world.judged("a").await;
    let tried = world.receiver.wait("/hook", 6).await;
    let ids: BTreeSet<&str> = tried.iter().map(|tried| tried.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "{tried:#?}");

    // What redirects is not followed, wherever it points.
    world.receiver.react([Reaction::Status(307, "location: http://169.254.169.254/latest\r\n")]);
    let before = world.hooks().len();
    world.pass(60);
    world.receiver.wait("/hook", before + 1).await;
    world.entry("a", |entry| entry["event"] == "notice" && entry["outcome"] == "refused").await;

    // 410: not again until the channel takes a test or is written anew.
    // All of this takes its time: each rule has a minute of its own.
    world.begin_minute();
    world.receiver.react([Reaction::Status(410, "")]);
    world.send("b", 3).await;
    world.pass(60);
    world.judged("b").await;
    world.entry("b", |entry| entry["event"] == "notice" && entry["outcome"] == "gone").await;
    world.begin_minute();
    let before = world.hooks().len();
    world.send("c", 3).await;
    world.pass(60);
    world.judged("c").await;
    world.entry("c", |entry| entry["event"] == "notice" && entry["outcome"] == "refused").await;
    assert_eq!(world.hooks().len(), before);
    let channel = world.http().get("/v1/channels/hook").await.1;
    assert_eq!((&channel["switched_off"], &channel["of_file"]), (&json!(true), &json!(true)));
    world.receiver.react([Reaction::Status(410, "")]);
    let (_, tried) = ask(world.http(), Method::POST, "/v1/channels/hook/test", &Value::Null).await;
    assert_eq!((&tried["outcome"], &tried["switched_off"]), (&json!("gone"), &json!(true)), "{tried}");
    // Written anew with the same words: it is told again.
    let text = std::fs::read_to_string(world.files.path().join("test.toml")).unwrap();
    write(world.files.path(), &format!("{text}# it is mended\n"));
    let on = async {
        while world.http().get("/v1/channels/hook").await.1["switched_off"] != false {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, on).await.expect("it stays switched off");
    world.until_read().await;
    let before = world.hooks().len();
    world.pass(60);
    world.judged("c").await;
    assert_eq!(world.receiver.wait("/hook", before + 1).await[before].kind(), "resolved");
}

#[tokio::test]
async fn a_channel_of_a_file_that_answered_410_is_told_again_once_it_takes_a_test() {
    let mut world = World::start("", &[]).await;
    world.put("a", &many("a", &["hook"])).await;
    world.judged("a").await;
    let is_off = async |world: &World| world.http().get("/v1/channels/hook").await.1["switched_off"] == true;
    // Off by an alert that fires, off again by its end.
    for (number, kind) in [(3, "firing"), (1, "resolved")] {
        world.receiver.react([Reaction::Status(410, "")]);
        let before = world.hooks().len();
        world.begin_minute();
        world.send("a", number).await;
        world.pass(60);
        world.judged("a").await;
        assert_eq!(world.receiver.wait("/hook", before + 1).await[before].kind(), kind);
        let off = async {
            while !is_off(&world).await {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, off).await.expect("it was not switched off");
        let (status, tried) = ask(world.http(), Method::POST, "/v1/channels/hook/test", &Value::Null).await;
        assert_eq!((status, &tried["outcome"], &tried["switched_off"]), (StatusCode::OK, &json!("delivered"), &json!(false)), "{tried}");
        assert!(!is_off(&world).await);
        world.until_read().await;
    }
    let before = world.hooks().len();
    world.send("a", 3).await;
    world.pass(60);
    world.judged("a").await;
    assert_eq!(world.receiver.wait("/hook", before + 1).await[before].kind(), "firing");
}

#[tokio::test]
async fn a_rule_says_which_of_its_channels_are_not_there() {
    let filed = "[alerts.filed]\nreport = 'lag'\ninterval = 'minute'\ncondition = {above = 60}\nchannels = ['hook', 'hok', 'mine']\n";
    let world = World::start(filed, &[]).await;
    let mine = json!({"kind": "webhook", "url": "https://hooks.example.com/x"});
    let put = async || assert_eq!(ask(world.http(), Method::PUT, "/v1/channels/mine", &mine).await.0, StatusCode::OK);
    let missing = async |id: &str| {
        let rule = world.http().get(&format!("/v1/alerts/{id}")).await.1;
        let all = world.http().get("/v1/alerts").await.1;
        let listed = all["alerts"].as_array().unwrap().iter().find(|listed| listed["id"] == id).unwrap().clone();
        assert_eq!(listed["missing_channels"], rule["missing_channels"]);
        rule["missing_channels"].clone()
    };
    put().await;
    world.put("loud", &many("loud", &["hook", "mine"])).await;
    assert_eq!((missing("loud").await, missing("filed").await), (json!([]), json!(["hok"])));
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/channels/mine", &Value::Null).await.0, StatusCode::OK);
    assert_eq!((missing("loud").await, missing("filed").await), (json!(["mine"]), json!(["hok", "mine"])));
    put().await;
    assert_eq!((missing("loud").await, missing("filed").await), (json!([]), json!(["hok"])));
}

#[tokio::test]
async fn a_heartbeat_that_is_answered_410_switches_its_channel_off() {
    let world = World::start("[channels.beat]\nkind = 'webhook'\nurl = '{url}/beat'\nheartbeat = '1s'\n", &[]).await;
    world.receiver.wait("/beat", 1).await;
    world.receiver.react([Reaction::Status(410, "")]);
    let off = async {
        while world.http().get("/v1/channels/beat").await.1["switched_off"] != true {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, off).await.expect("it goes on");
}
