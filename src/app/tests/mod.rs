//! The decider driven by hand, and by a seeded world with crashes.

mod admission;
mod approvals;
mod failure_points;
mod forecasts;
mod healer;
mod hooks;
mod incidents;
mod ledger;
mod points_bounds;
mod points_healing;
mod random;
mod reverse;
mod shell;
mod sim;
mod storm;
mod supervision;
mod timeline;
mod vitals;
mod watchdog;
