//! Answers that instances share through Redis.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::query::SecondLevel;
use crate::redis::Redis;

/// The second level of the query cache.
pub(super) struct RedisAnswers(pub(super) Redis);

impl SecondLevel for RedisAnswers {
    fn find(&self, key: String) -> BoxFuture<'_, Option<Bytes>> {
        async move { self.0.get(&key).await }.boxed()
    }

    fn put(&self, key: String, value: Bytes, kept: Duration) -> BoxFuture<'_, ()> {
        async move { self.0.set(&key, value, kept).await }.boxed()
    }
}
