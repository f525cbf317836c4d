//! Commands that misbehave, run by the real program: each ends in a named outcome within its deadline, and leaves nothing
//! behind that it was not meant to leave.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Chiron, Config, alert, notification, pid_alive, script, wait_for, wait_for_within};

/// One command, as the target of an action of its own.
struct Case {
    name: &'static str,
    /// What its script does, after its first line; its folder is `$D`.
    code: &'static str,
    /// Further keys of its `exec`.
    more: &'static str,
    /// How the means is to answer, and how its detail begins.
    ending: &'static str,
    detail: &'static str,
    outcome: &'static str,
    /// Whether the process whose id it wrote to `$D/NAME.pid` lives afterwards.
    lives: Option<bool>,
}

const fn case(name: &'static str, code: &'static str, ending: &'static str, detail: &'static str) -> Case {
    let outcome = if matches!(ending.as_bytes(), b"ok") { "verified" } else { "failed" };
    Case { name, code, more: "", ending, detail, outcome, lives: None }
}

const CASES: [Case; 10] = [
    case("plain", "echo done; env > $D/plain.env", "ok", ""),
    // Its child stays in the group and ignores what is polite.
    Case {
        lives: Some(false),
        ..case(
            "forks",
            "(trap '' TERM; while :; do sleep 0.2; done) & echo $! > $D/forks.pid; wait",
            "timeout",
            "not done after 1s, process group ended by SIGKILL",
        )
    },
    Case {
        lives: Some(true),
        ..case("daemon", "setsid sleep 300 > /dev/null 2>&1 & echo $! > $D/daemon.pid", "ok", "")
    },
    case("floods", "head -c 2000000000 /dev/zero; echo last words", "ok", ""),
    Case {
        lives: Some(false),
        ..case(
            "ignores",
            "trap '' TERM; echo $$ > $D/ignores.pid; while :; do sleep 0.2; done",
            "timeout",
            "not done after 1s, process group ended by SIGKILL",
        )
    },
    Case {
        lives: Some(false),
        ..case(
            "stopped",
            "trap 'exit 0' TERM; echo $$ > $D/stopped.pid; kill -STOP $$; while :; do sleep 0.2; done",
            "timeout",
            "not done after 1s, process group ended by SIGTERM",
        )
    },
    case("not_marked", "exit 0", "not_started", "`"),
    case("no_interpreter", "exit 0", "not_started", "`"),
    case("foreign", "", "not_started", "`"),
    Case { more: "cwd: gone, ", ..case("no_folder", "exit 0", "not_started", "`") },
];

/// The file that is executed for a case.
fn prepare(dir: &Path, case: &Case) -> String {
    let path = dir.join(format!("{}.sh", case.name));
    script(&path, &format!("D='{}'\n{}", dir.display(), case.code));
    match case.name {
        "not_marked" => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode is set"),
        "no_interpreter" => std::fs::write(&path, "#!/no/such/interpreter\n").expect("a script is written"),
        "foreign" => {
            let mut program = std::fs::read("/bin/true").expect("a program can be read");
            program[18..20].copy_from_slice(&0xfe_u16.to_le_bytes());
            std::fs::write(&path, program).expect("a program is written");
        }
        _ => {}
    }
    path.display().to_string()
}

fn config(dir: &Path) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    std::fs::create_dir(dir.join("gone")).expect("a folder can be made");
    let (mut subsystems, mut bindings, mut routes) = (String::new(), String::new(), String::new());
    for case in &CASES {
        let (name, program) = (case.name, prepare(dir, case));
        let timeout = if case.ending == "timeout" { "1s" } else { "60s" };
        subsystems.push_str(&format!(
            "  {name}: {{criticality: none, check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}}}\n"
        ));
        bindings.push_str(&format!(
            "  - action: restart_subsystem\n    subsystem: {name}\n    timeout: {timeout}\n    verify: {{settle: 0s}}\n    \
             exec: {{{}argv: [{program:?}], env_from: [CANARY_OF_CHIRON, NOT_THERE]}}\n",
            case.more
        ));
        routes.push_str(&format!(
            "    - {{match: {{alertname: {name}}}, subsystem: {name}, action: restart_subsystem}}\n"
        ));
    }
    let text = format!(
        "recovery: {{cooldown: 0s, concurrency: 16, overall_budget: 100, ladders: [{{actions: [reload_config]}}]}}\n\
         subsystems:\n{subsystems}bindings:\n{bindings}alerts:\n  routes:\n{routes}"
    );
    Config::new(dir).with(&text).text().to_owned()
}

/// The first run on a target, once it has its outcome.
fn run(chiron: &Chiron, target: &str) -> Result<Value, Value> {
    let all = chiron.get_json("/api/v1/actions");
    let runs = all["actions"].as_array().expect("a list");
    let one = runs
        .iter()
        .find(|run| run["target"] == target && run["outcome"].is_string() && run["key"].to_string().contains("/1/1"));
    one.cloned().ok_or_else(|| runs.iter().map(|run| run["key"].clone()).collect())
}

/// ACT-2, ACT-3: a command that forks, leaves a daemon, prints gigabytes, ignores SIGTERM, is stopped, or cannot be
/// executed: the outcome that the ledger tells, the processes that are left, and the memory that it took.
#[test]
fn commands_that_misbehave() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path()))
        .env("CANARY_OF_CHIRON", "passed on")
        .env("KEPT_BACK", "not passed on")
        .start();
    let resident = || chiron.metric("process_resident_memory_bytes", &[]).expect("chiron tells its memory");
    let before = resident();
    std::fs::remove_dir(dir.path().join("gone")).expect("a folder can be removed");
    let alerts: Vec<Value> = CASES
        .iter()
        .enumerate()
        .map(|(number, case)| {
            let mut alert = alert("firing", &[("alertname", case.name), ("severity", "warning")]);
            alert["fingerprint"] = format!("{number:016x}").into();
            alert
        })
        .collect();
    let begun = Instant::now();
    let answer = chiron.notify(None, notification(&alerts).as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);

    let mut highest = before;
    for case in &CASES {
        let what = format!("the outcome of `{}`", case.name);
        let run = wait_for_within(&what, Duration::from_secs(100), || {
            highest = highest.max(resident());
            run(&chiron, case.name)
        });
        let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
        assert_eq!((text("ending"), text("outcome")), (case.ending.to_owned(), case.outcome.to_owned()), "{run}");
        // Of what has worked the detail tells how that was seen.
        let detail = if case.ending == "ok" { format!("{} is healthy", case.name) } else { case.detail.to_owned() };
        assert!(text("detail").starts_with(&detail), "{run}");
        if case.ending == "not_started" {
            assert!(text("detail").contains("cannot be executed in"), "{run}");
        }
        if case.ending == "timeout" {
            // The timeout, two graces, and what a busy machine takes.
            let took = run["duration_ms"].as_u64().expect("a duration");
            assert!((1_000..6_000).contains(&took), "{run}");
        }
        if let Some(lives) = case.lives {
            let file = dir.path().join(format!("{}.pid", case.name));
            let pid = std::fs::read_to_string(file).expect("it wrote its pid").trim().parse().expect("a pid");
            assert_eq!(pid_alive(pid), lives, "{}: {run}", case.name);
            if lives {
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the daemon can be ended");
            }
        }
    }
    let flood = run(&chiron, "floods").expect("it has ended");
    let output = flood["output"].as_str().expect("output");
    assert!(output.len() <= 4096 && output.ends_with("last words\n"), "{}", output.len());
    let grown = (highest - before) / 1e6;
    eprintln!(
        "2 GB printed in {:?}; resident memory grew by {grown:.1} MB to at most {:.1} MB",
        begun.elapsed(),
        highest / 1e6
    );
    assert!(grown < 64.0, "what a command prints is not kept: {grown} MB");

    let env = std::fs::read_to_string(dir.path().join("plain.env")).expect("the command wrote its environment");
    assert!(env.contains("CANARY_OF_CHIRON=passed on\n"), "{env}");
    assert!(!env.contains("KEPT_BACK") && !env.contains("NOT_THERE"), "{env}");
    let ended = |outcome: &str| chiron.metric_sum("chiron_actions_total", &[("outcome", outcome)]);
    assert_eq!((ended("verified"), ended("failed")), (3.0, 7.0));
    // What could be seen beforehand was: the absent variable everywhere, and each program that cannot be executed.
    wait_for("every binding to be asked", || {
        let all = chiron.get_json("/api/v1/bindings");
        let doubts = |name: &str| {
            let one = all["bindings"].as_array().and_then(|list| list.iter().find(|one| one["subsystem"] == name));
            one.map(|one| one["doubts"].to_string()).unwrap_or_default()
        };
        let seen = doubts("plain").contains("`NOT_THERE` of `env_from`")
            && doubts("not_marked").contains("is it marked executable?")
            && doubts("no_interpreter").contains("its interpreter `/no/such/interpreter`")
            && doubts("foreign").contains("another machine");
        if seen { Ok(()) } else { Err(all) }
    });
}
