//! A bot's strategy fails (OBS-9).

use crate::model::{BotPart, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::bot;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "bot_strategy",
    doc: "\
# bot_strategy

## Raised when
A bot's loop turns and its exchange answers, and its strategy's code failed more than `max_log_errors` times within
`log_window`. Severity `high`.

## Cleared when
The log window holds no more failures than `max_log_errors`.

## Why it matters
freqtrade carries on without what failed: an exit or a stop that the strategy decides is never taken.

## Ladder
`pause_trading`, `reload_config`. The strategy itself is for a person to mend.

## False alarms
A strategy that raises errors as a habit: raise `max_log_errors`.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    bot::of_part(SPEC.kind, BotPart::Strategy, Severity::High, subject, now)
}
