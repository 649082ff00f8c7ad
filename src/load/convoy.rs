//! Inserts that go together: parts cost more than rows.
//!
//! While an insert into a server is on its way, the blocks of other partitions gather, and go with the next one as one part. As
//! all are due at the same moments ([`super::timetable`]), whoever is first waits for a moment. The more partitions an instance
//! has the more this saves.
//! Promises: a block travels at most once for each call, whole and in one part. All that travel together succeed or fail together,
//! and a failure is a doubt that each partition settles for itself, by its own fence. May go wrong: whoever sends for the others
//! is dropped on the way; they are told that it is not known how it ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::home::PartitionKey;
use super::row::{Part, Rows};
use super::table::TableError;

/// How long whoever is first waits for company: what it takes to make blocks that are due together.
const COMPANY: Duration = Duration::from_millis(5);

/// A block that wants to go.
pub(super) struct Passenger {
    /// Whose it is, and the generation that its rows carry.
    pub(super) place: PartitionKey,
    pub(super) generation: u64,
    pub(super) rows: Arc<Rows>,
}

impl Part for Passenger {
    fn rows(&self) -> &Rows {
        &self.rows
    }

    fn place(&self) -> PartitionKey {
        self.place
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

type Told = oneshot::Sender<Result<(), TableError>>;

/// The way to one server.
#[derive(Default)]
pub(super) struct Lane {
    waiting: Mutex<Vec<(Passenger, Told)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Lane {
    /// Inserts a block, with whoever waits as well. `send` inserts what it is given as one part.
    pub(super) async fn insert<F: Future<Output = Result<(), TableError>>>(
        &self,
        passenger: Passenger,
        send: impl Fn(Vec<Passenger>) -> F,
    ) -> Result<(), TableError> {
        let (told, mut answer) = oneshot::channel();
        self.waiting().push((passenger, told));
        loop {
            tokio::select! {
                biased;
                told = &mut answer => {
                    return told.unwrap_or_else(|_| Err(TableError::Later("the insert that this block went with was given up".to_owned())));
                }
                _turn = self.turn.lock() => {
                    tokio::time::sleep(COMPANY).await;
                    let (passengers, told): (Vec<_>, Vec<_>) = self.board().into_iter().unzip();
                    if passengers.is_empty() {
                        // Went with the last one, whose answer is there by now.
                        continue;
                    }
                    let ended = send(passengers).await;
                    for told in told {
                        // Whoever does not listen any more has given the partition up.
                        let _ = told.send(ended.clone());
                    }
                }
            }
        }
    }

    /// Those who go next. Whoever does not listen any more stays behind.
    fn board(&self) -> Vec<(Passenger, Told)> {
        let mut waiting = self.waiting();
        waiting.retain(|(_, told)| !told.is_closed());
        std::mem::take(&mut *waiting)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Passenger, Told)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::event::ids::LogEpoch;
    use crate::lifecycle::spawn_apart;

    /// What was sent: the partitions of each insert.
    type Sent = Arc<Mutex<Vec<Vec<u16>>>>;

    fn passenger(partition: u16) -> Passenger {
        Passenger { place: PartitionKey { epoch: LogEpoch(1), partition }, generation: 1, rows: Arc::new(Rows::new()) }
    }

    /// An insert that takes a second, and is refused if partition 13 is on board.
    fn start(lane: &Arc<Lane>, sent: &Sent, passenger: Passenger) -> tokio::task::JoinHandle<Result<(), TableError>> {
        let (lane, sent) = (Arc::clone(lane), Arc::clone(sent));
        spawn_apart(async move {
            let send = |passengers: Vec<Passenger>| {
                let partitions: Vec<u16> = passengers.iter().map(|passenger| passenger.place.partition).collect();
                sent.lock().unwrap().push(partitions.clone());
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if partitions.contains(&13) { Err(TableError::Fenced) } else { Ok(()) }
                }
            };
            lane.insert(passenger, send).await
        })
    }

    async fn step() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_together_and_hears_the_same() {
        let (lane, sent) = (Arc::default(), Sent::default());
        let mut handles = Vec::new();
        for partition in [1, 2, 13, 4] {
            handles.push(start(&lane, &sent, passenger(partition)));
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
        let (lane, sent) = (Arc::default(), Sent::default());
        let first = start(&lane, &sent, passenger(0));
        step().await;
        let leader = start(&lane, &sent, passenger(1));
        step().await;
        let with = start(&lane, &sent, passenger(2));
        first.await.unwrap().unwrap();
        step().await;
        let after = start(&lane, &sent, passenger(3));
        step().await;
        leader.abort();
        assert!(matches!(with.await.unwrap(), Err(TableError::Later(_))));
        after.await.unwrap().unwrap();
        assert_eq!(*sent.lock().unwrap(), [vec![0], vec![1, 2], vec![3]]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_dropped_while_waiting_stays_behind() {
        let (lane, sent) = (Arc::default(), Sent::default());
        let first = start(&lane, &sent, passenger(0));
        step().await;
        let dropped = start(&lane, &sent, passenger(1));
        let last = start(&lane, &sent, passenger(2));
        step().await;
        dropped.abort();
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(*sent.lock().unwrap(), [vec![0], vec![2]]);
    }
}
