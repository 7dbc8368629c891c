//! The bounds of the HTTP listener.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cors::Origins;
use super::hosts::Hosts;

/// Settings of the HTTP listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// How many connections there may be; beyond that, those that nothing is asked on give way.
    pub connections_max: usize,
    /// How many of one client's address.
    pub connections_per_peer_max: usize,
    /// The longest body. A value may take six bytes of JSON for each of its own.
    pub body_bytes_max: usize,
    /// How long a client may take to send a request's headers, and how long a connection may be silent.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// How long a client may take to read a reply.
    pub reply_timeout: Duration,
    /// Which web pages may call from browsers: origins such as `https://console.example.com`, with commas between them,
    /// or `*` for all; empty: none.
    pub cors_origins: String,
    /// The names that the listener answers to, with commas between them and without ports. On a loopback address these
    /// are beside localhost; elsewhere, empty: all.
    pub host_names: String,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            connections_per_peer_max: 800,
            body_bytes_max: 8 * 1024 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(30),
            cors_origins: String::new(),
            host_names: String::new(),
        }
    }
}

impl HttpSettings {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// When there is such a key.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        Origins::new(&self.cors_origins).map_err(|problem| ("http.cors_origins", problem))?;
        Hosts::new(Ipv4Addr::LOCALHOST.into(), &self.host_names)
            .map(drop)
            .map_err(|problem| ("http.host_names", problem))
    }
}
