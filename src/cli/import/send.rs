//! The way to pulse: batches over HTTP, and the books of this run.
//!
//! Promises: a batch is sent until it is answered, or the import fails. A batch that was taken but whose answer was lost is
//! sent again: ids are the same, so its events end as duplicates and nothing counts twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hyper::header::HeaderValue;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::compare::Answer;
use super::read::Batch;
use super::summary::{Books, Example, Reasons};
use crate::backoff::Backoff;
use crate::cli::remote::{Address, Remote, bearer};

/// Pauses between looks at the books.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How long the books may stand still: longer than ClickHouse takes to restart.
const STALL: Duration = Duration::from_secs(600);

/// The keys of the project.
#[derive(Clone)]
pub(in crate::cli) struct AccessKeys {
    /// Sends; the read key may, too.
    pub(in crate::cli) import: String,
    /// Asks.
    pub(in crate::cli) read: String,
}

#[derive(Deserialize)]
struct Ledger {
    total: Books,
}

#[derive(Deserialize)]
struct Taken {
    accepted: u64,
    dead: u64,
    #[serde(default)]
    reasons: Vec<Refused>,
}

/// Events of a batch that pulse refused for one reason.
#[derive(Deserialize)]
struct Refused {
    code: String,
    count: u64,
    /// The first of them.
    index: usize,
    message: String,
}

/// A pulse, and one run of an import into it.
pub(in crate::cli) struct Connection {
    remote: Remote,
    import_key: HeaderValue,
    read_key: HeaderValue,
    run: u64,
    /// More of the address of a batch.
    how: &'static str,
}

impl Connection {
    /// To the pulse at `address`, for a run of its own.
    pub(in crate::cli) fn new(address: &Address, keys: &AccessKeys) -> Result<Self> {
        Ok(Self {
            remote: Remote::new(address)?,
            import_key: bearer(&keys.import, "import key")?,
            read_key: bearer(&keys.read, "read key")?,
            run: getrandom::u64().map_err(|problem| anyhow::anyhow!("random numbers: {problem}"))?.max(1),
            how: "",
        })
    }

    /// One whose events say of their visitors no more than addresses: pulse names them, the same from every machine.
    pub(super) fn naming_visitors(self) -> Self {
        Self { how: "&visitors=address", ..self }
    }

    /// Sends a batch until it is taken; why some of its lines are no events, here or there.
    pub(in crate::cli) async fn send(&self, batch: Batch) -> Result<Reasons> {
        let Batch { source, body, numbers, mut reasons } = batch;
        let name: String = byte_serialize(source.as_bytes()).collect();
        let path = format!("/v1/import?run={}&source={name}{}", self.run, self.how);
        let answer = self.remote.post_lines(&path, &self.import_key, Bytes::from(body)).await?;
        let taken: Taken = serde_json::from_slice(&answer).context("the answer to a batch")?;
        let (took, lines) = (taken.accepted + taken.dead, numbers.len() as u64);
        ensure!(took == lines, "of {lines} lines sent {took} were taken");
        for Refused { code, count, index, message } in taken.reasons {
            let line = numbers.get(index).copied().unwrap_or_default();
            let message = message.strip_prefix(&format!("{code}: ")).unwrap_or(&message).to_owned();
            reasons.add(&code, count, Example { file: Arc::clone(&source), line, message });
        }
        Ok(reasons)
    }

    /// Waits until `sent` lines have their outcome; `show` sees the books as they fill.
    pub(in crate::cli) async fn settle(&self, sent: u64, show: impl Fn(&Books)) -> Result<Books> {
        let mut last = Books::default();
        let mut moved = Instant::now();
        let mut backoff = Backoff::new(FIRST_LOOK, LONGEST_LOOK);
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
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// What the trends report says to a question.
    pub(super) async fn trends(&self, question: &serde_json::Value) -> Result<Answer> {
        let answer = self.remote.post_json("/v1/query/trends", &self.read_key, question).await?;
        serde_json::from_slice(&answer).context("the answer of trends")
    }

    async fn books(&self) -> Result<Books> {
        let answer = self.remote.get(&format!("/v1/ledger?run={}", self.run), &self.read_key).await?;
        let ledger: Ledger = serde_json::from_slice(&answer).context("the ledger")?;
        Ok(ledger.total)
    }
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
}
