//! The means `container`: real containers of a real engine, restarted by chiron, and counted by the engine.

use std::path::Path;

use serde_json::Value;

use crate::common::{
    Authority, Chiron, Config, ContainerState, Podman, TlsFront, alert, kinds, notification, pid_alive, settled,
    wait_for,
};
use crate::crash::{deliver, settle};

/// A subsystem that is healthy while `beat` is there, and whose restart is that of the container `bot`.
fn config(dir: &Path, beat: &Path, means: &str) -> String {
    let text = format!(
        r#"
recovery: {{cooldown: 0s}}
subsystems:
  router:
    criticality: partial
    check: {{kind: file_age, path: {beat:?}, degraded_after: 10h, critical_after: 20h, missing: critical}}
bindings:
  - action: restart_subsystem
    subsystem: router
    container: {{name: bot, {means}}}
    class: probeable
    timeout: 20s
    verify: {{settle: 50ms, within: 10s}}
alerts:
  routes:
    - match: {{alertname: RouterDown}}
      subsystem: router
      action: restart_subsystem
"#
    );
    Config::new(dir).with(&text).text().to_owned()
}

fn body() -> String {
    notification(&[alert("firing", &[("alertname", "RouterDown"), ("severity", "critical")])])
}

/// Plays one alert to its end; the journal and the record of the run's end.
fn play(chiron: &mut Chiron) -> (Vec<Value>, Value) {
    assert!(deliver(chiron, &body()), "chiron stays");
    let finished = wait_for("the run to end", || {
        let entries = chiron.journal();
        let finished = entries.iter().find(|entry| entry["kind"] == "run_finished").cloned();
        finished.ok_or_else(|| kinds(&entries))
    });
    let entries = wait_for("the journal to settle", || settled(chiron));
    (entries, finished)
}

fn alive(state: &ContainerState) -> bool {
    state.running && u32::try_from(state.pid).is_ok_and(pid_alive)
}

/// ACT-2, ACT-3: the container has another process and another start, it was started exactly once more, and the journal
/// tells both.
#[test]
fn a_real_container_is_restarted() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let podman = Podman::start();
    let before = podman.run("bot");
    let text = config(dir.path(), &podman.beat("bot"), &format!("socket: {:?}, stop_timeout: 5s", podman.url()));
    let mut chiron = Chiron::with_config(dir.path(), &text).start();
    let (entries, finished) = play(&mut chiron);
    let after = podman.state("bot").expect("the container is there");
    assert_eq!((finished["ending"].as_str(), podman.starts("bot")), (Some("ok"), 2), "{finished}");
    assert!(after.id == before.id && after.started_at != before.started_at && alive(&after), "{before:?} {after:?}");
    assert!(!u32::try_from(before.pid).is_ok_and(pid_alive), "the old process is gone");
    let changed = finished["changed"].as_str().unwrap_or_default();
    assert!(changed.contains(&format!("process {} -> {}", before.pid, after.pid)), "{changed}");
    assert!(changed.starts_with("started 2") && changed.ends_with("running"), "{changed}");
    assert!(kinds(&entries).iter().any(|kind| kind == "run_verified"), "{entries:?}");
}

/// ACT-3: a container that is not there, or an engine that is dead, leaves the action not started, named, and touches
/// nothing.
#[test]
fn a_container_or_an_engine_gone() {
    let mut podman = Podman::start();
    for engine_dead in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let text = config(dir.path(), &podman.beat("bot"), &format!("socket: {:?}", podman.url()));
        let mut chiron = Chiron::with_config(dir.path(), &text).start();
        let before = engine_dead.then(|| podman.run("bot"));
        let wanted = if engine_dead {
            podman.kill_service();
            format!("the engine at {} cannot be reached: ", podman.url())
        } else {
            format!("no such container `bot` at {}", podman.url())
        };
        let (_, finished) = play(&mut chiron);
        let detail = finished["detail"].as_str().unwrap_or_default();
        assert_eq!(finished["ending"], "not_started", "{finished}");
        assert!(detail.starts_with(&wanted), "{detail}");
        assert_eq!(podman.state("bot"), before, "nothing was touched");
    }
}

/// ACT-2, SEC-2: the engine over TCP with certificates on both sides; without the right ones nothing is done.
#[test]
fn over_tls_with_certificates_on_both_sides() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "engines");
    let (certificate, key) = authority.issue("engine", "IP:127.0.0.1");
    authority.issue("healer", "DNS:healer");
    Authority::new(dir.path(), "strangers").issue("stranger", "DNS:stranger");
    let podman = Podman::start();
    podman.run("bot");
    let socket = podman.socket().display().to_string();
    let ca = authority.certificate();
    let front = TlsFront::start(dir.path(), (&certificate, &key), Some(&ca), &socket);
    let with = |ca: &str, own: &str| {
        let life = tempfile::tempdir_in(dir.path()).expect("a temporary folder can be made");
        let path = |name: String| dir.path().join(name);
        let means = format!(
            "socket: \"tcp://{}\", stop_timeout: 5s, tls: {{ca_file: {:?}, cert_file: {:?}, key_file: {:?}}}",
            front.address(),
            path(format!("{ca}.pem")),
            path(format!("{own}.pem")),
            path(format!("{own}.key")),
        );
        let mut chiron = Chiron::with_config(life.path(), &config(life.path(), &podman.beat("bot"), &means)).start();
        play(&mut chiron).1
    };
    let foreign_server = with("strangers", "healer");
    assert_eq!(foreign_server["ending"], "not_started", "{foreign_server}");
    assert!(foreign_server["detail"].as_str().is_some_and(|told| told.contains("ertificate")), "{foreign_server}");
    let foreign_client = with("engines", "stranger");
    assert_eq!(foreign_client["ending"], "not_started", "{foreign_client}");
    assert_eq!(podman.starts("bot"), 1, "nothing was done");
    let right = with("engines", "healer");
    assert_eq!((right["ending"].as_str(), podman.starts("bot")), (Some("ok"), 2), "{right}");
}

/// ACT-3: a crash before, in the middle of and after the effect of a probeable run: the engine counts exactly one restart.
#[test]
fn a_crash_leads_to_exactly_one_restart() {
    let podman = Podman::start();
    for failpoint in ["effect.before", "effect.after", "finish.before_commit"] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let before = podman.run("bot");
        let started = podman.starts("bot");
        let text = config(dir.path(), &podman.beat("bot"), &format!("socket: {:?}, stop_timeout: 1s", podman.url()));
        let mut chiron = Chiron::with_config(dir.path(), &text);
        chiron.set_env("CHIRON_FAILPOINTS", Some(&format!("{failpoint}=kill")));
        chiron.spawn();
        assert!(chiron.wait_listening());
        podman.break_beat("bot");
        deliver(&mut chiron, &body());
        wait_for("the strike", || chiron.ended().ok_or("still running"));
        chiron.set_env("CHIRON_FAILPOINTS", None);
        chiron.restart();
        assert!(settle(&mut chiron, failpoint), "{failpoint}: the second life stays");
        let entries = chiron.journal();
        let after = podman.state("bot").expect("the container is there");
        assert_eq!(podman.starts("bot"), started + 1, "{failpoint}: {:?}", kinds(&entries));
        assert!(alive(&after) && after.pid != before.pid, "{failpoint}: {after:?}");
        let kinds = kinds(&entries);
        assert!(podman.beat("bot").exists(), "{failpoint}: it is healed");
        assert!(kinds.iter().any(|kind| kind == "run_verified"), "{failpoint}: {kinds:?}");
        assert!(!kinds.iter().any(|kind| kind == "run_indeterminate"), "{failpoint}: {kinds:?}");
        drop(chiron);
        podman.remove("bot");
    }
}

/// ACT-3: killed while the engine waits for a stubborn container to end: the engine goes on, and the next life waits for it
/// instead of asking again.
#[test]
fn killed_in_the_middle_of_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let podman = Podman::start();
    let before = podman.run_stubborn("bot");
    let text = config(dir.path(), &podman.beat("bot"), &format!("socket: {:?}, stop_timeout: 4s", podman.url()));
    let mut chiron = Chiron::with_config(dir.path(), &text).start();
    podman.break_beat("bot");
    assert!(deliver(&mut chiron, &body()));
    wait_for("the engine to be at it", || match podman.state("bot") {
        Some(state) if !state.running => Ok(()),
        state => Err(state),
    });
    chiron.restart();
    assert!(alive(&ContainerState { running: true, ..before.clone() }), "the old process still resists");
    assert!(settle(&mut chiron, "the second life"), "it stays");
    let after = podman.state("bot").expect("the container is there");
    assert_eq!(podman.starts("bot"), 2, "{:?}", kinds(&chiron.journal()));
    assert!(alive(&after) && after.pid != before.pid, "{after:?}");
}
