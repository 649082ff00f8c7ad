//! The watcher over arrivals that are set by hand.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::query::reader::{Answer, QueryLimits, Run};
use crate::store::data_version::Version;

const PROJECT: ProjectId = ProjectId(7);
const NOW_MS: i64 = 1_767_355_200_000;
const OTHERS: Uuid = Uuid::from_u128(1);

/// A row of arrivals: offset, when it was sealed and by whom, quarter and number.
type Arrivals = (i64, i64, Uuid, Quarter, u64);

/// A table that only has arrivals.
#[derive(Default)]
struct Table {
    asked: AtomicU32,
    rows: Mutex<Vec<Arrivals>>,
    is_away: AtomicBool,
}

impl Run for Table {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(QueryError::unavailable("store_unavailable", "away"));
        }
        let since_ms: i64 = statement.params().next().unwrap().1.parse().unwrap();
        let rows = self.rows.lock().unwrap();
        let rows = rows.iter().filter(|(_, sealed_ms, ..)| *sealed_ms >= since_ms);
        let body: String = if statement.text().contains("mapKeys") {
            let row = |(offset, sealed_ms, by, quarter, events): &Arrivals| {
                json!(["7", "1", 0, offset, sealed_ms.to_string(), by, [quarter.to_string()], [events]]).to_string() + "\n"
            };
            rows.map(row).collect()
        } else {
            let last = rows.map(|(offset, sealed_ms, ..)| (*offset, *sealed_ms)).max();
            last.map(|(offset, sealed_ms)| json!(["7", "1", 0, offset, sealed_ms.to_string()]).to_string() + "\n").unwrap_or_default()
        };
        Ok(Answer { body: Bytes::from(body), read_rows: 1 })
    }
}

struct Watch {
    freshness: FreshnessWatcher,
    table: Arc<Table>,
    reader: Reader,
    arrivals: Arc<DataVersions>,
    now_ms: i64,
}

impl Watch {
    async fn begin() -> Self {
        let arrivals = Arc::<DataVersions>::default();
        let table = Arc::<Table>::default();
        let reader = Reader::new(Arc::clone(&table), QueryLimits::default());
        let mut watch = Self { freshness: FreshnessWatcher::new(Arc::clone(&arrivals)), table, reader, arrivals, now_ms: NOW_MS };
        watch.store((5, NOW_MS - 1_000, OTHERS, 1, 1));
        watch.poll_after(Duration::ZERO).await;
        watch
    }

    fn store(&self, row: Arrivals) {
        self.table.rows.lock().unwrap().push(row);
    }

    async fn poll_after(&mut self, pause: Duration) {
        tokio::time::advance(pause).await;
        self.now_ms += millis(pause);
        self.freshness.poll(&self.reader, self.now_ms).await;
    }

    /// Whether something of these quarters is new.
    fn has_news(&self, quarters: std::ops::RangeInclusive<Quarter>, seen: Version) -> bool {
        self.arrivals.any_since(PROJECT, &[quarters], seen)
    }

    fn events(&self, seen: Version) -> Option<u64> {
        self.arrivals.events(PROJECT, &[0..=Quarter::MAX], seen)
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_often_makes_the_table_be_read_twice_a_second() {
    let mut watch = Watch::begin().await;
    let first = watch.table.asked.load(Ordering::SeqCst);
    for _ in 0..1_000 {
        watch.poll_after(Duration::from_millis(1)).await;
    }
    assert_eq!(watch.table.asked.load(Ordering::SeqCst) - first, 2);
}

#[tokio::test(start_paused = true)]
async fn what_others_loaded_overtakes_its_own_times_and_is_counted() {
    let mut watch = Watch::begin().await;
    let (seen, version) = (watch.arrivals.now(), watch.freshness.version(PROJECT));
    watch.poll_after(POLL).await;
    assert!(!watch.has_news(0..=Quarter::MAX, seen), "nothing came");

    watch.store((6, watch.now_ms, OTHERS, 40, 3));
    watch.store((7, watch.now_ms, instance(), 50, 9));
    watch.poll_after(POLL).await;
    assert!(watch.has_news(40..=40, seen) && !watch.has_news(0..=39, seen) && !watch.has_news(41..=Quarter::MAX, seen));
    assert_eq!(watch.events(seen), Some(3), "what this instance has loaded it counts itself");
    assert_ne!(watch.freshness.version(PROJECT), version);

    let seen = watch.arrivals.now();
    watch.poll_after(POLL_HISTORY).await;
    assert!(!watch.has_news(0..=Quarter::MAX, seen), "nothing more came");
    // Said of sessions, with no new place in the log.
    watch.store((7, watch.now_ms, OTHERS, 8, 0));
    watch.poll_after(POLL).await;
    assert!(watch.has_news(8..=8, seen) && !watch.has_news(9..=Quarter::MAX, seen));
    assert_eq!(watch.events(seen), Some(3));
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_long_before_it_was_stored_overtakes_all_of_its_project() {
    for (ago, pause) in [(INSERT_WINDOW * 2, POLL), (RECENT_WINDOW * 2, POLL_HISTORY)] {
        let mut watch = Watch::begin().await;
        let seen = watch.arrivals.now();
        watch.store((6, watch.now_ms - millis(ago), OTHERS, 40, 3));
        watch.poll_after(pause).await;
        assert!(watch.has_news(0..=0, seen) && watch.has_news(90..=90, seen), "{ago:?}");
        assert_eq!(watch.events(seen), None);
        assert!(!watch.arrivals.any_since(ProjectId(8), &[0..=Quarter::MAX], seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_read_overtakes_everything() {
    let mut watch = Watch::begin().await;
    let seen = watch.arrivals.now();
    watch.table.is_away.store(true, Ordering::SeqCst);
    watch.poll_after(POLL).await;
    assert!(watch.has_news(0..=0, seen));
}

proptest::proptest! {
    /// Whatever is stored when, by whom and however late: a poll notes at least the quarters of all that others have stored since.
    #[test]
    fn nothing_that_others_store_is_missed(
        steps in proptest::collection::vec((0..4i64, 0..90_000i64, 0..1_500_000i64, proptest::bool::ANY, 0..200u32), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut watch = Watch::begin().await;
            let mut offset = 5;
            for (further, pause_ms, ago_ms, is_ours, quarter) in steps {
                let seen = watch.arrivals.now();
                offset += further;
                let sealed_ms = watch.now_ms - ago_ms / 10;
                let is_behind = watch.table.rows.lock().unwrap().iter().any(|row| (row.0, row.1) >= (offset, sealed_ms));
                if !is_behind {
                    watch.store((offset, sealed_ms, if is_ours { instance() } else { OTHERS }, quarter, 1));
                }
                watch.poll_after(POLL + Duration::from_millis(pause_ms as u64)).await;
                watch.poll_after(POLL_HISTORY).await;
                proptest::prop_assert!(is_behind || is_ours || watch.has_news(quarter..=quarter, seen));
            }
            Ok(())
        })?;
    }
}
