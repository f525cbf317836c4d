//! `intelligence_api`: does the provider of market intelligence answer, and is what it says fresh?

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::time::{Instant, timeout};

use super::exchange_api::{Limits, Probed, find, limits, number, settled, tell};
use super::findings::Findings;
use super::source::{self, Dating, Seen, Source, address, age};
use super::window::{Pace, Recent, Window};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::Section;
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;
use crate::observe::probes::shown;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: IntelligenceApi::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str =
    "look at the provider's status page and at the key's quota; switch to another provider if there is one";

const DOC: &str = "\
# What it asks
Whether the provider of market intelligence answers a GET with success, how soon, how many of the last probes it did not,
and how old its data is: by a date in the answer (`pointer`), or by the file that the bot keeps of it (`data`).

# Why it matters
A strategy that weighs funding, liquidations or sentiment trades on a picture of the past while its provider is silent.

# Failure reasons
- `critical`, finding high: no answer within `timeout`, more than 1 MiB, or another status than 200 to 299, twice in a row.
- `degraded`, finding medium: the answer took `degraded_latency` or longer; more than `max_error_rate` of the last `window`
  probes failed, once there are five; the data is older than `stale_after`, dated in the future, has no date where it
  should, or is missing.
- `unknown`: one probe failed, or there are not yet five, as with `exchange_api`.

# Parameters
- `url`: the address. Required.
- `pointer` (none): where in the answer its date stands.
- `data` (none): the file with the data; its date as with `intelligence_freshness`.
- `stale_after` (120s): older is stale.
- `degraded_latency` (none), `timeout` (5s), `max_error_rate` (`thresholds.max_error_rate`), `window` (20): as with
  `exchange_api`.
";

/// Older data is stale, where the settings do not say.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(120);

/// One provider.
struct IntelligenceApi {
    client: Client,
    url: Url,
    pointer: Option<Dating>,
    data: Option<Source<Option<Timestamp>>>,
    stale_after: Duration,
    limits: Limits,
    window: Window,
    pace: Pace,
    recent: Recent<(Probed, Dated)>,
}

/// The date in an answer, where one is wanted.
type Dated = Option<Result<Option<Timestamp>, String>>;

/// How a look went.
struct Looked {
    probed: Probed,
    dated: Dated,
    data: Option<Seen<Option<Timestamp>>>,
}

impl IntelligenceApi {
    async fn ask(&self) -> (Probed, Dated) {
        let (now, recent) = self.recent.look();
        if let Some(recent) = recent {
            return recent;
        }
        let begun = Instant::now();
        let asked = timeout(self.limits.timeout, shown::ask(&self.client, &self.url)).await;
        let latency = begun.elapsed();
        let place = address(&self.url);
        let body = match asked {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(why)) => Err(format!("{place}: {why}")),
            Err(_) => Err(format!("{place}: no answer within {:?}", self.limits.timeout)),
        };
        let tally = self.window.note(body.is_err(), now);
        let dated = match (&self.pointer, &body) {
            (Some(dating), Ok(body)) => Some(dating.date(body)),
            _ => None,
        };
        let answer = (Probed { place, latency: body.is_ok().then_some(latency), error: body.err(), tally }, dated);
        self.recent.keep(now, &answer);
        answer
    }
}

impl Check for IntelligenceApi {
    type Reading = Looked;
    const KIND: &'static str = "intelligence_api";

    async fn read(&self) -> Looked {
        let (probed, dated) = self.ask().await;
        let data = match &self.data {
            Some(data) => Some(data.read_apart().await),
            None => None,
        };
        Looked { probed, dated, data }
    }

    fn judge(&self, reading: &Looked, now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        find("intelligence API", &reading.probed, &self.limits, (Status::Critical, Severity::High), &mut findings);
        let place = &reading.probed.place;
        let mut dates = Vec::new();
        match &reading.dated {
            Some(Ok(Some(at))) => dates.push((place.clone(), *at)),
            Some(Ok(None)) | None => {}
            Some(Err(why)) => findings.add(Status::Degraded, Severity::Medium, None, format!("{place}: {why}")),
        }
        let mut unread = None;
        if let (Some(source), Some(seen)) = (&self.data, &reading.data) {
            match source.content(seen, Status::Degraded) {
                Ok(at) => {
                    let modified = seen.as_ref().ok().and_then(|(modified, _)| *modified);
                    dates.extend(at.or(modified).map(|at| (source.place(), at)));
                }
                Err(trouble) if trouble.unrunnable => unread = Some(trouble.text),
                Err(trouble) => findings.add(trouble.status, Severity::Medium, None, trouble.text),
            }
        }
        let mut oldest = None;
        let mut changes = None;
        for (place, at) in dates {
            let age = age(at, self.stale_after, now);
            if let Some(wrong) = &age.wrong {
                findings.add(Status::Degraded, Severity::Medium, None, format!("{place} {wrong}"));
            }
            changes = [changes, age.changes_at].into_iter().flatten().min();
            oldest = Some(oldest.map_or(age.seconds, |oldest: f64| oldest.max(age.seconds)));
        }
        let mut judgement = tell(std::slice::from_ref(&reading.probed), findings.judgement());
        judgement.next_change_at = changes;
        if let Some(seconds) = oldest {
            judgement = judgement.with("age_seconds", seconds);
            judgement.perfdata.push(number("age", seconds, "seconds"));
        }
        if let Some(why) = unread {
            judgement = judgement.with("unread", why);
        }
        settled(judgement, std::slice::from_ref(&reading.probed), &self.limits, self.pace.again(now))
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let url = params::required_text(section, "url").and_then(|text| source::url(section, "url", &text));
    let pointer = source::pointer(section, "pointer").map(|pointer| Dating { pointer: Some(pointer), opaque: false });
    let data = section.has("data").then(|| source::place(section, "data", context.checks)).flatten();
    let stale_after = params::span(section, "stale_after").unwrap_or(STALE_AFTER);
    let (limits, window) = limits(section, context);
    let pace = Pace(context.every);
    let check = IntelligenceApi {
        client: context.checks.http.clone(),
        url: url?,
        pointer,
        data: data.map(|place| super::intelligence_freshness::dated(place, None, context)),
        stale_after,
        limits,
        window: Window::new(window, pace),
        pace,
        recent: Recent::new(context.checks.clock.clone(), pace),
    };
    Some(Built { check: Arc::new(check), limit: limits.timeout.saturating_add(super::LIMIT) })
}
