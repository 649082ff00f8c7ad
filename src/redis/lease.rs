//! Work that only one instance may do.
//!
//! A lease is a key that expires, with the holder's own number in it. It saves work, it guards no data: after a pause longer
//! than the lease two instances may believe for a moment that they hold it, so what they do must be harmless when done twice.

use std::time::Duration;

use fred::interfaces::{KeysInterface, LuaInterface};
use fred::types::SetOptions;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Redis, Silence, millis};

const RENEW: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end";
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// Why the work was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another instance does it.
    #[error("another instance holds the lease")]
    Held,
    /// Redis cannot say who does it.
    #[error("redis does not answer")]
    Unknown,
}

impl Redis {
    /// Does `work` if nobody else holds the lease `name`, and holds it for `kept` at a time until the work is done. The token
    /// given to the work is cancelled when the lease is lost or cannot be renewed in time; the work is then waited for.
    ///
    /// # Errors
    /// The work was not begun.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the lease expires by itself.
    pub async fn with_lease<T, F>(&self, name: &str, kept: Duration, work: impl FnOnce(CancellationToken) -> F) -> Result<T, LeaseError>
    where
        F: Future<Output = T>,
    {
        let lease = Lease { redis: self, key: self.key(&format!("lease:{name}")), holder: uuid::Uuid::new_v4().to_string(), kept };
        let mut until = lease.take().await?;
        let held = CancellationToken::new();
        let mut work = std::pin::pin!(work(held.clone()));
        while !held.is_cancelled() {
            tokio::select! {
                done = &mut work => {
                    lease.release().await;
                    return Ok(done);
                }
                renewed = lease.renewed(until) => match renewed {
                    Some(later) => until = later,
                    None => {
                        tracing::warn!(name, "lease lost");
                        held.cancel();
                    }
                }
            }
        }
        Ok(work.await)
    }
}

struct Lease<'a> {
    redis: &'a Redis,
    key: String,
    holder: String,
    kept: Duration,
}

impl Lease<'_> {
    /// Takes the lease; returns until when it is ours.
    async fn take(&self) -> Result<Instant, LeaseError> {
        // Counted from before the call: Redis counts from some moment after that.
        let began = Instant::now();
        let set = self.redis.client.set(&self.key, &self.holder, Some(millis(self.kept)), Some(SetOptions::NX), false);
        match self.redis.ask::<Option<String>>(set).await {
            Ok(Some(_)) => Ok(began + self.kept),
            Ok(None) => Err(LeaseError::Held),
            Err(Silence) => Err(LeaseError::Unknown),
        }
    }

    /// Waits and renews; until when it is ours then, or `None` once it is lost.
    async fn renewed(&self, until: Instant) -> Option<Instant> {
        loop {
            let next = Instant::now() + self.kept / 4;
            tokio::time::sleep_until(next.min(until)).await;
            let began = Instant::now();
            if began >= until {
                return None;
            }
            let kept = i64::try_from(self.kept.as_millis()).unwrap_or(i64::MAX);
            match self.call(RENEW, vec![self.holder.clone(), kept.to_string()]).await {
                Ok(1) => return Some(began + self.kept),
                Ok(_) => return None,
                // It may still be ours: others can take it no earlier than it ends.
                Err(Silence) => {}
            }
        }
    }

    async fn release(&self) {
        drop(self.call(RELEASE, vec![self.holder.clone()]).await);
    }

    async fn call(&self, script: &'static str, arguments: Vec<String>) -> Result<i64, Silence> {
        self.redis.ask(self.redis.client.eval(script, vec![self.key.clone()], arguments)).await
    }
}
