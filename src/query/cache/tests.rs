use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;
use crate::query::error::ErrorClass;
use crate::query::people::map::LeftOut;

const PROJECT: ProjectId = ProjectId(7);
/// A quarter of an hour.
const TODAY: Quarter = 20_000;
const MEMORY: u64 = 1 << 20;
const CORES: f64 = 0.05;

/// A cache before a store that counts what it is asked.
struct Bench {
    cache: Arc<Cache>,
    arrivals: Arc<DataVersions>,
    runs: Arc<AtomicU32>,
    takes: Duration,
    fails: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with_memory(MEMORY)
    }

    fn with_memory(bytes: u64) -> Self {
        let arrivals = Arc::<DataVersions>::default();
        let cache = Arc::new(Cache::new(bytes, CORES, Arc::clone(&arrivals)));
        Self { cache, arrivals, runs: Arc::default(), takes: Duration::from_millis(10), fails: false }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    fn arrive(&self, quarter: Quarter) {
        self.arrivals.note([((PROJECT, quarter), 1)]);
    }

    /// Asks; the answer is the number of the computation.
    fn asked(&self, request: CacheRequest<'static>) -> impl Future<Output = Result<(String, Source), QueryError>> + Send + use<> {
        let (cache, runs, takes, fails) = (Arc::clone(&self.cache), Arc::clone(&self.runs), self.takes, self.fails);
        async move {
            let compute = || async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(takes).await;
                if fails {
                    Err(QueryError::unavailable("store_unavailable", "away"))
                } else {
                    Ok(Computed { took: takes, ..computed(&run.to_string()) })
                }
            };
            let served = cache.answer(request, compute).await?;
            Ok((String::from_utf8_lossy(&served.entry.result).into_owned(), served.source))
        }
    }

    async fn ask(&self, request: CacheRequest<'static>) -> (String, Source) {
        self.asked(request).await.unwrap()
    }
}

fn computed(result: &str) -> Computed {
    let result = Bytes::copy_from_slice(result.as_bytes());
    Computed {
        result,
        computed_ms: 0,
        data_through_ms: None,
        as_of: None,
        rows_read: 1,
        is_sampled: false,
        excluded_bots: None,
        counts_people: false,
        left_out: LeftOut::default(),
        shared_for: None,
        took: Duration::ZERO,
        saved: Duration::ZERO,
    }
}

/// A question about everything up to now.
fn open(plan: u128) -> CacheRequest<'static> {
    let over = Some(vec![TODAY - 7..=TODAY - 1]);
    let reach = Reach { spans: vec![TODAY - 7..=Quarter::MAX], counted: over, is_closed: false, looks_back: false };
    CacheRequest { key: Key { project: PROJECT, plan }, reach, report: "trends", body: b"{}", refresh: false, keep: true }
}

/// A question about days long gone.
fn closed() -> CacheRequest<'static> {
    let spans = vec![TODAY - 20..=TODAY - 10];
    CacheRequest { reach: Reach { spans: spans.clone(), counted: Some(spans), is_closed: true, looks_back: false }, ..open(2) }
}

fn says(run: u32, source: Source) -> (String, Source) {
    (run.to_string(), source)
}

#[tokio::test(start_paused = true)]
async fn an_answer_up_to_now_is_kept_for_a_minute_while_nothing_arrives() {
    let bench = Bench::new();
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Store));
    advance(KEPT - Duration::from_secs(1)).await;
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Cache));
    advance(KEPT * 2).await;
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_many_events_came_since_the_one_before_it() {
    let bench = Bench::new();
    let late = async |request: CacheRequest<'static>| {
        let served = bench.cache.answer(request, || async { Ok(computed("1")) }).await.unwrap();
        served.entry.meta.rsplit_once("\"late\":").unwrap().1.to_owned()
    };
    bench.arrive(TODAY - 15);
    assert_eq!(late(closed()).await, "null", "there is none before it");
    bench.arrive(TODAY - 15);
    bench.arrive(TODAY - 20);
    bench.arrive(TODAY - 9);
    assert_eq!(late(closed()).await, "2", "one is of another time");
    assert_eq!(late(closed()).await, "2", "it is kept");
    assert_eq!(late(CacheRequest { refresh: true, ..closed() }).await, "0");
}

#[tokio::test(start_paused = true)]
async fn of_a_range_up_to_now_what_comes_for_the_quarters_that_were_over_is_late() {
    let bench = Bench::new();
    let late = async |counted: Option<Vec<Span>>| {
        let asked = open(1);
        let request = CacheRequest { reach: Reach { counted, ..asked.reach.clone() }, ..asked };
        let served = bench.cache.answer(request, || async { Ok(computed("1")) }).await.unwrap();
        served.entry.meta.rsplit_once("\"late\":").unwrap().1.to_owned()
    };
    bench.arrive(TODAY - 3);
    assert_eq!(late(Some(vec![TODAY - 7..=TODAY - 1])).await, "null", "there is none before it");
    bench.arrive(TODAY);
    bench.arrive(TODAY - 8);
    bench.arrive(TODAY - 3);
    bench.arrive(TODAY - 1);
    assert_eq!(late(Some(vec![TODAY - 6..=TODAY])).await, "2", "today was not over, and has moved into what is");
    bench.arrive(TODAY);
    bench.arrive(TODAY - 7);
    assert_eq!(late(Some(vec![TODAY - 6..=TODAY])).await, "1", "now it was, and what it begins with is not of it any more");
    bench.arrive(TODAY);
    assert_eq!(late(None).await, "1");
    bench.arrive(TODAY);
    assert_eq!(late(Some(vec![TODAY - 6..=TODAY])).await, "null", "nothing of the one before was over");
}

#[test]
fn only_quarters_that_lie_in_a_range_as_a_whole_are_counted() {
    assert_eq!(whole_quarters(0, 3 * QUARTER_MS), Some(0..=2));
    assert_eq!(whole_quarters(1, 3 * QUARTER_MS - 1), Some(1..=1));
    assert_eq!(whole_quarters(1, 2 * QUARTER_MS - 1), None);
    assert_eq!(whole_quarters(5 * QUARTER_MS, 0), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_what_was_there_is_outdated_by_rulings_alone() {
    let bench = Bench::new();
    let asked = || CacheRequest { reach: Reach::looking_back(), ..open(3) };
    let compute = |result: &'static str| async move { Ok(Computed { counts_people: true, ..computed(result) }) };
    let ask = async |result| {
        let served = bench.cache.answer(asked(), || compute(result)).await.unwrap();
        String::from_utf8_lossy(&served.entry.result).into_owned()
    };
    assert_eq!(ask("1").await, "1");
    bench.arrive(TODAY);
    bench.arrivals.note_people(PROJECT);
    bench.arrivals.note_everything();
    assert_eq!(ask("2").await, "1", "events and logins are of now");
    bench.arrivals.note_ruling(PROJECT);
    assert_eq!(ask("3").await, "3");
    advance(KEPT_CLOSED - Duration::from_secs(1)).await;
    assert_eq!(ask("4").await, "3");
}

#[test]
fn spans_that_touch_are_one_so_no_event_counts_twice() {
    assert_eq!(merged([5..=9, 0..=2, 3..=4, 8..=12, 20..=21].into_iter()), [0..=12, 20..=21]);
}

#[tokio::test(start_paused = true)]
async fn past_its_time_an_answer_is_given_once_more_while_one_refresh_runs() {
    let bench = Bench::new();
    bench.ask(open(1)).await;
    advance(KEPT).await;
    for _ in 0..5 {
        assert_eq!(bench.ask(open(1)).await, says(1, Source::Cache));
    }
    sleep(Duration::from_millis(20)).await;
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Cache));
    assert_eq!(bench.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_stored_before_the_question_is_in_the_answer() {
    let bench = Bench::new();
    for run in 1..20 {
        assert_eq!(bench.ask(open(1)).await, says(run, Source::Store));
        bench.arrive(TODAY);
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_a_question_costs_a_share_of_a_core_and_no_answer_is_older_than_a_minute() {
    for takes_ms in [5, 100, 1_000, 2_900, 8_000, 25_000] {
        let mut bench = Bench::new();
        bench.takes = Duration::from_millis(takes_ms);
        // What arrived when the newest answer began, by its number.
        let mut began_at = vec![Instant::now()];
        let (began, mut oldest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < KEPT * 20 {
            bench.arrive(TODAY);
            let before = (Instant::now(), bench.runs());
            let (answer, source) = bench.ask(open(1)).await;
            let number: usize = answer.parse().unwrap();
            began_at.resize(began_at.len().max(bench.runs() as usize + 1), before.0);
            assert_ne!(source, Source::Stale, "nothing fails");
            oldest = oldest.max(Instant::now() - began_at[number]);
            sleep(Duration::from_millis(50)).await;
        }
        let busy_s = f64::from(bench.runs()) * bench.takes.as_secs_f64();
        // Those of the beginning, and those that would be too old.
        let most_s = (CORES * 21.0 * KEPT.as_secs_f64()).max(21.0 * 2.0 * bench.takes.as_secs_f64()) + 2.0 * bench.takes.as_secs_f64();
        assert!(busy_s <= most_s, "{takes_ms} ms: {busy_s} s of {most_s}");
        assert!(oldest <= KEPT + bench.takes, "{takes_ms} ms: {oldest:?}");
        if takes_ms < 1_000 {
            assert!(oldest <= bench.takes * 21 + Duration::from_millis(100), "{takes_ms} ms: {oldest:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_seldom_is_always_the_newest() {
    let mut bench = Bench::new();
    bench.takes = Duration::from_millis(400);
    for run in 1..50 {
        assert_eq!(bench.ask(open(1)).await, says(run, Source::Store));
        bench.arrive(TODAY);
        sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_heavy_question_answers_from_the_cache_while_one_refresh_runs() {
    let mut bench = Bench::new();
    bench.takes = HEAVY;
    bench.ask(open(1)).await;
    bench.arrive(TODAY);
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Cache));
    assert_eq!(bench.runs(), 1, "not again at once");
    advance(KEPT - HEAVY * 2).await;
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Cache));
    sleep(HEAVY + Duration::from_millis(1)).await;
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Cache));
}

#[tokio::test(start_paused = true)]
async fn a_closed_range_is_kept_for_an_hour_unless_an_event_of_its_days_comes_late() {
    let bench = Bench::new();
    bench.ask(closed()).await;
    bench.arrive(TODAY);
    advance(KEPT_CLOSED - Duration::from_secs(1)).await;
    assert_eq!(bench.ask(closed()).await, says(1, Source::Cache));
    bench.arrive(TODAY - 15);
    assert_eq!(bench.ask(closed()).await, says(2, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_computes_anew_and_the_next_one_gets_its_answer() {
    let bench = Bench::new();
    bench.ask(open(1)).await;
    assert_eq!(bench.ask(CacheRequest { refresh: true, ..open(1) }).await, says(2, Source::Store));
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Cache));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_kept_is_computed_each_time() {
    let bench = Bench::new();
    for run in 1..4 {
        assert_eq!(bench.ask(CacheRequest { keep: false, ..open(1) }).await, says(run, Source::Store));
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_get_the_answer_of_one_computation() {
    let bench = Bench::new();
    let mut askers: JoinSet<_> = (0..200).map(|_| bench.asked(open(1))).collect();
    while let Some(answer) = askers.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), says(1, Source::Store));
    }
    assert_eq!(bench.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_saw_an_event_stored_does_not_share_a_computation_that_began_before() {
    let bench = Bench::new();
    let mut askers = JoinSet::new();
    for _ in 0..20 {
        askers.spawn(bench.asked(open(1)));
        tokio::task::yield_now().await;
        bench.arrive(TODAY);
    }
    while askers.join_next().await.is_some() {}
    assert_eq!(bench.runs(), 2, "a second one, never a third");
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_to_all_who_wait_and_is_not_kept() {
    let mut bench = Bench::new();
    bench.fails = true;
    let mut askers: JoinSet<_> = (0..10).map(|_| bench.asked(open(1))).collect();
    while let Some(answer) = askers.join_next().await {
        assert_eq!(answer.unwrap().unwrap_err().code, "store_unavailable");
    }
    assert_eq!(bench.runs(), 1);
    bench.fails = false;
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn the_first_asker_may_leave_and_the_others_get_the_answer() {
    let bench = Bench::new();
    let mut askers = JoinSet::new();
    let first = askers.spawn(bench.asked(open(1)));
    tokio::task::yield_now().await;
    let mut others: JoinSet<_> = (0..5).map(|_| bench.asked(open(1))).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(askers.join_next().await.unwrap().unwrap_err().is_cancelled());
    while let Some(answer) = others.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), says(1, Source::Store));
    }
    assert_eq!(bench.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_leave_the_computation_ends_and_the_next_one_begins_anew() {
    let bench = Bench::new();
    let running = Arc::new(Semaphore::new(1));
    let held = Arc::clone(&running);
    let mut askers: JoinSet<_> = (0..3)
        .map(|_| {
            let (cache, held) = (Arc::clone(&bench.cache), Arc::clone(&held));
            async move {
                let compute = || async move {
                    let _permit = held.acquire_owned().await.unwrap();
                    std::future::pending().await
                };
                drop(cache.answer(open(1), compute).await);
            }
        })
        .collect();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(running.available_permits(), 0);
    askers.shutdown().await;
    assert_eq!(running.available_permits(), 1);
    assert!(!bench.cache.flights.is_running(&open(1).key));
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn under_overload_the_last_answer_is_given_as_stale_and_other_errors_are_told() {
    let mut bench = Bench::new();
    bench.ask(open(1)).await;
    bench.fails = true;
    advance(KEPT * 10).await;
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Stale));
    assert!(bench.asked(open(99)).await.is_err(), "there is nothing to give");
    let wrong = bench.cache.answer(open(1), || async { Err(QueryError::internal("broken")) }).await;
    assert_eq!(wrong.unwrap_err().class, ErrorClass::Internal);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_replaced_is_never_given_as_fresh() {
    let mut bench = Bench::new();
    bench.takes = Duration::from_secs(1);
    bench.ask(open(1)).await;
    sleep(Duration::from_secs(50)).await;
    bench.arrive(TODAY);
    let refuse = async || {
        bench
            .cache
            .answer(open(1), || async {
                sleep(Duration::from_secs(1)).await;
                Err(QueryError::internal("broken"))
            })
            .await
    };
    for _ in 0..4 {
        assert_eq!(refuse().await.unwrap_err().class, ErrorClass::Internal);
    }
    assert_eq!(refuse().await.unwrap().source, Source::Stale, "it has failed often enough for now");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn what_another_instance_computed_is_kept_for_as_long_as_it_is_shared() {
    let bench = Bench::new();
    let old = Duration::from_secs(20);
    let found = || async move { Ok(Computed { shared_for: Some(old), ..computed("found") }) };
    bench.cache.answer(closed(), found).await.unwrap();
    sleep(KEPT - old - Duration::from_secs(1)).await;
    assert_eq!(bench.ask(closed()).await, ("found".to_owned(), Source::Cache));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.ask(closed()).await, says(1, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_by_bytes() {
    let bench = Bench::new();
    let large = "x".repeat(10_000);
    for plan in 0..1_000 {
        let large = large.clone();
        bench.cache.answer(open(plan), || async move { Ok(computed(&large)) }).await.unwrap();
    }
    assert!(bench.cache.entries.weight() <= MEMORY);
    assert!(bench.cache.entries.len() > 50);
}

#[tokio::test(start_paused = true)]
async fn without_memory_nothing_is_kept() {
    let bench = Bench::with_memory(0);
    assert_eq!(bench.ask(open(1)).await, says(1, Source::Store));
    assert_eq!(bench.ask(open(1)).await, says(2, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_asked_often_and_ends_soon_is_worth_a_refresh() {
    let bench = Bench::new();
    for _ in 0..5 {
        bench.ask(open(1)).await;
    }
    bench.ask(open(2)).await;
    let within = Duration::from_secs(10);
    assert!(bench.cache.popular(within, 8).is_empty(), "it is fresh");
    advance(KEPT - within).await;
    for _ in 0..POPULAR {
        bench.ask(open(1)).await;
    }
    let popular: Vec<u128> = bench.cache.popular(within, 8).iter().map(|question| question.key.plan).collect();
    assert_eq!(popular, [1]);
}
