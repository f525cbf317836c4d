//! The host's Memory use is too high (OBS-4, DET-1).

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::host_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "memory_pressure",
    doc: "\
# memory_pressure

## Raised when
The host's Memory use is above `thresholds.max_memory_percent`. Severity `high`, whatever the figure; the Prometheus rule decides
when a person is paged.

## Cleared when
It is at the limit or below.

## Why it matters
Every subsystem shares the host: loops run late, orders go out on old prices.

## Ladder
`clear_cache`, `reduce_memory`, `switch_to_safe_profile`.

## False alarms
Batch jobs such as retraining; move them or raise the limit.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Host { resources, all } = subject else { return Verdict::Unknown };
    let issue = (resources.memory_percent > settings.max_memory_percent).then(|| {
        let description = format!("Memory usage critically high: {:.1}%", resources.memory_percent);
        host_issue(SPEC.kind, Severity::High, true, description, all, now)
    });
    issue.into()
}
