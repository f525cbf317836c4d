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

/// ACT-3: the moment a cooldown or a budget ends is the moment it admits.
#[test]
fn limits_end_when_they_say() {
    let live = settings();
    let ended = Some(NOW.minus(Duration::from_secs(10)));
    let waiting = admit(&REQUEST, &Ledger { target_ended_at: ended, ..LEDGER }, &live, NOW);
    let until = waiting.not_before.expect("a cooldown ends");
    let ledger = Ledger { target_ended_at: ended, ..LEDGER };
    assert_eq!(admit(&REQUEST, &ledger, &live, until).verdict, Verdict::Run);
    assert_eq!(admit(&REQUEST, &ledger, &live, until.minus(Duration::from_millis(1))).reason, Reason::Cooldown);

    let starts =
        [NOW.minus(Duration::from_secs(300)), NOW.minus(Duration::from_secs(200)), NOW.minus(Duration::from_secs(100))];
    let ledger = Ledger { target_starts: &starts, overall_starts: &starts, ..LEDGER };
    let waiting = admit(&REQUEST, &ledger, &live, NOW);
    assert_eq!((waiting.reason, waiting.not_before), (Reason::Budget, Some(starts[0].plus(live.target_window))));
    assert_eq!(admit(&REQUEST, &ledger, &live, starts[0].plus(live.target_window)).verdict, Verdict::Run);
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

proptest! {
    /// ACT-3: whatever the arrival times and clock jumps, no window ever holds more runs than its budget.
    #[test]
    fn no_window_exceeds_its_budget(steps in prop::collection::vec(0_i64..400_000, 1..60)) {
        let live = Settings { cooldown: Duration::ZERO, ..settings() };
        let mut starts: Vec<Timestamp> = Vec::new();
        let mut now = NOW;
        for step in steps {
            now = now.plus(Duration::from_millis(step as u64));
            let ledger = Ledger { target_starts: &starts, overall_starts: &starts, ..LEDGER };
            if admit(&REQUEST, &ledger, &live, now).verdict == Verdict::Run {
                starts.push(now);
            }
        }
        for start in &starts {
            let within = starts.iter().filter(|other| **other >= *start && other.since(*start) < live.target_window).count();
            prop_assert!(within <= live.target_budget as usize);
        }
    }

    /// A clock that goes back refills nothing.
    #[test]
    fn a_clock_jump_refills_nothing(back in 1_i64..1_000_000_000) {
        let live = settings();
        let starts = [NOW, NOW, NOW];
        let ledger = Ledger { target_starts: &starts, overall_starts: &starts, target_ended_at: Some(NOW), ..LEDGER };
        let earlier = Timestamp::from_millis(NOW.millis() - back);
        prop_assert_eq!(admit(&REQUEST, &ledger, &live, earlier).verdict, Verdict::Wait);
    }
}
