//! The consumer side: the only member of a group gets every partition at once, and keeps them until the log closes.

use std::ops::Range;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::EmbeddedLog;
use crate::log::{ConsumerGroup, GroupMember, Log, LogError, PartitionReader, ReadRequest, Record};

/// The member of a consumer group of an [`EmbeddedLog`].
#[derive(Debug)]
pub struct EmbeddedMember {
    log: EmbeddedLog,
    group: ConsumerGroup,
    next_partition: u16,
}

impl EmbeddedMember {
    /// Fails if the group has a member: two would read everything twice.
    pub(super) fn join(log: EmbeddedLog, group: ConsumerGroup) -> Result<Self, LogError> {
        if log.store().offsets.join(group) {
            return Ok(Self { log, group, next_partition: 0 });
        }
        Err(LogError::Unavailable(format!("consumer group {} has a member already", group.as_str())))
    }
}

impl Drop for EmbeddedMember {
    fn drop(&mut self) {
        self.log.store().offsets.leave(self.group);
    }
}

impl GroupMember for EmbeddedMember {
    type Reader = EmbeddedReader;

    async fn assigned(&mut self) -> Result<EmbeddedReader, LogError> {
        let Some(partition) = self.log.store().partition(self.group.topic(), self.next_partition) else {
            self.log.closed().cancelled().await;
            return Err(LogError::Closed);
        };
        let committed = self.log.store().offsets.committed(self.group, self.next_partition);
        let reader = EmbeddedReader {
            log: self.log.clone(),
            group: self.group,
            partition: self.next_partition,
            committed,
            // Retention goes by what was committed, which a crash may have taken back by a second: below the start of the log
            // all is finished.
            next_offset: committed.unwrap_or(0).max(partition.bounds().start),
            end: partition.watch_end(),
        };
        self.next_partition += 1;
        Ok(reader)
    }
}

/// Reads one partition of an [`EmbeddedLog`] for a group.
#[derive(Debug)]
pub struct EmbeddedReader {
    log: EmbeddedLog,
    group: ConsumerGroup,
    partition: u16,
    committed: Option<i64>,
    next_offset: i64,
    end: watch::Receiver<i64>,
}

impl PartitionReader for EmbeddedReader {
    fn partition(&self) -> u16 {
        self.partition
    }

    fn committed(&self) -> Option<i64> {
        self.committed
    }

    async fn bounds(&self) -> Result<Range<i64>, LogError> {
        self.log.bounds(self.group.topic(), self.partition).await
    }

    fn seek(&mut self, next_offset: i64) {
        self.next_offset = next_offset;
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let closed = self.log.closed();
        loop {
            if closed.is_cancelled() {
                return Err(LogError::Closed);
            }
            // Before the read: a record that is published in between ends the wait below at once.
            self.end.mark_unchanged();
            let request = ReadRequest::new(self.group.topic(), self.partition, self.next_offset, max_bytes);
            let records = self.log.read(request).await?;
            if let Some(last) = records.last() {
                self.next_offset = last.offset + 1;
                return Ok(records);
            }
            // The log keeps the sending side, so `changed` cannot fail here.
            tokio::select! {
                _ = self.end.changed() => {}
                () = closed.cancelled() => {}
            }
        }
    }

    async fn commit(&mut self, next_offset: i64) -> Result<(), LogError> {
        if self.log.closed().is_cancelled() {
            return Err(LogError::Closed);
        }
        // What is beyond the end cannot be finished; written down, it would look like lost records at the next start.
        let partition = self.log.partition(self.group.topic(), self.partition)?;
        if next_offset > partition.end() {
            return Err(partition.out_of_range(next_offset, partition.bounds()));
        }
        self.log.store().offsets.commit(self.group, self.partition, next_offset);
        self.committed = Some(next_offset);
        Ok(())
    }

    fn revoked(&self) -> CancellationToken {
        self.log.closed()
    }
}
