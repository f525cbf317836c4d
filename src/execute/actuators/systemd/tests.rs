//! What is concluded from a unit's state, and which settings are refused.

use super::*;
use crate::base::tree::FromNode;
use crate::execute::actuators::tests::scalar;

fn unit(load: &str, active: &str, invocation: &str) -> Unit {
    let (load, active, invocation) = (load.to_owned(), active.to_owned(), invocation.to_owned());
    Unit { load, active, sub: "sub".to_owned(), invocation, can_start: true, can_stop: true, ..Unit::default() }
}

fn order(timeout: Duration) -> Order {
    Order {
        key: crate::model::RunKey { episode: "router_20251123_013456".into(), rung: 1, attempt: 1 },
        action: "restart_subsystem".into(),
        target: "router".into(),
        epoch: 1,
        timeout,
        about: crate::execute::About::default(),
        evidence: None,
    }
}

const ALL: [Verb; 5] = [Verb::Restart, Verb::Start, Verb::Stop, Verb::Reload, Verb::ReloadOrRestart];

/// ACT-3: the table of what a unit says after a crash, for each verb: what cannot be known is never taken for done.
#[test]
fn a_probe_compares_invocations() {
    use ProbeAnswer::{AskCheck, DidNotHappen, Happened, Unknown};
    let evidence = |text: &str| Evidence::parse(text);
    let ran = evidence("invocation=a1 active=active");
    let had_failed = evidence("invocation=a1 active=failed");
    let never_ran = evidence("invocation= active=inactive");
    for (before, now, expected) in [
        // Verbs in the order of ALL.
        (&ran, unit("loaded", "active", "a1"), [DidNotHappen, Happened, DidNotHappen, Unknown, Unknown]),
        (&ran, unit("loaded", "active", "b2"), [Happened, Happened, Unknown, Unknown, Happened]),
        (&ran, unit("loaded", "inactive", "b2"), [Happened, Happened, Happened, Unknown, Happened]),
        (&ran, unit("loaded", "failed", "b2"), [Unknown, Unknown, Happened, Unknown, Unknown]),
        (&ran, unit("loaded", "inactive", "a1"), [DidNotHappen, DidNotHappen, Happened, Unknown, Unknown]),
        (&ran, unit("loaded", "inactive", ""), [Unknown, Unknown, Happened, Unknown, Unknown]),
        (&had_failed, unit("loaded", "failed", "a1"), [DidNotHappen, DidNotHappen, Happened, Unknown, DidNotHappen]),
        (&had_failed, unit("loaded", "activating", "b2"), [Happened, Happened, Unknown, Unknown, Happened]),
        (&never_ran, unit("loaded", "inactive", ""), [DidNotHappen, DidNotHappen, Happened, Unknown, DidNotHappen]),
        (&never_ran, unit("loaded", "active", "b2"), [Happened, Happened, Unknown, Unknown, Happened]),
        (&None, unit("loaded", "active", "b2"), [AskCheck, Happened, AskCheck, Unknown, AskCheck]),
        (&None, unit("loaded", "failed", "b2"), [AskCheck, AskCheck, Happened, Unknown, AskCheck]),
        (&ran, unit("not-found", "inactive", ""), [Unknown; 5]),
    ] {
        let found = ALL.map(|verb| judge_probe(verb, before.as_ref(), &now));
        assert_eq!(found, expected, "{before:?} then {now:?}");
    }
}

#[test]
fn evidence_is_read_back_and_rubbish_is_none() {
    for (invocation, active) in [("a1", "active"), ("", "inactive")] {
        let evidence = Evidence { invocation: invocation.to_owned(), active: active.to_owned() };
        assert_eq!(Evidence::parse(&evidence.to_text()), Some(evidence));
    }
    for rubbish in ["", "invocation=a1", "active=x", "pid=1 started=2 boot=3"] {
        assert_eq!(Evidence::parse(rubbish), None, "{rubbish}");
    }
}

/// ACT-2: what a job's result and the unit's state afterwards mean, for each verb.
#[test]
fn the_end_of_a_job_is_judged() {
    let after = |active: &str, result: &str| Unit { result: result.to_owned(), ..unit("loaded", active, "b2") };
    let unmet = Unit { is_unmet: true, ..unit("loaded", "inactive", "") };
    for (verb, result, after, ending, detail) in [
        (Verb::Restart, "done", after("active", "success"), Ending::Ok, "restart of `a` is done"),
        (Verb::Start, "done", after("inactive", "success"), Ending::Ok, "start of `a` is done"),
        (Verb::Start, "done", unmet, Ending::Failed, "`a` was not started: a condition of its file is not met"),
        (
            Verb::Start,
            "done",
            after("failed", "exit-code"),
            Ending::Failed,
            "start of `a` is done, but the unit has failed since, its result is exit-code",
        ),
        (Verb::Stop, "done", after("inactive", "success"), Ending::Ok, "stop of `a` is done"),
        (Verb::Stop, "done", after("failed", "timeout"), Ending::Ok, "stop of `a` is done, its result is timeout"),
        (Verb::Stop, "done", after("active", ""), Ending::Failed, "stop of `a` is done, yet the unit is active (sub)"),
        (Verb::Reload, "done", after("active", "success"), Ending::Ok, "reload of `a` is done"),
        (
            Verb::Restart,
            "failed",
            after("failed", "exit-code"),
            Ending::Failed,
            "restart of `a`: the job ended with failed, the unit is failed (sub), its result is exit-code; \
             see `journalctl -u a`",
        ),
        (
            Verb::Reload,
            "canceled",
            after("active", "success"),
            Ending::Failed,
            "reload of `a`: the job ended with canceled, the unit is active (sub)",
        ),
    ] {
        assert_eq!(judge_end(verb, "a", result, &after), (ending, detail.to_owned()));
    }
}

#[test]
fn what_changed_is_one_sentence() {
    let before = Unit { main_pid: 12, ..unit("loaded", "active", "a1b2c3d4e5f6") };
    let after = Unit { main_pid: 34, ..unit("loaded", "active", "c3d4e5f6a1b2") };
    assert_eq!(changed(&before, &after), "invocation a1b2c3d4 -> c3d4e5f6, main process 12 -> 34, active (sub)");
    assert_eq!(changed(&before, &before), "nothing, active (sub) as before");
    let stopped = unit("loaded", "inactive", "a1b2c3d4e5f6");
    assert_eq!(changed(&before, &stopped), "main process 12 -> none, active (sub) -> inactive (sub)");
    assert_eq!(
        changed(&unit("loaded", "inactive", ""), &after),
        "invocation none -> c3d4e5f6, main process none -> 34, inactive (sub) -> active (sub)"
    );
}

/// ACT-2: what a unit's properties forbid is told before anything is asked.
#[test]
fn hindrances_are_told() {
    let of = |verb| Systemd { unit: "a.service".to_owned(), verb, bus: Bus::System };
    assert_eq!(of(Verb::Restart).hindrance(&unit("loaded", "active", "a1")), None);
    for load in ["not-found", "masked", "error", "bad-setting", ""] {
        for verb in ALL {
            assert!(of(verb).hindrance(&unit(load, "inactive", "")).is_some(), "{load} {verb:?}");
        }
    }
    let still = Unit { can_start: false, can_stop: false, ..unit("loaded", "active", "a1") };
    for verb in ALL {
        let told = of(verb).hindrance(&still).unwrap();
        assert!(told.starts_with(&format!("unit `a.service` cannot be asked to {}: ", verb.as_str())), "{told}");
    }
    let reloadable = Unit { can_reload: true, ..still };
    assert_eq!(of(Verb::Reload).hindrance(&reloadable), None);
}

#[test]
fn names_of_units_are_checked() {
    for good in ["a.service", "order-router@btc_usdt.service", "dev\\x2dlog.socket", "a.b.timer"] {
        assert!(UnitName::from_node(&scalar(good, false)).is_ok(), "{good}");
    }
    let long = format!("{}.service", "a".repeat(250));
    for bad in
        ["a", "", ".service", "a@.service", "@a.service", "a/b.service", "a b.service", "a.device", "a*.service", &long]
    {
        assert!(UnitName::from_node(&scalar(bad, false)).is_err(), "{bad}");
    }
}

/// No transport that starts a program or leaves the host.
#[test]
fn buses_are_checked() {
    for (text, expected) in [("system", Bus::System), ("user", Bus::User)] {
        assert_eq!(BusName::from_node(&scalar(text, false)).map(|bus| bus.0), Ok(expected));
    }
    let address = "unix:path=/run/user/1000/bus";
    let found = BusName::from_node(&scalar(address, false)).map(|bus| bus.0);
    assert_eq!(found, Ok(Bus::Address(address.to_owned())));
    for bad in [
        "",
        "session",
        "unix:",
        "unix:path=",
        "tcp:host=a,port=1",
        "unixexec:path=/bin/sh",
        "unix:path=/a;tcp:host=b",
        "autolaunch:",
    ] {
        assert!(BusName::from_node(&scalar(bad, false)).is_err(), "{bad}");
    }
}

/// SPEC 15: a bus that is not there, or that is silent, changes nothing, and is told before it is needed.
#[tokio::test]
async fn a_bus_that_does_not_answer_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let silent = dir.path().join("bus");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    for (path, ending) in [(dir.path().join("none"), "does not answer: "), (silent, "has not answered within 300ms")] {
        let bus = Bus::Address(format!("unix:path={}", path.display()));
        let systemd = Systemd { unit: "a.service".to_owned(), verb: Verb::Restart, bus };
        let order = order(Duration::from_millis(300));
        let answer = systemd.apply(&order).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{answer:?}");
        assert!(answer.detail.contains(ending), "{answer:?}");
        assert_eq!(systemd.probe(&order).await, ProbeAnswer::Unknown);
    }
    let bus = Bus::Address("unix:path=/no/such/bus".to_owned());
    let nowhere = Systemd { unit: "a.service".to_owned(), verb: Verb::Stop, bus };
    assert_eq!(nowhere.preflight().await.len(), 1);
    assert_eq!(nowhere.describe(), "stop unit a.service on the bus `unix:path=/no/such/bus`");
    assert!(nowhere.takes_evidence() && nowhere.evidence(&order(Duration::from_secs(1))).await.is_none());
}
