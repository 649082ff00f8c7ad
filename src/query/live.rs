//! Live: what comes in, second by second, as server-sent events straight from the tail of the log.
//!
//! One follower reads the enriched topic for all who watch, and only while somebody does. Those who watch a project with the same filters
//! share a [`Channel`]: what passes it counts by second ([`second`]), shows some events of, and keeps the last messages, with which one who
//! was cut off goes on ([`stream`]). It is read before copies are told apart: a copy counts here and in no report. Promises: a slow reader
//! misses messages, is told how many, and holds up nobody; what is held is bounded by projects, filters and messages, not by readers or
//! traffic; a stop ends all streams. Costs: decoding every event while anybody watches, and its tests for each channel; a reader a pointer
//! to each message. May go wrong: the log deletes what was not read in time; then `missed` says how many records that were.

#[cfg(test)]
pub(crate) mod probe;
mod second;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::second::Second;
use self::stream::Missed;
pub(super) use self::stream::{Wanted, Watch, messages};
use super::ask::filter::of_event::EventFilters;
use super::error::QueryError;
use crate::clock;
use crate::event::ids::ProjectId;
use crate::event::packed::{EnrichedEvents, Fields};
use crate::event::record::{self, Enriched};
use crate::log::{Followed, Log, LogError, Record, Topic, TopicFollower};

/// Counters come this often.
const SECOND: Duration = Duration::from_secs(1);
/// Messages of a project that are kept for readers who are slow or were cut off.
const KEPT: usize = 1_024;
/// Most readers of an instance, and most filters that they ask for: each is a channel of its project.
const MOST_READERS: usize = 5_000;
const MOST_FILTERS: usize = 50;
/// A channel that nobody watches is forgotten after so many seconds: one who was cut off comes back within moments.
const IDLE: u32 = 60;
/// Before a log that does not answer is followed again.
const PAUSE: Duration = Duration::from_secs(1);

/// A message to the readers of a channel.
#[derive(Clone, Debug)]
struct Message {
    number: u64,
    /// The event that it shows; none for counters.
    event: Option<Shown>,
    /// As it is sent.
    text: Bytes,
}

/// An event that is shown.
#[derive(Clone, Debug)]
struct Shown {
    event_type: Arc<str>,
    is_of_bot: bool,
    /// Only to those who have asked for its type: enough is shown to the others.
    is_for_few: bool,
}

/// What is told of the projects that are watched. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live(Arc<Shared>);

struct Shared {
    projects: Mutex<HashMap<ProjectId, Channels>>,
    /// Somebody has begun to watch.
    watched: Notify,
    /// Nobody follows the log any more: a stream that began now would never end.
    is_over: AtomicBool,
}

/// The channels of a project, by the key of their filters; that of all events is 0.
type Channels = HashMap<u64, Channel>;

/// What those are sent who watch a project with the same filters.
struct Channel {
    /// Tells its messages from those of others, and of other instances.
    id: u64,
    filters: Arc<EventFilters>,
    second: Second,
    sender: broadcast::Sender<Message>,
    kept: VecDeque<Message>,
    next: u64,
    /// Seconds without a reader.
    idle: u32,
}

impl Channel {
    fn new(filters: Arc<EventFilters>) -> Self {
        let (id, sender) = (uuid::Uuid::new_v4().as_u64_pair().0, broadcast::Sender::new(KEPT));
        Self { id, filters, second: Second::default(), sender, kept: VecDeque::new(), next: 1, idle: 0 }
    }

    fn send(&mut self, kind: &str, event: Option<Shown>, data: &str) {
        let number = self.next;
        self.next += 1;
        let text = Bytes::from(format!("id: {:x}-{number}\nevent: {kind}\ndata: {data}\n\n", self.id));
        let message = Message { number, event, text };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(message.clone());
        // Without readers it is kept alone.
        let _ = self.sender.send(message);
    }
}

impl Live {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { projects: Mutex::default(), watched: Notify::new(), is_over: AtomicBool::new(false) }))
    }

    fn projects(&self) -> MutexGuard<'_, HashMap<ProjectId, Channels>> {
        self.0.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch `project` as it is `wanted`, behind the message that a reader has seen last if that is still kept. One of another
    /// instance, or of a channel that was forgotten, says only that some were missed.
    ///
    /// # Errors
    /// 503 `too_many_watch`, `stopping`.
    pub(super) fn watch(&self, project: ProjectId, wanted: &Wanted, last_id: Option<&str>) -> Result<Watch, QueryError> {
        let mut projects = self.projects();
        // Where it is not set yet, `end` waits for this lock, and forgets also the channel that is added here.
        if self.0.is_over.load(Ordering::Relaxed) {
            return Err(QueryError::unavailable("stopping", "this instance is being stopped: ask again"));
        }
        let key = wanted.filters_key;
        let readers = |channels: &Channels| channels.values().map(|channel| channel.sender.receiver_count()).sum::<usize>();
        let filters = |channels: &Channels| channels.keys().filter(|key| **key != 0).count();
        let own = projects.get(&project);
        let is_new = key != 0 && !own.is_some_and(|channels| channels.contains_key(&key));
        // One project leaves half of the places to the others.
        let is_full = |count: &dyn Fn(&Channels) -> usize, most: usize| {
            projects.values().map(count).sum::<usize>() >= most || own.map_or(0, count) >= most / 2
        };
        if is_full(&readers, MOST_READERS) || is_new && is_full(&filters, MOST_FILTERS) {
            return Err(QueryError::unavailable("too_many_watch", "too many watch this instance, or with too many different filters"));
        }
        let channels = projects.entry(project).or_default();
        let watched = channels.entry(key).or_insert_with(|| Channel::new(Arc::clone(&wanted.filters)));
        let last_id = last_id.filter(|id| !id.is_empty());
        let last = last_id.and_then(|id| {
            let (of_channel, number) = id.split_once('-')?;
            (u64::from_str_radix(of_channel, 16).ok()? == watched.id).then(|| number.parse::<u64>().ok())?
        });
        let first = watched.kept.front().map_or(watched.next, |message| message.number);
        let missed = match last {
            Some(last) => Missed::Messages(first.saturating_sub(last.saturating_add(1))),
            None if last_id.is_some() => Missed::Unknown,
            None => Missed::Messages(0),
        };
        let kept = watched.kept.iter().filter(|message| last.is_some_and(|last| message.number > last)).cloned().collect();
        let watch = Watch { is_resumed: last.is_some(), missed, kept, receiver: watched.sender.subscribe() };
        drop(projects);
        self.0.watched.notify_one();
        Ok(watch)
    }

    /// Follows `log` while somebody watches, until asked to stop; then all streams end.
    pub(super) async fn follow<L: Log>(self, log: L, stop: CancellationToken) -> Result<(), Infallible> {
        let following = async {
            loop {
                if !self.projects().is_empty() {
                    if let Err(problem) = self.follow_once(&log).await {
                        tracing::warn!(%problem, "the tail of the log cannot be followed");
                        tokio::time::sleep(PAUSE).await;
                    }
                } else {
                    self.0.watched.notified().await;
                }
            }
        };
        stop.run_until_cancelled(following).await;
        self.end();
        Ok(())
    }

    /// Ends all streams, and lets none begin.
    fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.projects().clear();
    }

    /// Until nobody watches.
    async fn follow_once<L: Log>(&self, log: &L) -> Result<(), LogError> {
        let mut follower = log.follow(Topic::Enriched).await?;
        let mut content = Enriched::default();
        let mut seconds = interval_at(Instant::now() + SECOND, SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = seconds.tick() => {
                    if !self.end_second() {
                        return Ok(());
                    }
                }
                followed = follower.next() => match followed? {
                    Followed::Records { records, .. } => records.iter().for_each(|record| self.count(record, &mut content)),
                    Followed::Overtaken { lost, .. } => self.overtaken(lost.end - lost.start),
                }
            }
        }
    }

    /// Sends the counters of the second; `false` if nobody watches any more.
    fn end_second(&self) -> bool {
        let now_ms = clock::now_ms();
        let mut projects = self.projects();
        for channel in projects.values_mut().flat_map(HashMap::values_mut) {
            channel.idle = if channel.sender.receiver_count() > 0 { 0 } else { channel.idle + 1 };
            let counters = channel.second.end(now_ms);
            channel.send("counters", None, &counters);
        }
        projects.values_mut().for_each(|channels| channels.retain(|_, channel| channel.idle < IDLE));
        projects.retain(|_, channels| !channels.is_empty());
        !projects.is_empty()
    }

    fn count(&self, record: &Record, content: &mut Enriched) {
        let Ok(header) = record::header(&record.payload) else { return };
        let mut projects = self.projects();
        // History that is imported is not live.
        if header.source != 0 || !header.tallies.0.iter().any(|tally| projects.contains_key(&tally.project)) {
            return;
        }
        for tally in &header.tallies.0 {
            let channels = projects.get_mut(&tally.project).into_iter().flat_map(HashMap::values_mut);
            channels.for_each(|channel| channel.second.ended(tally));
        }
        let Ok(header) = record::decode_enriched(&record.payload, content) else { return };
        for (event, enrichment) in EnrichedEvents::new(&content.events, &content.enrichments) {
            let of = header.projects.get(usize::from(event.header.project));
            let Some(channels) = of.and_then(|project| projects.get_mut(project)) else { continue };
            let Some(fields) = Fields::enriched(&event, enrichment) else { continue };
            for channel in channels.values_mut().filter(|channel| channel.filters.hold(&event.header, &fields)) {
                if let Some((shown, text)) = channel.second.event(&event.header, &fields) {
                    channel.send("event", Some(shown), &text);
                }
            }
        }
    }

    fn overtaken(&self, records: i64) {
        for channel in self.projects().values_mut().flat_map(HashMap::values_mut) {
            channel.send("missed", None, &format!("{{\"records\":{records}}}"));
        }
    }
}
