//! Admission as a table, and as properties over budgets.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

fn settings() -> Settings {
    Settings { dry_run: false, ..Settings::default() }
}

const REQUEST: Request = Request {
    autonomy: Autonomy::Automatic,
    lowers_risk: false,
    raises_risk: false,
    dry_run: false,
    bound: true,
    unconfirmed: false,
    approved: false,
};

const LEDGER: Ledger<'static> = Ledger {
    stopping: false,
    journal_ok: true,
    started_up: true,
    busy: false,
    running: 0,
    root_broken: false,
    target_ended_at: None,
    retry_at: None,
    target_starts: &[],
    overall_starts: &[],
    healthy: false,
    watchdog_alive: true,
    policy_permits: true,
    maintenance_until: None,
    in_storm: false,
    group_busy: false,
    group_unhealthy: false,
};

fn reason(request: Request, ledger: Ledger<'_>, settings: &Settings) -> (Verdict, Reason) {
    let admission = admit(&request, &ledger, settings, NOW);
    (admission.verdict, admission.reason)
}

/// ACT-3: each concern refuses by itself, with its own reason.
#[test]
fn each_concern() {
    let live = settings();
    assert_eq!(reason(REQUEST, LEDGER, &live), (Verdict::Run, Reason::Admitted));
    assert_eq!(reason(Request { bound: false, ..REQUEST }, LEDGER, &live), (Verdict::No, Reason::Unbound));
    assert_eq!(reason(Request { autonomy: Autonomy::Manual, ..REQUEST }, LEDGER, &live), (Verdict::No, Reason::Manual));
    let ask = Request { autonomy: Autonomy::Approval, ..REQUEST };
    assert_eq!(reason(ask, LEDGER, &live), (Verdict::Ask, Reason::ApprovalPending));
    let given = Request { approved: true, ..ask };
    let held_up = Ledger { target_ended_at: Some(NOW), running: 4, root_broken: true, started_up: false, ..LEDGER };
    assert_eq!(reason(given, held_up, &live), (Verdict::Run, Reason::Admitted), "a person knows of all this");
    assert_eq!(reason(given, Ledger { busy: true, ..LEDGER }, &live), (Verdict::Wait, Reason::Busy));
    assert_eq!(reason(given, Ledger { journal_ok: false, ..LEDGER }, &live).0, Verdict::Wait);
    assert_eq!(reason(Request { bound: false, ..given }, LEDGER, &live), (Verdict::No, Reason::Unbound));
    let wait = |ledger, expected| assert_eq!(reason(REQUEST, ledger, &live), (Verdict::Wait, expected));
    wait(Ledger { stopping: true, ..LEDGER }, Reason::Stopping);
    wait(Ledger { journal_ok: false, ..LEDGER }, Reason::JournalUnavailable);
    wait(Ledger { started_up: false, ..LEDGER }, Reason::Startup);
    wait(Ledger { busy: true, ..LEDGER }, Reason::Busy);
    wait(Ledger { running: 4, ..LEDGER }, Reason::Concurrency);
    wait(Ledger { root_broken: true, ..LEDGER }, Reason::Dependency);
    wait(Ledger { target_ended_at: Some(NOW.minus(Duration::from_secs(59))), ..LEDGER }, Reason::Cooldown);
    wait(Ledger { maintenance_until: Some(NOW), ..LEDGER }, Reason::Maintenance);
    wait(Ledger { in_storm: true, ..LEDGER }, Reason::Storm);
    wait(Ledger { group_busy: true, ..LEDGER }, Reason::GroupBusy);
    wait(Ledger { group_unhealthy: true, ..LEDGER }, Reason::GroupUnhealthy);
    assert_eq!(reason(Request { dry_run: true, ..REQUEST }, LEDGER, &live), (Verdict::Rehearse, Reason::DryRun));
    let unconfirmed = Request { unconfirmed: true, ..REQUEST };
    assert_eq!(reason(unconfirmed, LEDGER, &live), (Verdict::Wait, Reason::Unconfirmed));
    let dry = Settings::default();
    assert_eq!(reason(Request { bound: false, ..REQUEST }, LEDGER, &dry), (Verdict::Rehearse, Reason::DryRun));
}

/// ACT-3 (asymmetry): what raises risk needs verified health, a live Watchdog and the policy's permission, whoever has
/// approved it; only then is a person asked, where one is to be.
#[test]
fn raising_risk_needs_proof() {
    let live = settings();
    let raise = Request { raises_risk: true, ..REQUEST };
    let sound = Ledger { healthy: true, ..LEDGER };
    assert_eq!(reason(raise, sound, &live), (Verdict::Run, Reason::Admitted));
    for approved in [false, true] {
        for autonomy in [Autonomy::Automatic, Autonomy::Approval] {
            let raise = Request { approved, autonomy, ..raise };
            assert_eq!(reason(raise, LEDGER, &live), (Verdict::Wait, Reason::Unhealthy));
            let deaf = Ledger { watchdog_alive: false, ..sound };
            assert_eq!(reason(raise, deaf, &live), (Verdict::Wait, Reason::Watchdog));
            let strict = Ledger { policy_permits: false, ..sound };
            assert_eq!(reason(raise, strict, &live), (Verdict::Wait, Reason::Policy));
        }
    }
    let ask = Request { autonomy: Autonomy::Approval, ..raise };
    assert_eq!(reason(ask, sound, &live), (Verdict::Ask, Reason::ApprovalPending));
}

/// ACT-3: the next try of a rung waits for its pause and for the cooldown, whichever ends later; what lowers risk, or was
/// approved, waits for neither.
#[test]
fn a_retry_waits() {
    let live = settings();
    let later = NOW.plus(Duration::from_secs(90));
    let retry = Ledger { retry_at: Some(later), target_ended_at: Some(NOW), ..LEDGER };
    let told = |ledger: Ledger<'_>, now| {
        let admission = admit(&REQUEST, &ledger, &live, now);
        (admission.reason, admission.not_before)
    };
    assert_eq!(told(retry, NOW), (Reason::Cooldown, Some(later)));
    assert_eq!(told(retry, later.minus(Duration::from_millis(1))), (Reason::Cooldown, Some(later)));
    assert_eq!(told(retry, later), (Reason::Admitted, None));
    let soon = Ledger { retry_at: Some(NOW.plus(Duration::from_secs(5))), ..retry };
    assert_eq!(told(soon, NOW), (Reason::Cooldown, Some(NOW.plus(live.cooldown))));
    for request in [Request { lowers_risk: true, ..REQUEST }, Request { approved: true, ..REQUEST }] {
        assert_eq!(reason(request, retry, &live), (Verdict::Run, Reason::Admitted));
    }
}

/// ACT-3: the moment a cooldown ends is the moment it admits.
#[test]
fn limits_end_when_they_say() {
    let live = settings();
    let ended = Some(NOW.minus(Duration::from_secs(10)));
    let waiting = admit(&REQUEST, &Ledger { target_ended_at: ended, ..LEDGER }, &live, NOW);
    let until = waiting.not_before.expect("a cooldown ends");
    let ledger = Ledger { target_ended_at: ended, ..LEDGER };
    assert_eq!(admit(&REQUEST, &ledger, &live, until).verdict, Verdict::Run);
    assert_eq!(admit(&REQUEST, &ledger, &live, until.minus(Duration::from_millis(1))).reason, Reason::Cooldown);
}

fn seconds(list: &[i64]) -> Vec<Timestamp> {
    list.iter().map(|seconds| Timestamp::from_millis(seconds * 1000)).collect()
}

/// ACT-3, invariant 21: when there is a token again, by the starts before. Three tokens, one back each 300 s.
#[test]
fn a_bucket_as_a_table() {
    let live = Settings { cooldown: Duration::ZERO, ..settings() };
    let table: [(&[i64], i64, Option<i64>); 11] = [
        // Starts, now, when there is a token if there is none.
        (&[], 0, None),
        (&[0, 0], 0, None),
        (&[0, 0, 0], 0, Some(300)),
        (&[0, 0, 0], 299, Some(300)),
        (&[0, 0, 0], 300, None),
        // A start takes the token that had come back; the rest comes as it would have.
        (&[0, 0, 0, 300], 300, Some(600)),
        (&[0, 100, 200], 200, Some(300)),
        // A full bucket does not get fuller.
        (&[0, 10_000, 10_000, 10_000], 10_000, Some(10_300)),
        (&[0, 0, 0, 900, 900, 900], 900, Some(1200)),
        // What a person has approved takes no token that is not there.
        (&[0, 0, 0, 0, 0], 0, Some(300)),
        // The clock was set back between two starts: neither counts as earlier than it was.
        (&[1000, 1000, 0], 0, Some(1300)),
    ];
    for (starts, now, expected) in table {
        let starts = seconds(starts);
        let ledger = Ledger { target_starts: &starts, ..LEDGER };
        let now = Timestamp::from_millis(now * 1000);
        let admission = admit(&REQUEST, &ledger, &live, now);
        let expected = expected.map(|at| Timestamp::from_millis(at * 1000));
        assert_eq!(admission.not_before, expected, "{starts:?} at {now}");
        assert_eq!(admission.verdict == Verdict::Run, expected.is_none());
    }
}

/// ACT-3: either bucket holds up, and the later moment is the one that counts.
#[test]
fn both_buckets_have_to_hold_a_token() {
    let live = Settings { cooldown: Duration::ZERO, ..settings() };
    let (three, ten) = ([NOW; 3], [NOW; 10]);
    for (target, overall, waits) in [(&three[..], &three[..], 300), (&[], &ten[..], 60), (&three[..], &ten[..], 300)] {
        let ledger = Ledger { target_starts: target, overall_starts: overall, ..LEDGER };
        let admission = admit(&REQUEST, &ledger, &live, NOW);
        assert_eq!(admission.not_before, Some(NOW.plus(Duration::from_secs(waits))));
        assert_eq!(admission.reason, Reason::Budget);
    }
}

/// ACT-3: so many starts that earlier ones were forgotten: they may have taken every token.
#[test]
fn what_was_forgotten_gives_no_token() {
    let live = Settings { cooldown: Duration::ZERO, ..settings() };
    let starts = vec![NOW; crate::model::STARTS_REMEMBERED];
    let one_day_apart: Vec<Timestamp> = (0..1000_u32).map(|day| NOW.plus(Duration::from_secs(86_400) * day)).collect();
    let ledger = Ledger { target_starts: &starts, ..LEDGER };
    assert_eq!(admit(&REQUEST, &ledger, &live, NOW).not_before, Some(NOW.plus(Duration::from_secs(300))));
    let ledger = Ledger { target_starts: &one_day_apart, ..LEDGER };
    assert_eq!(admit(&REQUEST, &ledger, &live, *one_day_apart.last().expect("some")).verdict, Verdict::Run);
    let first = Ledger { target_starts: &one_day_apart[..1], ..LEDGER };
    assert_eq!(admit(&REQUEST, &first, &live, NOW).verdict, Verdict::Run);
}

/// ACT-3 (asymmetry): what lowers risk needs no budget, cooldown or start-up.
#[test]
fn lowering_risk_is_never_held_up() {
    let starts = [NOW; 50];
    let ledger = Ledger {
        started_up: false,
        root_broken: true,
        running: 99,
        target_ended_at: Some(NOW),
        target_starts: &starts,
        overall_starts: &starts,
        ..LEDGER
    };
    assert_eq!(reason(Request { lowers_risk: true, ..REQUEST }, ledger, &settings()).0, Verdict::Run);
}

/// Budgets that no whole number of milliseconds divides, too.
fn odd_settings() -> impl Strategy<Value = Settings> {
    (1_u32..8, 1_000_u64..2_000_000, 1_u32..20, 1_000_u64..2_000_000).prop_map(|(target, t, overall, o)| Settings {
        cooldown: Duration::ZERO,
        target_budget: target,
        target_window: Duration::from_millis(t),
        overall_budget: overall,
        overall_window: Duration::from_millis(o),
        ..settings()
    })
}

/// Whether any interval holds more starts than the bucket and what came back in it allow.
fn is_within(starts: &[Timestamp], budget: u32, window: Duration) -> bool {
    let (budget, window) = (i128::from(budget), window.as_millis() as i128);
    starts.iter().enumerate().all(|(first, from)| {
        starts[first..].iter().zip(1_i128..).all(|(to, count)| {
            // count <= budget + t * budget / window
            count * window <= budget * window + i128::from(to.millis() - from.millis()) * budget
        })
    })
}

proptest! {
    /// ACT-3, invariant 21: whatever the arrival times, any interval `t` holds at most `capacity + t * rate` starts; the
    /// moment named is the very moment; and what is decided depends on the remembered starts alone, so that a restart at
    /// any time, which reads them back, changes nothing.
    #[test]
    fn no_interval_exceeds_its_bucket(
        steps in prop::collection::vec(0_u64..400_000, 1..80),
        live in odd_settings(),
        restart in any::<prop::sample::Index>(),
    ) {
        let mut starts: Vec<Timestamp> = Vec::new();
        let mut now = NOW;
        let restart = restart.index(steps.len());
        for (index, step) in steps.into_iter().enumerate() {
            now = now.plus(Duration::from_millis(step));
            if index == restart {
                let stored = serde_json::to_vec(&starts).expect("JSON");
                starts = serde_json::from_slice(&stored).expect("JSON");
            }
            let ledger = Ledger { target_starts: &starts, overall_starts: &starts, ..LEDGER };
            let admission = admit(&REQUEST, &ledger, &live, now);
            if let Some(at) = admission.not_before {
                prop_assert!(at > now);
                let just_before = admit(&REQUEST, &ledger, &live, at.minus(Duration::from_millis(1)));
                prop_assert_eq!(just_before.reason, Reason::Budget);
                prop_assert_eq!(admit(&REQUEST, &ledger, &live, at).verdict, Verdict::Run);
                if step % 2 == 0 {
                    // Whoever waits comes back at that moment.
                    now = at;
                    starts.push(now);
                }
            } else {
                prop_assert_eq!(admission.verdict, Verdict::Run);
                starts.push(now);
            }
        }
        prop_assert!(is_within(&starts, live.target_budget, live.target_window));
        prop_assert!(is_within(&starts, live.overall_budget, live.overall_window));
    }

    /// Invariant 21: a clock that goes back refills nothing, however often and far it does; and a start takes a token
    /// whatever the clock says.
    #[test]
    fn a_clock_jump_refills_nothing(
        jumps in prop::collection::vec((-1_000_000_i64..1_000, any::<bool>()), 1..30),
        live in odd_settings(),
    ) {
        let mut starts: Vec<Timestamp> = Vec::new();
        let mut now = NOW;
        let mut waits_until = None;
        for (jump, approved) in jumps {
            now = Timestamp::from_millis(now.millis() + jump);
            let ledger = Ledger { target_starts: &starts, overall_starts: &starts, ..LEDGER };
            let until = admit(&REQUEST, &ledger, &live, now).not_before;
            if let Some(before) = waits_until {
                prop_assert_eq!(until, Some(before).filter(|before| now < *before), "time alone moves nothing");
            }
            if until.is_none() || approved {
                starts.push(now);
            }
            let ledger = Ledger { target_starts: &starts, overall_starts: &starts, ..LEDGER };
            let after = admit(&REQUEST, &ledger, &live, now).not_before;
            prop_assert!(after >= until, "a start takes, it never gives");
            waits_until = after;
        }
    }
}
