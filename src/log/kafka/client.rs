//! What all clients of a cluster share: their log lines, and how their errors read.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::log::LogError;

/// The context of a client that only asks.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What it asks for fails with a message of its own, or is asked of another broker.
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

/// A line of a client beside the producer: that a broker cannot be reached is said by the one that writes, and that offsets were not
/// committed by the one that commits them.
pub(super) fn log_follower(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match facility {
        "FAIL" | "ERROR" | "REQTMOUT" | "COMMITFAIL" => tracing::debug!(facility, message, "librdkafka"),
        _ => log(level, facility, message),
    }
}

/// A line of librdkafka's own log. What it calls an error it mostly mends by itself: brokers come and go.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // Options are given to producers and consumers alike; that each knows only its own is no news.
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

/// An error that may be gone at the next attempt.
pub(super) fn unavailable(doing: &str, problem: &KafkaError) -> LogError {
    LogError::Unavailable(format!("kafka: {doing}: {problem}"))
}
