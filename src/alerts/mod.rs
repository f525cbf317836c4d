//! What Alertmanager sends us and what we send to it: the payload, the routes, the comparison of a poll with what is
//! known, and chiron's own alerts. Pure; the webhook is in `http`, the client in `clients`.

pub mod outgoing;
pub mod payload;
pub mod reconcile;
pub mod routing;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::secret::Secret;
use crate::model::{Level, Name, Severity};

/// The receiver of alerts that were not pushed, but found by asking an Alertmanager.
pub const POLL_RECEIVER: &str = "poll";
/// The label `source` of every alert that chiron sends.
pub const OWN_SOURCE: &str = "chiron";
/// What the names of alerts that chiron sends begin with.
pub const OWN_PREFIX: &str = "Chiron";

/// How alerts are taken (SPEC 15, `alerts:`).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Bearer tokens that the webhook takes, read from `bearer_token_file`; none means loopback only.
    pub bearer_tokens: Vec<String>,
    /// Signatures that notifications need (`alerts.webhook.hmac`).
    pub hmac: Option<Hmac>,
    /// Labels that tell replicas of one sender apart; not part of an alert's identity.
    pub replica_labels: Vec<String>,
    /// The Alertmanagers to ask and to send to; at most [`TARGETS_MAX`].
    pub alertmanagers: Vec<Target>,
    /// How often each is asked; default 30 s.
    pub poll_interval: Duration,
    /// For so long after its start an Alertmanager that does not know an alert says nothing; default 5 min.
    pub restart_grace: Duration,
    /// chiron's own alerts.
    pub send: Sending,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            bearer_tokens: Vec::new(),
            hmac: None,
            replica_labels: Vec::new(),
            alertmanagers: Vec::new(),
            poll_interval: Duration::from_secs(30),
            restart_grace: Duration::from_secs(300),
            send: Sending::default(),
            watchdog: None,
            routes: Vec::new(),
        }
    }
}

/// Most entries of `alerts.alertmanagers`.
pub const TARGETS_MAX: usize = 16;

/// One entry of `alerts.alertmanagers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called in metrics and logs: its address, which holds no credentials.
    pub name: Name,
    /// Its base address, without a slash at its end.
    pub url: String,
    /// How chiron shows who it is.
    pub credentials: Credentials,
    /// The authorities to trust, in PEM; `None` trusts those of the machine.
    pub ca_pem: Option<Vec<u8>>,
    /// Its certificate is not verified (SEC-2); logged and exported.
    pub insecure_skip_verify: bool,
}

/// How chiron shows an Alertmanager who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// `bearer_token_file`.
    Bearer(Secret),
    /// `basic_auth`.
    Basic {
        /// `username`.
        username: String,
        /// From `password_file`.
        password: Secret,
    },
}

/// `alerts.send`: chiron's own alerts (ALR-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Whether they are sent; default true. Without an Alertmanager nothing is sent in any case.
    pub enabled: bool,
    /// How often each is sent again while it lasts; default 1 min. It expires four times that after the last word.
    pub resend_interval: Duration,
    /// Further labels of each.
    pub labels: BTreeMap<String, String>,
    /// `web.external_url`: where people find chiron.
    pub external_url: Option<String>,
}

impl Default for Sending {
    fn default() -> Self {
        Self { enabled: true, resend_interval: Duration::from_secs(60), labels: BTreeMap::new(), external_url: None }
    }
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
