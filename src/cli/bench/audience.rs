//! Who looks while events come in: tabs of dashboards that ask again and again, and readers of the live stream.
//!
//! Each customer has three tabs, and a dashboard of five funnels about a page of its own; a tab asks for it every thirty seconds in one
//! request, evenly spread, and is closed with the stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Urls;

const TABS_OF_CUSTOMER: u64 = 3;
const EVERY: Duration = Duration::from_secs(30);
/// The steps of the funnels of a dashboard.
const FUNNELS: [&[&str]; 5] = [
    &["page_view", "add_to_cart", "purchase"],
    &["page_view", "signup"],
    &["search", "product_view", "add_to_cart"],
    &["click", "video_play", "share"],
    &["login", "checkout", "purchase", "refund"],
];

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    /// Tabs of dashboards.
    pub(super) tabs: u64,
    /// Whether each answer is computed anew.
    pub(super) is_uncached: bool,
    /// Readers of the live stream.
    pub(super) readers: u64,
}

/// What they saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// From the request until the last of its answers, milliseconds.
    boards_ms: Vec<u64>,
    /// How old answers were, milliseconds.
    ages_ms: Vec<u64>,
    refused: u64,
    /// Messages of the live stream.
    messages: u64,
}

impl Audience {
    /// Looks until the stop.
    pub(super) async fn look(self, client: Client<HttpConnector, Full<Bytes>>, urls: Urls, stop: CancellationToken) -> Result<Seen> {
        let (urls, messages) = (Arc::new(urls), Arc::new(AtomicU64::new(0)));
        let mut readers = JoinSet::new();
        for _ in 0..self.readers {
            let reader = read(client.clone(), Arc::clone(&urls), Arc::clone(&messages));
            readers.spawn(stop.clone().run_until_cancelled_owned(reader));
        }
        let mut tabs = JoinSet::new();
        for number in 0..self.tabs {
            let tab = Tab { number, of: self, client: client.clone(), urls: Arc::clone(&urls) };
            tabs.spawn(tab.ask(stop.clone()));
        }
        let mut seen = Seen::default();
        while let Some(tab) = tabs.join_next().await {
            seen.add(tab?);
        }
        while let Some(reader) = readers.join_next().await {
            reader?.transpose()?;
        }
        seen.messages = messages.load(Ordering::Relaxed);
        Ok(seen)
    }
}

struct Tab {
    number: u64,
    of: Audience,
    client: Client<HttpConnector, Full<Bytes>>,
    urls: Arc<Urls>,
}

impl Tab {
    async fn ask(self, stop: CancellationToken) -> Seen {
        let mut seen = Seen::default();
        let body = self.board().to_string();
        let mut due = tokio::time::Instant::now() + EVERY.mul_f64(self.number as f64 / self.of.tabs as f64);
        while stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_some() {
            let asked = Instant::now();
            match stop.run_until_cancelled(self.answers(body.clone())).await {
                None => break,
                Some(Ok(answers)) => seen.note(asked.elapsed(), &answers),
                Some(Err(_)) => seen.refused += FUNNELS.len() as u64,
            }
            due += EVERY;
        }
        seen
    }

    /// The questions of its customer's dashboard.
    fn board(&self) -> Value {
        let page = format!("/products/{}", self.number / TABS_OF_CUSTOMER);
        let funnel = |steps: &&[&str]| {
            json!({
                "report": "funnel", "from": "-1d", "window": "1h", "refresh": self.of.is_uncached,
                "steps": steps.iter().map(|step| json!({"event": step})).collect::<Vec<_>>(),
                "filters": [{"field": "page_path", "op": "eq", "value": page}],
            })
        };
        json!({"queries": FUNNELS.iter().map(funnel).collect::<Vec<_>>()})
    }

    async fn answers(&self, body: String) -> Result<Vec<Value>> {
        let request = Request::post(format!("http://{}/v1/query", self.urls.address))
            .header("authorization", format!("Bearer {}", self.urls.read_key))
            .body(Full::new(Bytes::from(body)))?;
        let answer = self.client.request(request).await?.into_body().collect().await?.to_bytes();
        let lines = serde_json::Deserializer::from_slice(&answer).into_iter::<Value>();
        lines.collect::<Result<_, _>>().context("no answers")
    }
}

/// Counts the messages of the live stream as they come, for as long as it goes on.
async fn read(client: Client<HttpConnector, Full<Bytes>>, urls: Arc<Urls>, messages: Arc<AtomicU64>) -> Result<()> {
    let request = Request::get(format!("http://{}/v1/live", urls.address))
        .header("authorization", format!("Bearer {}", urls.read_key))
        .body(Full::default())?;
    let answer = client.request(request).await?;
    ensure!(answer.status().is_success(), "the live stream answers {}", answer.status());
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        let ends = data.windows(2).filter(|pair| *pair == b"\n\n").count();
        messages.fetch_add(ends as u64, Ordering::Relaxed);
    }
    anyhow::bail!("the live stream ended")
}

impl Seen {
    fn note(&mut self, took: Duration, answers: &[Value]) {
        self.boards_ms.push(took.as_millis() as u64);
        let ages = answers.iter().filter_map(|answer| answer["meta"]["age_ms"].as_u64());
        self.ages_ms.extend(ages);
        self.refused += answers.iter().filter(|answer| answer["status"] != 200).count() as u64;
    }

    fn add(&mut self, other: Self) {
        self.boards_ms.extend(other.boards_ms);
        self.ages_ms.extend(other.ages_ms);
        self.refused += other.refused;
    }

    /// As the outcome shows it, with how many statements the store was sent.
    pub(super) fn shown(&self, statements: f64, elapsed: Duration) -> Value {
        let quantiles = |times: &[u64]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            let of = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share).round() as usize).copied();
            json!({"p50": of(0.5), "p99": of(0.99), "max": of(1.0)})
        };
        json!({
            "boards": self.boards_ms.len(), "board_ms": quantiles(&self.boards_ms),
            "answers": self.ages_ms.len(), "age_ms": quantiles(&self.ages_ms), "refused": self.refused,
            "statements_per_min": (statements * 60.0 / elapsed.as_secs_f64()).round(), "live_messages": self.messages,
        })
    }
}
