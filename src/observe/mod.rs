//! Stage 1: facts in. Checks read, then judge; the runner schedules them; the profile names the built-in subsystems.
//!
//! In: files, sockets, processes. Out: [`Observation`]s, in a bounded channel to the decision task.

pub mod access;
pub mod age;
pub mod bot;
pub mod check;
pub mod checks;
pub mod failure_points;
pub mod inbox;
mod pace;
pub mod params;
mod pool;
pub mod probes;
pub mod profile;
pub mod resources;
pub mod runner;
pub mod threshold;
pub mod vitals;
mod watch;

use crate::model::{Health, Resources};

/// One fact from the runner.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A check's health; `error_count` is still 0 and the status never `Failed`: both are detection's to fill in.
    Health {
        /// Index of the subsystem in the settings.
        index: usize,
        /// What the check found.
        health: Health,
    },
    /// The host.
    Resources(Resources),
}
