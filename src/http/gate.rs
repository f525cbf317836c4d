//! The one question a bot asks: may I do this now? (POL-5)
//!
//! **Invariant:** pure; what is expired or unclear is answered as `no_new_trades` or stricter.

use std::time::Duration;

use serde::Serialize;

use crate::model::{Intent, Level, PolicyDocument, Timestamp};

/// A document from further in the future than this was made before the clock was set back: how old it is, nobody knows.
const AHEAD_MAX: Duration = Duration::from_secs(5);

/// The answer of the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateAnswer {
    /// Whether the bot may.
    pub allowed: bool,
    /// The level it was judged by.
    pub policy: Level,
    /// Why, in one sentence.
    pub reason: String,
}

/// Judges one intent by the policy. `leverage` is that of the new exposure, if the bot told it. A document that is
/// looked at after its `valid_until` counts as `no_new_trades`, besides what it says itself; so does one that was issued
/// in the future.
pub fn gate(document: &PolicyDocument, intent: Intent, leverage: Option<f64>, now: Timestamp) -> GateAnswer {
    let expired = now > document.valid_until || document.issued_at > now.plus(AHEAD_MAX);
    let (policy, restrictions) = if expired {
        let floor = Level::NoNewTrades;
        (document.policy.max(floor), document.restrictions.join(floor.restrictions()))
    } else {
        (document.policy, document.restrictions)
    };
    let answer = |allowed, reason: String| GateAnswer { allowed, policy, reason };
    let allowed = match intent {
        Intent::ClosePosition => return answer(true, "closing is allowed under every policy".to_owned()),
        Intent::AdjustStop | Intent::Trade => restrictions.trade,
        Intent::OpenPosition => restrictions.trade && restrictions.open,
        Intent::IncreasePosition => restrictions.trade && restrictions.increase,
    };
    if !allowed {
        return answer(false, format!("{} is forbidden: {}", intent.as_str(), cause(document, policy, expired)));
    }
    let adds_exposure = intent != Intent::AdjustStop;
    match (leverage, restrictions.max_leverage) {
        (Some(leverage), Some(most)) if adds_exposure && (leverage > most || leverage.is_nan()) => {
            answer(false, format!("leverage {leverage} is above the highest allowed, {most}"))
        }
        (None, Some(most)) if adds_exposure => answer(true, format!("{policy} is in force: leverage at most {most}")),
        _ => answer(true, format!("{policy} is in force")),
    }
}

fn cause(document: &PolicyDocument, policy: Level, expired: bool) -> String {
    if expired && document.policy < policy {
        return format!("the policy expired at {}, which counts as {policy}", document.valid_until);
    }
    match document.reasons.iter().find(|hold| hold.level == policy) {
        Some(hold) => format!("{policy} is held by {}: {}", hold.source.as_str(), hold.reason),
        None => format!("{policy} is in force"),
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{PolicySource, SourceHold};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn document(level: Level, valid_until: Timestamp) -> PolicyDocument {
        PolicyDocument {
            sequence: 1,
            changed_at: NOW,
            issued_at: NOW,
            valid_until,
            policy: level,
            restrictions: level.restrictions(),
            latched: false,
            reasons: vec![SourceHold {
                source: PolicySource::Operator,
                subject: "person".to_owned(),
                level,
                reason: "exchange maintenance".to_owned(),
                since: NOW,
                until: None,
            }],
            reasons_omitted: 0,
        }
    }

    /// POL-5, POL-1: every level against every intent, valid and expired.
    #[test]
    fn every_level_answers_every_intent() {
        use Level::*;
        // open, increase, close, adjust, trade
        let table = [
            (AllowAll, [true, true, true, true, true], [false, false, true, true, true]),
            (SafeRiskProfile, [true, true, true, true, true], [false, false, true, true, true]),
            (NoNewTrades, [false, false, true, true, true], [false, false, true, true, true]),
            (DefensiveExit, [false, false, true, true, true], [false, false, true, true, true]),
            (EmergencyShutdown, [false, false, true, false, false], [false, false, true, false, false]),
        ];
        for (level, valid, expired) in table {
            for (index, intent) in Intent::ALL.into_iter().enumerate() {
                let until = document(level, NOW);
                assert_eq!(gate(&until, intent, None, NOW).allowed, valid[index], "{level} {intent:?}");
                let answer = gate(&until, intent, None, NOW.plus(std::time::Duration::from_millis(1)));
                assert_eq!(answer.allowed, expired[index], "expired {level} {intent:?}");
                assert_eq!(answer.policy, level.max(NoNewTrades));
            }
        }
    }

    /// POL-1: leverage counts for new exposure only.
    #[test]
    fn leverage_is_limited_for_new_exposure() {
        let safe = document(Level::SafeRiskProfile, NOW);
        for (intent, leverage, allowed) in [
            (Intent::OpenPosition, Some(5.0), true),
            (Intent::OpenPosition, Some(5.01), false),
            (Intent::OpenPosition, Some(f64::INFINITY), false),
            (Intent::OpenPosition, Some(f64::NAN), false),
            (Intent::IncreasePosition, Some(10.0), false),
            (Intent::Trade, Some(10.0), false),
            (Intent::AdjustStop, Some(10.0), true),
            (Intent::ClosePosition, Some(10.0), true),
        ] {
            assert_eq!(gate(&safe, intent, leverage, NOW).allowed, allowed, "{intent:?} {leverage:?}");
        }
        assert!(gate(&document(Level::AllowAll, NOW), Intent::OpenPosition, Some(100.0), NOW).allowed);
        assert_eq!(
            gate(&safe, Intent::OpenPosition, None, NOW).reason,
            "safe_risk_profile is in force: leverage at most 5"
        );
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let held = document(Level::NoNewTrades, NOW);
        assert_eq!(
            gate(&held, Intent::OpenPosition, None, NOW).reason,
            "open_position is forbidden: no_new_trades is held by operator: exchange maintenance"
        );
        let old = document(Level::AllowAll, Timestamp::EPOCH);
        assert_eq!(
            gate(&old, Intent::OpenPosition, None, NOW).reason,
            "open_position is forbidden: the policy expired at 1970-01-01T00:00:00Z, which counts as no_new_trades"
        );
    }
}
