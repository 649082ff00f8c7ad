//! A real ClickHouse cluster on this machine: servers of one replica each, with an own configuration and own users.
//!
//! The engine library is one such server in a process of its own: HTTP and native protocol, `remote_servers`, users with no more
//! rights than the configuration asks for. What it lacks is Keeper (no server, no client) and the port on which replicas fetch
//! parts from each other, so replicated tables cannot run here.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use pulse::clickhouse::engine::{EngineConfig, find_library};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, Client, Statement};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::ports::free_port;
use super::{PATIENCE, POLL, program, signal};

/// Its name in `remote_servers`.
const NAME: &str = "main";
/// The password of the user who inserts, as long as no test changes it.
pub(crate) const PASSWORD: &str = "written";

/// A cluster. Its servers end with it.
pub(crate) struct Cluster {
    servers: Vec<Server>,
    dir: TempDir,
}

struct Server {
    running: Option<(Child, ChildStdin)>,
    http: u16,
    tcp: u16,
    dir: PathBuf,
    admin: Client,
}

impl Cluster {
    /// Starts a cluster of `shards` servers and waits until all of them answer.
    pub(crate) async fn start(shards: usize) -> Self {
        let mut cluster = Self { servers: Vec::new(), dir: tempfile::tempdir().unwrap() };
        cluster.grow_to(shards).await;
        cluster
    }

    /// Adds empty servers, and tells those that are there, which takes a restart.
    pub(crate) async fn grow_to(&mut self, shards: usize) {
        for shard in self.servers.len()..shards {
            self.servers.push(Server::new(&self.dir.path().join(format!("shard-{shard}"))));
        }
        let ports: Vec<u16> = self.servers.iter().map(|server| server.tcp).collect();
        for server in &mut self.servers {
            server.kill();
            server.configure(&ports);
            server.start();
        }
        for server in &self.servers {
            server.answers().await;
        }
    }

    /// The configuration that makes pulse run on this cluster.
    pub(crate) fn config(&self) -> ClickHouseConfig {
        ClickHouseConfig {
            cluster: NAME.to_owned(),
            shards: self.servers.iter().map(|server| server.url().into()).collect(),
            user: "writer".to_owned(),
            password: PASSWORD.to_owned().into(),
            reader_user: "reader".to_owned(),
            reader_password: "read".to_owned().into(),
            migrator_user: "migrator".to_owned(),
            migrator_password: "migrated".to_owned().into(),
            // So that a server that is frozen is noticed within a test.
            request_timeout: Duration::from_secs(3),
            ..ClickHouseConfig::default()
        }
    }

    /// The same for the first server alone, in the environment.
    pub(crate) fn environment_of_one(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.environment();
        environment.retain(|(name, _)| !matches!(*name, "PULSE__CLICKHOUSE__CLUSTER" | "PULSE__CLICKHOUSE__SHARDS"));
        environment.push(("PULSE__CLICKHOUSE__URL", self.servers[0].url()));
        environment
    }

    /// The same in the environment, with a log of four partitions.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let config = self.config();
        vec![
            ("PULSE__CLICKHOUSE__CLUSTER", config.cluster),
            ("PULSE__CLICKHOUSE__SHARDS", config.shards.iter().map(|shard| &**shard).collect::<Vec<_>>().join(",")),
            ("PULSE__CLICKHOUSE__USER", config.user),
            ("PULSE__CLICKHOUSE__PASSWORD", config.password.reveal().to_owned()),
            ("PULSE__CLICKHOUSE__READER_USER", config.reader_user),
            ("PULSE__CLICKHOUSE__READER_PASSWORD", config.reader_password.reveal().to_owned()),
            ("PULSE__CLICKHOUSE__MIGRATOR_USER", config.migrator_user),
            ("PULSE__CLICKHOUSE__MIGRATOR_PASSWORD", config.migrator_password.reveal().to_owned()),
            ("PULSE__CLICKHOUSE__REQUEST_TIMEOUT", format!("{}s", config.request_timeout.as_secs())),
            ("PULSE__LOG__EMBEDDED__PARTITIONS", "4".to_owned()),
        ]
    }

    /// Host and port of a server, as pulse names it.
    pub(crate) fn name(&self, shard: usize) -> String {
        format!("127.0.0.1:{}", self.servers[shard].http)
    }

    /// Runs a statement on one server as its administrator.
    pub(crate) async fn execute(&self, shard: usize, sql: &str) {
        self.servers[shard].admin.execute(&Statement::raw(sql)).await.unwrap_or_else(|problem| panic!("shard {shard}: {sql}: {problem}"));
    }

    /// The administrator of one server, whose statements may fail.
    pub(crate) fn administrator(&self, shard: usize) -> Client {
        self.servers[shard].admin.clone()
    }

    /// Rows of one server's own tables.
    pub(crate) async fn rows<T: DeserializeOwned>(&self, shard: usize, sql: &str) -> Vec<T> {
        self.servers[shard].admin.rows(&Statement::raw(sql)).await.unwrap_or_else(|problem| panic!("shard {shard}: {sql}: {problem}"))
    }

    /// The process of a server.
    #[allow(dead_code, reason = "benches measure it")]
    pub(crate) fn pid(&self, shard: usize) -> u32 {
        self.servers[shard].pid()
    }

    /// Ends a server at once, as a crash would.
    pub(crate) fn kill(&mut self, shard: usize) {
        self.servers[shard].kill();
    }

    /// Starts a server again, on what it had written.
    pub(crate) async fn restart(&mut self, shard: usize) {
        self.servers[shard].start();
        self.servers[shard].answers().await;
    }

    /// The same, and does not wait for it.
    #[allow(dead_code, reason = "not for benches")]
    pub(crate) fn start_again(&mut self, shard: usize) {
        self.servers[shard].start();
    }

    /// Waits until a server answers.
    #[allow(dead_code, reason = "not for benches")]
    pub(crate) async fn answers(&self, shard: usize) {
        self.servers[shard].answers().await;
    }

    /// Starts a server again such that it is killed, by the system and in the middle of the call, at its `number`th rename from
    /// now on, and waits until that has happened. Renames are what makes parts visible.
    pub(crate) async fn restart_to_die_at_rename(&mut self, shard: usize, number: u128) {
        let server = &mut self.servers[shard];
        server.kill();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", "-e"]);
        strace.arg(format!("inject=rename,renameat,renameat2:signal=SIGKILL:when={number}")).arg(program());
        server.start_with(strace);
        let died = async {
            while server.running.as_mut().is_some_and(|(child, _)| child.try_wait().unwrap().is_none()) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, died).await.expect("the server made too few renames");
        server.running = None;
    }

    /// Starts a server again with another password for the user who inserts.
    pub(crate) async fn restart_with_password(&mut self, shard: usize, password: &str) {
        self.servers[shard].kill();
        self.servers[shard].set_password(password);
        self.restart(shard).await;
    }

    /// Stops a server where it stands; it neither answers nor closes anything.
    pub(crate) fn freeze(&self, shard: usize) {
        signal(self.servers[shard].pid(), Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self, shard: usize) {
        signal(self.servers[shard].pid(), Signal::CONT);
    }
}

impl Server {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir(dir).unwrap();
        let (http, tcp) = (free_port(), free_port());
        let config = ClickHouseConfig {
            url: format!("http://127.0.0.1:{http}").into(),
            request_timeout: Duration::from_secs(30),
            ..ClickHouseConfig::default()
        };
        let admin = ClickHouse::new(&config.check().unwrap()).migrator;
        let server = Self { running: None, http, tcp, dir: dir.to_owned(), admin };
        server.set_password(PASSWORD);
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Writes the configuration: a cluster of servers with these native ports.
    fn configure(&self, ports: &[u16]) {
        let shard = |port: &u16| format!("<shard><replica><host>127.0.0.1</host><port>{port}</port></replica></shard>");
        let shards: String = ports.iter().map(shard).collect();
        let config = format!(
            "<clickhouse>
<users_config>{}</users_config>
<http_port>{}</http_port>
<tcp_port>{}</tcp_port>
<remote_servers><{NAME}><secret>theirs</secret>{shards}</{NAME}></remote_servers>
<max_server_memory_usage>1000000000</max_server_memory_usage>
<background_pool_size>2</background_pool_size>
<background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
<merge_tree>
<number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
<number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
<number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
</merge_tree>
</clickhouse>
",
            self.dir.join("users.xml").display(),
            self.http,
            self.tcp,
        );
        std::fs::write(self.dir.join("config.xml"), config).unwrap();
    }

    /// Writes the users. Those of pulse have the rights that `config/pulse.toml` asks for, and no others.
    fn set_password(&self, password: &str) {
        let user = |name: &str, password: &str, profile: &str, grants: &[&str]| {
            let grants: String = grants.iter().map(|grant| format!("<query>GRANT {grant}</query>")).collect();
            let grants = if grants.is_empty() { grants } else { format!("<grants>{grants}</grants>") };
            format!(
                "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>\
                 <profile>{profile}</profile><quota>default</quota>{grants}</{name}>\n"
            )
        };
        let users = [
            user("default", "", "default", &[]),
            user("writer", password, "default", &["SELECT, INSERT ON pulse.*", "SELECT ON system.processes"]),
            user("reader", "read", "reader", &["SELECT ON pulse.*", "SELECT ON pulse_all.*"]),
            user("migrator", "migrated", "default", &["ALL ON pulse.*", "ALL ON pulse_all.*", "TABLE ENGINE ON *"]),
        ];
        let text = format!(
            "<clickhouse><profiles><default/><reader><readonly>1</readonly><use_query_condition_cache>0</use_query_condition_cache></reader></profiles><quotas><default/></quotas>\n\
             <users>\n{}</users></clickhouse>\n",
            users.concat()
        );
        std::fs::write(self.dir.join("users.xml"), text).unwrap();
    }

    fn start(&mut self) {
        self.start_with(Command::new(program()));
    }

    fn start_with(&mut self, mut command: Command) {
        let library = find_library(&EngineConfig::default()).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("server.log")).unwrap();
        command.arg("engine").arg(library).arg("--config-file").arg(self.dir.join("config.xml"));
        command.arg("--path").arg(self.dir.join("data")).args(["--log-level", "warning", "--listen_host", "127.0.0.1"]);
        command.args(["--http_port", &self.http.to_string(), "--tcp_port", &self.tcp.to_string(), "--query"]);
        command.arg("SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT * FROM file('/dev/stdin', LineAsString)");
        let mut child = command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        // It lives as long as its standard input is open.
        let lifeline = child.stdin.take().unwrap();
        self.running = Some((child, lifeline));
    }

    async fn answers(&self) {
        let answer = async {
            while self.admin.execute(&Statement::of("SELECT 1")).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        let log = || std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("clickhouse does not answer: {}", log()));
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server is down").0.id()
    }

    fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
