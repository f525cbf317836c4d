//! What stands at the door: who may come in by the settings in force, and what happened there lately.
//!
//! The web configuration file and all it names are looked at every second and taken over when they changed. A broken new
//! file keeps the old one in force, is logged once, and told to the metrics.
#![expect(clippy::disallowed_methods, reason = "files are read off the async threads")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::Problem;

use super::access::Access;
use super::credentials::{Passwords, Proven};
use super::handle::Handle;
use super::need::Group;
use super::rate::{Bucket, Buckets, peer_of};
use super::settings::{RateLimit, Settings};
use super::signature::Used;
use super::web_config::{Print, WebConfig, load};

/// How often the web configuration file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often one peer may fail to authenticate, per group.
const FAILURES: RateLimit = RateLimit { per_second: 0.5, burst: 20 };

/// Limits of a group for peers off loopback, where the settings name none. Reading has none: a bot may ask the gate a
/// thousand times a second.
fn built_in(group: Group) -> Option<RateLimit> {
    let (per_second, burst) = match group {
        Group::Metrics => (10.0, 40),
        Group::Change => (10.0, 50),
        Group::Push => (100.0, 500),
        Group::Webhook => (50.0, 500),
        Group::Probes | Group::Read => return None,
    };
    Some(RateLimit { per_second, burst })
}

/// Lets a reload change who may ask for what, on a server that is running.
#[derive(Clone, Debug)]
pub struct AccessControl(pub(super) Arc<Door>);

/// Everything at the door.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) access: ArcSwap<Access>,
    pub(super) web: ArcSwap<WebConfig>,
    /// Cancelled when the web configuration is replaced; connections made before then end after their request.
    era: ArcSwap<CancellationToken>,
    file: Mutex<Option<PathBuf>>,
    changed: Notify,
    pub(super) passwords: Passwords,
    pub(super) proven: Proven,
    pub(super) used: Used,
    rates: Mutex<HashMap<Group, Buckets>>,
    failures: Mutex<HashMap<Group, Buckets>>,
    whole: Mutex<Bucket>,
}

impl AccessControl {
    /// By these settings; the problems of the web configuration file, if it has any.
    pub(super) fn new(settings: &Settings, handle: &dyn Handle) -> Result<(Self, Print), Vec<Problem>> {
        let (web, print) = match &settings.web_config {
            Some(path) => {
                let (web, print) = load(path, &path.to_string_lossy());
                (web?, print)
            }
            None => Default::default(),
        };
        tell(handle, Ok(&web));
        let door = Door {
            access: ArcSwap::from_pointee(Access::new(settings)),
            web: ArcSwap::from_pointee(web),
            era: ArcSwap::default(),
            file: Mutex::new(settings.web_config.clone()),
            changed: Notify::new(),
            passwords: Passwords::default(),
            proven: Proven::default(),
            used: Used::default(),
            rates: Mutex::default(),
            failures: Mutex::default(),
            whole: Mutex::default(),
        };
        Ok((Self(Arc::new(door)), print))
    }

    /// Whether connections are made by TLS now.
    pub fn is_tls(&self) -> bool {
        self.0.web.load().tls.is_some()
    }

    /// Takes everything over but the addresses, the telemetry path and the limits of body and connections, which need a
    /// restart.
    pub fn replace(&self, settings: &Settings) {
        self.0.access.store(Arc::new(Access::new(settings)));
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&settings.web_config);
        self.0.changed.notify_one();
    }
}

fn tell(handle: &dyn Handle, web: Result<&WebConfig, ()>) {
    match web {
        Ok(web) => handle.web_config(true, web.tls.as_ref().and_then(|tls| tls.not_after)),
        Err(()) => handle.web_config(false, None),
    }
}

impl Door {
    /// Cancelled when a connection made now should end after its request.
    pub(super) fn era(&self) -> Arc<CancellationToken> {
        self.era.load_full()
    }

    /// Looks at the web configuration until `stop`.
    pub(super) async fn watch(&self, mut print: Print, handle: Arc<dyn Handle>, stop: CancellationToken) {
        let file = || self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = file();
        loop {
            let look = async {
                match &seen {
                    Some(_) => tokio::time::sleep(LOOK_EVERY).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = look => {}
            }
            let wanted = file();
            let moved = wanted != seen;
            seen.clone_from(&wanted);
            let old = print.clone();
            let looked = tokio::task::spawn_blocking(move || match wanted {
                None => moved.then(|| (Ok(WebConfig::default()), Print::default())),
                Some(path) => (moved || old.is_outdated()).then(|| load(&path, &path.to_string_lossy())),
            });
            let Ok(Some((result, new))) = looked.await else { continue };
            print = new;
            match result {
                Ok(web) => {
                    tell(&*handle, Ok(&web));
                    self.web.store(Arc::new(web));
                    self.era.swap(Arc::default()).cancel();
                    tracing::info!("web configuration taken over");
                }
                Err(problems) => {
                    tell(&*handle, Err(()));
                    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    let problems = found.join("; ");
                    tracing::error!(problems, "web configuration not taken over, the old one stays");
                }
            }
        }
    }

    /// Takes one out of the buckets that a request of this group falls under; `Err` tells when to come again.
    pub(super) fn take(&self, group: Group, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let limit = self.access.load().rate_limits.get(&group).copied();
        if let Some(limit) = limit.or_else(|| built_in(group).filter(|_| !address.is_loopback())) {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.entry(group).or_default().take(peer_of(address), limit, now)?;
        }
        // The toolkit's own limit is one for all; on the webhook it would lose alerts until the next group interval.
        match self.web.load().rate_limit {
            Some(limit) if group != Group::Webhook => {
                self.whole.lock().unwrap_or_else(PoisonError::into_inner).take(limit, now)
            }
            _ => Ok(()),
        }
    }

    /// Whether a peer may still try credentials of this group.
    pub(super) fn may_try(&self, group: Group, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.entry(group).or_default().look(peer_of(address), FAILURES, now)
    }

    /// Notes that a peer presented a wrong credential.
    pub(super) fn failed(&self, group: Group, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.entry(group).or_default().take(peer_of(address), FAILURES, now)
    }
}
