//! A bot's WebSocket is not connected, or not authenticated (DET-1, EXC-1).

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::vitals_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "websocket_disconnected",
    doc: "\
# websocket_disconnected

## Raised when
The vitals of a bot say that its WebSocket is not connected (`websocket_status.connected` is false), or is connected and not
authenticated (`authenticated` is false). Severity `critical`.

## Cleared when
Fresh vitals say that it is connected, and do not say that it is not authenticated. Vitals without `connected`, vitals that
are too old and a bot that is silent neither raise nor clear it.

## Why it matters
The bot trades on prices that no longer move, and does not hear of its own fills.

## Ladder
`repair_websocket`, `restart_subsystem`. Neither mends credentials that the server refuses, as the symptoms say then: correct
their file, and leave the restart out in `recovery.ladders` where it would do harm.

## False alarms
A bot that needs no credentials for its data and tells `authenticated: false` all the same; it should leave the key out.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Vitals { vitals, .. } = subject else { return Verdict::Unknown };
    let Some(socket) = &vitals.websocket else { return Verdict::Unknown };
    let what = match (socket.connected, socket.authenticated) {
        (Some(false), _) => "not connected",
        (_, Some(false)) => "not authenticated",
        (Some(true), _) => return Verdict::CLEAR,
        (None, _) => return Verdict::Unknown,
    };
    let mut symptoms = vec![format!("its WebSocket is {what}")];
    symptoms.extend(socket.last_error.clone().filter(|error| !error.is_empty()));
    let describe = |name: &str| format!("{name}: WebSocket is {what}");
    Verdict::Known(vitals_issue(&subject, SPEC.kind, None, Severity::Critical, describe, symptoms, now))
}
