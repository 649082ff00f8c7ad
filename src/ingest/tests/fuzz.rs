//! What clients of every dialect send, changed at random: nothing panics, and what is packed can be read again.
//!
//! The corpus are the golden requests and those of `tests/data/requests`. `make fuzz` runs for longer.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use matchit::Router;
use proptest::prelude::*;

use super::golden::{cases, clients};
use super::{SHOP, decoded_as};
use crate::event::packed::{EventView, Fields};
use crate::ingest::WholeRequest;
use crate::ingest::protocol::{Head, PROTOCOLS, Protocol, Received};

/// Largest body of the corpus: larger ones are variations of small ones.
const LARGEST: usize = 8 << 10;
/// What parsers stumble over.
const TOKENS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00\\ud800",
    "\\u0000",
    "\u{0}",
    ":",
    ",",
    "null",
    "true",
    "1e999",
    "-0",
    "-1e-400",
    "18446744073709551616",
    "9007199254740993",
    "0x10",
    "NaN",
    "\"type\":",
    "\"batch\":[",
    "\"properties\":{",
    "\"timestamp\":",
    "\"eventId\":null,",
    "\"context\":{\"page\":{\"url\":\"",
    "\u{feff}",
    "\u{202e}",
    "\n",
    "\r\n",
    "&",
    "=",
    "%",
    "%00",
    "+",
    "data=",
    "$set",
    "[[[[[[[[[[[[",
];

struct Seed {
    protocol: &'static dyn Protocol,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

static CORPUS: LazyLock<Vec<Seed>> = LazyLock::new(|| {
    let mut routes: Router<&'static dyn Protocol> = Router::new();
    for protocol in PROTOCOLS {
        protocol.paths().iter().for_each(|path| routes.insert(*path, *protocol).unwrap());
    }
    let all = [
        cases::events(),
        cases::import(),
        cases::pixel(),
        cases::segment(),
        clients::settings(),
        clients::posthog(),
        clients::amplitude(),
        clients::mixpanel(),
        clients::snowplow(),
        clients::trackers(),
        clients::otlp(),
    ];
    let seeds = all.into_iter().flatten().filter(|case| case.body.len() <= LARGEST).filter_map(|case| {
        let protocol = *routes.at(case.path.split('?').next()?).ok()?.value;
        let headers = case.headers.iter().map(|&(name, ref value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        Some(Seed { protocol, headers: headers.collect(), path: case.path, body: case.body })
    });
    let recorded = super::recorded().into_iter().map(|(name, file)| {
        let WholeRequest { protocol, head, body } = WholeRequest::parse(&file).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        Seed { protocol, headers: head.headers, path: head.uri.to_string(), body: body.to_vec() }
    });
    seeds.chain(recorded).collect()
});

/// What is changed of a text, where, and by what.
type Mutation = (u8, usize, usize);

fn mutated(bytes: &[u8], mutations: &[Mutation], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(kind, at, value) in mutations {
        let at = at % (bytes.len() + 1);
        let end = (at + value % 40).min(bytes.len());
        match kind % 7 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value as u8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, TOKENS[value % TOKENS.len()].bytes())),
            3 => drop(bytes.splice(at..end, TOKENS[value % TOKENS.len()].bytes())),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].repeat(1 + value % 50);
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let from = value % (other.len() + 1);
                drop(bytes.splice(at..end, other[from..].iter().copied().take(200)));
            }
        }
    }
    bytes
}

/// Reads a request as its dialect does.
fn read(seed: &Seed, path: &str, body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(uri) = path.parse() else { return Ok(()) };
    let head =
        Head { uri, headers: seed.headers.clone(), client_ip: Ipv4Addr::LOCALHOST.into(), is_https: false, request_id: String::new() };
    drop(seed.protocol.credential(&head));
    let Ok(delivery) = seed.protocol.check(&head) else { return Ok(()) };
    let received = Received { head: &head, body, delivery: &delivery };
    let Ok(decoded) = decoded_as(SHOP, |_| {}, |intake| seed.protocol.events(&received, intake)) else { return Ok(()) };
    let mut events = 0;
    for packed in &decoded.partitions {
        let mut rest = packed.bytes.as_slice();
        while !rest.is_empty() {
            let event = EventView::take(&mut rest);
            prop_assert!(event.as_ref().is_some_and(|event| Fields::of(event).is_some()), "what is packed cannot be read");
            events += 1;
        }
    }
    prop_assert_eq!(events, decoded.verdicts.accepted);
    seed.protocol.answer(&head, &decoded.verdicts);
    Ok(())
}

#[test]
fn every_dialect_is_in_the_corpus() {
    for protocol in PROTOCOLS {
        assert!(CORPUS.iter().any(|seed| seed.protocol.paths() == protocol.paths()), "{:?}", protocol.paths());
    }
}

proptest! {
    #[test]
    fn bodies_of_every_dialect(
        at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        let (seed, other) = (at.get(&CORPUS[..]), other.get(&CORPUS[..]));
        read(seed, &seed.path, &mutated(&seed.body, &mutations, &other.body))?;
    }

    #[test]
    fn addresses_of_every_dialect(
        at in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        let seed = at.get(&CORPUS[..]);
        let (path, query) = seed.path.split_once('?').unwrap_or((&seed.path, ""));
        let query = mutated(query.as_bytes(), &mutations, b"type=view&userId=u&data=eyJ9&e=pv&v=2&en=a&run=18446744073709551616");
        read(seed, &format!("{path}?{}", String::from_utf8_lossy(&query)), &seed.body)?;
    }
}
