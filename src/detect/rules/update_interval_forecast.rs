//! Updates will come too seldom soon (OBS-10).

use crate::model::{Quantity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: Quantity::UpdatedAt.forecast(),
    doc: "\
# update_interval_forecast

## Raised when
The trend of the time between two updates of what a check dates (a file, a folder, a push) will cross `degraded_after`
of its limits within `prediction.horizon` (1 h), also by the pessimistic end of its slope's interval, and at least a
twelfth of the horizon ahead. Severity `low`. The description says when, and between which times. The rule for a trend
is that of `src/detect/trends/projection.rs`.

## Cleared when
The trend is gone for ten evaluations in a row, the limit is crossed (then the issue of the limit itself is
open), or nothing was heard of the quantity for a horizon. A new process learns anew; what was open stays so until it
has seen a horizon.

## Why it matters
A loop that takes longer each time will be stale, and trades on old prices before it is.

## Ladder
None: a person is told once, with an alert of severity `info`.

## False alarms
Work that is done less often at night. Where a check runs more seldom than the updates come, the time between two is at
least that of the check.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    super::forecast(Quantity::UpdatedAt, subject, now)
}
