//! One worker for each partition that a member of a consumer group is assigned.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use super::{GroupMember, LogError, PartitionReader as _};
use crate::lifecycle::{TaskError, TaskSet};

/// Runs `make_worker` of each assigned partition, under the name `worker`, until asked to stop or one of them fails; then waits for
/// the workers to finish and leaves the group. They must end when `stop` does, and when their partition is revoked. Errors: the
/// log is damaged or closed, or a worker panicked; the other workers are ended then.
pub async fn run_partitions<M: GroupMember, W>(
    worker: &'static str,
    mut member: M,
    mut make_worker: impl FnMut(M::Reader) -> W,
    stop: CancellationToken,
) -> Result<(), TaskError<LogError>>
where
    W: Future<Output = Result<(), LogError>> + Send + 'static,
{
    let mut workers = TaskSet::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            reader = member.assigned() => {
                let reader = reader?;
                let name = format!("{worker} of partition {}", reader.partition());
                workers.spawn(name, make_worker(reader));
            }
            Some(ended) = workers.ended() => ended?,
        }
    }
    while let Some(ended) = workers.ended().await {
        ended?;
    }
    Ok(())
}
