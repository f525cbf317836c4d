//! The check kinds `systemd` and `container` against a real manager and a real engine.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Chiron, Config, Podman, Systemd, wait_for};

fn start(dir: &Path, subsystems: &str) -> Chiron {
    let text = Config::new(dir).with(&format!("max_consecutive_failures: 1000000\nsubsystems:\n{subsystems}"));
    Chiron::with_config(dir, &text.text().replace("check_interval: 1s", "check_interval: 200ms")).start()
}

/// Waits until a subsystem has that status and, in its error or warning, that text.
fn wait_found(chiron: &Chiron, subsystem: &str, status: &str, told: &str) -> Value {
    wait_for(&format!("{subsystem} to be {status}: {told}"), || {
        let health = chiron.get_json("/status")["subsystem_health"][subsystem].clone();
        let details = &health["details"];
        let text = ["error", "warning"].iter().filter_map(|key| details[key].as_str()).collect::<String>();
        let is_fine = status == "healthy" && text.is_empty();
        if health["status"] == status && (is_fine || !told.is_empty() && text.contains(told)) {
            Ok(details.clone())
        } else {
            Err(health)
        }
    })
}

fn unit(systemd: &Systemd, subsystem: &str, unit: &str, more: &str) -> String {
    format!("  {subsystem}: {{check: {{kind: systemd, unit: {unit}, bus: {:?}{more}}}}}\n", systemd.bus())
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("it can be killed");
}

/// OBS-7: a service running, killed, stopped, started; what was asked for and what is there is told.
#[test]
fn the_life_of_a_service() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let systemd = Systemd::start();
    systemd.unit("bot.service", "[Service]\nExecStart=/bin/sleep 86400\n");
    systemd.mask("masked.service");
    systemd.unit("broken.service", "[Service]\nType=oneshot\n");
    let text = [
        unit(&systemd, "bot", "bot.service", ""),
        unit(&systemd, "idle", "bot.service", ", expect: inactive"),
        unit(&systemd, "absent", "absent.service", ""),
        unit(&systemd, "perhaps", "absent.service", ", missing: degraded"),
        unit(&systemd, "masked", "masked.service", ""),
        unit(&systemd, "broken", "broken.service", ""),
        "  nowhere: {check: {kind: systemd, unit: a.service, bus: \"unix:path=/no/such/bus\"}}\n".to_owned(),
    ];
    let chiron = start(dir.path(), &text.concat());
    wait_found(&chiron, "bot", "critical", "`bot.service` is inactive (dead), expected active");
    wait_found(&chiron, "idle", "healthy", "");
    wait_found(&chiron, "absent", "critical", "unit `absent.service` on the bus");
    wait_found(&chiron, "perhaps", "degraded", "there is no such unit");
    wait_found(&chiron, "masked", "critical", "it is masked");
    wait_found(&chiron, "broken", "critical", "its file cannot be loaded: bad-setting");
    let nowhere = wait_found(&chiron, "nowhere", "unknown", "does not answer");
    assert!(nowhere["error"].as_str().is_some_and(|told| told.contains("/no/such/bus")), "{nowhere}");
    systemd.ctl(&["start", "bot.service"]);
    let details = wait_for("the process to be told", || {
        let details = wait_found(&chiron, "bot", "healthy", "");
        if details["pid"] == systemd.main_pid("bot.service") { Ok(details) } else { Err(details) }
    });
    assert!(details["active"] == "active" && details["sub"] == "running" && details["since"].is_string(), "{details}");
    wait_found(&chiron, "idle", "critical", "`bot.service` is active (running), expected inactive");
    kill(systemd.main_pid("bot.service"));
    let details =
        wait_found(&chiron, "bot", "critical", "`bot.service` is failed (failed), its last run ended with signal (9)");
    assert_eq!(details["result"], "signal", "{details}");
    systemd.ctl(&["start", "bot.service"]);
    wait_found(&chiron, "bot", "healthy", "");
    systemd.ctl(&["stop", "bot.service"]);
    wait_found(&chiron, "bot", "critical", "`bot.service` is inactive (dead), expected active");
}

/// OBS-7: a service that is started anew again and again is critical also while it runs, and healthy once that is long ago;
/// a oneshot rests in health and fails in none.
#[test]
fn restarts_in_a_loop_and_what_only_rests() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let systemd = Systemd::start();
    systemd.unit(
        "loop.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep 86400\nRestart=always\nRestartSec=0\n",
    );
    let stop = dir.path().join("fail");
    systemd.unit(
        "once.service",
        &format!("[Service]\nType=oneshot\nExecStart=/bin/sh -c '! test -e {}'\n", stop.display()),
    );
    systemd.unit(
        "later.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1000\n",
    );
    systemd.unit("once.timer", "[Timer]\nOnActiveSec=1d\n");
    systemd.ctl(&["start", "once.timer"]);
    let text = [
        unit(&systemd, "loop", "loop.service", ", max_restarts: 2, restart_window: 5s"),
        unit(&systemd, "once", "once.service", ", expect: success"),
        unit(&systemd, "later", "later.service", ""),
    ];
    systemd.ctl(&["start", "loop.service"]);
    let chiron = start(dir.path(), &text.concat());
    wait_found(&chiron, "loop", "healthy", "");
    for _ in 0..3 {
        let pid = systemd.main_pid("loop.service");
        kill(pid);
        wait_for("the service to be started anew", || match systemd.main_pid("loop.service") {
            0 => Err(0),
            found if found == pid => Err(found),
            _ => Ok(()),
        });
    }
    let details = wait_found(&chiron, "loop", "critical", "started anew 3 times within 5s, expected at most 2");
    assert!(details["active"] == "active" && details["restarts_total"] == 3, "{details}");
    let restarts = chiron.metric("chiron_check_perfdata", &[("subsystem", "loop"), ("label", "restarts")]);
    assert_eq!(restarts, Some(3.0));
    wait_found(&chiron, "loop", "healthy", "");
    // Its timer keeps it in systemd's memory: of a unit that nobody refers to systemd forgets that it ran.
    wait_found(&chiron, "once", "unknown", "has not run yet");
    systemd.ctl(&["start", "once.service"]);
    wait_found(&chiron, "once", "healthy", "");
    std::fs::write(&stop, "").expect("a file can be written");
    assert!(systemd.try_ctl(&["start", "once.service"]).is_err(), "it fails");
    wait_found(&chiron, "once", "critical", "its last run ended with exit-code (1)");
    std::fs::remove_file(&stop).expect("a file can be removed");
    systemd.ctl(&["start", "once.service"]);
    wait_found(&chiron, "once", "healthy", "");
    systemd.ctl(&["start", "--no-block", "later.service"]);
    wait_found(
        &chiron,
        "later",
        "critical",
        "has ended and waits to be started anew, its last run ended with exit-code (1)",
    );
}

/// OBS-1, SPEC 15: a manager that hangs leaves its own checks without a reading, within their time, and no other.
#[test]
fn a_silent_manager_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (mut silent, other) = (Systemd::start(), Systemd::start());
    for systemd in [&silent, &other] {
        systemd.unit("bot.service", "[Service]\nExecStart=/bin/sleep 86400\n");
        systemd.ctl(&["start", "bot.service"]);
    }
    let text = [
        unit(&silent, "silent", "bot.service", ", timeout: 500ms"),
        unit(&other, "other", "bot.service", ", timeout: 500ms"),
    ];
    let chiron = start(dir.path(), &text.concat());
    wait_found(&chiron, "silent", "healthy", "");
    silent.manager().signal(Signal::STOP);
    wait_found(&chiron, "silent", "unknown", "no answer within 500ms");
    other.ctl(&["stop", "bot.service"]);
    wait_found(&chiron, "other", "critical", "expected active");
    other.ctl(&["start", "bot.service"]);
    wait_found(&chiron, "other", "healthy", "");
    silent.manager().signal(Signal::CONT);
    wait_found(&chiron, "silent", "healthy", "");
}

fn container(podman: &Podman, subsystem: &str, name: &str, more: &str) -> String {
    format!("  {subsystem}: {{check: {{kind: container, name: {name}, socket: {:?}{more}}}}}\n", podman.url())
}

/// OBS-7: a container running, paused, killed, started, removed; one that has done its work; no engine.
#[test]
fn the_life_of_a_container() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut podman = Podman::start();
    let state = podman.run("bot");
    podman.run_script("job", "exit 0");
    podman.run_script("lost", "exit 7");
    let text = [
        container(&podman, "bot", "bot", ""),
        container(&podman, "job", "job", ", expect: success"),
        container(&podman, "lost", "lost", ", expect: success"),
        container(&podman, "absent", "absent", ""),
        "  nowhere: {check: {kind: container, name: a, socket: \"unix:///no/such/socket\"}}\n".to_owned(),
    ];
    let chiron = start(dir.path(), &text.concat());
    let details = wait_found(&chiron, "bot", "healthy", "");
    assert!(details["state"] == "running" && details["pid"] == state.pid, "{details}");
    wait_found(&chiron, "job", "healthy", "");
    wait_found(&chiron, "lost", "critical", "`lost` is exited, exit code 7");
    wait_found(&chiron, "absent", "critical", "no such container `absent` at unix:");
    wait_found(&chiron, "nowhere", "unknown", "the engine at unix:///no/such/socket cannot be reached");
    podman.kill("bot");
    wait_found(&chiron, "bot", "critical", "`bot` is exited, exit code 137");
    podman.tell("start", "bot");
    wait_found(&chiron, "bot", "healthy", "");
    podman.tell("stop", "bot");
    wait_found(&chiron, "bot", "critical", "`bot` is exited, exit code 0");
    podman.remove("bot");
    wait_found(&chiron, "bot", "critical", "no such container `bot`");
    podman.kill_service();
    wait_found(&chiron, "job", "unknown", "cannot be reached");
    podman.start_service();
    wait_found(&chiron, "job", "healthy", "");
}

/// OBS-7: the container's own health check: not yet run, passed, failed as often as it may.
#[test]
fn a_container_that_fails_its_own_health_check() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let podman = Podman::start();
    // Nobody runs it here but the test: there is no systemd with timers for it.
    let options = ["--health-cmd=test -e /shared/well", "--health-interval=disable", "--health-retries=2"];
    podman.run_with("bot", &options, "trap 'exit 0' TERM; sleep 100000 & wait");
    let chiron = start(dir.path(), &container(&podman, "bot", "bot", ""));
    wait_found(&chiron, "bot", "degraded", "the health check of `bot` says starting");
    std::fs::write(podman.beat("well"), "").expect("a file can be written");
    assert!(podman.check("bot"), "it passes");
    wait_found(&chiron, "bot", "healthy", "");
    std::fs::remove_file(podman.beat("well")).expect("a file can be removed");
    for _ in 0..2 {
        assert!(!podman.check("bot"), "it fails");
    }
    let details = wait_found(&chiron, "bot", "critical", "the health check of `bot` has failed 2 times in a row");
    assert!(details["health_check"] == "unhealthy" && details["state"] == "running", "{details}");
}

/// OBS-7: a container that the engine starts anew again and again.
#[test]
fn a_container_that_restarts_in_a_loop() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let podman = Podman::start();
    let text = container(&podman, "bot", "bot", ", max_restarts: 2, restart_window: 1h");
    let chiron = start(dir.path(), &text);
    wait_found(&chiron, "bot", "critical", "no such container");
    podman.run_with("bot", &["--restart=always"], "while :; do test -e /shared/die && break; sleep 0.1; done; exit 3");
    wait_found(&chiron, "bot", "healthy", "");
    std::fs::write(podman.beat("die"), "").expect("a file can be written");
    wait_found(&chiron, "bot", "critical", "times within 3600s, expected at most 2");
    std::fs::remove_file(podman.beat("die")).expect("a file can be removed");
}
