//! Every pair of faults, and faults that meet in one file.

use super::fixture::*;
use super::single::{FAULTS, Tree, assert_told};
use crate::workspace::plan::{Remedy, after};
use crate::workspace::scan::Entry;
use crate::workspace::{edit, salvage};

/// WSP-1, WSP-2, WSP-3, WSP-7: two faults that have nothing to do with each other are told and healed as each alone.
#[test]
fn every_pair() {
    let mut pairs = 0;
    for (index, one) in FAULTS.iter().enumerate() {
        for other in &FAULTS[index + 1..] {
            if one.touches.iter().any(|path| other.touches.contains(path)) {
                continue;
            }
            pairs += 1;
            let name = format!("{} and {}", one.name, other.name);
            let mut scan = healthy();
            (one.make)(&mut scan);
            (other.make)(&mut scan);
            let plan = planned(&scan);
            let mut told: Vec<String> = plan.findings.iter().map(line).collect();
            let mut expected: Vec<&str> = one.told.iter().chain(other.told).copied().collect();
            told.sort();
            expected.sort_unstable();
            assert_told(&name, &told, &expected);
            let mut expected = tree(&scan);
            for (at, then) in (one.after)(&scan).into_iter().chain((other.after)(&scan)) {
                match then {
                    Tree::Gone => expected.remove(at),
                    Tree::Folder => expected.insert(at.to_owned(), None),
                    Tree::Holds(content) => expected.insert(at.to_owned(), Some(content)),
                };
            }
            assert_eq!(tree(&after(&scan, &plan)), expected, "{name}");
        }
    }
    assert!(pairs > 400, "{pairs} pairs were made");
}

/// WSP-1, WSP-2: what is wrong with one file in several ways is put right by one change that names every finding.
#[test]
fn one_change_for_a_path() {
    let mut scan = healthy();
    put(&mut scan, STATE, file(b"{\"a\": 12345678901234567890, \"b\": [1,", OLD));
    scan.heartbeats.push(path(STATE));
    scan.json.push(path(STATE));
    let plan = planned(&scan);
    assert_eq!(plan.changes.len(), 1, "{:#?}", plan.changes);
    let change = &plan.changes[0];
    let codes: Vec<&str> = change.findings.iter().map(|index| plan.findings[*index].code.as_str()).collect();
    assert_eq!(codes, ["keys_missing", "json_corrupt", "heartbeat_stale"]);
    let Entry::File(seen) = &scan.entries[&path(STATE)] else { panic!("it is a file") };
    assert_eq!(change.before.as_ref(), Some(&seen.version));
    let saved = salvage::salvage(seen.content.as_deref().expect("it was read"), EMPTY_STATE.as_bytes()).content;
    let reset = edit::reset_heartbeat(&saved, seen.version.modified(), NOW);
    let keyed = edit::with_keys(&reset, &[("symbols".to_owned(), "[]".to_owned())]).expect("an object");
    assert_eq!(change.remedy, Remedy::ReplaceFile { content: keyed.into(), keep_times: true });
}

/// WSP-3: a file that a dangerous finding names is left alone, whatever else is wrong with it; so is the other file of a
/// mismatch.
#[test]
fn dangerous_files_are_left_alone() {
    let mut scan = healthy();
    put(
        &mut scan,
        POSITIONS,
        file(
            b"{\"open_positions\": [{\"id\": \"p-9\", \"symbol\": \"BTCUSDT\", \"size\": 0, \"entry_price\": 1}]}",
            OLD,
        ),
    );
    put(&mut scan, PORTFOLIO, file(b"{\"open_position_count\": 2}", OLD));
    let mut layout = layout();
    layout.files[1].keys = vec![("trades".to_owned(), "[]".to_owned())];
    let plan = plan(&layout, &scan, None, QUIET, NOW);
    let told: Vec<String> = plan.findings.iter().map(line).collect();
    let expected = [
        "medium keys_missing standing logs/portfolio_futures.json: the file lacks `trades` [left alone: `state_mismatch` names the file, and a person must look] [\"trades\"]",
        "medium keys_missing standing logs/positions_futures.json: the file lacks `closed_positions` [left alone: `data_integrity` names the file, and a person must look] [\"closed_positions\"]",
        "critical state_mismatch standing logs/positions_futures.json: the file holds 1 open position, the portfolio `logs/portfolio_futures.json` counts 2 [\"p-9\"]",
        "critical data_integrity standing logs/positions_futures.json: `p-9` has size `0`, expected a number above zero [\"p-9\"]",
    ];
    assert_told("dangerous", &told, &expected);
    assert_eq!(plan.changes, Vec::new());
}

/// WSP-1: nothing is made below what is no folder, and files that are neither made nor expected are none of our business.
#[test]
fn nothing_below_what_is_no_folder() {
    let mut scan = healthy();
    put(&mut scan, NESTED, Entry::Missing);
    put(&mut scan, "run/deep", Entry::Missing);
    put(&mut scan, "run", Entry::Other("a dangling link to /mnt/run".to_owned()));
    let plan = planned(&scan);
    let told: Vec<String> = plan.findings.iter().map(line).collect();
    let expected = [
        "medium file_missing standing run/deep/pid.json: there is no such file, expected one [`run` is no folder]",
        "medium misplaced standing run: a dangling link to /mnt/run stands here, expected a folder",
    ];
    assert_told("below", &told, &expected);
    put(&mut scan, "run", Entry::Directory(OPEN));
    scan.entries.remove(&path("run/deep"));
    let plan = planned(&scan);
    assert_eq!(plan.findings[0].detail, "the folder `run/deep` was not looked at");
    assert_eq!(plan.changes, Vec::new());
}
