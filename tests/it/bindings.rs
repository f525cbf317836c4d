//! Bindings at work: the actions that heal without a restart, what is only rehearsed, and whether each would work.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::{Chiron, Config, script, wait_for};

/// Runs on a target that have their outcome: action and outcome, oldest first.
fn outcomes(chiron: &Chiron, target: &str) -> Vec<(String, String)> {
    let all = chiron.get_json("/api/v1/actions");
    let text = |run: &Value, key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let ended = all["actions"].as_array().expect("a list").iter().filter(|run| run["outcome"].is_string());
    let mut found: Vec<_> = ended
        .filter(|run| run["target"] == target)
        .map(|run| (text(run, "intended_at"), (text(run, "action"), text(run, "outcome"))))
        .collect();
    found.sort();
    found.into_iter().map(|(_, outcome)| outcome).collect()
}

fn await_outcomes(chiron: &Chiron, target: &str, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|(a, o)| ((*a).to_owned(), (*o).to_owned())).collect();
    wait_for("the actions to have their outcomes", || {
        let found = outcomes(chiron, target);
        if found == expected { Ok(()) } else { Err(found) }
    });
}

fn counted(chiron: &Chiron, action: &str, subsystem: &str, outcome: &str) -> f64 {
    chiron.metric_sum("chiron_actions_total", &[("action", action), ("subsystem", subsystem), ("outcome", outcome)])
}

/// Makes a file look as if it had last been written two hours ago.
fn age(path: &Path) {
    std::fs::write(path, "content").expect("a file can be written");
    let file = std::fs::File::options().append(true).open(path).expect("a file can be opened");
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).expect("a file can be dated");
}

/// ACT-1, ACT-4: memory is short on the host, `clear_cache` frees it by a command, and the host's own reading verifies it.
#[test]
fn clear_cache_frees_memory() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let figure = dir.path().join("memory");
    std::fs::write(&figure, "91.3").expect("a file can be written");
    let free = script(&dir.path().join("free.sh"), &format!("echo 40 > '{}'", figure.display()));
    let text = format!(
        "recovery: {{cooldown: 0s}}\nbindings:\n  - {{action: clear_cache, subsystem: host, class: natural, exec: {{argv: [{free:?}]}}, \
         verify: {{settle: 100ms, within: 20s}}}}\n"
    );
    let config =
        Config::new(dir.path()).with(&text).text().replace("max_memory_percent: 100", "max_memory_percent: 85");
    let chiron = Chiron::with_config(dir.path(), &config)
        .env("CHIRON_TEST_MEMORY_PERCENT", figure.to_str().expect("a path of text"))
        .start();
    await_outcomes(&chiron, "host", &[("clear_cache", "verified")]);
    assert_eq!(counted(&chiron, "clear_cache", "host", "verified"), 1.0);
    wait_for("the issue to end", || {
        let open = chiron.metric_sum("chiron_issues", &[("subsystem", "host")]);
        if open == 0.0 { Ok(()) } else { Err(open) }
    });
}

/// REC-1, ACT-1: `reload_config` is for a person, unless `actions` lets it run alone; then a file that is touched renews
/// what had become stale. What it changed is told.
#[test]
fn reload_config_runs_alone_where_it_may() {
    for alone in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        age(&dir.path().join("settings.txt"));
        let text = format!(
            "{}subsystems:\n  feed: {{criticality: none, check: {{kind: file_age, path: settings.txt, degraded_after: 1h, critical_after: 10h}}}}\n\
             bindings:\n  - {{action: reload_config, subsystem: feed, class: natural, file: {{path: settings.txt, touch: true}}, \
             verify: {{settle: 100ms, within: 20s}}}}\n",
            if alone { "actions: {reload_config: {autonomy: automatic}}\n" } else { "" }
        );
        let chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&text).text()).start();
        if alone {
            await_outcomes(&chiron, "feed", &[("reload_config", "verified")]);
            assert_eq!(counted(&chiron, "reload_config", "feed", "verified"), 1.0);
            let run = chiron.get_json("/api/v1/actions")["actions"][0].clone();
            assert!(
                run["changed"].as_str().is_some_and(|changed| changed.ends_with("settings.txt` is dated now")),
                "{run}"
            );
        } else {
            wait_for("the recommendation to wait for a person", || {
                let all = chiron.get_json("/api/v1/recommendations");
                if all["recommendations"][0]["reason"] == "manual" { Ok(()) } else { Err(all) }
            });
            assert_eq!(outcomes(&chiron, "feed"), []);
        }
    }
}

/// ACT-3: what is rehearsed, by its binding or by its action, is done never and counted once; the ladder goes on past it.
#[test]
fn the_ladder_goes_on_past_a_rehearsal() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let state = dir.path().join("state.txt");
    age(&state);
    let at = |name: &str| dir.path().join(name);
    let writes = |name: &str| script(&at(&format!("{name}.sh")), &format!("echo ran >> '{}'", at(name).display()));
    let restart =
        script(&at("restart.sh"), &format!("touch '{}'; echo ran >> '{}'", state.display(), at("restarted").display()));
    let binding = |action: &str, program: &Path, more: &str| {
        format!(
            "  - {{action: {action}, subsystem: feed, {more}exec: {{argv: [{program:?}]}}, verify: {{settle: 100ms, within: 20s}}}}\n"
        )
    };
    let text = format!(
        "auto_restart_enabled: true\n\
         actions: {{reload_config: {{autonomy: automatic, dry_run: true}}}}\n\
         recovery: {{cooldown: 0s, ladders: [{{actions: [clear_cache, reload_config, restart_subsystem]}}]}}\n\
         subsystems:\n  feed: {{criticality: none, check: {{kind: file_age, path: state.txt, degraded_after: 30m, critical_after: 1h}}}}\n\
         bindings:\n{}{}{}",
        binding("clear_cache", &writes("cleared"), "dry_run: true, "),
        binding("reload_config", &writes("reloaded"), ""),
        binding("restart_subsystem", &restart, ""),
    );
    let chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&text).text()).start();
    let expected = [("clear_cache", "dry_run"), ("reload_config", "dry_run"), ("restart_subsystem", "verified")];
    await_outcomes(&chiron, "feed", &expected);
    assert_eq!(std::fs::read_to_string(at("restarted")).expect("it was restarted"), "ran\n");
    assert!(!at("cleared").exists() && !at("reloaded").exists(), "what is rehearsed is not done");
    for (action, outcome) in expected {
        assert_eq!(counted(&chiron, action, "feed", outcome), 1.0, "{action}");
    }
    let bindings = chiron.get_json("/api/v1/bindings");
    let rehearsed: Vec<&Value> =
        bindings["bindings"].as_array().expect("a list").iter().map(|one| &one["dry_run"]).collect();
    assert_eq!(rehearsed, [true, false, false], "{bindings}");
    let shown = chiron.get_json("/api/v1/config");
    assert_eq!(shown["settings"]["actions"]["reload_config"]["dry_run"], true);
}

/// ACT-2: what would keep a binding from working is told before it is needed: in the API, the metrics and the log; mended,
/// it is seen at the next round, and by a reload at once.
#[test]
fn a_binding_that_would_not_work_is_told() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let program = dir.path().join("restart.sh");
    let config = |every: &str| {
        let text = format!(
            "recovery: {{preflight_every: {every}}}\n\
             subsystems:\n  feed: {{criticality: none, check: {{kind: file_age, path: chiron.yml, degraded_after: 10h, critical_after: 20h}}}}\n\
             bindings:\n  - {{action: restart_subsystem, subsystem: feed, exec: {{argv: [{program:?}]}}}}\n  \
             - {{action: clear_cache, subsystem: feed, file: {{path: data/flag, touch: true}}}}\n"
        );
        Config::new(dir.path()).with(&text).text().to_owned()
    };
    let chiron = Chiron::with_config(dir.path(), &config("1h")).start();
    let restart = [("action", "restart_subsystem"), ("subsystem", "feed"), ("means", "exec")];
    let ready = |labels: &[(&str, &str)], expected: f64| {
        wait_for("the metric to follow", || {
            let seen = chiron.metric("chiron_binding_ready", labels);
            let asked = chiron.metric("chiron_binding_checked_timestamp_seconds", labels);
            if seen == Some(expected) && asked.is_some_and(|at| at > 0.0) { Ok(()) } else { Err((seen, asked)) }
        });
    };
    ready(&[("action", "clear_cache"), ("subsystem", "feed"), ("means", "file")], 1.0);
    ready(&restart, 0.0);
    let all = chiron.get_json("/api/v1/bindings");
    let one = &all["bindings"][1];
    assert_eq!((&one["action"], &one["ready"]), (&Value::from("restart_subsystem"), &Value::from(false)), "{all}");
    assert!(one["doubts"][0].as_str().is_some_and(|doubt| doubt.contains("No such file")), "{all}");
    assert_eq!(all["bindings"][0]["ready"], true, "{all}");
    let told = || chiron.log().lines().filter(|line| line.contains("binding would not work now")).count();
    assert_eq!(told(), 1, "{}", chiron.log());

    chiron.rewrite_config(&config("1s"));
    chiron.hang_up();
    ready(&restart, 0.0);
    script(&program, "exit 0");
    ready(&restart, 1.0);
    wait_for("the log to say so", || {
        if chiron.log().contains("binding would work again") { Ok(()) } else { Err(chiron.log()) }
    });
    assert_eq!(told(), 1, "told once, although it was asked again: {}", chiron.log());

    chiron.rewrite_config(&config("1h"));
    chiron.hang_up();
    ready(&restart, 1.0);
    std::fs::remove_file(&program).expect("a file can be removed");
    chiron.hang_up();
    ready(&restart, 0.0);
}
