//! Which subsystem, action and policy an alert is about.
//!
//! In: one alert and the routes. Out: exactly one [`Routed`]. What is not named exactly is recorded, never guessed at.
//! **Invariant:** pure. Labels select among what is configured; no text of an alert goes any further (SEC-5).

use super::{OWN_PREFIX, OWN_SOURCE, Settings};
use crate::model::{IntakeAlert, Level, Name, Severity};

/// Where an alert leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It is the Watchdog.
    Watchdog,
    /// chiron sent it itself; it is never acted upon.
    Own,
    /// No route matches, or the one that does knows no subsystem for it.
    Unrouted,
    /// The route or the label names this subsystem, which is not configured.
    UnknownSubsystem(String),
    /// The route or the label names this action or policy, which does not exist.
    UnknownAction(String),
    /// It is about this.
    To(Routing),
}

/// What an alert asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The subsystem that is broken.
    pub subsystem: Name,
    /// The issue type; `None` joins the subsystem's open episode (DET-4).
    pub kind: Option<Name>,
    /// The symbol, if the alert is scoped to one.
    pub symbol: Option<Name>,
    /// The action it asks for.
    pub action: Option<Name>,
    /// The level it holds while it fires.
    pub policy: Option<Level>,
    /// How bad it is.
    pub severity: Severity,
    /// Act only if the subsystem's own check agrees.
    pub confirm_by_check: bool,
}

/// Whether chiron sent this alert itself (ALR-3): what comes back to it must not set it off.
pub fn is_own(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.get("source").is_some_and(|source| source == OWN_SOURCE)
        && labels.get("alertname").is_some_and(|name| name.starts_with(OWN_PREFIX))
}

/// Routes one alert, firing or resolved alike. The Watchdog comes first, then chiron's own, then the first route that
/// matches.
///
/// `known` tells whether a subsystem is configured, `is_action` whether an action exists.
pub fn route(
    alert: &IntakeAlert,
    settings: &Settings,
    known: &dyn Fn(&str) -> bool,
    is_action: &dyn Fn(&str) -> bool,
) -> Routed {
    // As in Prometheus, a label without a value is no label.
    let label = |name: &str| alert.labels.get(name).map(String::as_str).filter(|value| !value.is_empty());

    if settings.watchdog.as_ref().is_some_and(|watchdog| label("alertname") == Some(watchdog.alertname.as_str())) {
        return Routed::Watchdog;
    }
    if is_own(&alert.labels) {
        return Routed::Own;
    }
    let matches = |wanted: (&String, &String)| label(wanted.0).unwrap_or_default() == wanted.1;
    let Some(route) = settings.routes.iter().find(|route| route.matches.iter().all(matches)) else {
        return Routed::Unrouted;
    };
    let allowed = |name| if route.allow_labels { label(name) } else { None };

    let Some(subsystem) = route.subsystem.clone().or_else(|| allowed("subsystem").map(Name::from)) else {
        return Routed::Unrouted;
    };
    if !known(&subsystem) {
        return Routed::UnknownSubsystem(subsystem.to_string());
    }
    let action = route.action.clone().or_else(|| allowed("chiron_action").map(Name::from));
    if let Some(action) = action.as_ref().filter(|action| !is_action(action)) {
        return Routed::UnknownAction(action.to_string());
    }
    let policy = match (route.policy, allowed("chiron_policy")) {
        (Some(level), _) => Some(level),
        (None, None) => None,
        (None, Some(word)) => match Level::parse(word) {
            Some(level) => Some(level),
            None => return Routed::UnknownAction(word.to_owned()),
        },
    };
    Routed::To(Routing {
        subsystem,
        kind: route.kind.clone(),
        symbol: route.symbol_label.as_deref().and_then(label).map(Name::from),
        action,
        policy,
        severity: route.severity.unwrap_or(match label("severity") {
            Some("critical") => Severity::Critical,
            Some("warning") => Severity::High,
            _ => Severity::Medium,
        }),
        confirm_by_check: route.confirm_by_check,
    })
}

#[cfg(test)]
mod tests;
