use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::log::LogError;
use crate::query::pending::Backlog;
use crate::query::reader::{Answer, QueryLimits, Run};

const NOW_MS: i64 = 1_767_355_200_000;
const EPOCH: LogEpoch = LogEpoch(9);

fn reader(store: impl Run) -> Reader {
    Reader::new(store, QueryLimits::default())
}

/// A log and a table: a record is acknowledged as it is appended, and visible once the table's watermark has passed it.
#[derive(Default)]
struct World {
    partitions: Vec<Vec<Record>>,
    stored: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Record {
    received_ms: i64,
    acknowledged_ms: i64,
}

#[derive(Clone, Default)]
struct Shared {
    world: Arc<Mutex<World>>,
    asked: Arc<AtomicU32>,
    is_away: Arc<std::sync::atomic::AtomicBool>,
    clock_ms: Arc<AtomicI64>,
}

impl Shared {
    fn new(partitions: usize) -> Self {
        let shared = Self::default();
        let world = World { partitions: vec![Vec::new(); partitions], stored: vec![0; partitions] };
        *shared.world.lock().unwrap() = world;
        shared.clock_ms.store(NOW_MS, Ordering::SeqCst);
        shared
    }

    /// Received at `received_ms`, acknowledged now.
    fn append(&self, partition: usize, received_ms: i64) {
        let acknowledged_ms = self.clock_ms.load(Ordering::SeqCst);
        self.world.lock().unwrap().partitions[partition].push(Record { received_ms, acknowledged_ms });
    }

    fn load(&self, partition: usize) {
        let mut world = self.world.lock().unwrap();
        world.stored[partition] = (world.stored[partition] + 1).min(world.partitions[partition].len());
    }

    async fn promise(&self, through: &DataThrough) -> Option<i64> {
        through.at(&reader(self.clone()), self.clock_ms.load(Ordering::SeqCst)).await
    }

    async fn pass(&self, ms: i64) {
        tokio::time::advance(Duration::from_millis(ms.unsigned_abs())).await;
        self.clock_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn through(&self) -> DataThrough {
        DataThrough::new(Some(Arc::new(self.clone())))
    }
}

impl Run for Shared {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let world = self.world.lock().unwrap();
        let rows = world.stored.iter().enumerate().filter(|(_, stored)| **stored > 0);
        let rows: String = rows.map(|(partition, stored)| format!("[\"{}\",{partition},{}]\n", EPOCH.0, stored - 1)).collect();
        Ok(Answer { body: Bytes::from(rows), read_rows: 1 })
    }
}

impl PendingEvents for Shared {
    fn above<'a>(&'a self, _: &'a [Watermark]) -> BoxFuture<'a, Result<Backlog, LogError>> {
        Box::pin(async { Ok(Backlog::default()) })
    }

    fn oldest<'a>(&'a self, watermarks: &'a [Watermark]) -> BoxFuture<'a, Result<Option<i64>, LogError>> {
        let world = self.world.lock().unwrap();
        let firsts = world.partitions.iter().enumerate().filter_map(|(partition, records)| {
            let mark = watermarks.iter().find(|mark| mark.epoch == EPOCH && usize::from(mark.partition) == partition);
            Some(records.get(mark.map_or(0, |mark| mark.offset as usize + 1))?.received_ms)
        });
        let oldest = if self.is_away.load(Ordering::SeqCst) { Err(LogError::Unavailable("away".to_owned())) } else { Ok(firsts.min()) };
        Box::pin(async move { oldest })
    }
}

#[tokio::test(start_paused = true)]
async fn while_loading_stalls_nothing_later_than_the_oldest_receipt_is_promised() {
    let world = Shared::new(2);
    let through = world.through();
    assert_eq!(world.promise(&through).await, Some(NOW_MS), "nothing waits");
    world.pass(10_000).await;
    world.append(1, NOW_MS + 10_000);
    for _ in 0..100 {
        world.pass(60_000).await;
        world.append(0, world.clock_ms.load(Ordering::SeqCst));
        world.append(1, world.clock_ms.load(Ordering::SeqCst));
        world.load(0);
        assert_eq!(world.promise(&through).await, Some(NOW_MS + 10_000), "the other partition loads");
    }
    world.load(1);
    world.pass(1_000).await;
    assert_eq!(world.promise(&through).await, Some(NOW_MS + 70_000));
    (0..200).for_each(|_| world.load(1));
    world.pass(1_000).await;
    assert_eq!(world.promise(&through).await, Some(world.clock_ms.load(Ordering::SeqCst)));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_leaves_the_last_promise_and_there_is_none_before_the_first() {
    let world = Shared::new(1);
    world.is_away.store(true, Ordering::SeqCst);
    let through = world.through();
    assert_eq!(world.promise(&through).await, None);
    world.is_away.store(false, Ordering::SeqCst);
    world.pass(1_000).await;
    assert_eq!(world.promise(&through).await, Some(NOW_MS + 1_000));
    world.is_away.store(true, Ordering::SeqCst);
    world.pass(60_000).await;
    assert_eq!(world.promise(&through).await, Some(NOW_MS + 1_000));
}

#[tokio::test(start_paused = true)]
async fn questions_that_come_together_poll_once() {
    let world = Shared::new(1);
    let through = world.through();
    for _ in 0..400 {
        world.promise(&through).await;
        world.pass(1).await;
    }
    assert_eq!(world.asked.load(Ordering::SeqCst), 1);
}

/// Books of so many days that all of them cannot be read in time.
struct ManyBooks(Shared);

impl Run for ManyBooks {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        if !statement.text().contains("timestamp >=") {
            std::future::pending::<()>().await;
        }
        self.0.run(statement).await
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_books_cannot_be_read_in_time_those_of_the_last_days_are() {
    let world = Shared::new(1);
    let (through, books) = (world.through(), reader(ManyBooks(world.clone())));
    assert_eq!(through.at(&books, NOW_MS).await, None);
    tokio::time::advance(POLL).await;
    assert_eq!(through.at(&books, NOW_MS + 1_500).await, Some(NOW_MS + 1_500));
}

#[derive(Clone, Debug)]
enum Step {
    Pass(i64),
    /// To a partition, received so long before.
    Append(usize, i64),
    Load(usize),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_i64..2_000).prop_map(Step::Pass),
        (0_usize..3, 0_i64..3_000).prop_map(|(partition, before)| Step::Append(partition, before)),
        (0_usize..3).prop_map(Step::Load),
        Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn every_event_acknowledged_before_it_is_in_the_table(steps in prop::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = Shared::new(3);
            let through = world.through();
            for step in steps {
                match step {
                    Step::Pass(ms) => world.pass(ms).await,
                    Step::Append(partition, before) => world.append(partition, world.clock_ms.load(Ordering::SeqCst) - before),
                    Step::Load(partition) => world.load(partition),
                    Step::Look => {
                        let promised = world.promise(&through).await.unwrap();
                        let world = world.world.lock().unwrap();
                        for (records, stored) in world.partitions.iter().zip(&world.stored) {
                            let waiting = records.iter().skip(*stored);
                            assert!(waiting.clone().all(|record| record.acknowledged_ms >= promised));
                            assert!(waiting.take(1).all(|record| record.received_ms >= promised || record.acknowledged_ms >= promised));
                        }
                    }
                }
            }
        });
    }
}
