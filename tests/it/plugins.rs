//! Plugins as they come: real ones from Debian, and such as never end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Chiron, Config, pid_alive, script, tool, wait_for, wait_for_within};

fn health(chiron: &Chiron, subsystem: &str) -> Value {
    chiron.get_json("/status")["subsystem_health"][subsystem].clone()
}

/// Waits until a subsystem's `error` or `message` begins so.
fn wait_told(chiron: &Chiron, subsystem: &str, key: &str, begins: &str) -> Value {
    wait_for(&format!("{subsystem} to say {begins}"), || {
        let health = health(chiron, subsystem);
        match health["details"][key].as_str() {
            Some(told) if told.contains(begins) => Ok(health),
            _ => Err(health),
        }
    })
}

fn pids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// OBS-7: plugins of Debian's say what they say, and their numbers are exported.
#[test]
fn real_plugins_say_what_they_say() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let dummy = tool("/usr/lib/nagios/plugins/check_dummy");
    let mut yaml = "subsystems:\n".to_owned();
    for code in 0..4 {
        yaml += &format!("  dummy{code}: {{check: {{kind: exec, argv: [{dummy:?}, \"{code}\", said so]}}}}\n");
    }
    yaml += "  procs: {check: {kind: exec, argv: [/usr/lib/nagios/plugins/check_procs, -w, '1:']}}\n";
    yaml += "  disk: {check: {kind: exec, argv: [/usr/lib/nagios/plugins/check_disk, -w, '0%', -p, /]}}\n";
    let chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&yaml).text()).start();
    for (code, word, status) in
        [(0, "OK", "healthy"), (1, "WARNING", "degraded"), (2, "CRITICAL", "critical"), (3, "UNKNOWN", "unknown")]
    {
        let told = wait_told(&chiron, &format!("dummy{code}"), "message", &format!("{word}: said so"));
        assert!(told["status"] == status || status == "unknown", "{told}");
    }
    wait_told(&chiron, "procs", "message", "PROCS OK");
    wait_told(&chiron, "disk", "message", "DISK OK");
    let perfdata = |name: &str| chiron.metric("chiron_check_perfdata", &[("subsystem", name)]);
    assert!(perfdata("procs").is_some_and(|count| count >= 1.0) && perfdata("disk").is_some());
}

/// OBS-7, OBS-5, SPEC 15: plugins that never end, take no notice of SIGTERM, leave children with their pipes or print
/// without an end: each is named with what it did, none of their processes is left, memory is bounded, and another check
/// keeps its pace.
#[test]
fn plugins_that_never_end_disturb_nobody() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let path = |name: &str| dir.path().join(name);
    let said = |name: &str| path(&format!("{name}.pids"));
    let cases = [
        ("endless", "while :; do sleep 1; done", "error", "no answer within 300ms, killed"),
        ("stubborn", "trap '' TERM INT HUP; while :; do sleep 1; done", "error", "no answer within 300ms, killed"),
        (
            "family",
            "(trap '' TERM; sh -c 'echo $$ >> FILE; while :; do sleep 1; done') & echo $! >> FILE; sleep 86416",
            "error",
            "no answer within 300ms, killed",
        ),
        ("keeper", "(trap '' TERM; while :; do sleep 1; done) & echo $! >> FILE; echo fine", "message", "fine"),
        ("chatter", "yes 'x|a=1 b=2'", "error", "killed"),
        ("silent", "exec <&- >&- 2>&-; while :; do sleep 1; done", "error", "no answer within 300ms, killed"),
        ("halted", "kill -STOP $$", "error", "no answer within 300ms, killed"),
    ];
    let mut yaml = "subsystems:\n  steady: {interval: 100ms, check: {kind: exec, argv: [/bin/true]}}\n".to_owned();
    for (name, body, ..) in cases {
        let file = said(name).display().to_string();
        let plugin = script(&path(name), &format!("echo $$ >> {file}\n{}", body.replace("FILE", &file)));
        yaml += &format!("  {name}: {{interval: 500ms, check: {{kind: exec, argv: [{plugin:?}], timeout: 300ms}}}}\n");
    }
    let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&yaml).text()).start();
    for (name, _, key, told) in cases {
        let health = wait_told(&chiron, name, key, told);
        assert!(health["details"][key].as_str().is_some_and(|told| told.len() < 500), "{health}");
        assert_eq!(health["details"].get("error").is_some(), key == "error", "{health}");
    }
    let at = || chiron.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", "steady")]);
    for _ in 0..5 {
        let (seen, begun) = (at(), Instant::now());
        wait_for_within("the steady check to run again", Duration::from_secs(5), || {
            if at() > seen { Ok(()) } else { Err(seen) }
        });
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let resident = chiron.metric("process_resident_memory_bytes", &[]).expect("it is told");
    assert!(resident < 200e6, "{resident} bytes resident");
    let started: usize = cases.iter().map(|(name, ..)| pids(&said(name)).len()).sum();
    assert!(started > cases.len() * 2, "each ran more than once: {started}");
    assert!(chiron.terminate().success(), "a clean end");
    for (name, ..) in cases {
        wait_for(&format!("the processes of {name} to be gone"), || {
            let left: Vec<_> = pids(&said(name)).into_iter().filter(|pid| pid_alive(*pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}
