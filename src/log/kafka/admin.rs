//! The topics: made where they are missing, checked where they exist.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::select_ok;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::OpenError;
use super::client::Quiet;
use super::config::KafkaLimits;
use super::identity::{self, Described, Question, TopicDescriptions, TopicId, Until};
use super::pool::Pool;
use crate::log::Topic;

/// Longest wait for one answer: a start must not hang on a cluster that is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one broker. Questions that any of them can answer go to all at once: one that is gone does not answer, and stays in
/// the metadata until the others miss it.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where topics are made, which is asked of one after the other.
const CREATE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often, and how far apart, brokers are asked for a fresh topic: they learn of it one after the other.
const RECHECK_PAUSE: Duration = Duration::from_millis(100);
const RECHECKS: u32 = 100;

/// The ids of all topics, in the order of [`Topic::ALL`].
pub(super) type TopicIds = [TopicId; Topic::ALL.len()];

/// What is known of topics that are as they must be.
pub(super) struct Prepared {
    pub(super) ids: TopicIds,
    /// Copies of a raw record without which it is not acknowledged.
    pub(super) required: usize,
}

/// Asks the cluster about topics and makes them.
pub(super) struct Admin {
    client: AdminClient<Quiet>,
    limits: KafkaLimits,
    names: [String; Topic::ALL.len()],
    /// Those of the last metadata.
    brokers: Mutex<Vec<i32>>,
}

impl Admin {
    pub(super) fn new(limits: KafkaLimits) -> Result<Self, OpenError> {
        let client =
            AdminClient::from_config_and_context(&limits.client(), Quiet).map_err(|problem| OpenError::Client(problem.to_string()))?;
        Ok(Self { client, names: Topic::ALL.map(|topic| limits.topic_name(topic)), limits, brokers: Mutex::default() })
    }

    pub(super) fn limits(&self) -> &KafkaLimits {
        &self.limits
    }

    /// Makes missing topics if `creates`, checks those that exist, and says what they are.
    pub(super) async fn prepare(self: &Arc<Self>, creates: bool, pool: &Pool) -> Result<Prepared, OpenError> {
        let mut found = self.described().await?;
        let missing: Vec<Topic> = Topic::ALL.into_iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(topic, _)| topic).collect();
        if let Some(first) = missing.first() {
            if !creates {
                return Err(OpenError::Missing(self.limits.topic_name(*first)));
            }
            self.create(&missing).await?;
            found = self.appeared().await?;
        }
        let settings = self.settings().await?;
        let mut required = usize::from(self.limits.replication().saturating_sub(1).max(1));
        let mut ids = Vec::with_capacity(found.len());
        for ((topic, found), settings) in Topic::ALL.into_iter().zip(found.iter().flatten()).zip(&settings) {
            self.check_partitions(topic, found, pool)?;
            self.check_readable(topic, settings.as_ref())?;
            if let Some(least) = settings.as_ref().filter(|_| topic == Topic::Raw).map(|settings| number(settings, "min.insync.replicas")) {
                required = usize::try_from(least).unwrap_or(required);
            }
            ids.push(found.id);
        }
        let ids = ids.try_into().map_err(|_| OpenError::Client("not every topic was described".to_owned()))?;
        Ok(Prepared { ids, required })
    }

    /// The topics, as far as any broker knows them.
    async fn described(self: &Arc<Self>) -> Result<TopicDescriptions, OpenError> {
        let own = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let answers = own.ask()?;
            // The first to answer may lag behind.
            if known_to_any(&answers).iter().all(Option::is_some) { Ok(answers) } else { own.ask_all() }
        });
        let answers = asked.await.map_err(|problem| OpenError::Client(problem.to_string()))??;
        Ok(known_to_any(&answers))
    }

    /// Asks brokers for the topics until one answers. Blocks.
    pub(super) fn ask(&self) -> Result<Vec<(i32, TopicDescriptions)>, OpenError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.ask_once(Until::First) {
                Ok(answers) => return Ok(answers),
                Err(why) => {
                    let refusal = identity::refusal(self.client.inner());
                    if refusal.is_some() || Instant::now() >= deadline {
                        return Err(self.unreachable(refusal.unwrap_or(why)));
                    }
                    std::thread::sleep(RECHECK_PAUSE);
                }
            }
        }
    }

    /// Asks the brokers that there are now for the topics, and waits a moment for all of them. Blocks.
    pub(super) fn ask_all(&self) -> Result<Vec<(i32, TopicDescriptions)>, OpenError> {
        if let Ok(found) = identity::find_brokers(self.client.inner(), BROKER_TIMEOUT) {
            *self.lock() = found;
        }
        self.ask_once(Until::All).map_err(|why| self.unreachable(why))
    }

    fn ask_once(&self, until: Until) -> Result<Vec<(i32, TopicDescriptions)>, String> {
        let brokers = self.known()?;
        let answers =
            identity::describe(self.client.inner(), &Question { topics: &self.names, brokers: &brokers, until, timeout: BROKER_TIMEOUT });
        if answers.is_err() {
            // Others may be there by now.
            self.lock().clear();
        }
        answers
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<i32>> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The brokers of the cluster, asked for if none is known.
    fn known(&self) -> Result<Vec<i32>, String> {
        let known = self.lock().clone();
        if !known.is_empty() {
            return Ok(known);
        }
        let found = identity::find_brokers(self.client.inner(), BROKER_TIMEOUT)?;
        self.lock().clone_from(&found);
        Ok(found)
    }

    fn unreachable(&self, why: String) -> OpenError {
        OpenError::Unreachable { brokers: self.limits.brokers(), why }
    }

    /// Makes topics. Any broker hands the request to the controller, but the one that is asked first may be gone.
    async fn create(&self, topics: &[Topic]) -> Result<(), OpenError> {
        let settings: Vec<_> = topics.iter().map(|topic| settings(&self.limits, *topic)).collect();
        let names: Vec<_> = topics.iter().map(|topic| self.limits.topic_name(*topic)).collect();
        let replication = i32::from(self.limits.replication());
        let fresh: Vec<_> = topics
            .iter()
            .zip(&names)
            .zip(&settings)
            .map(|((topic, name), settings)| {
                let fresh = NewTopic::new(name, i32::from(self.limits.partitions(*topic)), TopicReplication::Fixed(replication));
                settings.iter().fold(fresh, |fresh, (key, value)| fresh.set(key, value))
            })
            .collect();
        let mut failed = None;
        for broker in std::iter::once(None).chain(self.known().unwrap_or_default().into_iter().map(Some)) {
            let options =
                AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT)).operation_timeout(Some(CREATE_TIMEOUT)).broker_id(broker);
            match self.client.create_topics(&fresh, &options).await {
                Ok(results) => match self.created(results)? {
                    None => return Ok(()),
                    again => failed = again,
                },
                Err(problem) => failed = Some(problem.to_string()),
            }
        }
        Err(OpenError::Refused { topic: names.join(", "), why: failed.unwrap_or_default() })
    }

    /// Why another broker is to be asked, if one is.
    fn created(&self, results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<Option<String>, OpenError> {
        let mut again = None;
        for result in results {
            match result {
                Ok(topic) => tracing::info!(topic, "topic created"),
                // Another instance was faster, or the answer to an earlier request was lost.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code @ (RDKafkaErrorCode::NotController | RDKafkaErrorCode::RequestTimedOut))) => again = Some(code.to_string()),
                Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let why = format!("log.kafka.replication = {}: the cluster has fewer brokers", self.limits.replication());
                    return Err(OpenError::Refused { topic, why });
                }
                Err((topic, code)) => return Err(OpenError::Refused { topic, why: code.to_string() }),
            }
        }
        Ok(again)
    }

    /// All topics, once brokers know those that were made.
    async fn appeared(self: &Arc<Self>) -> Result<TopicDescriptions, OpenError> {
        for _ in 0..RECHECKS {
            let found = self.described().await?;
            if found.iter().all(Option::is_some) {
                return Ok(found);
            }
            tokio::time::sleep(RECHECK_PAUSE).await;
        }
        Err(OpenError::Refused { topic: self.names.join(", "), why: "created, but no broker knows all of them".to_owned() })
    }

    fn check_partitions(&self, topic: Topic, found: &Described, pool: &Pool) -> Result<(), OpenError> {
        let name = self.limits.topic_name(topic);
        let unfit = |why: String| OpenError::Unfit { topic: name.clone(), why };
        let (wanted, count) = (usize::from(self.limits.partitions(topic)), found.partitions.len());
        if count < wanted {
            return Err(unfit(format!("{count} partitions instead of {wanted}: log.kafka.partitions says otherwise")));
        }
        if count > wanted {
            self.check_surplus(topic, count, pool).map_err(unfit)?;
            tracing::error!("{}", surplus(&name, count, wanted));
        }
        Ok(())
    }

    /// Checks the settings of a topic, if this user may read them.
    fn check_readable(&self, topic: Topic, settings: Option<&ConfigResource>) -> Result<(), OpenError> {
        let name = self.limits.topic_name(topic);
        let Some(settings) = settings else {
            tracing::warn!(topic = name, "the topic's settings cannot be read: not checked");
            return Ok(());
        };
        self.check_settings(settings).map_err(|why| OpenError::Unfit { topic: name, why })
    }

    /// Partitions beyond those that are used do no harm as long as they are empty: then they are new, and were not made
    /// by instances that use more.
    fn check_surplus(&self, topic: Topic, count: usize, pool: &Pool) -> Result<(), String> {
        let wanted = usize::from(self.limits.partitions(topic));
        for partition in wanted..count {
            let held = pool.bounds(topic, u16::try_from(partition).unwrap_or(u16::MAX));
            if held.map_err(|problem| format!("partition {partition}: {problem}"))?.end > 0 {
                return Err(format!("partition {partition} has been written to: log.kafka.partitions = {wanted} leaves it out"));
            }
        }
        Ok(())
    }

    /// The settings of all topics; `None` of one whose settings cannot be read. A broker that does not know a fresh topic yet answers
    /// without any.
    async fn settings(&self) -> Result<Vec<Option<ConfigResource>>, OpenError> {
        let mut why = "no answer".to_owned();
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            match self.settings_once().await {
                Ok(settings) if settings.iter().flatten().all(|settings| !settings.entries.is_empty()) => return Ok(settings),
                Ok(_) => "a broker does not know them yet".clone_into(&mut why),
                Err(problem) => why = problem,
            }
            tokio::time::sleep(RECHECK_PAUSE).await;
        }
        Err(self.unreachable(format!("asking for the topics' settings: {why}")))
    }

    async fn settings_once(&self) -> Result<Vec<Option<ConfigResource>>, String> {
        let topics: Vec<_> = self.names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let ask = |broker| {
            let options = AdminOptions::new().request_timeout(Some(BROKER_TIMEOUT)).broker_id(Some(broker));
            self.client.describe_configs(&topics, &options)
        };
        let asked: Vec<_> = self.known()?.into_iter().map(ask).map(Box::pin).collect();
        if asked.is_empty() {
            return Err("no broker is known".to_owned());
        }
        let (answers, _) = select_ok(asked).await.map_err(|problem: KafkaError| problem.to_string())?;
        if answers.iter().any(|answer| matches!(answer, Err(RDKafkaErrorCode::UnknownTopicOrPartition))) {
            return Err("a broker does not know them yet".to_owned());
        }
        let mut settings: Vec<Option<ConfigResource>> = self.names.iter().map(|_| None).collect();
        for answer in answers.into_iter().flatten() {
            let OwnedResourceSpecifier::Topic(topic) = &answer.specifier else { continue };
            if let Some(place) = self.names.iter().position(|name| name == topic).and_then(|at| settings.get_mut(at)) {
                *place = Some(answer);
            }
        }
        Ok(settings)
    }

    fn check_settings(&self, settings: &ConfigResource) -> Result<(), String> {
        let wanted = i64::try_from(self.limits.message_bytes()).unwrap_or(i64::MAX);
        if number(settings, "max.message.bytes") < wanted {
            return Err(format!(
                "max.message.bytes = {}: log.kafka.max_record_bytes needs {wanted} or more",
                value(settings, "max.message.bytes")
            ));
        }
        if value(settings, "cleanup.policy") != "delete" {
            return Err(format!("cleanup.policy = {}: must be `delete`, compaction loses records", value(settings, "cleanup.policy")));
        }
        Ok(())
    }
}

/// Each topic as the first broker says that knows it.
fn known_to_any(answers: &[(i32, TopicDescriptions)]) -> TopicDescriptions {
    let known = |at: usize| answers.iter().find_map(|(_, said)| said.get(at).cloned().flatten());
    (0..Topic::ALL.len()).map(known).collect()
}

fn value<'s>(settings: &'s ConfigResource, key: &str) -> &'s str {
    settings.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or_default()
}

fn number(settings: &ConfigResource, key: &str) -> i64 {
    value(settings, key).parse().unwrap_or(0)
}

/// The message about a topic that has grown.
pub(super) fn surplus(name: &str, partitions: usize, used: usize) -> String {
    format!(
        "topic {name} has {partitions} partitions, of which {used} are used as log.kafka.partitions says. To use all: stop what sends, wait \
         until /v1/ledger shows nothing waiting, stop every instance, give raw and enriched topics the same number, set \
         log.kafka.partitions to it, start"
    )
}

/// What a topic is created with.
fn settings(limits: &KafkaLimits, topic: Topic) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", limits.message_bytes().to_string()),
        ("min.insync.replicas", limits.replication().saturating_sub(1).max(1).to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        // Kept as they come: records are compressed already.
        ("compression.type", "producer".to_owned()),
        ("retention.ms", limits.retention(topic).as_millis().to_string()),
    ]
}
