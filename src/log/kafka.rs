//! The log on Apache Kafka, for more than one instance.
//!
//! | module | does |
//! |---|---|
//! | `producer` | appends: idempotent, bounded, acknowledged by all replicas |
//! | `consumer`, `assigned`, `reader` | consumer groups: membership, assigned partitions, reading one |
//! | `follow` | reads the tail of a topic without a group |
//! | `pool` | reads anywhere, for the ledger and for replays |
//! | `start_offsets` | where newly assigned partitions begin |
//! | `admin`, `identity` | makes and checks the topics |
//! | `watch` | notices that a topic was replaced, or cannot be written |
//!
//! Promises: those of [`crate::log`], as far as Kafka keeps its own: a record is durable once all replicas in sync have it,
//! which is memory of several machines and not a disk. Unlike the embedded log Kafka deletes records when their time is
//! over, read or not; what a group loses that way is logged and counted. May go wrong: Kafka does not answer (appends are
//! refused, readers wait); a topic is deleted and created again (the log ends with [`LogError::Corrupt`] within seconds,
//! because offsets of the one mean nothing in the other; the next start takes the new identity).

mod admin;
mod assigned;
mod client;
mod config;
mod consumer;
mod follow;
mod identity;
mod pool;
mod producer;
mod reader;
mod start_offsets;
mod watch;

use std::fmt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use self::config::{KafkaLimits, KafkaLogConfig};
pub use self::consumer::KafkaMember;
pub use self::follow::KafkaFollower;
pub use self::reader::KafkaReader;

use self::admin::Admin;
use self::pool::Pool;
use self::producer::Producer;
use self::watch::{TopicCheck, Watch};
use crate::event::ids::LogEpoch;
use crate::log::{Ack, ConsumerGroup, Log, LogError, ReadRequest, Record, RunningLog, Topic};

/// How often the topics are checked: for as long a topic that was created again may be taken for the one before.
const CHECK_PAUSE: Duration = Duration::from_secs(2);

/// Longest wait for members to leave their groups.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The client cannot be made.
    #[error("kafka client: {0}")]
    Client(String),
    /// No broker answers.
    #[error("log.kafka.brokers: no answer from `{brokers}`: {why}")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// What the client reports.
        why: String,
    },
    /// A topic is missing and may not be made.
    #[error("topic {0} does not exist: run `pulse migrate`")]
    Missing(String),
    /// A topic was not created.
    #[error("topic {topic} cannot be created: {why}")]
    Refused {
        /// Its name.
        topic: String,
        /// The error of the cluster.
        why: String,
    },
    /// A topic is not as it must be.
    #[error("topic {topic}: {why}")]
    Unfit {
        /// Its name.
        topic: String,
        /// What is wrong.
        why: String,
    },
}

/// The log on Kafka. Clones share it. End it with [`RunningLog::close`]; dropped without, records
/// that wait for an acknowledgement fail.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

struct Shared {
    limits: KafkaLimits,
    watch: Watch,
    tags: [String; Topic::ALL.len()],
    producer: Producer,
    pool: Pool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: CancellationToken,
    why: OnceLock<LogError>,
    /// The watcher ends when this is dropped.
    _watched: SyncSender<()>,
}

impl KafkaLog {
    /// Connects, and makes missing topics if `creates`. Errors say what the cluster lacks.
    pub async fn open(limits: KafkaLimits, creates: bool) -> Result<Self, OpenError> {
        let admin = Arc::new(Admin::new(limits.clone())?);
        let pool = Pool::new(limits.clone());
        let prepared = admin.prepare(creates, &pool).await?;
        let (watched, unwatched) = sync_channel(0);
        let shared = Arc::new(Shared {
            tags: prepared.ids.map(|id| id.tag()),
            watch: Watch::new(admin, prepared),
            producer: Producer::start(&limits)?,
            pool,
            threads: Mutex::default(),
            ended: CancellationToken::new(),
            why: OnceLock::new(),
            _watched: watched,
            limits,
        });
        // The first check is done before the log is used: whether it can be written is known by then.
        let first = Arc::clone(&shared);
        let checked = tokio::task::spawn_blocking(move || first.check()).await;
        checked.map_err(|problem| OpenError::Client(problem.to_string()))?;
        let watcher = Arc::downgrade(&shared);
        let thread = std::thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || watch(&watcher, &unwatched));
        thread.map_err(|problem| OpenError::Client(problem.to_string()))?;
        Ok(Self { shared })
    }

    fn limits(&self) -> &KafkaLimits {
        &self.shared.limits
    }

    fn topic_name(&self, topic: Topic) -> String {
        self.shared.limits.topic_name(topic)
    }

    /// The id of a topic, as committed beside its offsets.
    fn topic_tag(&self, topic: Topic) -> &str {
        self.shared.tags.get(topic as usize).map_or("", String::as_str)
    }

    fn has_ended(&self) -> bool {
        self.shared.ended.is_cancelled()
    }

    /// Why the log ended; waits until it has.
    async fn ended(&self) -> LogError {
        self.shared.ended.cancelled().await;
        self.shared.why()
    }

    /// Ends the log for good.
    fn fail(&self, why: LogError) {
        self.shared.fail(why);
    }

    /// First offset held and the one the next record gets. Blocks.
    fn bounds_blocking(&self, topic: Topic, partition: u16) -> Result<Range<i64>, LogError> {
        self.shared.pool.bounds(topic, partition)
    }

    /// Whether the topics are still the same, asked now; ends the log if not. Blocks.
    fn is_unchanged(&self) -> bool {
        self.shared.check_topics(self.shared.watch.is_same())
    }

    /// A thread that `close` waits for.
    fn join_on_close(&self, thread: JoinHandle<()>) {
        self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Pool) -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
        if self.has_ended() {
            return Err(self.shared.why());
        }
        let permit = self.shared.pool.permit().await?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            // Held until the work is done, also when its caller is gone.
            let _permit = permit;
            work(&shared.pool)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(LogError::Unavailable(format!("reading was interrupted: {error}"))))
    }
}

impl Shared {
    /// Checks the topics, and which partitions can be written.
    fn check(&self) {
        let asked_at = Instant::now();
        let found = self.watch.check();
        self.producer.set_reachable(
            asked_at,
            found.as_ref().ok().and_then(|check| match check {
                TopicCheck::Same(writable) => Some(writable.as_slice()),
                TopicCheck::Changed(_) => None,
            }),
        );
        self.check_topics(found);
    }

    /// Whether the topics are the same. Ends the log if one was replaced.
    fn check_topics(&self, found: Result<TopicCheck, OpenError>) -> bool {
        match found {
            Ok(TopicCheck::Same(_)) => return true,
            Ok(TopicCheck::Changed(changed)) => {
                self.fail(LogError::Corrupt(format!("{changed}: its offsets mean nothing any more; start pulse again")));
            }
            Err(problem) => tracing::debug!(%problem, "kafka does not answer"),
        }
        false
    }

    fn why(&self) -> LogError {
        self.why.get().cloned().unwrap_or(LogError::Closed)
    }

    fn fail(&self, why: LogError) {
        if self.why.set(why.clone()).is_ok() && !matches!(why, LogError::Closed) {
            tracing::error!(%why, "the log has ended");
        }
        self.ended.cancel();
    }
}

/// Checks the topics now and then, as long as the log lives.
fn watch(shared: &Weak<Shared>, unwatched: &Receiver<()>) {
    while unwatched.recv_timeout(CHECK_PAUSE) == Err(RecvTimeoutError::Timeout) {
        let Some(shared) = shared.upgrade() else { return };
        shared.check();
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("brokers", &self.shared.limits.brokers()).finish_non_exhaustive()
    }
}

impl Log for KafkaLog {
    type Member = KafkaMember;
    type Follower = KafkaFollower;

    fn epoch(&self) -> LogEpoch {
        let [raw, ..] = self.shared.watch.ids();
        raw.epoch()
    }

    fn partitions(&self, topic: Topic) -> u16 {
        self.shared.limits.partitions(topic)
    }

    fn max_record_bytes(&self) -> usize {
        self.shared.limits.max_record_bytes()
    }

    fn append(&self, topic: Topic, partition: u16, payload: Bytes) -> Result<Ack, LogError> {
        if self.has_ended() {
            return Err(self.shared.why());
        }
        self.shared.producer.append(topic, partition, &payload)
    }

    async fn bounds(&self, topic: Topic, partition: u16) -> Result<Range<i64>, LogError> {
        self.blocking(move |pool| pool.bounds(topic, partition)).await
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<Record>, LogError> {
        self.blocking(move |pool| pool.read(request)).await
    }

    fn reads_prefixes_alone(&self) -> bool {
        false
    }

    async fn join(&self, group: ConsumerGroup) -> Result<KafkaMember, LogError> {
        KafkaMember::join(self.clone(), group)
    }

    async fn follow(&self, topic: Topic) -> Result<KafkaFollower, LogError> {
        KafkaFollower::start(self.clone(), topic).await
    }
}

impl RunningLog for KafkaLog {
    fn is_writable(&self) -> bool {
        !self.has_ended() && self.shared.producer.is_writable()
    }

    async fn broken(&self) -> LogError {
        loop {
            match self.ended().await {
                LogError::Closed => std::future::pending().await,
                why => return why,
            }
        }
    }

    async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let closed = tokio::task::spawn_blocking(move || {
            shared.producer.close();
            shared.fail(LogError::Closed);
            let threads = std::mem::take(&mut *shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
            // They leave their groups, so that others need not wait for a session timeout. Without Kafka they cannot.
            let deadline = Instant::now() + LEAVE_TIMEOUT;
            while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        if let Err(problem) = closed.await {
            tracing::warn!(%problem, "the log was not closed");
        }
    }
}
