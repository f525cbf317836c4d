//! Every failpoint crossed with every means: the program is killed at each step of the journal, and at random moments, while
//! a real file, process, unit, container or server counts what is done to it. Then the world's count and the journal's text
//! are compared; nothing else is believed.
//!
//! `CHIRON_TEST_MATRIX_KILLS` sets how many random kills each means sees (5), `CHIRON_TEST_SEED` repeats their moments.
//! A further means is one more [`World`] and one more line in [`WORLDS`].

mod worlds;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chiron::base::failpoint;
use chiron::model::Level;
use serde_json::Value;

use crate::common::{Chiron, Config, PolicyWatch, alert, kinds, notification, now_millis, runs, timestamp, wait_for};
use crate::crash::{deliver, settle};
use worlds::{WORLDS, World};

/// How many stories run beside each other.
const LANES: usize = 2;

/// A subsystem that is healthy while the world's beat is there, and whose restart brings it back.
fn config(dir: &Path, world: &dyn World) -> String {
    world.adopt(dir);
    let text = format!(
        r#"
flap: {{openings: 1000}}
recovery: {{cooldown: 0s, target_budget: 1000, overall_budget: 1000}}
policy: {{min_hold: 1s, relax_after_cycles: 1}}
subsystems:
  router:
    criticality: partial
    check: {{kind: file_age, path: {:?}, degraded_after: 10h, critical_after: 20h, missing: critical}}
bindings:
  - action: restart_subsystem
    subsystem: router
    {}
    class: {}
    timeout: 10s
    verify: {{settle: 50ms, within: 10s}}
alerts:
  routes:
    - match: {{alertname: RouterDown}}
      subsystem: router
      action: restart_subsystem
      policy: no_new_trades
"#,
        world.beat(),
        world.means(),
        world.class(),
    );
    Config::new(dir).with(&text).text().to_owned()
}

fn router_down(status: &str) -> String {
    let mut alert = alert(status, &[("alertname", "RouterDown"), ("severity", "critical")]);
    // One that began before the end of the last would be stale.
    if status == "firing" {
        alert["startsAt"] = timestamp(0).into();
    }
    notification(&[alert])
}

/// What the journal tells of the runs that have a means.
#[derive(Debug, Default)]
struct Told {
    /// Records that let an effect begin.
    begun: usize,
    /// Runs that were begun.
    runs: usize,
    verified: usize,
    indeterminate: usize,
    cancelled: usize,
    open: Vec<String>,
}

impl Told {
    fn by(entries: &[Value]) -> Self {
        let kind = |entry: &Value| entry["kind"].as_str().unwrap_or_default().to_owned();
        let bound: Vec<&str> = entries
            .iter()
            .filter(|entry| kind(entry) == "run_intended" && entry["binding"] != "internal")
            .filter_map(|entry| entry["key"].as_str())
            .collect();
        let mut told = Self::default();
        for entry in entries.iter().filter(|entry| entry["key"].as_str().is_some_and(|key| bound.contains(&key))) {
            match kind(entry).as_str() {
                "run_started" => (told.begun, told.runs) = (told.begun + 1, told.runs + 1),
                "run_resumed" => told.begun += 1,
                "run_verified" if entry["outcome"] == "verified" => told.verified += 1,
                "run_indeterminate" => told.indeterminate += 1,
                "run_cancelled" => told.cancelled += 1,
                _ => {}
            }
        }
        let settled = ["run_verified", "run_indeterminate", "run_cancelled"];
        told.open = runs(entries)
            .into_iter()
            .filter(|(_, kind)| !settled.contains(&kind.as_str()))
            .map(|(key, _)| key)
            .collect();
        told
    }

    /// What does not fit between the world's count and the journal, by the class.
    fn faults(&self, class: &str, effects: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.open.is_empty() {
            faults.push(format!("runs are not settled: {:?}", self.open));
        }
        if effects > self.begun {
            faults.push(format!("{effects} effects, but only {} were begun", self.begun));
        }
        // Two of these would be the same run twice.
        if matches!(class, "one_shot" | "probeable" | "keyed") && effects > self.runs {
            faults.push(format!("{effects} effects of {class}, but only {} runs", self.runs));
        }
        if effects < self.verified {
            faults.push(format!("{} runs were verified, but only {effects} effects happened", self.verified));
        }
        faults
    }
}

/// One breakage, one alert, one kill at the first passing of `name`, a restart, the same alert again; then the judge.
fn story(world: &dyn World, name: &str) -> String {
    let what = format!("{} x {name}", world.name());
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let text = config(dir.path(), world);
    let mut chiron = Chiron::with_config(dir.path(), &text).env("CHIRON_FAILPOINTS", &format!("{name}=kill"));
    let policy = PolicyWatch::start(dir.path());
    let before = world.effects();
    world.break_();
    let body = router_down("firing");
    chiron.spawn();
    let mut alarm = None;
    let mut alive = chiron.wait_listening();
    for _ in 0..2 {
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
    assert!(struck, "{what}: nothing passes this failpoint: {ended:?}");
    chiron.set_env("CHIRON_FAILPOINTS", None);
    chiron.restart();
    assert!(deliver(&mut chiron, &body), "{what}: the second life stays");
    let alarm = alarm.unwrap_or_else(Instant::now);
    assert!(settle(&mut chiron, &format!("{what}: the second life to settle")), "{what}: the second life stays");
    let entries = chiron.journal();
    let (told, effects) = (Told::by(&entries), world.effects() - before);
    let faults = told.faults(world.class(), effects);
    assert!(faults.is_empty(), "{what}: {faults:?}: {told:?}, {effects} effects, {:?}", kinds(&entries));
    assert!(
        effects <= 1 || world.class() == "natural",
        "{what}: one breakage, one effect: {effects}, {:?}",
        kinds(&entries)
    );
    // Only what cannot be asked about may be left undone, and then a person knows.
    let done = told.verified > 0 && effects > 0;
    let left = world.class() == "one_shot" && told.indeterminate == 1;
    assert!(done || left, "{what}: {told:?}, {effects} effects, {:?}", kinds(&entries));
    let (reached, loosened) = policy.loosened(alarm, Level::NoNewTrades);
    assert!(reached && loosened.is_empty(), "{what}: reached {reached}, loosened while the alert fires: {loosened:?}");
    format!(
        "{what}: {} begun, {effects} effects, {} verified, {} indeterminate",
        told.begun, told.verified, told.indeterminate
    )
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: found `{text}`, expected a number")))
}

/// SplitMix64.
fn throw(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

/// Breakages and alerts come, and kills at random moments; then the judge.
fn random_kills(world: &dyn World, kills: u64, seed: u64) -> String {
    let what = format!("{} x {kills} random kills, seed {seed}", world.name());
    let mut dice = seed;
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let text = config(dir.path(), world);
    let mut chiron = Chiron::with_config(dir.path(), &text).start();
    let before = world.effects();
    for kill in 0..kills {
        world.break_();
        // From before the alert is answered to after its action is verified.
        let moment = Instant::now() + Duration::from_millis(throw(&mut dice, 900));
        assert!(deliver(&mut chiron, &router_down("firing")), "{what}: it stays until it is killed");
        let policy = PolicyWatch::start(dir.path());
        let alarm = Instant::now();
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        assert!(chiron.ended().is_none(), "{what}: it ended by itself before kill {kill}: {}", chiron.log());
        chiron.kill9();
        // At once, or after the world has gone on for a while.
        std::thread::sleep(Duration::from_millis(throw(&mut dice, 2) * throw(&mut dice, 400)));
        chiron.restart();
        assert!(settle(&mut chiron, &format!("{what}: kill {kill} to settle")), "{what}: it stays");
        let (reached, loosened) = policy.loosened(alarm, Level::NoNewTrades);
        assert!(reached && loosened.is_empty(), "{what}: kill {kill}: reached {reached}, loosened: {loosened:?}");
        // A person brings back what chiron left alone, so that the next breakage is an issue of its own.
        world.mend();
        assert!(deliver(&mut chiron, &router_down("resolved")), "{what}: it stays");
        wait_for("the issue to end", || {
            let open = chiron.get_json("/api/v1/issues");
            if open["issues"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(open) }
        });
    }
    let entries = chiron.journal();
    let (told, effects) = (Told::by(&entries), world.effects() - before);
    let faults = told.faults(world.class(), effects);
    assert!(faults.is_empty(), "{what}: {faults:?}: {told:?}, {effects} effects, {:?}", kinds(&entries));
    assert!(effects > 0, "{what}: the world was alive: {told:?}");
    format!(
        "{what}: {} runs, {} begun, {effects} effects, {} verified, {} indeterminate",
        told.runs, told.begun, told.verified, told.indeterminate
    )
}

/// Every story of a list, in two lanes; a world is used by one lane at a time.
fn play(stories: Vec<(usize, Option<&'static str>)>, kills: u64, seed: u64) {
    let queue = Mutex::new(stories);
    let lane = || {
        let mut worlds: Vec<Option<Box<dyn World>>> = WORLDS.iter().map(|_| None).collect();
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some((index, name)) = next else { return };
            let world = worlds[index].get_or_insert_with(|| WORLDS[index]());
            let figures = match name {
                Some(name) => story(&**world, name),
                None => random_kills(&**world, kills, seed + index as u64),
            };
            eprintln!("matrix: {figures}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(lane);
        }
    });
}

/// ACT-2, ACT-3, POL-3: each step of the journal crossed with each means, the program killed at the first passing.
#[test]
fn every_failpoint_with_every_means() {
    // From the end, so that a lane stays with the world it has built.
    let all = (0..WORLDS.len()).flat_map(|world| failpoint::NAMES.iter().map(move |name| (world, Some(*name))));
    play(all.collect(), 0, 0);
}

/// ACT-2, ACT-3, POL-3: random kills of each means, while what it is about breaks.
#[test]
fn random_kills_with_every_means() {
    let kills = setting("CHIRON_TEST_MATRIX_KILLS").unwrap_or(5);
    let seed = setting("CHIRON_TEST_SEED").unwrap_or_else(|| now_millis().unsigned_abs());
    eprintln!("matrix: {kills} kills each, CHIRON_TEST_SEED={seed}");
    play((0..WORLDS.len()).map(|world| (world, None)).collect(), kills, seed);
}

/// The judge sees each kind of fault, so that a clean verdict means something.
#[test]
fn judge_sees_faults() {
    use serde_json::json;
    let run = |kind: &str| json!({"kind": kind, "key": "e/1/1", "binding": "b", "outcome": "verified"});
    let once = [run("run_intended"), run("run_started"), run("run_verified")];
    let told = Told::by(&once);
    assert_eq!(told.faults("one_shot", 1), [] as [String; 0]);
    assert_eq!(told.faults("one_shot", 2).len(), 2, "more than were begun, and twice the same run");
    assert_eq!(told.faults("natural", 0).len(), 1, "verified without an effect");
    let again = [run("run_intended"), run("run_started"), run("run_resumed"), run("run_verified")];
    assert_eq!(Told::by(&again).faults("natural", 2), [] as [String; 0]);
    assert_eq!(Told::by(&again).faults("probeable", 2).len(), 1, "asked first, it happens once");
    assert_eq!(Told::by(&once[..2]).faults("natural", 1).len(), 1, "not settled");
    let internal = json!({"kind": "run_intended", "key": "i/1/1", "binding": "internal"});
    assert_eq!(Told::by(&[internal, json!({"kind": "run_started", "key": "i/1/1"})]).begun, 0);
}
