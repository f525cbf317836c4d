//! Clients of other programs, shared by whoever speaks to them: one file per program.
//!
//! **Invariant:** a client asks and tells, bounded in time and size; it decides nothing and remembers nothing.

pub mod alertmanager;
pub mod docker;
pub mod freqtrade;
pub mod named;
pub mod systemd;
