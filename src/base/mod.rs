//! What every shell module shares: clock, settings tree, bounded files, HTTP client, TLS, secrets, processes, failpoints.
//!
//! Where it sits: above `model`, below `observe`, `execute`, `store`, `publish` and `config`.

pub mod clock;
pub mod failpoint;
pub mod http;
pub mod files;
pub mod procfs;
pub mod redact;
pub mod request;
pub mod secret;
pub mod tls;
pub mod tree;
