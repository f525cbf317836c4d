//! `exchange_api`: do the exchange's interfaces answer, how soon, and how often not?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, Request, Url};
use serde_json::json;

use super::findings::Findings;
use super::source::{self, address};
use super::window::{Tally, Window};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::Section;
use crate::model::{Perfdata, Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::checks::http::{Expect, Http};
use crate::observe::params;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: ExchangeApi::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str =
    "look at the exchange's status page and at the network; switch to a backup endpoint if there is one";

const DOC: &str = "\
# What it asks
Whether each address of the exchange answers a GET with success, how soon, and how many of the last probes it did not.
Redirects are not followed.

# Why it matters
Without the exchange's interface no order is placed, changed or cancelled, and no position is closed.

# Failure reasons
- `critical`, finding critical: an address does not answer within `timeout`, or with another status than 200 to 299.
- `degraded`, finding medium: the answer took `degraded_latency` or longer; or more than `max_error_rate` of the last
  `window` probes failed, once there are five.

# Parameters
- `url`: one address, or a list of up to 16. Required.
- `degraded_latency` (none): from this time on slow.
- `timeout` (5s): the time to wait for an answer.
- `max_error_rate` (`thresholds.max_error_rate`): failed probes as a share of all, above 0 and up to 1.
- `window` (20): how many probes of each address are remembered, 1 to 1000.
";

/// The most addresses of one failure point.
pub(super) const ADDRESSES_MAX: usize = 16;
/// Probes remembered where the settings do not say.
pub(super) const WINDOW: usize = 20;

/// One address.
struct Api {
    place: String,
    http: Http,
    window: Window,
}

/// Every address and what is expected of it.
struct ExchangeApi {
    apis: Vec<Api>,
    limits: Limits,
}

/// What is expected of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From this time on slow.
    pub(super) degraded_latency: Option<Duration>,
    /// The time to wait.
    pub(super) timeout: Duration,
    /// Failed probes as a share of all.
    pub(super) max_error_rate: f64,
}

/// How one probe of an address went.
#[derive(Clone, Debug)]
pub(super) struct Probed {
    /// Where.
    pub(super) place: String,
    /// Why it did not answer.
    pub(super) error: Option<String>,
    /// How long the answer took.
    pub(super) latency: Option<Duration>,
    /// The last probes.
    pub(super) tally: Tally,
}

impl Check for ExchangeApi {
    type Reading = Vec<Probed>;
    const KIND: &'static str = "exchange_api";

    async fn read(&self) -> Self::Reading {
        join_all(self.apis.iter().map(|api| async {
            let reading = Check::read(&api.http).await;
            // The grade of an answer does not depend on the time.
            let judged = Check::judge(&api.http, &reading, Timestamp::EPOCH);
            let failed = judged.status == Status::Critical;
            let error = judged.details.get("error").and_then(|error| error.as_str());
            let error = failed.then(|| error.unwrap_or("no answer").to_owned());
            let latency = judged.details.get("latency_ms").and_then(serde_json::Value::as_f64);
            let latency = latency.filter(|_| !failed).map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1000.0));
            Probed { place: api.place.clone(), error, latency, tally: api.window.note(failed) }
        }))
        .await
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        for probed in reading {
            find("exchange API", probed, &self.limits, Severity::Critical, &mut findings);
        }
        tell(reading, findings.judgement())
    }
}

/// What is wrong with how one address answered; `down` is the severity of one that does not.
pub(super) fn find(what: &str, probed: &Probed, limits: &Limits, down: Severity, findings: &mut Findings) {
    if let Some(error) = &probed.error {
        findings.add(Status::Critical, down, None, format!("{what} down: {error}"));
    } else if let (Some(latency), Some(limit)) = (probed.latency, limits.degraded_latency)
        && latency >= limit
    {
        let text = format!("{what} slow: {} took {limit:?} or longer", probed.place);
        findings.add(Status::Degraded, Severity::Medium, None, text);
    }
    if probed.tally.exceeds(limits.max_error_rate) {
        let percent = limits.max_error_rate * 100.0;
        let text = format!("{what} unreliable: {} failed more than {percent:.0} % of the last probes", probed.place);
        findings.add(Status::Degraded, Severity::Medium, None, text);
    }
}

/// Adds details and numbers.
pub(super) fn tell(probes: &[Probed], mut judgement: Judgement) -> Judgement {
    let apis: Vec<_> = probes
        .iter()
        .map(|probed| {
            json!({
                "url": probed.place,
                "reachable": probed.error.is_none(),
                "latency_ms": probed.latency.map(|latency| latency.as_secs_f64() * 1000.0),
                "error_rate": probed.tally.rate(),
                "probes": probed.tally.probes,
                "failed_probes": probed.tally.failed,
            })
        })
        .collect();
    let unreachable = probes.iter().filter(|probed| probed.error.is_some()).count();
    judgement = judgement.with("apis", apis).with("unreachable", unreachable);
    let slowest = probes.iter().filter_map(|probed| probed.latency).max();
    if let Some(slowest) = slowest {
        judgement.perfdata.push(number("latency", slowest.as_secs_f64(), "seconds"));
    }
    let rate = probes.iter().map(|probed| probed.tally.rate()).fold(0.0, f64::max);
    judgement.perfdata.push(number("error_rate", rate, "ratio"));
    judgement
}

/// A number for the exporter.
pub(super) fn number(label: &str, value: f64, unit: &str) -> Perfdata {
    Perfdata { label: label.into(), value, unit: unit.to_owned() }
}

/// The addresses below `url`.
pub(super) fn urls(section: &mut Section<'_>) -> Vec<Url> {
    let texts = params::texts(section, "url");
    if texts.is_empty() || texts.len() > ADDRESSES_MAX {
        section.reject("url", &format!("expected an address, or a list of up to {ADDRESSES_MAX}"), None);
        return Vec::new();
    }
    texts.iter().filter_map(|text| source::url(section, "url", text)).collect()
}

/// What is expected of an interface, and how many probes are remembered.
pub(super) fn limits(section: &mut Section<'_>, context: &PointContext<'_>) -> (Limits, usize) {
    let limits = Limits {
        degraded_latency: params::span(section, "degraded_latency"),
        timeout: params::span(section, "timeout").unwrap_or(Duration::from_secs(5)),
        max_error_rate: source::share(section, "max_error_rate", context.checks.max_error_rate),
    };
    let window = params::whole(section, "window").map_or(WINDOW, |size| usize::try_from(size).unwrap_or(usize::MAX));
    if !(1..=1000).contains(&window) {
        section.reject("window", "expected a whole number from 1 to 1000", None);
    }
    (limits, window.min(1000))
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let urls = urls(section);
    let (limits, window) = limits(section, context);
    let apis: Vec<Api> = urls
        .into_iter()
        .map(|url| Api {
            place: address(&url),
            http: Http::new(
                context.checks.http.clone(),
                Request::new(Method::GET, url),
                Expect { status: Vec::new(), body: None, degraded_latency: None, timeout: limits.timeout },
            ),
            window: Window::new(window),
        })
        .collect();
    if apis.is_empty() {
        return None;
    }
    Some(Built { check: Arc::new(ExchangeApi { apis, limits }), limit: limits.timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(error: Option<&str>, millis: u64, failed: usize) -> Probed {
        let latency = error.is_none().then_some(Duration::from_millis(millis));
        let tally = Tally { probes: 20, failed };
        Probed { place: "https://x/ping".to_owned(), error: error.map(str::to_owned), latency, tally }
    }

    /// OBS-8: both sides of the latency and of the error rate; no answer is critical, and so is an issue about it.
    #[test]
    fn both_sides_of_each_limit() {
        let limits = Limits {
            degraded_latency: Some(Duration::from_secs(1)),
            timeout: Duration::from_secs(5),
            max_error_rate: 0.2,
        };
        let check = ExchangeApi { apis: Vec::new(), limits };
        for (found, status, severity, text) in [
            (probed(None, 999, 4), Status::Healthy, None, ""),
            (probed(None, 1000, 4), Status::Degraded, Some(Severity::Medium), "slow: https://x/ping took 1s or longer"),
            (probed(None, 1, 5), Status::Degraded, Some(Severity::Medium), "failed more than 20 % of the last probes"),
            (probed(Some("refused"), 0, 1), Status::Critical, Some(Severity::Critical), "exchange API down: refused"),
        ] {
            let judgement = Check::judge(&check, &vec![probed(None, 1, 0), found], Timestamp::EPOCH);
            assert_eq!(judgement.status, status, "{text}");
            let finding = judgement.signals.findings.first();
            assert_eq!(finding.map(|finding| finding.severity), severity, "{text}");
            assert!(finding.is_none_or(|finding| finding.description.contains(text)), "{finding:?}");
            assert_eq!(judgement.details["apis"].as_array().map(Vec::len), Some(2));
        }
    }
}
