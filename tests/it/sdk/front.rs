//! What stands between SDKs and pulse: a proxy that may be bad weather.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
    /// Those of one client are passed to the instance at `full`, which can take nothing, for this long from its first.
    Outage { lasts: Duration, full: String },
    /// Those that bring more orders at once are passed on as larger than anybody may send.
    Large(usize),
    /// They are passed on, and their answers come this much later.
    Slow(Duration),
    /// They are passed on and their answers lost, until [`Front::clear`].
    Deaf,
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
    /// When each client came first, by path and agent.
    clients: Mutex<HashMap<String, Instant>>,
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
            clients: Mutex::default(),
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
}

impl Shared {
    /// Whether less than this has passed since a client's first request.
    fn is_new(&self, client: String, lasts: Duration) -> bool {
        self.clients.lock().unwrap().entry(client).or_insert_with(Instant::now).elapsed() < lasts
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
    let has_data = parts.method == Method::GET && parts.uri.query().is_some_and(|query| query.contains("data="));
    let brings_events = !asks && (parts.method == Method::POST || has_data);
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let client = format!("{path} {agent}");
    let weather = if brings_events { shared.weather.lock().unwrap().clone() } else { Weather::Fair };
    let full = match &weather {
        Weather::Outage { lasts, full } if shared.is_new(client, *lasts) => Some(full),
        _ => None,
    };
    let is_large = matches!(weather, Weather::Large(most) if orders(&body) > most);
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
    match weather {
        Weather::Slow(delay) => tokio::time::sleep(delay).await,
        Weather::Deaf => return Err("the answer is lost".into()),
        _ => {}
    }
    Ok(response)
}

/// How many orders a body brings, whatever it is packed in.
fn orders(body: &[u8]) -> usize {
    let mut plain = Vec::new();
    if flate2::read::GzDecoder::new(body).read_to_end(&mut plain).is_err() {
        plain = body.to_vec();
    }
    let data = url::form_urlencoded::parse(&plain).find(|(name, _)| name == "data").map(|(_, data)| data.into_owned());
    let data = data.map(|data| STANDARD.decode(&data).unwrap_or(data.into_bytes())).unwrap_or(plain);
    // What Snowplow's trackers say of an order is packed once more.
    [b"total".as_slice(), b"ue_px", b"ue_pr"].iter().map(|mark| memchr::memmem::find_iter(&data, mark).count()).sum()
}
