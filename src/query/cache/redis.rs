//! Redis as the cache that instances share.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::shared::{SharedCache, SharedValue};
use crate::redis::Redis;

impl SharedCache for Redis {
    fn find(&self, key: String) -> BoxFuture<'_, Option<SharedValue>> {
        async move { self.get_with_left(&key).await.map(|(value, left)| SharedValue { value, left }) }.boxed()
    }

    fn put(&self, key: String, value: Bytes, kept: Duration) -> BoxFuture<'_, ()> {
        async move { self.set(&key, value, kept).await }.boxed()
    }
}
