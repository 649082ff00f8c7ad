//! Every SDK in every weather: what it sends is stored once, and what is lost it has let go of by itself.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::front::{Front, Weather};
use super::modules;
use crate::harness::{PATIENCE, POLL, Pulse};

/// What SDKs go through, in the order of the table.
const RUNS: [&str; 6] = ["fair", "503", "413", "slow", "restart", "bad key"];
/// Those in which nothing is refused or lost: also what has no number arrives.
const UNTROUBLED: [&str; 2] = ["fair", "slow"];
/// How long each client is answered 503, from its first request on.
const OUTAGE: Duration = Duration::from_secs(20);
/// Orders that are taken at once where more are answered 413.
const FEW: usize = 5;
/// How long pulse answers nobody before it is killed: about so long that every SDK has sent something for nothing.
const DEAF: Duration = Duration::from_secs(4);
/// How long SDKs may take to start.
const LONGEST: Duration = Duration::from_secs(240);
/// How long SDKs get to send again what was not taken.
const ENOUGH: Duration = Duration::from_secs(100);
/// How long copies may come after what they are copies of.
const GRACE: Duration = Duration::from_secs(8);
/// SDKs that the scripts run.
const SDKS: usize = 30;

/// SDKs that keep what they could not send and send it again by themselves, each by its name in the scripts.
const RESENDING: [&str; 19] = [
    "pulse-analytics",
    "pulse-analytics (disk)",
    "@pulse-analytics/sdk",
    "@pulse-analytics/sdk (browser)",
    "@pulse-analytics/sdk (tabs)",
    "@segment/analytics-node",
    "@segment/analytics-next (browser)",
    "segment-analytics-python",
    "@rudderstack/analytics-js (browser)",
    "rudder-sdk-python",
    "posthog-node",
    "posthog-js (browser)",
    "posthog",
    "@amplitude/analytics-node",
    "amplitude-analytics",
    "mixpanel-browser (browser)",
    "@snowplow/browser-tracker (browser)",
    "@snowplow/node-tracker",
    "snowplow-tracker",
];

/// Those of them that go on for as long as [`OUTAGE`]; others give up after a few attempts, sometimes within it: `@segment/analytics-node` pauses
/// for random times.
const PATIENT: [&str; 9] = [
    "pulse-analytics",
    "pulse-analytics (disk)",
    "@pulse-analytics/sdk",
    "@pulse-analytics/sdk (browser)",
    "@pulse-analytics/sdk (tabs)",
    "segment-analytics-python",
    "@rudderstack/analytics-js (browser)",
    "@snowplow/node-tracker",
    "posthog-js (browser)",
];

/// SDKs that send a batch that is too large again in pieces, or never send one.
const SHRINKING: [&str; 15] = [
    "pulse-analytics",
    "pulse-analytics (disk)",
    "@pulse-analytics/sdk",
    "@pulse-analytics/sdk (browser)",
    "@pulse-analytics/sdk (tabs)",
    "posthog-node",
    "mixpanel-browser (browser)",
    "@segment/analytics-next (browser)",
    "@rudderstack/analytics-js (browser)",
    "@jitsu/js",
    "@jitsu/js (browser)",
    "@plausible-analytics/tracker (browser)",
    "@umami/node",
    "@openpanel/sdk",
    "umami (browser)",
];

/// What one SDK did in one run.
#[derive(Debug, Default)]
struct Row {
    version: String,
    sent: u64,
    stored: HashSet<u64>,
    copies: u64,
    problem: String,
}

impl Row {
    fn lost(&self) -> u64 {
        self.sent - self.stored.len() as u64
    }

    fn doubled(&self) -> u64 {
        self.copies - self.stored.len() as u64
    }
}

type Rows = BTreeMap<(String, String), Row>;

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_delivers_each_event_once_in_every_weather() {
    let began_ms = jiff::Timestamp::now().as_millisecond();
    let (steady, mut shaken) = (Pulse::start().await, Pulse::start().await);
    let full = start_full(&steady).await;
    let outage = Weather::Outage { lasts: OUTAGE, full: full.http.address().to_owned() };
    let mut fronts = Vec::new();
    for weather in [Weather::Fair, outage.clone(), Weather::Large(FEW), Weather::Slow(Duration::from_secs(3)), Weather::Fair] {
        fronts.push(Front::start(steady.http.address(), weather).await);
    }
    let restarting = Front::start(shaken.http.address(), Weather::Deaf).await;
    // For those of ours that have the path and the agent of others of ours: an outage is each client's own.
    let outage_apart = Front::start(steady.http.address(), outage).await;
    let of = |run: &str, front: &Front, key: &str| json!({"run": run, "host": front.address, "key": key});
    let key = steady.http.write_key.as_str();
    let mut out = of("503", &fronts[1], key);
    out["apart"] = json!(outage_apart.address);
    let runs = json!([
        of("fair", &fronts[0], key),
        out,
        of("413", &fronts[2], key),
        of("slow", &fronts[3], key),
        of("bad key", &fronts[4], "nonsense"),
        of("restart", &restarting, &shaken.http.write_key),
    ]);
    let scripts = [("node", "servers.cjs"), ("python3", "servers.py"), ("node", "pages.cjs")];
    let mut scripts = scripts.map(|(program, script)| Script::start(program, script, &runs));
    let all_send = async {
        while scripts.iter().map(|script| script.runs_of("restart")).sum::<usize>() < SDKS {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LONGEST, all_send).await.expect("not every SDK runs");
    tokio::time::sleep(DEAF).await;
    shaken.kill().await;
    shaken.restart().await;
    restarting.clear(shaken.http.address());
    let arrived = async {
        loop {
            let rows = counted(&scripts, [&steady, &shaken]).await.0;
            for script in &mut scripts {
                script.tell(&rows).await;
            }
            if has_all(&rows) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    // What is missing by then is looked for at the end: an SDK may send it when its page is left.
    let _ = tokio::time::timeout(ENOUGH, arrived).await;
    // What was stored and not answered comes again.
    tokio::time::sleep(GRACE).await;
    for script in &mut scripts {
        script.end().await;
    }
    let (rows, stored) = counted(&scripts, [&steady, &shaken]).await;
    println!("{}", table(&rows));
    rows.iter().filter(|(_, row)| !row.problem.is_empty()).for_each(|((sdk, run), row)| println!("{sdk}, {run}: {}", row.problem));
    check(&rows);
    for events in &stored {
        check_orders(events, began_ms);
    }
    for run in UNTROUBLED {
        check_customers(&stored[0], &rows, run);
        check_people(&steady, run).await;
    }
    assert!(steady.stop().await && shaken.stop().await && full.stop().await);
}

/// An instance with the keys of `first` and a log that is full, of which nobody reads: it refuses events in the words of each dialect.
async fn start_full(first: &Pulse) -> Pulse {
    let environment =
        [("PULSE__ROLES", "ingest"), ("PULSE__LOG__EMBEDDED__SEGMENT_BYTES", "64KiB"), ("PULSE__LOG__EMBEDDED__MAX_BYTES", "1MiB")];
    let full = Pulse::start_beside(first, &environment).await;
    let filling = async {
        loop {
            let noise = || (0..64).map(|_| uuid::Uuid::new_v4().to_string()).collect::<String>();
            let event = || json!({"type": "filler", "anonymousId": "filler", "properties": {"noise": noise()}});
            let events: Vec<Value> = (0..20).map(|_| event()).collect();
            if full.http.capture(&json!(events)).await.0 == StatusCode::SERVICE_UNAVAILABLE {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.expect("the log takes ever more");
    full
}

/// A script that runs, and what it has said. What its SDKs say to people is shown if the test fails.
struct Script {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
    chatter: Arc<Mutex<Vec<String>>>,
    listening: [JoinHandle<()>; 2],
    /// Of what it knows that all of it has arrived.
    told: HashSet<(String, String)>,
}

impl Script {
    #[allow(clippy::disallowed_methods, reason = "tests own their tasks")]
    fn start(program: &str, script: &str, runs: &Value) -> Self {
        let modules = modules();
        let mut child = Command::new(program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script))
            .env("NODE_PATH", &modules)
            .env("PYTHONPATH", modules.with_file_name("python"))
            .env("RUNS", runs.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|problem| panic!("{program} does not run: {problem}"));
        let (said, chatter) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (heard, overheard) = (Arc::clone(&said), Arc::clone(&chatter));
        let out = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(line) => heard.lock().unwrap().push(line),
                    Err(_) => overheard.lock().unwrap().push(line),
                }
            }
        });
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let overheard = Arc::clone(&chatter);
        let err = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                overheard.lock().unwrap().push(line);
            }
        });
        Self { child, said, chatter, listening: [out, err], told: HashSet::new() }
    }

    /// How many SDKs are at work in a run.
    fn runs_of(&self, run: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line["run"] == run && line["sent"].is_u64()).count()
    }

    /// Tells it of what has arrived since it was told last, a line each.
    async fn tell(&mut self, rows: &Rows) {
        let Some(stdin) = &mut self.child.stdin else { return };
        for ((sdk, run), row) in rows {
            if row.lost() == 0 && self.told.insert((sdk.clone(), run.clone())) {
                // It may have ended; then its status says so.
                let _ = stdin.write_all(format!("{}\n", json!({"sdk": sdk, "run": run})).as_bytes()).await;
            }
        }
    }

    /// Ends it: it lets go of what could not be sent.
    async fn end(&mut self) {
        drop(self.child.stdin.take());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("a script does not end").unwrap();
        assert!(status.success(), "{status}");
        for listening in &mut self.listening {
            listening.await.unwrap();
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.chatter.lock().unwrap().join("\n"));
        }
    }
}

/// What is stored of what the scripts say, and all that is stored by each pulse.
async fn counted(scripts: &[Script; 3], pulses: [&Pulse; 2]) -> (Rows, Vec<Vec<Value>>) {
    let mut rows = Rows::new();
    for line in scripts.iter().flat_map(|script| script.said.lock().unwrap().clone()) {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let row = rows.entry((text("sdk"), text("run"))).or_default();
        match line["sent"].as_u64() {
            Some(sent) => (row.sent, row.version) = (sent, text("version")),
            None => row.problem = text("problem"),
        }
    }
    let mut stored = Vec::new();
    for pulse in pulses {
        pulse.http.settled().await;
        let events = pulse.http.events().await;
        for order in events.iter().filter(|event| event["type"] == "order") {
            let Some(row) = of(order).and_then(|of| rows.get_mut(&of)) else { continue };
            row.copies += 1;
            row.stored.insert(order["properties"]["n"].as_u64().unwrap());
        }
        stored.push(events);
    }
    (rows, stored)
}

/// Whether everything is there that must be.
fn has_all(rows: &Rows) -> bool {
    rows.len() == SDKS * RUNS.len() && rows.iter().all(|((sdk, run), row)| !must_arrive(sdk, run) || row.lost() == 0)
}

/// Whether nothing of an SDK may be lost in a run.
fn must_arrive(sdk: &str, run: &str) -> bool {
    match run {
        "bad key" => false,
        "fair" | "slow" => true,
        "503" => PATIENT.contains(&sdk),
        "413" => SHRINKING.contains(&sdk),
        _ => RESENDING.contains(&sdk),
    }
}

/// Whose an event is: an order, or what was said of a customer.
fn of(event: &Value) -> Option<(String, String)> {
    let text = |key: &str| event["properties"][key].as_str().map(str::to_owned);
    Some((text("sdk")?, text("run")?))
}

/// Orders have what their SDKs say, each in its own words, whatever they went through.
fn check_orders(events: &[Value], began_ms: i64) {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for order in events.iter().filter(|event| event["type"] == "order") {
        assert_eq!(order["properties"]["total"], 12.5, "{order}");
        let (sdk, run) = of(order).unwrap();
        if !["plausible", "umami (browser)"].iter().any(|nameless| sdk.contains(nameless)) {
            assert_eq!(order["userId"], json!(user(&sdk, &run)), "{order}");
        }
        // Some SDKs tell whole seconds.
        let at: jiff::Timestamp = order["timestamp"].as_str().unwrap().parse().unwrap();
        assert!((began_ms - 5_000..now_ms + 5_000).contains(&at.as_millisecond()), "{order}");
        if sdk.contains("(browser)") || sdk.contains("(tabs)") {
            let context = &order["context"];
            assert!(context["page"]["url"].as_str().is_some_and(|url| url.contains("/shop?")), "{order}");
            assert_eq!([&context["campaign"]["source"], &context["campaign"]["medium"]], ["news", "email"], "{order}");
            assert_eq!(
                [&context["browser"]["name"], &context["os"]["name"], &context["device"]["type"]],
                ["Chrome", "Linux", "desktop"],
                "{order}"
            );
        }
    }
}

/// SDKs that have a call for it say who their customer is, and what page it is where there is one.
fn check_customers(events: &[Value], rows: &Rows, run: &str) {
    let identified: HashSet<String> = events
        .iter()
        .filter(|event| event["type"] == "identify" && event["properties"]["run"] == run && event["properties"]["team"] == "blue")
        .map(|event| of(event).unwrap().0)
        .collect();
    let without = ["snowplow", "plausible", "umami", "opentelemetry"];
    for (sdk, _) in rows.keys().filter(|(sdk, of)| of == run && !without.iter().any(|without| sdk.contains(without))) {
        assert!(identified.contains(sdk), "nobody says who the customer of {sdk} is, {run}: {identified:?}");
    }
    let run = format!("run={run}");
    let pages = events
        .iter()
        .filter_map(|event| event["context"]["page"]["url"].as_str().filter(|url| event["type"] == "page" && url.contains(&run)));
    let seen: HashSet<&str> = pages.filter_map(|url| url.split("sdk=").nth(1)?.split('&').next()).collect();
    assert_eq!(seen.len(), 9, "{run}: {seen:?}");
}

/// As the scripts call a customer.
fn user(sdk: &str, run: &str) -> String {
    let words = format!("{sdk} {run}");
    let mut name = String::new();
    for character in words.chars() {
        match character.is_ascii_alphanumeric() {
            true => name.push(character),
            false if name.ends_with('-') => {}
            false => name.push('-'),
        }
    }
    name
}

/// What SDKs tie is one person.
async fn check_people(pulse: &Pulse, run: &str) {
    for sdk in [
        "@pulse-analytics/sdk",
        "@segment/analytics-node",
        "rudder-sdk-python",
        "posthog-node",
        "posthog",
        "@amplitude/analytics-node",
        "mixpanel",
    ] {
        let user = user(sdk, run);
        let [one, other] = [format!("/v1/people/{user}"), format!("/v1/people/d-{user}")];
        let (one, other) = (pulse.http.get(&one).await.1, pulse.http.get(&other).await.1);
        assert_eq!(one, other, "{sdk}, {run}");
        assert!(one["events"].as_u64() >= Some(12), "{sdk}, {run}: {one}");
    }
}

fn check(rows: &Rows) {
    for ((sdk, run), row) in rows {
        // A browser asks again by itself where a connection that it has kept breaks, and so does OpenPanel's SDK; their events, Umami's and
        // Plausible's have no ids.
        let without_ids = ["umami (browser)", "@plausible-analytics/tracker (browser)", "@openpanel/sdk"];
        let may_double = run == "restart" && without_ids.contains(&sdk.as_str());
        assert!(may_double || row.doubled() == 0, "{sdk}, {run}: {row:?}");
        assert!(!must_arrive(sdk, run) || row.lost() == 0, "{sdk}, {run}: {row:?}");
        assert!(run != "bad key" || row.stored.is_empty(), "{sdk}: {row:?}");
    }
    let sdks: HashSet<&String> = rows.keys().map(|(sdk, _)| sdk).collect();
    assert_eq!((sdks.len(), rows.len()), (SDKS, SDKS * RUNS.len()));
}

/// As `tests/README.md` has it: sent / stored / doubled / lost.
fn table(rows: &Rows) -> String {
    let sdks: std::collections::BTreeSet<&String> = rows.keys().map(|(sdk, _)| sdk).collect();
    let mut text = format!("| SDK | {} |\n|---|{}\n", RUNS.join(" | "), "---|".repeat(RUNS.len()));
    for sdk in sdks {
        let cell = |run: &&str| {
            let row = rows.get(&(sdk.clone(), (*run).to_owned()));
            row.map_or("not run".to_owned(), |row| format!("{} / {} / {} / {}", row.sent, row.stored.len(), row.doubled(), row.lost()))
        };
        let cells: Vec<String> = RUNS.iter().map(cell).collect();
        let version = rows.get(&(sdk.clone(), "fair".to_owned())).map_or("", |row| &row.version);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {sdk} {version} | {} |", cells.join(" | "));
    }
    text
}
