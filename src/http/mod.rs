//! The HTTP side: listener, limits, credentials, routes.
//!
//! ```text
//!  socket -> server (limits, time-outs) -> guard (who may change things) -> router -> Handle (everything else)
//! ```
//!
//! In: requests. Out: answers; alerts and changes go through [`Handle`], the only way to the rest of chiron.
//! **Invariant:** a request that changes something passes the guard before its body is read; the webhook answers 2xx
//! only after [`Handle::accept`] said so.

mod access;
mod api;
mod body;
mod control;
mod gate;
mod guard;
mod handle;
mod need;
mod page;
mod pool;
mod problem;
mod push;
mod router;
mod server;
mod socket;
mod webhook;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use access::AccessControl;
pub use gate::{GateAnswer, gate};
pub use handle::{Handle, PageFormat, Refusal};
pub use need::Group;
pub use server::{Error, Server, bind, bind_with};
pub use webhook::ParseNotification;

/// Where and how to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses; default `127.0.0.1:19913`. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The address under which people reach us; its host is taken in the Host header of changing requests.
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
