//! The tables and properties of telling the bot: pauses, looks, retries, what counts as shown (POL-5).

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);

fn rule(when: When) -> Rule {
    Rule {
        name: "bot".into(),
        when,
        proof: true,
        first: Duration::from_secs(1),
        max: Duration::from_secs(30),
        deadline: Duration::from_secs(30),
        recheck: Duration::from_secs(60),
        subsystem: None,
    }
}

fn told(level: Level, attempts: u32, answered: Option<bool>, followed: bool) -> Heard {
    Heard { level, from: Level::AllowAll, since: NOW, told_at: NOW, attempts, answered, followed }
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn seen(seconds: u64, shown: bool) -> Sight {
    Sight { under_way: false, looked: Some((at(seconds), shown)) }
}

/// POL-5: which levels are whose.
#[test]
fn a_hook_tells_only_the_levels_that_are_its_own() {
    let stop = When::AtLeast(Level::NoNewTrades);
    let start = When::Below(Level::NoNewTrades);
    for level in Level::ALL {
        assert!(When::Always.matches(level));
        assert_eq!(stop.matches(level), level >= Level::NoNewTrades, "{level}");
        assert_ne!(start.matches(level), stop.matches(level), "{level}");
    }
    let heard = told(Level::NoNewTrades, 1, Some(true), true);
    assert_eq!(decide(&rule(stop), Level::AllowAll, None, Sight::default(), NOW), Step::Wait(None));
    assert_eq!(decide(&rule(stop), Level::AllowAll, Some(&heard), Sight::default(), NOW), Step::Forget);
}

/// POL-5: the table of steps for a level that was told at second 0.
#[test]
fn the_steps() {
    let rule = rule(When::Always);
    let level = Level::NoNewTrades;
    let first = Step::Tell { attempt: 1, from: Level::AllowAll };
    let next = |attempt| Step::Tell { attempt, from: Level::AllowAll };
    let ok = Some(true);
    let no = Some(false);
    let quiet = Sight::default();
    let busy = Sight { under_way: true, looked: None };
    #[rustfmt::skip]
    let rows = [
        ("never told", None, quiet, 0, first),
        ("another level was told, and is being told still", Some(told(Level::AllowAll, 3, None, false)), busy, 0, first),
        ("it is being told", Some(told(level, 1, None, false)), busy, 9, Step::Wait(None)),
        ("a crash took the answer", Some(told(level, 2, None, false)), quiet, 0, next(2)),
        ("ok, not shown yet", Some(told(level, 1, ok, false)), seen(0, false), 0, Step::Wait(Some(at(1)))),
        ("ok, and time to look again", Some(told(level, 1, ok, false)), seen(0, false), 1, Step::Look),
        ("ok, looked at again in vain", Some(told(level, 1, ok, false)), seen(1, false), 1, next(2)),
        ("ok, nothing seen since a restart", Some(told(level, 1, ok, false)), quiet, 1, Step::Look),
        ("it failed", Some(told(level, 1, no, false)), seen(0, false), 0, Step::Wait(Some(at(1)))),
        ("it failed, and it is time", Some(told(level, 1, no, false)), seen(0, false), 1, next(2)),
        ("the third pause is four seconds", Some(told(level, 3, no, false)), quiet, 3, Step::Wait(Some(at(4)))),
        ("followed, nothing seen since a restart", Some(told(level, 1, ok, true)), quiet, 0, Step::Look),
        ("followed", Some(told(level, 1, ok, true)), seen(0, true), 59, Step::Wait(Some(at(60)))),
        ("followed a minute ago", Some(told(level, 1, ok, true)), seen(0, true), 60, Step::Look),
        ("fallen back", Some(told(level, 4, ok, true)), seen(60, false), 60, first),
        ("followed after a clock set back", Some(told(level, 1, ok, true)), seen(900, true), 0, Step::Look),
    ];
    for (what, heard, sight, second, expected) in rows {
        assert_eq!(decide(&rule, level, heard.as_ref(), sight, at(second)), expected, "{what}");
    }
    let past = Timestamp::from_millis(NOW.millis() - 6 * 3_600_000);
    let failed = told(level, 5, no, false);
    assert_eq!(decide(&rule, level, Some(&failed), quiet, past), first, "the clock was set back by hours");
}

/// POL-5: without a proof, the ok of the means is all there is, and it is tried until it comes.
#[test]
fn without_a_proof_the_answer_settles_it() {
    let rule = Rule { proof: false, ..rule(When::Always) };
    let level = Level::NoNewTrades;
    let step =
        |answered, second| decide(&rule, level, Some(&told(level, 1, answered, false)), Sight::default(), at(second));
    assert_eq!(step(Some(true), 900), Step::Wait(None));
    assert_eq!(step(Some(false), 1), Step::Tell { attempt: 2, from: Level::AllowAll });
    assert_eq!(late_at(&rule, &told(level, 1, Some(true), false)), None);
    assert_eq!(late_at(&rule, &told(level, 1, Some(false), false)), Some(at(30)));
}

/// POL-5: the pauses double up to the longest one.
#[test]
fn pauses() {
    let rule = rule(When::Always);
    let seconds: Vec<u64> = (1..=8).map(|attempt| rule.pause(attempt).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(rule.pause(u32::MAX), rule.max);
}

/// POL-5: what counts as shown. A stricter level than told is enough only where the bot was to tighten.
#[test]
fn what_follows() {
    use Level::{AllowAll, DefensiveExit, EmergencyShutdown, NoNewTrades};
    for (told, from, shown, expected) in [
        (NoNewTrades, AllowAll, NoNewTrades, true),
        (NoNewTrades, AllowAll, EmergencyShutdown, true),
        (NoNewTrades, AllowAll, AllowAll, false),
        (DefensiveExit, AllowAll, NoNewTrades, false),
        (NoNewTrades, DefensiveExit, DefensiveExit, false),
        (AllowAll, NoNewTrades, NoNewTrades, false),
        (AllowAll, NoNewTrades, AllowAll, true),
        (AllowAll, AllowAll, NoNewTrades, false),
    ] {
        assert_eq!(follows(told, from, shown), expected, "{told} from {from}, shows {shown}");
    }
}

fn levels() -> impl Strategy<Value = Level> {
    prop::sample::select(&Level::ALL[..])
}

proptest! {
    /// POL-5: whatever was told and seen, a level that the hook has not told is told at once; nothing is told that is not
    /// its own; and an unfollowed level is never left alone for longer than the longest pause.
    #[test]
    fn nothing_is_left_alone(
        level in levels(),
        heard in prop::option::of((levels(), levels(), 1_u32..50, prop::option::of(any::<bool>()), any::<bool>())),
        looked in prop::option::of((0_u64..200, any::<bool>())),
        second in 0_u64..200,
        strict in any::<bool>(),
    ) {
        let rule = rule(if strict { When::AtLeast(Level::NoNewTrades) } else { When::Always });
        let heard = heard.map(|(level, from, attempts, answered, followed)| Heard {
            from, ..told(level, attempts, answered, followed)
        });
        let sight = Sight { under_way: false, looked: looked.map(|(second, shown)| (at(second), shown)) };
        let now = at(second);
        let step = decide(&rule, level, heard.as_ref(), sight, now);
        let news = heard.is_none_or(|heard| heard.level != level);
        match step {
            Step::Tell { attempt, from } => {
                prop_assert!(rule.when.matches(level));
                if news { prop_assert_eq!(attempt, 1); }
                if let Some(heard) = heard.filter(|_| news) { prop_assert!(from <= heard.level); }
            }
            Step::Forget => prop_assert!(!rule.when.matches(level) && heard.is_some()),
            Step::Look => prop_assert!(rule.when.matches(level) && !news),
            Step::Wait(until) => {
                prop_assert!(!rule.when.matches(level) || !news);
                if rule.when.matches(level) {
                    let followed = heard.is_some_and(|heard| heard.followed);
                    let longest = if followed { rule.recheck } else { rule.max };
                    prop_assert!(until.is_some_and(|until| until > now && until <= now.plus(longest)));
                }
            }
        }
    }

    /// POL-5: a bot that never follows is told at 0, 1, 3, 7, 15, 31 s and every 30 s after that, however often it is
    /// looked at.
    #[test]
    fn retries_keep_their_pace(ok in any::<bool>()) {
        let rule = rule(When::Always);
        let level = Level::NoNewTrades;
        let (mut heard, mut sight, mut tells): (Option<Heard>, Sight, Vec<u64>) = (None, Sight::default(), Vec::new());
        for second in 0..130 {
            for _ in 0..3 {
                match decide(&rule, level, heard.as_ref(), sight, at(second)) {
                    Step::Tell { attempt, from } => {
                        tells.push(second);
                        let since = heard.map_or(at(second), |heard| heard.since);
                        heard = Some(Heard { since, told_at: at(second), from, ..told(level, attempt, Some(ok), false) });
                        sight.looked = Some((at(second), false));
                    }
                    Step::Look => sight.looked = Some((at(second), false)),
                    Step::Wait(_) | Step::Forget => {}
                }
            }
        }
        prop_assert_eq!(tells, [0, 1, 3, 7, 15, 31, 61, 91, 121]);
        prop_assert_eq!(late_at(&rule, &heard.expect("told")), Some(at(30)));
    }
}
