//! `exchange_api`: do the exchange's interfaces answer, how soon, and how often not?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, Request, Url};
use serde_json::json;

use super::findings::Findings;
use super::source::{self, address};
use super::window::{Pace, Recent, Tally, Window, withheld};
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
- `critical`, finding critical: no address answers within `timeout`, or with a status from 200 to 299, twice in a row.
- `degraded`, finding high: the same of one or some of several.
- `degraded`, finding medium: the answer took `degraded_latency` or longer; or more than `max_error_rate` of the last
  `window` probes failed, once there are five. Of probes out of turn, one in half of `every` counts.
- `unknown`: one probe failed and the next, soon after, will tell; or, after a start or a reload, there are not yet five
  probes (they come sooner then), so that nobody knows whether what was wrong before is over.

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
    pace: Pace,
    recent: Recent<Vec<Probed>>,
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
        let (now, recent) = self.recent.look();
        if let Some(recent) = recent {
            return recent;
        }
        let probes = join_all(self.apis.iter().map(|api| async {
            let reading = Check::read(&api.http).await;
            // The grade of an answer does not depend on the time.
            let judged = Check::judge(&api.http, &reading, Timestamp::EPOCH);
            let failed = judged.status == Status::Critical;
            let error = judged.details.get("error").and_then(|error| error.as_str());
            let error = failed.then(|| error.unwrap_or("no answer").to_owned());
            let latency = judged.details.get("latency_ms").and_then(serde_json::Value::as_f64);
            let latency = latency.filter(|_| !failed).map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1000.0));
            Probed { place: api.place.clone(), error, latency, tally: api.window.note(failed, now) }
        }))
        .await;
        self.recent.keep(now, &probes);
        probes
    }

    fn ask_anew(&self) {
        self.recent.forget();
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        let down = if reading.iter().all(|probed| probed.tally.is_down()) {
            (Status::Critical, Severity::Critical)
        } else {
            (Status::Degraded, Severity::High)
        };
        for probed in reading {
            find("exchange API", probed, &self.limits, down, &mut findings);
        }
        settled(tell(reading, findings.judgement()), reading, &self.limits, self.pace.again(now))
    }
}

/// The judgement, or none where probes are too few.
pub(super) fn settled(judgement: Judgement, probes: &[Probed], limits: &Limits, again: Timestamp) -> Judgement {
    let doubtful = probes.iter().find(|probed| probed.tally.is_doubtful());
    let doubt = doubtful.and_then(|probed| Some(format!("failed once: {}", probed.error.as_deref()?)));
    // A share of all is never exceeded.
    let young = probes.iter().find(|probed| probed.tally.young && limits.max_error_rate < 1.0);
    let young = young.map(|probed| format!("{}: too few probes yet to know how often they fail", probed.place));
    withheld(judgement, doubt, young, again)
}

/// What is wrong with how one address answered; `down` is the grade of one that does not, and its severity.
pub(super) fn find(what: &str, probed: &Probed, limits: &Limits, down: (Status, Severity), findings: &mut Findings) {
    if let Some(error) = &probed.error {
        if probed.tally.is_down() {
            findings.add(down.0, down.1, None, format!("{what} down: {error}"));
        }
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
    let pace = Pace(context.every);
    let apis: Vec<Api> = urls
        .into_iter()
        .map(|url| Api {
            place: address(&url),
            http: Http::new(
                context.checks.http.clone(),
                Request::new(Method::GET, url),
                Expect { status: Vec::new(), body: None, degraded_latency: None, timeout: limits.timeout },
            ),
            window: Window::new(window, pace),
        })
        .collect();
    if apis.is_empty() {
        return None;
    }
    let recent = Recent::new(context.checks.clock.clone(), pace);
    Some(Built { check: Arc::new(ExchangeApi { apis, limits, pace, recent }), limit: limits.timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(error: Option<&str>, millis: u64, failed: usize) -> Probed {
        let latency = error.is_none().then_some(Duration::from_millis(millis));
        let in_a_row = if error.is_some() { 2 } else { 0 };
        let tally = Tally { probes: 20, failed, in_a_row, young: false };
        Probed { place: "https://x/ping".to_owned(), error: error.map(str::to_owned), latency, tally }
    }

    fn check() -> ExchangeApi {
        let limits = Limits {
            degraded_latency: Some(Duration::from_secs(1)),
            timeout: Duration::from_secs(5),
            max_error_rate: 0.2,
        };
        let pace = Pace(Duration::from_secs(60));
        let recent = Recent::new(crate::base::clock::Clock::manual(Timestamp::EPOCH), pace);
        ExchangeApi { apis: Vec::new(), limits, pace, recent }
    }

    /// OBS-8: one failed probe is no proof, and few probes are no proof that an issue is over; what is worse is told all the
    /// same. The next look comes soon.
    #[test]
    fn too_little_evidence_is_unknown() {
        let with = |in_a_row, young, millis| {
            let mut one = probed((in_a_row > 0).then_some("refused"), millis, 0);
            (one.tally.in_a_row, one.tally.young) = (in_a_row, young);
            one
        };
        let again = Timestamp::EPOCH.plus(Duration::from_millis(5010));
        for (reading, status, severity, soon) in [
            (vec![with(1, false, 1)], Status::Unknown, None, true),
            (vec![with(0, true, 1)], Status::Unknown, None, true),
            (vec![with(0, false, 1)], Status::Healthy, None, false),
            (vec![with(1, false, 1), with(0, false, 1000)], Status::Unknown, None, true),
            (vec![with(0, true, 1000)], Status::Degraded, Some(Severity::Medium), true),
            (vec![with(2, true, 1)], Status::Critical, Some(Severity::Critical), true),
            (vec![with(2, false, 1), with(0, false, 1)], Status::Degraded, Some(Severity::High), false),
            (vec![with(2, false, 1), with(1, false, 1)], Status::Degraded, Some(Severity::High), true),
            (vec![with(2, false, 1), with(3, false, 1)], Status::Critical, Some(Severity::Critical), false),
        ] {
            let judgement = Check::judge(&check(), &reading, Timestamp::EPOCH);
            assert_eq!(judgement.status, status, "{reading:?}");
            assert_eq!(judgement.signals.findings.first().map(|one| one.severity), severity, "{reading:?}");
            assert_eq!(judgement.next_change_at, soon.then_some(again), "{reading:?}");
            assert_eq!(judgement.details.contains_key("error"), matches!(status, Status::Unknown | Status::Critical));
        }
    }

    /// OBS-8: both sides of the latency and of the error rate; no answer of one of two is of high severity.
    #[test]
    fn both_sides_of_each_limit() {
        let check = check();
        for (found, status, severity, text) in [
            (probed(None, 999, 4), Status::Healthy, None, ""),
            (probed(None, 1000, 4), Status::Degraded, Some(Severity::Medium), "slow: https://x/ping took 1s or longer"),
            (probed(None, 1, 5), Status::Degraded, Some(Severity::Medium), "failed more than 20 % of the last probes"),
            (probed(Some("refused"), 0, 1), Status::Degraded, Some(Severity::High), "exchange API down: refused"),
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
