//! The HTTP side: listener, limits, credentials, routes.
//!
//! ```text
//!  socket -> server (limits, time-outs, TLS) -> guard (who may ask for it) -> router -> Handle (everything else)
//! ```
//!
//! In: requests. Out: answers; alerts and changes go through [`Handle`], the only way to the rest of chiron.
//! **Invariant:** a request that changes something passes the guard before its body is read; the webhook answers 2xx
//! only after [`Handle::accept`] said so.

mod accept;
mod access;
mod allow;
mod api;
mod body;
mod certificate;
mod control;
mod credentials;
mod crowd;
mod door;
mod gate;
mod guard;
mod handle;
mod identify;
mod live;
mod metrics;
mod need;
mod page;
mod paging;
mod pool;
mod problem;
mod query;
mod rate;
mod router;
mod server;
mod settings;
mod shares;
mod signature;
mod socket;
mod tls;
mod web_config;
mod webhook;

#[cfg(test)]
mod tests;

pub use door::AccessControl;
pub use gate::{GateAnswer, gate};
pub use handle::{Handle, PageFormat, Refusal, WantedRuns};
pub use need::Group;
pub use server::{Error, Server, bind, bind_with};
pub use settings::{NamedToken, RateLimit, Settings, Signing};
pub use web_config::check as check_web_config;
pub use webhook::{ParseNotification, REFUSALS};
