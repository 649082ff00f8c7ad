use super::*;

const ONE: ProjectId = ProjectId(1);

fn limit(rate: u64) -> RateLimit {
    RateLimit::new("rate", rate, 1_000).unwrap()
}

/// Debts in memory, by the paused clock.
#[derive(Clone, Default)]
struct FakeDebts(Arc<Mutex<HashMap<String, Instant>>>);

impl Debts for FakeDebts {
    async fn owe(&self, debt: String, micros: i64, longest: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut debts = self.0.lock().unwrap();
        let paid_at = debts.entry(debt).or_insert(now);
        let owed = paid_at.saturating_duration_since(now).as_micros() as i64 + micros;
        let owed = Duration::from_micros(owed.max(0) as u64).min(longest);
        *paid_at = now + owed;
        Some(owed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_project_gets_its_rate_and_no_other_suffers() {
    let limit = limit(100);
    let mut taken = 0;
    for _ in 0..1_000 {
        taken += if limit.charge(ONE, 7).is_ok() { 7 } else { 0 };
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    // Ten seconds, and the second's worth that was there at the beginning.
    assert!((1_090..=1_107).contains(&taken), "{taken}");
    assert_eq!(limit.admits(ProjectId(2)), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_request_larger_than_the_rate_is_taken_and_paid_back() {
    let limit = limit(100);
    assert_eq!(limit.charge(ONE, 450), Ok(()));
    assert_eq!(limit.admits(ONE), Err(4));
    tokio::time::advance(Duration::from_millis(3_600)).await;
    assert_eq!(limit.admits(ONE), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_at_once_do_not_all_pass_and_owe_what_one_takes() {
    let limit = limit(10);
    // All are worth reading when they begin.
    assert!((0..30).all(|_| limit.admits(ONE).is_ok()));
    assert_eq!((0..30).filter(|_| limit.charge(ONE, 1_000).is_ok()).count(), 1);
    assert_eq!(limit.admits(ONE), Err(99));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_refuses_costs_nothing() {
    let (limit, debts) = (limit(100), FakeDebts::default());
    for tells_between in [false, true] {
        for _ in 0..50 {
            assert_eq!(limit.charge(ONE, 80), Ok(()));
            if tells_between {
                limit.exchange_once(&debts).await;
            }
            limit.give_back(ONE, 80);
            limit.exchange_once(&debts).await;
        }
    }
    assert_eq!(limit.charge(ONE, 90), Ok(()));
    assert_eq!(limit.charge(ONE, 20), Ok(()), "the last one may take too much");
    assert!(limit.admits(ONE).is_err());
}

/// What a client gets through in so many seconds that sends batches to one instance after the other, each until it refuses.
async fn taken(instances: usize, batch: u32, seconds: u64) -> u64 {
    let debts = FakeDebts::default();
    let instances: Vec<RateLimit> = (0..instances).map(|_| limit(100)).collect();
    let mut taken = 0;
    for round in 0..seconds * 5 {
        for instance in &instances {
            // To some of them it does not come for a while: they must not have forgotten what is owed.
            while round % 20 < 5 && instance.charge(ONE, batch).is_ok() {
                taken += u64::from(batch);
            }
        }
        tokio::time::advance(EXCHANGE).await;
        for instance in &instances {
            instance.exchange_once(&debts).await;
        }
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn many_instances_together_allow_what_one_does() {
    for batch in [1, 10, 1_000] {
        for instances in [1, 2, 8] {
            let taken = taken(instances, batch, 1_000).await;
            // What each took before it knew of the others, and nothing beyond.
            let most = 100 * 1_000 + 8 * (100 + u64::from(batch)) * 50 / if batch == 1_000 { 10 } else { 1 };
            assert!(taken <= most, "{instances} instances, batches of {batch}: {taken} of {most}");
            assert!(taken >= 20_000, "{instances} instances, batches of {batch}: {taken}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_stays_in_touch_and_learns_of_what_others_take() {
    let (one, other, debts) = (limit(100), limit(100), FakeDebts::default());
    assert_eq!(one.charge(ONE, 1_000), Ok(()));
    one.exchange_once(&debts).await;
    assert_eq!(other.admits(ONE), Ok(()), "it cannot know yet");
    other.exchange_once(&debts).await;
    for second in (1..=9).rev() {
        assert_eq!(other.admits(ONE), Err(second), "{second}");
        tokio::time::advance(Duration::from_secs(1)).await;
        other.exchange_once(&debts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_debt_that_cannot_be_is_bounded_and_a_lost_one_forgiven() {
    let (limit, debts) = (limit(1_000), FakeDebts::default());
    assert_eq!(limit.charge(ONE, 1_500), Ok(()));
    let hour = Duration::from_secs(3_600);
    debts.0.lock().unwrap().insert("rate:1".to_owned(), Instant::now() + hour);
    limit.exchange_once(&debts).await;
    assert_eq!(limit.admits(ONE), Err(16));
    debts.0.lock().unwrap().clear();
    limit.exchange_once(&debts).await;
    assert_eq!(limit.admits(ONE), Ok(()));
}

/// Debts that cannot be reached.
struct Away;

impl Debts for Away {
    async fn owe(&self, _: String, _: i64, _: Duration) -> Option<Duration> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_and_paid_off_while_the_debts_were_away_is_on_none_of_them_afterwards() {
    let (limit, debts) = (limit(100), FakeDebts::default());
    // Half the rate for a minute.
    for _ in 0..300 {
        assert_eq!(limit.charge(ONE, 10), Ok(()));
        limit.exchange_once(&Away).await;
        tokio::time::advance(EXCHANGE).await;
    }
    limit.exchange_once(&debts).await;
    assert_eq!(limit.charge(ONE, 80), Ok(()));
    assert_eq!(limit.admits(ONE), Ok(()));
    // What is not paid off is still owed, to the others too.
    assert_eq!(limit.charge(ONE, 1_000), Ok(()));
    for _ in 0..10 {
        limit.exchange_once(&Away).await;
        tokio::time::advance(EXCHANGE).await;
    }
    limit.exchange_once(&debts).await;
    let owed = limit.admits(ONE).unwrap_err();
    assert!((7..=9).contains(&owed), "{owed}");
    let other = self::limit(100);
    assert_eq!(other.charge(ONE, 1), Ok(()));
    other.exchange_once(&debts).await;
    assert!(other.admits(ONE).is_err());
}

#[test]
fn no_rate_is_no_limit() {
    assert!(RateLimit::new("rate", 0, 1_000).is_none());
}
