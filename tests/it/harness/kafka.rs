//! A real Kafka cluster on this machine: one to three brokers that are controllers as well.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pulse::clickhouse::engine::cache_dir;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use rustix::process::Signal;
use tempfile::TempDir;

use super::ports::free_port;
use super::{PATIENCE, POLL, signal};

/// How brokers name each other behind a network: each finds another address under it, by which the network knows who calls.
pub(crate) const PEER: &str = "peer";

/// Any cluster id will do: sixteen bytes as Kafka writes them.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A cluster. Its brokers end with it.
pub(crate) struct Kafka {
    brokers: Vec<Broker>,
    _dir: TempDir,
}

struct Broker {
    child: Option<Child>,
    /// Where clients find it.
    port: u16,
    dir: PathBuf,
}

/// Where a broker listens: to clients, to brokers that copy from it, and to those that ask it as a controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) replication: u16,
    pub(crate) controller: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self { client: free_port(), replication: free_port(), controller: free_port() }
    }
}

/// What a cluster is made of.
#[derive(Default)]
pub(crate) struct Setup {
    /// Where each broker listens.
    pub(crate) listens: Vec<Ports>,
    /// Where each is found, if a network is in between.
    pub(crate) doors: Option<Vec<Ports>>,
    /// Where a listener with a password and TLS is to be.
    pub(crate) secure: Option<u16>,
    /// Where the first broker keeps its topics, if not beside its configuration.
    pub(crate) data: Option<PathBuf>,
    /// More lines of the configuration.
    pub(crate) properties: String,
}

impl Setup {
    pub(crate) fn of(count: usize) -> Self {
        Self { listens: (0..count).map(|_| Ports::free()).collect(), ..Self::default() }
    }
}

fn java(heap: &str) -> Command {
    let libs = cache_dir().expect("no cache directory").join("kafka/libs");
    assert!(libs.is_dir(), "{} is missing: run `scripts/fetch.sh test`", libs.display());
    let mut command = Command::new("java");
    // The first compiler alone: a broker that lives for seconds never earns the second.
    command.args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(libs.join("*"));
    command
}

impl Kafka {
    /// Starts a cluster of `count` brokers and waits until all of them answer.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(Setup::of(count)).await
    }

    /// The same as `setup` says.
    pub(crate) async fn start_with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut brokers = Vec::new();
        for (at, ports) in setup.listens.iter().enumerate() {
            let dir = dir.path().join(format!("broker-{}", at + 1));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("server.properties"), setup.properties_of(at, &dir)).unwrap();
            // Whoever is given a file of hosts asks nobody else, not even for itself.
            let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            let hosts = format!("{} {PEER}\n127.0.0.1 localhost {own}", loopback_of(at));
            std::fs::write(dir.join("hosts"), hosts).unwrap();
            let mut format = java("-Xmx128m");
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(dir.join("server.properties"));
            let done = format.output().expect("java is missing: install a Java runtime, 17 or later");
            assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            let port = setup.doors.as_ref().map_or(ports.client, |doors| doors[at].client);
            brokers.push(Broker { child: None, port, dir });
        }
        brokers.iter_mut().for_each(Broker::start);
        let cluster = Self { brokers, _dir: dir };
        cluster.ready().await;
        cluster
    }

    /// The addresses of all brokers.
    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        addresses.join(",")
    }

    /// What makes pulse run on this cluster, on topics that begin with `prefix`.
    pub(crate) fn environment(&self, prefix: &str) -> Vec<(&'static str, String)> {
        vec![
            ("PULSE__LOG__KIND", "kafka".to_owned()),
            ("PULSE__LOG__KAFKA__BROKERS", self.addresses()),
            ("PULSE__LOG__KAFKA__TOPIC_PREFIX", prefix.to_owned()),
            ("PULSE__LOG__KAFKA__PARTITIONS", "4".to_owned()),
            ("PULSE__LOG__KAFKA__REPLICATION", self.brokers.len().to_string()),
            ("PULSE__LOG__KAFKA__DELIVERY_TIMEOUT", "5s".to_owned()),
            // So that the partitions of an instance that was killed move within a test.
            ("PULSE__LOG__KAFKA__OPTIONS__SESSION__TIMEOUT__MS", "2000".to_owned()),
            ("PULSE__LOG__KAFKA__OPTIONS__HEARTBEAT__INTERVAL__MS", "300".to_owned()),
        ]
    }

    /// Makes a topic with one copy of each partition.
    #[allow(dead_code, reason = "benches use it")]
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", self.addresses()).create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Waits until every broker that runs is known to the others and has caught up with them.
    pub(crate) async fn ready(&self) {
        let running = self.brokers.iter().filter(|broker| broker.child.is_some()).count();
        let addresses = self.addresses();
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", addresses).set("log_level", "0").create().unwrap();
            let until = std::time::Instant::now() + PATIENCE;
            while std::time::Instant::now() < until {
                match client.fetch_metadata(None, Duration::from_secs(1)) {
                    Ok(found) if found.brokers().len() == running && are_in_sync(&found, running) => return true,
                    _ => std::thread::sleep(POLL),
                }
            }
            false
        });
        assert!(asked.await.unwrap(), "kafka was not ready in time; {}", self.log());
    }

    /// Waits until each broker that runs answers by itself: one that was just started is still told of by the others.
    #[allow(dead_code, reason = "not for benches")]
    pub(crate) async fn each_answers(&self) {
        let running: Vec<u16> = self.brokers.iter().filter(|broker| broker.child.is_some()).map(|broker| broker.port).collect();
        let asked = tokio::task::spawn_blocking(move || {
            let until = std::time::Instant::now() + PATIENCE;
            running.iter().all(|port| {
                let address = format!("127.0.0.1:{port}");
                let client: BaseConsumer = ClientConfig::new()
                    .set("bootstrap.servers", address)
                    .set("reconnect.backoff.max.ms", "200")
                    .set("log_level", "0")
                    .create()
                    .unwrap();
                while client.fetch_metadata(None, Duration::from_secs(1)).is_err() {
                    if std::time::Instant::now() > until {
                        return false;
                    }
                }
                true
            })
        });
        assert!(asked.await.unwrap(), "a broker does not answer; {}", self.log());
    }

    /// The broker that leads a partition.
    pub(crate) async fn leader_of(&self, topic: &str, partition: i32) -> usize {
        self.owners_of(topic, partition).await.0
    }

    /// The brokers that have all of a partition.
    pub(crate) async fn in_sync_of(&self, topic: &str, partition: i32) -> Vec<usize> {
        self.owners_of(topic, partition).await.1
    }

    async fn owners_of(&self, topic: &str, partition: i32) -> (usize, Vec<usize>) {
        let (addresses, name) = (self.addresses(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", addresses).create().unwrap();
            let found = client.fetch_metadata(Some(&name), PATIENCE).unwrap();
            let found = found.topics()[0].partitions().iter().find(|found| found.id() == partition).unwrap();
            let at = |id: i32| usize::try_from(id - 1).unwrap();
            (at(found.leader()), found.isr().iter().map(|id| at(*id)).collect())
        });
        asked.await.unwrap()
    }

    /// Ends a broker at once, as a crash would.
    pub(crate) fn kill(&mut self, broker: usize) {
        self.brokers[broker].kill();
    }

    /// Starts a broker again, on what it had written.
    pub(crate) async fn restart(&mut self, broker: usize) {
        self.brokers[broker].start();
        self.ready().await;
    }

    /// The same, and does not wait for it.
    pub(crate) fn start_again(&mut self, broker: usize) {
        self.brokers[broker].start();
    }

    /// Starts all brokers that are down, beginning with one of them.
    pub(crate) async fn restart_missing(&mut self, first: usize) {
        let count = self.brokers.len();
        for at in 0..count {
            let broker = &mut self.brokers[(first + at) % count];
            if broker.child.is_none() {
                broker.start();
            }
        }
        self.ready().await;
    }

    /// Stops a broker where it stands; it neither answers nor closes anything.
    pub(crate) fn freeze(&self, broker: usize) {
        signal(self.brokers[broker].pid(), Signal::STOP);
    }

    /// Lets a frozen broker go on.
    pub(crate) fn thaw(&self, broker: usize) {
        signal(self.brokers[broker].pid(), Signal::CONT);
    }

    /// Asks a broker to end in good order and waits until it has.
    pub(crate) async fn stop(&mut self, broker: usize) {
        signal(self.brokers[broker].pid(), Signal::TERM);
        let ended = async {
            while !self.has_ended(broker) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the broker does not end");
        self.brokers[broker].child = None;
    }

    /// Whether a broker that was started is no longer there.
    pub(crate) fn has_ended(&mut self, broker: usize) -> bool {
        self.brokers[broker].child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    fn log(&self) -> String {
        self.brokers.iter().map(|broker| std::fs::read_to_string(broker.dir.join("broker.log")).unwrap_or_default()).collect()
    }
}

impl Broker {
    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("broker.log")).unwrap();
        let mut command = java("-Xmx256m");
        command.arg(format!("-Djdk.net.hosts.file={}", self.dir.join("hosts").display()));
        command.arg("kafka.Kafka").arg(self.dir.join("server.properties"));
        self.child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker is down").id()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether as many copies of everything are in sync as can be.
fn are_in_sync(metadata: &Metadata, running: usize) -> bool {
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions.all(|partition| partition.isr().len() == partition.replicas().len().min(running))
}

/// Where a broker finds the others behind a network.
pub(crate) fn loopback_of(broker: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(127, 0, 0, 11 + u8::try_from(broker).unwrap())
}

impl Setup {
    fn properties_of(&self, broker: usize, dir: &Path) -> String {
        let brokers = self.listens.len();
        let in_sync = brokers.saturating_sub(1).max(1);
        let (peer, doors) = self.doors.as_ref().map_or(("127.0.0.1", &self.listens), |doors| (PEER, doors));
        let voters: Vec<String> = (1..).zip(doors).map(|(id, door)| format!("{id}@{peer}:{}", door.controller)).collect();
        let Ports { client, replication, controller } = self.listens[broker];
        let door = doors[broker];
        let secure = self.secure.map(|port| format!(",SECURE://127.0.0.1:{port}")).unwrap_or_default();
        let data = self.data.clone().filter(|_| broker == 0).unwrap_or_else(|| dir.join("data"));
        format!(
            "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
listeners=CLIENT://127.0.0.1:{client},REPLICATION://127.0.0.1:{replication},CONTROLLER://127.0.0.1:{controller}{secure}
advertised.listeners=CLIENT://127.0.0.1:{},REPLICATION://{peer}:{},CONTROLLER://{peer}:{}{secure}
controller.listener.names=CONTROLLER
inter.broker.listener.name=REPLICATION
listener.security.protocol.map=CLIENT:PLAINTEXT,REPLICATION:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
log.dirs={}
metadata.log.dir={}
offsets.topic.replication.factor={brokers}
offsets.topic.num.partitions=4
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
unclean.leader.election.enable=false
{}
",
            broker + 1,
            voters.join(","),
            door.client,
            door.replication,
            door.controller,
            data.display(),
            dir.join("metadata").display(),
            self.properties,
        )
    }
}
