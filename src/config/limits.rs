//! The numbers of detection, recommendation, admission and policy.

use std::time::Duration;

use super::intake::{Intake, action, blindness_level, checked, count, kind, pause, severity, span};
use super::subsystems::Known;
use crate::base::tree::{FromNode, Section, Value};
use crate::model::Name;
use crate::{admit, detect, policy, recommend};

/// How often every binding is asked whether it would work.
const PREFLIGHT_EVERY: Duration = Duration::from_secs(300);
const PREFLIGHT_RULE: &str = "expected a duration such as 5m, from 1s to 1d";

/// What the two presets differ in (OBS-3).
struct Thresholds {
    error_rate: f64,
    stale_seconds: f64,
    cpu: f64,
    memory: f64,
}

const DEFAULT: Thresholds = Thresholds { error_rate: 0.2, stale_seconds: 300.0, cpu: 90.0, memory: 85.0 };
const PRODUCTION: Thresholds = Thresholds { error_rate: 0.15, stale_seconds: 180.0, cpu: 85.0, memory: 80.0 };

/// `thresholds`, `preset`, `flap` and the counters beside them: detection, the error rate and the age of stale data.
pub(super) fn detection(top: &mut Section<'_>) -> (detect::Settings, Duration) {
    let preset = top.word("preset", &[("default", &DEFAULT), ("production", &PRODUCTION)]).unwrap_or(&DEFAULT);
    let basis = detect::Settings::default();
    let mut settings = detect::Settings {
        max_consecutive_failures: count(top, "max_consecutive_failures", basis.max_consecutive_failures),
        failed_after: span(top, "failed_after", basis.failed_after),
        max_cpu_percent: preset.cpu,
        max_memory_percent: preset.memory,
        max_error_rate: preset.error_rate,
        ..basis
    };
    let mut stale = preset.stale_seconds;
    if let Some(mut section) = top.section("thresholds") {
        settings.max_cpu_percent = percent(&mut section, "max_cpu_percent", settings.max_cpu_percent);
        settings.max_memory_percent = percent(&mut section, "max_memory_percent", settings.max_memory_percent);
        settings.max_disk_percent = percent(&mut section, "max_disk_percent", settings.max_disk_percent);
        let rule = "expected seconds from 1 to 2592000 (30 days)";
        stale = checked(&mut section, "stale_data_seconds", stale, rule, |value| (1.0..=2_592_000.0).contains(value));
        let rule = "expected a share above 0, at most 1";
        let fits = |value: &f64| *value > 0.0 && *value <= 1.0;
        settings.max_error_rate = checked(&mut section, "max_error_rate", settings.max_error_rate, rule, fits);
        let latency = span(&mut section, "max_latency", Duration::from_secs_f64(settings.max_latency_ms / 1e3));
        settings.max_latency_ms = latency.as_secs_f64() * 1e3;
        settings.max_rate_limit_percent =
            percent(&mut section, "max_rate_limit_percent", settings.max_rate_limit_percent);
        section.finish();
    }
    if let Some(mut section) = top.section("flap") {
        let rule = "expected a whole number from 2 to 1000";
        settings.flap_openings =
            checked(&mut section, "openings", settings.flap_openings, rule, |value| (2..=1000).contains(value));
        settings.flap_window = span(&mut section, "window", settings.flap_window);
        settings.flap_hold = pause(&mut section, "hold", settings.flap_hold);
        section.finish();
    }
    settings.prediction = prediction(top);
    (settings, Duration::from_secs_f64(stale))
}

/// `prediction`.
fn prediction(top: &mut Section<'_>) -> detect::trends::Settings {
    let basis = detect::trends::Settings::default();
    let Some(mut section) = top.section("prediction") else { return basis };
    let rule = "expected a duration such as 1h, from 1m to 1d";
    let bounds = Duration::from_secs(60)..=Duration::from_secs(86_400);
    let settings = detect::trends::Settings {
        enabled: section.or("enabled", basis.enabled),
        horizon: checked(&mut section, "horizon", basis.horizon, rule, |value| bounds.contains(value)),
    };
    section.finish();
    settings
}

fn percent(section: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    checked(section, key, default, "expected a percentage above 0, at most 100", |value| {
        *value > 0.0 && *value <= 100.0
    })
}

/// `auto_restart_enabled`, `auto_pause_on_critical` and `recovery`: what is recommended and what is admitted.
pub(super) fn recovery(
    top: &mut Section<'_>,
    intake: &Intake<'_>,
    known: &Known,
) -> (recommend::Settings, admit::Settings, Duration) {
    let actions = super::actions::actions(top, intake);
    let mut recommend = recommend::Settings {
        auto_restart_enabled: top.or("auto_restart_enabled", false),
        auto_pause_on_critical: top.or("auto_pause_on_critical", false),
        autonomy: actions.autonomy,
        ..recommend::Settings::default()
    };
    let mut admit = admit::Settings { dry_run_actions: actions.dry_run, ..admit::Settings::default() };
    let mut preflight_every = PREFLIGHT_EVERY;
    let Some(mut section) = top.section("recovery") else { return (recommend, admit, preflight_every) };
    preflight_every = checked(&mut section, "preflight_every", preflight_every, PREFLIGHT_RULE, |value| {
        (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(value)
    });
    if let Some(mut section) = section.section("retry_backoff") {
        let backoff = &mut admit.retry_backoff;
        backoff.first = pause(&mut section, "first", backoff.first);
        backoff.max = pause(&mut section, "max", backoff.max.max(backoff.first));
        if backoff.max < backoff.first {
            section.reject("max", "expected at least as long as `first`", None);
        }
        section.finish();
    }
    recommend.allow_disable_module = section.or("allow_disable_module", false);
    admit.cooldown = pause(&mut section, "cooldown", admit.cooldown);
    admit.approval_valid = span(&mut section, "approval_valid", admit.approval_valid);
    admit.target_budget = count(&mut section, "target_budget", admit.target_budget);
    admit.target_window = span(&mut section, "target_window", admit.target_window);
    admit.overall_budget = count(&mut section, "overall_budget", admit.overall_budget);
    admit.overall_window = span(&mut section, "overall_window", admit.overall_window);
    let rule = "expected a whole number from 1 to 64";
    admit.concurrency = checked(&mut section, "concurrency", admit.concurrency, rule, |value| (1..=64).contains(value));
    admit.storm = super::maintenance::storm(&mut section);
    admit.not_after = span(&mut section, "not_after", admit.not_after);
    for (index, node) in section.list("ladders").iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("ladders"));
        recommend.ladders.extend(Section::open(node, &path, section.problems()).and_then(|entry| ladder(entry, known)));
    }
    section.finish();
    (recommend, admit, preflight_every)
}

fn ladder(mut section: Section<'_>, known: &Known) -> Option<recommend::Ladder> {
    let subsystem = known.take_or_platform(&mut section, "subsystem");
    let kind = kind(&mut section, "type");
    let severity = severity(&mut section, "severity");
    if !section.has("actions") {
        section.reject("actions", "missing, expected a list of actions, mildest first", None);
    }
    let nodes = section.list("actions");
    if nodes.is_empty() && matches!(section.node("actions").map(|node| &node.value), Some(Value::List(_))) {
        section.reject("actions", "expected at least one action", None);
    }
    let mut actions = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("actions"));
        let Some(text) = String::take(node, &path, section.problems()) else { continue };
        match super::intake::known_action(&text) {
            Ok(()) => actions.push(Name::from(text)),
            Err((rule, hint)) => section.problems().push(node.at, &path, &node.shown(), &rule, hint),
        }
    }
    section.finish();
    (!actions.is_empty() && actions.len() == nodes.len()).then_some(recommend::Ladder {
        subsystem,
        kind,
        severity,
        actions,
    })
}

/// `policy`, but for its file.
pub(super) fn policy(section: Option<&mut Section<'_>>) -> policy::Settings {
    let basis = policy::Settings::default();
    let Some(section) = section else { return basis };
    let rule = "expected a duration such as 30s, from 5s to 120s";
    let bounds = Duration::from_secs(5)..=Duration::from_secs(120);
    policy::Settings {
        relax_after_cycles: count(section, "relax_after_cycles", basis.relax_after_cycles),
        min_hold: pause(section, "min_hold", basis.min_hold),
        blindness_level: blindness_level(section, "blindness_level"),
        validity: checked(section, "validity", basis.validity, rule, |value| bounds.contains(value)),
    }
}

/// A known action under `key` that is bound for this subsystem, or holds a level by itself; otherwise a warning.
pub(super) fn bound_action(
    section: &mut Section<'_>,
    key: &'static str,
    subsystem: Option<&Name>,
    intake: &Intake<'_>,
    bindings: &[crate::execute::Binding],
) -> Option<Name> {
    let action = action(section, key)?;
    let holds = crate::execute::actions::action(&action).is_some_and(|spec| spec.holds.is_some());
    let bound = |subsystem: &Name| bindings.iter().any(|b| b.action == action && b.subsystem == *subsystem);
    if let Some(subsystem) = subsystem
        && !holds
        && !bound(subsystem)
    {
        let text = format!("no binding for `{action}` of `{subsystem}`: it will be reported as unbound");
        intake.warn_key(section, key, &text);
    }
    Some(action)
}
