//! The way to pulse: batches over HTTP, and the books of this run.
//!
//! Promises: a batch is sent until it is answered, or the import fails. A batch that was taken but whose answer was lost is
//! sent again: ids are the same, so its events end as duplicates and nothing counts twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::read::Batch;

/// Pauses between attempts: from a hiccup to a restart.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one batch is tried: longer than a restart with recovery takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a sign of life: the address may be one that something else has taken.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;
/// Pauses between looks at the books.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How long the books may stand still: longer than ClickHouse takes to restart.
const STALL: Duration = Duration::from_secs(600);

/// The keys of the project.
#[derive(Clone)]
pub(super) struct AccessKeys {
    /// Sends; the read key may, too.
    pub(super) import: String,
    /// Asks.
    pub(super) read: String,
}

/// How the lines of this run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Books {
    pub(super) received: u64,
    pub(super) stored: u64,
    pub(super) duplicate: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
    pub(super) dead: u64,
    pub(super) waiting: u64,
}

impl Books {
    /// Whether `sent` lines all have their outcome.
    fn are_settled(&self, sent: u64) -> bool {
        let settled = self.stored + self.duplicate + self.filtered + self.dead;
        self.waiting == 0 && self.received >= sent && self.received == settled
    }
}

#[derive(Deserialize)]
struct Ledger {
    total: Books,
}

#[derive(Deserialize)]
struct Taken {
    accepted: u64,
    dead: u64,
}

/// Why an attempt brought no answer.
enum Refusal {
    /// The same request may succeed later.
    Later(String),
    /// It never will.
    Never(String),
}

/// A pulse, and one run of an import into it.
pub(super) struct Connection {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    import_key: HeaderValue,
    read_key: HeaderValue,
    run: u64,
}

impl Connection {
    /// To the pulse at `url`, for a run of its own.
    pub(super) fn new(url: &str, keys: &AccessKeys) -> Result<Self> {
        let parsed = url::Url::parse(url).with_context(|| format!("url: `{url}`"))?;
        ensure!(parsed.scheme() == "http", "url: `{url}` is not http://; where TLS ends is a proxy's business");
        let bearer = |key: &str, name: &str| -> Result<HeaderValue> {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).with_context(|| format!("{name}: not a key"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let run = getrandom::u64().map_err(|problem| anyhow::anyhow!("random numbers: {problem}"))?.max(1);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: url.trim_end_matches('/').to_owned(),
            import_key: bearer(&keys.import, "import key")?,
            read_key: bearer(&keys.read, "read key")?,
            run,
        })
    }

    /// Sends a batch until it is taken.
    pub(super) async fn send(&self, batch: Batch) -> Result<()> {
        let Batch { source, body, lines } = batch;
        let source: String = byte_serialize(source.as_bytes()).collect();
        let url = format!("{}/v1/import?run={}&source={source}", self.base, self.run);
        let body = Bytes::from(body);
        let answer = self.until_answered(|| {
            Request::post(&url)
                .header(AUTHORIZATION, self.import_key.clone())
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(Full::new(body.clone()))
        });
        let taken: Taken = serde_json::from_slice(&answer.await?).context("the answer to a batch")?;
        ensure!(taken.accepted + taken.dead == lines, "of {lines} lines sent {} were taken", taken.accepted + taken.dead);
        Ok(())
    }

    /// Waits until `sent` lines have their outcome; `show` sees the books as they fill.
    pub(super) async fn settle(&self, sent: u64, show: impl Fn(&Books)) -> Result<Books> {
        let mut last = Books::default();
        let mut moved = Instant::now();
        let mut pause = FIRST_LOOK;
        loop {
            let books = self.books().await?;
            show(&books);
            if books.are_settled(sent) {
                return Ok(books);
            }
            if books != last {
                (last, moved) = (books, Instant::now());
            } else if moved.elapsed() > STALL {
                let open = sent.saturating_sub(books.received.saturating_sub(books.waiting));
                bail!("{open} of {sent} lines have no outcome after {STALL:?}; they are durable and will get one once storage works");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    async fn books(&self) -> Result<Books> {
        let url = format!("{}/v1/ledger?run={}", self.base, self.run);
        let answer = self.until_answered(|| Request::get(&url).header(AUTHORIZATION, self.read_key.clone()).body(Full::default()));
        let ledger: Ledger = serde_json::from_slice(&answer.await?).context("the ledger")?;
        Ok(ledger.total)
    }

    async fn until_answered(&self, request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>) -> Result<Bytes> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let request = request().context("url")?;
            let path = request.uri().path().to_owned();
            match answer(&self.client, request).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Never(problem)) => bail!("{}{path}: {problem}", self.base),
                Err(Refusal::Later(problem)) if begun.elapsed() > PATIENCE => bail!("{}{path}: {problem} for {PATIENCE:?}", self.base),
                Err(Refusal::Later(problem)) => tracing::debug!(%problem, "trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether a pulse answers at `url`.
pub(super) async fn is_alive(url: &str) -> bool {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let Ok(request) = Request::builder().method(Method::GET).uri(format!("{url}/healthz")).body(Full::default()) else { return false };
    tokio::time::timeout(ALIVE_TIMEOUT, answer(&client, request)).await.is_ok_and(|answered| answered.is_ok())
}

async fn answer(client: &Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Bytes, Refusal> {
    let exchange = async {
        let response = client.request(request).await.map_err(|problem| in_full(&problem))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|problem| problem.to_string())?;
        Ok((status, body.to_bytes()))
    };
    let exchanged =
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")));
    let (status, body) = exchanged.map_err(Refusal::Later)?;
    if status.is_success() {
        return Ok(body);
    }
    let problem = format!("{status}: {}", String::from_utf8_lossy(&body));
    Err(match status {
        // Also what a proxy says while pulse behind it restarts.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Refusal::Later(problem)
        }
        _ => Refusal::Never(problem),
    })
}

/// The client says only "client error"; the cause says which.
fn in_full(problem: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(problem.source(), |cause| cause.source());
    causes.fold(problem.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_settled_when_everything_sent_has_an_outcome() {
        let books = Books { received: 10, stored: 5, duplicate: 2, filtered: 1, dead: 2, ..Books::default() };
        assert!(books.are_settled(10));
        assert!(books.are_settled(9), "a batch that was sent twice");
        assert!(!books.are_settled(11));
        assert!(!Books { waiting: 1, ..books }.are_settled(10));
        assert!(!Books { stored: 4, ..books }.are_settled(10));
    }

    #[test]
    fn only_plain_http_is_spoken() {
        let keys = AccessKeys { import: "i".to_owned(), read: "r".to_owned() };
        assert!(Connection::new("http://127.0.0.1:1/", &keys).is_ok_and(|connection| connection.base == "http://127.0.0.1:1"));
        assert!(Connection::new("https://a.example", &keys).is_err());
        assert!(Connection::new("127.0.0.1:1", &keys).is_err());
    }
}
