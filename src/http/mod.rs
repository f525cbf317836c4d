//! The HTTP side: listener, limits, credentials, routes.

use std::net::SocketAddr;

/// Where and how to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses; default `127.0.0.1:19913`. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The address under which people reach us, for links; `None` uses relative links.
    pub external_url: Option<String>,
    /// Path of the metrics page; default `/metrics`.
    pub telemetry_path: String,
    /// Bearer tokens for changing requests from off loopback; none means loopback only.
    pub bearer_tokens: Vec<String>,
    /// Largest body in bytes; default 8 MiB.
    pub body_max: usize,
    /// Connections at once; default 1024.
    pub connections_max: usize,
}
