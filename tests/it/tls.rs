//! ClickHouse over TLS: the server has none here, so the harness ends it in front of one.

use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::harness::clickhouse::Cluster;
use crate::harness::{Pulse, program};

/// The end of the encrypted way to a server, which ends with the test.
struct Encrypted {
    url: String,
    /// The certificate that it shows, PEM.
    certificate: String,
    _passing: JoinSet<()>,
}

impl Encrypted {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                // A client may refuse the certificate, and either side may go at any time.
                connections.spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut TcpStream::connect(server).await?).await
                });
            }
        });
        Self { url, certificate: made.cert.pem(), _passing: passing }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_known_certificate_is_used_and_another_is_refused() {
    let cluster = Cluster::start(1).await;
    let encrypted = Encrypted::start(cluster.name(0)).await;
    let known = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(known.path(), &encrypted.certificate).unwrap();
    let mut environment = cluster.environment_of_one();
    environment.push(("PULSE__CLICKHOUSE__URL", encrypted.url.clone()));

    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), Encrypted::start(cluster.name(0)).await.certificate).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut migrate = Command::new(program());
    migrate.args(["migrate", "--data-dir"]).arg(dir.path()).envs(environment.clone()).env("SSL_CERT_FILE", other.path());
    let refused = tokio::task::spawn_blocking(move || migrate.output().unwrap()).await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("invalid peer certificate"), "{said}");

    environment.push(("SSL_CERT_FILE", known.path().display().to_string()));
    let pulse = Pulse::start_with(&environment).await;
    pulse.http.capture(&json!({"type": "click", "anonymousId": "ada"})).await;
    assert_eq!(pulse.http.settled().await["stored"], 1);
    assert_eq!(pulse.http.events().await.len(), 1);
    assert!(pulse.stop().await);
}
