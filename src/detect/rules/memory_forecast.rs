//! Memory will run short soon (OBS-10).

use crate::model::{Quantity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: Quantity::Memory.forecast(),
    doc: "\
# memory_forecast

## Raised when
The trend of memory in use, of the host or of a bot by its vitals, will cross `thresholds.max_memory_percent` within
`prediction.horizon` (1 h), also by the pessimistic end of its slope's interval, and at least a twelfth of the horizon
ahead. Severity `low`. The description says when, and between which times. The rule for a trend is that of
`src/detect/trends/projection.rs`.

## Cleared when
The trend is gone for ten evaluations in a row, the limit is crossed (then the issue of the limit itself is
open), or nothing was heard of the quantity for a horizon. A new process learns anew; what was open stays so until it
has seen a horizon.

## Why it matters
A leak ends in a process that is killed at a time nobody has chosen. A restart can be planned instead.

## Ladder
None: a person is told once, with an alert of severity `info`.

## False alarms
A program that has just been started and warms up; nothing is said of a quantity that is known for less than the
horizon.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    super::forecast(Quantity::Memory, subject, now)
}
