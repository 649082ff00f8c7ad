//! Faults of different components that overlap in time: nothing lost, nothing doubled, `/readyz` true, no flood in the log, and fresh
//! events soon after the last of them is over.
//!
//! A round follows from its seed alone. `PULSE_TEST_SEED=17` runs that one; `PULSE_TEST_KILLS` says how many there are.

mod plan;
mod world;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use pulse::lifecycle::spawn_apart;

use self::plan::Strike;
use self::world::World;
use crate::harness::fault::is_long;

/// Rounds on one set of components, before it gets slow to look at all that is stored.
const ROUNDS_OF_A_WORLD: usize = 5;

/// Sets of components beside each other: a round mostly waits.
fn worlds_at_once() -> usize {
    if is_long() { 3 } else { 1 }
}

/// The seeds to run: a few with every test run, hundreds with `make faults`.
#[allow(clippy::disallowed_methods, reason = "how long a test runs is for whoever runs it")]
fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    match (number("PULSE_TEST_SEED"), number("PULSE_TEST_KILLS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(kills)) => (1..=kills).collect(),
        _ => vec![1, 2, 3],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_overlap_lose_double_and_stop_nothing() {
    let seeds = seeds();
    let worlds = stream::iter(seeds.chunks(ROUNDS_OF_A_WORLD)).map(|seeds| spawn_apart(rounds_of_a_world(seeds.to_vec())));
    // The others go on where one fails: each failure is told with its seed.
    let ended: Vec<_> = worlds.buffer_unordered(worlds_at_once()).collect().await;
    let worst = ended.into_iter().map(|worst| worst.expect("a world failed")).max().unwrap_or_default();
    println!("{} rounds, at most {worst:?} until fresh events were there", seeds.len());
}

/// One round of each seed, and a look at all that is stored; returns the longest time until fresh events were there.
async fn rounds_of_a_world(seeds: Vec<u64>) -> Duration {
    let mut worst = Duration::ZERO;
    let mut world = World::start().await;
    for seed in &seeds {
        worst = worst.max(round(&mut world, &plan::of(*seed), &format!("seed {seed}")).await);
    }
    world.check(seeds[0]).await;
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_thawed_where_a_broker_stays_away_reads_every_partition_on() {
    let mut world = World::start().await;
    // The broker comes back after the check, so that what is left of the world can be looked at in peace.
    let strikes = plan::standstill();
    let (stays_away, others) = strikes.split_first().unwrap();
    world.strike(stays_away.fault).await;
    round(&mut world, others, "standstill").await;
    world.heal(stays_away.fault).await;
    world.healed(&strikes).await;
    world.check(0).await;
}

/// Lets all of it strike and end, and waits until fresh events are there; returns how long that took.
async fn round(world: &mut World, strikes: &[Strike], name: &str) -> Duration {
    println!("{name}: {strikes:?}");
    let before = world.begin_round().await;
    let mut steps: Vec<(Duration, bool, plan::Fault)> =
        strikes.iter().flat_map(|strike| [(strike.at, true, strike.fault), (strike.at + strike.lasts, false, strike.fault)]).collect();
    steps.sort_by_key(|(at, ..)| *at);
    let began = tokio::time::Instant::now();
    for (at, strikes, fault) in steps {
        tokio::time::sleep_until(began + at).await;
        match strikes {
            true => world.strike(fault).await,
            false => world.heal(fault).await,
        }
    }
    let over = Instant::now();
    world.healed(strikes).await;
    let (whole, healed) = (over.elapsed(), Instant::now());
    let fresh = world.fresh_events(name).await;
    println!("{name}: components answered {whole:?} after the last healing, fresh events were there {:?} after that", healed.elapsed());
    world.end_round(before, strikes.len(), name).await;
    fresh
}
