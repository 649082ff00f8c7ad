//! Every metric of the binary: name, kind, meaning. Counted locally in the hot path and recorded once a batch.
//!
//! Metrics are for watching, not for accounting: they start at zero with the process. The ledger accounts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use strum::VariantArray;

/// Counters; the doc line says what one tick means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Counter {
    /// An event was accepted by ingest and is durable.
    EventsAccepted,
    /// An event was refused by ingest.
    EventsRejected,
    /// A request was refused because the log could not take it.
    RequestsUnavailable,
    /// A request was refused because its project sends faster than it may.
    RequestsLimited,
    /// A raw record was processed.
    RecordsProcessed,
    /// A raw record was put aside because processing it failed: a fault of pulse itself.
    RecordsFailed,
    /// An event was put aside by process.
    EventsDead,
    /// A block was stored.
    BlocksStored,
    /// A row was stored, books included.
    RowsStored,
    /// An insert or a look-up had to be tried again.
    LoadRetries,
    /// An event was looked up in the table because it might be a copy.
    Suspects,
    /// A visitor's events were looked up in the table to know the session of a new one.
    SessionLookups,
    /// Stored events were found to belong to another session than before.
    SessionRevisions,
    /// A row was read in ClickHouse to know how far the table is, and what is a copy.
    LoadRowsRead,
    /// A record was deleted by the log before its group had read it.
    LogOffsetsLost,
    /// A question was answered, be it alone, in a batch, by a link or of a rule.
    QueriesAnswered,
    /// A question was refused or failed.
    QueriesRefused,
    /// A statement of a question was sent to the store.
    Statements,
    /// A row was read by one.
    StatementRowsRead,
    /// A question was answered from the cache.
    CacheHits,
    /// A report was computed.
    CacheMisses,
    /// A question was answered from the cache although data had moved on, because the store could not answer.
    CacheStale,
    /// The breaker in front of the store opened.
    BreakerOpened,
    /// A slot of a rule was judged.
    AlertSlots,
}

impl Counter {
    /// The name it is exported under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EventsAccepted => "pulse_events_accepted_total",
            Self::EventsRejected => "pulse_events_rejected_total",
            Self::RequestsUnavailable => "pulse_requests_unavailable_total",
            Self::RequestsLimited => "pulse_requests_limited_total",
            Self::RecordsProcessed => "pulse_records_processed_total",
            Self::RecordsFailed => "pulse_records_failed_total",
            Self::EventsDead => "pulse_events_dead_total",
            Self::BlocksStored => "pulse_blocks_stored_total",
            Self::RowsStored => "pulse_rows_stored_total",
            Self::LoadRetries => "pulse_load_retries_total",
            Self::Suspects => "pulse_suspects_total",
            Self::SessionLookups => "pulse_session_lookups_total",
            Self::SessionRevisions => "pulse_session_revisions_total",
            Self::LoadRowsRead => "pulse_load_rows_read_total",
            Self::LogOffsetsLost => "pulse_log_offsets_lost_total",
            Self::QueriesAnswered => "pulse_queries_answered_total",
            Self::QueriesRefused => "pulse_queries_refused_total",
            Self::Statements => "pulse_statements_total",
            Self::StatementRowsRead => "pulse_statement_rows_read_total",
            Self::CacheHits => "pulse_query_cache_hits_total",
            Self::CacheMisses => "pulse_query_cache_misses_total",
            Self::CacheStale => "pulse_query_cache_stale_total",
            Self::BreakerOpened => "pulse_store_breaker_opened_total",
            Self::AlertSlots => "pulse_alert_slots_total",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::EventsAccepted => "Events accepted and durable",
            Self::EventsRejected => "Events refused by ingest",
            Self::RequestsUnavailable => "Requests refused because the log could not take them",
            Self::RequestsLimited => "Requests refused because their project sends faster than it may",
            Self::RecordsProcessed => "Raw records processed",
            Self::RecordsFailed => "Raw records put aside because processing them failed",
            Self::EventsDead => "Events put aside as dead letters",
            Self::BlocksStored => "Blocks stored in ClickHouse",
            Self::RowsStored => "Rows stored in ClickHouse, books included",
            Self::LoadRetries => "Inserts and look-ups tried again",
            Self::Suspects => "Events looked up in the table because they might be copies",
            Self::SessionLookups => "Visitors looked up in the table to know the session of an event",
            Self::SessionRevisions => "Spans of stored events that were found to belong to another session",
            Self::LoadRowsRead => "Rows read to know how far the table is and what is a copy",
            Self::LogOffsetsLost => "Records the log deleted before they were read",
            Self::QueriesAnswered => "Questions answered",
            Self::QueriesRefused => "Questions refused or failed",
            Self::Statements => "Statements of questions sent to the store",
            Self::StatementRowsRead => "Rows that statements of questions have read",
            Self::CacheHits => "Questions answered from the cache",
            Self::CacheMisses => "Reports computed",
            Self::CacheStale => "Questions answered from the cache because the store could not answer",
            Self::BreakerOpened => "Times the breaker in front of the store opened",
            Self::AlertSlots => "Slots of rules that were judged",
        }
    }

    /// Counts `number` more.
    pub fn add(self, number: u64) {
        metrics::counter!(self.name()).increment(number);
    }
}

/// Levels; the doc line says what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Gauge {
    /// The breaker in front of the store: 0 closed, 1 a probe is on its way, 2 open, 3 held while the embedded engine's table is mended.
    Breaker,
    /// Whether this instance owns the alerts.
    AlertsOwner,
    /// How long the oldest slot that is over has waited for its verdict, seconds.
    AlertsOldestSlot,
    /// Notices that wait for their delivery.
    AlertsWaiting,
}

impl Gauge {
    /// The name it is exported under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "pulse_store_breaker_state",
            Self::AlertsOwner => "pulse_alerts_owner",
            Self::AlertsOldestSlot => "pulse_alerts_oldest_slot_seconds",
            Self::AlertsWaiting => "pulse_alerts_waiting",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Breaker => "The breaker in front of the store: 0 closed, 1 probing, 2 open, 3 held while its table is mended",
            Self::AlertsOwner => "Whether this instance owns the alerts",
            Self::AlertsOldestSlot => "Age of the oldest slot that waits for its verdict",
            Self::AlertsWaiting => "Notices that wait for their delivery",
        }
    }

    /// Sets the level.
    pub fn set(self, level: f64) {
        metrics::gauge!(self.name()).set(level);
    }
}

/// What came of asking about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Evaluation {
    /// Its slots were judged.
    Judged,
    /// Slots of the past were judged again.
    Revised,
    /// Events are still on their way.
    NotYet,
    /// It was refused because too much else goes on, or took too long: it is asked again.
    Overloaded,
    /// It failed.
    Failed,
}

impl Evaluation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Judged => "judged",
            Self::Revised => "revised",
            Self::NotYet => "not_yet",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }

    /// Counts one more.
    pub fn count(self) {
        self.add(1);
    }

    fn add(self, number: u64) {
        metrics::counter!(EVALUATIONS, "outcome" => self.as_str()).increment(number);
    }
}

/// A delivery of a notice that ended.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// What the notice says.
    pub kind: &'static str,
    /// The id of its channel.
    pub channel: &'a str,
    /// How it ended.
    pub outcome: &'static str,
}

impl Delivered<'_> {
    /// Counts it.
    pub fn count(self) {
        let Self { kind, channel, outcome } = self;
        metrics::counter!(NOTICES, "kind" => kind, "channel" => named_channel(channel), "outcome" => outcome).increment(1);
    }
}

/// Most channels that are told apart. They are named by people, and each name is a series for good.
const MOST_CHANNELS: usize = 200;

/// The id of a channel, or `other` where there are too many.
fn named_channel(id: &str) -> String {
    static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if named.len() < MOST_CHANNELS {
        named.insert(id.to_owned());
    }
    if named.contains(id) { id.to_owned() } else { "other".to_owned() }
}

const EVALUATIONS: &str = "pulse_alert_evaluations_total";
const NOTICES: &str = "pulse_alert_notices_total";
const LAG_RECORDS: &str = "pulse_lag_records";
const LAG_SECONDS: &str = "pulse_lag_oldest_seconds";
/// Time from the receipt of an event until a query shows it.
static QUERYABLE: LatencyHistogram = LatencyHistogram {
    name: "pulse_event_to_queryable_seconds",
    help: "Time from the receipt of an event until a query shows it",
    counts: [const { AtomicU64::new(0) }; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64::new(0),
};

/// Upper ends of the buckets of a latency, in milliseconds. The last bucket has none.
const BOUNDS_MS: [u64; 8] = [100, 200, 400, 800, 1_600, 5_000, 30_000, 300_000];

/// A latency in fixed buckets. Not by `metrics::histogram!`: its recorder keeps every sample until the next scrape, 24 bytes an event.
struct LatencyHistogram {
    name: &'static str,
    help: &'static str,
    /// By bucket, each on its own.
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl LatencyHistogram {
    fn record(&self, ms: u64, number: u64) {
        let bucket = BOUNDS_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(number, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(ms.saturating_mul(number), Ordering::Relaxed);
    }

    /// In the text format of Prometheus, in seconds. Writing to a string cannot fail.
    fn render(&self, out: &mut String) {
        let Self { name, help, counts, sum_ms } = self;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = BOUNDS_MS.get(at).map_or("+Inf".to_owned(), |bound| seconds(*bound));
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {total}\n", seconds(sum_ms.load(Ordering::Relaxed)));
    }
}

/// Milliseconds written in seconds, without loss.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Raw records of a partition that the table does not have, and the age of the oldest of them in seconds.
pub fn set_lag(partition: u16, records: f64, oldest_seconds: f64) {
    metrics::gauge!(LAG_RECORDS, "partition" => partition.to_string()).set(records);
    metrics::gauge!(LAG_SECONDS, "partition" => partition.to_string()).set(oldest_seconds);
}

/// Counts events that became queryable `ms` after their receipt. Called once a record.
pub fn count_queryable(ms: u64, events: u64) {
    QUERYABLE.record(ms, events);
}

/// What the recorder exports, with the histograms behind it.
pub fn with_histograms(mut exported: String) -> String {
    QUERYABLE.render(&mut exported);
    exported
}

/// Describes each metric to the recorder; each is then exported from the start, at zero.
pub fn describe() {
    for counter in Counter::VARIANTS {
        metrics::describe_counter!(counter.name(), counter.help());
        counter.add(0);
    }
    for gauge in Gauge::VARIANTS {
        metrics::describe_gauge!(gauge.name(), gauge.help());
        gauge.set(0.0);
    }
    metrics::describe_counter!(EVALUATIONS, "Questions of rules, by what came of them");
    Evaluation::VARIANTS.iter().for_each(|outcome| outcome.add(0));
    metrics::describe_counter!(NOTICES, "Deliveries of notices that ended, by what they say, their channel and how they ended");
    metrics::describe_gauge!(LAG_RECORDS, "Raw records that the table does not have yet, by partition");
    metrics::describe_gauge!(LAG_SECONDS, "Age of the oldest record that the table does not have yet, by partition");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention_and_are_unique() {
        let mut names: Vec<_> = Counter::VARIANTS.iter().map(|counter| counter.name()).collect();
        assert!(names.iter().all(|name| name.starts_with("pulse_") && name.ends_with("_total")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::VARIANTS.len());
    }

    #[test]
    fn channels_without_end_are_a_series_without_end_no_more() {
        let named: BTreeSet<String> = (0..1_000).map(|number| named_channel(&format!("c{number}"))).collect();
        assert!(named.len() <= MOST_CHANNELS + 1 && named.contains("other"));
    }

    #[test]
    fn a_latency_is_exported_as_a_cumulative_histogram_in_seconds() {
        let counts = [const { AtomicU64::new(0) }; BOUNDS_MS.len() + 1];
        let histogram = LatencyHistogram { name: "lag_seconds", help: "Lag", counts, sum_ms: AtomicU64::new(0) };
        [(100, 2), (101, 3), (1_500, 1), (400_000, 1)].iter().for_each(|(ms, number)| histogram.record(*ms, *number));
        let mut text = String::new();
        histogram.render(&mut text);
        let expected = "# HELP lag_seconds Lag\n# TYPE lag_seconds histogram\n\
             lag_seconds_bucket{le=\"0.1\"} 2\nlag_seconds_bucket{le=\"0.2\"} 5\nlag_seconds_bucket{le=\"0.4\"} 5\n\
             lag_seconds_bucket{le=\"0.8\"} 5\nlag_seconds_bucket{le=\"1.6\"} 6\nlag_seconds_bucket{le=\"5\"} 6\n\
             lag_seconds_bucket{le=\"30\"} 6\nlag_seconds_bucket{le=\"300\"} 6\nlag_seconds_bucket{le=\"+Inf\"} 7\n\
             lag_seconds_sum 402.003\nlag_seconds_count 7\n\n";
        assert_eq!(text, expected);
    }
}
