//! Group insert: the blocks of several partitions go into a server as one part, because parts cost more than rows.
//!
//! While one insert into a server is running, the blocks of other partitions queue up and go with the next one. As all are due at
//! the same moments ([`super::flush_schedule`]), the first of a group waits for [`GROUP_WINDOW`]. The more partitions an instance
//! has the more this saves.
//! Promises: a block is sent at most once for each call, whole and in one part. The blocks of a group succeed or fail together,
//! and each partition resolves the doubt that a failure leaves by its own fence. May go wrong: the task that sends for the group
//! is dropped on the way; the others get an error that leaves open how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::TableError;
use super::row::{Part, Rows};
use crate::store::books::PartitionKey;

/// How long the first block of a group waits for others: as long as it takes to build blocks that are due together.
const GROUP_WINDOW: Duration = Duration::from_millis(5);

/// A block that waits to be inserted.
pub(super) struct PendingBlock {
    /// Partition of its rows.
    pub(super) key: PartitionKey,
    /// Generation that its rows carry.
    pub(super) generation: u64,
    pub(super) rows: Arc<Rows>,
}

impl Part for PendingBlock {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn key(&self) -> PartitionKey {
        self.key
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

type Reply = oneshot::Sender<Result<(), TableError>>;

/// The inserts into one table of one server: one at a time.
pub(super) struct InsertQueue<B> {
    pending: Mutex<Vec<(B, Reply)>>,
    turn: tokio::sync::Mutex<()>,
}

impl<B> Default for InsertQueue<B> {
    fn default() -> Self {
        Self { pending: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<B> InsertQueue<B> {
    /// Inserts a block together with all that are pending. `send` inserts what it is given as one part.
    pub(super) async fn insert<F: Future<Output = Result<(), TableError>>>(
        &self,
        block: B,
        send: impl Fn(Vec<B>) -> F,
    ) -> Result<(), TableError> {
        let (reply, mut answer) = oneshot::channel();
        self.pending().push((block, reply));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.unwrap_or_else(|_| Err(TableError::Later("the insert that this block was part of was abandoned".to_owned())));
                }
                _turn = self.turn.lock() => {
                    tokio::time::sleep(GROUP_WINDOW).await;
                    let (blocks, replies): (Vec<_>, Vec<_>) = self.take_pending().into_iter().unzip();
                    if blocks.is_empty() {
                        // This block was part of the last group, whose answer is there by now.
                        continue;
                    }
                    let ended = send(blocks).await;
                    for reply in replies {
                        // The receiver is gone if its worker has given up the partition.
                        let _ = reply.send(ended.clone());
                    }
                }
            }
        }
    }

    /// The blocks of the next group. Those whose receiver is gone are dropped.
    fn take_pending(&self) -> Vec<(B, Reply)> {
        let mut pending = self.pending();
        pending.retain(|(_, reply)| !reply.is_closed());
        std::mem::take(&mut *pending)
    }

    fn pending(&self) -> MutexGuard<'_, Vec<(B, Reply)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::event::ids::LogEpoch;
    use crate::lifecycle::spawn_apart;

    /// What was sent: the partitions of each insert.
    type Sent = Arc<Mutex<Vec<Vec<u16>>>>;

    fn block(partition: u16) -> PendingBlock {
        PendingBlock { key: PartitionKey { epoch: LogEpoch(1), partition }, generation: 1, rows: Arc::new(Rows::new()) }
    }

    /// An insert that takes a second, and is refused if partition 13 is in the group.
    fn start(queue: &Arc<InsertQueue<PendingBlock>>, sent: &Sent, block: PendingBlock) -> tokio::task::JoinHandle<Result<(), TableError>> {
        let (queue, sent) = (Arc::clone(queue), Arc::clone(sent));
        spawn_apart(async move {
            let send = |blocks: Vec<PendingBlock>| {
                let partitions: Vec<u16> = blocks.iter().map(|block| block.key.partition).collect();
                sent.lock().unwrap().push(partitions.clone());
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if partitions.contains(&13) { Err(TableError::Fenced) } else { Ok(()) }
                }
            };
            queue.insert(block, send).await
        })
    }

    async fn step() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn pending_blocks_go_together_and_end_alike() {
        let (queue, sent) = (Arc::default(), Sent::default());
        let mut handles = Vec::new();
        for partition in [1, 2, 13, 4] {
            handles.push(start(&queue, &sent, block(partition)));
            step().await;
        }
        let mut ended = Vec::new();
        for handle in handles {
            ended.push(handle.await.unwrap().is_ok());
        }
        assert_eq!(ended, [true, false, false, false]);
        assert_eq!(*sent.lock().unwrap(), [vec![1], vec![2, 13, 4]]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_sender_is_dropped_the_others_are_in_doubt_and_the_rest_goes_on() {
        let (queue, sent) = (Arc::default(), Sent::default());
        let first = start(&queue, &sent, block(0));
        step().await;
        let leader = start(&queue, &sent, block(1));
        step().await;
        let with = start(&queue, &sent, block(2));
        first.await.unwrap().unwrap();
        step().await;
        let after = start(&queue, &sent, block(3));
        step().await;
        leader.abort();
        assert!(matches!(with.await.unwrap(), Err(TableError::Later(_))));
        after.await.unwrap().unwrap();
        assert_eq!(*sent.lock().unwrap(), [vec![0], vec![1, 2], vec![3]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_that_was_dropped_while_pending_is_not_sent() {
        let (queue, sent) = (Arc::default(), Sent::default());
        let first = start(&queue, &sent, block(0));
        step().await;
        let dropped = start(&queue, &sent, block(1));
        let last = start(&queue, &sent, block(2));
        step().await;
        dropped.abort();
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(*sent.lock().unwrap(), [vec![0], vec![2]]);
    }
}
