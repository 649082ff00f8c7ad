//! The topics: made where they are missing, checked where they exist.
//!
//! The state topic is kept by bytes, not compacted: a snapshot is several records, and compaction would leave parts of
//! many. Kafka deletes the oldest whole segments while the rest still holds `state_bytes`, so the newest records stay,
//! however old they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::types::RDKafkaErrorCode;

use super::OpenError;
use super::client::Quiet;
use super::config::KafkaLimits;
use super::identity::{self, Described, TopicId};
use crate::log::Topic;

/// Longest wait for one answer: a start must not hang on a cluster that is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait until the brokers are asked who of them is there.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often and how long a fresh topic is looked for: brokers learn of it one after the other.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
const LOOKS: u32 = 100;

/// The ids of all topics, in the order of [`Topic::ALL`].
pub(super) type TopicIds = [TopicId; Topic::ALL.len()];

/// Asks the cluster about topics and makes them.
pub(super) struct Admin {
    client: AdminClient<Quiet>,
    limits: KafkaLimits,
}

impl Admin {
    pub(super) fn new(limits: KafkaLimits) -> Result<Self, OpenError> {
        let client =
            AdminClient::from_config_and_context(&limits.client(), Quiet).map_err(|problem| OpenError::Client(problem.to_string()))?;
        Ok(Self { client, limits })
    }

    /// Makes missing topics if `creates`, checks those that exist, and returns their ids. Blocks on the cluster.
    pub(super) async fn prepare(&self, creates: bool) -> Result<TopicIds, OpenError> {
        let mut ids = Vec::with_capacity(Topic::ALL.len());
        for topic in Topic::ALL {
            let found = match self.describe(topic)? {
                None if creates => self.create(topic).await?,
                None => return Err(OpenError::Missing(self.limits.topic_name(topic))),
                Some(found) => found,
            };
            self.check(topic, found).await?;
            ids.push(found.id);
        }
        ids.try_into().map_err(|_| OpenError::Client("not every topic was described".to_owned()))
    }

    fn describe(&self, topic: Topic) -> Result<Option<Described>, OpenError> {
        let (client, name) = (self.client.inner(), self.limits.topic_name(topic));
        // The broker asked is the one that was told to be the controller, which is any; if it is gone, another is to be told.
        let described = identity::describe(client, &name, FIRST_TIMEOUT).or_else(|_| {
            if let Some(refusal) = identity::refusal(client) {
                return Err(refusal);
            }
            identity::find_brokers(client, TIMEOUT)?;
            identity::describe(client, &name, TIMEOUT)
        });
        described.map_err(|why| self.unreachable(why))
    }

    fn unreachable(&self, why: String) -> OpenError {
        let why = identity::refusal(self.client.inner()).unwrap_or(why);
        OpenError::Unreachable { brokers: self.limits.brokers(), why }
    }

    async fn create(&self, topic: Topic) -> Result<Described, OpenError> {
        let name = self.limits.topic_name(topic);
        let settings = settings(&self.limits, topic);
        let replication = TopicReplication::Fixed(i32::from(self.limits.replication()));
        let fresh = NewTopic::new(&name, i32::from(self.limits.partitions(topic)), replication);
        let fresh = settings.iter().fold(fresh, |fresh, (key, value)| fresh.set(key, value));
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let refused = |why: String| OpenError::Refused { topic: name.clone(), why };
        let results = self.client.create_topics([&fresh], &options).await.map_err(|problem| refused(problem.to_string()))?;
        for result in results {
            match result {
                Ok(_) => tracing::info!(topic = name, partitions = self.limits.partitions(topic), "topic created"),
                // Another instance was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let why = format!("log.kafka.replication = {}: the cluster has fewer brokers", self.limits.replication());
                    return Err(refused(why));
                }
                Err((_, code)) => return Err(refused(code.to_string())),
            }
        }
        for _ in 0..LOOKS {
            if let Some(found) = self.describe(topic)? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(refused("it was created, but no broker knows it".to_owned()))
    }

    async fn check(&self, topic: Topic, found: Described) -> Result<(), OpenError> {
        let name = self.limits.topic_name(topic);
        let unfit = |why: String| OpenError::Unfit { topic: name.clone(), why };
        let wanted = usize::from(self.limits.partitions(topic));
        if found.partitions < wanted {
            return Err(unfit(format!("{} partitions instead of {wanted}: log.kafka.partitions says otherwise", found.partitions)));
        }
        if found.partitions > wanted {
            self.check_surplus(topic, found.partitions).map_err(unfit)?;
            tracing::error!("{}", surplus(&name, found.partitions, wanted));
        }
        match self.settings_of(&name).await? {
            Some(settings) => self.check_settings(topic, &settings).map_err(unfit),
            None => {
                // Whoever may not read a topic's settings must trust them.
                tracing::warn!(topic = name, "the topic's settings cannot be read: not checked");
                Ok(())
            }
        }
    }

    /// Partitions beyond those that are used do no harm as long as nobody has written to them: then they are new, and were not made
    /// by instances that use more.
    fn check_surplus(&self, topic: Topic, count: usize) -> Result<(), String> {
        let (name, wanted) = (self.limits.topic_name(topic), usize::from(self.limits.partitions(topic)));
        for partition in wanted..count {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            let asked = self.client.inner().fetch_watermarks(&name, number, TIMEOUT);
            let (_, end) = asked.map_err(|problem| format!("partition {partition}: {problem}"))?;
            if end > 0 {
                return Err(format!("partition {partition} has been written to: log.kafka.partitions = {wanted} leaves it out"));
            }
        }
        Ok(())
    }

    /// A topic's settings; `None` if they cannot be read. A broker that has not heard of a fresh topic answers without any.
    async fn settings_of(&self, name: &str) -> Result<Option<ConfigResource>, OpenError> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        for _ in 0..LOOKS {
            let asked = self.client.describe_configs([&ResourceSpecifier::Topic(name)], &options).await;
            let answers = asked.map_err(|problem| OpenError::Unreachable { brokers: self.limits.brokers(), why: problem.to_string() })?;
            match answers.into_iter().next() {
                Some(Ok(settings)) if settings.entries.is_empty() => tokio::time::sleep(LOOK_PAUSE).await,
                answer => return Ok(answer.and_then(Result::ok)),
            }
        }
        Ok(None)
    }

    fn check_settings(&self, topic: Topic, settings: &ConfigResource) -> Result<(), String> {
        let value = |key: &str| settings.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        let number = |key: &str| value(key).parse::<i64>().unwrap_or(0);
        let wanted = i64::try_from(self.limits.message_bytes()).unwrap_or(i64::MAX);
        if number("max.message.bytes") < wanted {
            return Err(format!("max.message.bytes = {}: log.kafka.max_record_bytes needs {wanted} or more", value("max.message.bytes")));
        }
        if value("cleanup.policy") != "delete" {
            return Err(format!("cleanup.policy = {}: must be `delete`, compaction loses records", value("cleanup.policy")));
        }
        if topic == Topic::State && number("retention.ms") != -1 {
            return Err(format!("retention.ms = {}: must be -1, or the last snapshot of a quiet partition goes", value("retention.ms")));
        }
        Ok(())
    }
}

/// What is said of a topic that has grown.
fn surplus(name: &str, partitions: usize, used: usize) -> String {
    format!(
        "topic {name} has {partitions} partitions, of which {used} are used as log.kafka.partitions says. To use all: stop what sends, wait \
         until /v1/ledger shows nothing waiting, stop every instance, give raw, enriched and state topics the same number, set \
         log.kafka.partitions to it, start"
    )
}

/// What a topic is created with.
fn settings(limits: &KafkaLimits, topic: Topic) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", limits.message_bytes().to_string()),
        ("min.insync.replicas", limits.replication().saturating_sub(1).max(1).to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        // Kept as they come: records are compressed already.
        ("compression.type", "producer".to_owned()),
    ];
    match limits.retention(topic) {
        Some(kept) => settings.push(("retention.ms", kept.as_millis().to_string())),
        None => settings.extend([
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", limits.state_bytes().to_string()),
            ("segment.bytes", (limits.state_bytes() / 4).to_string()),
        ]),
    }
    settings
}

/// Looks at the topics again and again.
pub(super) struct Watch {
    admin: Admin,
    ids: TopicIds,
    /// The partitions of each topic when they were last spoken of.
    told: [AtomicUsize; Topic::ALL.len()],
}

impl Watch {
    pub(super) fn new(admin: Admin, ids: TopicIds) -> Self {
        let told = Topic::ALL.map(|topic| AtomicUsize::new(usize::from(admin.limits.partitions(topic))));
        Self { admin, ids, told }
    }

    pub(super) fn ids(&self) -> &TopicIds {
        &self.ids
    }

    /// Whether all topics are still the same. `Ok(Some(why))` if one is not; an error if the cluster does not answer.
    /// Blocks.
    pub(super) fn look(&self) -> Result<Option<String>, OpenError> {
        for ((topic, known), told) in Topic::ALL.into_iter().zip(self.ids).zip(&self.told) {
            let (name, wanted) = (self.admin.limits.topic_name(topic), usize::from(self.admin.limits.partitions(topic)));
            match self.admin.describe(topic)? {
                None => return Ok(Some(format!("topic {name} was deleted"))),
                Some(found) if found.id != known => return Ok(Some(format!("topic {name} was deleted and created again"))),
                Some(found) => {
                    if found.partitions > told.swap(found.partitions, Ordering::Relaxed) {
                        tracing::error!("{}", surplus(&name, found.partitions, wanted));
                    }
                }
            }
        }
        Ok(None)
    }
}
