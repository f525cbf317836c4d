//! The composition root: the only module that sees all others.
//!
//! [`cycle`] knows the order of the stages and decides; [`task`] is the shell around it that journals, then acts;
//! [`wiring`] builds everything from the settings; `lifecycle` watches over it; [`handle`] is what HTTP sees.

mod account;
pub mod approvals;
mod belief;
pub mod board;
mod builtin;
pub mod cycle;
mod draft;
mod drills;
mod episodes;
mod executor;
mod forecasts;
pub mod handle;
pub mod healer;
mod holds;
pub mod hooks;
mod intake;
mod ledger;
mod lifecycle;
mod maintenance;
mod notify;
mod past;
mod points;
mod points_log;
pub mod preflight;
mod publisher;
mod reconciler;
mod recommended;
mod recovery;
mod report;
mod restart;
pub(crate) mod reverse;
mod roots;
mod sender;
mod storm;
mod supervisor;
pub mod task;
pub mod tasks;
pub mod wiring;
pub mod workspace;
mod world;

#[cfg(test)]
mod tests;
