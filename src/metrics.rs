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
    /// A raw record was processed.
    RecordsProcessed,
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
    pub const ALL: [Self; 17] = [
        Self::EventsAccepted,
        Self::EventsRejected,
        Self::RequestsUnavailable,
        Self::RecordsProcessed,
        Self::EventsDead,
        Self::BlocksStored,
        Self::RowsStored,
        Self::LoadRetries,
        Self::Suspects,
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
            Self::RecordsProcessed => "pulse_records_processed_total",
            Self::EventsDead => "pulse_events_dead_total",
            Self::BlocksStored => "pulse_blocks_stored_total",
            Self::RowsStored => "pulse_rows_stored_total",
            Self::LoadRetries => "pulse_load_retries_total",
            Self::Suspects => "pulse_suspects_total",
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
            Self::RecordsProcessed => "Raw records processed",
            Self::EventsDead => "Events put aside as dead letters",
            Self::BlocksStored => "Blocks stored in ClickHouse",
            Self::RowsStored => "Rows stored in ClickHouse, books included",
            Self::LoadRetries => "Inserts and look-ups tried again",
            Self::Suspects => "Events looked up in the table because they might be copies",
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
