//! What all clients of a cluster share: their log lines and the form of their errors.

use std::ops::Range;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::log::LogError;
use crate::metrics::Counter;

/// The context of a client that only reads.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A request that fails has a message of its own, or is sent to another broker.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => log(level, facility, message),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// Logs a line of a consumer. The producer logs that a broker cannot be reached, the member that offsets were not committed.
pub(super) fn log_follower(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match facility {
        "FAIL" | "ERROR" | "REQTMOUT" | "COMMITFAIL" => tracing::debug!(facility, message, "librdkafka"),
        _ => log(level, facility, message),
    }
}

/// Logs a line of librdkafka. It recovers from most of what it calls an error: brokers come and go.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // Options go to producers and consumers alike; each warns of those of the other.
    if facility == "CONFWARN" {
        tracing::debug!(message, "librdkafka");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// Whether a fetch error ends the reading of a partition until it is assigned again.
pub(super) fn stops_fetching(problem: &KafkaError) -> bool {
    matches!(
        problem.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::BadMessage
        )
    )
}

/// An error that may be gone at the next attempt.
pub(super) fn unavailable(doing: &str, problem: &KafkaError) -> LogError {
    LogError::Unavailable(format!("kafka: {doing}: {problem}"))
}

/// Counts and logs records that Kafka deleted before the group had read them.
pub(super) fn report_lost_offsets(topic: &str, partition: i32, lost: Range<i64>) {
    let count = u64::try_from(lost.end - lost.start).unwrap_or(0);
    Counter::LogOffsetsLost.add(count);
    tracing::error!(
        topic,
        partition,
        from = lost.start,
        to = lost.end,
        count,
        "kafka deleted records that were not read: reading on behind them"
    );
}
