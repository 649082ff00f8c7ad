//! The circuit breaker: a store that is away or overloaded is left alone for a while.
//!
//! Everyone who talks to one store shares one breaker, so the loader's failures spare the queries theirs and a query's
//! success lets the loader go on. It opens after [`FAILURES`] failures in a row that mean *unavailable* or *overloaded*
//! ([`ErrorClass::is_overload`]); any other answer, an error too, proves that the store works and starts the count anew. While it is
//! open nothing is sent. After a pause one statement goes through as a probe: a success closes the breaker, a failure opens it
//! again for twice as long, at most [`LONGEST_PAUSE`]. Who mends the store holds it ([`Breaker::hold`]): then nothing is sent either.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{ClickHouseError, ErrorClass};
use crate::metrics::{Counter, Gauge};

/// Failures in a row that open it: one or two happen to a healthy store that restarts a connection.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A store that came back is noticed no later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The levels of its gauge.
const CLOSED: f64 = 0.0;
const HALF_OPEN: f64 = 1.0;
const OPEN: f64 = 2.0;
const HELD: f64 = 3.0;

/// What the breaker lets through.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// Everything.
    Closed,
    /// One statement, to see.
    HalfOpen,
    /// Nothing.
    Open,
}

/// A breaker; share one for each store.
#[derive(Debug, Default)]
pub struct Breaker {
    inner: Mutex<Inner>,
    /// How many hold it: while there is one nothing is let through, whatever the store answers.
    holders: AtomicUsize,
    /// The message of the last answer that says that a part is damaged.
    damage: watch::Sender<Option<String>>,
}

#[derive(Debug)]
enum Inner {
    Closed {
        failures: u32,
    },
    /// `probe` is the number of the probe on its way, 0 for none.
    Open {
        until: Instant,
        pause: Duration,
        probe: u64,
        probes: u64,
    },
}

impl Default for Inner {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// Leave to send one statement; tell it how that ended. Dropped without a word (the asker left) it proves nothing.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    /// 0: not a probe.
    probe: u64,
}

/// Keeps a breaker from letting anything through: the store is being mended. Dropped instead of released it does so to the end: mending
/// was cut.
#[derive(Debug)]
#[must_use]
pub struct Held(Arc<Breaker>);

impl Breaker {
    /// Leave to send a statement.
    ///
    /// # Errors
    /// How long to wait before it makes sense to ask again.
    pub fn permit(&self) -> Result<Permit<'_>, Duration> {
        if self.is_held() {
            return Err(FIRST_PAUSE);
        }
        let mut inner = self.lock();
        let Inner::Open { until, pause, probe, probes } = &mut *inner else { return Ok(Permit { breaker: self, probe: 0 }) };
        let now = Instant::now();
        if now < *until {
            return Err(*until - now);
        }
        if *probe != 0 {
            return Err(*pause);
        }
        *probes += 1;
        *probe = *probes;
        let probe = *probe;
        drop(inner);
        Gauge::Breaker.set(HALF_OPEN);
        Ok(Permit { breaker: self, probe })
    }

    /// What it lets through now.
    #[cfg(test)]
    fn state(&self) -> BreakerState {
        match &*self.lock() {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { until, .. } if Instant::now() < *until => BreakerState::Open,
            Inner::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Lets nothing through until this and all others who hold it have released it.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.holders.fetch_add(1, Ordering::AcqRel);
        Gauge::Breaker.set(HELD);
        Held(Arc::clone(self))
    }

    /// Whether somebody holds it.
    pub fn is_held(&self) -> bool {
        self.holders.load(Ordering::Acquire) > 0
    }

    /// What the store says of a damaged part, once it says so.
    pub fn damage(&self) -> watch::Receiver<Option<String>> {
        self.damage.subscribe()
    }

    /// Forgets what the store said of damage before it was mended.
    pub fn forget_damage(&self) {
        self.damage.send_replace(None);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        let mut inner = self.lock();
        if matches!(*inner, Inner::Open { .. }) {
            // What was on its way when it was held may end now.
            Gauge::Breaker.set(if self.is_held() { HELD } else { CLOSED });
            tracing::info!("clickhouse answers again");
        }
        *inner = Inner::default();
    }

    fn failed(&self, of_probe: u64) {
        let mut inner = self.lock();
        let pause = match &mut *inner {
            Inner::Closed { failures } => {
                *failures += 1;
                if *failures < FAILURES {
                    return;
                }
                FIRST_PAUSE
            }
            Inner::Open { pause, probe, .. } if *probe == of_probe && of_probe != 0 => (*pause * 2).min(LONGEST_PAUSE),
            // A straggler from before it opened.
            Inner::Open { .. } => return,
        };
        *inner = Inner::Open { until: Instant::now() + pause, pause, probe: 0, probes: of_probe };
        drop(inner);
        Gauge::Breaker.set(if self.is_held() { HELD } else { OPEN });
        Counter::BreakerOpened.add(1);
        tracing::warn!(?pause, "clickhouse is away or overloaded: nothing is sent for a while");
    }

    fn abandoned(&self, of_probe: u64) {
        if let Inner::Open { probe, .. } = &mut *self.lock()
            && *probe == of_probe
        {
            *probe = 0;
        }
    }
}

impl Permit<'_> {
    /// Tells how the statement ended.
    pub fn end<T>(mut self, result: &Result<T, ClickHouseError>) {
        let probe = std::mem::take(&mut self.probe);
        if let Err(error) = result
            && error.class() == ErrorClass::Damaged
        {
            self.breaker.damage.send_replace(Some(error.to_string()));
        }
        match result {
            Err(error) if error.class().is_overload() => self.breaker.failed(probe),
            _ => self.breaker.succeeded(),
        }
    }
}

impl Held {
    /// Ends it.
    pub fn release(self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let is_open = matches!(*self.0.lock(), Inner::Open { .. });
            Gauge::Breaker.set(if is_open { OPEN } else { CLOSED });
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe != 0 {
            self.breaker.abandoned(self.probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Result<(), ClickHouseError> {
        Err(ClickHouseError::Network("refused".to_owned()))
    }

    fn server(code: i32, message: &str) -> Result<(), ClickHouseError> {
        Err(ClickHouseError::Server { code, message: message.to_owned() })
    }

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.permit().unwrap().end(&away());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_success_starts_the_count_anew() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES - 1);
        breaker.permit().unwrap().end(&Ok(()));
        fail(&breaker, FAILURES - 1);
        assert_eq!(breaker.state(), BreakerState::Closed);
        fail(&breaker, 1);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.permit().unwrap_err() <= FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_probe_goes_through_and_its_success_closes_it() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        let probe = breaker.permit().unwrap();
        assert!(breaker.permit().is_err(), "one probe at a time");
        probe.end(&Ok(()));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_doubles_the_pause_up_to_the_longest() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES);
        for pause in [FIRST_PAUSE, FIRST_PAUSE * 2, LONGEST_PAUSE, LONGEST_PAUSE] {
            assert_eq!(breaker.permit().unwrap_err(), pause);
            tokio::time::advance(pause).await;
            fail(&breaker, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_asker_left_gives_its_place_to_the_next() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES);
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breaker.permit().unwrap());
        breaker.permit().unwrap().end(&Ok(()));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_from_before_neither_prolongs_nor_takes_the_probe() {
        let breaker = Breaker::default();
        let straggler = breaker.permit().unwrap();
        fail(&breaker, FAILURES);
        tokio::time::advance(FIRST_PAUSE).await;
        let probe = breaker.permit().unwrap();
        straggler.end(&away());
        assert!(breaker.permit().is_err());
        probe.end(&Ok(()));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_held_until_the_last_one_lets_go() {
        let breaker = Arc::new(Breaker::default());
        let (first, second) = (breaker.hold(), breaker.hold());
        assert_eq!(breaker.permit().unwrap_err(), FIRST_PAUSE);
        first.release();
        assert!(breaker.permit().is_err(), "another one mends it yet");
        second.release();
        breaker.permit().unwrap().end(&Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_refuses_for_its_own_reasons_opens_nothing() {
        let breaker = Breaker::default();
        let too_dear = server(241, "(for query) memory limit exceeded");
        for refused in [server(62, ""), server(469, ""), too_dear, server(159, ""), server(252, "Too many parts")] {
            for _ in 0..FAILURES {
                breaker.permit().unwrap().end(&refused);
            }
        }
        for _ in 0..FAILURES {
            breaker.permit().unwrap().end(&Err::<(), _>(ClickHouseError::TooLarge(1)));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        for _ in 0..FAILURES {
            breaker.permit().unwrap().end(&server(241, "(total) memory limit exceeded"));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
