//! What strikes, when, and for how long: all of it follows from a seed.

use std::time::Duration;

use crate::harness::fault::is_long;
use crate::harness::load::Moments;

/// Instances, and brokers.
pub(super) const INSTANCES: usize = 2;
const BROKERS: usize = 3;

/// A fault of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`.
    BrokerKilled(usize),
    /// SIGSTOP: it keeps its connections and says nothing.
    BrokerFrozen(usize),
    InstanceKilled(usize),
    InstanceFrozen(usize),
    StoreKilled,
    StoreFrozen,
    /// The volume of the first broker is full: it ends by itself, or is ended, and starts once there is space.
    BrokerFull,
    RedisKilled,
    RedisFrozen,
    /// Clients cannot reach a broker; the others can.
    LineCut(usize),
    /// Nobody can reach a broker.
    BrokerAlone(usize),
    /// The wall clock of an instance is wrong by so many seconds.
    ClockOff(usize, i64),
}

/// A fault and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) fault: Fault,
    /// Since the round began.
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

/// The latest that a fault begins after the first, and the longest that it lasts, milliseconds: as in life for one seed of eight.
fn spans(seed: u64) -> (u64, u64) {
    if seed.is_multiple_of(8) { (30_000, 60_000) } else { (4_000, 8_000) }
}

/// Two to four faults of different components that overlap: each begins before the one before it is over.
pub(super) fn of(seed: u64) -> Vec<Strike> {
    let mut moments = Moments::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // The first numbers of neighbouring seeds are alike.
    for _ in 0..4 {
        moments.next(2);
    }
    let (latest, longest) = spans(seed);
    let mut kinds: Vec<usize> = (0..7).collect();
    let count = 2 + moments.below(3);
    let mut strikes: Vec<Strike> = Vec::new();
    for _ in 0..count {
        let kind = kinds.swap_remove(moments.below(kinds.len()));
        let fault = fault(kind, &mut moments);
        let overlaps_until = strikes.iter().map(|strike| strike.at + strike.lasts).max();
        let at = moments.next(latest).min(overlaps_until.map_or(Duration::ZERO, |until| until.mul_f64(0.8)));
        let lasts = Duration::from_secs(1) + moments.next(longest - 1_000);
        strikes.push(Strike { fault, at, lasts });
    }
    strikes
}

fn fault(kind: usize, moments: &mut Moments) -> Fault {
    // The first is the one whose disk fills.
    let (broker, instance, is_first) = (1 + moments.below(BROKERS - 1), moments.below(INSTANCES), moments.below(2) == 0);
    match kind {
        0 if is_first => Fault::BrokerKilled(broker),
        0 => Fault::BrokerFrozen(broker),
        1 if is_first => Fault::InstanceKilled(instance),
        1 => Fault::InstanceFrozen(instance),
        2 if is_first => Fault::StoreKilled,
        2 => Fault::StoreFrozen,
        3 if is_first => Fault::RedisKilled,
        3 => Fault::RedisFrozen,
        4 if is_first => Fault::LineCut(broker),
        4 => Fault::BrokerAlone(broker),
        5 => Fault::ClockOff(instance, i64::try_from(moments.below(7_200)).unwrap() - 3_600),
        _ => Fault::BrokerFull,
    }
}

/// A partition once stood still for minutes after this: a broker that stays away, an instance and the store killed soon
/// after it, and the instance frozen past its session while all of that settles.
pub(super) fn standstill() -> Vec<Strike> {
    let frozen = if is_long() { 50 } else { 12 };
    let strike = |fault, at, lasts| Strike { fault, at: Duration::from_secs(at), lasts: Duration::from_secs(lasts) };
    vec![
        strike(Fault::BrokerKilled(1), 0, 18 + frozen + 120),
        strike(Fault::InstanceKilled(1), 8, 3),
        strike(Fault::StoreKilled, 11, 4),
        strike(Fault::InstanceFrozen(1), 18, frozen),
    ]
}
