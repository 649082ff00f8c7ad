//! The section `[log.kafka]` and its checked form.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize, Serializer};

use crate::log::{ConsumerGroup, Topic};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time that records are kept: who reads them may be away for some of it.
const LEAST_RETENTION: Duration = Duration::from_secs(60 * 60);
/// What Kafka puts around a record: batch header, record header, and room for what a later version adds.
const RECORD_OVERHEAD: u64 = 64 * KIB;
/// What a topic takes is set when it is made: room for `ingest.seal_size` to be raised later.
const LEAST_RECORD: u64 = 5 * MIB;

/// How long the partitions of an instance that died stay without a reader.
const SESSION_TIMEOUT: &str = "session.timeout.ms";
const SESSION_MS: u64 = 10_000;
/// Also how long the group waits for members that are gone without a word while it comes together, and how long a request to join may hang.
/// A thread of its own polls, so it is never slow because the work is.
const POLL_INTERVAL: &str = "max.poll.interval.ms";
const POLL_MS: u64 = 30_000;

/// Options of librdkafka that pulse decides, because a promise hangs on them, and what to do instead.
const DECIDED: [(&str, &str); 27] = [
    ("acks", "records are acknowledged by all replicas"),
    ("request.required.acks", "records are acknowledged by all replicas"),
    ("enable.idempotence", "the producer is idempotent"),
    ("enable.gapless.guarantee", "pulse fails what waits behind a failed record by itself"),
    ("transactional.id", "pulse uses no transactions"),
    ("max.in.flight", "the idempotent producer decides"),
    ("max.in.flight.requests.per.connection", "the idempotent producer decides"),
    ("retries", "use log.kafka.delivery_timeout"),
    ("message.send.max.retries", "use log.kafka.delivery_timeout"),
    ("message.timeout.ms", "use log.kafka.delivery_timeout"),
    ("delivery.timeout.ms", "use log.kafka.delivery_timeout"),
    ("message.max.bytes", "use log.kafka.max_record_bytes"),
    ("queue.buffering.max.kbytes", "use log.kafka.queue_bytes"),
    ("queue.buffering.max.messages", "use log.kafka.queue_bytes"),
    ("auto.offset.reset", "lost offsets are found and said by pulse"),
    ("enable.auto.commit", "pulse commits what is finished"),
    ("auto.commit.enable", "pulse commits what is finished"),
    ("enable.auto.offset.store", "pulse commits what is finished"),
    ("enable.partition.eof", "pulse decides where it needs it"),
    ("check.crcs", "records are always checked"),
    ("isolation.level", "pulse uses no transactions"),
    ("group.id", "groups are named after log.kafka.topic_prefix"),
    ("group.protocol", "pulse decides how partitions move"),
    ("partition.assignment.strategy", "pulse decides how partitions move"),
    ("bootstrap.servers", "use log.kafka.brokers"),
    ("metadata.broker.list", "use log.kafka.brokers"),
    ("plugin.library.paths", "pulse loads no foreign code"),
];

/// `[log.kafka]` as written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaLogConfig {
    /// Addresses of some brokers; the others are learnt from them.
    pub brokers: Vec<String>,
    /// What the names of topics and consumer groups begin with.
    pub topic_prefix: String,
    /// Partitions of the raw and enriched topics that are used. 1 to 256.
    pub partitions: u16,
    /// Copies of each partition; one less must be in sync for a record to be acknowledged. 1 to 9.
    pub replication: u16,
    /// Largest record in bytes. 5 MiB to 64 MiB.
    #[serde(with = "crate::byte_size")]
    pub max_record_bytes: u64,
    /// Bytes of records that may wait for Kafka's acknowledgement.
    #[serde(with = "crate::byte_size")]
    pub queue_bytes: u64,
    /// Longest time a record waits for its acknowledgement.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// How long raw records are kept, finished or not.
    #[serde(with = "humantime_serde")]
    pub raw_retention: Duration,
    /// How long enriched records are kept, finished or not.
    #[serde(with = "humantime_serde")]
    pub enriched_retention: Duration,
    /// How long dead letters are kept, finished or not.
    #[serde(with = "humantime_serde")]
    pub dead_retention: Duration,
    /// Handed to librdkafka as they are.
    pub options: KafkaOptions,
}

/// Options of librdkafka by name. Those that hold a secret are shown as set, never as what they are.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct KafkaOptions(pub BTreeMap<String, String>);

impl<const N: usize> From<[(String, String); N]> for KafkaOptions {
    fn from(options: [(String, String); N]) -> Self {
        Self(options.into())
    }
}

impl KafkaOptions {
    fn shown(&self) -> BTreeMap<&str, &str> {
        let shown = |name: &str, value| if is_secret(name) { "(set)" } else { value };
        self.0.iter().map(|(name, value)| (name.as_str(), shown(name, value))).collect()
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for KafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

impl Default for KafkaLogConfig {
    fn default() -> Self {
        Self {
            brokers: vec!["127.0.0.1:9092".to_owned()],
            topic_prefix: "pulse".to_owned(),
            partitions: 12,
            replication: 3,
            max_record_bytes: 8 * MIB,
            queue_bytes: 64 * MIB,
            delivery_timeout: Duration::from_secs(20),
            raw_retention: 3 * DAY,
            enriched_retention: DAY,
            dead_retention: 30 * DAY,
            options: KafkaOptions::default(),
        }
    }
}

impl KafkaLogConfig {
    /// The only way to make [`KafkaLimits`]. The message names key and value.
    pub fn check(self) -> Result<KafkaLimits, String> {
        if self.brokers.is_empty() {
            return Err("log.kafka.brokers: at least one address is needed".to_owned());
        }
        if let Some(broker) = self.brokers.iter().find(|broker| !is_address(broker)) {
            return Err(format!("log.kafka.brokers: `{broker}` is not host:port"));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // Kafka's names end at 249 bytes; the longest of ours is "-enriched" behind it.
        if !(1..=200).contains(&self.topic_prefix.len()) || !self.topic_prefix.bytes().all(is_name) {
            return Err(format!("log.kafka.topic_prefix: `{}` is not 1 to 200 letters, digits, `.`, `_` or `-`", self.topic_prefix));
        }
        within("partitions", u64::from(self.partitions), 1, 256)?;
        within("replication", u64::from(self.replication), 1, 9)?;
        within("max_record_bytes", self.max_record_bytes, LEAST_RECORD, 64 * MIB)?;
        within("queue_bytes", self.queue_bytes, self.max_record_bytes, 2 * GIB)?;
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&self.delivery_timeout) {
            return Err(format!("log.kafka.delivery_timeout = {:?}: must be between 1s and 5m", self.delivery_timeout));
        }
        let kept = [("raw", self.raw_retention), ("enriched", self.enriched_retention), ("dead", self.dead_retention)];
        if let Some((topic, time)) = kept.into_iter().find(|(_, time)| *time < LEAST_RETENTION) {
            return Err(format!("log.kafka.{topic}_retention = {time:?}: must be at least 1h, or Kafka deletes what nobody has read yet"));
        }
        self.check_options()?;
        Ok(KafkaLimits { config: self })
    }

    fn check_options(&self) -> Result<(), String> {
        for (name, value) in &self.options.0 {
            if let Some((_, instead)) = DECIDED.iter().find(|(decided, _)| decided == name) {
                return Err(format!("log.kafka.options: `{name}` cannot be set: {instead}"));
            }
            let native = ClientConfig::new().set(name, value).create_native_config();
            // The value may be a password: it is not repeated.
            native.map_err(|problem| {
                format!("log.kafka.options: `{name}` is refused by librdkafka: {}", without(&problem.to_string(), value))
            })?;
        }
        let (session_ms, poll_ms) = (self.session_ms(), self.poll_ms());
        if poll_ms < session_ms {
            return Err(format!(
                "log.kafka.options: `{POLL_INTERVAL}` = {poll_ms}: must be at least `{SESSION_TIMEOUT}`, which is {session_ms}"
            ));
        }
        Ok(())
    }

    fn session_ms(&self) -> u64 {
        self.number(SESSION_TIMEOUT).unwrap_or(SESSION_MS)
    }

    /// librdkafka makes no member of a group for which this is less than the session.
    fn poll_ms(&self) -> u64 {
        self.number(POLL_INTERVAL).unwrap_or_else(|| POLL_MS.max(self.session_ms()))
    }

    fn number(&self, option: &str) -> Option<u64> {
        self.options.0.get(option)?.trim().parse().ok()
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn without(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "…") }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("log.kafka.{key} = {value}: must be between {least} and {most}"))
}

/// Whether an option holds something that must not be shown.
fn is_secret(option: &str) -> bool {
    ["password", "secret", "key.pem", "oauthbearer.config"].iter().any(|word| option.contains(word))
}

/// Checked limits of the Kafka log.
#[derive(Clone, Debug)]
pub struct KafkaLimits {
    config: KafkaLogConfig,
}

impl KafkaLimits {
    /// The name of the Kafka topic.
    pub fn topic_name(&self, topic: Topic) -> String {
        format!("{}-{}", self.config.topic_prefix, topic.as_str())
    }

    pub(super) fn group_name(&self, group: &str) -> String {
        format!("{}-{group}", self.config.topic_prefix)
    }

    pub(super) fn brokers(&self) -> String {
        self.config.brokers.join(",")
    }

    pub(super) fn partitions(&self, topic: Topic) -> u16 {
        match topic {
            Topic::Raw | Topic::Enriched => self.config.partitions,
            Topic::Dead => 1,
        }
    }

    pub(super) fn replication(&self) -> u16 {
        self.config.replication
    }

    /// Largest record.
    pub fn max_record_bytes(&self) -> usize {
        usize::try_from(self.config.max_record_bytes).unwrap_or(usize::MAX)
    }

    /// What a topic must take for the largest record to fit.
    pub(super) fn message_bytes(&self) -> u64 {
        self.config.max_record_bytes + RECORD_OVERHEAD
    }

    pub(super) fn delivery_timeout(&self) -> Duration {
        self.config.delivery_timeout
    }

    /// How long records are kept.
    pub(super) fn retention(&self, topic: Topic) -> Duration {
        match topic {
            Topic::Raw => self.config.raw_retention,
            Topic::Enriched => self.config.enriched_retention,
            Topic::Dead => self.config.dead_retention,
        }
    }

    /// Bytes in flight from which `topic` takes no more records. The further downstream, the more: a queue full of raw
    /// records must still take what process makes of them, and its dead letters.
    pub(super) fn queued_limit(&self, topic: Topic) -> usize {
        let eighths = match topic {
            Topic::Raw => 6,
            Topic::Enriched => 7,
            Topic::Dead => 8,
        };
        usize::try_from(self.config.queue_bytes / 8 * eighths).unwrap_or(usize::MAX)
    }

    /// What every client of the cluster needs.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("client.id", "pulse");
        for (name, value) in &self.config.options.0 {
            client.set(name, value);
        }
        client.set("bootstrap.servers", self.brokers());
        // A broker that is back is found this late; the default is ten seconds.
        self.prefer(&mut client, "reconnect.backoff.max.ms", "1000");
        // One that does not answer is disconnected after this long; the default is a minute.
        self.prefer(&mut client, "socket.timeout.ms", "15000");
        client
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", self.message_bytes().to_string())
            .set("message.timeout.ms", self.config.delivery_timeout.as_millis().to_string())
            // Pulse counts bytes and refuses by itself; these only must not be reached first.
            .set("queue.buffering.max.kbytes", (2 * self.config.queue_bytes / KIB).to_string())
            .set("queue.buffering.max.messages", "0");
        self.prefer(&mut client, "linger.ms", "1");
        // Records are compressed already.
        self.prefer(&mut client, "compression.codec", "none");
        client
    }

    /// A consumer that reads from a given position to the end of the log.
    pub(super) fn positioned_reader(&self) -> ClientConfig {
        let mut client = self.consumer(&self.group_name("read"));
        client
            .set("enable.partition.eof", "true")
            // The end of a partition is known only once the broker has waited this long for more.
            .set("fetch.wait.max.ms", "5");
        client
    }

    /// A consumer that follows a topic. It commits nothing; the name of its group appears in requests only.
    pub(super) fn follower(&self) -> ClientConfig {
        self.consumer(&self.group_name("follow"))
    }

    /// A member of a consumer group.
    pub(super) fn member(&self, group: ConsumerGroup) -> ClientConfig {
        let mut client = self.consumer(&self.group_name(group.as_str()));
        client.set("partition.assignment.strategy", "cooperative-sticky");
        self.prefer(&mut client, SESSION_TIMEOUT, &self.config.session_ms().to_string());
        self.prefer(&mut client, "heartbeat.interval.ms", "2000");
        self.prefer(&mut client, POLL_INTERVAL, &self.config.poll_ms().to_string());
        client
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true");
        // The default is a stall of a second whenever the queue was full.
        self.prefer(&mut client, "fetch.queue.backoff.ms", "5");
        // Of each partition; a record larger than this is fetched all the same, alone.
        self.prefer(&mut client, "queued.max.messages.kbytes", "4096");
        client
    }

    /// Sets what the options leave open.
    fn prefer(&self, client: &mut ClientConfig, name: &str, value: &str) {
        if !self.config.options.0.contains_key(name) {
            client.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[(&str, &str)]) -> KafkaLogConfig {
        let options = KafkaOptions(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        KafkaLogConfig { options, ..KafkaLogConfig::default() }
    }

    #[test]
    fn options_that_would_break_a_promise_are_refused() {
        for (name, _) in DECIDED {
            let problem = with(&[(name, "1")]).check().unwrap_err();
            assert!(problem.contains(&format!("`{name}` cannot be set")), "{problem}");
        }
    }

    #[test]
    fn a_topic_that_would_be_empty_before_it_is_read_is_refused() {
        let problem = KafkaLogConfig { raw_retention: Duration::ZERO, ..KafkaLogConfig::default() }.check().unwrap_err();
        assert!(problem.starts_with("log.kafka.raw_retention = 0ns"), "{problem}");
    }

    #[test]
    fn an_option_that_does_not_exist_is_refused_and_no_secret_repeated() {
        assert!(with(&[("sasl.pasword", "hush")]).check().unwrap_err().contains("sasl.pasword"));
        let problem = with(&[("security.protocol", "hush")]).check().unwrap_err();
        assert!(problem.contains("security.protocol") && !problem.contains("hush"), "{problem}");
    }

    #[test]
    fn this_build_speaks_tls_and_scram() {
        let scram =
            [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.username", "pulse"), ("sasl.password", "x")];
        let limits = with(&scram).check().unwrap();
        let made: Result<rdkafka::producer::BaseProducer, _> = limits.producer().create();
        assert!(made.is_ok(), "{:?}", made.err());
    }

    #[test]
    fn a_session_may_be_as_long_as_kafkas_own_and_no_longer_than_the_time_between_polls() {
        for options in [&[][..], &[("session.timeout.ms", "45000")], &[("max.poll.interval.ms", "15000")]] {
            let limits = with(options).check().unwrap();
            let made: Result<rdkafka::consumer::BaseConsumer, _> = limits.member(ConsumerGroup::Load).create();
            assert!(made.is_ok(), "{options:?}: {:?}", made.err());
        }
        for options in [&[("max.poll.interval.ms", "9000")][..], &[("session.timeout.ms", "45000"), ("max.poll.interval.ms", "30000")]] {
            let problem = with(options).check().unwrap_err();
            assert!(problem.contains("`max.poll.interval.ms` = "), "{problem}");
        }
    }

    #[test]
    fn limits_name_key_and_value() {
        let problem = KafkaLogConfig { partitions: 0, ..KafkaLogConfig::default() }.check().unwrap_err();
        assert_eq!(problem, "log.kafka.partitions = 0: must be between 1 and 256");
        let problem = KafkaLogConfig { brokers: vec!["kafka".to_owned()], ..KafkaLogConfig::default() }.check().unwrap_err();
        assert_eq!(problem, "log.kafka.brokers: `kafka` is not host:port");
        let problem = KafkaLogConfig { topic_prefix: "a b".to_owned(), ..KafkaLogConfig::default() }.check().unwrap_err();
        assert!(problem.contains("`a b`"), "{problem}");
    }
}
