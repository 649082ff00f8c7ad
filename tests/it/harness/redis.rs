//! A real Redis of the test's own.

use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::ports::free_port;
use super::{PATIENCE, POLL, signal};

/// A running Redis; ends with the test.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
}

impl RedisServer {
    /// Starts Redis with more arguments, such as `--maxmemory 2mb`.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(port, &arguments, &dir);
        let redis = Self { child, port, arguments, dir };
        redis.answers().await;
        redis
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, with nothing in it.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments, &self.dir);
        self.answers().await;
    }

    /// Stops it in the middle of whatever it does: connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        signal(self.child.id().unwrap(), Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        signal(self.child.id().unwrap(), Signal::CONT);
    }

    async fn answers(&self) {
        let connect = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, connect).await.expect("redis does not answer");
    }
}

fn spawn(port: u16, arguments: &[String], dir: &TempDir) -> Child {
    let started = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .args(arguments)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    started.unwrap_or_else(|problem| panic!("redis-server cannot be started ({problem}): install it, or run `make test`, which does"))
}
