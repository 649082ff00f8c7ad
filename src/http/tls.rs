//! TLS: the certificate, its renewal, and the handshake.
//!
//! Promises: new connections get a replaced certificate within seconds, open ones go on; files that cannot be used leave the certificate as
//! it is. A handshake has the time of a head and a bounded size, and counts among what bodies
//! may hold together. May go wrong: both files are replaced one after the other; the pair is taken once it fits.
//!
//! HTTP/2 is not offered. What a client may cost is bounded here by connection: one request at a time, of which a head of so many bytes is
//! read within a time, then a body whose bytes are held against the budget by its one reader, and an answer that must be taken. A connection
//! of HTTP/2 carries many requests, and of these bounds hyper's server keeps those of streams, windows, heads (`max_header_list_size`, with which
//! CONTINUATION frames end) and resets, but not those of time and of what belongs to whom: it knows no deadline for a head whose frames stop, none
//! for an answer behind a window that stays 0 while pings go on (the bytes wait in memory, and the connection moves), no place to count a
//! large head against the budget, and no end of a drain by stream. Each would have to be made here, by stream, below hyper. Clients that send events
//! gain little: their batches are few and one connection carries them. A proxy may speak HTTP/2 with clients and HTTP/1.1 with pulse.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, Claim};
use super::stream::{Capped, Stream};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);
/// Most bytes that a client sends in a handshake: what the largest hello takes several times.
const MAX_HANDSHAKE: usize = 16 << 10;
/// What a handshake holds: that, and our part of it.
const HANDSHAKE_MEMORY: usize = 2 * MAX_HANDSHAKE;
/// Largest file.
const MAX_FILE: u64 = 1 << 20;

/// `[http.tls]` as written in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Address and port of the encrypted listener; empty: there is none.
    pub listen: String,
    /// Path of the certificate and those between it and the authority, PEM.
    pub certificate: String,
    /// Path of its key, PEM.
    pub key: String,
}

impl TlsConfig {
    /// Whether there is such a listener.
    pub(super) fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let mut files = [("certificate", &self.certificate), ("key", &self.key)].into_iter();
        // Files without a listener: somebody takes for encrypted what is not.
        match files.find(|(_, path)| path.is_empty() == self.is_on()) {
            Some((key, _)) if self.is_on() => Err(format!("http.tls.{key}: http.tls.listen needs it")),
            Some((key, path)) => Err(format!("http.tls.{key}: `{path}` is for http.tls.listen, which names no address")),
            None => Ok(()),
        }
    }
}

/// What an encrypted listener needs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Errors: name the key of the configuration and what is wrong with its file.
    pub(super) fn open(config: &TlsConfig) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let files = Files::read(config)?;
        let shown = RwLock::new(Shown { key: Arc::new(files.certified(config, &provider)?), files });
        let certificate = Arc::new(Certificate { config: config.clone(), provider: Arc::clone(&provider), shown });
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|problem| format!("http.tls: {problem}"))?;
        let mut server = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), certificate })
    }

    /// Encrypts a connection; `None` if the client is no party to that, or there is no room. It is for the caller to say how long it may take.
    pub(super) async fn accept(&self, stream: TcpStream, budget: &Budget) -> Option<Stream> {
        // As imports, which leave half to bodies.
        let mut share = budget.share(Claim::Import);
        share.hold(HANDSHAKE_MEMORY).ok()?;
        match self.acceptor.accept(Capped::new(stream, MAX_HANDSHAKE)).await {
            Ok(mut stream) => {
                stream.get_mut().0.lift();
                Some(Stream::Tls(Box::new(stream)))
            }
            Err(problem) => {
                tracing::debug!(%problem, "no handshake");
                None
            }
        }
    }

    /// Takes another certificate whenever the files hold one, until asked to stop.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut logged = None;
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            match self.certificate.reload() {
                Ok(true) => {
                    logged = None;
                    tracing::info!("certificate read again");
                }
                Ok(false) => logged = None,
                Err(problem) if logged.as_ref() == Some(&problem) => {}
                Err(problem) => {
                    tracing::error!(%problem, "the certificate stays as it was");
                    logged = Some(problem);
                }
            }
        }
    }
}

/// The certificate that is shown.
#[derive(Debug)]
struct Certificate {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    files: Files,
}

impl Certificate {
    /// Looks at the files; whether they hold another certificate, which is shown from now on.
    fn reload(&self) -> Result<bool, String> {
        let files = Files::read(&self.config)?;
        if self.shown.read().unwrap_or_else(PoisonError::into_inner).files == files {
            return Ok(false);
        }
        let key = Arc::new(files.certified(&self.config, &self.provider)?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Shown { key, files };
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

/// The contents of both files.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, String> {
        let read = |key: &str, path: &str| {
            let fail = |problem: String| format!("http.tls.{key}: `{path}`: {problem}");
            let size = std::fs::metadata(path).map_err(|problem| fail(problem.to_string()))?.len();
            if size > MAX_FILE {
                return Err(fail(format!("{size} bytes are no {key}")));
            }
            std::fs::read(path).map_err(|problem| fail(problem.to_string()))
        };
        Ok(Self { certificate: read("certificate", &config.certificate)?, key: read("key", &config.key)? })
    }

    fn certified(&self, config: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let TlsConfig { certificate, key, .. } = config;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|problem| format!("http.tls.certificate: `{certificate}`: {problem}"))?;
        if chain.is_empty() {
            return Err(format!("http.tls.certificate: `{certificate}` holds no certificate"));
        }
        let of_key = |problem: String| format!("http.tls.key: `{key}`: {problem}");
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|problem| of_key(problem.to_string()))?;
        CertifiedKey::from_der(chain, private, provider).map_err(|problem| of_key(problem.to_string()))
    }
}
