//! A bot waits too long for its exchange (DET-1, EXC-4).

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::vitals_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "high_latency",
    doc: "\
# high_latency

## Raised when
The vitals of a bot say that an execution (`execution_latency`) or a ping of its WebSocket (`websocket_status.latency_ms`) takes
longer than `thresholds.max_latency` (2s). Severity `medium`.

## Cleared when
What the bot tells of the two is at the limit or below. Vitals with neither, and a bot that is silent, keep it open.

## Why it matters
Orders meet another price than the one they were decided on; stops come late.

## Ladder
`optimize_latency`, `reload_config`.

## False alarms
An exchange far away; raise the limit.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Vitals { vitals, .. } = subject else { return Verdict::Unknown };
    let ping = vitals.websocket.as_ref().and_then(|socket| socket.latency_ms);
    let told = [("an execution", vitals.execution_latency_ms), ("a ping of its WebSocket", ping)];
    let told: Vec<(&str, f64)> = told.into_iter().filter_map(|(what, millis)| Some((what, millis?))).collect();
    if told.is_empty() {
        return Verdict::Unknown;
    }
    let limit = settings.max_latency_ms;
    let high = told.into_iter().filter(|(_, millis)| *millis > limit);
    let symptoms: Vec<String> =
        high.map(|(what, millis)| format!("{what} takes {millis:.0} ms, expected at most {limit:.0} ms")).collect();
    if symptoms.is_empty() {
        return Verdict::CLEAR;
    }
    let describe = |name: &str| format!("{name}: latency is high");
    Verdict::Known(vitals_issue(&subject, SPEC.kind, None, Severity::Medium, describe, symptoms, now))
}
