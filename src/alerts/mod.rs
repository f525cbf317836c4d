//! What Alertmanager sends us: the payload and the routes. Pure; the webhook itself is in `http`.

pub mod payload;
pub mod routing;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::secret::Secret;
use crate::model::{Level, Name, Severity};

/// How alerts are taken (SPEC 15, `alerts:`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Bearer tokens that the webhook takes, read from `bearer_token_file`; none means loopback only.
    pub bearer_tokens: Vec<String>,
    /// Signatures that notifications need (`alerts.webhook.hmac`).
    pub hmac: Option<Hmac>,
    /// Labels that tell replicas of one sender apart; not part of an alert's identity.
    pub replica_labels: Vec<String>,
    /// Base addresses of the Alertmanagers.
    pub alertmanagers: Vec<String>,
    /// The alert whose absence means blindness.
    pub watchdog: Option<Watchdog>,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// `alerts.webhook.hmac`: the hex HMAC-SHA256 over `TIMESTAMP:BODY`, as Grafana sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hmac {
    /// The key; two while one is exchanged for the other.
    pub secrets: Vec<Secret>,
    /// The header of the signature; default `x-grafana-alerting-signature`.
    pub signature_header: String,
    /// The header of the Unix time in seconds; default `x-grafana-alerting-timestamp`.
    pub timestamp_header: String,
    /// How far that time may be from ours; default 5 min.
    pub window: Duration,
}

/// `alerts.watchdog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Its `alertname`; default `Watchdog`.
    pub alertname: String,
    /// Blind after this long without it; default 3 min.
    pub absent_after: Duration,
    /// What blindness then holds; default `no_new_trades`.
    pub policy: Level,
}

/// One entry of `alerts.routes`: labels to subsystem, action and policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Every label must have exactly this value.
    pub matches: BTreeMap<String, String>,
    /// The subsystem; `None` takes the alert's `subsystem` label, if `allow_labels`.
    pub subsystem: Option<Name>,
    /// The issue type; `None` joins the subsystem's open episode (DET-4).
    pub kind: Option<Name>,
    /// The label that holds the symbol, if the issue is scoped to one.
    pub symbol_label: Option<String>,
    /// The action it asks for; `None` takes `chiron_action`, if `allow_labels`.
    pub action: Option<Name>,
    /// The level it holds while it fires; `None` takes `chiron_policy`, if `allow_labels`.
    pub policy: Option<Level>,
    /// The severity; `None` takes the alert's `severity` label (`critical`, `warning` as high, else medium).
    pub severity: Option<Severity>,
    /// `confirm: check`: act only if the subsystem's own check agrees (ALR-1).
    pub confirm_by_check: bool,
    /// Whether the alert's own labels `subsystem`, `chiron_action`, `chiron_policy` are honoured; default false.
    pub allow_labels: bool,
}
