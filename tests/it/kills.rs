//! Random SIGKILLs under a stream of alerts, judged by what the actions themselves wrote down.
//!
//! `CHIRON_TEST_KILLS` sets how many (100), `CHIRON_TEST_SEED` repeats the moments of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiron::model::Level;
use serde_json::Value;

use crate::common::{
    Chiron, Config, Effects, PolicyWatch, alert, notification, notify, now_millis, settled, wait_for, wait_for_within,
};

const SUBSYSTEMS: u64 = 40;

/// An alert is resolved when this many more have been accepted.
const RESOLVED_AFTER: u64 = 60;

fn class(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "natural" } else { "one_shot" }
}

fn unit(sequence: u64) -> String {
    format!("s{:02}", sequence % SUBSYSTEMS)
}

fn config(dir: &Path, effects: &Effects) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let check = "{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}";
    let mut text = "recovery: {cooldown: 0s, target_budget: 100000, overall_budget: 1000000, concurrency: 8}\n\
                    policy: {min_hold: 1s, relax_after_cycles: 1}\nsubsystems:\n"
        .to_owned();
    let mut bindings = String::new();
    let mut routes = "    - {match: {alertname: Canary}, subsystem: canary, policy: no_new_trades}\n".to_owned();
    let _ = writeln!(text, "  canary: {{criticality: partial, check: {check}}}");
    for number in 0..SUBSYSTEMS {
        let (name, class) = (unit(number), class(number));
        let _ = writeln!(text, "  {name}: {{criticality: none, check: {check}}}");
        let _ = writeln!(
            bindings,
            "  - {{action: restart_subsystem, subsystem: {name}, exec: {{argv: [{:?}, {class}]}}, class: {class}, \
             verify: {{settle: 10ms, within: 20s}}}}",
            effects.script
        );
        let _ = writeln!(
            routes,
            "    - {{match: {{alertname: UnitDown, unit: {name}}}, subsystem: {name}, symbol_label: symbol, \
             action: restart_subsystem}}"
        );
    }
    Config::new(dir).with(&format!("{text}bindings:\n{bindings}alerts:\n  routes:\n{routes}")).text().to_owned()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What the sender knows: where to send, and which alerts were answered 200.
#[derive(Default)]
struct Stream {
    address: Mutex<Option<String>>,
    accepted: Mutex<Vec<u64>>,
    resolved: Mutex<BTreeSet<u64>>,
    stop: AtomicBool,
}

impl Stream {
    /// Sends until 200, as Alertmanager does; false if the stream was stopped before.
    fn deliver(&self, body: &str) -> bool {
        while !self.stop.load(Ordering::Relaxed) {
            let address = self.address.lock().expect("no sender panics").clone();
            match address.map(|address| notify(&address, None, body.as_bytes())) {
                Some(Ok(answer)) if answer.status == 200 => return true,
                Some(Ok(answer)) => assert_eq!(answer.status, 503, "only a 503 is tried again: {}", answer.body),
                Some(Err(_)) | None => {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn run(&self) {
        for sequence in 0u64.. {
            if !self.deliver(&unit_down("firing", sequence)) {
                return;
            }
            self.accepted.lock().expect("no sender panics").push(sequence);
            if sequence.is_multiple_of(5) && !self.deliver(&unit_down("firing", sequence)) {
                return;
            }
            if let Some(old) = sequence.checked_sub(RESOLVED_AFTER) {
                // Noted before it is sent: an unanswered one may have been taken.
                self.resolved.lock().expect("no sender panics").insert(old);
                if !self.deliver(&unit_down("resolved", old)) {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn unit_down(status: &str, sequence: u64) -> String {
    let (unit, symbol) = (unit(sequence), format!("SYM{sequence}"));
    notification(&[alert(status, &[("alertname", "UnitDown"), ("unit", &unit), ("symbol", &symbol)])])
}

/// Reads what the journal has gained; nothing may be missing between two readings.
fn read_more(chiron: &Chiron, entries: &mut Vec<Value>) {
    let after = entries.last().and_then(|entry| entry["seq"].as_u64()).unwrap_or(0);
    for (entry, seq) in chiron.journal_after(after).into_iter().zip(after + 1..) {
        assert_eq!(entry["seq"], seq, "the journal has no gap");
        entries.push(entry);
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: found `{text}`, expected a number")))
}

/// ACT-3, ALR-1, ALR-2, POL-3: after every kill nothing accepted is lost, no one-shot action is done twice, no policy is loosened.
#[test]
fn kills() {
    let kills = setting("CHIRON_TEST_KILLS").unwrap_or(100);
    let seed = setting("CHIRON_TEST_SEED").unwrap_or_else(|| now_millis().unsigned_abs());
    eprintln!("kills: {kills}, CHIRON_TEST_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), &effects)).start();
    let policy = PolicyWatch::start(dir.path());
    wait_for("the policy to be open before the first alert", || match policy.now() {
        Some(Level::AllowAll) => Ok(()),
        other => Err((other, chiron.get_json("/api/v1/policy"))),
    });
    let canary = notification(&[alert("firing", &[("alertname", "Canary")])]);
    assert_eq!(chiron.notify(None, canary.as_bytes()).expect("the webhook answers").status, 200);
    let alarm = Instant::now();
    wait_for("the canary to hold its policy", || match policy.now() {
        Some(level) if level >= Level::NoNewTrades => Ok(()),
        other => Err(other),
    });

    let stream = Arc::new(Stream::default());
    *stream.address.lock().expect("no sender panics") = Some(chiron.address().to_owned());
    let sender = {
        let stream = Arc::clone(&stream);
        std::thread::spawn(move || stream.run())
    };
    let mut entries = Vec::new();
    let begun = Instant::now();
    for kill in 0..kills {
        if kill % 10 == 9 {
            chiron.wait_ready();
            read_more(&chiron, &mut entries);
        }
        // Counted from its beginning, so that some moments fall into the recovery from the last kill.
        let moment = Instant::now() + Duration::from_millis(20 + random.below(780));
        while Instant::now() < moment {
            let known = stream.address.lock().expect("no sender panics").is_some();
            if !known && chiron.listening() {
                *stream.address.lock().expect("no sender panics") = Some(chiron.address().to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(chiron.ended().is_none(), "chiron ended by itself before kill {kill}, seed {seed}: {}", chiron.log());
        chiron.kill9();
        *stream.address.lock().expect("no sender panics") = None;
        chiron.spawn();
    }
    let took = begun.elapsed();
    chiron.wait_ready();
    *stream.address.lock().expect("no sender panics") = Some(chiron.address().to_owned());
    // A last stretch without kills, then silence.
    std::thread::sleep(Duration::from_secs(1));
    stream.stop.store(true, Ordering::Relaxed);
    sender.join().expect("the sender ends");
    wait_for_within("everything to settle", Duration::from_secs(180), || settled(&chiron).map(drop));
    read_more(&chiron, &mut entries);

    let verdict = Verdict::judge(&stream, &entries, &effects);
    let (reached, loosened) = policy.loosened(alarm, Level::NoNewTrades);
    let figures = format!(
        "kills {kills} in {took:.1?} (seed {seed}): {} alerts accepted, {} lost, {} never acted upon; {} effects, \
         {} one-shot twice, {} natural missing, {} unknown to the journal; {} runs cancelled, {} indeterminate; policy loosened {} times",
        verdict.accepted,
        verdict.lost.len(),
        verdict.idle.len(),
        verdict.effects,
        verdict.twice.len(),
        verdict.missing.len(),
        verdict.unknown.len(),
        verdict.cancelled,
        verdict.indeterminate.len(),
        loosened.len(),
    );
    eprintln!("{figures}");
    for key in &verdict.indeterminate {
        eprintln!("indeterminate: {key}");
    }
    assert!(reached && loosened.is_empty(), "{figures}: {loosened:?}");
    assert!(verdict.is_clean(), "{figures}: {verdict:?}");
    assert!(verdict.accepted > kills / 2 && verdict.effects > 0, "the stream was alive: {figures}");
}

/// What the judge found. It knows the accepted alerts, the effect log and the journal's text, nothing of the code.
#[derive(Debug)]
struct Verdict {
    accepted: u64,
    effects: usize,
    /// Accepted, but not in the journal.
    lost: Vec<u64>,
    /// Never resolved, but no run was decided for it.
    idle: Vec<u64>,
    /// One-shot effects that happened twice.
    twice: Vec<String>,
    /// Natural runs that were closed without their effect.
    missing: Vec<String>,
    /// Effects of runs that the journal does not know.
    unknown: Vec<String>,
    cancelled: usize,
    indeterminate: Vec<String>,
}

impl Verdict {
    fn judge(stream: &Stream, entries: &[Value], effects: &Effects) -> Self {
        let accepted = stream.accepted.lock().expect("no sender panics").clone();
        let resolved = stream.resolved.lock().expect("no sender panics").clone();
        let done = effects.all();
        let done_keys: BTreeSet<&str> = done.iter().map(|effect| effect.key.as_str()).collect();
        let mut episode_of = BTreeMap::new();
        let mut runs: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for entry in entries {
            let kind = entry["kind"].as_str().unwrap_or_default();
            if kind == "alert_taken"
                && let Some(symbol) = entry["part"]["labels"]["symbol"].as_str()
                && let Some(sequence) = symbol.strip_prefix("SYM").and_then(|number| number.parse::<u64>().ok())
            {
                episode_of.insert(sequence, entry["episode"].as_str().unwrap_or_default());
            }
            if let (true, Some(key)) = (kind.starts_with("run_"), entry["key"].as_str()) {
                let class = entry["class"].as_str();
                let run = runs.entry(key).or_insert((class.unwrap_or_default(), kind));
                run.1 = kind;
            }
        }
        let served: BTreeSet<&str> = runs.keys().filter_map(|key| key.rsplitn(3, '/').nth(2)).collect();
        let of_kind = |wanted: &str| -> Vec<String> {
            runs.iter().filter(|(_, (_, kind))| *kind == wanted).map(|(key, _)| (*key).to_owned()).collect()
        };
        let missing = |(key, (class, kind)): (&&str, &(&str, &str))| {
            let gone = *class == "natural" && *kind == "run_verified" && !done_keys.contains(*key);
            gone.then(|| (*key).to_owned())
        };
        Self {
            accepted: accepted.len() as u64,
            effects: done.len(),
            lost: accepted.iter().copied().filter(|sequence| !episode_of.contains_key(sequence)).collect(),
            idle: accepted
                .iter()
                .copied()
                .filter(|sequence| !resolved.contains(sequence))
                .filter(|sequence| episode_of.get(sequence).is_some_and(|episode| !served.contains(episode)))
                .collect(),
            twice: effects.repeated("one_shot"),
            missing: runs.iter().filter_map(missing).collect(),
            unknown: done_keys.iter().filter(|key| !runs.contains_key(*key)).map(|key| (*key).to_owned()).collect(),
            cancelled: of_kind("run_cancelled").len(),
            indeterminate: of_kind("run_indeterminate"),
        }
    }

    fn is_clean(&self) -> bool {
        [&self.twice, &self.missing, &self.unknown].into_iter().all(Vec::is_empty)
            && self.lost.is_empty()
            && self.idle.is_empty()
    }
}

/// The judge sees each kind of fault, so that a clean verdict means something.
#[test]
fn judge_sees_faults() {
    use serde_json::json;
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let stream = Stream::default();
    stream.accepted.lock().expect("no sender panics").extend([1, 2, 3, 4]);
    stream.resolved.lock().expect("no sender panics").insert(4);
    let taken = |sequence: u64| {
        json!({"kind": "alert_taken", "episode": format!("e{sequence}"),
               "part": {"labels": {"symbol": format!("SYM{sequence}")}}})
    };
    let run =
        |kind: &str, episode: &str, class: &str| json!({"kind": kind, "key": format!("{episode}/1/1"), "class": class});
    let mut entries = vec![taken(1), taken(2), taken(3), taken(4)];
    for (episode, class) in [("e1", "one_shot"), ("e2", "natural"), ("e3", "one_shot")] {
        entries.push(run("run_intended", episode, class));
    }
    entries.extend(["e1", "e2"].map(|episode| run("run_verified", episode, "")));
    entries.push(run("run_indeterminate", "e3", ""));
    let write = |lines: &str| std::fs::write(dir.path().join("run-effects.log"), lines).expect("a file can be written");

    write("e1/1/1 one_shot\ne2/1/1 natural\ne2/1/1 natural\n");
    let clean = Verdict::judge(&stream, &entries, &effects);
    assert!(clean.is_clean(), "{clean:?}");
    assert_eq!(clean.indeterminate, ["e3/1/1"]);

    write("e1/1/1 one_shot\ne1/1/1 one_shot\ne9/1/1 natural\n");
    let faulty = Verdict::judge(&stream, &entries, &effects);
    assert_eq!((&*faulty.twice, &*faulty.missing), (&["e1/1/1".into(), "e1".into()][..], &["e2/1/1".into()][..]));
    assert_eq!(faulty.unknown, ["e9/1/1"]);

    write("e1/1/1 one_shot\ne1/2/1 one_shot\n");
    assert_eq!(Verdict::judge(&stream, &entries, &effects).twice, ["e1"], "another run of the same episode counts too");

    let lost = Verdict::judge(&stream, &entries[1..4], &effects);
    assert_eq!((&*lost.lost, &*lost.idle), (&[1][..], &[2, 3][..]), "4 was resolved before anything was decided");
}
