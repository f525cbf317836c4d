//! A bot's trading loop stands still (OBS-9).

use crate::model::{BotPart, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::bot;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "bot_loop",
    doc: "\
# bot_loop

## Raised when
A bot answers, and its trading loop last turned longer than `critical_after` ago; or it stopped itself after an error.
Severity `critical`.

## Cleared when
Its loop has turned lately. While the bot is stopped by somebody, nothing is known of its loop.

## Why it matters
It answers pings and looks alive, and neither enters nor exits anything.

## Ladder
`restart_subsystem`, twice.

## False alarms
A `critical_after` shorter than the bot's `process_throttle_secs`, or than a strategy that computes for long.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    bot::of_part(SPEC.kind, BotPart::Loop, Severity::Critical, subject, now)
}
