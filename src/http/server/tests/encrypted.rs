//! The same listener encrypted, and behind proxies that pass bytes on.

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::http::tls::TlsConfig;

/// A certificate of its own authority, in files.
struct Files {
    dir: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let mut files = Self { dir: tempfile::tempdir().unwrap(), certificate: CertificateDer::from(Vec::new()) };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Replaces both files, one after the other, as an ACME client does.
    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.path("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        self.certificate = made.cert.der().clone();
    }

    fn config(&self) -> HttpConfig {
        let tls = TlsConfig { listen: "127.0.0.1:0".to_owned(), certificate: self.path("certificate.pem"), key: self.path("key.pem") };
        HttpConfig { tls, ..config() }
    }

    /// An encrypted connection, if the server shows this certificate and speaks `protocol`.
    async fn connect(&self, address: SocketAddr, protocol: &str) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

/// Where the plain and the encrypted listener are.
async fn start_both(config: HttpConfig) -> (Running, SocketAddr) {
    let server = Server::bind(&config).await.unwrap();
    let (address, encrypted) = (server.address().unwrap(), server.tls_address().unwrap().unwrap());
    let stop = CancellationToken::new();
    let ended = tokio::spawn(server.serve(routes, stop.clone()));
    (Running { address, stop, ended }, encrypted)
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    stream.write_all(post(path, "", "abc").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = async {
        while !answer.contains('>') {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).await.unwrap();
            assert!(length > 0, "closed after {answer}");
            answer.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer");
    answer
}

#[tokio::test]
async fn a_certificate_is_renewed_and_connections_go_on() {
    let mut files = Files::new();
    let (running, encrypted) = start_both(HttpConfig { header_timeout: PATIENCE, ..files.config() }).await;
    let mut first = files.connect(encrypted, "http/1.1").await.unwrap();
    assert!(ask(&mut first, "/one").await.contains("</one 3>"));
    assert!(ask(&mut first, "/scheme").await.contains("<https 3>"));
    assert!(exchange(&running, post("/scheme", "connection: close\r\n", "abc")).await.contains("<http 3>"));
    assert!(files.connect(encrypted, "h2").await.is_err(), "not offered");

    // A key that is not that of the certificate changes nothing.
    let old = files.certificate.clone();
    let key = std::fs::read(files.path("key.pem")).unwrap();
    files.renew();
    let fresh = files.certificate.clone();
    let renewed = std::fs::read(files.path("key.pem")).unwrap();
    std::fs::write(files.path("key.pem"), key).unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    files.certificate = old;
    assert!(files.connect(encrypted, "http/1.1").await.is_ok());
    std::fs::write(files.path("key.pem"), renewed).unwrap();
    files.certificate = fresh;
    let renewed = async {
        while files.connect(encrypted, "http/1.1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the certificate is not read again");
    assert!(ask(&mut first, "/two").await.contains("</two 3>"), "the connection goes on");
    // A drain closes it properly.
    running.stop.cancel();
    assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
    tokio::time::timeout(PATIENCE, running.ended).await.expect("the listener does not end").unwrap().unwrap();
}

#[tokio::test]
async fn an_encrypted_connection_has_the_limits_of_any() {
    let files = Files::new();
    // Time enough for a handshake on a machine that is busy.
    let (running, encrypted) = start_both(HttpConfig { header_timeout: Duration::from_secs(5), ..files.config() }).await;
    // With the end of the handshake comes more than a handshake may have.
    let mut stream = files.connect(encrypted, "http/1.1").await.unwrap();
    stream.write_all(post("/large", "connection: close\r\n", &"x".repeat(500_000)).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap());
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
    let mut stream = files.connect(encrypted, "http/1.1").await.unwrap();
    let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(40_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap());
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", answer.escape_ascii());
    let mut stream = files.connect(encrypted, "http/1.1").await.unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");

    // What is no handshake, too long a one or one that never ends is closed.
    let large = [b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc".as_slice(), &[0; 100_000]].concat();
    let refused = [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01", b"\x16", &large].map(|bytes| async move {
        let mut stream = TcpStream::connect(encrypted).await.unwrap();
        drop(stream.write_all(bytes).await);
        assert!(!rest_of(&mut stream).await.contains("HTTP"), "{}", bytes[..6.min(bytes.len())].escape_ascii());
    });
    futures_util::future::join_all(refused).await;
    drop(running);
}

#[tokio::test]
async fn handshakes_that_do_not_end_hold_a_bounded_part_of_memory() {
    let files = Files::new();
    // Room for two.
    let (_running, encrypted) = start_both(HttpConfig { max_body_memory: 128 << 10, header_timeout: PATIENCE, ..files.config() }).await;
    let mut held = Vec::new();
    let closed = async {
        loop {
            let mut stream = TcpStream::connect(encrypted).await.unwrap();
            stream.write_all(b"\x16").await.unwrap();
            if tokio::time::timeout(Duration::from_millis(300), stream.read(&mut [0; 1])).await.is_ok() {
                return;
            }
            held.push(stream);
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("handshakes without end");
    assert_eq!(held.len(), 2);
    held.clear();
    let again = async { while files.connect(encrypted, "http/1.1").await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("no room again");
}

#[tokio::test]
async fn a_proxy_that_passes_bytes_on_says_who_is_behind_it_and_nobody_else_may() {
    let proxied = |proxies: &str| HttpConfig {
        trusted_proxies: vec![proxies.to_owned()],
        proxy_protocol: true,
        max_connections_per_client: 2,
        ..config()
    };
    let behind = start_with(proxied("127.0.0.1")).await;
    let request = post("/ip", "connection: close\r\nx-forwarded-for: 6.6.6.6\r\n", "abc");
    let with = |header: &str| format!("{header}{request}");
    assert!(exchange(&behind, with("PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n")).await.contains("<203.0.113.7 3>"));
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x08\x0a\0\0\x01\0\x01\0\x02".as_slice();
    assert!(exchange(&behind, [version_2, request.as_bytes()].concat()).await.contains("<203.0.113.8 3>"));
    // The proxy speaks for itself, and its header is read as ever.
    assert!(exchange(&behind, with("PROXY UNKNOWN\r\n")).await.contains("<6.6.6.6 3>"));
    assert_eq!(exchange(&behind, &request).await, "", "no header");
    assert_eq!(exchange(&behind, with("PROXY TCP4 a b c d\r\n")).await, "");
    // Connections count as those of the client.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(behind.address).await.unwrap();
        stream.write_all(format!("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n{}", post("/ip", "", "abc")).as_bytes()).await.unwrap();
        read_until(&mut stream, "<203.0.113.9 3>").await;
        held.push(stream);
    }
    assert_eq!(exchange(&behind, with("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n")).await, "");
    assert!(exchange(&behind, with("PROXY TCP4 203.0.113.10 10.0.0.1 1 2\r\n")).await.contains("<203.0.113.10 3>"));
    drop(held);
    // A stranger's header is no request.
    let stranger = start_with(proxied("10.0.0.0/8")).await;
    assert!(exchange(&stranger, with("PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n")).await.starts_with("HTTP/1.1 400"));
    assert!(exchange(&stranger, &request).await.contains("<127.0.0.1 3>"));
}
