//! The HTTP listener and what every role's routes share.
//!
//! Owns connections, their limits and their end; capped bodies; errors as answers; keys. Promises: a request that was read
//! is answered; what a client sends can cost no more than the limits say; a panic in one request is that request's 500.
//! Errors are `{"code","message","requestId"}`, with `error` and `detail` beside them for the clients that read those.

pub mod body;
pub mod keys;
mod peer;
pub mod respond;
pub mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::peer::Network;
pub use self::peer::Peer;

/// `[http]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; port 0 picks a free one.
    pub listen: String,
    /// Longest time for the headers of a request.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Longest time for the whole body of a request.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Connections held at a time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Addresses or networks (`10.0.0.0/8`) of proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            max_connections: 10_000,
            trusted_proxies: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Checks what can be checked before the listener is bound.
    pub fn check(&self) -> Result<(), String> {
        self.address()?;
        self.proxies()?;
        if self.max_connections == 0 {
            return Err("http.max_connections: 0 would accept nobody".to_owned());
        }
        Ok(())
    }

    /// The address to listen on.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listen.parse().map_err(|_| format!("http.listen: `{}` is not an address and port", self.listen))
    }

    fn proxies(&self) -> Result<Arc<[Network]>, String> {
        let parse =
            |text: &String| text.parse().map_err(|()| format!("http.trusted_proxies: `{text}` is neither an address nor a network"));
        self.trusted_proxies.iter().map(parse).collect()
    }
}
