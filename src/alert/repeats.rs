//! What channels are told again and again: that alerts are judged, and what goes on, to receivers that forget.
//!
//! It is written nowhere: the next one follows soon. Promises: of each thing one is on its way to a channel at a time, and what is newer
//! takes the place of what waits; what waits is dropped once something else is told of the rule ([`Repeats::forget`]).
//! A channel that did not take one is told none for [`REST`], but for heartbeats: those that hang keep no others from being told in time.
//! Bounds, beside those of the outbox: [`MOST_RUNNING`] at a time, [`MOST_PER_PROJECT`] of them of one project and [`MOST_PER_CHANNEL`] to one
//! channel. The project of which the fewest run is the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::Catalogue;
use super::channel::{Channel, Delivery, NamedChannel};
use super::notice::Kind;

const MOST_RUNNING: usize = 32;
const MOST_PER_PROJECT: usize = 8;
const MOST_PER_CHANNEL: usize = 4;
const REST: Duration = Duration::from_secs(30);

/// What is told to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repeat {
    /// As [`NamedChannel::key`] says.
    channel: (u64, String),
    kind: &'static str,
    project: u64,
    rule: String,
}

impl Repeat {
    pub(crate) fn of(to: &NamedChannel, delivery: &Delivery) -> Self {
        let notice = &delivery.notice;
        Self { channel: to.key(), kind: notice.kind.as_str(), project: notice.project, rule: notice.rule.clone() }
    }

    /// The project of its channel, 0 for one of all, and its id.
    pub(crate) fn channel(&self) -> (u64, &str) {
        (self.channel.0, &self.channel.1)
    }

    fn is_heartbeat(&self) -> bool {
        self.kind == Kind::Heartbeat.as_str()
    }

    /// Whose it is: a heartbeat is that of its channel.
    fn owner(&self) -> u64 {
        if self.project == 0 { self.channel.0 } else { self.project }
    }
}

/// What is to be told.
pub(crate) struct Wanted {
    pub(crate) repeat: Repeat,
    pub(crate) delivery: Delivery,
}

/// What is to be begun.
pub(crate) struct BegunRepeat {
    pub(crate) repeat: Repeat,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) delivery: Delivery,
}

/// All that waits and runs.
#[derive(Default)]
pub(crate) struct Repeats {
    /// With its place among those that wait.
    waiting: BTreeMap<Repeat, (u64, Delivery)>,
    /// With the identity of the channel that is told.
    running: BTreeMap<Repeat, u64>,
    /// Until when channels are told none.
    resting: HashMap<(u64, String), Instant>,
    next: u64,
}

impl Repeats {
    /// Lets it wait, in the place of an earlier one of the same.
    pub(crate) fn want(&mut self, Wanted { repeat, delivery }: Wanted) {
        self.next += 1;
        let place = self.waiting.get(&repeat).map_or(self.next, |(place, _)| *place);
        self.waiting.insert(repeat, (place, delivery));
    }

    /// Drops what waits to be told of a rule.
    pub(crate) fn forget(&mut self, project: u64, rule: &str) {
        self.waiting.retain(|repeat, _| repeat.project != project || repeat.rule != rule);
    }

    /// Drops the heartbeats that wait.
    pub(crate) fn forget_heartbeats(&mut self) {
        self.waiting.retain(|repeat, _| !repeat.is_heartbeat());
    }

    /// What is to be begun now. To a channel that is not there, or may not be told, nothing is: it is told the next one.
    pub(crate) fn begin(&mut self, catalogue: &Catalogue, may_be_told: impl Fn(&NamedChannel) -> bool, now: Instant) -> Vec<BegunRepeat> {
        self.resting.retain(|_, until| *until > now);
        // Looked at once each, for there may be many to channels that are away.
        let told: HashMap<(u64, String), &NamedChannel> =
            catalogue.channels.iter().filter(|channel| may_be_told(channel)).map(|channel| (channel.key(), channel)).collect();
        let resting = &self.resting;
        self.waiting
            .retain(|repeat, _| told.contains_key(&repeat.channel) && (repeat.is_heartbeat() || !resting.contains_key(&repeat.channel)));
        let mut begun = Vec::new();
        while let Some(repeat) = self.next()
            && let Some((_, delivery)) = self.waiting.remove(&repeat)
        {
            if let Some(channel) = told.get(&repeat.channel) {
                self.running.insert(repeat.clone(), channel.identity());
                begun.push(BegunRepeat { repeat, channel: Arc::clone(&channel.channel), delivery });
            }
        }
        begun
    }

    fn next(&self) -> Option<Repeat> {
        if self.running.len() >= MOST_RUNNING {
            return None;
        }
        let mut of_projects: HashMap<u64, usize> = HashMap::new();
        let mut of_channels: HashMap<&(u64, String), usize> = HashMap::new();
        for running in self.running.keys() {
            *of_projects.entry(running.owner()).or_default() += 1;
            *of_channels.entry(&running.channel).or_default() += 1;
        }
        let of_project = |repeat: &Repeat| of_projects.get(&repeat.owner()).copied().unwrap_or_default();
        let has_room = |repeat: &Repeat| {
            let of_channel = of_channels.get(&repeat.channel).copied().unwrap_or_default();
            of_project(repeat) < MOST_PER_PROJECT && of_channel < MOST_PER_CHANNEL && !self.running.contains_key(repeat)
        };
        let waiting = self.waiting.iter().filter(|(repeat, _)| has_room(repeat));
        waiting.min_by_key(|(repeat, (place, _))| (of_project(repeat), *place)).map(|(repeat, _)| repeat.clone())
    }

    /// Takes note that one has ended, and whether it was taken; the identity of the channel that was told.
    pub(crate) fn end(&mut self, repeat: &Repeat, is_taken: bool, now: Instant) -> Option<u64> {
        if !is_taken && !repeat.is_heartbeat() {
            self.resting.insert(repeat.channel.clone(), now + REST);
        }
        self.running.remove(repeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::notice::Notice;
    use crate::alert::target::Trust;
    use crate::event::ids::ProjectId;

    fn channel(project: u64, id: &str) -> NamedChannel {
        let written = serde_json::json!({"kind": "webhook", "url": "http://127.0.0.1:1/"});
        let channel = NamedChannel::open(id, written.as_object().unwrap(), &Trust::Operator).unwrap();
        NamedChannel { project: Some(ProjectId(project)), ..channel }
    }

    fn wanted(to: &NamedChannel, kind: Kind, rule: &str) -> Wanted {
        let project = if kind == Kind::Heartbeat { 0 } else { to.key().0 };
        let notice = Notice { project, rule: rule.to_owned(), ..Notice::about_pulse(kind, 0) };
        let delivery = Delivery { id: uuid::Uuid::nil(), notice, now_s: 0 };
        Wanted { repeat: Repeat::of(to, &delivery), delivery }
    }

    fn projects(begun: &[BegunRepeat]) -> Vec<u64> {
        begun.iter().map(|begun| begun.repeat.owner()).collect()
    }

    #[test]
    fn a_project_has_so_many_on_their_way_and_keeps_out_no_other() {
        let channels: Vec<NamedChannel> = (0..150).map(|number| channel(1, &number.to_string())).chain([channel(2, "b")]).collect();
        let catalogue = Catalogue { channels: channels.clone(), ..Catalogue::default() };
        let mut repeats = Repeats::default();
        for _ in 0..3 {
            channels.iter().for_each(|channel| repeats.want(wanted(channel, Kind::Heartbeat, "pulse")));
        }
        let begun = repeats.begin(&catalogue, |_| true, Instant::now());
        assert_eq!(projects(&begun), [1, 2, 1, 1, 1, 1, 1, 1, 1], "the one of which fewer run first");
        assert!(repeats.begin(&catalogue, |_| true, Instant::now()).is_empty(), "all of them hang");
        for begun in &begun {
            repeats.end(&begun.repeat, true, Instant::now());
        }
        let names = |begun: &[BegunRepeat]| begun.iter().map(|begun| begun.repeat.channel.1.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&repeats.begin(&catalogue, |_| true, Instant::now())),
            (8..16).map(|number| number.to_string()).collect::<Vec<_>>(),
            "once each"
        );
    }

    #[test]
    fn of_each_thing_one_is_on_its_way_and_the_newest_is_the_next() {
        let to = channel(1, "hook");
        let catalogue = Catalogue { channels: vec![to.clone()], ..Catalogue::default() };
        let mut repeats = Repeats::default();
        for rule in 0..20 {
            repeats.want(wanted(&to, Kind::Reminder, &rule.to_string()));
        }
        let begun = repeats.begin(&catalogue, |_| true, Instant::now());
        assert_eq!(begun.len(), MOST_PER_CHANNEL);
        let mut newer = wanted(&to, Kind::Reminder, "0");
        newer.delivery.now_s = 60;
        repeats.want(newer);
        repeats.end(&begun[1].repeat, true, Instant::now());
        assert_eq!(
            repeats.begin(&catalogue, |_| true, Instant::now())[0].delivery.notice.rule,
            "4",
            "that of the rule whose last one still runs waits"
        );
        (4..20).for_each(|rule| repeats.forget(1, &rule.to_string()));
        repeats.end(&begun[0].repeat, true, Instant::now());
        assert_eq!(repeats.begin(&catalogue, |_| true, Instant::now()).iter().map(|begun| begun.delivery.now_s).collect::<Vec<_>>(), [60]);
    }

    #[test]
    fn what_may_not_be_told_now_is_told_the_next_time() {
        let to = channel(1, "hook");
        let catalogue = Catalogue { channels: vec![to.clone()], ..Catalogue::default() };
        let mut repeats = Repeats::default();
        repeats.want(wanted(&to, Kind::Heartbeat, "pulse"));
        assert!(repeats.begin(&catalogue, |_| false, Instant::now()).is_empty());
        assert!(repeats.begin(&catalogue, |_| true, Instant::now()).is_empty());
        repeats.want(wanted(&to, Kind::Heartbeat, "pulse"));
        repeats.forget_heartbeats();
        assert!(repeats.begin(&catalogue, |_| true, Instant::now()).is_empty(), "silence says that nothing is judged");
        repeats.want(wanted(&to, Kind::Heartbeat, "pulse"));
        assert_eq!(repeats.begin(&catalogue, |_| true, Instant::now()).len(), 1);
    }

    #[test]
    fn a_channel_that_did_not_take_one_rests_and_keeps_no_other_from_being_told() {
        let channels = [channel(1, "hangs"), channel(1, "well")];
        let catalogue = Catalogue { channels: channels.to_vec(), ..Catalogue::default() };
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let to = |begun: Vec<BegunRepeat>| begun.iter().map(|begun| begun.repeat.channel.1.clone()).collect::<Vec<_>>();
        let want = |repeats: &mut Repeats| {
            channels.iter().for_each(|channel| repeats.want(wanted(channel, Kind::Reminder, "a")));
            repeats.want(wanted(&channels[0], Kind::Heartbeat, "pulse"));
        };
        want(&mut repeats);
        let begun = repeats.begin(&catalogue, |_| true, now);
        assert_eq!(begun.len(), 3);
        for begun in begun {
            let is_taken = begun.repeat.channel.1 == "well";
            repeats.end(&begun.repeat, is_taken, now);
        }
        want(&mut repeats);
        let begun = repeats.begin(&catalogue, |_| true, now);
        for begun in &begun {
            repeats.end(&begun.repeat, true, now);
        }
        assert_eq!(to(begun), ["well", "hangs"], "that pulse is alive is told all the same");
        want(&mut repeats);
        assert_eq!(repeats.begin(&catalogue, |_| true, now + REST).len(), 3);
    }
}
