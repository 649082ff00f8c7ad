//! A network between pulse and a ClickHouse server that can be told to fail at the one moment that matters.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PATIENCE, POLL};

/// After an answer has begun, no more of it comes after this long.
const QUIET: Duration = Duration::from_millis(300);

/// What happens to the next insert of a block of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It stops on its way and goes on this much later, whether pulse still waits or not.
    Stall(Duration),
    /// It is done, and the connection breaks before the answer.
    LoseAnswer,
}

/// Passes on everything else. Ends with the test.
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
    _passing: JoinSet<()>,
}

#[derive(Default)]
struct State {
    next: Mutex<Option<Fault>>,
    answers: Mutex<Vec<String>>,
}

impl Proxy {
    /// In front of the server at `address`.
    pub(crate) async fn start(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (address, state) = (address.clone(), Arc::clone(&shared));
                // Either side may go at any time.
                connections.spawn(async move { pass(client, TcpStream::connect(address).await?, &state).await });
            }
        });
        Self { url, state, _passing: passing }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether an insert came since the last fault was told.
    pub(crate) fn has_struck(&self) -> bool {
        self.state.next.lock().unwrap().is_none()
    }

    /// Lets the next insert fail, and returns what the server answered to it.
    pub(crate) async fn strike(&self, fault: Fault) -> String {
        let before = self.state.answers.lock().unwrap().len();
        *self.state.next.lock().unwrap() = Some(fault);
        let struck = async {
            loop {
                if let Some(answer) = self.state.answers.lock().unwrap().get(before) {
                    return answer.clone();
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, struck).await.expect("no insert came")
    }
}

/// Whether a request is begun that inserts events; ties of ids, which no fence guards, are inserted too.
fn is_insert(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    has(b"FORMAT+Native") && has(b"events") && !has(b"identities")
}

async fn pass(mut client: TcpStream, mut server: TcpStream, state: &State) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut loses_answer = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                match is_insert(bytes).then(|| state.next.lock().unwrap().take()).flatten() {
                    Some(Fault::Stall(pause)) => {
                        let answer = stall(bytes, (&mut client, &mut server), pause).await?;
                        state.answers.lock().unwrap().push(answer.clone());
                        client.write_all(answer.as_bytes()).await?;
                    }
                    fault => {
                        loses_answer |= fault.is_some();
                        server.write_all(bytes).await?;
                    }
                }
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                if loses_answer {
                    state.answers.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
                    return Ok(());
                }
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// Hands over what has come of a request but for a byte, the rest of it after `pause`, and returns the answer.
async fn stall(first: &[u8], (client, server): (&mut TcpStream, &mut TcpStream), pause: Duration) -> std::io::Result<String> {
    let until = Instant::now() + pause;
    let (now, later) = first.split_at(first.len() - 1);
    server.write_all(now).await?;
    let mut rest = later.to_vec();
    while let Ok(read) = tokio::time::timeout_at(until, client.read_buf(&mut rest)).await {
        if read? == 0 {
            tokio::time::sleep_until(until).await;
        }
    }
    server.write_all(&rest).await?;
    let mut answer = Vec::new();
    // An error comes in pieces, of which the last is not marked.
    while let Ok(read) = tokio::time::timeout(QUIET, server.read_buf(&mut answer)).await {
        if read? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
