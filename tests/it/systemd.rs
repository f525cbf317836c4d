//! The means `systemd` against a real manager: what chiron did is counted by systemd and by the services themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Chiron, Systemd, ask_for, bound, ending, finished, kinds, pid_alive, settled, wait_for};

/// `systemd: {...}` for a unit of that manager.
fn means(systemd: &Systemd, unit: &str, more: &str) -> String {
    format!("systemd: {{unit: {unit}, bus: \"{}\"{more}}}", systemd.bus())
}

/// A counted service that runs.
fn running(systemd: &Systemd, unit: &str, more: &str) -> (u32, String) {
    systemd.counted(unit, "sleep 1000", more);
    systemd.ctl(&["start", unit]);
    wait_starts(systemd, unit, 1);
    (systemd.main_pid(unit), systemd.show(unit, "InvocationID"))
}

/// Waits for that many starts; a later look would still find more.
fn wait_starts(systemd: &Systemd, unit: &str, expected: usize) {
    wait_for(&format!("{expected} starts of {unit}"), || match systemd.starts(unit) {
        starts if starts.len() == expected => Ok(()),
        starts => Err(starts),
    });
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// The harness itself: a unit starts, its starts are counted, and it ends with its manager.
#[test]
fn a_private_manager_runs_units() {
    let mut systemd = Systemd::start();
    assert!(systemd.dir().exists() && systemd.manager().ended().is_none());
    let (pid, invocation) = running(&systemd, "a.service", "");
    assert!(pid > 0 && pid_alive(pid));
    assert_eq!(systemd.starts("a.service"), [invocation]);
    drop(systemd);
    wait_for("the unit to end with its manager", || if pid_alive(pid) { Err(pid) } else { Ok(()) });
}

/// ACT-2: a unit is restarted on each kind of bus: another process and invocation, counted by systemd and by the
/// service; the journal tells what changed.
#[test]
fn a_unit_is_restarted() {
    let (dir, systemd) = (folder(), Systemd::start());
    let address = means(&systemd, "a.service", "");
    let bindings = [("a", address.as_str()), ("b", "systemd: {unit: b.service, bus: user, job: restart}")];
    let before = ["a.service", "b.service"].map(|unit| running(&systemd, unit, ""));
    // The user bus is found by XDG_RUNTIME_DIR alone.
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &bindings))
        .env("XDG_RUNTIME_DIR", &systemd.runtime_dir().display().to_string())
        .start();
    for (name, (pid, invocation)) in ["a", "b"].into_iter().zip(before) {
        let unit = format!("{name}.service");
        assert!(ask_for(&chiron, name));
        let end = finished(&chiron, name);
        assert_eq!(end["ending"], "ok", "{end}");
        wait_starts(&systemd, &unit, 2);
        let (now, then) = (systemd.main_pid(&unit), systemd.show(&unit, "InvocationID"));
        assert!(now != pid && pid_alive(now) && !pid_alive(pid), "{unit}: {pid} -> {now}");
        assert_eq!(systemd.starts(&unit), [invocation.clone(), then.clone()]);
        let expected =
            format!("invocation {} -> {}, main process {pid} -> {now}, active (running)", &invocation[..8], &then[..8]);
        assert_eq!(end["changed"], expected, "{end}");
    }
}

/// ACT-2, SPEC 15: what cannot be begun is `not_started` and says why; what is begun and fails says how the unit ended;
/// nothing is started that should not be.
#[test]
fn bad_units_end_by_name() {
    let (dir, systemd) = (folder(), Systemd::start());
    systemd.mask("masked.service");
    systemd.unit("broken.service", "[Service]\nType=oneshot\n");
    systemd.unit("refusing.service", "[Unit]\nRefuseManualStart=yes\n[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.unit("failing.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    systemd.unit("unmet.service", "[Unit]\nConditionPathExists=/no/such\n[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.unit(
        "after.service",
        "[Unit]\nRequires=failing.service\nAfter=failing.service\n[Service]\nExecStart=/bin/sleep 1000\n",
    );
    systemd.unit("slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.3'\n");
    let cases = [
        ("masked", "not_started", "unit `masked.service` is masked"),
        ("absent", "not_started", "unit `absent.service` is not known to systemd on the bus `unix:path="),
        ("broken", "not_started", "unit `broken.service` is not loaded, found bad-setting"),
        ("refusing", "not_started", "unit `refusing.service` cannot be asked to restart: its file refuses it"),
        (
            "failing",
            "failed",
            "restart of `failing.service`: the job ended with failed, the unit is failed (failed), its result is exit-code",
        ),
        ("unmet", "failed", "`unmet.service` was not started: a condition of its file is not met"),
        ("after", "failed", "restart of `after.service`: the job ended with dependency"),
        ("slow", "ok", "restart of `slow.service` is done"),
    ];
    let lines = cases.map(|(name, ..)| (name, means(&systemd, &format!("{name}.service"), "")));
    let nowhere = "systemd: {unit: a.service, bus: \"unix:path=/no/such/bus\"}";
    let bindings: Vec<_> =
        lines.iter().map(|(name, line)| (*name, line.as_str())).chain([("nowhere", nowhere)]).collect();
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &bindings)).start();
    let nowhere = ("nowhere", "not_started", "the bus `unix:path=/no/such/bus` does not answer");
    for (name, expected, begins) in cases.into_iter().chain([nowhere]) {
        assert!(ask_for(&chiron, name));
        let (found, detail) = ending(&chiron, name);
        assert_eq!(found, expected, "{name}: {detail}");
        assert!(detail.starts_with(begins), "{name}: {detail}");
    }
}

/// ACT-2, SPEC 15: a unit whose stop hangs, and a manager that answers nobody, end as told within their deadline; what
/// goes on is named.
#[test]
fn a_hanging_unit_and_a_silent_manager_meet_the_deadline() {
    let (dir, mut systemd) = (folder(), Systemd::start());
    systemd.counted("hanging.service", "sh -c \"trap : TERM; while :; do sleep 1; done\"", "TimeoutStopSec=600");
    systemd.ctl(&["start", "hanging.service"]);
    wait_starts(&systemd, "hanging.service", 1);
    let lines = means(&systemd, "hanging.service", "") + "\ntimeout: 1s";
    let bindings = [("hanging", lines.as_str()), ("silent", lines.as_str())];
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &bindings)).start();
    let (begun, pid) = (Instant::now(), systemd.main_pid("hanging.service"));
    assert!(ask_for(&chiron, "hanging"));
    let (found, detail) = ending(&chiron, "hanging");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let expected = "the job (restart of `hanging.service`) is not done after 1s: it goes on in systemd; the unit is deactivating (stop-sigterm)";
    assert_eq!((found.as_str(), detail.as_str()), ("timeout", expected));
    assert!(pid_alive(pid), "nothing but what systemd does is done to it");

    systemd.manager().signal(Signal::STOP);
    let begun = Instant::now();
    assert!(ask_for(&chiron, "silent"));
    let (found, detail) = ending(&chiron, "silent");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(found, "not_started", "{detail}");
    assert!(detail.contains("has not answered within 1s"), "{detail}");
}

/// ACT-3, SPEC 15: a manager that dies while the job is under way leaves a failure that claims nothing.
#[test]
fn a_lost_manager_is_a_doubt() {
    let (dir, mut systemd) = (folder(), Systemd::start());
    running(&systemd, "a.service", "ExecStop=/bin/sleep 100\nTimeoutStopSec=600");
    let lines = means(&systemd, "a.service", "");
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &[("a", &lines)])).start();
    assert!(ask_for(&chiron, "a"));
    wait_for("the stop to begin", || match systemd.show("a.service", "ActiveState").as_str() {
        "deactivating" => Ok(()),
        other => Err(other.to_owned()),
    });
    let below = systemd.processes();
    systemd.manager().kill9();
    let (found, detail) = ending(&chiron, "a");
    below.end();
    assert_eq!(found, "failed", "{detail}");
    assert!(
        detail.starts_with("whether it happened is not known: the job (restart of `a.service`) was queued"),
        "{detail}"
    );
}

/// One alert, a strike, a restart of chiron, the same alert again; answers the journal once nothing is under way.
fn struck(dir: &Path, systemd: &Systemd, strike: &str) -> Vec<Value> {
    let lines = means(systemd, "a.service", "") + "\nclass: probeable\ntimeout: 20s";
    let text = bound(dir, &[("a", &lines)]);
    let mut chiron = Chiron::with_config(dir, &text).env("CHIRON_FAILPOINTS", strike).start();
    assert!(ask_for(&chiron, "a"), "{strike}");
    if strike.is_empty() {
        wait_for("the stop to begin", || match systemd.show("a.service", "ActiveState").as_str() {
            "deactivating" => Ok(()),
            other => Err(other.to_owned()),
        });
    } else {
        wait_for(&format!("{strike} to strike"), || chiron.ended().map(drop).ok_or("it lives"));
    }
    chiron.kill9();
    if strike == "effect.before=kill" {
        // What was not done is done again only where it is still needed; the unit's start brings it back.
        std::fs::remove_file(dir.join("fresh")).expect("a file can be removed");
    }
    chiron.set_env("CHIRON_FAILPOINTS", None);
    chiron.restart();
    assert!(ask_for(&chiron, "a"), "{strike}");
    wait_for(&format!("{strike}: the second life to settle"), || settled(&chiron))
}

/// ACT-3, REC-1: chiron dies before, during and after the effect; systemd is asked what became of it, the unit has been
/// restarted once, and the run ends verified.
#[test]
fn a_crash_never_restarts_twice() {
    for strike in ["effect.before=kill", "effect.after=kill", "finish.before_commit=kill", ""] {
        let (dir, systemd) = (folder(), Systemd::start());
        let stop = if strike.is_empty() { "ExecStop=/bin/sleep 2" } else { "" };
        let more = format!("ExecStartPre=/bin/touch {}\n{stop}", dir.path().join("fresh").display());
        let (pid, invocation) = running(&systemd, "a.service", &more);
        let entries = struck(dir.path(), &systemd, strike);
        let ends: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "run_verified").collect();
        assert!(ends.len() == 1 && ends[0]["outcome"] == "verified", "`{strike}`: {ends:?}; {:?}", kinds(&entries));
        wait_starts(&systemd, "a.service", 2);
        assert_eq!(systemd.starts("a.service")[0], invocation, "`{strike}`");
        assert_ne!(systemd.main_pid("a.service"), pid, "`{strike}`");
        let told = entries.iter().find(|entry| entry["kind"] == "run_finished").map(|entry| entry["detail"].clone());
        let expected = if strike == "effect.before=kill" {
            "restart of `a.service` is done"
        } else {
            "found done after a restart of chiron"
        };
        assert_eq!(told, Some(Value::from(expected)), "`{strike}`");
        let resumed = kinds(&entries).contains(&"run_resumed".to_owned());
        assert_eq!(
            resumed,
            strike == "effect.before=kill",
            "`{strike}`: done again only if it was not done: {:?}",
            kinds(&entries)
        );
    }
}
