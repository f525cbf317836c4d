//! A watched disk will be nearly full soon (OBS-10).

use crate::model::{Quantity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: Quantity::Disk.forecast(),
    doc: "\
# disk_forecast

## Raised when
The trend of the space or the inodes used of a watched path's file system will cross `thresholds.max_disk_percent`
within `prediction.horizon` (1 h), also by the pessimistic end of its slope's interval, and at least a twelfth of the
horizon ahead. Severity `low`. The description says when, and between which times. The rule for a trend is that of
`src/detect/trends/projection.rs`.

## Cleared when
The trend is gone for ten evaluations in a row, the limit is crossed (then the issue of the limit itself is
open), or nothing was heard of the quantity for a horizon. A new process learns anew; what was open stays so until it
has seen a horizon.

## Why it matters
A full disk stops databases and the journal. An hour is time to find out what fills it.

## Ladder
`clear_cache`, which is only shown: a person does it.

## False alarms
A large copy or backup that ends by itself. What has come down by itself from such a height within the last hours is not
told of.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    super::forecast(Quantity::Disk, subject, now)
}
