//! Alerts: judged when the data is there, told once, whatever breaks meanwhile.
//!
//! Time passes by the clock of pulse alone, which a test sets ahead: no test waits for a minute to be over.

mod again;
mod boards;
mod channels;
mod crowd;
mod faults;
mod fleet;
mod heartbeat;
mod history;
mod kills;
mod live;
mod manager;
mod reports;
mod retries;
mod storm;
mod targets;
mod unusual;
mod wide;

use std::path::Path;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::history::changes;
use crate::harness::clock::Clock;
use crate::harness::receiver::{Reaction, Received, Receiver};
use crate::harness::{Http, PATIENCE, POLL, Pulse};

const MINUTE_MS: i64 = 60_000;

/// A pulse whose clock can be set, its folder of rules, and a receiver of its notices.
struct World {
    pulse: Pulse,
    clock: Clock,
    ahead_s: i64,
    files: TempDir,
    receiver: Receiver,
}

impl World {
    /// With a channel `hook` to the receiver; `more` stands in the file beside it, `{url}` for the address of the receiver.
    async fn start(more: &str, environment: &[(&'static str, String)]) -> Self {
        Self::start_ahead(more, environment, 0).await
    }

    /// The same, by a clock that is this much ahead from the first moment on.
    async fn start_ahead(more: &str, environment: &[(&'static str, String)], ahead_s: i64) -> Self {
        let (clock, receiver, files) = (Clock::new(), Receiver::start().await, tempfile::tempdir().unwrap());
        clock.set_ahead(ahead_s);
        let url = receiver.url("");
        write(
            files.path(),
            &format!("[channels.hook]\nkind = 'webhook'\nurl = '{url}/hook'\nsecret = 'env:HOOK_SECRET'\n{more}").replace("{url}", &url),
        );
        let mut all = clock.environment();
        all.push(("PULSE__ALERTS__FILES", files.path().display().to_string()));
        all.push(("PULSE__ALERTS__REVISE_EVERY", "1s".to_owned()));
        all.push(("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        for (name, value) in environment {
            // What else is loaded in front of the C library is so beside the clock.
            let loaded = all.iter().find(|(own, _)| own == name && *name == "LD_PRELOAD").map(|(_, loaded)| format!("{loaded} {value}"));
            all.push((name, loaded.unwrap_or_else(|| value.clone())));
        }
        let pulse = Pulse::start_with(&all).await;
        let mut world = Self { pulse, clock, ahead_s, files, receiver };
        world.begin_minute();
        world
    }

    /// With a channel `other` beside, and a rule `loud` of which `hook` was told that it fires.
    async fn with_a_rule_that_fires() -> Self {
        let mut world = Self::start("[channels.other]\nkind = 'webhook'\nurl = '{url}/other'\n", &[]).await;
        world.put("loud", &many("loud", &["hook"])).await;
        world.judged("loud").await;
        world.send("loud", 3).await;
        world.pass(60);
        world.receiver.wait("/hook", 1).await;
        world
    }

    fn http(&self) -> &Http {
        &self.pulse.http
    }

    fn now_ms(&self) -> i64 {
        pulse::clock::now_ms() + self.ahead_s * 1_000
    }

    /// Sets the clock ahead.
    fn pass(&mut self, seconds: i64) {
        self.ahead_s += seconds;
        self.clock.set_ahead(self.ahead_s);
    }

    /// Sets it further ahead than pulse looks back for what was loaded just now, once that is seen.
    async fn leap(&mut self, seconds: i64) {
        let (now_ms, question) = (self.now_ms(), json!({"series": [{"event": "none"}], "from": "-1d", "refresh": true}));
        let seen = async {
            loop {
                let (status, answer) = self.http().query("trends", &question).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                let through = answer["meta"]["data_through"].as_str().and_then(|through| through.parse::<jiff::Timestamp>().ok());
                if through.is_some_and(|through| through.as_millisecond() >= now_ms) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("what was sent is not seen");
        self.pass(seconds);
    }

    /// Sets it to the second of a minute from which a test has time.
    fn begin_minute(&mut self) {
        let over_ms = self.now_ms().rem_euclid(MINUTE_MS);
        self.pass((MINUTE_MS - over_ms) / 1_000 + 1);
    }

    /// Sends so many events of a type, now, and waits until they are in the table.
    async fn send(&self, kind: &str, number: usize) {
        let events: Vec<Value> = (0..number).map(|who| json!({"type": kind, "anonymousId": format!("v{who}")})).collect();
        assert_eq!(self.http().capture(&json!({"batch": events})).await.0, StatusCode::OK);
        self.http().settled().await;
    }

    /// Sends an order of this amount, now, and waits until it is in the table.
    async fn order(&self, amount: u32) {
        assert_eq!(self.http().capture(&amounting("order", amount)).await.0, StatusCode::OK);
        self.http().settled().await;
    }

    /// Saves a rule.
    async fn put(&self, id: &str, rule: &Value) {
        let (status, answer) = ask(self.http(), Method::PUT, &format!("/v1/alerts/{id}"), rule).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// Waits until a rule is judged up to the last minute that is over.
    async fn judged(&self, id: &str) -> Value {
        let minute = self.now_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
        let through = jiff::Timestamp::from_millisecond(minute).unwrap().to_string();
        self.until(id, |rule| rule["judged_through"].as_str() >= Some(&through)).await
    }

    /// Waits until the owner goes by what was said of rules: it reads that together with the rules, and has judged one that was saved after it.
    async fn until_read(&self) {
        let later = format!("later-{}", pulse::clock::now_ms());
        self.put(&later, &many("none", &[])).await;
        self.judged(&later).await;
    }

    /// Waits until something holds of a rule.
    async fn until(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waiting = async {
            loop {
                last = self.http().get(&format!("/v1/alerts/{id}")).await.1;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("{id} did not come to that: {last:#}");
        }
        last
    }

    fn hooks(&self) -> Vec<Received> {
        self.receiver.at("/hook")
    }
}

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("test.toml"), text).unwrap();
}

async fn ask(http: &Http, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http.send(http.request(method, path, &http.read_key, body)).await.unwrap()
}

/// More than two events of a type in a minute, told to `channels`.
fn many(kind: &str, channels: &[&str]) -> Value {
    json!({
        "name": format!("many {kind}"), "report": "trends", "question": {"series": [{"event": kind}]}, "interval": "minute",
        "condition": {"above": 2}, "channels": channels, "evaluation_delay": "0s",
    })
}

/// The largest amount of a type in a minute is more than 5. Minutes without one have no number and change nothing: how long something takes is
/// nobody's to choose.
fn largest(kind: &str, channels: &[&str]) -> Value {
    let largest = json!({"event": kind, "math": "max", "property": "properties.amount"});
    json!({
        "report": "trends", "question": {"series": [largest]}, "interval": "minute", "condition": {"above": 5}, "channels": channels,
        "evaluation_delay": "0s", "missed_after": "1d",
    })
}

/// An event with an amount.
fn amounting(kind: &str, amount: u32) -> Value {
    json!({"type": kind, "anonymousId": "shop", "properties": {"amount": amount}})
}

#[tokio::test]
async fn a_rule_fires_once_is_told_once_and_did_what_its_back_test_says() {
    let mut world = World::start("", &[]).await;
    let rule = json!({"for": 2, "keep_firing_for": 1, "labels": {"team": "shop"}});
    let mut rule_of = many("signup", &["hook"]);
    rule_of.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
    world.put("signups", &rule_of).await;
    world.judged("signups").await;
    let began = world.now_ms();
    for number in [0, 4, 1, 5, 3, 0, 6, 2, 0, 1] {
        world.send("signup", number.max(1)).await;
        world.send("other", 9).await;
        world.pass(60);
        world.judged("signups").await;
    }
    let told = world.receiver.wait("/hook", 2).await;
    assert_eq!(told.iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved"], "{told:#?}");
    assert_eq!(told[0].body["alerts"][0]["labels"]["team"], "shop");
    assert_eq!((&told[0].body["status"], &told[1].body["status"]), (&json!("firing"), &json!("resolved")));
    assert_eq!(told[0].body["groupKey"], told[1].body["groupKey"]);
    assert_ne!(told[0].header("webhook-id"), told[1].header("webhook-id"));
    assert_eq!(told[0].body["pulse"]["lines"][0]["value"], 3.0);

    let history = world.history("signups").await;
    assert_eq!(changes(&history), ["pending", "calmed", "pending", "fired", "recovering", "relapsed", "recovering", "resolved"]);
    let from = jiff::Timestamp::from_millisecond(began).unwrap().to_string();
    let (status, tested) = ask(world.http(), Method::POST, "/v1/alerts/signups/test", &json!({"from": from})).await;
    assert_eq!(status, StatusCode::OK, "{tested}");
    assert_eq!(tested["fired"], 1);
    let would: Vec<&str> = tested["changes"].as_array().unwrap().iter().map(|change| change["change"].as_str().unwrap()).collect();
    assert_eq!(would, changes(&history), "{tested:#}");
    let seen = |of: &Value| of.as_array().unwrap().iter().map(|slot| (slot["slot"].clone(), slot["seen"].clone())).collect::<Vec<_>>();
    let (mut live, replayed) = (seen(&history["slots"]), seen(&tested["values"]));
    live.reverse();
    assert_eq!(live[live.len() - replayed.len()..], replayed[..]);
}

#[tokio::test]
async fn days_are_those_of_the_zone_where_clocks_are_moved_and_hours_begin_where_they_begin_there() {
    let world = World::start("", &[]).await;
    let times = ["2026-03-28T22:30:00Z", "2026-03-28T23:30:00Z", "2026-03-29T20:30:00Z", "2026-03-29T21:30:00Z", "2026-03-29T22:30:00Z"];
    let events: Vec<Value> = times.iter().map(|at| json!({"type": "night", "anonymousId": "ada", "timestamp": at})).collect();
    assert_eq!(world.http().capture(&json!({"batch": events})).await.0, StatusCode::OK);
    world.http().settled().await;
    let (status, refused) =
        ask(world.http(), Method::POST, "/v1/alerts/any/test", &json!({"form": "-7d", "rule": many("night", &[])})).await;
    assert_eq!((status, &refused["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_alert")), "{refused}");
    let fired = async |change: Value| {
        let mut rule = many("night", &[]);
        rule.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let range = json!({"from": "2026-03-27T00:00:00Z", "to": "2026-04-01T00:00:00Z", "rule": rule});
        let (status, tested) = ask(world.http(), Method::POST, "/v1/alerts/any/test", &range).await;
        assert_eq!(status, StatusCode::OK, "{tested}");
        let changes = tested["changes"].as_array().unwrap().iter().filter(|change| change["change"] == "fired");
        changes.map(|change| (change["slot"].clone(), change["value"].clone())).collect::<Vec<_>>()
    };
    // The 29th of March had 23 hours in Berlin, from 23:00 to 22:00 in UTC.
    let berlin = json!({"interval": "day", "timezone": "Europe/Berlin"});
    assert_eq!(fired(berlin).await, [(json!("2026-03-28T23:00:00Z"), json!(3.0))]);
    let kathmandu = json!({"interval": "hour", "timezone": "Asia/Kathmandu", "condition": {"above": 0}});
    let hours = fired(kathmandu).await;
    assert_eq!(hours.first().map(|(slot, _)| slot), Some(&json!("2026-03-28T22:15:00Z")), "hours begin at :15: {hours:?}");
}

#[tokio::test]
async fn people_acknowledge_silence_change_and_delete_what_is_theirs() {
    let mut world = World::start("", &[]).await;
    world.put("loud", &many("loud", &["hook"])).await;
    world.put("quiet", &many("loud", &["hook"])).await;
    world.judged("quiet").await;
    let silence = json!({"until": "2040-01-01", "by": "ada", "note": "moving"});
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/quiet/silence", &silence).await.0, StatusCode::OK);
    let (status, early) = ask(world.http(), Method::POST, "/v1/alerts/loud/ack", &json!({})).await;
    assert_eq!((status, &early["code"]), (StatusCode::PRECONDITION_FAILED, &json!("not_firing")));
    world.until_read().await;
    world.send("loud", 3).await;
    world.pass(60);
    world.until("loud", |rule| rule["state"] == "firing").await;
    let quiet = world.until("quiet", |rule| rule["state"] == "firing").await;
    assert_eq!(quiet["silence"]["by"], "ada");
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/loud/ack", &json!({"by": "bob"})).await.0, StatusCode::OK);
    assert_eq!(world.until("loud", |rule| rule["ack"]["by"] == "bob").await["firing"], 1);
    let told = world.receiver.wait("/hook", 1).await;
    assert_eq!((told.len(), &told[0].body["pulse"]["rule"]), (1, &json!("loud")));

    // Nobody stays with an alert that nothing can end.
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/alerts/loud", &Value::Null).await.0, StatusCode::OK);
    let told = world.receiver.wait("/hook", 2).await;
    assert_eq!((told[1].kind(), &told[1].body["groupKey"]), ("resolved", &told[0].body["groupKey"]));
    assert_eq!(world.http().get("/v1/alerts/loud").await.0, StatusCode::NOT_FOUND);
    let (status, loud) = ask(world.http(), Method::POST, "/v1/alerts/quiet/silence", &json!({"until": "2020-01-01"})).await;
    let key = world.http().get("/v1/session").await.1["key"]["name"].clone();
    assert_eq!((status, &loud["silence"]["by"]), (StatusCode::OK, &key), "who says no name is known by the key");
    world.pass(60);
    world.judged("quiet").await;
    assert!(world.hooks().len() <= 4);
    // A rule of the same name is another one, and not silent.
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/quiet/silence", &silence).await.0, StatusCode::OK);
    assert_eq!(ask(world.http(), Method::DELETE, "/v1/alerts/quiet", &Value::Null).await.0, StatusCode::OK);
    world.put("quiet", &many("loud", &["hook"])).await;
    assert_eq!(world.http().get("/v1/alerts/quiet").await.1["silence"], Value::Null);
}

#[tokio::test]
async fn a_channel_that_a_rule_names_no_longer_is_told_the_end_of_what_it_was_told() {
    let mut world = World::with_a_rule_that_fires().await;
    world.put("loud", &many("loud", &["other"])).await;
    let told = world.receiver.wait("/hook", 2).await;
    assert_eq!((told[1].kind(), &told[1].body["groupKey"]), ("resolved", &told[0].body["groupKey"]));
    assert_eq!(world.until("loud", |rule| rule["state"] == "firing").await["firing"], 1, "it goes on for others");
    world.send("loud", 1).await;
    world.pass(60);
    let told = world.receiver.wait("/other", 2).await;
    assert_eq!([told[0].kind(), told[1].kind()], ["reminder", "resolved"], "whose channel is new hears what goes on");
    assert_eq!(world.hooks().len(), 2);
}

#[tokio::test]
async fn a_channel_that_is_new_to_a_silenced_rule_hears_what_goes_on_once_it_may() {
    let mut world = World::with_a_rule_that_fires().await;
    let silence =
        async |world: &World, until: &str| ask(world.http(), Method::POST, "/v1/alerts/loud/silence", &json!({"until": until})).await.0;
    assert_eq!(silence(&world, "2040-01-01").await, StatusCode::OK);
    world.put("loud", &many("loud", &["other"])).await;
    // Who hears no more of it is told that at once.
    world.receiver.wait("/hook", 2).await;
    // It is judged meanwhile, and goes on.
    world.send("loud", 3).await;
    world.pass(60);
    world.judged("loud").await;
    assert_eq!(silence(&world, "2020-01-01").await, StatusCode::OK);
    assert_eq!(world.receiver.wait("/other", 1).await[0].kind(), "reminder");
    world.send("loud", 1).await;
    world.pass(60);
    assert_eq!(world.receiver.wait("/other", 2).await[1].kind(), "resolved");
    assert_eq!(world.hooks().len(), 2);
}

#[tokio::test]
async fn what_was_on_its_way_when_an_instance_was_asked_to_end_is_told_once() {
    let mut world = World::start("", &[]).await;
    world.put("loud", &many("loud", &["hook"])).await;
    world.judged("loud").await;
    world.receiver.react([Reaction::Late]);
    world.send("loud", 3).await;
    world.pass(60);
    world.receiver.wait("/hook", 1).await;
    world.pulse.end().await;
    world.pulse.restart().await;
    world.send("loud", 1).await;
    world.pass(60);
    world.receiver.wait("/hook", 2).await;
    let kinds: Vec<String> = world.hooks().iter().map(|told| told.kind().to_owned()).collect();
    assert_eq!(kinds, ["firing", "resolved"]);
}

#[tokio::test]
async fn who_is_at_it_until_some_time_is_reminded_after_it() {
    let mut world = World::start("", &[]).await;
    let mut rule = many("loud", &["hook"]);
    rule["remind_every"] = json!(1);
    world.put("loud", &rule).await;
    world.judged("loud").await;
    let minute = async |world: &mut World| {
        world.send("loud", 3).await;
        world.pass(60);
        world.judged("loud").await;
    };
    minute(&mut world).await;
    // It covers what is said of the next minute, and not of the one after.
    let until = jiff::Timestamp::from_millisecond(world.now_ms() + 100_000).unwrap().to_string();
    let said = json!({"by": "ada", "until": until});
    assert_eq!(ask(world.http(), Method::POST, "/v1/alerts/loud/ack", &said).await.0, StatusCode::OK);
    world.until_read().await;
    minute(&mut world).await;
    assert_eq!(world.told("loud").await, ["firing"]);
    minute(&mut world).await;
    assert_eq!(world.told("loud").await, ["firing", "reminder"]);
}

#[tokio::test]
async fn what_is_no_rule_is_refused_by_field_and_value() {
    let world = World::start("[alerts.mine]\nreport = 'lag'\ninterval = 'minute'\ncondition = {above = 60}\n", &[]).await;
    let refused = async |path: &str, change: Value| {
        let mut rule = many("signup", &[]);
        rule.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, answer) = ask(world.http(), Method::PUT, path, &rule).await;
        (status.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
    };
    for (change, expected) in [
        (json!({"condition": {"above": "x"}}), "invalid type"),
        (json!({"intervall": "hour"}), "unknown field `intervall`"),
        (json!({"interval": "1h"}), "interval: `1h`"),
        (json!({"timezone": "Berlin"}), "timezone: `Berlin`"),
        (json!({"report": "users"}), "report: `users`"),
        (json!({"question": {"series": [{"event": "a", "math": "p42"}]}}), "p42"),
        (json!({"question": {"from": "-1d"}}), "question: `from`"),
        (json!({"resolve": 3}), "resolve: 3"),
        (json!({"for": 0}), "for: 0"),
        (json!({"name": "a\r\nb"}), "name:"),
        (json!({"channels": ["nowhere"]}), "channels: there is no channel `nowhere`"),
        (json!({"reduce": "anomaly"}), "reduce:"),
        (json!({"missed_after": "0s"}), "missed_after: 0ns"),
    ] {
        let (status, message) = refused("/v1/alerts/a", change).await;
        assert!(status == 400 && message.contains(expected), "{status} {message}, not {expected}");
    }
    assert_eq!(refused("/v1/alerts/mine", json!({})).await.0, 412, "a file says it");
    assert_eq!(refused("/v1/alerts/a%20b", json!({})).await.0, 400);
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::ffff:169.254.169.254]/",
        "https://localhost./",
        "gopher://a.b/",
    ] {
        let (status, answer) = ask(world.http(), Method::PUT, "/v1/channels/a", &json!({"kind": "webhook", "url": url})).await;
        assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("webhook_url_forbidden")), "{url}");
    }
    let secret = json!({"kind": "webhook", "url": "https://example.com/", "secret": "file:/etc/hostname"});
    assert_eq!(ask(world.http(), Method::PUT, "/v1/channels/a", &secret).await.0, StatusCode::BAD_REQUEST);
    let often = json!({"kind": "webhook", "url": "https://example.com/", "heartbeat": "1s"});
    assert_eq!(ask(world.http(), Method::PUT, "/v1/channels/a", &often).await.0, StatusCode::BAD_REQUEST);
    let with_write_key = world.http().request(Method::GET, "/v1/alerts", &world.http().write_key, "");
    assert_eq!(world.http().send(with_write_key).await.unwrap().0, StatusCode::FORBIDDEN);
    assert_eq!(world.http().get("/v1/alerts").await.1["alerts"].as_array().unwrap().len(), 1);
    let saved = json!({"kind": "webhook", "url": "https://hooks.example.com/x"});
    assert_eq!(ask(world.http(), Method::PUT, "/v1/channels/mine", &saved).await.0, StatusCode::OK);
    // What is saved may not be led elsewhere either.
    let moved = json!({"kind": "webhook", "url": "https://169.254.169.254/x"});
    let (status, answer) = ask(world.http(), Method::PUT, "/v1/channels/mine", &moved).await;
    assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("webhook_url_forbidden")), "{answer}");
    let channels = world.http().get("/v1/channels").await.1.to_string();
    assert!(channels.contains("mine") && !channels.contains("hooks.example.com"), "{channels}");
    // Files are read again.
    write(world.files.path(), "");
    let gone = async {
        while world.http().get("/v1/alerts/mine").await.0 != StatusCode::NOT_FOUND {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}
