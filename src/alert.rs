//! The alert role: rules that watch numbers, and the channels that are told.
//!
//! A rule is any question with a condition. Time is cut into slots, which are the buckets of the rule's interval in its zone; a slot is
//! judged once it is over **and every event received until then is in the table**: alerts wait for the data, not for the clock. So a
//! loader that is behind makes a rule `delayed`, never wrong, and after an outage slots are judged in order.
//!
//! The path of a verdict: the owner ([`owner`]; one instance at a time, by a row of the store, [`lease`]) asks ([`ask`]) through the cache of
//! all questions by permits of its own, [`judge`] makes states and notices of the numbers, and all of it is one insert behind a fence; then the
//! [`outbox`] delivers to the [`channel`]s. Promises: no slot is judged twice, no notice that was written is lost (those that wait beyond a
//! thousand of a project are read again once there is room), and each has one id over all attempts. What receivers are told again and again, heartbeats and
//! reminders of what fires, is no notice in that sense: the next one follows.
//! Costs: a question a rule and slot, shared by all that ask the same, and a row. May go wrong: the store is away; then nothing is judged, and
//! the heartbeat of a channel stops, by which others see it.

mod anomaly;
mod ask;
mod backtest;
mod catalogue;
mod channel;
pub mod http;
mod judge;
mod lease;
mod machine;
mod notice;
mod observe;
mod outbox;
mod owner;
mod repeats;
mod rule;
mod saving;
mod target;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::catalogue::{Files, KnownFiles};
pub(crate) use self::channel::{digest as channel_digest, read_secret};
use self::lease::{Lease, RENEW};
use self::owner::{Ended, Owner};
pub use self::rule::{RuleBody, RuleError};
use self::target::{HostPattern, Reach, Trust};
use crate::clickhouse::ClickHouse;
use crate::lifecycle::panic_message;
use crate::metrics::Gauge;
use crate::outage::Outage;
use crate::query::Queries;

/// Longest pause after which a receiver that forgets is told again: half as long as what it is told lasts.
const LONGEST_REPEAT: Duration = Duration::from_millis(channel::LASTS_MS.unsigned_abs() / 2);
/// Pause before the alerts are taken again where that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// `[alerts]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsConfig {
    /// Folder of `*.toml` with rules and channels; none if it is empty.
    pub files: String,
    /// Address of pulse in links.
    pub external_url: String,
    /// Networks that channels saved over HTTP may reach beside public addresses.
    pub allow_networks: Vec<String>,
    /// The only hosts that they may reach; any if there are none.
    pub allow_hosts: Vec<String>,
    /// Questions of rules that run at a time, beside those of people.
    pub max_running: usize,
    /// How often slots are judged again for events that came late.
    #[serde(with = "humantime_serde")]
    pub revise_every: Duration,
    /// How often receivers that forget are told of what goes on.
    #[serde(with = "humantime_serde")]
    pub repeat_every: Duration,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            files: String::new(),
            external_url: String::new(),
            allow_networks: Vec::new(),
            allow_hosts: Vec::new(),
            max_running: 4,
            revise_every: Duration::from_secs(300),
            repeat_every: Duration::from_secs(60),
        }
    }
}

/// The checked form of [`AlertsConfig`].
#[derive(Clone, Debug)]
pub struct AlertLimits {
    files: String,
    external_url: String,
    trust: Trust,
    max_running: usize,
    revise_every: Duration,
    repeat_every: Duration,
    is_alone: bool,
}

impl AlertLimits {
    /// The same, where it is known whether no other instance can own the alerts, as with the embedded log: then there is no lease.
    pub fn alone(self, is_alone: bool) -> Self {
        Self { is_alone, ..self }
    }
}

impl AlertsConfig {
    /// Checks the section; files are read where they are used.
    ///
    /// # Errors
    /// The key and the value that makes no sense.
    pub fn check(&self) -> Result<AlertLimits, String> {
        let parse = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("alerts.allow_networks: `{text}` is neither an address nor a network"))
        };
        let networks: Vec<IpNet> = self.allow_networks.iter().map(parse).collect::<Result<_, _>>()?;
        let pattern = |text: &String| {
            HostPattern::parse(text).ok_or_else(|| format!("alerts.allow_hosts: `{text}` is neither a host nor `*.` and a name"))
        };
        let hosts: Vec<HostPattern> = self.allow_hosts.iter().map(pattern).collect::<Result<_, _>>()?;
        if self.max_running == 0 {
            return Err("alerts.max_running: 0 would judge nothing".to_owned());
        }
        if !(Duration::from_secs(1)..=LONGEST_REPEAT).contains(&self.repeat_every) {
            return Err(format!("alerts.repeat_every: {:?} is not from 1s to {LONGEST_REPEAT:?}", self.repeat_every));
        }
        let is_page = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        if !self.external_url.is_empty() && !url::Url::parse(&self.external_url).is_ok_and(is_page) {
            return Err(format!("alerts.external_url: `{}` is no address such as https://pulse.example", self.external_url));
        }
        Ok(AlertLimits {
            files: self.files.clone(),
            external_url: self.external_url.clone(),
            trust: Trust::Key(Reach { networks, hosts }.into()),
            max_running: self.max_running,
            revise_every: self.revise_every.max(Duration::from_secs(1)),
            repeat_every: self.repeat_every,
            is_alone: false,
        })
    }
}

/// What the role is made of.
struct Parts {
    /// By which people try rules.
    queries: Queries,
    /// By which rules are judged: with permits of their own, so that rules and people do not wait for each other.
    judging: Queries,
    store: ClickHouse,
    files: KnownFiles,
    config: AlertLimits,
    trust: Trust,
    now_ms: fn() -> i64,
    /// Whether no other instance can own them: then there is no lease.
    is_alone: bool,
}

/// The role. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Parts>);

impl Alerts {
    /// Asks through `queries`, keeps what it knows in `store`, and reads the time of `now_ms`.
    ///
    /// # Errors
    /// A file of rules and channels that cannot be read.
    pub fn new(queries: Queries, store: ClickHouse, config: AlertLimits, now_ms: fn() -> i64) -> Result<Self, String> {
        let files = KnownFiles::open(&config.files)?;
        let (trust, is_alone) = (config.trust.clone(), config.is_alone);
        let judging = queries.apart(config.max_running);
        Ok(Self(Arc::new(Parts { queries, judging, store, files, config, trust, now_ms, is_alone })))
    }

    /// Judges and tells until asked to stop, while no other instance does.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (lease, mut outage) = (Lease::new(self.0.store.clone()), Outage::default());
        while !stop.is_cancelled() {
            let taken = if self.0.is_alone { Ok(true) } else { lease.take((self.0.now_ms)()).await };
            match taken {
                // Whatever a rule brings about here is no reason for the others and for those who send events to go.
                Ok(true) => match AssertUnwindSafe(self.own(&lease, &mut outage, &stop)).catch_unwind().await {
                    Ok(()) => {}
                    Err(panic) => {
                        tracing::error!(problem = panic_message(&*panic), "judging alerts panicked and begins anew: a fault of our own")
                    }
                },
                Ok(false) => {}
                Err(problem) => tracing::debug!(%problem, "not known who owns the alerts"),
            }
            stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
        Ok(())
    }

    /// Owns the alerts as long as the lease is ours. An outage of the table is said once.
    async fn own(&self, lease: &Lease, outage: &mut Outage, stop: &CancellationToken) {
        // An instance that is to stop meanwhile leaves the lease to end by itself: the store may be away.
        let Some(taken) = stop.run_until_cancelled(Owner::take(Arc::clone(&self.0))).await else { return };
        let owner = match taken {
            Ok(owner) => owner,
            Err(problem) => {
                if outage.begins() {
                    tracing::warn!(%problem, "the alerts cannot be taken yet");
                }
                return;
            }
        };
        *outage = Outage::default();
        tracing::info!("this instance owns the alerts");
        Gauge::AlertsOwner.set(1.0);
        let owning = owner.run(stop);
        tokio::pin!(owning);
        let ended = loop {
            tokio::select! {
                ended = &mut owning => break ended,
                () = tokio::time::sleep(RENEW), if !self.0.is_alone => match lease.take((self.0.now_ms)()).await {
                    Ok(true) => {}
                    // What is on its way is dropped: the new owner tells it.
                    Ok(false) => break Ended::Lost,
                    // What is written meanwhile passes the fence or does not.
                    Err(problem) => tracing::debug!(%problem, "the lease of the alerts cannot be renewed"),
                },
            }
        };
        Gauge::AlertsOwner.set(0.0);
        match ended {
            Ended::Stopped if self.0.is_alone => {}
            Ended::Stopped => drop(lease.release().await),
            Ended::Lost => tracing::info!("this instance owns the alerts no longer"),
        }
    }
}

/// Checks the files of a folder.
///
/// # Errors
/// The file and what is wrong in it.
pub fn check_files(folder: &str) -> Result<Vec<FileRule>, String> {
    let files = Files::read(folder)?;
    // An instance goes on with such a rule, which tells nobody: it may have been there before that was known.
    for (key, known) in &files.rules {
        known.rule.check_hours().map_err(|problem| format!("{folder}: alerts.{}.{problem}", key.id))?;
    }
    let of = |known: &Arc<catalogue::KnownRule>| FileRule {
        project: known.project_name.clone(),
        id: known.key.id.clone(),
        body: known.rule.body.clone(),
        missing_channels: files.missing_channels(known),
    };
    Ok(files.rules.values().map(of).collect())
}

/// A rule that a file says.
#[derive(Clone, Debug)]
pub struct FileRule {
    /// The project.
    pub project: String,
    /// The id.
    pub id: String,
    /// The rule.
    pub body: RuleBody,
    /// Those of its channels that no file says.
    pub missing_channels: Vec<String>,
}
