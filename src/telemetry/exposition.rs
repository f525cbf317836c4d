//! The metrics page of EXP-1, rendered by hand from borrowed facts: linear, and without an allocation per series.
//!
//! In: a [`Page`] of what is true now, and [`Metrics`] for what was counted. Out: text format 0.0.4 or OpenMetrics 1.0.0.
//! **Invariant:** one HELP and TYPE per family, no label set twice; both formats have the same samples. Nobody is asked,
//! but for the textfile folder if there is one.

use std::sync::Arc;

use crate::model::{
    CloseScope, Criticality, Forecasts, Health, Level, Name, PolicyDocument, PolicySource, RecommendationState,
    Resources, Status, Vitals,
};

use super::text::{Kind, PageFormat, Text};
use super::{Metrics, build};

/// Perfdata values exported per subsystem; a plugin that prints more is cut.
pub(super) const PERFDATA_MAX: usize = 64;
/// Symbols exported per bot.
const SYMBOLS_MAX: usize = 100;

/// What the page tells, borrowed for the time of one rendering.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Every enabled subsystem's health, with the status that detection gave it.
    pub healths: &'a [Arc<Health>],
    /// Every failure point, also those that are not configured, which are unknown; `subsystem` holds the category.
    pub points: &'a [Arc<Health>],
    /// The criticality of each of `healths`, in the same order.
    pub criticalities: &'a [Criticality],
    /// The overall status (OBS-2).
    pub overall: Status,
    /// Every open recommendation: its action and where it stands.
    pub recommendations: &'a [(Name, RecommendationState)],
    /// The policy in force.
    pub policy: &'a PolicyDocument,
    /// The host; `None` before its first reading.
    pub resources: Option<&'a Resources>,
    /// Every quantity that is followed, and when it is expected to cross its limit.
    pub forecasts: &'a Forecasts,
    /// Nothing is acted upon.
    pub dry_run: bool,
    /// Too much is broken at once: only root causes are acted upon.
    pub stormy: bool,
    /// The maintenance windows of the settings, and whether each is open.
    pub windows: &'a [(Name, bool)],
    /// Announced maintenance in force.
    pub announced: usize,
    /// Started up and replayed.
    pub ready: bool,
    /// Runs that are not yet in a final state.
    pub open_runs: usize,
    /// How far the latest check is behind its schedule, in seconds.
    pub check_lag_seconds: f64,
    /// The number of the journal's latest entry.
    pub journal_seq: u64,
    /// Alerts accepted and not yet taken by the decision task.
    pub intake_pending: u64,
}

/// Appends the whole page to `out`.
pub fn render(page: &Page<'_>, metrics: &Metrics, format: PageFormat, out: &mut Vec<u8>) {
    let begun = metrics.since_boot();
    let mut text = Text::new(format, out);
    build_info(&mut text);
    subsystems(page, metrics, &mut text);
    super::points::render(page.points, &mut text);
    forecasts(page, &mut text);
    recommendations(page, metrics, &mut text);
    policy(page.policy, &mut text);
    restrictions(page.policy, &mut text);
    own_state(page, &mut text);
    if let Some(resources) = page.resources {
        host(resources, &mut text);
    }
    metrics.render(&mut text);
    let took = metrics.since_boot().saturating_sub(begun).as_secs_f64();
    let help = "How long it took to gather and write this page up to here.";
    text.family("chiron_scrape_duration_seconds", Kind::Gauge, help).float(&[], took);
    text.end();
}

fn build_info(text: &mut Text<'_>) {
    let labels = [("version", build::VERSION), ("revision", build::REVISION), ("rustc", build::RUSTC)];
    text.family("chiron_build_info", Kind::Gauge, "Which chiron this is; always 1.").flag(&labels, true);
}

fn subsystems(page: &Page<'_>, metrics: &Metrics, text: &mut Text<'_>) {
    let help = "The worst status under the criticality cap: 1 for the present one.";
    let mut family = text.family("chiron_overall_status", Kind::Gauge, help);
    for status in Status::ALL {
        family.flag(&[("status", status.as_str())], status == page.overall);
    }
    if page.healths.is_empty() {
        return;
    }
    let help = "The status of a subsystem: 1 for the present one.";
    let mut family = text.family("chiron_subsystem_status", Kind::Gauge, help);
    for health in page.healths {
        for status in Status::ALL {
            family.flag(&[("subsystem", &health.subsystem), ("status", status.as_str())], status == health.status);
        }
    }
    let help = "What is fixed about a subsystem; always 1.";
    let mut family = text.family("chiron_subsystem_info", Kind::Gauge, help);
    for (health, criticality) in page.healths.iter().zip(page.criticalities) {
        family.flag(&[("subsystem", &health.subsystem), ("criticality", criticality.as_str())], true);
    }
    type Pick = fn(&Health) -> f64;
    let numbers: [(&str, &str, Pick); 3] = [
        (
            "chiron_subsystem_check_timestamp_seconds",
            "When the latest check of a subsystem began; 0 if never.",
            |health| health.timestamp.seconds(),
        ),
        ("chiron_subsystem_check_duration_seconds", "How long the latest check of a subsystem took.", |health| {
            health.response_time_ms / 1000.0
        }),
        (
            "chiron_subsystem_consecutive_failures",
            "Checks in a row, up to the latest, that were critical or could not be run.",
            |health| f64::from(health.error_count),
        ),
    ];
    for (name, help, pick) in numbers {
        let mut family = text.family(name, Kind::Gauge, help);
        for health in page.healths {
            family.float(&[("subsystem", &health.subsystem)], pick(health));
        }
    }
    perfdata(page, text);
    metrics.bots.render(text);
    vitals(page, text);
}

/// What bots tell of themselves, while it is fresh.
fn vitals(page: &Page<'_>, text: &mut Text<'_>) {
    let told: Vec<(&Name, &Vitals)> = page
        .healths
        .iter()
        .filter_map(|health| Some((&health.subsystem, &**health.signals.vitals.as_ref()?)))
        .collect();
    type Pick = fn(&Vitals) -> Option<f64>;
    let numbers: [(&str, &str, Pick); 8] = [
        ("chiron_vitals_websocket_connected", "Whether a bot's WebSocket is connected, by its own word.", |vitals| {
            flagged(vitals.websocket.as_ref()?.connected)
        }),
        ("chiron_vitals_websocket_authenticated", "Whether it is authenticated.", |vitals| {
            flagged(vitals.websocket.as_ref()?.authenticated)
        }),
        ("chiron_vitals_websocket_data_flowing", "Whether it brings data.", |vitals| {
            flagged(vitals.websocket.as_ref()?.data_flowing)
        }),
        ("chiron_vitals_websocket_latency_seconds", "From a ping of it to its pong.", |vitals| {
            Some(vitals.websocket.as_ref()?.latency_ms? / 1e3)
        }),
        ("chiron_vitals_execution_latency_seconds", "From a decision of a bot to the exchange's answer.", |vitals| {
            Some(vitals.execution_latency_ms? / 1e3)
        }),
        ("chiron_vitals_error_ratio", "Failed requests of a bot as a share of all, 0 to 1.", |vitals| {
            vitals.error_rate
        }),
        ("chiron_vitals_memory_ratio", "Memory of a bot in use as a share of what it may use, 0 to 1.", |vitals| {
            vitals.memory_usage
        }),
        ("chiron_vitals_tasks", "Tasks of a bot at work.", |vitals| count(vitals.task_count?)),
    ];
    for (name, help, pick) in numbers {
        let mut values = told.iter().filter_map(|(subsystem, vitals)| Some((subsystem, pick(vitals)?))).peekable();
        if values.peek().is_some() {
            let mut family = text.family(name, Kind::Gauge, help);
            values.for_each(|(subsystem, value)| family.float(&[("subsystem", subsystem)], value));
        }
    }
    if told.iter().all(|(_, vitals)| vitals.rate_limits.as_ref().is_none_or(Vec::is_empty)) {
        return;
    }
    let help = "Use of an exchange's rate limit by symbol; 1 is all of it.";
    let mut family = text.family("chiron_vitals_rate_limit_ratio", Kind::Gauge, help);
    for (subsystem, vitals) in told {
        let mut limits: Vec<&(Name, f64)> = vitals.rate_limits.iter().flatten().collect();
        // Of very many symbols the same ones each time.
        limits.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        limits.dedup_by(|a, b| a.0 == b.0);
        for (symbol, percent) in limits.into_iter().take(SYMBOLS_MAX) {
            family.float(&[("subsystem", subsystem), ("symbol", symbol)], percent / 1e2);
        }
    }
}

fn flagged(flag: Option<bool>) -> Option<f64> {
    flag.map(|flag| f64::from(u8::from(flag)))
}

#[expect(clippy::cast_precision_loss, reason = "samples are floats, and no bot has that many tasks")]
fn count(count: u64) -> Option<f64> {
    Some(count as f64)
}

fn perfdata(page: &Page<'_>, text: &mut Text<'_>) {
    if page.healths.iter().all(|health| health.perfdata.is_empty()) {
        return;
    }
    let help = "Numbers that a check reported besides, in their base unit.";
    let mut family = text.family("chiron_check_perfdata", Kind::Gauge, help);
    for health in page.healths {
        let values = &health.perfdata[..health.perfdata.len().min(PERFDATA_MAX)];
        for (index, value) in values.iter().enumerate() {
            let same = |other: &crate::model::Perfdata| other.label == value.label && other.unit == value.unit;
            if !values[..index].iter().any(same) {
                let labels = [("subsystem", &*health.subsystem), ("label", &value.label), ("unit", &value.unit)];
                family.float(&labels, value.value);
            }
        }
    }
}

fn forecasts(page: &Page<'_>, text: &mut Text<'_>) {
    if page.forecasts.is_empty() {
        return;
    }
    let help = "When a quantity is expected to cross its limit within the horizon; 0 if it is not.";
    let mut family = text.family("chiron_forecast_crossing_timestamp_seconds", Kind::Gauge, help);
    for ((subsystem, quantity), at) in page.forecasts {
        family.float(&[("subsystem", subsystem), ("quantity", quantity.as_str())], at.seconds());
    }
}

fn recommendations(page: &Page<'_>, metrics: &Metrics, text: &mut Text<'_>) {
    let tables = metrics.tables();
    let mut counts: Vec<(&Name, [u64; RecommendationState::ALL.len()])> =
        tables.known_actions().map(|action| (action, [0; RecommendationState::ALL.len()])).collect();
    counts.sort_unstable_by_key(|(action, _)| *action);
    for (action, state) in page.recommendations {
        let index = counts.binary_search_by_key(&action, |(known, _)| *known).unwrap_or_else(|index| {
            counts.insert(index, (action, [0; RecommendationState::ALL.len()]));
            index
        });
        counts[index].1[*state as usize] += 1;
    }
    if !counts.is_empty() {
        let help = "Open recommendations, by where they stand.";
        let mut family = text.family("chiron_recommendations", Kind::Gauge, help);
        for (action, states) in &counts {
            for (state, count) in RecommendationState::ALL.iter().zip(states) {
                family.count(&[("action", action), ("state", state.as_str())], *count);
            }
        }
    }
    let pending = page.recommendations.iter().filter(|(_, state)| *state == RecommendationState::Approval).count();
    let help = "Recommendations that wait for a person's approval.";
    text.family("chiron_approvals_pending", Kind::Gauge, help).count(&[], pending as u64);
}

fn policy(document: &PolicyDocument, text: &mut Text<'_>) {
    let mut family =
        text.family("chiron_safety_policy", Kind::Gauge, "The safety policy in force: 1 for the present one.");
    for level in Level::ALL {
        family.flag(&[("policy", level.as_str())], level == document.policy);
    }
    let help = "The strictest level that each source holds, allow_all if none: 1 for the present one.";
    let mut family = text.family("chiron_safety_policy_source", Kind::Gauge, help);
    for source in PolicySource::ALL {
        let held = document.reasons.iter().filter(|hold| hold.source == source).map(|hold| hold.level).max();
        for level in Level::ALL {
            let labels = [("source", source.as_str()), ("policy", level.as_str())];
            family.flag(&labels, level == held.unwrap_or(Level::AllowAll));
        }
    }
    let flags = [
        (
            "chiron_trading_allowed",
            "Whether trading should continue: the policy is allow_all or safe_risk_profile.",
            document.policy <= Level::SafeRiskProfile && document.restrictions.trade,
        ),
        ("chiron_new_positions_allowed", "Whether a position may be opened.", document.restrictions.open),
        ("chiron_policy_latched", "Whether the policy is latched until a person releases it.", document.latched),
    ];
    for (name, help, value) in flags {
        text.family(name, Kind::Gauge, help).flag(&[], value);
    }
    text.family("chiron_policy_sequence", Kind::Gauge, "Rises with every change of the policy.")
        .count(&[], document.sequence);
    text.family("chiron_policy_changed_timestamp_seconds", Kind::Gauge, "When the policy last changed.")
        .float(&[], document.changed_at.seconds());
}

fn restrictions(document: &PolicyDocument, text: &mut Text<'_>) {
    let held = &document.restrictions;
    for (name, help, value) in [
        ("chiron_restriction_open_allowed", "Whether a position may be opened.", held.open),
        ("chiron_restriction_increase_allowed", "Whether a position may be increased.", held.increase),
        ("chiron_restriction_trade_allowed", "Whether the bot may do more than close, reduce and cancel.", held.trade),
        ("chiron_restriction_tighten_stops", "Whether stops should be tightened.", held.tighten_stops),
    ] {
        text.family(name, Kind::Gauge, help).flag(&[], value);
    }
    text.family(
        "chiron_restriction_max_leverage",
        Kind::Gauge,
        "Highest leverage for new exposure; +Inf if unlimited.",
    )
    .float(&[], held.max_leverage.unwrap_or(f64::INFINITY));
    text.family("chiron_restriction_size_factor", Kind::Gauge, "Factor on the size of new exposure, 0 to 1.")
        .float(&[], held.size_factor);
    let help = "Which positions are to be closed: 1 for the present scope.";
    let mut family = text.family("chiron_restriction_close", Kind::Gauge, help);
    for (scope, word) in [(CloseScope::None, "none"), (CloseScope::Risky, "risky"), (CloseScope::All, "all")] {
        family.flag(&[("scope", word)], scope == held.close);
    }
}

fn own_state(page: &Page<'_>, text: &mut Text<'_>) {
    for (name, help, value) in [
        ("chiron_dry_run", "Whether chiron acts on nothing.", page.dry_run),
        ("chiron_storm", "Whether too much is broken at once, so that only root causes are acted upon.", page.stormy),
        ("chiron_ready", "Whether chiron has started up and replayed its journal.", page.ready),
    ] {
        text.family(name, Kind::Gauge, help).flag(&[], value);
    }
    for (name, help, value) in [
        ("chiron_runs_open", "Runs of actions that have not come to their end.", page.open_runs as u64),
        ("chiron_journal_sequence", "The number of the journal's latest entry.", page.journal_seq),
        ("chiron_intake_pending", "Alerts accepted and not yet decided upon.", page.intake_pending),
    ] {
        text.family(name, Kind::Gauge, help).count(&[], value);
    }
    if !page.windows.is_empty() {
        let help = "Whether a maintenance window of the settings is open.";
        let mut family = text.family("chiron_maintenance", Kind::Gauge, help);
        for (window, open) in page.windows {
            family.flag(&[("window", window)], *open);
        }
    }
    text.family("chiron_maintenance_announced", Kind::Gauge, "Announced maintenance in force.")
        .count(&[], page.announced as u64);
    text.family("chiron_check_lag_seconds", Kind::Gauge, "How far the latest check is behind its schedule.")
        .float(&[], page.check_lag_seconds);
}

#[expect(clippy::cast_precision_loss, reason = "samples are floats, and sizes of real hosts fit 53 bits")]
fn host(resources: &Resources, text: &mut Text<'_>) {
    for (name, help, value) in [
        ("chiron_host_timestamp_seconds", "When the host was last looked at.", resources.timestamp.seconds()),
        ("chiron_host_cpu_ratio", "Share of the host's CPU in use, 0 to 1.", resources.cpu_percent / 100.0),
        ("chiron_host_memory_ratio", "Share of the host's memory in use, 0 to 1.", resources.memory_percent / 100.0),
        ("chiron_host_memory_used_bytes", "Memory in use on the host.", resources.memory_used_bytes as f64),
        ("chiron_host_memory_size_bytes", "Memory of the host in all.", resources.memory_total_bytes as f64),
        ("chiron_host_open_files", "Files open on the host.", resources.open_files as f64),
        ("chiron_host_connections", "TCP connections established on the host.", resources.connections as f64),
        ("chiron_host_threads", "Threads on the host.", resources.threads as f64),
    ] {
        text.family(name, Kind::Gauge, help).float(&[], value);
    }
    if resources.disks.is_empty() {
        return;
    }
    type Pick = fn(&crate::model::DiskUse) -> u64;
    let disks: [(&str, &str, Pick); 4] = [
        ("chiron_host_disk_size_bytes", "Size of the file system of a watched path.", |disk| disk.size_bytes),
        ("chiron_host_disk_available_bytes", "Space free to us on it.", |disk| disk.available_bytes),
        ("chiron_host_disk_inodes", "Inodes in all; 0 if there is no such limit.", |disk| disk.inodes),
        ("chiron_host_disk_inodes_free", "Inodes free.", |disk| disk.inodes_free),
    ];
    for (name, help, pick) in disks {
        let mut family = text.family(name, Kind::Gauge, help);
        for (index, disk) in resources.disks.iter().enumerate() {
            if !resources.disks[..index].iter().any(|earlier| earlier.path == disk.path) {
                family.count(&[("path", &disk.path)], pick(disk));
            }
        }
    }
}
