//! Something will answer too slowly soon (OBS-10).

use crate::model::{Quantity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: Quantity::Latency.forecast(),
    doc: "\
# latency_forecast

## Raised when
The trend of the time until an answer will cross its limit: of a `tcp`, `http`, `dns`, `postgres` or `redis` check with
`degraded_latency`, or of a bot or a `websocket` check by its vitals (`thresholds.max_latency_ms`, for executions and for the
WebSocket), within `prediction.horizon` (1 h), also by the pessimistic end of its slope's interval, and at least a twelfth of
the horizon ahead. Severity `low`. The description says when, and between which times. The rule for a trend is that of
`src/detect/trends/projection.rs`.

## Cleared when
The trend is gone for ten evaluations in a row, the limit is crossed (then the issue of the limit itself is
open), or nothing was heard of the quantity for a horizon. A new process learns anew; what was open stays so until it
has seen a horizon.

## Why it matters
What slows down steadily is being exhausted: connections, memory, a table without an index.

## Ladder
None: a person is told once, with an alert of severity `info`.

## False alarms
A load that rises every day at the same hour.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    super::forecast(Quantity::Latency, subject, now)
}
