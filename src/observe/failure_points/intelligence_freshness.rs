//! `intelligence_freshness`: how old is the intelligence that the bot trades on?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::exchange_api::number;
use super::findings::Findings;
use super::intelligence_api::STALE_AFTER;
use super::source::{self, Dating, Place, Seen, Source, age};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::Section;
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: IntelligenceFreshness::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "look at what fetches the intelligence data, and start it anew";

const DOC: &str = "\
# What it asks
How old each file of intelligence data is, by the date inside it (`last_cycle`, `timestamp`, `last_update`, `updated_at`, or
`pointer`) or, without one, by its time of modification. Of a file that is not named `.json`, the latter alone counts.

# Why it matters
Whatever fetches the data may have stopped while the provider is well and the bot trades on.

# Failure reasons
- `degraded`, finding medium: older than `stale_after`; dated more than 5 s in the future; empty, half-written, no JSON; no
  date at `pointer`; or missing, if `missing` says nothing else.
- `unknown`: missing, with `missing: unknown`; or it may not be read.

`refresh_intelligence`, if it is bound, is begun and watched until this is fresh again.

# Parameters
- `path`: a file, or a list of up to 16. Required.
- `stale_after` (120s): older is stale.
- `pointer` (none): where the date stands.
- `missing` (`degraded`): the grade of a file that is not there: `unknown`, `degraded` or `critical`.
";

/// The most files.
const FILES_MAX: usize = 16;

/// Every file.
struct IntelligenceFreshness {
    files: Vec<Source<Option<Timestamp>>>,
    stale_after: Duration,
    missing: Status,
}

impl Check for IntelligenceFreshness {
    type Reading = Vec<Seen<Option<Timestamp>>>;
    const KIND: &'static str = "intelligence_freshness";

    async fn read(&self) -> Self::Reading {
        if self.blocking() {
            let mut seen = Vec::new();
            for file in &self.files {
                seen.push(file.read().await);
            }
            return seen;
        }
        join_all(self.files.iter().map(Source::read_apart)).await
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        let mut files = Vec::new();
        let mut changes = None;
        let mut oldest: Option<f64> = None;
        let mut unknown = None;
        for (source, seen) in self.files.iter().zip(reading) {
            let at = match source.content(seen, self.missing) {
                Ok(at) => *at,
                Err(trouble) => {
                    files.push(json!({"path": source.place(), "age_seconds": null}));
                    if trouble.status == Status::Unknown {
                        unknown = unknown.or(Some(trouble));
                    } else {
                        findings.add(trouble.status, Severity::Medium, None, trouble.text);
                    }
                    continue;
                }
            };
            let modified = seen.as_ref().ok().and_then(|(modified, _)| *modified);
            let from = if at.is_some() { "content" } else { "mtime" };
            let Some(at) = at.or(modified) else {
                let text = format!("{} has no date, expected one", source.place());
                findings.add(Status::Degraded, Severity::Medium, None, text);
                continue;
            };
            let age = age(at, self.stale_after, now);
            if let Some(wrong) = &age.wrong {
                findings.add(Status::Degraded, Severity::Medium, None, format!("{} {wrong}", source.place()));
            }
            changes = [changes, age.changes_at].into_iter().flatten().min();
            oldest = Some(oldest.map_or(age.seconds, |oldest| oldest.max(age.seconds)));
            files.push(json!({"path": source.place(), "age_seconds": age.seconds, "timestamp_source": from}));
        }
        let mut judgement = findings.judgement();
        // What is wrong is told; but what nothing is known of is not all well.
        if let (Status::Healthy, Some(trouble)) = (judgement.status, unknown) {
            return trouble.judgement(Severity::Medium).with("files", files);
        }
        judgement = judgement.with("files", files).with("limit_seconds", self.stale_after.as_secs_f64());
        judgement.next_change_at = changes;
        if let Some(seconds) = oldest {
            judgement = judgement.with("age_seconds", seconds);
            judgement.perfdata.push(number("age", seconds, "seconds"));
        }
        judgement
    }

    fn blocking(&self) -> bool {
        self.files.iter().all(Source::blocks)
    }

    fn watches(&self) -> Vec<std::path::PathBuf> {
        self.files.iter().filter_map(Source::path).collect()
    }
}

/// A document of which only the date matters.
pub(super) fn dated(place: Place, pointer: Option<String>, context: &PointContext<'_>) -> Source<Option<Timestamp>> {
    let json = match &place {
        Place::File(path) => path.extension().is_none_or(|ending| ending.eq_ignore_ascii_case("json")),
        Place::Url(_) => true,
    };
    let dating = Dating { opaque: !json && pointer.is_none(), pointer };
    Source::new(place, context.checks, move |bytes| dating.date(bytes))
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let paths = params::texts(section, "path");
    if paths.is_empty() || paths.len() > FILES_MAX {
        section.reject("path", &format!("expected a file, or a list of up to {FILES_MAX}"), None);
    }
    let stale_after = params::span(section, "stale_after").unwrap_or(STALE_AFTER);
    let pointer = source::pointer(section, "pointer");
    let missing = if section.has("missing") { params::missing(section).status() } else { Status::Degraded };
    let places = paths.iter().take(FILES_MAX).filter_map(|text| {
        if text.contains("://") {
            return source::url(section, "path", text).map(Place::Url);
        }
        (!text.is_empty()).then(|| Place::File(context.checks.workspace.join(text)))
    });
    let files: Vec<_> = places.map(|place| dated(place, pointer.clone(), context)).collect();
    if files.is_empty() {
        return None;
    }
    Some(Built { check: Arc::new(IntelligenceFreshness { files, stale_after, missing }), limit: super::LIMIT })
}
