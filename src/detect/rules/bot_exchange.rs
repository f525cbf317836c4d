//! A bot's exchange does not answer it, or sends it nothing new (OBS-9).

use crate::model::{BotPart, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::bot;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "bot_exchange",
    doc: "\
# bot_exchange

## Raised when
A bot's loop turns, and its exchange is away: chiron's own probe fails, more calls than `max_log_errors` failed for good, or
its newest candle is too old. Severity `high`.

## Cleared when
The probe succeeds, the log window holds no more failed calls than `max_log_errors`, and candles are young.

## Why it matters
Orders may not go out, and decisions are made on old prices, while the bot looks well from outside.

## Ladder
`pause_trading`, `fallback_to_backup`. A restart would not bring the exchange back.

## False alarms
A pair that the exchange has halted: name others as `pairs`. A market without trades at night: raise `max_candle_age`.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    bot::of_part(SPEC.kind, BotPart::Exchange, Severity::High, subject, now)
}
