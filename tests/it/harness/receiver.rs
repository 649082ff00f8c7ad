//! Receivers of notices, as far as a test needs them: an HTTP server that answers what it is told to, and a small SMTP server.

#![allow(clippy::disallowed_methods, reason = "a receiver lives as long as its test")]

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::{PATIENCE, POLL};

/// Bytes.
const SEND_BUFFER: u32 = 64 << 10;

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Answers with this status and these header lines.
    Status(u16, &'static str),
    /// Takes the request and never answers.
    Silence,
    /// Takes the request and closes the connection.
    Reset,
    /// Answers 200 with a body that never ends.
    Endless,
    /// Answers 200 at one byte a second.
    Slow,
    /// Answers 200 after a second.
    Late,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// What the notice says.
    pub(crate) fn kind(&self) -> &str {
        self.body["pulse"]["kind"].as_str().unwrap_or_default()
    }
}

/// A receiver. Answers 200 where it is told nothing else.
pub(crate) struct Receiver {
    address: SocketAddr,
    heard: Heard,
    connections: Arc<AtomicUsize>,
}

/// What came, what is to be answered, and how much was of what has no end.
#[derive(Clone, Default)]
struct Heard {
    received: Arc<Mutex<Vec<Received>>>,
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
    endless_bytes: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        Self::start_at(([127, 0, 0, 1], port).into(), None).await
    }

    /// At an address of this machine; what comes is encrypted if there is an acceptor.
    pub(crate) async fn start_at(address: SocketAddr, acceptor: Option<TlsAcceptor>) -> Self {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.set_reuseaddr(true).unwrap();
        // What lies in a buffer tells nothing of what is read.
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.bind(address).unwrap_or_else(|problem| panic!("{address}: {problem}"));
        let listener = socket.listen(1_024).unwrap();
        let (heard, connections) = Default::default();
        let receiver = Self { address: listener.local_addr().unwrap(), heard, connections };
        let heard = receiver.heard.clone();
        let connections = Arc::clone(&receiver.connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (heard, acceptor) = (heard.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, heard).await,
                        // A client may refuse the certificate.
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, heard).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    /// Connections that were made to it, whatever became of them.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How much left it of answers without an end.
    pub(crate) fn endless_bytes(&self) -> usize {
        self.heard.endless_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next requests are answered like this.
    pub(crate) fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.heard.reactions.lock().unwrap().extend(reactions);
    }

    /// What came at a path.
    pub(crate) fn at(&self, path: &str) -> Vec<Received> {
        self.heard.received.lock().unwrap().iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Waits until so many came at a path.
    pub(crate) async fn wait(&self, path: &str, number: usize) -> Vec<Received> {
        self.wait_until(path, number, |received| received).await
    }

    /// Waits until so many notices came at a path, each of which may have come more often: the first of each.
    pub(crate) async fn wait_for_ids(&self, path: &str, number: usize) -> Vec<Received> {
        let of_each = |mut received: Vec<Received>| {
            let mut ids = HashSet::new();
            received.retain(|told| ids.insert(told.header("webhook-id").to_owned()));
            received
        };
        self.wait_until(path, number, of_each).await
    }

    async fn wait_until(&self, path: &str, number: usize, counted: impl Fn(Vec<Received>) -> Vec<Received>) -> Vec<Received> {
        let waiting = async {
            loop {
                let received = counted(self.at(path));
                if received.len() >= number {
                    return received;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{path}: fewer than {number} came: {:#?}", self.at(path)))
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, heard: Heard) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(request) = read_request(&mut stream).await else { return };
        heard.received.lock().unwrap().push(request);
        let reaction = heard.reactions.lock().unwrap().pop_front().unwrap_or(Reaction::Status(200, ""));
        match reaction {
            Reaction::Status(status, headers) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{headers}\r\nok");
                if stream.write_all(head.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Reaction::Late => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n").await;
            }
            Reaction::Slow => {
                for byte in b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n" {
                    if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Reaction::Silence => {
                tokio::time::sleep(PATIENCE).await;
                return;
            }
            Reaction::Reset => return,
            Reaction::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while stream.write_all(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes()).await.is_ok() {
                    heard.endless_bytes.fetch_add(0x1000, Ordering::Relaxed);
                }
                return;
            }
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: Vec<(String, String)> = lines.iter().skip(1).filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let text = String::from_utf8(body).ok()?;
    Some(Received { path, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// A mail server that keeps what it takes. It does not know who is `gone@`, and `late@` takes none before anybody else has one.
pub(crate) struct MailServer {
    port: u16,
    mails: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that speaks TLS from the first byte on, and takes mails of who knows the password alone.
    pub(crate) async fn start_guarded(acceptor: TlsAcceptor, user: &str, password: &str) -> Self {
        Self::start_with(Some((acceptor, STANDARD.encode(format!("\0{user}\0{password}"))))).await
    }

    async fn start_with(guarded: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), mails: Arc::default() };
        let mails = Arc::clone(&server.mails);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mails, guarded) = (Arc::clone(&mails), guarded.clone());
                tokio::spawn(async move {
                    match guarded {
                        None => take_mails(stream, mails, None).await,
                        Some((acceptor, login)) => take_mails(acceptor.accept(stream).await.ok()?, mails, Some(login)).await,
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until so many mails were taken.
    pub(crate) async fn wait(&self, number: usize) -> Vec<String> {
        let waiting = async {
            loop {
                let mails = self.mails.lock().unwrap().clone();
                if mails.len() >= number {
                    return mails;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the mails did not come")
    }
}

/// RFC 5321, as far as a client without extensions goes, and `AUTH PLAIN` (RFC 4954) where a login is asked for.
async fn take_mails<S: AsyncRead + AsyncWrite + Unpin>(stream: S, mails: Arc<Mutex<Vec<String>>>, login: Option<String>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut is_known = login.is_none();
    stream.write_all(b"220 test\r\n").await.ok()?;
    stream.flush().await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let verb = line.split([' ', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" if login.is_some() => b"250-test\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                is_known = line.split_whitespace().nth(2) == login.as_deref();
                if is_known { b"235 known\r\n" } else { b"535 unknown\r\n" }
            }
            "MAIL" if !is_known => b"530 who is there\r\n",
            "RCPT" if line.contains("gone@") => b"550 no such mailbox\r\n",
            "RCPT" if line.contains("late@") && mails.lock().unwrap().is_empty() => b"451 not now\r\n",
            "EHLO" | "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => b"250 ok\r\n",
            "QUIT" => b"221 bye\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                stream.flush().await.ok()?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut mail).await.ok()? == 0 {
                        return None;
                    }
                }
                mails.lock().unwrap().push(mail);
                b"250 taken\r\n"
            }
            _ => b"502 unknown\r\n",
        };
        stream.write_all(answer).await.ok()?;
        stream.flush().await.ok()?;
    }
}
