//! Who a topic is: the id Kafka gives it when it is created, and whether it is still the same.
//!
//! A topic that is deleted and created again has the same name, other records and other ids; offsets of the one mean
//! nothing in the other. rdkafka wraps no call that returns the id, so this module calls librdkafka itself, in `unsafe`
//! blocks. May go wrong: the broker is older than topic ids (Kafka 2.8); the error says so.

use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as native;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::ids::LogEpoch;

/// The id of a topic: a UUID, as Kafka gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicId(u128);

impl TopicId {
    #[cfg(test)]
    pub(super) fn of(id: u128) -> Self {
        Self(id)
    }

    /// The identity of a log whose raw topic this is.
    pub(super) fn epoch(self) -> LogEpoch {
        LogEpoch(xxh3_64(&self.0.to_be_bytes()))
    }

    /// As text, to be kept beside a committed offset.
    pub(super) fn tag(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) id: TopicId,
    pub(super) partitions: Vec<Partition>,
}

/// Leader and replicas of a partition, as one broker sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) leader: Option<i32>,
    pub(super) in_sync: Vec<i32>,
}

/// What a broker answers of some topics, in the order in which they were asked for; `None` for one that does not exist.
pub(super) type TopicDescriptions = Vec<Option<Described>>;

/// How many answers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    First,
    All,
}

/// What librdkafka gave us and wants back.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `pointer` is null or owned by the caller, and `destroy` is the function that frees it.
    unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, String> {
        NonNull::new(pointer).map(|pointer| Self { pointer, destroy }).ok_or_else(|| "out of memory".to_owned())
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` was promised that this frees it, and it is freed nowhere else.
        unsafe { (self.destroy)(self.get()) }
    }
}

/// Which topics are asked for, of which brokers.
pub(super) struct Question<'q> {
    pub(super) topics: &'q [String],
    pub(super) brokers: &'q [i32],
    pub(super) until: Until,
    /// Longest wait for all answers together.
    pub(super) timeout: Duration,
}

/// Asks each of some brokers for topics, all at once, and returns the answers by broker. Blocks. The error is the last one received,
/// if there is no answer.
pub(super) fn describe<C: ClientContext>(client: &Client<C>, question: &Question<'_>) -> Result<Vec<(i32, TopicDescriptions)>, String> {
    let Question { topics, brokers, until, timeout } = *question;
    let client = client.native_ptr();
    let names: Vec<CString> =
        topics.iter().map(|topic| CString::new(topic.as_str())).collect::<Result<_, _>>().map_err(|problem| problem.to_string())?;
    let deadline = Instant::now() + timeout;
    let (mut said, mut why) = (Vec::new(), "no answer in time".to_owned());
    // SAFETY: `client` outlives this function; each pointer is made here and freed by its `Owned`; each answer is read while its event
    // lives.
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        let sender = Sender { client, queue: &queue, names: &names, timeout };
        for broker in brokers {
            sender.ask(*broker)?;
        }
        for _ in brokers {
            let left = millis(deadline.saturating_duration_since(Instant::now()));
            let event = native::rd_kafka_queue_poll(queue.get(), left);
            let Ok(event) = Owned::new(event, native::rd_kafka_event_destroy) else { break };
            match answer(event.get(), &names) {
                Ok(found) => said.push(found),
                Err(problem) => why = problem,
            }
            if until == Until::First && !said.is_empty() {
                break;
            }
        }
    }
    if said.is_empty() { Err(why) } else { Ok(said) }
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

/// Sends the question to one broker after the other; answers come into `queue`.
struct Sender<'q> {
    client: *mut native::rd_kafka_t,
    queue: &'q Owned<native::rd_kafka_queue_t>,
    names: &'q [CString],
    timeout: Duration,
}

impl Sender<'_> {
    /// # Safety
    /// `client` lives.
    unsafe fn ask(&self, broker: i32) -> Result<(), String> {
        let mut names: Vec<_> = self.names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: as promised by the caller; names and options are copied.
        unsafe {
            let options = native::rd_kafka_AdminOptions_new(self.client, native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy)?;
            native::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis(self.timeout), ptr::null_mut(), 0);
            native::rd_kafka_AdminOptions_set_broker(options.get(), broker, ptr::null_mut(), 0);
            // Comes back with the answer: its broker.
            native::rd_kafka_AdminOptions_set_opaque(options.get(), ptr::without_provenance_mut(broker.cast_unsigned() as usize));
            let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let topics = Owned::new(topics, native::rd_kafka_TopicCollection_destroy)?;
            native::rd_kafka_DescribeTopics(self.client, topics.get(), options.get(), self.queue.get());
        }
        Ok(())
    }
}

/// The broker that answered, and its answer.
///
/// # Safety
/// `event` lives.
unsafe fn answer(event: *mut native::rd_kafka_event_t, names: &[CString]) -> Result<(i32, TopicDescriptions), String> {
    // SAFETY: as promised by the caller; what is read belongs to the event.
    unsafe {
        if native::rd_kafka_event_error(event) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(native::rd_kafka_event_error_string(event)));
        }
        let broker = i32::try_from(native::rd_kafka_event_opaque(event).addr()).map_err(|problem| problem.to_string())?;
        let mut count = 0;
        let found = native::rd_kafka_DescribeTopics_result_topics(native::rd_kafka_event_DescribeTopics_result(event), &raw mut count);
        let found = list(found, count);
        let mut said = vec![None; names.len()];
        for topic in found {
            let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(*topic));
            if let Some((_, place)) = names.iter().zip(&mut said).find(|(asked, _)| asked.as_c_str() == name) {
                *place = read(*topic)?;
            }
        }
        if found.len() == names.len() { Ok((broker, said)) } else { Err("not every topic was described".to_owned()) }
    }
}

/// # Safety
/// `first` is null or the first of `count` elements that live for as long as what is returned.
unsafe fn list<'l, T>(first: *mut T, count: usize) -> &'l [T] {
    // SAFETY: as promised by the caller.
    if first.is_null() { &[] } else { unsafe { slice::from_raw_parts(first, count) } }
}

/// Asks any broker that answers which brokers there are. Blocks for `timeout` at most.
pub(super) fn find_brokers<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Result<Vec<i32>, String> {
    let mut found = ptr::null();
    // SAFETY: `client` outlives this function; what was found is freed here, and is only there if it was found.
    unsafe {
        match native::rd_kafka_metadata(client.native_ptr(), 0, ptr::null_mut(), &raw mut found, millis(timeout)) {
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                let brokers = list((*found).brokers, usize::try_from((*found).broker_cnt).unwrap_or(0));
                let ids = brokers.iter().map(|broker| broker.id).collect();
                native::rd_kafka_metadata_destroy(found);
                Ok(ids)
            }
            error => Err(text(native::rd_kafka_err2str(error))),
        }
    }
}

/// Why a broker refused a client, if one did: a password, a certificate. Drains the events of a client that is not polled otherwise.
pub(super) fn refusal<C: ClientContext>(client: &Client<C>) -> Option<String> {
    let mut refusal = None;
    // SAFETY: `client` outlives this function; each event is read while it lives and freed by its `Owned`.
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_get_main(client.native_ptr()), native::rd_kafka_queue_destroy).ok()?;
        while let Ok(event) = Owned::new(native::rd_kafka_queue_poll(queue.get(), 0), native::rd_kafka_event_destroy) {
            let code = native::rd_kafka_event_error(event.get());
            let turned_away =
                [native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTHENTICATION, native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__SSL];
            if turned_away.contains(&code) {
                refusal = Some(text(native::rd_kafka_event_error_string(event.get())));
            }
        }
    }
    refusal
}

/// # Safety
/// `topic` is a description whose event lives.
unsafe fn read(topic: *const native::rd_kafka_TopicDescription_t) -> Result<Option<Described>, String> {
    // SAFETY: as promised by the caller; what is returned belongs to the description.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        match native::rd_kafka_error_code(error) {
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => return Ok(None),
            _ => return Err(text(native::rd_kafka_error_string(error))),
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let (most, least) = (native::rd_kafka_Uuid_most_significant_bits(id), native::rd_kafka_Uuid_least_significant_bits(id));
        let id = u128::from(most.cast_unsigned()) << 64 | u128::from(least.cast_unsigned());
        if id == 0 {
            return Err("the broker gives topics no ids: Kafka 2.8 or later is needed".to_owned());
        }
        let mut count = 0;
        let partitions = native::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let partitions = list(partitions, count).iter().map(|partition| read_partition(*partition)).collect();
        Ok(Some(Described { id: TopicId(id), partitions }))
    }
}

/// # Safety
/// `partition` is a description whose event lives.
unsafe fn read_partition(partition: *const native::rd_kafka_TopicPartitionInfo_t) -> Partition {
    // SAFETY: as promised by the caller; what is returned belongs to the description.
    unsafe {
        let leader = native::rd_kafka_TopicPartitionInfo_leader(partition);
        let leader = (!leader.is_null()).then(|| native::rd_kafka_Node_id(leader)).filter(|id| *id >= 0);
        let mut count = 0;
        let in_sync = native::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut count);
        let in_sync = list(in_sync, count).iter().map(|node| native::rd_kafka_Node_id(*node)).collect();
        Partition { leader, in_sync }
    }
}

/// # Safety
/// `message` is null or a string that ends in zero.
unsafe fn text(message: *const std::ffi::c_char) -> String {
    if message.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}
