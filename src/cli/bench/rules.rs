//! Rules that are judged while events come in: whether they keep up, and how long after the end of a slot its notice comes.
//!
//! The rules are by the minute and always wrong, and each is reminded of each minute: a notice a rule and minute, far more than anybody has.
//! They ask a few questions only, as a thousand rules do that people make from their boards.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Where the rules are, below the directory of the bench.
pub(super) const FOLDER: &str = "alerts";
/// What the rules are about, each by events and by persons.
const WATCHED: [&str; 10] =
    ["page_view", "click", "add_to_cart", "purchase", "signup", "search", "product_view", "login", "checkout", "share"];
/// A notice that comes later than this after the end of its slot is late.
const LATE_MS: i64 = 60_000;

/// What the receiver was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// From the end of a slot until its notice, milliseconds.
    after_ms: Vec<i64>,
    /// Notices that say that they were judged late.
    judged_late: usize,
    others: usize,
}

/// A receiver of notices, and what it was told so far.
pub(super) struct Receiver {
    listener: TcpListener,
    told: Arc<Mutex<Told>>,
}

impl Receiver {
    /// Begins to listen, and writes the rules that tell it.
    pub(super) async fn open(dir: &Path, project: &str, rules: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a receiver of notices")?;
        let mut file = format!("[channels.bench]\nkind = \"webhook\"\nurl = \"http://{}/\"\n", listener.local_addr()?);
        for number in 0..rules {
            let at = usize::try_from(number)? % (2 * WATCHED.len());
            let event = WATCHED.get(at % WATCHED.len()).copied().unwrap_or_default();
            let math = if at < WATCHED.len() { "total" } else { "unique_users" };
            write!(
                file,
                "[alerts.r{number}]\nproject = \"{project}\"\nreport = \"trends\"\ninterval = \"minute\"\ncondition = {{ above = 0 }}\n\
                 question = {{ series = [{{ event = \"{event}\", math = \"{math}\" }}] }}\nevaluation_delay = \"0s\"\nremind_every = 1\nchannels = [\"bench\"]\n"
            )?;
        }
        std::fs::create_dir_all(dir.join(FOLDER))?;
        std::fs::write(dir.join(FOLDER).join("bench.toml"), file)?;
        Ok(Self { listener, told: Arc::default() })
    }

    /// Takes notices until the stop.
    pub(super) async fn listen(self, stop: CancellationToken) -> Told {
        let mut connections = JoinSet::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let told = Arc::clone(&self.told);
            let service = service_fn(move |request| take(request, Arc::clone(&told)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move { drop(connection.await) });
            while connections.try_join_next().is_some() {}
        }
        connections.shutdown().await;
        std::mem::take(&mut *self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

async fn take(request: Request<Incoming>, told: Arc<Mutex<Told>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let now_ms = clock::now_ms();
    let notice: Value = serde_json::from_slice(&body).unwrap_or_default();
    told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&notice["pulse"], now_ms);
    Ok(Response::new(Full::default()))
}

impl Told {
    fn add(&mut self, notice: &Value, now_ms: i64) {
        let until = notice["until"].as_str().and_then(|until| until.parse::<jiff::Timestamp>().ok());
        match (notice["kind"].as_str(), until) {
            (Some("firing" | "reminder"), Some(until)) => self.after_ms.push(now_ms - until.as_millisecond()),
            _ => self.others += 1,
        }
        self.judged_late += usize::from(notice["late"] == true);
    }

    /// As the outcome shows it: `slots` were judged, and the oldest one had waited for so many seconds.
    pub(super) fn shown(mut self, rules: u64, slots: f64, oldest_s: f64) -> Value {
        self.after_ms.sort_unstable();
        let at = |share: f64| self.after_ms.get((self.after_ms.len().saturating_sub(1) as f64 * share).round() as usize).copied();
        json!({
            "rules": rules, "slots": slots, "notices": self.after_ms.len(), "other_notices": self.others,
            "late": self.after_ms.iter().filter(|after| **after > LATE_MS).count(), "judged_late": self.judged_late,
            "oldest_slot_s": oldest_s, "slot_end_to_notice_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
        })
    }
}
