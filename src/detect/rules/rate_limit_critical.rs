//! A symbol has nearly used up its rate limit at the exchange (DET-1, EXC-3).

use crate::model::{Issue, Name, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::vitals_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "rate_limit_critical",
    doc: "\
# rate_limit_critical

## Raised when
The vitals of a bot say that a symbol uses more than `thresholds.max_rate_limit_percent` (85) of its rate limit
(`rate_limit_status`, `percentage`). One issue per symbol, severity `critical`. At most 100 symbols have one, those that
have used up all of it (100) first and otherwise by name, so that the choice does not change with each look; one more issue
without a symbol stands for all others.

## Cleared when
The symbol is at the limit or below, or is no longer among those that the bot tells of; or a worse one has taken its place
among the 100, which is then told by the issue without a symbol. That one is cleared when at most 100 are above. Vitals without `rate_limit_status` and
a bot that is silent keep it open.

## Why it matters
The next orders are refused, also those that close a position; some exchanges ban who goes on.

## Ladder
`recover_rate_limit`, for that symbol, or for the bot as a whole without one. A restart would not help: the counter is the exchange's. The policy has no levels for
single symbols, so for as long as the issue is open no symbol may open a position (`no_new_trades`); positions of other
symbols are not closed for it.

## False alarms
An exchange whose use is meant to be high and never refuses; raise the limit.
",
    evaluate,
};

/// All of a rate limit, in percent.
const USED_UP: f64 = 100.0;
/// Symbols that have an issue of their own.
const SYMBOLS_MAX: usize = 100;

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Vitals { vitals, .. } = subject else { return Verdict::Unknown };
    let Some(limits) = &vitals.rate_limits else { return Verdict::Unknown };
    let limit = settings.max_rate_limit_percent;
    let mut high: Vec<&(Name, f64)> = limits.iter().filter(|(_, used)| *used > limit).collect();
    // The figures move with every look. By them alone, issues of very many symbols would come and go.
    if high.len() > SYMBOLS_MAX {
        high.sort_by(|(a, a_used), (b, b_used)| (*a_used < USED_UP, a).cmp(&(*b_used < USED_UP, b)));
    }
    let rest = high.split_off(high.len().min(SYMBOLS_MAX));
    let of_symbols = high.into_iter().flat_map(|(symbol, used)| {
        let symptoms = vec![format!("{used:.1}% of the rate limit of {symbol} is used, expected at most {limit}%")];
        let describe = |name: &str| format!("{name}: rate limit of {symbol} is nearly used up");
        vitals_issue(&subject, SPEC.kind, Some(symbol), Severity::Critical, describe, symptoms, now)
    });
    let mut issues: Vec<Issue> = of_symbols.collect();
    if let Some(worst) = rest.iter().map(|(_, used)| *used).reduce(f64::max) {
        let more = rest.len();
        let symptoms = vec![format!("{more} more symbols use up to {worst:.1}%, expected at most {limit}%")];
        let describe =
            |name: &str| format!("{name}: rate limits of more than {SYMBOLS_MAX} symbols are nearly used up");
        let of_rest = vitals_issue(&subject, SPEC.kind, None, Severity::Critical, describe, symptoms, now);
        // It stands for symbols, whose positions are not closed for each other.
        issues.extend(of_rest.into_iter().map(|issue| Issue { impacts_trading: false, ..issue }));
    }
    Verdict::Known(issues)
}
