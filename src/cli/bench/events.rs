//! The stream of the benchmark: realistic events, cheap to make, the same for the same seed.
//!
//! About 900 bytes of JSON each, over thirty fields, Zipf-like event names, 1 % sent twice. Events come in sessions of a person, twelve
//! on average (geometric), many at a time; persons are drawn by Zipf's law and some have two devices. Every third session begins with
//! an `identify` (3 % of the events), and its events carry the user from then on. One session in twenty was offline: it is sent whole,
//! up to `lateness` after it happened, mostly much less. A run of a million events is as a day is: 1.4 sessions of each person in it. A
//! pool of finished events is kept, and only what differs is patched in: the generator shares the machine with what it measures.

use std::fmt::Write as _;
use std::time::Duration;

/// Persons of the stream.
const PERSONS: u64 = 2_000_000;
/// Added to the ranks of Zipf's law (Mandelbrot): the most active person has one session in 7,600.
const FLATNESS: f64 = 1_000.0;
/// Sessions of one sender that go on at once.
const SESSIONS: usize = 20_000;
/// One event in this many ends its session.
const SESSION_EVENTS: u64 = 12;
/// One session in this many begins with an `identify`, one person in this many comes from another device, and one session in this
/// many was offline.
const IDENTIFY_ONE_IN: u64 = 3;
const DEVICE_ONE_IN: u64 = 7;
const LATE_ONE_IN: u64 = 20;
/// What was offline has an event in this many milliseconds.
const OFFLINE_STEP_MS: u64 = 20_000;
/// Finished events to choose from, of each kind.
const TEMPLATES: usize = 256;
/// One event in this many is sent again.
const COPY_ONE_IN: u64 = 100;
/// What events are called.
pub(super) const NAMES: [&str; 16] = [
    "page_view",
    "click",
    "search",
    "product_view",
    "add_to_cart",
    "scroll",
    "video_play",
    "login",
    "checkout",
    "purchase",
    "signup",
    "share",
    "logout",
    "refund",
    "invite",
    "upgrade",
];
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
];
const ID_MARK: &str = "@@@@@@@@-@@@@-4@@@-8@@@-@@@@@@@@@@@@";
const VISITOR_MARK: &str = "########-####-4###-8###-############";
const USER_MARK: &str = "~~~~~~~~";
const TIME_MARK: &str = "9999999999999";

/// How many events of each of [`NAMES`] happened in the minute in which they were made.
pub(super) type OfNames = [u32; NAMES.len()];

/// What a batch is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    /// Events that are no copies of others.
    pub(super) fresh: u64,
    /// When the minute began in which it was made.
    pub(super) minute_ms: i64,
    pub(super) of_names: OfNames,
}

/// A finished event with the places of what differs.
struct Template {
    /// Which of [`NAMES`]; none of them for an `identify`.
    name: usize,
    text: Vec<u8>,
    id: usize,
    visitor: usize,
    time: usize,
    user: Option<usize>,
}

/// Whose events a template can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anonymous,
    Known,
    Identify,
}

/// Somebody's session that goes on.
#[derive(Clone, Copy, Default)]
struct Session {
    person: u64,
    device: u64,
    is_known: bool,
}

/// A session that is sent long after it happened.
struct Offline {
    session: Session,
    /// Of its next event.
    kind: Kind,
    at_ms: u64,
    left: u64,
}

/// Makes events; each sender has one of its own.
pub(super) struct Events {
    anonymous: Vec<Template>,
    known: Vec<Template>,
    identify: Vec<Template>,
    sessions: Vec<Session>,
    offline: Option<Offline>,
    random: u64,
    sender: u64,
    lateness_ms: f64,
    made: u64,
    /// Of the batch that is being made, and when the minute of it began.
    of_names: OfNames,
    minute_ms: u64,
    last: Vec<u8>,
}

impl Events {
    /// The stream of one sender; what is late is so by `lateness` at most.
    pub(super) fn new(sender: u64, lateness: Duration) -> Self {
        let mut random = 0x9E37_79B9_7F4A_7C15 ^ (sender + 1);
        let mut templates = |kind| (0..TEMPLATES).map(|_| template(&mut random, kind)).collect();
        let (anonymous, known, identify) = (templates(Kind::Anonymous), templates(Kind::Known), templates(Kind::Identify));
        let sessions = (0..SESSIONS).map(|_| session(&mut random)).collect();
        let lateness_ms = lateness.as_millis().max(1) as f64;
        Self {
            anonymous,
            known,
            identify,
            sessions,
            offline: Default::default(),
            random,
            sender,
            lateness_ms,
            made: 0,
            of_names: OfNames::default(),
            minute_ms: 0,
            last: Vec::new(),
        }
    }

    /// Appends a batch of `size` events as a JSON array.
    pub(super) fn batch(&mut self, size: usize, now_ms: i64, out: &mut Vec<u8>) -> Made {
        let mut fresh = 0;
        (self.of_names, self.minute_ms) = (OfNames::default(), now_ms as u64 / 60_000 * 60_000);
        out.push(b'[');
        for index in 0..size {
            if index > 0 {
                out.push(b',');
            }
            if !self.last.is_empty() && next(&mut self.random).is_multiple_of(COPY_ONE_IN) {
                out.extend_from_slice(&self.last);
            } else {
                self.event(now_ms as u64, out);
                fresh += 1;
            }
        }
        out.push(b']');
        Made { fresh, minute_ms: self.minute_ms as i64, of_names: self.of_names }
    }

    fn event(&mut self, now_ms: u64, out: &mut Vec<u8>) {
        let random = next(&mut self.random);
        if let Some(mut offline) = self.offline.take() {
            self.write(offline.session, offline.kind, offline.at_ms, out);
            offline.kind = if offline.kind == Kind::Anonymous { Kind::Anonymous } else { Kind::Known };
            offline.at_ms += OFFLINE_STEP_MS;
            offline.left -= 1;
            self.offline = (offline.left > 0).then_some(offline);
            return;
        }
        let at = (random >> 40) as usize % SESSIONS;
        let Some(going) = self.sessions.get_mut(at) else { return };
        let (mut session, mut kind) = (*going, if going.is_known { Kind::Known } else { Kind::Anonymous });
        if random.is_multiple_of(SESSION_EVENTS) {
            *going = self::session(&mut self.random);
            session = *going;
            if next(&mut self.random).is_multiple_of(IDENTIFY_ONE_IN) {
                (going.is_known, kind) = (true, Kind::Identify);
            }
            if next(&mut self.random).is_multiple_of(LATE_ONE_IN) {
                self.offline = Some(self.begin_offline(now_ms));
            }
        }
        session.is_known = kind != Kind::Anonymous;
        self.write(session, kind, now_ms, out);
    }

    /// A session that ended before now; shorter times are as likely as ten times longer ones.
    fn begin_offline(&mut self, now_ms: u64) -> Offline {
        let late_ms = self.lateness_ms.powf(fraction(&mut self.random)) as u64;
        let left = 1 + (fraction(&mut self.random).max(1e-9).ln() / (1.0 - 1.0 / SESSION_EVENTS as f64).ln()) as u64;
        let kind = if next(&mut self.random).is_multiple_of(IDENTIFY_ONE_IN) { Kind::Identify } else { Kind::Anonymous };
        Offline { session: session(&mut self.random), kind, at_ms: now_ms - late_ms - left * OFFLINE_STEP_MS, left }
    }

    fn write(&mut self, session: Session, kind: Kind, at_ms: u64, out: &mut Vec<u8>) {
        let templates = match kind {
            Kind::Anonymous => &self.anonymous,
            Kind::Known => &self.known,
            Kind::Identify => &self.identify,
        };
        let Some(template) = templates.get(next(&mut self.random) as usize % TEMPLATES) else { return };
        let start = out.len();
        out.extend_from_slice(&template.text);
        self.made += 1;
        if let Some(number) = self.of_names.get_mut(template.name).filter(|_| at_ms >= self.minute_ms) {
            *number += 1;
        }
        let event = out.get_mut(start..).unwrap_or_default();
        put_hex(event, template.id, (self.sender << 40) | self.made, ID_MARK.len());
        let visitor = 2 * session.person + session.device;
        put_hex(event, template.visitor, visitor.wrapping_mul(0x2545_F491_4F6C_DD1D), VISITOR_MARK.len());
        if let Some(user) = template.user {
            put_hex(event, user, session.person, USER_MARK.len());
        }
        put_decimal(event, template.time, at_ms);
        if self.made.is_multiple_of(37) {
            self.last.clear();
            self.last.extend_from_slice(event);
        }
    }
}

/// A number from 0 to 1.
fn fraction(random: &mut u64) -> f64 {
    (next(random) >> 32) as f64 / f64::from(u32::MAX)
}

/// Somebody begins a session: small ranks are drawn far more often than large ones, but nobody makes all the traffic.
fn session(random: &mut u64) -> Session {
    let person = FLATNESS * ((PERSONS as f64 / FLATNESS + 1.0).powf(fraction(random)) - 1.0);
    let person = person as u64;
    let device = u64::from(next(random).is_multiple_of(DEVICE_ONE_IN));
    Session { person, device, is_known: false }
}

/// A step of a generator that is good enough to shuffle with (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Writes the digits of a UUID into the marks: 15 from `value`, the rest from its mixture.
fn put_hex(event: &mut [u8], at: usize, value: u64, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut state = value;
    let mixed = [value, next(&mut state)];
    let mut digit = 0;
    for byte in event.get_mut(at..at + len).unwrap_or_default() {
        if matches!(byte, b'@' | b'#' | b'~') {
            let word = mixed.get(digit / 16).copied().unwrap_or_default();
            *byte = DIGITS.get((word >> (4 * (digit % 16))) as usize & 15).copied().unwrap_or(b'0');
            digit += 1;
        }
    }
}

fn put_decimal(event: &mut [u8], at: usize, mut value: u64) {
    for byte in event.get_mut(at..at + TIME_MARK.len()).unwrap_or_default().iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn template(random: &mut u64, kind: Kind) -> Template {
    let mut pick = |below: u64| next(random) % below;
    let user = if kind == Kind::Anonymous { String::new() } else { format!(r#""userId":"user-{USER_MARK}","#) };
    let skewed = pick(16) * pick(16) / 16;
    let at = if kind == Kind::Identify { NAMES.len() } else { skewed as usize };
    let name = NAMES.get(at).copied().unwrap_or("identify");
    let agent = AGENTS.get(pick(6) as usize).copied().unwrap_or_default();
    let (product, price, page) = (pick(500), pick(20_000) as f64 / 100.0, pick(300));
    let [width, height] = [[1920, 1080], [1440, 900], [390, 844], [412, 915]][pick(4) as usize];
    let campaign =
        ["", "?utm_source=google&utm_medium=cpc&utm_campaign=summer", "?utm_source=news&utm_medium=email", "?gclid=EAIaIQobChMI"]
            [pick(4) as usize];
    let referrer = ["", "https://www.google.com/", "https://t.co/abc", "https://news.ycombinator.com/item?id=1"][pick(4) as usize];
    let address = format!("{}.{}.{}.{}", 1 + pick(200), pick(16), pick(4), 1 + pick(250));
    let mut text = String::new();
    let _ = write!(
        text,
        r#"{{"eventId":"{ID_MARK}","type":"{name}","anonymousId":"{VISITOR_MARK}",{user}"timestamp":{TIME_MARK},"context":{{"app":{{"name":"shop","version":"4.{}.1"}},"locale":"{}","timezone":"Europe/Berlin","screen":{{"width":{width},"height":{height},"density":2}},"page":{{"url":"https://shop.example/products/{page}{campaign}","path":"/products/{page}","title":"Product {page} at the example shop","referrer":"{referrer}"}},"ip":"{address}","userAgent":"{agent}"}},"properties":{{"product_id":"sku-{product}","category":"{}","price":{price},"quantity":{},"currency":"EUR","in_stock":{},"position":{},"list":"search_results","experiment":"variant-{}","load_ms":{}}}}}"#,
        pick(9),
        ["en-US", "de-DE", "fr-FR", "es-ES"][pick(4) as usize],
        ["shoes", "shirts", "hats", "bags", "toys"][pick(5) as usize],
        1 + pick(4),
        pick(2) == 0,
        pick(40),
        pick(3),
        20 + pick(900),
    );
    let find = |mark: &str| text.find(mark).unwrap_or(0);
    let (id, visitor, time, user) = (find(ID_MARK), find(VISITOR_MARK), find(TIME_MARK), text.find(USER_MARK));
    Template { name: at, id, visitor, time, user, text: text.into_bytes() }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_stream_is_json_with_ids_of_its_own_and_the_shares_that_it_says() {
        const NOW_MS: i64 = 1_790_000_000_000;
        const BATCHES: u64 = 2_000;
        let mut stream = Events::new(3, Duration::from_secs(3 * 86_400));
        let (mut events, mut fresh, mut of_names) = (HashMap::new(), 0, OfNames::default());
        for _ in 0..BATCHES {
            let mut out = Vec::new();
            let made = stream.batch(100, NOW_MS, &mut out);
            fresh += made.fresh;
            of_names.iter_mut().zip(made.of_names).for_each(|(all, more)| *all += more);
            let batch: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(batch.len(), 100);
            events.extend(batch.into_iter().map(|event| (event["eventId"].as_str().unwrap().to_owned(), event)));
        }
        assert_eq!(events.len() as u64, fresh);
        for (name, number) in NAMES.iter().zip(of_names) {
            let is_of_minute = |event: &&serde_json::Value| event["timestamp"].as_i64() >= Some(NOW_MS / 60_000 * 60_000);
            assert_eq!(events.values().filter(|event| event["type"] == *name).filter(is_of_minute).count(), number as usize, "{name}");
        }
        let share = |is: fn(&serde_json::Value) -> bool| 100.0 * events.values().filter(|event| is(event)).count() as f64 / fresh as f64;
        let copies = 100.0 - fresh as f64 / BATCHES as f64;
        let late = share(|event| event["timestamp"].as_i64().unwrap() < NOW_MS);
        let (identify, known) = (share(|event| event["type"] == "identify"), share(|event| event["userId"].is_string()));
        let late_logins = share(|event| event["type"] == "identify" && event["timestamp"].as_i64().unwrap() < NOW_MS);
        for (found, expected) in [(copies, 1.0), (late, 5.0), (identify, 2.8), (late_logins, 0.14)] {
            assert!((0.7 * expected..1.4 * expected).contains(&found), "{found} instead of {expected}");
        }
        assert!(known > identify && known < 50.0, "{known}");
        assert!(events.values().all(|event| event["timestamp"].as_i64().unwrap() > NOW_MS - 4 * 86_400_000));
        let ids = || events.values().filter_map(|event| Some((event["anonymousId"].as_str()?, event["userId"].as_str()?)));
        let users: HashMap<&str, &str> = ids().collect();
        assert!(ids().all(|(visitor, user)| users[visitor] == user), "a device is of one person");
    }

    #[test]
    fn who_is_active_in_a_million_events_has_some_more_than_one_session() {
        let (sessions, mut random) = (1_000_000 / SESSION_EVENTS, 7);
        let persons: HashSet<u64> = (0..sessions).map(|_| session(&mut random).person).collect();
        let of_each = sessions as f64 / persons.len() as f64;
        assert!((1.3..1.45).contains(&of_each), "{of_each}");
    }
}
