//! What chiron does with input that is wrong, too large, too deep, or never ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chiron::model::Level;
use serde_json::json;

use crate::common::{
    Chiron, Config, Effects, alert, kinds, notification, obeyed, policy_file, request, settled, tool, wait_for,
    wait_for_within,
};

/// One subsystem that is well, one route to a one-shot action.
fn config(dir: &Path, state: &Path, effects: &Effects) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let text = format!(
        r#"
subsystems:
  router:
    criticality: partial
    check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}
bindings:
  - action: restart_subsystem
    subsystem: router
    exec: {{argv: [{:?}, one_shot]}}
    verify: {{settle: 100ms, within: 10s}}
alerts:
  routes:
    - match: {{alertname: RouterDown}}
      subsystem: router
      action: restart_subsystem
      policy: no_new_trades
"#,
        effects.script
    );
    Config::in_folder(dir, state).with(&text).text().to_owned()
}

fn router_down(instance: &str) -> String {
    notification(&[alert("firing", &[("alertname", "RouterDown"), ("instance", instance)])])
}

/// ALR-1, SEC-2: a body that can never be accepted gets a 4xx that names the fault, is counted, and leaves nothing behind.
#[test]
fn bad_bodies_are_refused_whole() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &dir.path().join("state"), &effects)).start();
    let good = alert("firing", &[("alertname", "RouterDown")]);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        notification(&[good.clone(), bad])
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no JSON", b"alerts: []".to_vec()),
        ("half of it", router_down("x").into_bytes()[..200].to_vec()),
        ("not UTF-8", b"{\"version\":\"4\",\"receiver\":\"\xff\xfe\",\"alerts\":[]}".to_vec()),
        ("a list", b"[]".to_vec()),
        ("no alerts", json!({"version": "4", "receiver": "x", "status": "firing"}).to_string().into_bytes()),
        ("another version", router_down("x").replace("\"version\":\"4\"", "\"version\":\"3\"").into_bytes()),
        ("one alert without labels", with(&|bad| drop(bad.as_object_mut().map(|b| b.remove("labels")))).into_bytes()),
        ("one alert of no known status", with(&|bad| bad["status"] = json!("perhaps")).into_bytes()),
        ("one alert with a wrong date", with(&|bad| bad["startsAt"] = json!("yesterday")).into_bytes()),
        ("one label that is no text", with(&|bad| bad["labels"]["n"] = json!({"a": 1})).into_bytes()),
        ("deeply nested", [b"[".repeat(200_000), b"]".repeat(200_000)].concat()),
        ("oversized", format!("{{\"version\":\"4\",\"x\":\"{}\"}}", "x".repeat(9 << 20)).into_bytes()),
    ];
    let refused = || chiron.metric_sum("chiron_webhook_refused_total", &[]);
    for (number, (what, body)) in cases.iter().enumerate() {
        let answer = chiron.notify(None, body).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!((400..500).contains(&answer.status) && answer.status != 429, "{what}: {}", answer.status);
        assert!(answer.body.len() > 20, "{what}: the fault is named, found `{}`", answer.body);
        assert_eq!(refused(), (number + 1) as f64, "{what}: counted once");
    }
    let entries = settled(&chiron).expect("nothing is under way");
    assert!(!kinds(&entries).iter().any(|kind| kind == "alert_taken"), "{:?}", kinds(&entries));
    assert_eq!(chiron.metric_sum("chiron_alerts_received_total", &[]), 0.0);
    assert_eq!(effects.all(), []);
    let answer = chiron.notify(None, router_down("x").as_bytes()).expect("the webhook answers");
    assert_eq!(answer.status, 200, "a good one is still taken: {}", answer.body);
}

/// Invariant 18: damages the journal while chiron is stopped.
fn corrupted(how: &str, damage: impl Fn(&mut Vec<u8>)) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let text = config(dir.path(), &dir.path().join("state"), &effects);
    let mut chiron = Chiron::with_config(dir.path(), &text).start();
    for instance in 0..20 {
        assert_eq!(chiron.notify(None, router_down(&instance.to_string()).as_bytes()).expect("it answers").status, 200);
    }
    wait_for("the action", || {
        settled(&chiron).and_then(|_| if effects.all().len() == 1 { Ok(()) } else { Err("".into()) })
    });
    assert!(chiron.terminate().success(), "a clean end");
    let journal = dir.path().join("state/chiron.db");
    // What is still in the log beside it would cover the damage.
    let folded = rusqlite::Connection::open(&journal)
        .and_then(|database| database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)));
    assert_eq!(folded, Ok(0), "{how}: the journal is whole before it is damaged");
    let mut bytes = std::fs::read(&journal).expect("the journal is a file");
    damage(&mut bytes);
    std::fs::write(&journal, bytes).expect("the journal can be damaged");

    chiron.spawn();
    assert!(chiron.wait_listening(), "{how}: chiron starts: {}", chiron.log());
    wait_for(&format!("{how}: chiron to say that it is blind"), || {
        let blind = chiron.metric("chiron_blind", &[("reason", "journal_corrupt")]);
        if blind == Some(1.0) { Ok(()) } else { Err((blind, chiron.log())) }
    });
    let answer = chiron.notify(None, router_down("after").as_bytes()).expect("the webhook answers");
    assert_eq!(answer.status, 503, "{how}: {}", answer.body);
    let level = obeyed(&policy_file(dir.path()));
    assert!(level >= Level::NoNewTrades, "{how}: the bot is told {level}");
    assert_eq!(chiron.metric("chiron_new_positions_allowed", &[]), Some(0.0), "{how}");
    let checked = || chiron.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", "router")]);
    let before = checked();
    wait_for(&format!("{how}: checks to go on"), || if checked() > before { Ok(()) } else { Err(checked()) });
    assert!(chiron.metric("chiron_journal_errors_total", &[("reason", "corrupt")]) >= Some(1.0), "{how}");
    assert_eq!(effects.all().len(), 1, "{how}: it acts on nothing");
}

/// A journal that is no database: chiron refuses to act, says so, keeps exporting.
#[test]
fn journal_of_garbage() {
    corrupted("garbage", |bytes| {
        bytes.iter_mut().zip(0u8..=255).for_each(|(byte, noise)| *byte = noise.wrapping_mul(37))
    });
}

/// A journal with a damaged page.
#[test]
fn journal_with_flipped_bytes() {
    corrupted("flipped", |bytes| {
        let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]])).max(512);
        for header in bytes.chunks_mut(page).skip(1) {
            header.iter_mut().take(8).for_each(|byte| *byte ^= 0xff);
        }
    });
}

/// A journal that SQLite calls sound, but with one letter of one record changed.
#[test]
fn journal_with_a_changed_record() {
    corrupted("a changed record", |bytes| {
        let word = b"run_intended";
        let mut found = 0;
        for at in 0..bytes.len() - word.len() {
            if &bytes[at..at + word.len()] == word {
                bytes[at + 4] = b'x';
                found += 1;
            }
        }
        assert!(found > 0, "the journal holds its records as text");
    });
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a folder can be made");
        let mounted = Command::new(tool("mount"))
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(at)
            .output()
            .expect("mount runs");
        let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "this test mounts a tmpfs and needs root: {said}");
        Self(at.to_path_buf())
    }

    /// Writes until there is no space left.
    fn fill(&self) {
        let filler = std::fs::File::create(self.0.join("filler")).expect("a file can be made");
        for size in [64 * 1024, 512] {
            let chunk = vec![0u8; size];
            while std::io::Write::write_all(&mut &filler, &chunk).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the filler can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new(tool("umount")).arg("-l").arg(&self.0).status();
    }
}

/// POL-4: a full disk: alerts are refused with 503, the policy tightens, checks and `/metrics` go on; when there is
/// space again, alerts are taken.
#[test]
fn full_disk() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let state = dir.path().join("state");
    let disk = SmallDisk::mount(&state);
    let effects = Effects::new(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &state, &effects)).start();
    disk.fill();
    // What was allocated before may still take a few alerts; those are durable, so 200 is honest.
    let mut number = 0;
    wait_for_within("alerts to be refused", Duration::from_secs(60), || {
        for _ in 0..50 {
            number += 1;
            let answer = chiron.notify(None, router_down(&format!("i{number}")).as_bytes()).expect("it answers");
            match answer.status {
                200 => {}
                503 => return Ok(()),
                other => panic!("{other} {}", answer.body),
            }
        }
        Err(number)
    });
    wait_for_within("the policy to tighten", Duration::from_secs(10), || {
        let level = obeyed(&policy_file(dir.path()));
        let held = chiron.metric("chiron_new_positions_allowed", &[]);
        if level >= Level::NoNewTrades && held == Some(0.0) { Ok(()) } else { Err((level, held)) }
    });
    let checked = || chiron.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", "router")]);
    let before = checked();
    wait_for("checks to go on", || if checked() > before { Ok(()) } else { Err(checked()) });
    assert!(chiron.metric_sum("chiron_journal_errors_total", &[]) >= 1.0);
    assert_eq!(chiron.get("/-/healthy").expect("chiron answers").status, 200);

    disk.free();
    wait_for_within("alerts to be taken again", Duration::from_secs(60), || {
        let answer = chiron.notify(None, router_down("later").as_bytes()).expect("it answers");
        if answer.status == 200 { Ok(()) } else { Err((answer.status, answer.body)) }
    });
    wait_for("the journal to hold it", || {
        let entries = settled(&chiron)?;
        let taken = entries.iter().any(|entry| entry["part"]["labels"]["instance"] == "later");
        if taken { Ok(()) } else { Err(format!("{:?}", kinds(&entries))) }
    });
    assert_eq!(effects.repeated("one_shot"), [] as [String; 0]);
}

/// OBS-1, OBS-3, OBS-5: state files that are no state files: a clear detail each, no hang, `/metrics` within 1 s.
#[test]
fn strange_state_files() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    chiron::demo::create_workspace(dir.path()).expect("a workspace can be made");
    let data = dir.path().join("data");
    let replace = |name: &str| {
        std::fs::remove_file(data.join(name)).expect("the file was there");
        data.join(name)
    };
    let made = Command::new(tool("mkfifo")).arg(replace("universe_snapshot.json")).status().expect("mkfifo runs");
    assert!(made.success());
    std::fs::create_dir(replace("recent_trades.json")).expect("a folder can be made");
    let huge = std::fs::File::create(replace("event_executor_state.json")).expect("a file can be made");
    huge.set_len(8 << 30).expect("a sparse file can be made");
    std::fs::write(replace("risk_guard_state.json"), "{\"timestamp\": \"2025-11-2").expect("a file can be written");
    std::fs::write(replace("orchestrator_state.json"), "").expect("a file can be written");
    std::os::unix::fs::symlink("nowhere", replace("portfolio_balancer_state.json")).expect("a link can be made");
    std::fs::write(replace("position_monitor_state.json"), b"\x00\xff not JSON").expect("a file can be written");
    std::os::unix::fs::symlink("universe_os_state.json", replace("universe_os_state.json"))
        .expect("a link can be made");
    std::fs::write(dir.path().join("backend/data/quantum_trader.db"), "no database").expect("a file can be written");

    let config = Config::new(dir.path()).text().replace("profile: none", "profile: quantum");
    let chiron = Chiron::with_config(dir.path(), &config).start();
    let begun = Instant::now();
    let forced = request(chiron.address(), "POST", "/health/force-check", &[], b"", Duration::from_secs(30));
    assert_eq!(forced.expect("chiron answers").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(15), "a forced check took {:?}", begun.elapsed());
    for _ in 0..5 {
        let begun = Instant::now();
        let page = chiron.metrics();
        assert!(begun.elapsed() < Duration::from_secs(1), "/metrics took {:?}", begun.elapsed());
        assert!(page.contains("chiron_overall_status"));
    }
    let report = chiron.get_json("/status");
    for name in [
        "data_feed",
        "exchange_connection",
        "event_executor",
        "risk_guard",
        "orchestrator",
        "portfolio_balancer",
        "position_monitor",
        "universe_os",
        "database",
    ] {
        let health = &report["subsystem_health"][name];
        let told = ["error", "warning"].iter().any(|key| health["details"][key].as_str().is_some_and(|t| t.len() > 10));
        assert!(told, "{name} says what is wrong with its file: {health}");
    }
    for name in ["data_feed", "exchange_connection", "portfolio_balancer", "universe_os", "database"] {
        let health = &report["subsystem_health"][name];
        assert_ne!(health["status"], "healthy", "{name}: {health}");
    }
    assert_eq!(report["subsystem_health"]["model_supervisor"]["status"], "healthy", "the others are not held up");
}
