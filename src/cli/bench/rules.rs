//! Rules that are judged while events come in: whether they keep up, and how long after an event and after the end of its slot the notice
//! comes that tells of it.
//!
//! The rules are by the minute and always wrong, and each is reminded of each minute: a notice a rule and minute, far more than anybody has.
//! They ask a few questions only, as a thousand rules do that people make from their boards.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
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

use super::events::NAMES;
use super::load::Accepted;
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
    notices: Vec<Notice>,
    /// Notices that say that they were judged late.
    judged_late: usize,
    others: usize,
}

/// A notice of a rule, and when it came, milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Notice {
    rule: usize,
    /// The slot that it tells of.
    slot_ms: i64,
    until_ms: i64,
    at_ms: i64,
}

/// What came of the rules beside their notices.
pub(super) struct Judged<'a> {
    pub(super) rules: u64,
    /// How many were judged.
    pub(super) slots: f64,
    /// How many seconds the oldest one had waited that was due.
    pub(super) oldest_s: f64,
    pub(super) accepted: &'a [Accepted],
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
            let rule = usize::try_from(number)?;
            let event = watched(rule);
            let math = if rule % (2 * WATCHED.len()) < WATCHED.len() { "total" } else { "unique_users" };
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
        match Notice::of(notice, now_ms).filter(|_| matches!(notice["kind"].as_str(), Some("firing" | "reminder"))) {
            Some(notice) => self.notices.push(notice),
            None => self.others += 1,
        }
        self.judged_late += usize::from(notice["late"] == true);
    }

    /// As the outcome shows it.
    pub(super) fn shown(&self, judged: &Judged<'_>) -> Value {
        let mut after_ms: Vec<i64> = self.notices.iter().map(|notice| notice.at_ms - notice.until_ms).collect();
        after_ms.sort_unstable();
        let at = |share: f64| after_ms.get((after_ms.len().saturating_sub(1) as f64 * share).round() as usize).copied();
        let Judged { rules, slots, oldest_s, accepted } = judged;
        json!({
            "rules": rules, "slots": slots, "notices": self.notices.len(), "other_notices": self.others,
            "late": after_ms.iter().filter(|after| **after > LATE_MS).count(), "judged_late": self.judged_late,
            "oldest_slot_s": oldest_s, "slot_end_to_notice_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
            "event_to_notice_ms": self.since_events(accepted),
        })
    }

    /// From when an event was accepted until a notice that tells of it, over all events and notices. Those that were accepted after the end of
    /// their slot are left out: whether they were counted is not known here.
    fn since_events(&self, accepted: &[Accepted]) -> Value {
        let mut of_minutes: BTreeMap<i64, Vec<&Accepted>> = BTreeMap::new();
        accepted.iter().for_each(|batch| of_minutes.entry(batch.minute_ms).or_default().push(batch));
        let Ok(mut after_ms) = Histogram::<u64>::new_with_bounds(1, 3_600_000, 3) else { return Value::Null };
        for notice in &self.notices {
            let Some(name) = NAMES.iter().position(|name| *name == watched(notice.rule)) else { continue };
            let of_slot = of_minutes.get(&notice.slot_ms).into_iter().flatten().filter(|batch| batch.at_ms < notice.until_ms);
            for batch in of_slot {
                let number = batch.of_names.get(name).copied().unwrap_or_default();
                let after = u64::try_from(notice.at_ms - batch.at_ms).unwrap_or_default();
                after_ms.saturating_record_n(after, u64::from(number));
            }
        }
        let at = |share: f64| (!after_ms.is_empty()).then(|| after_ms.value_at_quantile(share));
        json!({"events": after_ms.len(), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
    }
}

impl Notice {
    fn of(notice: &Value, at_ms: i64) -> Option<Self> {
        let time = |key: &str| Some(notice[key].as_str()?.parse::<jiff::Timestamp>().ok()?.as_millisecond());
        let rule = notice["rule"].as_str()?.strip_prefix('r')?.parse().ok()?;
        Some(Self { rule, slot_ms: time("slot")?, until_ms: time("until")?, at_ms })
    }
}

/// What a rule is about, by its number.
fn watched(rule: usize) -> &'static str {
    WATCHED.get(rule % WATCHED.len()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::events::OfNames;
    use super::*;

    #[test]
    fn the_time_from_an_event_to_its_notice_is_that_of_each_event_of_the_slot() {
        let mut told = Told::default();
        let notice = |rule: &str, kind: &str| json!({"kind": kind, "rule": rule, "slot": "1970-01-01T00:01:00Z", "until": "1970-01-01T00:02:00Z", "late": false});
        // Those of the first and of the twenty-first rule are about page views, that of the second about clicks.
        told.add(&notice("r0", "firing"), 121_000);
        told.add(&notice("r20", "reminder"), 122_000);
        told.add(&notice("r1", "firing"), 123_000);
        told.add(&notice("r0", "resolved"), 124_000);
        let batch = |at_ms: i64, minute_ms: i64, views: u32| {
            let mut of_names = OfNames::default();
            of_names[0] = views;
            Accepted { at_ms, minute_ms, of_names }
        };
        let accepted = [batch(61_000, 60_000, 98), batch(119_000, 60_000, 2), batch(120_000, 60_000, 50), batch(30_000, 0, 50)];
        let shown = told.shown(&Judged { rules: 21, slots: 3.0, oldest_s: 0.0, accepted: &accepted });
        let from = &shown["event_to_notice_ms"];
        let near = |value: &Value, expected: u64| value.as_u64().is_some_and(|value| value.abs_diff(expected) <= expected / 500);
        assert_eq!(from["events"], 2 * 100, "of two notices: {shown}");
        assert!(near(&from["p50"], 60_000) && near(&from["p99"], 61_000) && near(&from["max"], 61_000), "{shown}");
        assert_eq!((&shown["notices"], &shown["other_notices"]), (&json!(3), &json!(1)));
        assert_eq!(shown["slot_end_to_notice_ms"], json!({"p50": 2_000, "p99": 3_000, "max": 3_000}));
    }
}
