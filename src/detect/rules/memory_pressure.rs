//! The host, or a bot by its vitals, uses too much memory (OBS-4, DET-1). One type, two subjects.

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::{host_issue, vitals_issue};

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "memory_pressure",
    doc: "\
# memory_pressure

## Raised when
The host's memory use, or the share that a bot tells of its own (`memory_usage` of its vitals), is above
`thresholds.max_memory_percent`. Severity `high`, whatever the figure; the Prometheus rule decides when a person is paged.

## Cleared when
It is at the limit or below. A bot that is silent, or leaves `memory_usage` out, keeps its issue open.

## Why it matters
Every subsystem shares the host: loops run late, orders go out on old prices. A bot without memory is killed with its
positions open.

## Ladder
Of the host: `clear_cache`, `reduce_memory`, `switch_to_safe_profile`. Of a bot: `reduce_memory`, `clear_cache`,
`restart_subsystem`.

## False alarms
Batch jobs such as retraining; move them or raise the limit. A bot that fills its caches up to its limit on purpose.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let describe = |percent: f64| format!("Memory usage critically high: {percent:.1}%");
    match subject {
        Subject::Host { resources, all } => {
            let percent = resources.memory_percent;
            let issue = (percent > settings.max_memory_percent)
                .then(|| host_issue(SPEC.kind, Severity::High, true, describe(percent), all, now));
            issue.into()
        }
        Subject::Vitals { vitals, .. } => {
            let Some(percent) = vitals.memory_usage.map(|share| share * 100.0) else { return Verdict::Unknown };
            if percent <= settings.max_memory_percent {
                return Verdict::CLEAR;
            }
            let symptoms = vec![describe(percent)];
            let text = |_: &str| describe(percent);
            Verdict::Known(vitals_issue(&subject, SPEC.kind, None, Severity::High, text, symptoms, now))
        }
        _ => Verdict::Unknown,
    }
}
