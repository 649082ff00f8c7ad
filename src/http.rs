//! The HTTP listener and what every role's routes share.
//!
//! Owns connections, their limits and their end; capped bodies; errors as answers. Promises: a request that was read
//! is answered; what a client sends can cost no more than the limits say; a panic in one request is that request's 500.
//! Errors are `{"code","message","requestId"}`, with `error` and `detail` beside them for the clients that read those.

pub mod body;
pub mod budget;
mod client_ip;
mod connection_limit;
pub mod file;
pub mod of_file;
pub mod overload;
mod proxy_protocol;
pub mod respond;
pub mod server;
mod stream;
mod tls;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;
use serde::{Deserialize, Serialize};

use self::client_ip::{ForwardedHeader, Proxies};
use self::tls::TlsConfig;

pub use self::client_ip::Peer;
pub use self::connection_limit::client as client_network;

/// `[http]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; port 0 picks a free one.
    pub listen: String,
    /// Address and port of health checks and metrics, which are then not at [`Self::listen`] any more; empty: they are there.
    pub operations_listen: String,
    /// Longest time for the headers of a request.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Longest time for the whole body of a request.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Longest time for which a client takes nothing of its answer; one that takes less than a least rate has as long altogether.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Connections held at a time; beyond them only health checks are answered.
    pub max_connections: usize,
    /// Connections of one client, which is an address or a network of IPv6; trusted proxies have as many as they like.
    pub max_connections_per_client: usize,
    /// Bytes of request bodies held at a time, of all requests together; more is answered with 503.
    #[serde(with = "crate::byte_size")]
    pub max_body_memory: usize,
    /// Addresses or networks (`10.0.0.0/8`) of proxies that are believed when they say who is behind them.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it: `x-forwarded-for` or `forwarded`. The other one may be of anybody.
    pub forwarded_header: String,
    /// Whether they begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The header in which they say who is signed in with them; empty: nobody is asked.
    pub user_header: String,
    /// `[http.tls]`
    pub tls: TlsConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            operations_listen: String::new(),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            max_body_memory: 64 << 20,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default().as_str().to_owned(),
            proxy_protocol: false,
            user_header: String::new(),
            tls: TlsConfig::default(),
        }
    }
}

impl HttpConfig {
    /// Checks what can be checked before the listener is bound.
    pub fn check(&self) -> Result<(), String> {
        self.proxies()?;
        self.tls.check()?;
        self.check_addresses()?;
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err("http.proxy_protocol: it is that of http.trusted_proxies, which names none".to_owned());
        }
        if !self.user_header.is_empty() && self.trusted_proxies.is_empty() {
            return Err("http.user_header: it is believed of http.trusted_proxies, which names none".to_owned());
        }
        let positive = [
            ("max_connections", self.max_connections),
            ("max_connections_per_client", self.max_connections_per_client),
            ("max_body_memory", self.max_body_memory),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("http.{key}: 0 would accept nobody")),
            None => Ok(()),
        }
    }

    /// Refuses what is no address, and two listeners at one.
    fn check_addresses(&self) -> Result<(), String> {
        let listen = self.address()?;
        let operations = self.operations().map(|apart| apart.address()).transpose()?;
        let tls = self.tls_address()?;
        let others = [
            ("http.operations_listen", operations, Some(listen)),
            ("http.tls.listen", tls, Some(listen)),
            ("http.tls.listen", tls, operations),
        ];
        // Of port 0 each gets another one.
        let is_taken = |own: Option<SocketAddr>, other: Option<SocketAddr>| own == other && own.is_some_and(|address| address.port() != 0);
        match others.into_iter().find(|(_, own, other)| is_taken(*own, *other)) {
            Some((key, Some(address), _)) => Err(format!("{key}: another listener of [http] has `{address}`")),
            _ => Ok(()),
        }
    }

    /// The address to listen on.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listen.parse().map_err(|_| format!("{}: `{}` is not an address and port", self.key(), self.listen))
    }

    /// Whether its certificate can be served with.
    ///
    /// # Errors
    /// The key of the setting, and what is wrong with its file.
    pub fn check_files(&self) -> Result<(), String> {
        if self.tls.is_on() { tls::Tls::open(&self.tls).map(drop) } else { Ok(()) }
    }

    /// The same for the listener of operations, if they have one of their own: what crowds the other one does not keep probes out.
    pub fn operations(&self) -> Option<Self> {
        (!self.operations_listen.is_empty()).then(|| Self {
            listen: self.operations_listen.clone(),
            proxy_protocol: false,
            tls: TlsConfig::default(),
            ..self.clone()
        })
    }

    /// The address of the encrypted listener, if there is one.
    fn tls_address(&self) -> Result<Option<SocketAddr>, String> {
        let listen = &self.tls.listen;
        let parse = || listen.parse().map_err(|_| format!("http.tls.listen: `{listen}` is not an address and port"));
        self.tls.is_on().then(parse).transpose()
    }

    /// The key that says where to listen.
    fn key(&self) -> &'static str {
        if !self.listen.is_empty() && self.listen == self.operations_listen { "http.operations_listen" } else { "http.listen" }
    }

    /// What one request may be sure to get of [`Self::max_body_memory`] while nobody else wants it, bytes.
    pub fn largest_body(&self) -> usize {
        budget::Budget::largest(self.max_body_memory)
    }

    /// The peer at `address`, where the proxies are those of the configuration.
    pub fn peer(&self, address: IpAddr) -> Result<Peer, String> {
        Ok(Peer::new(address, self.proxies()?))
    }

    fn proxies(&self) -> Result<Arc<Proxies>, String> {
        let parse = |text: &String| {
            client_ip::parse_network(text).ok_or_else(|| format!("http.trusted_proxies: `{text}` is neither an address nor a network"))
        };
        let networks = self.trusted_proxies.iter().map(parse).collect::<Result<_, _>>()?;
        let header = ForwardedHeader::parse(&self.forwarded_header)
            .ok_or_else(|| format!("http.forwarded_header: `{}` is neither `x-forwarded-for` nor `forwarded`", self.forwarded_header))?;
        let named = |name: &str| HeaderName::try_from(name).map_err(|_| format!("http.user_header: `{name}` is no name of a header"));
        let user = Some(&*self.user_header).filter(|name| !name.is_empty()).map(named).transpose()?;
        Ok(Arc::new(Proxies { networks, header, user }))
    }
}

/// Names a request in answers and logs.
fn request_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
