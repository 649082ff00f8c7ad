//! The stream of the benchmark: realistic events, cheap to make, the same for the same seed.
//!
//! About 900 bytes of JSON each, over thirty fields, Zipf-like users and event names, 5 % late, 1 % sent twice. A pool of
//! finished events is kept, and only what differs is patched in: the generator shares the machine with what it measures.

use std::fmt::Write as _;
use std::time::Duration;

/// Visitors of the stream.
const USERS: u64 = 2_000_000;
/// Finished events to choose from.
const TEMPLATES: usize = 512;
/// One in this many events is late, and one in this many is sent again.
const LATE_ONE_IN: u64 = 20;
const COPY_ONE_IN: u64 = 100;
const NAMES: [&str; 16] = [
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
const TIME_MARK: &str = "9999999999999";

/// A finished event with the places of what differs.
struct Template {
    text: Vec<u8>,
    id: usize,
    visitor: usize,
    time: usize,
}

/// Makes events; each sender has one of its own.
pub(super) struct Events {
    templates: Vec<Template>,
    random: u64,
    sender: u64,
    lateness_ms: u64,
    made: u64,
    last: Vec<u8>,
}

impl Events {
    /// The stream of one sender; what is late is so by `lateness` at most.
    pub(super) fn new(sender: u64, lateness: Duration) -> Self {
        let mut random = 0x9E37_79B9_7F4A_7C15 ^ (sender + 1);
        let templates = (0..TEMPLATES).map(|_| template(&mut random)).collect();
        Self { templates, random, sender, lateness_ms: (lateness.as_millis() as u64).max(1), made: 0, last: Vec::new() }
    }

    /// Appends a batch of `size` events as a JSON array; returns how many of them are new (the others are copies).
    pub(super) fn batch(&mut self, size: usize, now_ms: i64, out: &mut Vec<u8>) -> u64 {
        let mut fresh = 0;
        out.push(b'[');
        for index in 0..size {
            if index > 0 {
                out.push(b',');
            }
            if !self.last.is_empty() && next(&mut self.random).is_multiple_of(COPY_ONE_IN) {
                out.extend_from_slice(&self.last);
            } else {
                self.event(now_ms, out);
                fresh += 1;
            }
        }
        out.push(b']');
        fresh
    }

    fn event(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        let random = next(&mut self.random);
        let Some(template) = self.templates.get((random >> 32) as usize % TEMPLATES) else { return };
        let start = out.len();
        out.extend_from_slice(&template.text);
        self.made += 1;
        let event = out.get_mut(start..).unwrap_or_default();
        put_hex(event, template.id, (self.sender << 40) | self.made, 36);
        // Small ranks are drawn far more often than large ones.
        let rank = (USERS as f64).powf((random & 0xFFFF_FFFF) as f64 / f64::from(u32::MAX)) as u64;
        put_hex(event, template.visitor, rank.wrapping_mul(0x2545_F491_4F6C_DD1D), 36);
        let is_late = next(&mut self.random).is_multiple_of(LATE_ONE_IN);
        let at_ms = if is_late { now_ms - 1_000 - (random % self.lateness_ms) as i64 } else { now_ms };
        put_decimal(event, template.time, at_ms as u64);
        if self.made.is_multiple_of(37) {
            self.last.clear();
            self.last.extend_from_slice(event);
        }
    }
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
        if matches!(byte, b'@' | b'#') {
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

fn template(random: &mut u64) -> Template {
    let mut pick = |below: u64| next(random) % below;
    let skewed = pick(16) * pick(16) / 16;
    let name = NAMES.get(skewed as usize).copied().unwrap_or("click");
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
        r#"{{"eventId":"{ID_MARK}","type":"{name}","anonymousId":"{VISITOR_MARK}","timestamp":{TIME_MARK},"context":{{"app":{{"name":"shop","version":"4.{}.1"}},"locale":"{}","timezone":"Europe/Berlin","screen":{{"width":{width},"height":{height},"density":2}},"page":{{"url":"https://shop.example/products/{page}{campaign}","path":"/products/{page}","title":"Product {page} at the example shop","referrer":"{referrer}"}},"ip":"{address}","userAgent":"{agent}"}},"properties":{{"product_id":"sku-{product}","category":"{}","price":{price},"quantity":{},"currency":"EUR","in_stock":{},"position":{},"list":"search_results","experiment":"variant-{}","load_ms":{}}}}}"#,
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
    Template { id: find(ID_MARK), visitor: find(VISITOR_MARK), time: find(TIME_MARK), text: text.into_bytes() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_stream_is_json_with_ids_of_its_own_and_the_copies_it_says() {
        let mut events = Events::new(3, Duration::from_secs(600));
        let mut ids = HashSet::new();
        let mut fresh = 0;
        for _ in 0..50 {
            let mut out = Vec::new();
            fresh += events.batch(100, 1_790_000_000_000, &mut out);
            let batch: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(batch.len(), 100);
            ids.extend(batch.iter().map(|event| event["eventId"].as_str().unwrap().to_owned()));
            assert!(batch.iter().all(|event| event["timestamp"].as_i64().unwrap() > 1_789_000_000_000));
        }
        assert_eq!(ids.len() as u64, fresh);
        assert!(fresh < 5_000);
    }
}
