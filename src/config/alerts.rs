//! `alerts`: who sends them, and what they lead to (ALR-1).

use std::collections::BTreeMap;
use std::time::Duration;

use super::alertmanagers;
use super::intake::{Intake, blindness_level, checked, kind, level, pause, severity, span};
use super::limits::bound_action;
use super::secret::bearer_tokens;
use super::subsystems::Known;
use super::web::{required_secrets, window};
use crate::alerts::{Hmac, Route, Settings, Watchdog};
use crate::base::tree::Section;
use crate::execute::Binding;

/// How many earlier routes each one is compared with; the warning is a courtesy, and its cost grows with the square.
const COMPARED_MAX: usize = 1000;

/// The whole of `alerts`.
pub(super) fn alerts(top: &mut Section<'_>, intake: &Intake<'_>, known: &Known, bindings: &[Binding]) -> Settings {
    let mut settings = Settings::default();
    let Some(mut section) = top.section("alerts") else { return settings };
    if let Some(mut webhook) = section.section("webhook") {
        settings.bearer_tokens = bearer_tokens(&mut webhook, intake);
        settings.hmac = webhook.section("hmac").map(|section| hmac(section, intake));
        webhook.finish();
    }
    settings.alertmanagers = alertmanagers::targets(&mut section, intake);
    settings.poll_interval = span(&mut section, "poll_interval", settings.poll_interval);
    settings.restart_grace = pause(&mut section, "restart_grace", settings.restart_grace);
    settings.send = alertmanagers::sending(&mut section, intake, settings.alertmanagers.is_empty());
    settings.replica_labels = section.or("replica_labels", Vec::new());
    if let Some(label) = settings.replica_labels.iter().find(|label| !is_label(label)) {
        section.reject("replica_labels", &format!("expected label names, but `{label}` is none"), None);
    }
    if let Some(mut watchdog) = section.section("watchdog") {
        settings.watchdog = Some(Watchdog {
            alertname: watchdog.or("alertname", "Watchdog".to_owned()),
            absent_after: span(&mut watchdog, "absent_after", Duration::from_secs(180)),
            policy: blindness_level(&mut watchdog, "policy"),
        });
        watchdog.finish();
    }
    for (index, node) in section.list("routes").iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("routes"));
        let Some(entry) = Section::open(node, &path, section.problems()) else { continue };
        if let Some(route) = route(entry, intake, known, bindings) {
            // First match wins: an earlier route with no further labels takes every alert of this one.
            let wider =
                |earlier: &Route| earlier.matches.iter().all(|(label, value)| route.matches.get(label) == Some(value));
            if let Some(earlier) = settings.routes.iter().take(COMPARED_MAX).find(|earlier| wider(earlier)) {
                let what =
                    if earlier.matches == route.matches { "has the same `match`" } else { "matches all it does" };
                intake.warn(
                    node.at,
                    &path,
                    &format!("never reached: an earlier route {what}, and the first match wins"),
                );
            }
            settings.routes.push(route);
        }
    }
    section.finish();
    settings
}

/// `webhook.hmac`; by default as Grafana signs.
fn hmac(mut section: Section<'_>, intake: &Intake<'_>) -> Hmac {
    let hmac = Hmac {
        secrets: required_secrets(&mut section, intake),
        signature_header: header(&mut section, "signature_header", "x-grafana-alerting-signature"),
        timestamp_header: header(&mut section, "timestamp_header", "x-grafana-alerting-timestamp"),
        window: window(&mut section),
    };
    section.finish();
    hmac
}

fn header(section: &mut Section<'_>, key: &'static str, default: &str) -> String {
    let rule = "expected the name of a header, such as X-Grafana-Alerting-Signature";
    let legal = |text: &String| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    checked(section, key, default.to_owned(), rule, legal).to_ascii_lowercase()
}

fn route(mut section: Section<'_>, intake: &Intake<'_>, known: &Known, bindings: &[Binding]) -> Option<Route> {
    let matches = section.req::<BTreeMap<String, String>>("match");
    if let Some(matches) = &matches {
        if matches.is_empty() {
            section.reject("match", "expected at least one label", Some("write {alertname: NAME}".to_owned()));
        } else if let Some(label) = matches.keys().find(|label| !is_label(label)) {
            section.reject("match", &format!("expected label names, but `{label}` is none"), None);
        }
    }
    let allow_labels = section.or("allow_labels", false);
    let subsystem = known.take(&mut section, "subsystem");
    if let Some(name) = subsystem.as_ref().filter(|name| known.is_disabled(name)) {
        intake.warn_key(&mut section, "subsystem", &format!("`{name}` is not enabled, so nothing will be verified"));
    }
    if !section.has("subsystem") && !allow_labels {
        let text = "neither `subsystem` nor `allow_labels: true`: its alerts belong to no subsystem";
        intake.warn(section.position(), &section.path_of("subsystem"), text);
    }
    let route = Route {
        matches: matches.unwrap_or_default(),
        kind: kind(&mut section, "type"),
        symbol_label: section.opt("symbol_label"),
        action: bound_action(&mut section, "action", subsystem.as_ref(), intake, bindings),
        policy: level(&mut section, "policy"),
        severity: severity(&mut section, "severity"),
        confirm_by_check: section.word("confirm", &[("check", true)]).unwrap_or(false),
        subsystem,
        allow_labels,
    };
    if route.symbol_label.as_ref().is_some_and(|label| !is_label(label)) {
        section.reject("symbol_label", "expected the name of a label", None);
    }
    section.finish();
    (!route.matches.is_empty()).then_some(route)
}

/// Whether `text` is a Prometheus label name.
pub(super) fn is_label(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
