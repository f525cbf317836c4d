//! A simulated platform on loopback, for `chiron demo` and for the tests.
//!
//! In: a folder. Out: a workspace as a bot of profile `quantum` keeps it ([`create_workspace`]), and a process that
//! keeps it fresh ([`bot::run`]) and can be killed.
//! **Invariant:** nothing here knows of the engine; a demo is healed by the real one or not at all.

pub mod bot;
mod workspace;

pub use workspace::{MODEL_FILES, STATE_NAMES, create_workspace, reference_workspace};
