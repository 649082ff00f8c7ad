//! The way to a running pulse over HTTP.
//!
//! Promises: a key is never sent where others can read it: elsewhere than on this machine the way is encrypted, unless the user says
//! otherwise; a request is repeated until it is answered, or the command fails; only a limit that says when to come again is waited for
//! however often. What must not be done twice is repeated only while it cannot have been done ([`Remote::ask_once`]).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use url::Host;

use super::printable::printable_lines;
use crate::backoff::Backoff;
use crate::http::of_file::FILE_HEADER;

/// Pauses between attempts: from a hiccup to a restart.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one request is tried: longer than a restart with recovery takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest pause that an answer may ask for.
const LONGEST_TOLD: Duration = Duration::from_secs(3_600);
/// Within what time a pulse goes by a change of the keys file, and how often it is looked whether it does.
const KEYS_KNOWN: Duration = Duration::from_secs(10);
const KEYS_PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer: a page of dead letters, each as long as a line may be.
const MAX_ANSWER: usize = 64 << 20;

/// Where a pulse is, and whether keys may go there as they are.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) may_be_plain: bool,
}

/// A pulse.
pub(super) struct Remote {
    client: Transport,
    base: String,
}

enum Transport {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Encrypted(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Transport {
    async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Encrypted(client) => client.request(request).await,
        }
    }
}

/// What is to be saved in the place of a version; of none where it is to be the first.
pub(super) struct VersionedWrite<'a> {
    pub(super) body: &'a serde_json::Value,
    pub(super) version: Option<u64>,
    /// The file that says it from then on; empty without one.
    pub(super) file: &'a str,
}

/// An answer that says no.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {status}: {}", in_words(.body))]
pub(super) struct Refused {
    url: String,
    status: StatusCode,
    body: String,
}

impl Refused {
    /// The value of `key` in the answer, such as `code` or `message`; nothing if it has none.
    pub(super) fn says(&self, key: &str) -> String {
        let answer: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        answer.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }
}

/// Why an attempt brought no answer.
enum Refusal {
    /// It was answered, with no.
    Answered(StatusCode, String),
    /// The same request may succeed later, at the earliest after the time that was told.
    Later { problem: String, arrival: Arrival, told: Option<Duration> },
    /// It never will.
    Never(String),
}

/// When a request is repeated that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// What is done twice is as if it was done once.
    Always,
    /// Only while it cannot have been done.
    WhileUndone,
}

/// Whether a request arrived that was not answered with yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// It did not get there.
    No,
    /// It was refused because too much is asked at once.
    Limited,
    /// Nobody knows.
    Unknown,
}

impl Remote {
    /// The pulse at an address.
    pub(super) fn new(address: &Address) -> Result<Self> {
        let Address { url, may_be_plain } = address;
        let parsed = url::Url::parse(url).with_context(|| format!("url: `{url}`"))?;
        let builder = Client::builder(TokioExecutor::new());
        let client = match parsed.scheme() {
            "https" => {
                let authorities = HttpsConnectorBuilder::new().with_native_roots().context("certificates of this machine")?;
                Transport::Encrypted(builder.build(authorities.https_only().enable_http1().build()))
            }
            "http" => {
                ensure!(
                    *may_be_plain || is_here(&parsed),
                    "url: `{url}` would send keys over the network as they are; use https://, or say --plain-http if nobody listens"
                );
                Transport::Plain(builder.build_http())
            }
            other => bail!("url: `{url}` is of `{other}`, neither http nor https"),
        };
        Ok(Self { client, base: url.trim_end_matches('/').to_owned() })
    }

    /// The answer to `GET path`.
    pub(super) async fn get(&self, path: &str, key: &HeaderValue) -> Result<Bytes> {
        Ok(self.get_whole(path, key).await?.into_body())
    }

    /// The same with its headers.
    pub(super) async fn get_whole(&self, path: &str, key: &HeaderValue) -> Result<Response<Bytes>> {
        let url = format!("{}{path}", self.base);
        self.until_whole(Repeat::Always, || Request::get(&url).header(AUTHORIZATION, key.clone()).body(Full::default())).await
    }

    /// Waits until a pulse has read a keys file again that was changed a moment ago; `path` is one that the key opens.
    pub(super) async fn knows(&self, path: &str, key: &HeaderValue) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.get(path, key).await {
                Ok(_) => return Ok(()),
                Err(problem) if begun.elapsed() > KEYS_KNOWN || !is_unauthorized(&problem) => return Err(problem),
                Err(_) => tokio::time::sleep(KEYS_PAUSE).await,
            }
        }
    }

    /// The answer to `POST path` with lines of JSON, which have ids: what is done twice counts once.
    pub(super) async fn post_lines(&self, path: &str, key: &HeaderValue, body: Bytes) -> Result<Bytes> {
        let url = format!("{}{path}", self.base);
        let request = || {
            let request = Request::post(&url).header(AUTHORIZATION, key.clone());
            request.header(hyper::header::CONTENT_TYPE, "application/x-ndjson").body(Full::new(body.clone()))
        };
        self.until_answered(request).await
    }

    /// The answer to `POST path` with JSON.
    pub(super) async fn post_json(&self, path: &str, key: &HeaderValue, body: &serde_json::Value) -> Result<Bytes> {
        let (url, body) = (format!("{}{path}", self.base), Bytes::from(body.to_string()));
        self.until_answered(|| Request::post(&url).header(AUTHORIZATION, key.clone()).body(Full::new(body.clone()))).await
    }

    /// The answer to `PUT path` with JSON.
    pub(super) async fn put_json(&self, path: &str, key: &HeaderValue, body: &serde_json::Value) -> Result<Bytes> {
        let (url, body) = (format!("{}{path}", self.base), Bytes::from(body.to_string()));
        self.until_answered(|| Request::put(&url).header(AUTHORIZATION, key.clone()).body(Full::new(body.clone()))).await
    }

    /// The answer to `PUT path` with JSON, if there is `version` of it, or none.
    pub(super) async fn put_version(&self, path: &str, key: &HeaderValue, write: &VersionedWrite<'_>) -> Result<Bytes> {
        let (url, body) = (format!("{}{path}", self.base), Bytes::from(write.body.to_string()));
        let (condition, tag) = match write.version {
            Some(version) => (IF_MATCH, format!("\"{version}\"")),
            None => (IF_NONE_MATCH, "*".to_owned()),
        };
        let file = HeaderValue::from_bytes(write.file.as_bytes()).with_context(|| format!("file: `{}`", write.file))?;
        let request = || {
            let request = Request::put(&url).header(AUTHORIZATION, key.clone()).header(&condition, &tag);
            request.header(FILE_HEADER, file.clone()).body(Full::new(body.clone()))
        };
        self.until_answered(request).await
    }

    /// The answer to `DELETE path`, whichever file says what is there.
    pub(super) async fn delete(&self, path: &str, key: &HeaderValue) -> Result<Bytes> {
        let url = format!("{}{path}", self.base);
        let request = || Request::delete(&url).header(AUTHORIZATION, key.clone()).header(FILE_HEADER, "").body(Full::default());
        self.until_answered(request).await
    }

    /// The answer to what must not be done twice, with JSON or nothing. Errors: also that it may have been done or not.
    pub(super) async fn ask_once(&self, method: &Method, path: &str, key: &HeaderValue, body: Option<&serde_json::Value>) -> Result<Bytes> {
        let (url, body) = (format!("{}{path}", self.base), body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())));
        let request = || Request::builder().method(method).uri(&url).header(AUTHORIZATION, key.clone()).body(Full::new(body.clone()));
        Ok(self.until_whole(Repeat::WhileUndone, request).await?.into_body())
    }

    async fn until_answered(&self, request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>) -> Result<Bytes> {
        Ok(self.until_whole(Repeat::Always, request).await?.into_body())
    }

    async fn until_whole(
        &self,
        repeat: Repeat,
        request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Bytes>> {
        let mut begun = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut said = String::new();
        loop {
            let request = request().context("url")?;
            let path = request.uri().path().to_owned();
            match self.answer(request).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Answered(status, body)) => return Err(Refused { url: format!("{}{path}", self.base), status, body }.into()),
                Err(Refusal::Never(problem)) => bail!("{}{path}: {problem}", self.base),
                Err(Refusal::Later { problem, arrival: Arrival::Unknown, .. }) if repeat == Repeat::WhileUndone => {
                    bail!("{}{path}: {problem}: it may have been done or not; look before you ask for it again", self.base)
                }
                Err(Refusal::Later { problem, .. }) if begun.elapsed() > PATIENCE => {
                    bail!("{}{path}: {problem} for {PATIENCE:?}", self.base)
                }
                Err(Refusal::Later { problem, arrival, told }) => {
                    let is_limited = arrival == Arrival::Limited && told.is_some();
                    let told = told.map_or(Duration::ZERO, |told| if is_limited { told } else { told.min(PATIENCE) });
                    let pause = backoff.next_pause().max(told);
                    // A long pause each time: nobody is to wonder whether it hangs.
                    if said != problem || pause >= PATIENCE {
                        eprintln!("{}{path}: {}; {}", self.base, printable_lines(&problem), next(is_limited, pause));
                        said = problem;
                    } else {
                        tracing::debug!(%problem, "trying again");
                    }
                    tokio::time::sleep(pause).await;
                    // Patience counts from when the limit lets it try again.
                    if is_limited {
                        begun = Instant::now();
                    }
                }
            }
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Refusal> {
        let later = |problem: String, arrival| match problem.contains("invalid peer certificate") {
            // A certificate does not become another by waiting.
            true => Refusal::Never(problem),
            false => Refusal::Later { problem, arrival, told: None },
        };
        let exchange = async {
            let arrival = |problem: &Error| if problem.is_connect() { Arrival::No } else { Arrival::Unknown };
            let response = self.client.request(request).await.map_err(|problem| later(in_full(&problem), arrival(&problem)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|problem| later(problem.to_string(), Arrival::Unknown))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let exchanged = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        let response = exchanged.unwrap_or_else(|_| Err(later(format!("no answer within {ANSWER_TIMEOUT:?}"), Arrival::Unknown)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = String::from_utf8_lossy(response.body()).into_owned();
        Err(match status {
            // Also what a proxy says while pulse behind it restarts.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                let arrival = if status == StatusCode::TOO_MANY_REQUESTS { Arrival::Limited } else { Arrival::Unknown };
                Refusal::Later { problem: format!("{status}: {}", in_words(&body)), arrival, told: told(response.headers()) }
            }
            _ => Refusal::Answered(status, body),
        })
    }
}

/// What is done next, in words.
fn next(is_limited: bool, pause: Duration) -> String {
    match is_limited {
        true => format!("trying again in {pause:?}"),
        false => format!("trying again for {PATIENCE:?}"),
    }
}

/// How long an answer asks to wait, in seconds; pulse gives no dates.
fn told(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_TOLD))
}

/// What an answer says is wrong: its message and its code, or all of one that pulse did not write.
fn in_words(body: &str) -> String {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        message: String,
    }
    match serde_json::from_str::<Problem>(body) {
        Ok(Problem { code, message }) => format!("{message} ({code})"),
        Err(_) => body.to_owned(),
    }
}

fn is_unauthorized(problem: &anyhow::Error) -> bool {
    problem.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::UNAUTHORIZED)
}

/// A key as it stands in a request.
pub(super) fn bearer(key: &str, name: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).with_context(|| format!("{name}: not a key"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether what is sent to `url` stays on this machine.
pub(super) fn is_here(url: &url::Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The client says only "client error"; the cause says which.
fn in_full(problem: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(problem.source(), |cause| cause.source());
    causes.fold(problem.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use serde_json::json;

    use super::*;

    const OK: &str = "200 OK\r\n";

    /// A server that gives each of `answers` to one request, closing without one where it is empty, and how often it was asked.
    fn server(answers: &'static [&'static str]) -> (Remote, JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while request.read_line(&mut line).unwrap() > 2 {
                    let said = line.to_ascii_lowercase();
                    length = said.strip_prefix("content-length:").map_or(length, |said| said.trim().parse().unwrap());
                    line.clear();
                }
                request.read_exact(&mut vec![0; length]).unwrap();
                if !answer.is_empty() {
                    write!(stream, "HTTP/1.1 {answer}content-length: 0\r\nconnection: close\r\n\r\n").unwrap();
                }
            }
            answers.len()
        };
        (Remote::new(&Address { url, may_be_plain: false }).unwrap(), std::thread::spawn(serve))
    }

    #[tokio::test]
    async fn an_answer_that_says_when_to_come_again_is_waited_for() {
        let key = bearer("k", "key").unwrap();
        let (remote, asked) = server(&["429 Too Many Requests\r\nretry-after: 1\r\n", OK]);
        let begun = Instant::now();
        remote.post_lines("/v1/import", &key, Bytes::new()).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1), "pauses of its own are of a tenth");
        assert_eq!(asked.join().unwrap(), 2);
        let headers = |text: &'static str| HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        assert_eq!(told(&headers("30")), Some(Duration::from_secs(30)));
        assert_eq!(told(&headers("99999999999")), Some(LONGEST_TOLD));
        assert_eq!((told(&headers("-1")), told(&headers("soon")), told(&HeaderMap::new())), (None, None, None));
    }

    #[tokio::test]
    async fn what_must_not_be_done_twice_is_not_asked_for_again_once_it_may_have_been_done() {
        let key = bearer("k", "key").unwrap();
        // Lines have ids.
        let (remote, asked) = server(&["", OK]);
        remote.post_lines("/v1/import", &key, Bytes::new()).await.unwrap();
        assert_eq!(asked.join().unwrap(), 2);
        for lost in [&[""], &["504 Gateway Timeout\r\n"]] {
            let (remote, asked) = server(lost);
            let problem = remote.ask_once(&Method::POST, "/v1/keys", &key, Some(&json!({}))).await.unwrap_err().to_string();
            assert!(problem.contains("it may have been done or not"), "{problem}");
            assert_eq!(asked.join().unwrap(), 1);
        }
        let (remote, asked) = server(&["429 Too Many Requests\r\n", OK]);
        remote.ask_once(&Method::DELETE, "/v1/keys/a", &key, None).await.unwrap();
        assert_eq!(asked.join().unwrap(), 2);
    }

    #[test]
    fn whoever_waits_is_told_for_how_long() {
        assert_eq!(next(true, Duration::from_secs(3_600)), "trying again in 3600s");
        assert_eq!(next(false, Duration::from_secs(2)), "trying again for 180s");
    }

    #[test]
    fn keys_go_over_the_network_only_encrypted_unless_told_otherwise() {
        let may = |url: &str, may_be_plain| Remote::new(&Address { url: url.to_owned(), may_be_plain }).is_ok();
        for here in ["http://127.0.0.1:1/", "http://localhost:8080", "http://[::1]:8080"] {
            assert!(may(here, false), "{here}");
        }
        for elsewhere in ["http://pulse.example", "http://10.0.0.1:8080", "http://localhost.example"] {
            assert!(!may(elsewhere, false) && may(elsewhere, true), "{elsewhere}");
        }
        for no in ["127.0.0.1:1", "ftp://127.0.0.1", ""] {
            assert!(!may(no, true), "{no}");
        }
        assert_eq!(
            Remote::new(&Address { url: "http://127.0.0.1:1/".to_owned(), may_be_plain: false }).unwrap().base,
            "http://127.0.0.1:1"
        );
    }
}
