//! What chiron tells of itself and the platform: log set-up, metrics, exposition.
//!
//! In: counts from the decision task ([`Metrics`]), borrowed facts from the app ([`Page`]), the operator's own `*.prom`
//! files. Out: the page of EXP-1 in text format 0.0.4 or OpenMetrics 1.0.0, and log lines on stderr.
//! **Invariant:** telling never changes what is decided; nothing here fails its caller.

pub mod build;
mod alertmanagers;
mod bindings;
mod bots;
mod counts;
pub mod exposition;
mod family;
pub mod hooks;
pub mod logs;
pub mod metrics;
mod points;
mod tables;
pub mod tasks;
mod text;
mod textfile;
pub mod watching;
pub mod workspace;

#[cfg(test)]
mod tests;

pub use exposition::{Page, render};
pub use metrics::Metrics;
pub use tasks::Progress;
pub use text::PageFormat;
pub use textfile::SampleLine;
pub use watching::Watching;
