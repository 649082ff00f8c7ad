//! What stands between one SDK and pulse: a proxy that may be bad weather, and counts what the SDK tries.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::POLL;

/// What becomes of requests that bring events.
#[derive(Clone, Debug)]
pub(super) enum Weather {
    /// They are passed on.
    Fair,
    /// They are passed to the instance at `full`, which can take nothing, for this long from the first.
    Outage { lasts: Duration, full: String },
    /// Those that bring more orders at once are passed on as larger than anybody may send.
    Large(usize),
    /// They are passed on, and their answers come this much later.
    Slow(Duration),
    /// They are passed on and their answers lost, until [`Front::clear`].
    Deaf,
}

/// What came of requests that bring events.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    pub(super) requests: u64,
    /// The first request and the last.
    between: Option<[Instant; 2]>,
    /// The numbers of the orders in those that pulse has answered with nothing in its way, also where the answer was lost.
    pub(super) reached: BTreeSet<u64>,
}

impl Tried {
    /// From the first request to the last.
    pub(super) fn lasted(&self) -> Duration {
        self.between.map_or(Duration::ZERO, |[first, last]| last - first)
    }
}

/// Ends with the test.
pub(super) struct Front {
    pub(super) address: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    target: Mutex<String>,
    weather: Mutex<Weather>,
    tried: Mutex<Tried>,
    client: Client<HttpConnector, BoxBody<Bytes, Infallible>>,
}

impl Front {
    /// In front of the server at `target`.
    pub(super) async fn start(target: &str, weather: Weather) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            weather: Mutex::new(weather),
            tried: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
        });
        let mut serving = JoinSet::new();
        let passing = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&passing);
                let service = hyper::service::service_fn(move |request| pass(Arc::clone(&shared), request));
                // A client may leave at any time.
                connections
                    .spawn(async move { hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Self { address, shared, _serving: serving }
    }

    /// From now on the weather is fair, and the server is at `target`.
    pub(super) fn clear(&self, target: &str) {
        target.clone_into(&mut self.shared.target.lock().unwrap());
        *self.shared.weather.lock().unwrap() = Weather::Fair;
    }

    pub(super) fn tried(&self) -> Tried {
        self.shared.tried.lock().unwrap().clone()
    }
}

impl Shared {
    /// Counts a request that brings events; how long after the first one it comes.
    fn count(&self) -> Duration {
        let mut tried = self.tried.lock().unwrap();
        let now = Instant::now();
        tried.requests += 1;
        tried.between = Some([tried.between.map_or(now, |[first, _]| first), now]);
        tried.lasted()
    }
}

/// A body that is said to be long, and never comes.
struct Promised;

impl hyper::body::Body for Promised {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1 << 40)
    }
}

/// Passes a request on. An error breaks the connection.
async fn pass(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path();
    let asks = ["/flags", "/array", "/sourceConfig"].iter().any(|start| path.starts_with(start));
    let query = parts.uri.query().unwrap_or_default();
    let has_data = parts.method == Method::GET && query.contains("data=");
    let brings_events = !asks && (parts.method == Method::POST || has_data);
    let said = unpacked(query, &body);
    let (weather, after) = match brings_events {
        true => (shared.weather.lock().unwrap().clone(), shared.count()),
        false => (Weather::Fair, Duration::ZERO),
    };
    let full = match &weather {
        Weather::Outage { lasts, full } if after < *lasts => Some(full),
        _ => None,
    };
    let is_large = matches!(weather, Weather::Large(most) if orders(&said) > most);
    let response = loop {
        let target = full.cloned().unwrap_or_else(|| shared.target.lock().unwrap().clone());
        let passed_on = if is_large { Promised.boxed() } else { Full::new(body.clone()).boxed() };
        let uri = format!("{target}{}", parts.uri.path_and_query().unwrap());
        let mut onward = Request::builder().method(parts.method.clone()).uri(uri).body(passed_on)?;
        *onward.headers_mut() = parts.headers.clone();
        if is_large {
            onward.headers_mut().remove(header::CONTENT_LENGTH);
            onward.headers_mut().remove(header::TRANSFER_ENCODING);
        }
        match shared.client.request(onward).await {
            Ok(response) => break response,
            // An SDK that cannot be set up sends nothing at all: that is not what is looked at here.
            Err(_) if !brings_events => tokio::time::sleep(POLL).await,
            Err(problem) => return Err(problem.into()),
        }
    };
    let (parts, body) = response.into_parts();
    let response = Response::from_parts(parts, Full::new(body.collect().await?.to_bytes()));
    if brings_events && full.is_none() && !is_large {
        shared.tried.lock().unwrap().reached.extend(numbers(&said));
    }
    match weather {
        Weather::Slow(delay) => tokio::time::sleep(delay).await,
        Weather::Deaf => return Err("the answer is lost".into()),
        _ => {}
    }
    Ok(response)
}

/// What a request brings in plain words: its body, or its query where it has none.
fn unpacked(query: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if flate2::read::GzDecoder::new(body).read_to_end(&mut plain).is_err() {
        plain = if body.is_empty() { query.as_bytes() } else { body }.to_vec();
    }
    let data = url::form_urlencoded::parse(&plain).find(|(name, _)| name == "data").map(|(_, data)| data.into_owned());
    data.map(|data| STANDARD.decode(&data).unwrap_or(data.into_bytes())).unwrap_or(plain)
}

/// How many orders there are in what a request brings, whatever dialect that is.
fn orders(said: &[u8]) -> usize {
    // What Snowplow's trackers say of an order is packed once more.
    [b"total".as_slice(), b"ue_px", b"ue_pr"].iter().map(|mark| memchr::memmem::find_iter(said, mark).count()).sum()
}

/// The numbers of these orders.
fn numbers(said: &[u8]) -> BTreeSet<u64> {
    let mut words = String::from_utf8_lossy(said).replace('\\', "");
    let packed: Vec<Vec<u8>> = words.split(r#""ue_px""#).skip(1).filter_map(unpacked_order).collect();
    words.extend(packed.iter().map(|order| String::from_utf8_lossy(order)));
    let digits =
        |rest: &str| rest.trim_start().split(|letter: char| !letter.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let in_words = words.split(r#""n":"#).skip(1).filter_map(digits);
    // In Protobuf, as OTLP has it: a key of one letter and a whole number of one byte.
    let key = b"\n\x01n\x12\x02\x18";
    let in_bytes = memchr::memmem::find_iter(said, key).filter_map(|at| said.get(at + key.len())).map(|number| u64::from(*number));
    in_words.chain(in_bytes).collect()
}

/// What Snowplow's trackers have packed, by what stands behind its name.
fn unpacked_order(rest: &str) -> Option<Vec<u8>> {
    let letters = rest.trim_start_matches([':', ' ', '"']).split('"').next()?;
    URL_SAFE_NO_PAD.decode(letters.trim_end_matches('=').replace('+', "-").replace('/', "_")).ok()
}

#[test]
fn the_orders_in_the_requests_of_every_dialect_are_found() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/requests");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let request = std::fs::read(&path).unwrap();
        let end = memchr::memmem::find(&request, b"\n\n").unwrap();
        let head = String::from_utf8_lossy(&request[..end]);
        let query = head.lines().next().unwrap_or_default().split_once('?').map_or("", |(_, query)| query);
        let said = unpacked(query, &request[end + 2..]);
        // It has no numbers, and no SDK sends it.
        if !path.ends_with("pixel.http") {
            assert_eq!(numbers(&said).len(), orders(&said), "{path:?}");
            found += orders(&said);
        }
    }
    assert!(found > 200, "{found}");
}
