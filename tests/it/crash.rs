//! A crash at every step of the journal, judged from outside.

use std::path::Path;
use std::time::{Duration, Instant};

use chiron::base::failpoint;
use chiron::model::Level;

use crate::common::{
    Chiron, Config, Effects, PolicyWatch, alert, in_order, kinds, notification, runs, settled, wait_for,
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
      policy: no_new_trades
"#,
        effects.script
    );
    Config::new(dir).with(&text).text().to_owned()
}

/// Posts as Alertmanager does: again and again until 200. Answers false if chiron has died instead.
pub(crate) fn deliver(chiron: &mut Chiron, body: &str) -> bool {
    let begun = Instant::now();
    loop {
        if chiron.ended().is_some() {
            return false;
        }
        let seen = match chiron.notify(None, body.as_bytes()) {
            Ok(answer) if answer.status == 200 => return true,
            Ok(answer) => {
                assert_eq!(answer.status, 503, "only a 503 is tried again: {}", answer.body);
                answer.body
            }
            Err(error) => error.to_string(),
        };
        assert!(begun.elapsed() < Duration::from_secs(30), "no 200 within 30 s; last: {seen}; {}", chiron.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until nothing is under way; answers false if chiron has died instead.
pub(crate) fn settle(chiron: &mut Chiron, what: &str) -> bool {
    wait_for(what, || {
        if chiron.ended().is_some() {
            return Ok(false);
        }
        let Ok(answer) = chiron.get("/api/v1/journal?after=0&limit=1") else { return Err("no answer".to_owned()) };
        if answer.status != 200 {
            return Err(answer.body);
        }
        // It may die between these two lines: then the readers panic, so they are asked from a safe distance.
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| settled(chiron)));
        match settled {
            Ok(settled) => settled.map(|_| true),
            Err(_) => Err("it died while it was asked".to_owned()),
        }
    })
}

/// What one story with one strike showed.
struct Story {
    struck: bool,
    indeterminate: usize,
}

/// One alert, one strike at `name`, a restart, the same alert again; then the judge.
fn story(name: &str, strike: &str) -> Story {
    let what = format!("{name}={strike}");
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let text = config(dir.path(), &effects);
    let mut chiron = Chiron::with_config(dir.path(), &text).env("CHIRON_FAILPOINTS", &what);
    let policy = PolicyWatch::start(dir.path());
    let body = notification(&[alert("firing", &[("alertname", "RouterDown"), ("severity", "critical")])]);

    chiron.spawn();
    let mut alarm = None;
    let mut alive = chiron.wait_listening();
    for _ in 0..3 {
        alive = alive && deliver(&mut chiron, &body);
        if alive {
            alarm.get_or_insert_with(Instant::now);
            alive = settle(&mut chiron, &format!("{what}: the first life to settle"));
        }
    }
    if alive {
        // Some steps are only taken at the end of a life.
        chiron.terminate();
    }
    let ended = chiron.ended().expect("the first life is over");
    let struck = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9);

    chiron.set_env("CHIRON_FAILPOINTS", None);
    chiron.restart();
    assert!(deliver(&mut chiron, &body), "{what}: the second life stays");
    let alarm = alarm.unwrap_or_else(Instant::now);
    assert!(settle(&mut chiron, &format!("{what}: the second life to settle")), "{what}: the second life stays");

    let entries = chiron.journal();
    let taken = entries.iter().any(|entry| entry["part"]["labels"]["alertname"] == "RouterDown");
    assert!(taken, "{what}: the alert is in the journal: {:?}", kinds(&entries));
    assert_eq!(effects.repeated("one_shot"), [] as [String; 0], "{what}: {:?}", kinds(&entries));
    let runs = runs(&entries);
    let indeterminate = runs.values().filter(|kind| *kind == "run_indeterminate").count();
    let done = effects.all();
    assert!(done.len() <= 1, "{what}: one alert, one effect: {done:?}");
    if what == "effect.before=error" {
        // The means says that it never began, and a one_shot without retries is left at that.
        let endings: Vec<&str> = entries.iter().filter_map(|entry| entry["ending"].as_str()).collect();
        assert_eq!((endings, done.len()), (vec!["not_started"], 0), "{what}");
    } else if indeterminate == 0 {
        assert_eq!(done.len(), 1, "{what}: the alert was acted upon: {:?}", kinds(&entries));
        in_order(&kinds(&entries), &["run_intended", "run_started", "run_finished", "run_verified"])
            .unwrap_or_else(|missing| panic!("{what}: {missing}"));
    }
    for effect in &done {
        assert!(runs.contains_key(&effect.key), "{what}: {effect:?} is in the journal: {runs:?}");
    }
    let (reached, loosened) = policy.loosened(alarm, Level::NoNewTrades);
    assert!(reached, "{what}: the policy is tightened");
    assert!(loosened.is_empty(), "{what}: loosened while the alert fires: {loosened:?}");
    let held = chiron.metric("chiron_safety_policy_source", &[("source", "alert"), ("policy", "no_new_trades")]);
    assert_eq!(held, Some(1.0), "{what}: the alert holds its policy");
    Story { struck, indeterminate }
}

/// ACT-3, ALR-1, POL-3: every failpoint, struck at its first passing.
#[test]
fn every_failpoint_at_its_first_passing() {
    for name in failpoint::NAMES {
        let told = story(name, "kill");
        assert!(told.struck, "nothing passes the failpoint `{name}`, so no test covers its step");
        eprintln!("failpoint {name}: struck, {} indeterminate", told.indeterminate);
    }
}

/// ACT-3, ALR-1, POL-3: the same later in a life, where the same step belongs to another record.
#[test]
fn every_failpoint_at_later_passings() {
    let mut struck = 0;
    for name in failpoint::NAMES {
        for strike in ["kill@2", "kill@3"] {
            let told = story(name, strike);
            struck += u32::from(told.struck);
            eprintln!("failpoint {name}={strike}: struck {}, {} indeterminate", told.struck, told.indeterminate);
        }
    }
    assert!(struck >= 4, "intake and decisions pass more than once in a life: {struck} strikes");
}

/// ACT-3, ALR-1, POL-4: the same when the step fails and the program lives on.
#[test]
fn every_failpoint_as_an_error() {
    for name in failpoint::NAMES {
        let told = story(name, "error");
        assert!(!told.struck, "{name}: an error ends nothing");
        eprintln!("failpoint {name}=error: {} indeterminate", told.indeterminate);
    }
}
