//! The registry of rules; one file per issue type.

mod bot;
mod bot_exchange;
mod bot_loop;
mod bot_process;
mod bot_strategy;
mod cpu_pressure;
mod disk_forecast;
mod disk_pressure;
mod error_rate_forecast;
pub(super) mod failure_point;
mod high_latency;
mod latency_forecast;
mod memory_forecast;
mod memory_pressure;
mod rate_limit_critical;
mod subsystem_status;
mod update_interval_forecast;
mod websocket_data_stale;
mod websocket_disconnected;

use crate::model::{Criticality, EpisodeKey, HOST, Issue, IssueSource, Name, Quantity, Severity, Timestamp};

use super::{RuleSpec, Subject, Verdict, trends};

pub use subsystem_status::KIND as SUBSYSTEM_STATUS;

/// Every rule: that of subsystems first, then those of the host, then those of vitals alone, which is also detection order.
pub const RULES: [&RuleSpec; 12] = [
    &subsystem_status::SPEC,
    &cpu_pressure::SPEC,
    &memory_pressure::SPEC,
    &disk_pressure::SPEC,
    &websocket_disconnected::SPEC,
    &websocket_data_stale::SPEC,
    &rate_limit_critical::SPEC,
    &high_latency::SPEC,
    &bot_process::SPEC,
    &bot_loop::SPEC,
    &bot_exchange::SPEC,
    &bot_strategy::SPEC,
];

/// The rules of vitals.
const VITALS: &[&RuleSpec] = &[
    &websocket_disconnected::SPEC,
    &websocket_data_stale::SPEC,
    &rate_limit_critical::SPEC,
    &high_latency::SPEC,
    &memory_pressure::SPEC,
    &bot_process::SPEC,
    &bot_loop::SPEC,
    &bot_exchange::SPEC,
    &bot_strategy::SPEC,
];

/// The rules of what is expected (OBS-10).
pub const FORECASTS: [&RuleSpec; 5] = [
    &disk_forecast::SPEC,
    &memory_forecast::SPEC,
    &latency_forecast::SPEC,
    &error_rate_forecast::SPEC,
    &update_interval_forecast::SPEC,
];

/// The rules that look at such a subject.
pub fn of(subject: Subject<'_>) -> &'static [&'static RuleSpec] {
    match subject {
        Subject::Subsystem { .. } => &RULES[..1],
        Subject::Host { .. } => &RULES[1..4],
        Subject::Vitals { .. } => VITALS,
        Subject::FailurePoint { .. } => &[],
        Subject::Forecast { .. } => &FORECASTS,
    }
}

/// Whether an issue of that type, told from a bot's vitals, is what makes its subsystem critical. Latency, memory and the
/// rate limit of one symbol are issues beside a status that they leave alone.
pub fn breaks_a_subsystem(kind: &str) -> bool {
    [
        &websocket_disconnected::SPEC,
        &websocket_data_stale::SPEC,
        &bot_process::SPEC,
        &bot_loop::SPEC,
        &bot_exchange::SPEC,
    ]
    .iter()
    .any(|rule| rule.kind == kind)
}

/// Whether issues of that type are told from a bot's vitals.
pub fn is_of_vitals(kind: &str) -> bool {
    VITALS.iter().any(|rule| rule.kind == kind)
}

/// The verdict on a quantity that is followed: what is expected of it, or that nothing is.
fn forecast(quantity: Quantity, subject: Subject<'_>, now: Timestamp) -> Verdict {
    let Subject::Forecast { subsystem, forecasts, learnt } = subject else { return Verdict::Unknown };
    match trends::issue(quantity, subsystem, forecasts, now) {
        None if !learnt => Verdict::Unknown,
        found => found.into(),
    }
}

/// An issue of the host, which affects every subsystem.
fn host_issue(
    kind: &'static str,
    severity: Severity,
    impacts_trading: bool,
    description: String,
    all: &[Name],
    now: Timestamp,
) -> Issue {
    Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: HOST.into(), symbol: None, kind: kind.into() },
        severity,
        timestamp: now,
        symptoms: vec![description.clone()],
        description,
        root_cause: None,
        impacts_trading,
        affects_subsystems: all.to_vec(),
        source: IssueSource::Check,
    }
}

/// An issue that a bot's vitals tell of, of one symbol or of the bot; none for another subject.
fn vitals_issue(
    subject: &Subject<'_>,
    kind: &'static str,
    symbol: Option<&Name>,
    severity: Severity,
    describe: impl Fn(&str) -> String,
    symptoms: Vec<String>,
    now: Timestamp,
) -> Vec<Issue> {
    let Subject::Vitals { subsystem, affects, .. } = subject else { return Vec::new() };
    vec![Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: subsystem.name.clone(), symbol: symbol.cloned(), kind: kind.into() },
        severity,
        timestamp: now,
        description: describe(&subsystem.name),
        symptoms,
        root_cause: None,
        // An issue of one symbol restricts that symbol only: the positions of the others are not its matter.
        impacts_trading: subsystem.criticality == Criticality::Full && severity >= Severity::High && symbol.is_none(),
        affects_subsystems: affects.to_vec(),
        source: IssueSource::Vitals,
    }]
}

#[cfg(test)]
mod tests;
