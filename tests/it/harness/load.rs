//! Load that knows what was accepted: whatever happens meanwhile, that is stored once and nothing else, and its people and sessions are those
//! of the sorted events.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fault::is_long;
use super::{Http, PATIENCE, POLL, Pulse};

const CLIENTS: u64 = 4;
const BATCH: u64 = 25;
/// Batches after which others visit.
const GENERATION: u64 = 16;
/// As `load.session_gap` and `load.longest_session` are.
const GAP_MS: i64 = 30 * 60_000;
const LONGEST_MS: i64 = 24 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;
/// A client that is not answered for so long asks again, wherever pulse is by then.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Kills in a run: few with every test run, many with `make faults`.
#[allow(clippy::disallowed_methods, reason = "how long a test runs is for whoever runs it")]
pub(crate) fn kills() -> u32 {
    std::env::var("PULSE_TEST_KILLS").map_or(12, |kills| kills.parse().unwrap())
}

/// What random series of a test follow from: the same ones in every `make test`, others wherever no seed is set.
#[allow(clippy::disallowed_methods, reason = "the configuration of the tests")]
pub(crate) fn seed() -> u64 {
    let set = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    set.unwrap_or_else(|| pulse::clock::now_ms().unsigned_abs())
}

/// A number of rounds for a test that has `few` with every test run.
pub(crate) fn rounds(few: u32) -> u32 {
    if is_long() { 3 * few } else { few }
}

/// The kills of a run, for a test that has `few` with every test run.
pub(crate) fn rounds_of(few: u32) -> u32 {
    if kills() > 12 { kills() } else { few }
}

/// Between two batches of a client: what lasts for minutes is not to fill the machine.
fn pace() -> Duration {
    Duration::from_millis(if is_long() { 50 } else { 0 })
}

/// What the clients know: which events were answered as accepted.
#[derive(Default)]
struct Oracle {
    accepted: Mutex<HashSet<String>>,
}

/// Clients that send all the time.
pub(crate) struct Load {
    pub(crate) place: SharedHttp,
    oracle: Arc<Oracle>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Sends to `http`, and to wherever [`Load::place`] says later.
    pub(crate) fn start(http: Http) -> Self {
        let place: SharedHttp = Arc::new(Mutex::new(http));
        let (oracle, stop, mut clients) = (Arc::<Oracle>::default(), CancellationToken::new(), JoinSet::new());
        for number in 0..CLIENTS {
            clients.spawn(client(number, Arc::clone(&place), Arc::clone(&oracle), stop.clone()));
        }
        Self { place, oracle, stop, clients }
    }

    /// The events that were accepted, once every client has ended.
    pub(crate) async fn ends(mut self) -> HashSet<String> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.oracle.accepted.lock().unwrap())
    }
}

/// Checks that every event that was accepted is stored once, and no other, and who they are of; returns how many there are, and how many
/// copies came.
pub(crate) async fn check_stored(http: &Http, accepted: &HashSet<String>, seed: u64) -> (usize, Value) {
    let total = http.settled().await;
    let events = http.events().await;
    let stored: Vec<String> = events.iter().map(|event| event["eventId"].as_str().unwrap().to_owned()).collect();
    let distinct: HashSet<String> = stored.iter().cloned().collect();
    assert_eq!(stored.len(), distinct.len(), "seed {seed}: events were doubled");
    assert_eq!(accepted.difference(&distinct).count(), 0, "seed {seed}: events were lost");
    assert_eq!(distinct.difference(accepted).count(), 0, "seed {seed}: events were invented");
    assert_eq!(total["stored"], json!(stored.len()), "seed {seed}: the ledger differs from the table");
    assert_eq!(total["dead"], 0);
    check_visits(http, "click", &events, seed).await;
    (stored.len(), total["duplicate"].clone())
}

/// Checks that of the events of a type sessions are those of the sorted ones, and people those that logins tie; returns how many sessions.
pub(crate) async fn check_visits(http: &Http, name: &str, events: &[Value], seed: u64) -> usize {
    let events: Vec<&Value> = events.iter().filter(|event| event["type"] == name).collect();
    let (mut visits, mut users): (BTreeMap<&str, Vec<i64>>, BTreeMap<&str, &str>) = Default::default();
    for event in &events {
        let (device, user) = (event["anonymousId"].as_str(), event["userId"].as_str());
        let at: jiff::Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
        visits.entry(device.or(user).unwrap()).or_default().push(at.as_millisecond());
        users.extend(device.zip(user));
    }
    // Nobody uses the device of another one, so each is of the user who was seen with it.
    let people: BTreeSet<&str> = visits.keys().map(|visitor| *users.get(visitor).unwrap_or(visitor)).collect();
    let mut sessions = BTreeSet::new();
    let mut starts = BTreeMap::new();
    for (visitor, times) in &mut visits {
        times.sort_unstable();
        let mut session: Option<(i64, i64)> = None;
        for at in times.iter().copied() {
            let first = session.filter(|(first, last)| at - last <= GAP_MS && at - first <= LONGEST_MS).map_or(at, |(first, _)| first);
            sessions.insert((*visitor, first));
            starts.insert((*visitor, at), first);
            session = Some((first, at));
        }
    }
    let times = || visits.values().flatten();
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return 0 };
    let time = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let series = [json!({"event": name, "math": "unique_sessions"}), json!({"event": name, "math": "unique_users"})];
    let ask = json!({"from": time(*first), "to": time(last + 1), "series": series, "interval": "day", "refresh": true});
    let (expected, mut found) = ([json!(sessions.len()), json!(people.len())], [Value::Null, Value::Null]);
    let agree = async {
        while found != expected {
            // What other instances have loaded is known here a moment later.
            tokio::time::sleep(POLL).await;
            let (status, answer) = http.query("trends", &ask).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            found = [0, 1].map(|series| answer["result"]["series"][series]["total"].clone());
        }
    };
    let agreed = tokio::time::timeout(PATIENCE, agree).await;
    assert!(agreed.is_ok(), "seed {seed}: sessions and people are {found:?}, not {expected:?}; {}", split(&events, &starts));
    sessions.len()
}

/// Sessions of which events have other ids than those that begin with them, a few of them.
fn split(events: &[&Value], starts: &BTreeMap<(&str, i64), i64>) -> String {
    let mut ids: BTreeMap<(&str, i64), BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for event in events {
        let visitor = event["anonymousId"].as_str().or(event["userId"].as_str()).unwrap();
        let at = event["timestamp"].as_str().unwrap();
        let at_ms = at.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let of_session = ids.entry((visitor, starts[&(visitor, at_ms)])).or_default();
        of_session.entry(event["sessionId"].as_str().unwrap()).or_default().push(format!("{at} received {}", event["receivedAt"]));
    }
    let torn: Vec<_> = ids.into_iter().filter(|(_, ids)| ids.len() > 1).collect();
    format!("{} sessions are torn, as {:#?}", torn.len(), torn.iter().take(3).collect::<Vec<_>>())
}

/// Where pulse is now; it moves with every restart.
pub(crate) type SharedHttp = Arc<Mutex<Http>>;

/// Sends batches until asked to stop. A batch whose fate is unknown is sent again with the same ids, as an SDK does.
async fn client(number: u64, place: SharedHttp, oracle: Arc<Oracle>, stop: CancellationToken) {
    let began_ms = jiff::Timestamp::now().as_millisecond();
    for batch in 0.. {
        let ids: Vec<String> = (0..BATCH).map(|event| format!("{number:08x}-0000-4000-8000-{:012x}", batch * BATCH + event)).collect();
        let events: Vec<Value> = (0..).zip(&ids).map(|(at, id)| click(number, batch * BATCH + at, id, began_ms)).collect();
        loop {
            let http = place.lock().unwrap().clone();
            match tokio::time::timeout(LONGEST_WAIT, http.try_capture(&json!(events))).await {
                Ok(Ok((StatusCode::OK, _))) => break,
                Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Ok(Ok(other)) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        oracle.accepted.lock().unwrap().extend(ids);
        tokio::time::sleep(pace()).await;
        if stop.is_cancelled() {
            return;
        }
    }
}

/// An event of a client: of a device whose user is seen with it now and then, of a user, or of a visitor; one of ten is of the last two days.
fn click(client: u64, number: u64, id: &str, began_ms: i64) -> Value {
    let (group, visitor) = (format!("{client}-{}", number / (GENERATION * BATCH)), number % 7);
    let user = json!(format!("user-{group}-{}", visitor / 2));
    let mut event = json!({"eventId": id, "type": "click", "properties": {"n": number}});
    if visitor != 4 {
        event["anonymousId"] = json!(format!("visitor-{group}-{visitor}"));
    }
    if visitor == 4 || visitor < 4 && number / 7 % 3 == 2 {
        event["userId"] = user;
    }
    if number % 10 == 3 {
        let ago_ms = 2 * HOUR_MS + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64 % (40 * HOUR_MS);
        event["timestamp"] = json!(began_ms - ago_ms);
    }
    event
}

/// A repeatable source of moments.
pub(crate) struct Moments(u64);

impl Moments {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self, below_ms: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % below_ms)
    }

    /// A number below a limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next(limit as u64).as_millis()).unwrap()
    }
}

/// Runs load while `fault` strikes again and again; then checks every promise.
pub(crate) async fn under_load(seed: u64, fault: impl AsyncFnMut(&mut Pulse, &SharedHttp, &mut Moments)) {
    under_load_on(Pulse::start().await, (seed, kills()), fault).await;
}

/// The same on a pulse of the caller's, for some number of faults.
pub(crate) async fn under_load_on(
    mut pulse: Pulse,
    (seed, faults): (u64, u32),
    mut fault: impl AsyncFnMut(&mut Pulse, &SharedHttp, &mut Moments),
) {
    let load = Load::start(pulse.http.clone());
    let mut moments = Moments(seed);
    for _ in 0..faults {
        tokio::time::sleep(moments.next(400)).await;
        fault(&mut pulse, &load.place, &mut moments).await;
    }
    let accepted = load.ends().await;
    let (stored, copies) = check_stored(&pulse.http, &accepted, seed).await;
    println!("seed {seed}: {faults} faults, {stored} events, {copies} copies, 0 lost, 0 doubled");
    let fresh = json!({"eventId": "ffffffff-0000-4000-8000-000000000001", "type": "fresh", "anonymousId": "x"});
    assert_eq!(pulse.http.capture(&fresh).await.0, StatusCode::OK);
    assert_eq!(pulse.http.settled().await["stored"], json!(stored + 1));
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(pulse.stop().await);
}

pub(crate) async fn restart(pulse: &mut Pulse, place: &SharedHttp) {
    pulse.restart().await;
    *place.lock().unwrap() = pulse.http.clone();
}
