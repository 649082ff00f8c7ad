//! Sessions and people follow from the events and from nothing else: not from their order, from copies, restarts or files. With
//! `PULSE_TEST_LONG` of ten thousand visitors, too, and over all orders of the files.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::clickhouse::Cluster;
use crate::harness::clock::Clock;
use crate::harness::fault::is_long;
use crate::harness::kafka::Kafka;
use crate::harness::load::rounds;
use crate::harness::{Pulse, eventually, program};

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_access_combined.log.gz");
const GAP_MS: i64 = 30 * 60_000;
const LONGEST_MS: i64 = 24 * 3_600_000;

/// Where midnight is at 18:30 UTC.
const ZONE: &str = "Asia/Kolkata";

/// What cuts sessions beside the idle gap and the longest session.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    midnight: bool,
    campaign: bool,
}

/// An event as it is sent; of one visitor no two are of the same moment.
#[derive(Clone, Debug)]
struct Visit {
    visitor: String,
    at_ms: i64,
    /// The session that the client names.
    own: Option<String>,
    /// The campaign that it carries.
    campaign: Option<&'static str>,
    /// The user who is logged in, if it says so.
    user: Option<String>,
}

impl Visit {
    /// As it is sent under the id of that number.
    fn event(&self, number: usize) -> Value {
        let Self { visitor, at_ms, own, campaign, user } = self;
        let mut event = json!({"eventId": format!("e{number}"), "type": "view", "anonymousId": visitor, "timestamp": at_ms});
        if let Some(own) = own {
            event["sessionId"] = json!(own);
        }
        if let Some(user) = user {
            event["userId"] = json!(user);
        }
        if let Some(campaign) = campaign {
            event["context"] = json!({"campaign": {"source": campaign}});
        }
        event
    }
}

/// When a visitor did something, and the campaign carried.
type Times = Vec<(i64, Option<&'static str>)>;

/// The plain definition: sorted by time, cut by the rules. Returns when the session of each time begins.
fn starts(visits: &[(i64, Option<&'static str>)], rules: Rules) -> BTreeMap<i64, i64> {
    let zone = jiff::tz::TimeZone::get(ZONE).unwrap();
    let date = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned_datetime(zone.clone()).date();
    let mut sorted = visits.to_vec();
    sorted.sort_unstable();
    let mut session: Option<(i64, i64, Option<&str>)> = None;
    let mut starts = BTreeMap::new();
    for (at, carried) in sorted {
        let goes_on = |start: i64, last: i64, campaign: Option<&str>| {
            at - last <= GAP_MS
                && at - start <= LONGEST_MS
                && (!rules.midnight || date(last) == date(at))
                && (!rules.campaign || carried.is_none() || carried == campaign)
        };
        let (start, campaign) = match session {
            Some((start, last, campaign)) if goes_on(start, last, campaign) => (start, campaign),
            _ => (at, carried),
        };
        session = Some((start, at, campaign));
        starts.insert(at, start);
    }
    starts
}

/// How many events each person has, by name: those of the users who say who they are, and all others of a visitor's the one who was logged in
/// last before, or of all the first; a visitor without any is a person.
fn people(events: &[Visit]) -> BTreeMap<String, u64> {
    let mut logins: BTreeMap<&str, BTreeMap<i64, &str>> = BTreeMap::new();
    for (visit, user) in events.iter().filter_map(|visit| Some((visit, visit.user.as_deref()?))) {
        logins.entry(&visit.visitor).or_default().insert(visit.at_ms, user);
    }
    let mut people = BTreeMap::new();
    for visit in events {
        let of_visitor = logins.get(visit.visitor.as_str());
        let in_force = of_visitor.and_then(|logins| logins.range(..=visit.at_ms).next_back().or(logins.iter().next()));
        *people.entry(in_force.map_or(visit.visitor.as_str(), |(_, user)| *user).to_owned()).or_default() += 1;
    }
    people
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, usize::try_from(self.below(at as u64 + 1)).unwrap());
        }
    }
}

/// Visitors of three days: some come back within the hour, some go on for more than a day; some log in, two of three on a device of their own.
fn visits(dice: &mut Dice, visitors: u64, now_ms: i64) -> Vec<Visit> {
    let mut events = Vec::new();
    for visitor in 0..visitors {
        let (count, longest_pause_ms) = if visitor % 10 == 0 { (200, 29 * 60_000) } else { (25, 4 * 3_600_000) };
        let mut at_ms = now_ms - 3 * 86_400_000 + dice.below(3_600_000) as i64;
        for number in 0..count {
            let pause = if dice.below(3) == 0 { longest_pause_ms } else { longest_pause_ms / 8 };
            at_ms += 1 + dice.below(pause as u64) as i64;
            if at_ms < now_ms {
                let own = (visitor == 7 && number % 5 == 0).then(|| (number / 10).to_string());
                let campaign = [None, None, None, None, Some("spring"), Some("autumn")][dice.below(6) as usize];
                let users = if visitor % 9 == 1 { 2 } else { 1 };
                let user = (visitor % 3 == 1 && dice.below(6) == 0).then(|| format!("user-{}", visitor / 6 + dice.below(users)));
                events.push(Visit { visitor: format!("visitor-{visitor}"), at_ms, own, campaign, user });
            }
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_those_of_the_sorted_events_over_shuffles_copies_and_kills() {
    for seed in 1..=u64::from(rounds(2)) {
        shuffle_copy_and_kill(seed, Rules::default(), 30).await;
    }
    if is_long() {
        shuffle_copy_and_kill(1_000, Rules::default(), 10_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_midnight_and_campaigns_cut_are_those_of_the_sorted_events_too() {
    for seed in 101..=100 + u64::from(rounds(1)) {
        shuffle_copy_and_kill(seed, Rules { midnight: true, campaign: true }, 30).await;
    }
}

async fn shuffle_copy_and_kill(seed: u64, rules: Rules, visitors: u64) {
    let mut dice = Dice(seed);
    let mut pulse = Pulse::start_with(&settings(rules)).await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut events = visits(&mut dice, visitors, now_ms);
    dice.shuffle(&mut events);
    let sent: Vec<Value> = events.iter().enumerate().map(|(number, visit)| visit.event(number)).collect();
    let batches: Vec<&[Value]> = sent.chunks(if visitors > 30 { 500 } else { 40 }).collect();
    let mut kills = 0;
    for (number, batch) in batches.iter().enumerate() {
        pulse.http.capture(&json!(batch)).await;
        if dice.below(3) == 0 {
            let again = usize::try_from(dice.below(number as u64 + 1)).unwrap();
            pulse.http.capture(&json!(batches[again])).await;
        }
        match dice.below(20) {
            0 => {
                kills += 1;
                pulse.kill().await;
                pulse.restart().await;
            }
            1..4 => drop(pulse.http.settled().await),
            _ => {}
        }
    }
    let total = pulse.http.settled().await;
    assert_eq!(total["stored"], sent.len(), "seed {seed}");
    let found = check(&pulse, (&events, rules), now_ms, &format!("seed {seed}")).await;
    let (events, copies) = (sent.len(), &total["duplicate"]);
    println!("seed {seed}, {rules:?}: {visitors} visitors, {events} events, {copies} copies, {kills} kills: {found}; none differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_follow_from_the_times_of_events_whatever_the_clock_of_the_server_says_meanwhile() {
    const HOUR_S: i64 = 3_600;
    let clock = Clock::new();
    let mut dice = Dice(2_000);
    let pulse = Pulse::start_with(&[clock.environment(), settings(Rules::default())].concat()).await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut events = visits(&mut dice, 30, now_ms);
    dice.shuffle(&mut events);
    // No further back than a day: what happens later than that by the server's clock is taken for an error of the client's.
    let ahead = [HOUR_S, -HOUR_S, 20 * HOUR_S, -20 * HOUR_S, 0];
    let size = events.len().div_ceil(ahead.len());
    for (part, ahead_s) in ahead.into_iter().enumerate() {
        clock.set_ahead(ahead_s);
        let of_part = &events[part * size..events.len().min((part + 1) * size)];
        send(&pulse, of_part, part * size).await;
        pulse.http.settled().await;
    }
    let found = check(&pulse, (&events, Rules::default()), now_ms, "a clock that jumps").await;
    let ask = json!({"from": "-5d", "list": true, "limit": 1_000});
    let (_, listed) = pulse.http.query("sessions", &ask).await;
    let durations: Vec<i64> =
        listed["result"]["sessions"].as_array().unwrap().iter().map(|session| session["duration_ms"].as_i64().unwrap()).collect();
    assert!(!durations.is_empty() && durations.iter().all(|duration| *duration >= 0), "{durations:?}");
    println!("{} events under {} clocks: {found}; none differs or ends before it begins", events.len(), ahead.len());
}

/// Runs a command on a data directory; its summary.
fn run(arguments: &[&str], data_dir: &std::path::Path, environment: Vec<(&'static str, String)>) -> Value {
    let mut command = Command::new(program());
    command.args(arguments).args(["--json", "--data-dir"]).arg(data_dir).envs(environment);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Computes the sessions of the last days again by the rules of `environment`; returns how many revisions that took.
fn rebuild(data_dir: &std::path::Path, environment: Vec<(&'static str, String)>) -> u64 {
    let summary = run(&["sessions", "rebuild", "--from", "-5d"], data_dir, environment);
    assert_eq!((&summary["skipped"], &summary["interrupted"]), (&json!(0), &json!(false)));
    summary["revisions"].as_u64().unwrap()
}

/// The same, ended behind its first insert, then behind two more, and so on until one comes to its end; returns how often it was ended.
fn cut_rebuild(data_dir: &std::path::Path, environment: &[(&'static str, String)]) -> usize {
    for cuts in 0.. {
        let mut command = Command::new(program());
        command.args(["sessions", "rebuild", "--from", "-5d", "--data-dir"]).arg(data_dir).envs(environment.iter().cloned());
        let output = command.env("FAILPOINTS", format!("rebuild.written={cuts}*off->return")).output().unwrap();
        if output.status.success() {
            assert!(cuts > 0, "nothing was written");
            return cuts;
        }
        assert_eq!(output.status.signal(), Some(Signal::ABORT.as_raw()), "{}", String::from_utf8_lossy(&output.stderr));
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_by_other_rules_is_once_rebuilt_as_if_stored_by_those_of_now() {
    let (off, on) = (Rules::default(), Rules { midnight: true, campaign: true });
    let mut dice = Dice(7);
    let mut pulse = Pulse::start_with(&settings(off)).await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut events = visits(&mut dice, 30, now_ms);
    dice.shuffle(&mut events);
    let mut ends = Vec::new();
    for part in [0..events.len() / 4, events.len() / 4..events.len() / 2] {
        send(&pulse, &events[part.clone()], part.start).await;
        pulse.http.settled().await;
        ends.push(pulse.sql("SELECT max(log_offset) FROM pulse.events").trim().parse::<i64>().unwrap());
    }
    // Cut behind each insert, it goes on where it was.
    pulse.end().await;
    let cuts = cut_rebuild(pulse.data_dir(), &settings(on));
    assert_eq!(rebuild(pulse.data_dir(), settings(on)), 0, "after {cuts} cuts something is left to say");
    assert!(pulse.restart_with(&settings(on)).await);
    check(&pulse, (&events[..events.len() / 2], on), now_ms, &format!("after {cuts} cuts")).await;
    for rules in [off, on] {
        pulse.end().await;
        assert!(rebuild(pulse.data_dir(), settings(rules)) > 0);
        assert_eq!(rebuild(pulse.data_dir(), settings(rules)), 0, "a second run has nothing to say");
        assert!(pulse.restart_with(&settings(rules)).await);
        check(&pulse, (&events[..events.len() / 2], rules), now_ms, &format!("{rules:?}")).await;
    }
    // What comes late goes on with what was rebuilt.
    send(&pulse, &events[events.len() / 2..], events.len() / 2).await;
    pulse.http.settled().await;
    check(&pulse, (&events, on), now_ms, "after late events").await;
    // What was rebuilt stands behind all of the first half, of which a part is copied and the rest replayed.
    pulse.end().await;
    let first = (ends[0] + 1).to_string();
    run(&["replay", "--from-offset", &first, "--to-table", "again", "--swap"], pulse.data_dir(), settings(on));
    assert_eq!(rebuild(pulse.data_dir(), settings(on)), 0, "nothing is left to say");
    assert!(pulse.restart_with(&settings(on)).await);
    check(&pulse, (&events, on), now_ms, "after a swap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_without_an_end_is_of_events_whose_clocks_are_ahead_too() {
    let mut pulse = Pulse::start().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let ahead = |minutes: i64| Visit { visitor: "ada".to_owned(), at_ms: now_ms + minutes * 60_000, own: None, campaign: None, user: None };
    send(&pulse, &[ahead(60), ahead(100), ahead(23 * 60), ahead(23 * 60 + 40)], 0).await;
    pulse.http.settled().await;
    let of = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let ask = json!({"from": of(now_ms - 60_000), "to": of(now_ms + 2 * 86_400_000), "list": true});
    let sessions = async |pulse: &Pulse| pulse.http.query("sessions", &ask).await.1["result"]["sessions"].as_array().unwrap().len();
    assert_eq!(sessions(&pulse).await, 4);
    let longer = vec![("PULSE__PROJECTS__DEFAULT__SESSION_GAP", "1h".to_owned())];
    pulse.end().await;
    assert!(rebuild(pulse.data_dir(), longer.clone()) > 0);
    assert!(pulse.restart_with(&longer).await);
    assert_eq!(sessions(&pulse).await, 2);
    assert!(pulse.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_beside_instances_that_load_leaves_every_session_right() {
    let (off, on) = (Rules::default(), Rules { midnight: true, campaign: true });
    let (kafka, cluster) = (Kafka::start(1).await, Cluster::start(2).await);
    let environment = |rules| [kafka.environment("rebuild"), cluster.environment(), settings(rules)].concat();
    let mut dice = Dice(11);
    let mut pulse = Pulse::start_with(&environment(off)).await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut events = visits(&mut dice, 30, now_ms);
    dice.shuffle(&mut events);
    let (before, meanwhile) = events.split_at(events.len() / 2);
    send(&pulse, before, 0).await;
    pulse.http.settled().await;
    pulse.end().await;
    assert!(pulse.restart_with(&settings(on)).await);
    let second = Pulse::start_beside(&pulse, &[environment(on), vec![("PULSE__ROLES", "process,load".to_owned())]].concat()).await;
    let (dir, with) = (pulse.data_dir().to_owned(), environment(on));
    let rebuilding = std::thread::spawn(move || [(); 3].map(|()| rebuild(&dir, with.clone())));
    let mut first = before.len();
    for some in meanwhile.chunks(50) {
        send(&pulse, some, first).await;
        first += some.len();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let rebuilt = rebuilding.join().unwrap();
    assert!(rebuilt[0] > 0, "{rebuilt:?}");
    assert_eq!(pulse.http.settled().await["stored"], events.len());
    check(&pulse, (&events, on), now_ms, "beside a rebuild").await;
    assert_eq!(rebuild(pulse.data_dir(), environment(on)), 0, "nothing is left to say");
    for pulse in [pulse, second] {
        assert!(pulse.stop().await);
    }
}

/// Sends events in small batches; ids count from `first`.
async fn send(pulse: &Pulse, events: &[Visit], first: usize) {
    let sent: Vec<Value> = events.iter().enumerate().map(|(number, visit)| visit.event(first + number)).collect();
    for batch in sent.chunks(100) {
        pulse.http.capture(&json!(batch)).await;
    }
}

/// The environment that sets the rules of the project.
fn settings(Rules { midnight, campaign }: Rules) -> Vec<(&'static str, String)> {
    vec![
        ("PULSE__PROJECTS__DEFAULT__SESSION_CUT_AT_MIDNIGHT", midnight.to_string()),
        ("PULSE__PROJECTS__DEFAULT__SESSION_CUT_AT_CAMPAIGN", campaign.to_string()),
        ("PULSE__PROJECTS__DEFAULT__TIMEZONE", ZONE.to_owned()),
    ]
}

/// Compares the sessions and people that reports tell with those of the definition; says how many there are.
async fn check(pulse: &Pulse, (events, rules): (&[Visit], Rules), now_ms: i64, name: &str) -> String {
    let mut by_time: HashMap<&str, Times> = HashMap::new();
    for visit in events.iter().filter(|visit| visit.own.is_none()) {
        by_time.entry(&visit.visitor).or_default().push((visit.at_ms, visit.campaign));
    }
    let starts: HashMap<&str, BTreeMap<i64, i64>> =
        by_time.into_iter().map(|(visitor, visits)| (visitor, starts(&visits, rules))).collect();
    let expected = |visitor: &str, at_ms: i64, own: Option<&str>| match own {
        Some(own) => format!("{visitor}/{own}"),
        None => format!("{visitor}@{}", starts[visitor][&at_ms]),
    };
    let named: HashMap<(&str, i64), Option<&str>> =
        events.iter().map(|visit| ((visit.visitor.as_str(), visit.at_ms), visit.own.as_deref())).collect();
    let (mut sessions, mut counts): (BTreeMap<String, String>, HashMap<&str, usize>) = Default::default();
    let shown = pulse.http.events().await;
    for event in &shown {
        let (visitor, id) = (event["anonymousId"].as_str().unwrap(), event["sessionId"].as_str().unwrap());
        let at_ms = event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let own = named[&(visitor, at_ms)];
        *counts.entry(id).or_default() += 1;
        let found = sessions.entry(expected(visitor, at_ms, own)).or_insert_with(|| id.to_owned());
        assert_eq!(found, id, "{name}: {visitor} at {at_ms}");
    }
    assert_eq!(shown.len(), events.len(), "{name}");
    let from = jiff::Timestamp::from_millisecond(now_ms - 4 * 86_400_000).unwrap().to_string();
    let ask = json!({"from": from, "to": "now", "series": [{"event": "view", "math": "unique_sessions"}]});
    let (_, trends) = pulse.http.query("trends", &ask).await;
    assert_eq!(trends["result"]["series"][0]["total"], sessions.len(), "{name}");
    let ask = json!({"from": from, "to": "now", "series": [{"event": "view"}], "breakdown": "sessionId", "limit": 1_000});
    let (_, trends) = pulse.http.query("trends", &ask).await;
    for line in trends["result"]["series"].as_array().unwrap().iter().filter(|line| line["kind"] == "value") {
        let of_session = counts[line["breakdown"].as_str().unwrap()];
        assert_eq!(line["total"], of_session, "{name}: {}", line["breakdown"]);
    }
    let people = people(events);
    eventually(async || (name, found_people(pulse, &from).await), (name, people.clone())).await;
    let distinct: std::collections::BTreeSet<&String> = sessions.values().collect();
    assert!(distinct.len() + 20 > sessions.len(), "{name}: sessions share ids");
    format!("{} sessions, {} people", sessions.len(), people.len())
}

/// How many events since `from` each person has, as the list of people says.
async fn found_people(pulse: &Pulse, from: &str) -> BTreeMap<String, u64> {
    let (mut found, mut cursor) = (BTreeMap::new(), Value::Null);
    loop {
        let ask = json!({"from": from, "to": "now", "event": "view", "limit": 10_000, "cursor": cursor, "refresh": true});
        let answer = pulse.http.query("users", &ask).await.1["result"].take();
        let users = answer["users"].as_array().unwrap();
        found.extend(users.iter().map(|user| (user["user"].as_str().unwrap().to_owned(), user["events"].as_u64().unwrap())));
        cursor = answer["next"].clone();
        if cursor.is_null() {
            assert_eq!(answer["total"], found.len(), "two people of one name");
            return found;
        }
    }
}

/// The lines of the log by day, and its sessions by a very simple reader.
fn days_of_the_log(dir: &std::path::Path) -> (Vec<std::path::PathBuf>, usize) {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(LOG).unwrap()).read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (mut days, mut times): (BTreeMap<String, String>, BTreeMap<String, Times>) = Default::default();
    for line in text.lines().filter(|line| line.matches('"').count() >= 6) {
        let stamp = &line.split('[').nth(1).unwrap()[..26];
        let at = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", stamp).unwrap().to_timestamp().unwrap();
        times.entry(line.split(' ').next().unwrap().to_owned()).or_default().push((at.as_millisecond(), None));
        let day = days.entry(stamp[..2].to_owned()).or_default();
        day.push_str(line);
        day.push('\n');
    }
    let sessions =
        times.values().map(|visits| starts(visits, Rules::default()).values().collect::<std::collections::BTreeSet<_>>().len()).sum();
    let files = days.iter().map(|(day, lines)| {
        let path = dir.join(format!("access.{day}.log"));
        std::fs::File::create(&path).unwrap().write_all(lines.as_bytes()).unwrap();
        path
    });
    (files.collect(), sessions)
}

fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    let with_first = |first: &usize| {
        let rest: Vec<usize> = items.iter().copied().filter(|item| item != first).collect();
        orders(&rest).into_iter().map(|rest| [vec![*first], rest].concat()).collect::<Vec<_>>()
    };
    if items.is_empty() { vec![Vec::new()] } else { items.iter().flat_map(with_first).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_access_log_has_one_number_of_sessions_in_whatever_order_its_days_are_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (files, sessions) = days_of_the_log(dir.path());
    let orders = orders(&(0..files.len()).collect::<Vec<_>>());
    // The first is the order of time and the last its opposite.
    let few = [0, 5, 9, 14, 18, orders.len() - 1];
    let chosen: Vec<&Vec<usize>> = if rounds(1) > 1 { orders.iter().collect() } else { few.iter().map(|at| &orders[*at]).collect() };
    for order in &chosen {
        let pulse = Pulse::start().await;
        let mut import = Command::new(program());
        import.args(["import", "--json", "--format", "combined", "--data-dir"]).arg(pulse.data_dir());
        let output = import.args(order.iter().map(|at| &files[*at])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ask = json!({
            "include_bots": true, "from": "2015-05-16T00:00:00Z", "to": "2015-05-22T00:00:00Z", "interval": "day", "timezone": "UTC",
            "series": [{"event": "http_request", "math": "unique_sessions"}],
        });
        let (_, trends) = pulse.http.query("trends", &ask).await;
        assert_eq!(trends["result"]["series"][0]["total"], sessions, "days in the order {order:?}");
    }
    println!("{} orders of {} days: {sessions} sessions each, as many as sorting and cutting the lines makes", chosen.len(), files.len());
}
