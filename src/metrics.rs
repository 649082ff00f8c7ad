//! Every metric of the binary: name, kind, meaning. Counted locally in the hot path and recorded once a batch.
//!
//! Metrics are for watching, not for accounting: they start at zero with the process. The ledger accounts.

/// Counters; the doc line says what one tick means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// A row was read in ClickHouse to know how far the table is, and what is a copy.
    LoadRowsRead,
    /// A record was deleted by the log before its group had read it.
    LogOffsetsLost,
    /// A question was answered.
    QueriesAnswered,
    /// A question was refused or failed.
    QueriesRefused,
    /// A statement of a report was sent to the store.
    Statements,
    /// A question was answered from the cache.
    CacheHits,
    /// A report was computed.
    CacheMisses,
    /// A question was answered from the cache although data had moved on, because the store could not answer.
    CacheStale,
    /// The breaker in front of the store opened.
    BreakerOpened,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 20] = [
        Self::EventsAccepted,
        Self::EventsRejected,
        Self::RequestsUnavailable,
        Self::RequestsLimited,
        Self::RecordsProcessed,
        Self::RecordsFailed,
        Self::EventsDead,
        Self::BlocksStored,
        Self::RowsStored,
        Self::LoadRetries,
        Self::Suspects,
        Self::LoadRowsRead,
        Self::LogOffsetsLost,
        Self::QueriesAnswered,
        Self::QueriesRefused,
        Self::Statements,
        Self::CacheHits,
        Self::CacheMisses,
        Self::CacheStale,
        Self::BreakerOpened,
    ];

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
            Self::LoadRowsRead => "pulse_load_rows_read_total",
            Self::LogOffsetsLost => "pulse_log_offsets_lost_total",
            Self::QueriesAnswered => "pulse_queries_answered_total",
            Self::QueriesRefused => "pulse_queries_refused_total",
            Self::Statements => "pulse_statements_total",
            Self::CacheHits => "pulse_query_cache_hits_total",
            Self::CacheMisses => "pulse_query_cache_misses_total",
            Self::CacheStale => "pulse_query_cache_stale_total",
            Self::BreakerOpened => "pulse_store_breaker_opened_total",
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
            Self::LoadRowsRead => "Rows read to know how far the table is and what is a copy",
            Self::LogOffsetsLost => "Records the log deleted before they were read",
            Self::QueriesAnswered => "Questions answered",
            Self::QueriesRefused => "Questions refused or failed",
            Self::Statements => "Statements of reports sent to the store",
            Self::CacheHits => "Questions answered from the cache",
            Self::CacheMisses => "Reports computed",
            Self::CacheStale => "Questions answered from the cache because the store could not answer",
            Self::BreakerOpened => "Times the breaker in front of the store opened",
        }
    }

    /// Counts `number` more.
    pub fn add(self, number: u64) {
        metrics::counter!(self.name()).increment(number);
    }
}

/// Levels; the doc line says what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// The breaker in front of the store: 0 closed, 1 a probe is on its way, 2 open.
    Breaker,
}

impl Gauge {
    /// Every gauge.
    pub const ALL: [Self; 1] = [Self::Breaker];

    /// The name it is exported under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Breaker => "pulse_store_breaker_state",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Breaker => "The breaker in front of the store: 0 closed, 1 probing, 2 open",
        }
    }

    /// Sets the level.
    pub fn set(self, level: f64) {
        metrics::gauge!(self.name()).set(level);
    }
}

const LAG_RECORDS: &str = "pulse_lag_records";
const LAG_SECONDS: &str = "pulse_lag_oldest_seconds";
const QUERYABLE_BUCKET: &str = "pulse_event_to_queryable_seconds_bucket";
const QUERYABLE_SUM: &str = "pulse_event_to_queryable_milliseconds_sum";
const QUERYABLE_COUNT: &str = "pulse_event_to_queryable_seconds_count";

/// Upper ends of the buckets of the latency, in milliseconds, and how they are written in seconds.
const QUERYABLE_BOUNDS: [(u64, &str); 9] = [
    (100, "0.1"),
    (200, "0.2"),
    (400, "0.4"),
    (800, "0.8"),
    (1_600, "1.6"),
    (5_000, "5"),
    (30_000, "30"),
    (300_000, "300"),
    (u64::MAX, "+Inf"),
];

/// Raw records of a partition that the table does not have, and the age of the oldest of them in seconds.
pub fn set_lag(partition: u16, records: f64, oldest_seconds: f64) {
    metrics::gauge!(LAG_RECORDS, "partition" => partition.to_string()).set(records);
    metrics::gauge!(LAG_SECONDS, "partition" => partition.to_string()).set(oldest_seconds);
}

/// Counts events that became queryable `ms` after their receipt. Called once a record.
pub fn count_queryable(ms: u64, events: u64) {
    for (_, label) in QUERYABLE_BOUNDS.into_iter().filter(|(bound, _)| ms <= *bound) {
        metrics::counter!(QUERYABLE_BUCKET, "le" => label).increment(events);
    }
    metrics::counter!(QUERYABLE_COUNT).increment(events);
    metrics::counter!(QUERYABLE_SUM).increment(ms.saturating_mul(events));
}

/// Tells the recorder what each metric means; each is then exported from the start, at zero.
pub fn describe() {
    for counter in Counter::ALL {
        metrics::describe_counter!(counter.name(), counter.help());
        counter.add(0);
    }
    for gauge in Gauge::ALL {
        metrics::describe_gauge!(gauge.name(), gauge.help());
        gauge.set(0.0);
    }
    metrics::describe_gauge!(LAG_RECORDS, "Raw records that the table does not have yet, by partition");
    metrics::describe_gauge!(LAG_SECONDS, "Age of the oldest record that the table does not have yet, by partition");
    metrics::describe_counter!(QUERYABLE_BUCKET, "Events that could be queried within so many seconds of their receipt");
    metrics::describe_counter!(QUERYABLE_COUNT, "Events that can be queried");
    metrics::describe_counter!(QUERYABLE_SUM, "Milliseconds from receipt until they could be queried, of all events");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention_and_are_unique() {
        let mut names: Vec<_> = Counter::ALL.map(Counter::name).to_vec();
        assert!(names.iter().all(|name| name.starts_with("pulse_") && name.ends_with("_total")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
