//! Recovery as a whole with the real program: roots first, what is done is undone, what makes things worse is taken back.

use std::path::{Path, PathBuf};

use crate::common::{Bot, Chiron, Config, in_order, kinds, pid_alive, pid_of, restart_script, script, wait_for};
use crate::loop_with_alertmanager::wait_status;

/// OBS-6: three real processes, each needing the one before, die at once. The root is restarted first; each dependant waits
/// and is checked again before anything is done to it.
#[test]
fn roots_are_restarted_first() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let names = ["gateway", "feed", "signals"];
    let folders = names.map(|name| dir.path().join(name));
    let mut bots: Vec<Bot> = folders
        .iter()
        .map(|folder| {
            std::fs::create_dir_all(folder).expect("a folder can be made");
            Bot::start(folder)
        })
        .collect();
    let mut text = String::from("auto_restart_enabled: true\nrecovery: {cooldown: 0s}\nsubsystems:\n");
    for (index, name) in names.iter().enumerate() {
        let needs = if index > 0 { format!("depends_on: [{}], ", names[index - 1]) } else { String::new() };
        text.push_str(&format!(
            "  {name}: {{criticality: partial, {needs}check: {{kind: process, pidfile: {name}/state/bot.pid}}}}\n"
        ));
    }
    text.push_str("bindings:\n");
    let order = dir.path().join("order.log");
    for (name, folder) in names.iter().zip(&folders) {
        let restart = restart_script(folder);
        let body = format!("echo {name} >> '{}'\nexec '{}'", order.display(), restart.display());
        let told = script(&dir.path().join(format!("restart-{name}.sh")), &body);
        text.push_str(&format!(
            "  - {{action: restart_subsystem, subsystem: {name}, exec: {{argv: [{told:?}]}}, class: probeable, \
             verify: {{settle: 200ms, within: 20s}}}}\n"
        ));
    }
    let chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&text).text()).start();
    names.iter().for_each(|name| wait_status(&chiron, name, "healthy"));
    let dead: Vec<u32> = bots.iter().map(Bot::first_pid).collect();
    // The dependants die first, so that nothing but the order of recovery puts the root in front.
    bots.iter_mut().rev().for_each(Bot::kill9);
    wait_for("every process to run again, and every issue to end", || {
        let pids: Vec<_> = folders.iter().map(|folder| pid_of(folder)).collect();
        let alive = pids.iter().zip(&dead).all(|(pid, dead)| pid.is_some_and(|pid| pid != *dead && pid_alive(pid)));
        let open = chiron.get_json("/status")["detected_issues"].as_array().map_or(0, Vec::len);
        if alive && open == 0 { Ok(()) } else { Err((pids, open)) }
    });
    let order = std::fs::read_to_string(order).expect("the order is written down");
    assert_eq!(order.lines().collect::<Vec<_>>(), names, "each once, the root first");
    let held = chiron.metric("chiron_admissions_refused_total", &[("reason", "dependency")]);
    assert!(held.is_some_and(|held| held >= 1.0), "the dependants waited: {held:?}");
}

/// A feed with a primary and a backup source; which one is in use stands in a file, whether the primary works in another.
struct Feed {
    dir: PathBuf,
}

impl Feed {
    fn new(dir: &Path) -> Self {
        let feed = Self { dir: dir.to_path_buf() };
        feed.write("source", "primary");
        feed.write("primary.status", "0");
        feed.write("backup.status", "0");
        let path = |name: &str| dir.join(name).display().to_string();
        script(
            &dir.join("check.sh"),
            &format!("exit $(cat '{}'/\"$(cat '{}')\".status)", dir.display(), path("source")),
        );
        for source in ["primary", "backup"] {
            let body = format!("echo {source} >> '{}'\nprintf {source} > '{}'", path("used.log"), path("source"));
            script(&dir.join(format!("use-{source}.sh")), &body);
        }
        feed
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).expect("a file can be written");
    }

    /// Which sources were put to use, in order.
    fn used(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("used.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn start(&self) -> Chiron {
        let path = |name: &str| self.dir.join(name);
        let text = format!(
            r#"
recovery:
  cooldown: 0s
  ladders: [{{subsystem: feed, actions: [fallback_to_backup]}}]
policy: {{min_hold: 2s, relax_after_cycles: 1}}
actions: {{restore_primary: {{autonomy: automatic}}}}
subsystems:
  feed: {{criticality: partial, check: {{kind: exec, argv: [{:?}]}}}}
bindings:
  - {{action: fallback_to_backup, subsystem: feed, exec: {{argv: [{:?}]}}, class: natural, verify: {{settle: 0s, within: 3s}}}}
  - {{action: restore_primary, subsystem: feed, exec: {{argv: [{:?}]}}, class: natural, verify: {{settle: 0s, within: 3s}}}}
"#,
            path("check.sh"),
            path("use-backup.sh"),
            path("use-primary.sh")
        );
        let chiron = Chiron::with_config(&self.dir, Config::new(&self.dir).with(&text).text()).start();
        wait_status(&chiron, "feed", "healthy");
        chiron
    }
}

/// ACT-1: the backup is put to use while the primary is broken; once the issue is over and health has lasted, the primary is
/// put to use again, by itself where that is configured, and the journal tells why.
#[test]
fn what_was_done_is_undone_after_the_issue() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let feed = Feed::new(dir.path());
    let chiron = feed.start();
    feed.write("primary.status", "2");
    wait_for("the backup to be in use", || if feed.used() == ["backup"] { Ok(()) } else { Err(feed.used()) });
    feed.write("primary.status", "0");
    wait_for("the primary to be in use again", || match feed.used() {
        used if used == ["backup", "primary"] => Ok(()),
        used => Err((used, kinds(&chiron.journal()))),
    });
    wait_for("the end of every issue", || {
        let open = chiron.get_json("/status")["detected_issues"].clone();
        if open == serde_json::json!([]) { Ok(()) } else { Err(open) }
    });
    let entries = chiron.journal();
    let story =
        ["episode_opened", "run_verified", "episode_resolved", "episode_opened", "run_verified", "episode_resolved"];
    in_order(&kinds(&entries), &story).expect("two issues, each with its run");
    let undoing = entries.iter().rfind(|entry| entry["kind"] == "episode_opened").expect("the second issue");
    assert_eq!(undoing["facts"]["source"], "recovery", "{undoing}");
    assert_eq!(feed.used(), ["backup", "primary"], "once");
}

/// ACT-4: a backup that is worse than the primary is taken back at once, and the fallback counts as failed.
#[test]
fn what_makes_things_worse_is_taken_back() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let feed = Feed::new(dir.path());
    let chiron = feed.start();
    feed.write("backup.status", "2");
    feed.write("primary.status", "1");
    wait_for("the primary to be in use again", || match feed.used() {
        used if used == ["backup", "primary"] => Ok(()),
        used => Err((used, kinds(&chiron.journal()))),
    });
    wait_for("both outcomes to be counted", || {
        let count =
            |action, outcome| chiron.metric_sum("chiron_actions_total", &[("action", action), ("outcome", outcome)]);
        let counts = (count("fallback_to_backup", "failed"), count("restore_primary", "verified"));
        if counts == (1.0, 1.0) { Ok(()) } else { Err(counts) }
    });
    let entries = chiron.journal();
    let failed = entries.iter().find(|entry| entry["kind"] == "run_verified").expect("a verdict");
    let detail = failed["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("made things worse") && detail.contains("feed was degraded and is critical"), "{failed}");
    wait_status(&chiron, "feed", "degraded");
}
