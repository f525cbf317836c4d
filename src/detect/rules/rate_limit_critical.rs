//! A symbol has nearly used up its rate limit at the exchange (DET-1, EXC-3).

use crate::model::{Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::vitals_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "rate_limit_critical",
    doc: "\
# rate_limit_critical

## Raised when
The vitals of a bot say that a symbol uses more than `thresholds.max_rate_limit_percent` (85) of its rate limit
(`rate_limit_status`, `percentage`). One issue per symbol, severity `critical`.

## Cleared when
The symbol is at the limit or below, or is no longer among those that the bot tells of. Vitals without `rate_limit_status` and
a bot that is silent keep it open.

## Why it matters
The next orders are refused, also those that close a position; some exchanges ban who goes on.

## Ladder
`recover_rate_limit`, for that symbol. A restart would not help: the counter is the exchange's. The policy has no levels for
single symbols, so for as long as the issue is open no symbol may open a position (`no_new_trades`); positions of other
symbols are not closed for it.

## False alarms
An exchange whose use is meant to be high and never refuses; raise the limit.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Vitals { vitals, .. } = subject else { return Verdict::Unknown };
    let Some(limits) = &vitals.rate_limits else { return Verdict::Unknown };
    let high = limits.iter().filter(|(_, used)| *used > settings.max_rate_limit_percent);
    let issues = high.flat_map(|(symbol, used)| {
        // The figure moves with every look; only what is said of the issue's name stays.
        let limit = settings.max_rate_limit_percent;
        let symptoms = vec![format!("{used:.1}% of the rate limit of {symbol} is used, expected at most {limit}%")];
        let describe = |name: &str| format!("{name}: rate limit of {symbol} is nearly used up");
        vitals_issue(&subject, SPEC.kind, Some(symbol), Severity::Critical, describe, symptoms, now)
    });
    Verdict::Known(issues.collect())
}
