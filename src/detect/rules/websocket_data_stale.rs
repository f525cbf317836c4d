//! A bot's WebSocket is connected and brings no data (DET-1, EXC-1).

use std::time::Duration;

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::vitals_issue;

/// Data flows while an update has come within this time (EXC-1).
const FLOWING: Duration = Duration::from_secs(5);

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "websocket_data_stale",
    doc: "\
# websocket_data_stale

## Raised when
The vitals of a bot say that its WebSocket is connected and that no data flows (`websocket_status.data_flowing` is false), or
that the latest update (`last_update`) was more than 5 s old when the bot told it. Severity `high`.

## Cleared when
Fresh vitals say that data flows. While the WebSocket is not connected, nothing is known of its data; `websocket_disconnected`
is raised then. A bot that is silent keeps it open.

## Why it matters
A connection that stands and brings nothing looks well from outside, while the bot decides on old prices.

## Ladder
`refresh_subscriptions`, `repair_websocket`, `restart_subsystem`.

## False alarms
A market so quiet that 5 s pass without an update; the bot should tell the time of any message as `last_update`, or leave it
out and judge `data_flowing` by what its markets are like. A check of kind `websocket` learns its feed's rhythm, and needs
`stale_after` for one that may be silent for longer than a minute from the start.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Vitals { vitals, .. } = subject else { return Verdict::Unknown };
    let Some(socket) = &vitals.websocket else { return Verdict::Unknown };
    if socket.connected == Some(false) {
        return Verdict::Unknown;
    }
    let silent = socket.last_update.map(|at| vitals.at.since(at));
    match socket.data_flowing.or_else(|| silent.map(|silent| silent <= FLOWING)) {
        None => Verdict::Unknown,
        Some(true) => Verdict::CLEAR,
        Some(false) => {
            let mut symptoms = vec!["its WebSocket brings no data".to_owned()];
            symptoms.extend(silent.map(|silent| format!("the latest update was {} s old", silent.as_secs())));
            let describe = |name: &str| format!("{name}: WebSocket brings no data");
            Verdict::Known(vitals_issue(&subject, SPEC.kind, None, Severity::High, describe, symptoms, now))
        }
    }
}
