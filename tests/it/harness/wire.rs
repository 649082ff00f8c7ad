//! A wire to a server that can be made slow: late, and narrow.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How slow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// How late each piece comes, either way.
    pub(crate) delay: Duration,
    /// Most bytes a second, of each connection and way; 0 for no limit.
    pub(crate) bytes_per_s: u32,
}

/// Passes everything on, at its pace. Ends with the test.
pub(crate) struct Wire {
    address: String,
    pace: Arc<watch::Sender<Pace>>,
    _passing: JoinSet<()>,
}

impl Wire {
    /// To the server at `address`, as fast as can be.
    pub(crate) async fn start(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let pace = Arc::new(watch::Sender::new(Pace::default()));
        let asked = Arc::clone(&pace);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (address, pace) = (address.clone(), asked.subscribe());
                // Either side may go at any time.
                connections.spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = TcpStream::connect(address).await?.into_split();
                    tokio::select! {
                        ended = pump(&mut from_client, &mut to_server, pace.clone()) => ended,
                        ended = pump(&mut from_server, &mut to_client, pace) => ended,
                    }
                });
            }
        });
        Self { address: own, pace, _passing: passing }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn set(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut pace: watch::Receiver<Pace>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 14];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let Pace { delay, bytes_per_s } = *pace.borrow_and_update();
        let width = Duration::from_secs(read as u64).checked_div(bytes_per_s).unwrap_or_default();
        // Whatever waits goes on at once when the pace changes.
        let _ = tokio::time::timeout(delay + width, pace.changed()).await;
        to.write_all(&bytes[..read]).await?;
    }
}
