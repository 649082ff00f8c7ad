//! The section `[log.embedded]` and its checked form.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::log::Topic;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
/// A dead letter with its message always fits.
const LEAST_RECORD: u64 = 64 * KIB;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `[log.embedded]` as written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedLogConfig {
    /// Partitions of the raw and enriched topics. Fixed once the log exists. 1 to 64. One carries more than 200,000
    /// events a second and makes the largest blocks, which cost ClickHouse least; more are for more cores.
    pub partitions: u16,
    /// Bytes after which a file is sealed and the next one begun: the grain of retention. 4 KiB to 1 GiB.
    #[serde(with = "crate::byte_size")]
    pub segment_bytes: u64,
    /// Bytes of the whole log on disk. What is finished is deleted from five eighths on, whatever its age; raw records are
    /// refused from six eighths on, enriched ones from seven eighths on, so that what is downstream can always drain.
    #[serde(with = "crate::byte_size")]
    pub max_bytes: u64,
    /// Bytes of records that may wait for the disk; shared among the topics in the same steps as `max_bytes`.
    #[serde(with = "crate::byte_size")]
    pub queue_bytes: u64,
    /// Largest record in bytes. 64 KiB to 64 MiB.
    #[serde(with = "crate::byte_size")]
    pub max_record_bytes: u64,
    /// Bytes of the newest records of a topic that stay in memory, so that readers who keep up never touch the disk.
    #[serde(with = "crate::byte_size")]
    pub tail_bytes: u64,
    /// How long raw records are kept, finished or not.
    #[serde(with = "humantime_serde")]
    pub raw_retention: Duration,
    /// How long enriched records are kept.
    #[serde(with = "humantime_serde")]
    pub enriched_retention: Duration,
    /// How long dead letters are kept.
    #[serde(with = "humantime_serde")]
    pub dead_retention: Duration,
}

impl Default for EmbeddedLogConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            segment_bytes: 64 * MIB,
            max_bytes: 20 * GIB,
            queue_bytes: 64 * MIB,
            max_record_bytes: 16 * MIB,
            tail_bytes: 16 * MIB,
            raw_retention: 3 * DAY,
            enriched_retention: DAY,
            dead_retention: 30 * DAY,
        }
    }
}

impl EmbeddedLogConfig {
    /// The only way to make [`EmbeddedLimits`]. The message names key and value.
    pub fn check(self) -> Result<EmbeddedLimits, String> {
        // A partition of a topic has a thread and a file of its own; more than 64 buys nothing on one machine.
        within("partitions", u64::from(self.partitions), 1, 64)?;
        // Positions in a file are written as 32 bits.
        within("segment_bytes", self.segment_bytes, 4 * KIB, GIB)?;
        within("max_record_bytes", self.max_record_bytes, LEAST_RECORD, 64 * MIB)?;
        // An open segment cannot be deleted: with fewer than 16 the open ones could fill the log for good.
        within("max_bytes", self.max_bytes, 16 * self.segment_bytes, u64::MAX)?;
        within("queue_bytes", self.queue_bytes, self.max_record_bytes, 4 * GIB)?;
        within("tail_bytes", self.tail_bytes, 0, 4 * GIB)?;
        let limits = EmbeddedLimits { config: self };
        limits.check_room()?;
        Ok(limits)
    }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("log.embedded.{key} = {value}: must be between {least} and {most}"))
}

/// Checked limits of the embedded log.
#[derive(Clone, Debug)]
pub struct EmbeddedLimits {
    config: EmbeddedLogConfig,
}

impl EmbeddedLimits {
    /// Whether what can never be deleted to make room leaves room: of each partition the open segments.
    fn check_room(&self) -> Result<(), String> {
        let EmbeddedLogConfig { partitions, max_bytes, segment_bytes, .. } = self.config;
        let least = 2 * (u64::from(partitions) * 2 * segment_bytes + segment_bytes);
        if max_bytes < least {
            return Err(format!(
                "log.embedded.max_bytes = {max_bytes}: {partitions} partitions of segments of {segment_bytes} bytes need at least {least}"
            ));
        }
        Ok(())
    }

    pub(super) fn partitions(&self, topic: Topic) -> u16 {
        match topic {
            Topic::Raw | Topic::Enriched => self.config.partitions,
            Topic::Dead => 1,
        }
    }

    /// Partitions of the raw topic: what the log was made with.
    pub(super) fn raw_partitions(&self) -> u16 {
        self.config.partitions
    }

    /// Bytes after which a file is sealed.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes
    }

    /// Largest record.
    pub fn max_record_bytes(&self) -> usize {
        usize::try_from(self.config.max_record_bytes).unwrap_or(usize::MAX)
    }

    /// Memory for the newest records of one partition.
    pub(super) fn tail_bytes(&self, topic: Topic) -> usize {
        usize::try_from(self.config.tail_bytes / u64::from(self.partitions(topic))).unwrap_or(usize::MAX)
    }

    /// Bytes on disk from which `topic` takes no more records.
    pub(super) fn stored_limit(&self, topic: Topic) -> u64 {
        share(topic, self.config.max_bytes)
    }

    /// Bytes in flight from which `topic` takes no more records.
    pub(super) fn queued_limit(&self, topic: Topic) -> u64 {
        share(topic, self.config.queue_bytes)
    }

    /// Bytes on disk from which finished records are deleted before their time.
    pub(super) fn pressure(&self) -> u64 {
        self.config.max_bytes / 8 * 5
    }

    /// How long records are kept.
    pub(super) fn retention(&self, topic: Topic) -> Duration {
        match topic {
            Topic::Raw => self.config.raw_retention,
            Topic::Enriched => self.config.enriched_retention,
            Topic::Dead => self.config.dead_retention,
        }
    }
}

/// The part of `whole` that `topic` may fill up to. The further downstream, the more: a log full of raw records must
/// still take what process makes of them, and one full of enriched records the dead letters that load writes before it
/// can commit.
fn share(topic: Topic, whole: u64) -> u64 {
    match topic {
        Topic::Raw => whole / 8 * 6,
        Topic::Enriched => whole / 8 * 7,
        Topic::Dead => whole,
    }
}
