//! Everything that can fail, two instances on it, and clients that send to them all the while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use pulse::lifecycle::spawn_apart;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::plan::{Fault, INSTANCES, Strike};
use crate::harness::clickhouse::Cluster;
use crate::harness::clock::Clock;
use crate::harness::fault::odd_event;
use crate::harness::kafka::{Kafka, Setup};
use crate::harness::load::{Load, SharedHttp, check_stored};
use crate::harness::network::{Carries, Network};
use crate::harness::redis::RedisServer;
use crate::harness::volume::Volume;
use crate::harness::{Http, PATIENCE, Pulse, signal};

/// Room for the first broker, and files.
const BROKER_MIB: u32 = 512;
const BROKER_FILES: u32 = 4_000;
/// Lines of one kind that each change of state may leave in the log of an instance: some for every partition of every topic.
const LINES_OF_A_KIND: usize = 40;
/// Threads of an instance: those of the runtime and of Kafka's clients.
const THREADS: usize = 150;

/// An instance, or one that is being started.
enum Instance {
    Runs(Box<Pulse>),
    Starts(JoinHandle<Box<Pulse>>),
}

pub(super) struct World {
    instances: Vec<Option<Instance>>,
    /// Where each listens.
    places: Vec<SharedHttp>,
    clocks: Vec<Clock>,
    load: Option<Load>,
    probes: JoinSet<()>,
    seen: Vec<Arc<Mutex<Seen>>>,
    stop: CancellationToken,
    lines: Vec<bool>,
    alone: Vec<bool>,
    network: Network,
    kafka: Kafka,
    store: Cluster,
    volume: Volume,
    redis: RedisServer,
    fresh: u64,
    _disk: TempDir,
}

/// What was seen of an instance's readiness.
#[derive(Default)]
struct Seen {
    writes: usize,
    refused: usize,
    /// Ready, between two writes that were refused.
    lies: usize,
}

/// Where the logs of the instances ended, and what was seen so far.
pub(super) struct Before(Vec<usize>, Vec<usize>);

impl World {
    pub(super) async fn start() -> Self {
        let network = Network::start(3).await;
        let disk = tempfile::tempdir().unwrap();
        let volume = Volume::of_files(disk.path(), BROKER_MIB, BROKER_FILES);
        let properties = "replica.lag.time.max.ms=2000\nlog.index.size.max.bytes=1048576".to_owned();
        let kafka = Kafka::start_with(Setup { properties, data: Some(disk.path().join("data")), ..network.setup() }).await;
        let store = Cluster::start(1).await;
        let redis = RedisServer::start(&[]).await;
        let (mut instances, mut clocks) = (Vec::<Pulse>::new(), Vec::new());
        for _ in 0..INSTANCES {
            let clock = Clock::new();
            let redis = vec![("PULSE__REDIS__URL", redis.url())];
            let environment = [kafka.environment("overlap"), store.environment(), clock.environment(), redis].concat();
            let pulse = match instances.first() {
                Some(first) => Pulse::start_beside(first, &environment).await,
                None => Pulse::start_with(&environment).await,
            };
            instances.push(pulse);
            clocks.push(clock);
        }
        let places: Vec<SharedHttp> = instances.iter().map(|pulse| Arc::new(Mutex::new(pulse.http.clone()))).collect();
        let load = Some(Load::start(instances[0].http.clone()));
        let mut world = Self {
            instances: instances.into_iter().map(|pulse| Some(Instance::Runs(Box::new(pulse)))).collect(),
            places,
            clocks,
            load,
            probes: JoinSet::new(),
            seen: (0..INSTANCES).map(|_| Arc::default()).collect(),
            stop: CancellationToken::new(),
            lines: vec![false; 3],
            alone: vec![false; 3],
            network,
            kafka,
            store,
            volume,
            redis,
            fresh: 0,
            _disk: disk,
        };
        for (place, seen) in world.places.iter().zip(&world.seen) {
            world.probes.spawn(probe(Arc::clone(place), Arc::clone(seen), world.stop.clone()));
        }
        world
    }

    fn pulse(&self, instance: usize) -> &Pulse {
        match &self.instances[instance] {
            Some(Instance::Runs(pulse)) => pulse,
            _ => panic!("instance {instance} does not run"),
        }
    }

    /// Sends the clients to another instance, as a load balancer does.
    fn send_to_other_than(&self, instance: usize) {
        let other = self.places[(instance + 1) % INSTANCES].lock().unwrap().clone();
        *self.load.as_ref().unwrap().place.lock().unwrap() = other;
    }

    pub(super) async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::BrokerKilled(broker) => self.kafka.kill(broker),
            Fault::BrokerFrozen(broker) => self.kafka.freeze(broker),
            Fault::InstanceKilled(instance) => {
                self.send_to_other_than(instance);
                match &mut self.instances[instance] {
                    Some(Instance::Runs(pulse)) => pulse.kill().await,
                    _ => panic!("instance {instance} does not run"),
                }
            }
            Fault::InstanceFrozen(instance) => {
                self.started(instance).await;
                self.send_to_other_than(instance);
                signal(self.pulse(instance).pid(), Signal::STOP);
            }
            Fault::StoreKilled => self.store.kill(0),
            Fault::StoreFrozen => self.store.freeze(0),
            Fault::BrokerFull => self.volume.fill(),
            Fault::RedisKilled => self.redis.kill().await,
            Fault::RedisFrozen => self.redis.freeze(),
            Fault::LineCut(broker) => {
                self.lines[broker] = true;
                self.cut();
            }
            Fault::BrokerAlone(broker) => {
                self.alone[broker] = true;
                self.cut();
            }
            Fault::ClockOff(instance, seconds) => self.clocks[instance].set_ahead(seconds),
        }
    }

    pub(super) async fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::BrokerKilled(broker) => self.kafka.start_again(broker),
            Fault::BrokerFrozen(broker) => self.kafka.thaw(broker),
            Fault::InstanceKilled(instance) => self.start_again(instance),
            Fault::InstanceFrozen(instance) => signal(self.pulse(instance).pid(), Signal::CONT),
            Fault::StoreKilled => self.store.start_again(0),
            Fault::StoreFrozen => self.store.thaw(0),
            Fault::BrokerFull => {
                // A broker whose only disk has failed ends by itself, sooner or later.
                self.kafka.kill(0);
                self.volume.free();
                self.kafka.start_again(0);
            }
            Fault::RedisKilled => self.redis.restart().await,
            Fault::RedisFrozen => self.redis.thaw(),
            Fault::LineCut(broker) => {
                self.lines[broker] = false;
                self.cut();
            }
            Fault::BrokerAlone(broker) => {
                self.alone[broker] = false;
                self.cut();
            }
            Fault::ClockOff(instance, _) => self.clocks[instance].set_ahead(0),
        }
    }

    fn cut(&self) {
        let (lines, alone) = (&self.lines, &self.alone);
        self.network.cut(|line| {
            let is_alone = (0..alone.len()).any(|broker| alone[broker] && line.reaches(broker));
            is_alone || (line.carries == Carries::Clients && lines[line.to])
        });
    }

    /// Starts an instance again, and once more whenever it ends before it is ready, as any service manager does.
    fn start_again(&mut self, instance: usize) {
        let Some(Instance::Runs(mut pulse)) = self.instances[instance].take() else { panic!("instance {instance} does not run") };
        let place = Arc::clone(&self.places[instance]);
        self.instances[instance] = Some(Instance::Starts(spawn_apart(async move {
            let began = Instant::now();
            let mut tries = 1;
            while !pulse.restart_with::<&str>(&[]).await {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            println!("instance {instance}: ready {:?} after it was started, at attempt {tries}", began.elapsed());
            *place.lock().unwrap() = pulse.http.clone();
            pulse
        })));
    }

    async fn started(&mut self, instance: usize) {
        self.instances[instance] = match self.instances[instance].take() {
            Some(Instance::Starts(starting)) => Some(Instance::Runs(starting.await.unwrap())),
            running => running,
        };
    }

    /// Waits until everything that was struck answers again.
    pub(super) async fn healed(&mut self, strikes: &[Strike]) {
        let touches_kafka = |strike: &Strike| {
            use Fault::{BrokerAlone, BrokerFrozen, BrokerFull, BrokerKilled, LineCut};
            matches!(strike.fault, BrokerAlone(_) | BrokerFrozen(_) | BrokerFull | BrokerKilled(_) | LineCut(_))
        };
        if strikes.iter().any(touches_kafka) {
            self.kafka.each_answers().await;
            self.kafka.ready().await;
        }
        self.store.answers(0).await;
        for instance in 0..INSTANCES {
            self.started(instance).await;
        }
        // Whichever they were sent to lives.
        let first = self.places[0].lock().unwrap().clone();
        *self.load.as_ref().unwrap().place.lock().unwrap() = first;
    }

    pub(super) async fn begin_round(&mut self) -> Before {
        self.fresh_events("before").await;
        self.now()
    }

    fn now(&self) -> Before {
        let lengths = (0..INSTANCES).map(|instance| self.log_of(instance).len()).collect();
        Before(lengths, self.seen.iter().map(|seen| seen.lock().unwrap().lies).collect())
    }

    fn log_of(&self, instance: usize) -> String {
        std::fs::read_to_string(self.pulse(instance).data_dir().join("test.log")).unwrap()
    }

    /// Sends an event to each instance, to every partition, and waits until all of them can be asked for; returns how long it took.
    pub(super) async fn fresh_events(&mut self, name: &str) -> Duration {
        let began = Instant::now();
        for place in &self.places {
            self.fresh += 1;
            let http = place.lock().unwrap().clone();
            let kind = format!("fresh-{}", self.fresh);
            let event = |number: usize| {
                let id = format!("ffffffff-{:04x}-4000-8000-{number:012x}", self.fresh);
                json!({"eventId": id, "type": kind, "anonymousId": format!("fresh-{number}")})
            };
            let events: Vec<_> = (0..32).map(event).collect();
            let there = async {
                while !matches!(http.try_capture(&json!(events)).await, Ok((StatusCode::OK, _))) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let accepted = began.elapsed();
                while !are_there(&http, &kind, events.len()).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                println!("{name}: fresh events accepted after {accepted:?}, there after {:?}", began.elapsed());
            };
            if tokio::time::timeout(PATIENCE, there).await.is_err() {
                let logs: Vec<String> = (0..INSTANCES).map(|instance| last_lines(&self.log_of(instance), 40)).collect();
                panic!("{name}: fresh events of {kind} are not there; the instances said\n{}", logs.join("\n\n"));
            }
        }
        began.elapsed()
    }

    /// Checks what the round left behind.
    pub(super) async fn end_round(&mut self, Before(lengths, lies): Before, strikes: usize, name: &str) {
        let transitions = 2 * strikes;
        for instance in 0..INSTANCES {
            let log = self.log_of(instance);
            let said = kinds_of_lines(&log[lengths[instance]..]);
            let most = said.iter().max_by_key(|(_, count)| **count).map(|(line, count)| (line.clone(), *count));
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pulse(instance).pid())).unwrap().count();
            let seen = self.seen[instance].lock().unwrap();
            println!(
                "{name}: instance {instance}: {threads} threads, {} writes, {} refused, {} lies of readiness; most said: {most:?}",
                seen.writes,
                seen.refused,
                seen.lies - lies[instance]
            );
            assert!(!log.contains("panicked"), "{name}: {log}");
            assert!(seen.lies - lies[instance] <= transitions, "{name}: instance {instance} says it is ready and refuses");
            assert!(threads <= THREADS, "{name}: instance {instance} has {threads} threads");
            let flood = said.iter().find(|(_, count)| **count > LINES_OF_A_KIND * transitions);
            assert!(flood.is_none(), "{name}: instance {instance} said this again and again: {flood:?}");
        }
    }

    /// Ends the clients and checks every event.
    pub(super) async fn check(mut self, seed: u64) {
        let mut accepted = self.load.take().unwrap().ends().await;
        for fresh in 1..=self.fresh {
            accepted.extend((0..32).map(|number| format!("ffffffff-{fresh:04x}-4000-8000-{number:012x}")));
        }
        self.stop.cancel();
        while let Some(ended) = self.probes.join_next().await {
            ended.unwrap();
        }
        let (stored, copies) = check_stored(&self.pulse(1).http, &accepted, seed).await;
        println!("seed {seed} and those after it: {stored} events, {copies} copies, 0 lost, 0 doubled");
        for instance in self.instances.drain(..) {
            match instance {
                Some(Instance::Runs(pulse)) => assert!(pulse.stop().await),
                _ => panic!("an instance does not run"),
            }
        }
    }
}

/// Writes, asks whether the instance is ready, and so on: one that is ready writes, as far as it can know.
async fn probe(place: SharedHttp, seen: Arc<Mutex<Seen>>, stop: CancellationToken) {
    let mut says_ready = false;
    let mut was_refused = false;
    while !stop.is_cancelled() {
        let http: Http = place.lock().unwrap().clone();
        let written = http.try_capture(&odd_event()).await.map(|(status, _)| status);
        let is_refused = match written {
            Ok(StatusCode::SERVICE_UNAVAILABLE) => true,
            Ok(StatusCode::BAD_REQUEST) | Err(_) => false,
            Ok(status) => panic!("an odd event is answered {status}"),
        };
        {
            let mut seen = seen.lock().unwrap();
            seen.writes += 1;
            seen.refused += usize::from(is_refused);
            seen.lies += usize::from(was_refused && says_ready && is_refused);
        }
        was_refused = is_refused;
        let ready = http.send(http.request(hyper::Method::GET, "/readyz", &http.read_key, "")).await;
        says_ready = matches!(ready, Ok((StatusCode::OK, _)));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn are_there(http: &Http, kind: &str, count: usize) -> bool {
    let asked = json!({"event": kind, "limit": 100, "refresh": true});
    let request = http.request(hyper::Method::POST, "/v1/query/events", &http.read_key, asked.to_string());
    match http.send(request).await {
        Ok((StatusCode::OK, answer)) => answer["result"]["events"].as_array().is_some_and(|events| events.len() == count),
        // Also where the store is up and a busy machine does not answer within the time of a question.
        Ok((StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, _)) | Err(_) => false,
        Ok(other) => panic!("{other:?}"),
    }
}

/// How often each line was said, whatever numbers and fields it had.
fn kinds_of_lines(log: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in log.lines() {
        let said = line.split_whitespace().skip(1).take_while(|word| !word.contains('=')).collect::<Vec<_>>().join(" ");
        let kind: String = said.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
