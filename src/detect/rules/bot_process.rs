//! A bot's process does not answer (OBS-9).

use crate::model::{BotPart, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::bot;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "bot_process",
    doc: "\
# bot_process

## Raised when
A bot that is looked at from outside (check kind `freqtrade`) does not answer: nobody listens, no answer comes in time, or what
answers is no bot. Severity `critical`.

## Cleared when
It answers.

## Why it matters
Nobody manages its positions: stops that the bot keeps itself are not kept.

## Ladder
`restart_subsystem`, twice.

## False alarms
A restart by hand: it takes a bot up to 20 s to answer again. Tell chiron by a maintenance window. A bot that is merely slow
needs a longer `timeout`.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    bot::of_part(SPEC.kind, BotPart::Process, Severity::Critical, subject, now)
}
