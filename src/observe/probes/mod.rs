//! The I/O that checks share. Probes report what is there; they never judge.

pub mod folder;
pub mod get;
pub mod handshake;
pub mod page;
pub mod peer;
pub mod perfdata;
pub mod polled;
pub mod process;
pub mod restarts;
pub mod series;
pub mod shown;
pub mod sqlite;
pub mod state_file;
pub mod websocket;
