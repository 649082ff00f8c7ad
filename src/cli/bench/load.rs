//! The senders: keep-alive connections that post batches at a fixed rate, or as fast as answers come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::events::{Events, OfNames};
use crate::clock;

/// What is sent, and how.
pub(super) struct Load {
    pub(super) address: String,
    pub(super) key: String,
    pub(super) rate: Option<u64>,
    pub(super) duration: Duration,
    pub(super) batch: usize,
    pub(super) connections: u64,
    /// How late the late events are, at most.
    pub(super) lateness: Duration,
    /// Whether it is kept when which events were accepted.
    pub(super) keeps_accepted: bool,
}

/// A batch that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// When it was, milliseconds since 1970.
    pub(super) at_ms: i64,
    /// When the minute began in which it was made.
    pub(super) minute_ms: i64,
    /// Its events that happened in that minute.
    pub(super) of_names: OfNames,
}

/// What was sent, and how it was answered.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) sent: u64,
    pub(super) acked: u64,
    /// Events that are no copies of others.
    pub(super) distinct: u64,
    /// The batches that were accepted, where that is kept.
    pub(super) accepted: Vec<Accepted>,
    /// Microseconds from when a batch was due until it was acknowledged.
    ack: Option<Histogram<u64>>,
}

impl Sent {
    /// A quantile of the time to the acknowledgement, milliseconds.
    pub(super) fn ack_ms(&self, quantile: f64) -> f64 {
        self.ack.as_ref().map_or(0.0, |ack| (ack.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0)
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.sent += other.sent;
        self.acked += other.acked;
        self.distinct += other.distinct;
        self.accepted.extend(other.accepted);
        match (&mut self.ack, other.ack) {
            (Some(own), Some(other)) => own.add(other)?,
            (own, other) => *own = own.take().or(other),
        }
        Ok(())
    }
}

impl Load {
    /// Sends until the time is over; every batch is sent until it is accepted.
    pub(super) async fn run(&self) -> Result<Sent> {
        let mut senders = JoinSet::new();
        let end = Instant::now() + self.duration;
        // Each connection keeps a schedule of its own; a late answer does not excuse the batches behind it.
        let pause = self.rate.map(|rate| Duration::from_secs_f64(self.batch as f64 * self.connections as f64 / rate as f64));
        for number in 0..self.connections {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let sender = Sender {
                stream,
                head: format!(
                    "POST /v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: ",
                    self.address, self.key
                ),
                events: Events::new(number, self.lateness),
                batch: self.batch,
                keeps_accepted: self.keeps_accepted,
                answer: Vec::new(),
            };
            let offset = pause.unwrap_or_default().mul_f64(number as f64 / self.connections as f64);
            senders.spawn(sender.run(end, pause, offset));
        }
        let mut sent = Sent::default();
        while let Some(ended) = senders.join_next().await {
            sent.add(ended??)?;
        }
        Ok(sent)
    }
}

struct Sender {
    stream: TcpStream,
    head: String,
    events: Events,
    batch: usize,
    keeps_accepted: bool,
    answer: Vec<u8>,
}

impl Sender {
    async fn run(mut self, end: Instant, pause: Option<Duration>, offset: Duration) -> Result<Sent> {
        let mut sent = Sent { ack: Some(Histogram::new_with_bounds(1, 600_000_000, 3)?), ..Sent::default() };
        let mut due = Instant::now() + offset;
        let (mut body, mut request) = (Vec::new(), Vec::new());
        while due < end {
            tokio::time::sleep_until(due.into()).await;
            body.clear();
            let made = self.events.batch(self.batch, clock::now_ms(), &mut body);
            sent.distinct += made.fresh;
            request.clear();
            request.extend_from_slice(format!("{}{}\r\n\r\n", self.head, body.len()).as_bytes());
            request.extend_from_slice(&body);
            sent.sent += self.batch as u64;
            while !self.exchange(&request).await? {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            sent.acked += self.batch as u64;
            if self.keeps_accepted {
                sent.accepted.push(Accepted { at_ms: clock::now_ms(), minute_ms: made.minute_ms, of_names: made.of_names });
            }
            if let Some(ack) = &mut sent.ack {
                ack.saturating_record(due.elapsed().as_micros() as u64);
            }
            due = pause.map_or_else(Instant::now, |pause| due + pause);
        }
        Ok(sent)
    }

    /// Sends one request and reads its answer; `false` if it was refused for now.
    async fn exchange(&mut self, request: &[u8]) -> Result<bool> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk).await?;
            if read == 0 {
                bail!("the connection was closed");
            }
            self.answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if let Some(status) = complete(&self.answer)? {
                return match status {
                    200 => Ok(true),
                    429 | 503 => Ok(false),
                    _ => bail!("{}", String::from_utf8_lossy(&self.answer)),
                };
            }
        }
    }
}

/// The status of an answer once all of it is there.
fn complete(answer: &[u8]) -> Result<Option<u16>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|rest| rest.trim().to_owned()));
    let length: usize = length.context("an answer without length")?.parse()?;
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some(head.split(' ').nth(1).context("an answer without status")?.parse()?))
}
