//! Redis: a place that instances share, whose loss costs speed and nothing else.
//!
//! Owns the connection and a breaker of its own. Promises: no call takes longer than [`LONGEST`]; after the first that
//! fails (refused, slow, black hole, out of memory) nothing is sent for a while, so a Redis that is away costs one call its time
//! and the others nothing. One call at a time then tries whether it is back. May go wrong: anything; nothing in it is the only
//! copy of anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface, LuaInterface};
use fred::types::config::Config;
use fred::types::{Builder, Expiration};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::secret::Address;

/// Longest time of one call: less than a cheap query takes.
const LONGEST: Duration = Duration::from_millis(40);
/// How long nothing is sent after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// Commands that may wait for the connection.
const QUEUE: usize = 1_024;

/// A debt is the time at which it will be paid, in microseconds of the server's own clock, so that all who share it agree.
const OWE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + tonumber(ARGV[1])
paid = math.max(now, math.min(paid, now + tonumber(ARGV[2])))
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000) + 1000)
return paid - now";

/// `[redis]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Address, such as `redis://:password@redis1:6379/0`. Empty: none.
    pub url: Address,
    /// What every key begins with.
    pub prefix: String,
}

impl RedisConfig {
    /// # Errors
    /// `url` is no address.
    pub fn check(&self) -> Result<(), String> {
        if self.url.is_empty() { Ok(()) } else { self.parsed().map(drop) }
    }

    fn parsed(&self) -> Result<Config, String> {
        // The address may hold a password, and so may what the parser says about it, which takes any scheme for that of Redis.
        let is_of_redis = ["redis", "valkey"].iter().any(|scheme| self.url.starts_with(scheme));
        let parsed = Config::from_url(&self.url).ok().filter(|_| is_of_redis);
        parsed.ok_or_else(|| "redis.url: not an address such as redis://host:6379/0".to_owned())
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self { url: Address::default(), prefix: "pulse:".to_owned() }
    }
}

/// A connection. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    prefix: Arc<str>,
    health: Arc<Health>,
}

/// Whether it is worth asking.
#[derive(Debug)]
struct Health {
    began: Instant,
    /// Milliseconds after `began` until which nothing is sent; 0 while all is well.
    silent_until: AtomicU64,
}

impl Health {
    fn new() -> Self {
        Self { began: Instant::now(), silent_until: AtomicU64::new(0) }
    }

    fn in_ms(&self, later: Duration) -> u64 {
        u64::try_from((self.began.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }

    /// Leave to ask: always while all is well, else to one caller a pause.
    fn allows(&self) -> bool {
        let until = self.silent_until.load(Ordering::Acquire);
        if until == 0 {
            return true;
        }
        let next = self.in_ms(PAUSE);
        self.in_ms(Duration::ZERO) >= until && self.silent_until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn succeeded(&self) {
        if self.silent_until.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!("redis answers again");
        }
    }

    fn failed(&self, problem: &str) {
        if self.silent_until.swap(self.in_ms(PAUSE), Ordering::AcqRel) == 0 {
            tracing::warn!(problem, "redis does not answer: going on without it");
        }
    }
}

impl Redis {
    /// Connects in the background, and again whenever the connection is lost; `None` if there is no address. Must be called
    /// inside a runtime.
    ///
    /// # Errors
    /// The address makes no sense.
    pub fn open(config: &RedisConfig) -> Result<Option<Self>, String> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let parsed = config.parsed()?;
        let mut builder = Builder::from_config(parsed);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = PAUSE;
            connection.internal_command_timeout = PAUSE;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = QUEUE;
            // A black hole is noticed and the connection made anew; until then each call has its own limit.
            connection.unresponsive.max_timeout = Some(PAUSE);
            connection.unresponsive.interval = PAUSE / 2;
        });
        builder.with_performance_config(|performance| performance.default_command_timeout = LONGEST);
        builder.set_policy(fred::types::config::ReconnectPolicy::new_constant(0, 500));
        let client = builder.build().map_err(|problem| format!("redis.url: {}", problem.details()))?;
        // Its tasks live as long as the client.
        drop(client.connect());
        Ok(Some(Self { client, prefix: config.prefix.as_str().into(), health: Arc::new(Health::new()) }))
    }

    /// The value of `key`; `None` if there is none or Redis does not say in time.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        self.ask(self.client.get(self.key(key))).await.ok().flatten()
    }

    /// The same, and how much longer Redis keeps it.
    pub async fn get_with_left(&self, key: &str) -> Option<(Bytes, Duration)> {
        let asked = async {
            let both = self.client.pipeline();
            let key = self.key(key);
            both.get::<(), _>(key.as_str()).await?;
            both.pttl::<(), _>(key.as_str()).await?;
            both.all::<(Option<Bytes>, i64)>().await
        };
        let (value, left_ms) = self.ask(asked).await.ok()?;
        Some((value?, Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))))
    }

    /// Keeps `value` for `kept`, if Redis takes it.
    pub async fn set(&self, key: &str, value: Bytes, kept: Duration) {
        let set = self.client.set::<(), _, _>(self.key(key), value, Some(millis(kept)), None, false);
        drop(self.ask(set).await);
    }

    /// Adds `micros` to a debt that time pays, and that is at most `longest`; returns what is owed now, if Redis says it in time.
    pub async fn owe(&self, key: &str, micros: i64, longest: Duration) -> Option<Duration> {
        let arguments = vec![micros.to_string(), longest.as_micros().to_string()];
        let owed: Result<u64, _> = self.ask(self.client.eval(OWE, vec![self.key(key)], arguments)).await;
        owed.ok().map(Duration::from_micros)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, fred::error::Error>>) -> Result<T, Silence> {
        if !self.health.allows() {
            return Err(Silence);
        }
        match tokio::time::timeout(LONGEST, call).await {
            Ok(Ok(answer)) => {
                self.health.succeeded();
                return Ok(answer);
            }
            Ok(Err(problem)) => self.health.failed(problem.details()),
            Err(_) => self.health.failed("no answer in time"),
        }
        Err(Silence)
    }
}

/// Redis did not answer, or was not asked.
#[derive(Debug)]
struct Silence;

fn millis(time: Duration) -> Expiration {
    Expiration::PX(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_caller_a_pause_tries_and_a_success_lets_all_go_on() {
        let health = Health::new();
        assert!(health.allows());
        health.failed("refused");
        assert!(!health.allows());
        tokio::time::advance(PAUSE).await;
        assert!(health.allows());
        assert!(!health.allows(), "one at a time");
        tokio::time::advance(PAUSE).await;
        assert!(health.allows(), "the one before left without a word");
        health.succeeded();
        assert!(health.allows() && health.allows());
    }
}
