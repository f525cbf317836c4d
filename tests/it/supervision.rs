//! Chiron's watch over itself: tasks that panic or stall, a restart of the workers, what the service manager hears, and
//! the end within its time.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiron::base::failpoint;
use chiron::model::Level;
use rustix::process::Signal;

use crate::common::{
    Chiron, Config, Effects, PolicyWatch, alert, in_order, kinds, notification, runs, script, settled, wait_for,
    wait_for_within,
};

fn config(dir: &Path, effects: &Effects) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let text = format!(
        r#"
recovery: {{cooldown: 0s}}
subsystems:
  router:
    criticality: partial
    check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}
bindings:
  - action: restart_subsystem
    subsystem: router
    exec: {{argv: [{:?}, one_shot]}}
    class: one_shot
    verify: {{settle: 50ms, within: 10s}}
alerts:
  routes:
    - match: {{alertname: RouterDown}}
      subsystem: router
      action: restart_subsystem
      policy: defensive_exit
"#,
        effects.script
    );
    Config::new(dir).with(&text).text().to_owned()
}

fn router_down() -> String {
    notification(&[alert("firing", &[("alertname", "RouterDown"), ("severity", "critical")])])
}

/// Posts as Alertmanager does: again and again until 200.
fn deliver(chiron: &Chiron) {
    wait_for("the alert to be accepted", || match chiron.notify(None, router_down().as_bytes()) {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.body),
        Err(error) => Err(error.to_string()),
    });
}

fn restarts(chiron: &Chiron, task: &str) -> Option<f64> {
    chiron.metric("chiron_task_restarts_total", &[("task", task)])
}

fn sequence(chiron: &Chiron) -> u64 {
    chiron.get_json("/api/v1/policy")["sequence"].as_u64().expect("a policy has a sequence")
}

/// SPEC 14: after a panic of the decision task each check is run by one schedule as before, not by two.
#[test]
fn a_successor_runs_each_check_once() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let runs_log = dir.path().join("runs.log");
    let tick = script(&dir.path().join("tick.sh"), &format!("echo x >> '{}'", runs_log.display()));
    // The quick one meets the moment at which nobody receives what is observed: the checks end by themselves then.
    let checks = format!(
        "subsystems:\n  ticker: {{criticality: partial, check: {{kind: exec, argv: [{tick:?}]}}}}\n  \
         quick: {{criticality: none, interval: 100ms, check: {{kind: file_age, path: fresh}}}}\n"
    );
    let text = Config::new(dir.path()).with(&checks).text().to_owned();
    let chiron = Chiron::with_config(dir.path(), &text).env("CHIRON_FAILPOINTS", "decider.gathered=panic@4").start();
    wait_for("the decision task to have been started anew", || match restarts(&chiron, "decider") {
        Some(times) if times >= 1.0 => Ok(()),
        other => Err(other),
    });
    wait_for("chiron to be ready", || match chiron.get("/-/ready").map(|answer| answer.status) {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let count = || std::fs::read_to_string(&runs_log).map_or(0, |text| text.lines().count());
    // What was due to be started anew has been by then.
    let (begun, before) = (Instant::now(), count());
    wait_for_within("eight runs of the check", Duration::from_secs(30), || {
        let runs = count() - before;
        if runs >= 8 { Ok(()) } else { Err(runs) }
    });
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(6), "8 runs of a check that is due each second took {took:?}");
}

/// OBS-2, POL-5: while nobody decides and the policy's lease has run out, nothing that is read says that trading may go on.
#[test]
fn nobody_deciding_allows_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let text = format!("{}policy: {{validity: 5s, min_hold: 0s}}\n", config(dir.path(), &effects));
    let chiron = Chiron::with_config(dir.path(), &text).env("CHIRON_FAILPOINTS", "decider.gathered=stall@40").start();
    wait_for_within("the lease to run out unrenewed", Duration::from_secs(60), || {
        let expired = chiron.get("/api/v1/gate/open_position").is_ok_and(|answer| answer.body.contains("expired"));
        // Asked after the gate, because a lease that has run out for the one has run out for the other.
        let health = chiron.get_json("/health");
        if expired {
            assert_eq!(health["trading_allowed"], false, "{health}");
            Ok(())
        } else {
            Err(health)
        }
    });
    let health = chiron.get_json("/health");
    assert_eq!((&health["overall_status"], &health["safety_policy"]), (&"unknown".into(), &"no_new_trades".into()));
    for name in ["chiron_trading_allowed", "chiron_new_positions_allowed"] {
        assert_eq!(chiron.metric(name, &[]), Some(0.0), "{name}");
    }
    assert_eq!(chiron.get_json("/status")["trading_should_continue"], false);
}

/// SPEC 14: every long task that panics is noticed, counted and started anew, and afterwards an alert leads to its
/// action as ever. The sequence of the policy never falls.
#[test]
fn every_task_that_panics_is_started_anew() {
    for name in failpoint::TASKS {
        let task = name.split('.').next().expect("a failpoint has a name");
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let effects = Effects::new(dir.path());
        let strike = format!("{name}=panic@4");
        let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects)).env("CHIRON_FAILPOINTS", &strike);
        let chiron = chiron.start();
        let before = sequence(&chiron);
        let alarm = Instant::now();
        let policy = PolicyWatch::start(dir.path());
        deliver(&chiron);
        wait_for(&format!("{strike}: the task to be started anew"), || match restarts(&chiron, task) {
            Some(1.0) => Ok(()),
            other => Err(other),
        });
        let entries = wait_for(&format!("{strike}: the run to settle"), || {
            let entries = settled(&chiron)?;
            if runs(&entries).is_empty() { Err("no run yet".to_owned()) } else { Ok(entries) }
        });
        assert_eq!(effects.repeated("one_shot"), [] as [String; 0], "{strike}: {:?}", kinds(&entries));
        assert!(effects.all().len() <= 1, "{strike}");
        let starts = kinds(&entries).iter().filter(|kind| *kind == "instance_started").count();
        assert_eq!(starts, if task == "decider" { 2 } else { 1 }, "{strike}: a new epoch for a new decider only");
        wait_for(&format!("{strike}: chiron to be ready again"), || match chiron.get("/-/ready") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(sequence(&chiron) >= before, "{strike}");
        assert_eq!(chiron.metric("chiron_blind", &[("reason", "decider")]), Some(0.0), "{strike}");
        assert_eq!(chiron.metric_sum("chiron_issues", &[("subsystem", "router")]), 1.0, "{strike}: counted once");
        let (reached, loosened) = policy.loosened(alarm, Level::DefensiveExit);
        assert!(reached && loosened.is_empty(), "{strike}: {loosened:?}");
        assert!(chiron.log().contains(&format!("failpoint `{name}`")), "{strike}: {}", chiron.log());
    }
}

/// ACT-3, ALR-1: the decision task panics right after a commit, at each of the first commits of a story; the alert is
/// not lost and the one_shot happens at most once.
#[test]
fn a_panic_after_any_commit_loses_and_repeats_nothing() {
    for passing in 1..=8 {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let effects = Effects::new(dir.path());
        let strike = format!("decider.committed=panic@{passing}");
        let mut chiron =
            Chiron::with_config(dir.path(), &config(dir.path(), &effects)).env("CHIRON_FAILPOINTS", &strike);
        chiron.spawn();
        assert!(chiron.wait_listening());
        deliver(&chiron);
        let entries = wait_for(&format!("{strike}: the story to settle"), || {
            let entries = settled(&chiron)?;
            let taken = entries.iter().any(|entry| entry["part"]["labels"]["alertname"] == "RouterDown");
            if taken && !runs(&entries).is_empty() { Ok(entries) } else { Err(format!("{:?}", kinds(&entries))) }
        });
        let done = effects.all().len();
        assert!(done <= 1 && effects.repeated("one_shot").is_empty(), "{strike}: {:?}", kinds(&entries));
        if done == 0 {
            let kinds = kinds(&entries);
            assert!(kinds.iter().any(|kind| kind == "run_indeterminate"), "{strike}: nobody knows, says so: {kinds:?}");
        }
    }
}

/// SPEC 14: a task that ends again and again ends chiron with exit code 1, so that it is started whole.
#[test]
fn too_often_ends_chiron() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects))
        .env("CHIRON_FAILPOINTS", "publisher.turn=panic@1+");
    chiron.spawn();
    let ended = wait_for("chiron to end", || chiron.ended().ok_or("it runs"));
    assert_eq!(ended.code(), Some(1), "{}", chiron.log());
    assert!(chiron.log().contains("a task ended too often"), "{}", chiron.log());
}

/// SPEC 14, POL-3, POL-5: the workers are restarted in the same process while it is scraped and alerts arrive: listeners
/// stay, latch, episode, alert and runs too; the policy is at no moment looser and its sequence never falls.
#[test]
fn restarting_the_workers_loses_no_state() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects)).start();
    deliver(&chiron);
    wait_for("the run to be verified", || in_order(&kinds(&chiron.journal()), &["alert_taken", "run_verified"]));
    let held = r#"{"level": "emergency_shutdown", "reason": "a test"}"#;
    assert_eq!(chiron.post("/api/v1/policy", held).expect("chiron answers").status, 200);
    let policy = PolicyWatch::start(dir.path());
    wait_for("the policy file to say so", || match policy.now() {
        Some(Level::EmergencyShutdown) => Ok(()),
        other => Err(other),
    });
    let before = (chiron.get_json("/api/v1/issues"), chiron.get_json("/api/v1/actions"), chiron.get_json("/alerts"));

    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, address) = (Arc::clone(&stop), chiron.address().to_owned());
    let reader = std::thread::spawn(move || {
        let (mut reads, mut trouble, mut highest) = (0, Vec::new(), 0);
        while !stopped.load(Ordering::Relaxed) {
            let get = |path| crate::common::request(&address, "GET", path, &[], b"", Duration::from_secs(5));
            match (get("/metrics"), get("/api/v1/policy")) {
                (Ok(page), Ok(policy)) if page.status == 200 && policy.status == 200 => {
                    let policy = policy.json();
                    let sequence = policy["sequence"].as_u64().unwrap_or(0);
                    if sequence < highest || policy["policy"] != "emergency_shutdown" {
                        trouble.push(format!("{highest} then {policy}"));
                    }
                    highest = sequence.max(highest);
                }
                other => trouble.push(format!("{other:?}")),
            }
            reads += 1;
        }
        (reads, trouble)
    });
    let began = Instant::now();
    for reason in ["", r#"{"reason": "to try it"}"#, "{}"] {
        let answer = chiron.post("/system/restart", reason).expect("chiron answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        deliver(&chiron);
    }
    stop.store(true, Ordering::Relaxed);
    let (reads, trouble) = reader.join().expect("the reader does not panic");
    eprintln!("three restarts of the workers in {:?}, {reads} scrapes meanwhile", began.elapsed());
    assert!(reads > 3 && trouble.is_empty(), "{trouble:?}");
    let (reached, loosened) = policy.loosened(began, Level::EmergencyShutdown);
    assert!(reached && loosened.is_empty(), "{loosened:?}");
    let entries = wait_for("the runs to settle", || settled(&chiron));
    let starts = kinds(&entries).iter().filter(|kind| *kind == "instance_started").count();
    assert_eq!(starts, 4, "each restart takes the journal over anew");
    assert_eq!(effects.all().len(), 1, "nothing is done again");
    let after = (chiron.get_json("/api/v1/issues"), chiron.get_json("/api/v1/actions"), chiron.get_json("/alerts"));
    assert_eq!(before.0["issues"][0]["issue_id"], after.0["issues"][0]["issue_id"]);
    assert_eq!((before.1, before.2), (after.1, after.2));
    assert_eq!(chiron.get_json("/api/v1/policy")["latched"], true);
    assert!(chiron.log().contains("to try it"), "{}", chiron.log());
    let answer = chiron.post("/system/restart", r#"{"why": 1}"#).expect("chiron answers");
    assert_eq!(answer.status, 400, "{}", answer.body);
}

/// ACT-3: an action that is at work while the workers are restarted goes on, once, and its end is heard by the new ones.
#[test]
fn an_action_under_way_outlives_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (begun, go, done) = (dir.path().join("begun"), dir.path().join("go"), dir.path().join("done"));
    let body = format!(
        "echo x >> '{}'\nwhile [ ! -e '{}' ]; do sleep 0.1; done\necho x >> '{}'",
        begun.display(),
        go.display(),
        done.display()
    );
    let effects = Effects::new(dir.path());
    std::fs::write(&effects.script, format!("#!/bin/sh\n{body}\n")).expect("a script can be written");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects))
        .env("CHIRON_FAILPOINTS", "decider.gathered=panic@40")
        .start();
    deliver(&chiron);
    wait_for("the action to begin", || begun.exists().then_some(()).ok_or(()));
    wait_for_within("the decision task to panic", Duration::from_secs(90), || match restarts(&chiron, "decider") {
        Some(1.0) => Ok(()),
        other => Err(other),
    });
    std::fs::write(&go, "").expect("a file can be written");
    let entries = wait_for("the run to end", || {
        let entries = settled(&chiron)?;
        if runs(&entries).is_empty() { Err("no run".to_owned()) } else { Ok(entries) }
    });
    let story = ["instance_started", "run_started", "instance_started", "run_finished", "run_verified"];
    in_order(&kinds(&entries), &story).unwrap_or_else(|missing| panic!("{missing}"));
    let lines = |path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!((lines(&begun), lines(&done)), (1, 1), "once");
}

/// A service manager that writes down what it is told, and when.
struct Listener {
    told: Arc<Mutex<Vec<(Instant, String)>>>,
    path: std::path::PathBuf,
}

impl Listener {
    fn listen(dir: &Path) -> Self {
        let path = dir.join("notify.socket");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        let told: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let into = Arc::clone(&told);
        // Ends with the test's process; it blocks in `recv` alone.
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                into.lock().expect("nobody panics while listening").push((Instant::now(), text));
            }
        });
        Self { told, path }
    }

    fn socket(&self) -> String {
        self.path.display().to_string()
    }

    fn all(&self) -> Vec<String> {
        self.told.lock().expect("nobody panics while listening").iter().map(|(_, text)| text.clone()).collect()
    }

    fn wait(&self, what: &str) {
        wait_for(&format!("`{what}` to be told"), || {
            if self.all().iter().any(|text| text.contains(what)) { Ok(()) } else { Err(self.all()) }
        });
    }

    fn last_fed(&self) -> Option<Instant> {
        let told = self.told.lock().expect("nobody panics while listening");
        told.iter().rev().find(|(_, text)| text.contains("WATCHDOG=1")).map(|(at, _)| *at)
    }
}

/// SPEC 14: ready only once decided, a status that follows the policy, reload and stop announced, the watchdog fed.
#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let manager = Listener::listen(dir.path());
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects))
        .env("NOTIFY_SOCKET", &manager.socket())
        .env("WATCHDOG_USEC", "3000000")
        .start();
    manager.wait("READY=1");
    manager.wait("STATUS=paper, policy ");
    let told = manager.all();
    let ready = told.iter().position(|text| text.contains("READY=1")).expect("it was told");
    assert!(told[..ready].iter().all(|text| !text.contains("overall healthy")), "not ready before: {told:?}");
    deliver(&chiron);
    manager.wait("STATUS=paper, policy defensive_exit");
    for _ in 0..3 {
        let last = manager.last_fed();
        wait_for_within("the watchdog to be fed", Duration::from_secs(3), || {
            if manager.last_fed() > last { Ok(()) } else { Err(()) }
        });
    }
    chiron.hang_up();
    manager.wait("RELOADING=1\nMONOTONIC_USEC=");
    wait_for("ready after the reload", || {
        let ready = manager.all().iter().filter(|text| text.contains("READY=1")).count();
        if ready == 2 { Ok(()) } else { Err(ready) }
    });
    assert_eq!(chiron.post("/system/restart", "").expect("chiron answers").status, 200);
    assert!(chiron.terminate().success(), "{}", chiron.log());
    manager.wait("STOPPING=1");
}

/// SPEC 14, POL-4, POL-5: a decision task or a listener that stalls is not hidden by a timer: the watchdog is fed no
/// more. A decision task that stalls is blindness, chiron is not ready, and the lease of its policy runs out.
#[test]
fn a_stalled_task_starves_the_watchdog() {
    for name in ["decider.gathered", "http.turn"] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let effects = Effects::new(dir.path());
        let manager = Listener::listen(dir.path());
        let text = format!("{}policy: {{validity: 5s}}\n", config(dir.path(), &effects));
        let mut chiron = Chiron::with_config(dir.path(), &text)
            .env("NOTIFY_SOCKET", &manager.socket())
            .env("WATCHDOG_USEC", "3000000")
            .env("CHIRON_FAILPOINTS", &format!("{name}=stall@8"));
        chiron.spawn();
        assert!(chiron.wait_listening());
        wait_for_within(&format!("{name}: no more food"), Duration::from_secs(60), || match manager.last_fed() {
            Some(last) if last.elapsed() > Duration::from_secs(5) => Ok(()),
            other => Err(other.map(|last| last.elapsed())),
        });
        if name == "decider.gathered" {
            wait_for("the stall to show", || match chiron.metric("chiron_blind", &[("reason", "decider")]) {
                Some(1.0) => Ok(()),
                other => Err(other),
            });
            let answer = chiron.get("/-/ready").expect("chiron answers");
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert!(answer.body.contains("it does not get on"), "{}", answer.body);
            wait_for("the lease to run out", || match crate::common::obeyed(&crate::common::policy_file(dir.path())) {
                level if level >= Level::NoNewTrades => Ok(()),
                other => Err(other),
            });
            let begun = Instant::now();
            assert!(chiron.terminate().success(), "{}", chiron.log());
            assert!(begun.elapsed() < Duration::from_secs(19), "a stalled task is cut off: {:?}", begun.elapsed());
        } else {
            wait_for("the other tasks to tighten the policy", || {
                let text = std::fs::read_to_string(crate::common::policy_file(dir.path())).unwrap_or_default();
                if text.contains("task_stalled") { Ok(()) } else { Err(text) }
            });
        }
    }
}

/// SPEC 14, ACT-3: a stop is bounded although an action runs and a request is never completed; the second signal does
/// not wait.
#[test]
fn a_stop_is_bounded_and_the_second_signal_forces() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let yaml = "auto_restart_enabled: true\n\
                subsystems:\n  slow: {criticality: partial, check: {kind: file_set, paths: [absent], healthy_at: 1, degraded_at: 1}}\n\
                bindings:\n  - {action: restart_subsystem, subsystem: slow, exec: {argv: [/bin/sleep, '40']}}\n";
    for forced in [false, true] {
        let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(yaml).text()).start();
        if !forced {
            wait_for("the action to be under way", || {
                let actions = chiron.get_json("/api/v1/actions");
                if actions["actions"][0]["state"] == "started" { Ok(()) } else { Err(actions) }
            });
        }
        let mut held = TcpStream::connect(chiron.address()).expect("chiron listens");
        let head = "POST /api/v1/vitals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{";
        held.write_all(head.as_bytes()).expect("a request can be begun");
        let told = Instant::now();
        chiron.signal(Signal::TERM);
        if forced {
            wait_for("the stop to begin", || if chiron.log().contains("stopping") { Ok(()) } else { Err(()) });
            chiron.signal(Signal::TERM);
        }
        let ended = wait_for("chiron to end", || chiron.ended().ok_or("it runs"));
        let took = told.elapsed();
        eprintln!("stop, forced {forced}: {took:?}");
        if forced {
            assert_eq!(ended.code(), Some(1), "{}", chiron.log());
            assert!(took < Duration::from_secs(3), "{took:?}");
            assert!(chiron.log().contains("forced by a second signal"), "{}", chiron.log());
        } else {
            assert_eq!(ended.code(), Some(0), "{}", chiron.log());
            assert!((Duration::from_secs(9)..Duration::from_secs(17)).contains(&took), "{took:?}");
        }
    }
}
