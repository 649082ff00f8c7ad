//! Appending: an idempotent producer, a bounded queue, and acknowledgements in order.
//!
//! Each partition keeps the [`Ack`]s that wait, oldest first. A delivery resolves the oldest; a failure resolves all of
//! them, because a record behind one that failed must not be taken for stored: librdkafka alone would go on with the
//! next. What has failed here may still reach Kafka; that is allowed, and sent again it is a copy.
//!
//! May go wrong: Kafka does not answer (records fail after `delivery_timeout`, and the queue refuses when full), or the
//! producer meets an error after which it can no longer promise order. It is replaced then. A topic may be made to take less than
//! it did at the start: Kafka refuses several records together then, and the producer is replaced by one that sends each alone, so
//! that only those fail that are too large.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::OpenError;
use super::client;
use super::config::KafkaLimits;
use crate::log::{Ack, LogError, Topic};
use crate::outage::{Outage, Over};

/// How long the thread that resolves acknowledgements waits at a time; it notices an end this late.
const POLL: Duration = Duration::from_millis(100);
/// A dead producer is not replaced more often.
const REPLACE_PAUSE: Duration = Duration::from_millis(200);

type Sender = oneshot::Sender<Result<i64, LogError>>;

/// Appends to all topics.
pub(super) struct Producer {
    shared: Arc<Shared>,
    thread: Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>,
}

struct Shared {
    limits: KafkaLimits,
    names: [String; Topic::ALL.len()],
    queues: [Vec<Arc<PartitionQueue>>; Topic::ALL.len()],
    current: RwLock<Option<Arc<BaseProducer<Deliveries>>>>,
    queued: Arc<AtomicUsize>,
    /// Whether no broker answered when one last was asked.
    is_unreachable: Arc<AtomicBool>,
    /// Whether each record is sent alone.
    sends_singly: Arc<AtomicBool>,
}

/// One partition.
#[derive(Default)]
struct PartitionQueue {
    waiting: Mutex<Unacknowledged>,
}

#[derive(Default)]
struct Unacknowledged {
    next: u64,
    acks: VecDeque<(u64, Sender)>,
    outage: Outage,
    /// When the last record failed, if none was stored since.
    failed_at: Option<Instant>,
    /// Whether brokers answered that it cannot be written.
    is_unwritable: bool,
}

impl PartitionQueue {
    fn lock(&self) -> MutexGuard<'_, Unacknowledged> {
        // Every change leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record with `number` is stored at `offset`. Returns the outage that is over with it.
    fn stored(&self, number: u64, offset: i64) -> Option<Over> {
        let mut waiting = self.lock();
        // The oldest, as a rule; not there if something before it failed.
        if let Ok(at) = waiting.acks.binary_search_by_key(&number, |(number, _)| *number)
            && let Some((_, ack)) = waiting.acks.remove(at)
        {
            // The receiver may have been dropped.
            let _ = ack.send(Ok(offset));
        }
        (waiting.failed_at, waiting.is_unwritable) = (None, false);
        waiting.outage.ends()
    }

    /// Notes that it was not written; whether that is to be logged.
    fn note_refused(&self) -> bool {
        let mut waiting = self.lock();
        waiting.failed_at = Some(Instant::now());
        waiting.outage.begins()
    }

    /// Takes what brokers, asked at `asked_at`, answered of whether it can be written.
    fn set_reachable(&self, asked_at: Instant, is_writable: bool) {
        let mut waiting = self.lock();
        waiting.is_unwritable = !is_writable;
        if is_writable && waiting.failed_at.is_some_and(|failed_at| failed_at < asked_at) {
            waiting.failed_at = None;
        }
    }

    fn is_writable(&self) -> bool {
        let waiting = self.lock();
        !waiting.is_unwritable && waiting.failed_at.is_none()
    }

    /// The record with `number` failed, and with it all that wait behind it, about which that says nothing.
    fn failed(&self, number: u64, why: &LogError) {
        let mut waiting = self.lock();
        if waiting.acks.front().is_none_or(|(oldest, _)| *oldest > number) {
            return;
        }
        for (at, ack) in waiting.acks.drain(..) {
            let behind = || LogError::Unavailable("a record before it was not delivered".to_owned());
            let _ = ack.send(Err(if at == number { why.clone() } else { behind() }));
        }
    }
}

/// What travels with a record through librdkafka.
pub(super) struct InFlight {
    queue: Arc<PartitionQueue>,
    number: u64,
    size: usize,
}

/// Resolves records as librdkafka delivers them.
pub(super) struct Deliveries {
    queued: Arc<AtomicUsize>,
    is_unreachable: Arc<AtomicBool>,
    is_dead: AtomicBool,
    sends_singly: Arc<AtomicBool>,
    /// Whether this very producer does.
    is_single: bool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::error!(reason, "kafka producer cannot go on");
                self.is_dead.store(true, Ordering::Release);
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => self.is_unreachable.store(true, Ordering::Release),
            _ => tracing::debug!(%error, reason, "kafka producer"),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        self.queued.fetch_sub(in_flight.size, Ordering::AcqRel);
        match result {
            Ok(message) => {
                self.is_unreachable.store(false, Ordering::Release);
                if let Some(Over { failures, lasted }) = in_flight.queue.stored(in_flight.number, message.offset()) {
                    let (topic, partition) = (message.topic(), message.partition());
                    tracing::info!(topic, partition, failures, ?lasted, "records are delivered again");
                }
            }
            Err((problem, message)) if problem.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                let (topic, size) = (message.topic(), in_flight.size);
                tracing::error!(topic, size, "kafka takes less than log.kafka.max_record_bytes: raise the topic's max.message.bytes");
                if self.is_single {
                    return in_flight.queue.failed(in_flight.number, &LogError::TooLarge { size, limit: size.saturating_sub(1) });
                }
                // It may have been too large only together with others.
                if !self.sends_singly.swap(true, Ordering::AcqRel) {
                    self.is_dead.store(true, Ordering::Release);
                }
                in_flight.queue.failed(in_flight.number, &client::unavailable("record not delivered", problem));
            }
            Err((problem, message)) => {
                let code = problem.rdkafka_error_code();
                if in_flight.queue.note_refused() {
                    let (topic, partition) = (message.topic(), message.partition());
                    tracing::warn!(topic, partition, %problem, "records are not delivered");
                }
                if code == Some(RDKafkaErrorCode::Fatal) {
                    self.is_dead.store(true, Ordering::Release);
                }
                in_flight.queue.failed(in_flight.number, &client::unavailable("record not delivered", problem));
            }
        }
    }
}

impl Producer {
    pub(super) fn start(limits: &KafkaLimits) -> Result<Self, OpenError> {
        let queues = Topic::ALL.map(|topic| (0..limits.partitions(topic)).map(|_| Arc::default()).collect());
        let shared = Arc::new(Shared {
            limits: limits.clone(),
            names: Topic::ALL.map(|topic| limits.topic_name(topic)),
            queues,
            current: RwLock::new(None),
            queued: Arc::default(),
            is_unreachable: Arc::default(),
            sends_singly: Arc::default(),
        });
        shared.replace().map_err(|problem| OpenError::Client(problem.to_string()))?;
        let (stop, stopped) = sync_channel(0);
        let server = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kafka-producer".to_owned());
        let thread = thread
            .spawn(move || {
                while stopped.try_recv() == Err(TryRecvError::Empty) {
                    server.serve();
                }
            })
            .map_err(|problem| OpenError::Client(problem.to_string()))?;
        Ok(Self { shared, thread: Mutex::new(Some((stop, thread))) })
    }

    /// See [`crate::log::Log::append`]. Never blocks: librdkafka copies the record into its queue.
    pub(super) fn append(&self, topic: Topic, partition: u16, payload: &Bytes) -> Result<Ack, LogError> {
        let Shared { limits, queued, names, queues, .. } = &*self.shared;
        let (size, limit) = (payload.len(), limits.max_record_bytes());
        if size > limit {
            return Err(LogError::TooLarge { size, limit });
        }
        let missing = || LogError::Unavailable(format!("topic {} has no partition {partition}", topic.as_str()));
        let queues = queues.get(topic as usize).ok_or_else(missing)?;
        let queue = queues.get(usize::from(partition)).ok_or_else(missing)?;
        let name = names.get(topic as usize).ok_or_else(missing)?;
        let producer = self.shared.current().clone().ok_or(LogError::Closed)?;
        if queued.fetch_add(size, Ordering::AcqRel) + size > limits.queued_limit(topic) {
            queued.fetch_sub(size, Ordering::AcqRel);
            return Err(LogError::Full("log.kafka.queue_bytes are waiting for kafka".to_owned()));
        }
        // Held over the send: numbers are in the order of the queue.
        let mut waiting = queue.lock();
        let in_flight = Box::new(InFlight { queue: Arc::clone(queue), number: waiting.next, size });
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(name, in_flight).partition(i32::from(partition)).payload(payload);
        if let Err((problem, _)) = producer.send(record) {
            queued.fetch_sub(size, Ordering::AcqRel);
            return Err(client::unavailable("record not taken", &problem));
        }
        let (sender, ack) = Ack::pair();
        let number = waiting.next;
        waiting.acks.push_back((number, sender));
        waiting.next += 1;
        Ok(ack)
    }

    /// Whether every raw partition can be written, as far as is known.
    pub(super) fn is_writable(&self) -> bool {
        let [raw, ..] = &self.shared.queues;
        !self.shared.is_unreachable.load(Ordering::Acquire) && raw.iter().all(|queue| queue.is_writable())
    }

    /// Brokers were asked which raw partitions can be written; `None` if none answered.
    pub(super) fn set_reachable(&self, asked_at: Instant, writable: Option<&[bool]>) {
        self.shared.is_unreachable.store(writable.is_none(), Ordering::Release);
        let [raw, ..] = &self.shared.queues;
        for (queue, is_writable) in raw.iter().zip(writable.unwrap_or_default()) {
            queue.set_reachable(asked_at, *is_writable);
        }
    }

    /// Takes no more records and waits for those under way. Blocks, for the delivery timeout at most.
    pub(super) fn close(&self) {
        let last = self.shared.current.write().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            // It returns nothing.
            let _ = thread.join();
        }
        let Some(producer) = last else { return };
        if let Err(problem) = producer.flush(self.shared.limits.delivery_timeout()) {
            tracing::warn!(%problem, "records were not acknowledged in time");
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Without `close` nothing waits for records under way: the producer fails them as it is dropped.
        if let Some((stop, _)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(stop);
        }
    }
}

impl Shared {
    fn current(&self) -> std::sync::RwLockReadGuard<'_, Option<Arc<BaseProducer<Deliveries>>>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves acknowledgements for a moment; replaces a producer that is dead.
    fn serve(&self) {
        let Some(producer) = self.current().clone() else { return };
        let started = Instant::now();
        producer.poll(POLL);
        if producer.context().is_dead.load(Ordering::Acquire) {
            std::thread::sleep(REPLACE_PAUSE.saturating_sub(started.elapsed()));
            match self.replace() {
                Ok(()) => tracing::warn!("kafka producer replaced: what waited has failed and is to be sent again"),
                Err(problem) => tracing::error!(%problem, "kafka producer not replaced"),
            }
        }
    }

    /// Puts a fresh producer in place; the one before it fails what waits as it is dropped.
    fn replace(&self) -> Result<(), KafkaError> {
        let is_single = self.sends_singly.load(Ordering::Acquire);
        let deliveries = Deliveries {
            queued: Arc::clone(&self.queued),
            is_unreachable: Arc::clone(&self.is_unreachable),
            is_dead: AtomicBool::new(false),
            sends_singly: Arc::clone(&self.sends_singly),
            is_single,
        };
        let mut config = self.limits.producer();
        if is_single {
            config.set("batch.num.messages", "1");
        }
        let fresh = BaseProducer::from_config_and_context(&config, deliveries)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(Arc::new(fresh));
        drop(current);
        drop(before);
        Ok(())
    }
}
