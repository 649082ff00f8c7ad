//! A real Kafka cluster on this machine: one to three brokers that are controllers as well.

use std::path::PathBuf;
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

/// Any cluster id will do: sixteen bytes as Kafka writes them.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A cluster. Its brokers end with it.
pub(crate) struct Kafka {
    brokers: Vec<Broker>,
    _dir: TempDir,
}

struct Broker {
    child: Option<Child>,
    port: u16,
    dir: PathBuf,
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
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> = (1..).zip(&ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
        let mut brokers = Vec::new();
        for (id, (port, controller)) in (1..).zip(&ports) {
            let dir = dir.path().join(format!("broker-{id}"));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("server.properties"), properties((id, *port, *controller), &voters.join(","), &dir)).unwrap();
            let mut format = java("-Xmx128m");
            format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(dir.join("server.properties"));
            let done = format.output().expect("java is missing: install a Java runtime, 17 or later");
            assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            brokers.push(Broker { child: None, port: *port, dir });
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

    /// Ends a broker at once, as a crash would.
    pub(crate) fn kill(&mut self, broker: usize) {
        self.brokers[broker].kill();
    }

    /// Starts a broker again, on what it had written.
    pub(crate) async fn restart(&mut self, broker: usize) {
        self.brokers[broker].start();
        self.ready().await;
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

    fn log(&self) -> String {
        self.brokers.iter().map(|broker| std::fs::read_to_string(broker.dir.join("broker.log")).unwrap_or_default()).collect()
    }
}

impl Broker {
    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("broker.log")).unwrap();
        let mut command = java("-Xmx256m");
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

fn properties((id, port, controller): (usize, u16, u16), voters: &str, dir: &std::path::Path) -> String {
    let brokers = voters.split(',').count();
    let in_sync = brokers.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
offsets.topic.replication.factor={brokers}
offsets.topic.num.partitions=4
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
unclean.leader.election.enable=false
",
        dir.join("data").display()
    )
}
