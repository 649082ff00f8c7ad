//! Every SDK in every weather: what it sends is stored once, and what is lost it has let go of by itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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

use super::front::{Front, Tried, Weather};
use super::modules;
use super::sdks::{self, SDKS};
use crate::harness::{PATIENCE, POLL, Pulse};

/// What SDKs go through, in the order of the table.
const RUNS: [&str; 6] = ["fair", "503", "413", "slow", RESTART, "bad key"];
const RESTART: &str = "restart";
/// Those in which nothing is refused or lost: also what has no number arrives.
const UNTROUBLED: [&str; 2] = ["fair", "slow"];
/// How long each SDK is answered 503, from its first request on.
const OUTAGE: Duration = Duration::from_secs(20);
/// Orders that are taken at once where more are answered 413.
const FEW: usize = 5;
/// How long pulse answers nobody before it is killed: about so long that every SDK has sent something for nothing.
const DEAF: Duration = Duration::from_secs(4);
/// How long SDKs may take to start.
const LONGEST: Duration = Duration::from_secs(240);
/// How long SDKs get to send again what was not taken: one of them may be at a pause of 128 s when the outage ends.
const ENOUGH: Duration = Duration::from_secs(180);
/// How long copies may come after what they are copies of.
const GRACE: Duration = Duration::from_secs(8);

/// What one SDK did in one run.
#[derive(Debug, Default)]
struct Row {
    version: String,
    sent: u64,
    stored: BTreeSet<u64>,
    copies: u64,
    problem: String,
    tried: Tried,
}

impl Row {
    fn lost(&self) -> u64 {
        self.sent - self.stored.len() as u64
    }

    fn doubled(&self) -> u64 {
        self.copies - self.stored.len() as u64
    }

    /// Orders that are lost though they came to pulse with nothing in their way.
    fn lost_by_pulse(&self) -> BTreeSet<u64> {
        self.tried.reached.difference(&self.stored).copied().collect()
    }
}

/// By SDK and run.
type Fronts = BTreeMap<(String, String), Front>;
type Rows = BTreeMap<(String, String), Row>;

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_delivers_each_event_once_in_every_weather() {
    let began_ms = jiff::Timestamp::now().as_millisecond();
    let (steady, mut shaken) = (Pulse::start().await, Pulse::start().await);
    let full = start_full(&steady).await;
    let outage = Weather::Outage { lasts: OUTAGE, full: full.http.address().to_owned() };
    let slow = Weather::Slow(Duration::from_secs(3));
    let weathers = [Weather::Fair, outage, Weather::Large(FEW), slow, Weather::Deaf, Weather::Fair];
    let mut fronts = Fronts::new();
    for (run, weather) in RUNS.into_iter().zip(weathers) {
        let target = if run == RESTART { &shaken } else { &steady }.http.address();
        for sdk in &SDKS {
            fronts.insert((sdk.name.to_owned(), run.to_owned()), Front::start(target, weather.clone()).await);
        }
    }
    let runs = RUNS.map(|run| {
        let key = match run {
            "bad key" => "nonsense",
            RESTART => &shaken.http.write_key,
            _ => &steady.http.write_key,
        };
        let of_run = fronts.iter().filter(|((_, of), _)| of == run);
        let hosts: BTreeMap<&str, &str> = of_run.map(|((sdk, _), front)| (sdk.as_str(), front.address.as_str())).collect();
        json!({"run": run, "key": key, "hosts": hosts})
    });
    let runs = json!(runs);
    let scripts = [("node", "servers.cjs"), ("python3", "servers.py"), ("node", "pages.cjs")];
    let mut scripts = scripts.map(|(program, script)| Script::start(program, script, &runs));
    let all_send = async {
        while scripts.iter().map(|script| script.runs_of(RESTART)).sum::<usize>() < SDKS.len() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LONGEST, all_send).await.expect("not every SDK runs");
    tokio::time::sleep(DEAF).await;
    shaken.kill().await;
    shaken.restart().await;
    fronts.iter().filter(|((_, run), _)| run == RESTART).for_each(|(_, front)| front.clear(shaken.http.address()));
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
    // What pulse has answered by now is there when it is looked for.
    let tried: Vec<Tried> = fronts.values().map(Front::tried).collect();
    let (mut rows, stored) = counted(&scripts, [&steady, &shaken]).await;
    for (of, tried) in fronts.keys().zip(tried) {
        if let Some(row) = rows.get_mut(of) {
            row.tried = tried;
        }
    }
    println!("{}\n{}", table(&rows), attempts(&rows));
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
    rows.len() == SDKS.len() * RUNS.len() && rows.iter().all(|((sdk, run), row)| !must_arrive(sdk, run) || row.lost() == 0)
}

/// Whether nothing of an SDK may be lost in a run.
fn must_arrive(sdk: &str, run: &str) -> bool {
    let sdk = sdks::of(sdk);
    match run {
        "bad key" => false,
        "fair" | "slow" => true,
        "503" => sdk.outlasts,
        "413" => sdk.shrinks,
        _ => sdk.resends,
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
        let may_double = run == RESTART && without_ids.contains(&sdk.as_str());
        assert!(may_double || row.doubled() == 0, "{sdk}, {run}: {row:?}");
        assert!(!must_arrive(sdk, run) || row.lost() == 0, "{sdk}, {run}: {row:?}");
        assert!(run != "bad key" || row.stored.is_empty(), "{sdk}: {row:?}");
        // What is lost was not sent again once it could be taken.
        assert!(run == "bad key" || row.lost_by_pulse().is_empty(), "{sdk}, {run}: {:?} of {row:?}", row.lost_by_pulse());
        // A front that cannot read what an SDK sends would say so of every loss.
        assert!(run != "fair" || !row.tried.reached.is_empty(), "{sdk}: {row:?}");
    }
    assert_eq!(rows.len(), SDKS.len() * RUNS.len());
}

/// As `tests/README.md` has it: sent / stored / doubled / lost.
fn table(rows: &Rows) -> String {
    let mut text = format!("| SDK | {} |\n|---|{}\n", RUNS.join(" | "), "---|".repeat(RUNS.len()));
    for sdk in &SDKS {
        let cell = |row: &Row| format!("{} / {} / {} / {}", row.sent, row.stored.len(), row.doubled(), row.lost());
        let version = rows.get(&(sdk.name.to_owned(), "fair".to_owned())).map_or("", |row| &row.version);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} {version} | {} |", sdk.name, cells(rows, sdk.name, cell));
    }
    text
}

/// As `tests/README.md` has it: what each SDK does by itself after a 503, and the requests that it made in so many seconds.
fn attempts(rows: &Rows) -> String {
    let mut text = format!("| SDK | tries again | as written in | {} |\n|---|---|---|{}\n", RUNS.join(" | "), "---|".repeat(RUNS.len()));
    for sdk in &SDKS {
        let cell = |row: &Row| format!("{} in {:.0} s", row.tried.requests, row.tried.lasted().as_secs_f64());
        let _ = writeln!(text, "| {} | {} | {} | {} |", sdk.name, sdk.retries, sdk.source, cells(rows, sdk.name, cell));
    }
    text
}

fn cells(rows: &Rows, sdk: &str, cell: impl Fn(&Row) -> String) -> String {
    RUNS.map(|run| rows.get(&(sdk.to_owned(), run.to_owned())).map_or("not run".to_owned(), &cell)).join(" | ")
}
