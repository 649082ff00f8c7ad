//! Who a topic is: the id Kafka gives it when it is created, and whether it is still the same.
//!
//! A topic that is deleted and created again has the same name, other records and other ids; offsets of the one mean
//! nothing in the other. rdkafka wraps no call that tells the id, so this module asks librdkafka itself; it is the only
//! one with `unsafe` in it. May go wrong: the broker is older than topic ids (Kafka 2.8), which is said.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as native;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::ids::LogEpoch;

/// The id of a topic: a UUID, as Kafka gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicId(u128);

impl TopicId {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) id: TopicId,
    pub(super) partitions: usize,
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
        // SAFETY: `new` was promised that this frees it, and nobody else does.
        unsafe { (self.destroy)(self.get()) }
    }
}

/// Asks the cluster for a topic; `None` if there is none. Blocks for `timeout` at most.
pub(super) fn describe<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Option<Described>, String> {
    let client = client.native_ptr();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let name = CString::new(topic).map_err(|problem| problem.to_string())?;
    let mut names = [name.as_ptr()];
    // SAFETY: `client` outlives this function; each pointer is made here and freed by its `Owned`, in reverse order; the
    // answer is read while its event lives.
    unsafe {
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        let options = native::rd_kafka_AdminOptions_new(client, native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy)?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.get(), timeout_ms, ptr::null_mut(), 0);
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, native::rd_kafka_TopicCollection_destroy)?;
        native::rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
        // The request times out by itself, a moment later than asked.
        let event = native::rd_kafka_queue_poll(queue.get(), timeout_ms.saturating_add(1_000));
        let event = Owned::new(event, native::rd_kafka_event_destroy).map_err(|_| "no answer in time".to_owned())?;
        if native::rd_kafka_event_error(event.get()) != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(native::rd_kafka_event_error_string(event.get())));
        }
        let mut count = 0;
        let found =
            native::rd_kafka_DescribeTopics_result_topics(native::rd_kafka_event_DescribeTopics_result(event.get()), &raw mut count);
        let found = if found.is_null() { &[] } else { slice::from_raw_parts(found, count) };
        found.first().map_or_else(|| Err("no answer".to_owned()), |topic| read(*topic))
    }
}

/// Asks any broker that answers which brokers there are. Blocks for `timeout` at most.
pub(super) fn find_brokers<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Result<(), String> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut found = ptr::null();
    // SAFETY: `client` outlives this function; what was found is freed here, and is only there if it was found.
    unsafe {
        match native::rd_kafka_metadata(client.native_ptr(), 0, ptr::null_mut(), &raw mut found, timeout_ms) {
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => native::rd_kafka_metadata_destroy(found),
            error => return Err(text(native::rd_kafka_err2str(error))),
        }
    }
    Ok(())
}

/// Why a broker turned a client away, if one did: a password, a certificate. Takes what a client that only asks was told meanwhile.
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
        let mut partitions = 0;
        native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok(Some(Described { id: TopicId(id), partitions }))
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
