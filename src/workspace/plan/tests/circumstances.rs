//! What a round knows besides the scan: what was there before, what a person has undone, whether somebody is at it.

use std::time::Duration;

use super::fixture::*;
use super::single::assert_told;
use crate::model::{FindingCode, FindingState, Mode, Severity};
use crate::workspace::findings::is_good_config;
use crate::workspace::plan::{Circumstances, Plan, RolledBack, Scope};
use crate::workspace::scan::{Entry, Scan};

const REST: Duration = Duration::from_secs(120);

fn at() -> Circumstances {
    Circumstances { mode: Some(Mode::Paper), quiet: QUIET, now: NOW, ..Circumstances::default() }
}

fn planned_at(scan: &Scan, at: &Circumstances) -> Plan {
    crate::workspace::plan::plan(&layout(), scan, at)
}

fn changed(plan: &Plan) -> Vec<String> {
    plan.changes.iter().filter_map(|change| change.path.as_ref()).map(ToString::to_string).collect()
}

fn nanos(age: i64) -> i128 {
    i128::from(NOW.millis() - age * 1000) * 1_000_000
}

/// WSP-7: where nobody stands there, a configuration file comes back only once it has been broken or missing for a while and
/// no editor has it open; until then it is high. A person who asks waits for `quiet` alone.
#[test]
fn an_editing_operator_is_not_fought() {
    let broken = |age| {
        let mut scan = healthy();
        put(&mut scan, CONFIG, file(b"{\"max_positions\": ", age));
        scan
    };
    let mut missing = healthy();
    put(&mut missing, CONFIG, Entry::Missing);
    let rests = Circumstances { config_rest: Some(REST), ..at() };
    let gone = |age| Circumstances { gone_since: [(path(CONFIG), nanos(age))].into(), ..rests.clone() };
    let edited = Circumstances { edited: [path(CONFIG)].into(), ..rests.clone() };
    let table = [
        (broken(1), &at(), Some("changed less than 2 s ago")),
        (broken(3), &at(), None),
        (broken(119), &rests, Some("changed less than 2 min ago")),
        (broken(120), &rests, None),
        (broken(OLD), &edited, Some("an editor has it open")),
        (missing.clone(), &gone(119), Some("its folder changed less than 2 min ago")),
        (missing.clone(), &gone(120), None),
        (missing.clone(), &edited, Some("an editor has it open")),
        (missing.clone(), &at(), None),
    ];
    for (scan, at, waits) in table {
        let plan = planned_at(&scan, at);
        let finding = &plan.findings[0];
        let is_high = at.config_rest.is_some() && waits.is_some();
        let expected = if waits.is_some() { FindingState::Deferred } else { FindingState::Planned };
        assert_eq!((finding.state, plan.changes.len()), (expected, usize::from(waits.is_none())), "{finding:?}");
        assert_eq!(finding.severity, if is_high { Severity::High } else { Severity::Medium }, "{finding:?}");
        assert!(waits.is_none_or(|why| finding.detail.contains(why)), "{finding:?}");
    }
}

/// WSP-7: what says nothing is no good copy, and is no configuration if something better is known; keys that stand twice
/// spoil a file.
#[test]
fn hollow_configurations() {
    let layout = layout();
    let spec = layout.file(PLAIN_CONFIG).expect("it is in the layout");
    let hollow = ["{}", " [ ] ", "null", "7", "true", "\"text\""];
    for text in hollow {
        assert!(!is_good_config(text.as_bytes(), spec), "{text}");
        let mut scan = healthy();
        put(&mut scan, PLAIN_CONFIG, file(text.as_bytes(), OLD));
        assert_eq!(planned(&scan).findings, Vec::new(), "{text}: nobody knows anything better");
        scan.good.insert(path(PLAIN_CONFIG), b"null".as_slice().into());
        assert_eq!(planned(&scan).findings, Vec::new(), "{text}: nor is that better");
        scan.good.insert(path(PLAIN_CONFIG), b"{\"hour\": 7}".as_slice().into());
        assert_eq!(changed(&planned(&scan)), [PLAIN_CONFIG], "{text}");
        // The schema of this one allows it, and the operator's default says more.
        let mut layout = layout.clone();
        layout.files[2].schema = None;
        let mut scan = healthy();
        put(&mut scan, CONFIG, file(text.as_bytes(), OLD));
        let plan = crate::workspace::plan::plan(&layout, &scan, &at());
        assert_eq!(changed(&plan), [CONFIG], "{text}");
    }
    for (text, expected) in
        [("{\"a\": 1}", true), ("[1]", true), ("{\"a\": 1, \"a\": 2}", false), ("{\"a\":", false), ("", false)]
    {
        assert_eq!(is_good_config(text.as_bytes(), spec), expected, "{text}");
    }
}

/// WSP-6: what a person has brought back is left alone until it changes.
#[test]
fn what_was_rolled_back_is_left_alone() {
    let with = |sha256: Option<&str>| Circumstances {
        rolled_back: [(path(STATE), RolledBack { sha256: sha256.map(str::to_owned), by: "r-1".into() })].into(),
        ..at()
    };
    let mut broken = healthy();
    put(&mut broken, STATE, file(b"", OLD));
    if let Some(Entry::File(seen)) = broken.entries.get_mut(&path(STATE)) {
        seen.version.sha256 = "aa".to_owned();
    }
    let mut missing = healthy();
    put(&mut missing, STATE, Entry::Missing);
    let table = [
        (&broken, Some("aa"), true),
        (&broken, Some("bb"), false),
        (&broken, None, false),
        (&missing, None, true),
        (&missing, Some("aa"), false),
    ];
    for (scan, sha256, is_left) in table {
        let plan = planned_at(scan, &with(sha256));
        assert_eq!(changed(&plan).is_empty(), is_left, "{sha256:?} {:?}", plan.findings);
        assert_eq!(plan.findings[0].state == FindingState::Standing, is_left);
        assert_eq!(plan.findings[0].detail.contains("a person has undone its healing (`r-1`)"), is_left);
    }
}

/// WSP-2, WSP-3: a file with positions or trades that had records and has no bytes or is gone has lost them; one that never
/// had any has not.
#[test]
fn records_that_were_there() {
    let had = Circumstances { had_records: [path(PORTFOLIO)].into(), ..at() };
    let mut positions = healthy();
    put(&mut positions, POSITIONS, file(EMPTY_POSITIONS.as_bytes(), OLD));
    for entry in [Entry::Missing, file(b"", OLD)] {
        let mut scan = positions.clone();
        put(&mut scan, PORTFOLIO, entry);
        let lost =
            |plan: &Plan| plan.findings.iter().any(|it| it.code == FindingCode::RecordsLost && !it.records.is_empty());
        assert!(lost(&planned_at(&scan, &had)) && !lost(&planned(&scan)));
        assert_eq!(changed(&planned_at(&scan, &had)), [PORTFOLIO], "it is made all the same");
    }
    let mut young = positions.clone();
    put(&mut young, PORTFOLIO, file(b"", 0));
    let told: Vec<String> = planned_at(&young, &had).findings.iter().map(line).collect();
    assert_told("young", &told, &["medium file_empty deferred logs/portfolio_futures.json: *"]);
}

/// WSP-7: a round about configuration files changes nothing else, but for the folders they lie in.
#[test]
fn configuration_alone() {
    let mut scan = healthy();
    for at in [CONFIG, PLAIN_CONFIG, OPTIONAL_CONFIG, "config", "data", POSITIONS] {
        put(&mut scan, at, Entry::Missing);
    }
    scan.processes.push(orphan(7));
    let only = Circumstances { only: Some(Scope::Configuration), ..at() };
    let plan = planned_at(&scan, &only);
    assert_eq!(changed(&plan), ["config", CONFIG]);
    assert_eq!(plan.changes.len(), 2);
    let waits = |at: &str| plan.findings.iter().any(|it| it.path == at && it.state == FindingState::Deferred);
    assert!(["data", POSITIONS, "7"].iter().all(|at| waits(at)), "{:#?}", plan.findings);
}

/// WSP-3: no change of a file that a bot can read makes a danger, and damage around a record makes it no less dangerous.
#[test]
fn changes_make_no_danger() {
    let mut scan = healthy();
    put(&mut scan, PORTFOLIO, file(b"{}", OLD));
    let told: Vec<String> = planned(&scan).findings.iter().map(line).collect();
    let left = "critical file_empty standing logs/portfolio_futures.json: the file holds `{}`, expected its empty structure \
                [left alone: with it put right there would be a `state_mismatch`, so a person must look]";
    assert_told("a portfolio that says nothing", &told, &[left]);
    let bad =
        b"\xef\xbb\xbf{\"open_positions\": [{\"id\": \"p\", \"symbol\": \"A\", \"size\": 0, \"entry_price\": 1}]}\0\0";
    let twice = b"{\"open_positions\": [], \"open_positions\": [{\"id\": \"p\", \"symbol\": \"A\", \"size\": 0, \"entry_price\": 1}]}";
    for content in [bad.as_slice(), twice.as_slice()] {
        let mut scan = healthy();
        put(&mut scan, POSITIONS, file(content, OLD));
        put(&mut scan, PORTFOLIO, file(b"{\"open_position_count\": 1}", OLD));
        let plan = planned(&scan);
        assert_eq!(changed(&plan), Vec::<String>::new());
        assert!(plan.findings.iter().any(|it| it.code == FindingCode::DataIntegrity), "{:#?}", plan.findings);
        assert!(plan.findings.iter().all(|it| it.code != FindingCode::RecordsLost), "{:#?}", plan.findings);
    }
}
