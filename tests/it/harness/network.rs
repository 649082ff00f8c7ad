//! A network between brokers, and between them and their clients, whose lines can be cut: what is sent is neither delivered nor
//! refused, and comes late once the line is whole again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::kafka::{Ports, Setup, loopback_of};

/// What a line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Requests of clients.
    Clients,
    /// Copies, which a follower fetches from its leader.
    Replication,
    /// What brokers ask the controller, and controllers each other.
    Control,
}

/// The way from one broker, or from all clients, to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The broker that calls; `None` for clients.
    pub(crate) from: Option<usize>,
    pub(crate) to: usize,
    pub(crate) carries: Carries,
}

impl Line {
    /// Whether it joins a broker to anyone else.
    pub(crate) fn reaches(&self, broker: usize) -> bool {
        (self.to == broker) != (self.from == Some(broker))
    }
}

/// The network. Ends with the test.
pub(crate) struct Network {
    listens: Vec<Ports>,
    doors: Vec<Ports>,
    lines: Vec<(Line, Arc<watch::Sender<bool>>)>,
    passing: JoinSet<()>,
}

impl Network {
    /// Between `brokers` brokers that are to be started.
    pub(crate) async fn start(brokers: usize) -> Self {
        let ports = || (0..brokers).map(|_| Ports::free()).collect();
        let mut network = Self { listens: ports(), doors: ports(), lines: Vec::new(), passing: JoinSet::new() };
        for to in 0..brokers {
            let (Ports { client, replication, controller }, door) = (network.listens[to], network.doors[to]);
            network.lay(Line { from: None, to, carries: Carries::Clients }, (door.client, client)).await;
            for from in 0..brokers {
                network.lay(Line { from: Some(from), to, carries: Carries::Replication }, (door.replication, replication)).await;
                network.lay(Line { from: Some(from), to, carries: Carries::Control }, (door.controller, controller)).await;
            }
        }
        network
    }

    /// The brokers that it is between.
    pub(crate) fn setup(&self) -> Setup {
        Setup { listens: self.listens.clone(), doors: Some(self.doors.clone()), ..Setup::default() }
    }

    /// Cuts the lines that are meant, and joins the others.
    pub(crate) fn cut(&self, is_meant: impl Fn(&Line) -> bool) {
        for (line, is_cut) in &self.lines {
            is_cut.send_replace(is_meant(line));
        }
    }

    /// Joins every line.
    pub(crate) fn heal(&self) {
        self.cut(|_| false);
    }

    async fn lay(&mut self, line: Line, (door, broker): (u16, u16)) {
        let address = line.from.map_or(Ipv4Addr::LOCALHOST, loopback_of);
        let listener = TcpListener::bind((address, door)).await.unwrap();
        let is_cut = Arc::new(watch::Sender::new(false));
        self.lines.push((line, Arc::clone(&is_cut)));
        self.passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (caller, _) = listener.accept().await.unwrap();
                // Either side may go at any time.
                connections.spawn(pass(caller, (Ipv4Addr::LOCALHOST, broker).into(), is_cut.subscribe()));
            }
        });
    }
}

async fn pass(caller: TcpStream, broker: SocketAddr, mut is_cut: watch::Receiver<bool>) -> io::Result<()> {
    whole(&mut is_cut).await;
    let broker = TcpStream::connect(broker).await?;
    caller.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let ((from_caller, to_caller), (from_broker, to_broker)) = (caller.into_split(), broker.into_split());
    tokio::try_join!(pump(from_caller, to_broker, is_cut.clone()), pump(from_broker, to_caller, is_cut))?;
    Ok(())
}

/// Passes on what comes, while the line is whole; an error once either side has gone.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut bytes).await?;
        whole(&mut is_cut).await;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

async fn whole(is_cut: &mut watch::Receiver<bool>) {
    // The network ends only with the test.
    let _ = is_cut.wait_for(|is_cut| !is_cut).await;
}
