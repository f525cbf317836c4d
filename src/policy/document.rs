//! What is in force: the join of all holds, as the document a bot obeys (POL-2, POL-5).

use crate::model::{Level, PolicyDocument, Restrictions, SourceHold, Timestamp};

use super::Settings;

/// Reasons told in a document; the strictest ones. All holds count, told or not.
pub const REASONS_MAX: usize = 64;

/// Why levels are held.
#[derive(Clone, Debug, PartialEq)]
pub struct Reasons {
    /// The strictest of them, at least [`REASONS_MAX`] if there are as many.
    pub strictest: Vec<SourceHold>,
    /// How many there are in all.
    pub held: usize,
}

/// Joins the `levels` that are held, and tells the reasons. `latched`: `emergency_shutdown` counts as held.
pub fn document(
    levels: impl Iterator<Item = Level>,
    reasons: Reasons,
    latched: bool,
    sequence: u64,
    changed_at: Timestamp,
    settings: &Settings,
    now: Timestamp,
) -> PolicyDocument {
    let latch = latched.then_some(Level::EmergencyShutdown);
    let (policy, restrictions) =
        levels.chain(latch).fold((Level::AllowAll, Restrictions::NONE), |(strictest, joined), level| {
            (strictest.max(level), joined.join(level.restrictions()))
        });
    let Reasons { strictest: mut reasons, held } = reasons;
    reasons.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| (a.source, &a.subject).cmp(&(b.source, &b.subject))));
    reasons.truncate(REASONS_MAX);
    let reasons_omitted = held.saturating_sub(reasons.len());
    PolicyDocument {
        sequence,
        changed_at,
        issued_at: now,
        valid_until: now.plus(settings.validity),
        policy,
        restrictions,
        latched,
        reasons,
        reasons_omitted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CloseScope, PolicySource};
    use proptest::prelude::*;

    fn held(levels: &[Level], latched: bool) -> PolicyDocument {
        let holds: Vec<SourceHold> = levels
            .iter()
            .enumerate()
            .map(|(index, level)| SourceHold {
                source: PolicySource::ALL[index % PolicySource::ALL.len()],
                subject: index.to_string(),
                level: *level,
                reason: String::new(),
                since: Timestamp::EPOCH,
                until: None,
            })
            .collect();
        document(
            levels.iter().copied(),
            Reasons { strictest: holds, held: levels.len() },
            latched,
            1,
            Timestamp::EPOCH,
            &Settings::default(),
            Timestamp::EPOCH,
        )
    }

    /// POL-2: restrictions join field by field, not by the strictest name alone.
    #[test]
    fn joins_fields() {
        let both = held(&[Level::SafeRiskProfile, Level::NoNewTrades], false);
        assert_eq!(both.policy, Level::NoNewTrades);
        assert!(!both.restrictions.open && !both.restrictions.increase && both.restrictions.trade);
        assert_eq!((both.restrictions.max_leverage, both.restrictions.size_factor), (Some(5.0), 0.5));
        assert_eq!(held(&[], false).restrictions, Restrictions::NONE);
        let latched = held(&[], true);
        assert_eq!((latched.policy, latched.restrictions.close), (Level::EmergencyShutdown, CloseScope::All));
        assert_eq!(both.reasons[0].level, Level::NoNewTrades, "strictest first");
    }

    proptest! {
        /// POL-2: adding a source can only tighten.
        #[test]
        fn the_join_only_tightens(levels in prop::collection::vec(prop::sample::select(&Level::ALL[..]), 0..6), more in prop::sample::select(&Level::ALL[..])) {
            let before = held(&levels, false);
            let mut with = levels.clone();
            with.push(more);
            let after = held(&with, false);
            prop_assert!(after.policy >= before.policy);
            prop_assert_eq!(before.restrictions.join(after.restrictions), after.restrictions);
        }
    }
}
