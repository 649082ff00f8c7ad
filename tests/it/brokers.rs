//! Rows of the fault catalogue on real brokers: lines that are cut, brokers that come and go, disks and limits that are reached,
//! records that Kafka loses.

mod limits;
mod lost;
mod secure;
mod starts;

use std::time::{Duration, Instant};

use hyper::StatusCode;
use pulse::log::kafka::KafkaLogConfig;
use pulse::log::{ConsumerGroup, Log, RunningLog};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::fault::{absence, nothing_is_accepted, odd_event, something_is_accepted};
use crate::harness::kafka::{Kafka, Setup};
use crate::harness::kafka_log::{config, open, reader_of_0};
use crate::harness::load::{rounds, under_load_on};
use crate::harness::network::{Carries, Network};
use crate::harness::{Http, Pulse};

/// As [`Kafka::environment`] has it.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client sees who sends all the time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The answer that took longest.
    slowest: Duration,
    /// The longest time in which nothing was accepted.
    gap: Duration,
}

/// Sends until it is asked what it saw.
struct Probe {
    stop: CancellationToken,
    sending: JoinSet<Seen>,
}

impl Probe {
    fn start(http: Http) -> Self {
        let (stop, mut sending) = (CancellationToken::new(), JoinSet::new());
        let ends = stop.clone();
        sending.spawn(async move {
            let (mut accepted, mut seen) = (Instant::now(), Seen::default());
            while !ends.is_cancelled() {
                let began = Instant::now();
                let (status, _) = http.capture(&odd_event()).await;
                seen.slowest = seen.slowest.max(began.elapsed());
                if status == StatusCode::BAD_REQUEST {
                    seen.gap = seen.gap.max(accepted.elapsed());
                    accepted = Instant::now();
                } else {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            seen
        });
        Self { stop, sending }
    }

    async fn ends(mut self) -> Seen {
        self.stop.cancel();
        self.sending.join_next().await.unwrap().unwrap()
    }
}

async fn behind_a_network(brokers: usize) -> (Network, Kafka) {
    let network = Network::start(brokers).await;
    // So that followers that are cut off are out of sync within a test.
    let properties = "replica.lag.time.max.ms=2000".to_owned();
    let kafka = Kafka::start_with(Setup { properties, ..network.setup() }).await;
    (network, kafka)
}

async fn pulse_on(kafka: &Kafka) -> Pulse {
    Pulse::start_with(&kafka.environment("brokers")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_broker_out_of_reach_every_request_is_answered_in_time() {
    let (network, kafka) = behind_a_network(3).await;
    let mut broker = 0;
    under_load_on(pulse_on(&kafka).await, (41, rounds(3)), async |pulse, _, _| {
        let probe = Probe::start(pulse.http.clone());
        tokio::time::sleep(Duration::from_secs(1)).await;
        network.cut(|line| line.carries == Carries::Clients && line.to == broker);
        tokio::time::sleep(absence(6, 60)).await;
        network.heal();
        something_is_accepted(&pulse.http).await;
        let seen = probe.ends().await;
        println!("broker {broker} out of reach: {seen:?}");
        // A record waits for those before it, and then for its own acknowledgement.
        assert!(seen.slowest < 2 * DELIVERY_TIMEOUT + Duration::from_secs(5), "{seen:?}");
        broker = (broker + 1) % 3;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_cannot_hand_on_is_not_accepted() {
    let (network, kafka) = behind_a_network(3).await;
    under_load_on(pulse_on(&kafka).await, (42, rounds(2)), async |pulse, _, _| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Of the partition to which the probe goes.
        let leader = kafka.leader_of("brokers-raw", 0).await;
        network.cut(|line| line.carries == Carries::Replication && line.reaches(leader));
        // What was on its way is still answered.
        tokio::time::sleep(Duration::from_millis(500)).await;
        nothing_is_accepted(&pulse.http, absence(6, 60)).await;
        network.heal();
        let healed = Instant::now();
        something_is_accepted(&pulse.http).await;
        println!("leader {leader} cut off from its followers; accepted {:?} after", healed.elapsed());
        kafka.ready().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_isolated_one_by_one_and_healed_in_another_order_converge() {
    let (network, kafka) = behind_a_network(3).await;
    under_load_on(pulse_on(&kafka).await, (43, rounds(2)), async |pulse, _, moments| {
        let mut isolated: Vec<usize> = Vec::new();
        let cut = |isolated: &[usize]| network.cut(|line| isolated.iter().any(|broker| line.reaches(*broker)));
        while isolated.len() < 3 {
            let next = moments.below(3);
            if !isolated.contains(&next) {
                isolated.push(next);
                cut(&isolated);
                tokio::time::sleep(Duration::from_secs(1) + moments.next(2_000)).await;
            }
        }
        nothing_is_accepted(&pulse.http, absence(1, 45)).await;
        while !isolated.is_empty() {
            isolated.swap_remove(moments.below(isolated.len()));
            cut(&isolated);
            tokio::time::sleep(Duration::from_millis(500) + moments.next(2_000)).await;
        }
        let healed = Instant::now();
        kafka.ready().await;
        something_is_accepted(&pulse.http).await;
        println!("in sync and accepting {:?} after the last line was whole", healed.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_any_broker_gone_partitions_are_still_given_out() {
    let mut kafka = Kafka::start(3).await;
    let log = open(KafkaLogConfig { replication: 3, ..config(&kafka, "gone") }).await;
    for broker in 0..3 {
        kafka.kill(broker);
        let mut member = log.join(ConsumerGroup::Process).await.unwrap();
        reader_of_0(&mut member).await;
        drop(member);
        kafka.restart(broker).await;
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_restarted_in_turn_lose_and_double_nothing() {
    let mut kafka = Kafka::start(3).await;
    let mut broker = 0;
    under_load_on(pulse_on(&kafka).await, (44, rounds(3)), async |pulse, _, _| {
        let probe = Probe::start(pulse.http.clone());
        kafka.stop(broker).await;
        kafka.restart(broker).await;
        something_is_accepted(&pulse.http).await;
        println!("broker {broker} restarted: {:?}", probe.ends().await);
        broker = (broker + 1) % 3;
    })
    .await;
}
