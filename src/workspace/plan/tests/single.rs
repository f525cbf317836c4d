//! Every fault alone: what is told, word for word, and the tree after.

use super::fixture::*;
use crate::model::{Mode, Timestamp};
use crate::workspace::plan::{Remedy, after};
use crate::workspace::scan::{Access, Entry, Holder, Scan};
use crate::workspace::{edit, salvage};

/// One thing that goes wrong, and everything that must follow.
pub(super) struct Fault {
    /// For messages.
    pub(super) name: &'static str,
    /// Paths that it has to do with; faults that share one are not combined.
    pub(super) touches: &'static [&'static str],
    /// Makes it.
    pub(super) make: fn(&mut Scan),
    /// Every finding; `*` at the end stands for whatever salvage says.
    pub(super) told: &'static [&'static str],
    /// What changes in the tree.
    pub(super) after: fn(&Scan) -> Vec<(&'static str, Tree)>,
}

/// What is at a path afterwards.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Gone,
    Folder,
    Holds(Vec<u8>),
}

fn holds(text: &str) -> Tree {
    Tree::Holds(text.as_bytes().to_vec())
}

fn same(_: &Scan) -> Vec<(&'static str, Tree)> {
    Vec::new()
}

fn content<'a>(scan: &'a Scan, at: &str) -> &'a [u8] {
    match &scan.entries[&path(at)] {
        Entry::File(seen) => seen.content.as_deref().expect("it was read"),
        other => panic!("{at}: {other:?}"),
    }
}

fn saved(scan: &Scan, at: &str, empty: &str) -> Tree {
    Tree::Holds(salvage::salvage(content(scan, at), empty.as_bytes()).content.to_vec())
}

/// The first 150 bytes of the positions: the second one is cut off.
const CUT: usize = 150;
const FILLED_HALF: &[u8] = br#"{"open_position_count": "2.0", "trades": [
    {"order_id": "o-1", "status": "FILLED", "order_size": 0.1, "filled_size": "1e-1"},
    {"order_id": "o-2", "status": "Filled", "order_size": 0.1, "filled_size": 0.09999999999999999},
    {"symbol": "ETHUSDT", "side": "buy", "status": "closed", "size": 2, "filled": null}]}"#;
const LACKING: &str = "{\"open_positions\": [{\"id\": \"p-1\", \"symbol\": \"BTCUSDT\", \"size\": 0.10000000000000001, \"entry_price\": 1}, {\"id\": 2, \"symbol\": \"ETHUSDT\", \"size\": 1, \"entry_price\": 1}]}";

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "folder missing",
        touches: &["logs/backups"],
        make: |scan| put(scan, "logs/backups", Entry::Missing),
        told: &["low directory_missing planned logs/backups: there is no such folder, expected one"],
        after: |_| vec![("logs/backups", Tree::Folder)],
    },
    Fault {
        name: "folder is a file",
        touches: &["data"],
        make: |scan| put(scan, "data", file(b"x", OLD)),
        told: &["medium misplaced standing data: a file stands here, expected a folder"],
        after: same,
    },
    Fault {
        name: "positions missing",
        touches: &[POSITIONS, PORTFOLIO],
        make: |scan| put(scan, POSITIONS, Entry::Missing),
        told: &[
            "medium file_missing planned logs/positions_futures.json: there is no such file, expected one",
            "critical state_mismatch standing logs/positions_futures.json: the file holds 0 open positions, the portfolio `logs/portfolio_futures.json` counts 2",
        ],
        after: |_| vec![(POSITIONS, holds(EMPTY_POSITIONS))],
    },
    Fault {
        name: "portfolio of NUL bytes",
        touches: &[POSITIONS, PORTFOLIO],
        make: |scan| put(scan, PORTFOLIO, file(&[0; 512], OLD)),
        told: &[
            "medium file_empty planned logs/portfolio_futures.json: the file has 512 bytes of blanks or NUL alone, expected its empty structure",
            "critical state_mismatch standing logs/positions_futures.json: the file holds 2 open positions, the portfolio `logs/portfolio_futures.json` counts 0 [\"p-1\", \"p-2\"]",
            "critical records_lost standing logs/portfolio_futures.json: the file has blanks or NUL bytes alone where records may have stood: they may be positions or trades [\"everything that the file held\"]",
        ],
        after: |_| vec![(PORTFOLIO, holds(EMPTY_PORTFOLIO))],
    },
    Fault {
        name: "positions cut off",
        touches: &[POSITIONS, PORTFOLIO],
        make: |scan| put(scan, POSITIONS, file(&TWO_POSITIONS.as_bytes()[..CUT], OLD)),
        told: &[
            "medium keys_missing planned logs/positions_futures.json: the file lacks `closed_positions` [\"closed_positions\"]",
            "high json_corrupt planned logs/positions_futures.json: the file is no sound JSON: EOF while parsing *",
            "critical state_mismatch standing logs/positions_futures.json: the file holds 1 open position, the portfolio `logs/portfolio_futures.json` counts 2 [\"p-1\"]",
            "critical records_lost standing logs/positions_futures.json: *",
        ],
        after: |scan| {
            let saved = salvage::salvage(content(scan, POSITIONS), EMPTY_POSITIONS.as_bytes()).content;
            let keys = [("closed_positions".to_owned(), "[]".to_owned())];
            vec![(POSITIONS, Tree::Holds(edit::with_keys(&saved, &keys).expect("an object")))]
        },
    },
    Fault {
        name: "keys missing in positions",
        touches: &[POSITIONS],
        make: |scan| put(scan, POSITIONS, file(LACKING.as_bytes(), OLD)),
        told: &[
            "medium keys_missing planned logs/positions_futures.json: the file lacks `closed_positions` [\"closed_positions\"]",
        ],
        after: |_| {
            let keys = [("closed_positions".to_owned(), "[]".to_owned())];
            vec![(POSITIONS, Tree::Holds(edit::with_keys(LACKING.as_bytes(), &keys).expect("an object")))]
        },
    },
    Fault {
        name: "positions unreadable",
        touches: &[POSITIONS],
        make: |scan| put(scan, POSITIONS, Entry::Unreadable("permission denied".to_owned())),
        told: &[
            "high inaccessible standing logs/positions_futures.json: it cannot be looked at (permission denied), expected a file",
        ],
        after: same,
    },
    Fault {
        name: "positions a link that leaves",
        touches: &[POSITIONS],
        make: |scan| put(scan, POSITIONS, Entry::Other("a link that leaves the workspace".to_owned())),
        told: &[
            "high misplaced standing logs/positions_futures.json: a link that leaves the workspace stands here, expected a file",
        ],
        after: same,
    },
    Fault {
        name: "positions a text",
        touches: &[POSITIONS],
        make: |scan| put(scan, POSITIONS, file(b"{\"open_positions\": \"none\"}", OLD)),
        told: &[
            "medium keys_missing standing logs/positions_futures.json: the file lacks `closed_positions` [left alone: `data_integrity` names the file, and a person must look] [\"closed_positions\"]",
            "critical data_integrity standing logs/positions_futures.json: `open_positions` is `\"none\"`, expected a list or an object [\"open_positions\"]",
        ],
        after: same,
    },
    Fault {
        name: "counts differ",
        touches: &[POSITIONS, PORTFOLIO],
        make: |scan| {
            put(
                scan,
                PORTFOLIO,
                file(b"{\"open_position_count\": 3, \"positions\": {\"p-1\": {\"id\": \"p-1\"}}}", OLD),
            )
        },
        told: &[
            "critical state_mismatch standing logs/positions_futures.json: the file holds 2 open positions, the portfolio `logs/portfolio_futures.json` counts 3 and lists 1 [\"p-2\"]",
        ],
        after: same,
    },
    Fault {
        name: "partial fills",
        touches: &[PORTFOLIO],
        make: |scan| put(scan, PORTFOLIO, file(FILLED_HALF, OLD)),
        told: &[
            "critical partial_fill standing logs/portfolio_futures.json: `o-2` is marked filled with `0.09999999999999999` of `0.1`; 2 records in all [\"o-2\", \"ETHUSDT long\"]",
        ],
        after: same,
    },
    Fault {
        name: "state missing in a missing folder",
        touches: &[NESTED, "run", "run/deep"],
        make: |scan| {
            put(scan, NESTED, Entry::Missing);
            put(scan, "run/deep", Entry::Missing);
            put(scan, "run", Entry::Missing);
        },
        told: &[
            "low directory_missing planned run: there is no such folder, expected one for `run/deep/pid.json`",
            "low directory_missing planned run/deep: there is no such folder, expected one for `run/deep/pid.json`",
            "medium file_missing planned run/deep/pid.json: there is no such file, expected one",
        ],
        after: |_| vec![("run", Tree::Folder), ("run/deep", Tree::Folder), (NESTED, holds("{}"))],
    },
    Fault {
        name: "state without bytes",
        touches: &[STATE],
        make: |scan| put(scan, STATE, file(b"", OLD)),
        told: &["medium file_empty planned state/universe.json: the file has no bytes, expected its empty structure"],
        after: |_| vec![(STATE, holds(EMPTY_STATE))],
    },
    Fault {
        name: "state bare",
        touches: &[STATE],
        make: |scan| put(scan, STATE, file(b" { }\n", OLD)),
        told: &["medium file_empty planned state/universe.json: the file holds `{}`, expected its empty structure"],
        after: |_| vec![(STATE, holds(EMPTY_STATE))],
    },
    Fault {
        name: "state without bytes just now",
        touches: &[STATE],
        make: |scan| put(scan, STATE, file(b"", 1)),
        told: &[
            "medium file_empty deferred state/universe.json: the file has no bytes, expected its empty structure [it changed less than 2 s ago, the bot may be at it]",
        ],
        after: same,
    },
    Fault {
        name: "state may not be written",
        touches: &[STATE],
        make: |scan| {
            let mut entry = file(b"", OLD);
            if let Entry::File(seen) = &mut entry {
                seen.access.write = false;
            }
            put(scan, STATE, entry);
        },
        told: &[
            "medium file_empty standing state/universe.json: the file has no bytes, expected its empty structure [the file may not be written]",
        ],
        after: same,
    },
    Fault {
        name: "state a list",
        touches: &[STATE],
        make: |scan| put(scan, STATE, file(b"[1]", OLD)),
        told: &[
            "medium keys_missing standing state/universe.json: the file holds a list, expected an object with `symbols`",
        ],
        after: same,
    },
    Fault {
        name: "corrupt and keys missing",
        touches: &[STATE],
        make: |scan| put(scan, STATE, file(b"{\"a\": 1, \"b\": [1, 2,", OLD)),
        told: &[
            "medium keys_missing planned state/universe.json: the file lacks `symbols` [\"symbols\"]",
            "medium json_corrupt planned state/universe.json: the file is no sound JSON: EOF while parsing *",
        ],
        after: |scan| {
            let saved = salvage::salvage(content(scan, STATE), EMPTY_STATE.as_bytes()).content;
            let keys = [("symbols".to_owned(), "[]".to_owned())];
            vec![(STATE, Tree::Holds(edit::with_keys(&saved, &keys).expect("an object")))]
        },
    },
    Fault {
        name: "known file without bytes",
        touches: &[KNOWN],
        make: |scan| put(scan, KNOWN, file(b"\n", OLD)),
        told: &[
            "low file_empty standing state/known.json: the file has 1 byte of blanks or NUL alone, expected its empty structure [the layout does not say what it would hold]",
        ],
        after: same,
    },
    Fault {
        name: "known file too large",
        touches: &[KNOWN],
        make: |scan| {
            let mut entry = file(b"0123456789", OLD);
            if let Entry::File(seen) = &mut entry {
                seen.content = None;
            }
            put(scan, KNOWN, entry);
        },
        told: &[
            "medium inaccessible standing state/known.json: the file has 10 bytes and was not read, expected fewer",
        ],
        after: same,
    },
    Fault {
        name: "free file corrupt",
        touches: &[FREE],
        make: |scan| put(scan, FREE, file(b"{\"a\": 1}\0\0\0", OLD)),
        told: &[
            "medium json_corrupt planned state/free.json: the file is no sound JSON: trailing characters at line 1 column 9 *",
        ],
        after: |scan| vec![(FREE, saved(scan, FREE, "{}"))],
    },
    Fault {
        name: "free file without bytes",
        touches: &[FREE],
        make: |scan| put(scan, FREE, file(b"", OLD)),
        told: &[
            "low file_empty standing state/free.json: the file has no bytes, expected JSON [only files that the layout lists are filled]",
        ],
        after: same,
    },
    Fault {
        name: "lock of nobody",
        touches: &[LOCK],
        make: |scan| lock(scan, LOCK, Holder::Nobody),
        told: &[
            "medium lock_stale planned state/bot.lock: last written at 2025-11-23T00:34:56Z, more than 5 min ago, and nobody holds it",
        ],
        after: |_| vec![(LOCK, Tree::Gone)],
    },
    Fault {
        name: "lock of a process",
        touches: &[LOCK],
        make: |scan| lock(scan, LOCK, Holder::Process("process 4711".to_owned())),
        told: &[],
        after: same,
    },
    Fault {
        name: "lock of who knows",
        touches: &[LOCK],
        make: |scan| lock(scan, LOCK, Holder::Unknown("/proc is not readable".to_owned())),
        told: &[
            "low lock_stale standing state/bot.lock: last written at 2025-11-23T00:34:56Z, more than 5 min ago, and who holds it cannot be found out [/proc is not readable]",
        ],
        after: same,
    },
    Fault {
        name: "heartbeat old",
        touches: &[HEARTBEAT],
        make: |scan| put(scan, HEARTBEAT, file(b"{\"status\": \"running\", \"cycle\": 7}", OLD)),
        told: &[
            "medium heartbeat_stale planned state/heartbeats/bot.json: last written at 2025-11-23T00:34:56Z, more than 10 min ago",
        ],
        after: |scan| {
            let last = Timestamp::from_millis(NOW.millis() - 3_600_000);
            vec![(HEARTBEAT, Tree::Holds(edit::reset_heartbeat(content(scan, HEARTBEAT), last, NOW)))]
        },
    },
    Fault {
        name: "heartbeat reset",
        touches: &[HEARTBEAT],
        make: |scan| {
            let reset = edit::reset_heartbeat(b"{\"status\": \"running\"}", NOW, NOW);
            put(scan, HEARTBEAT, file(&reset, OLD));
        },
        told: &[
            "medium heartbeat_stale standing state/heartbeats/bot.json: the heartbeat was reset, and the bot has not written it since",
        ],
        after: same,
    },
    Fault {
        name: "orphan",
        touches: &["4711"],
        make: |scan| scan.processes.push(orphan(4711)),
        told: &[
            "medium orphan_process planned 4711: `python3 run.py` runs since 2025-11-23T00:34:56Z without parent, supervisor or heartbeat",
        ],
        after: same,
    },
    Fault {
        name: "configuration missing",
        touches: &[CONFIG],
        make: |scan| put(scan, CONFIG, Entry::Missing),
        told: &[
            "medium config_missing planned config/trading_config.json: there is no such file, expected the configuration [restored from the default in the settings]",
        ],
        after: |_| vec![(CONFIG, holds(DEFAULT_CONFIG))],
    },
    Fault {
        name: "configuration breaks its schema",
        touches: &[CONFIG],
        make: |scan| {
            put(scan, CONFIG, file(b"{\"max_positions\": 0}", OLD));
            scan.good.insert(path(CONFIG), b"{\"max_positions\": 4}".as_slice().into());
        },
        told: &[
            "medium config_invalid planned config/trading_config.json: the file breaks its schema at `/max_positions`: value is less than the minimum of 1 [restored from its last good copy]",
        ],
        after: |_| vec![(CONFIG, holds("{\"max_positions\": 4}"))],
    },
    Fault {
        name: "configuration cut off, and a copy that is no good",
        touches: &[CONFIG],
        make: |scan| {
            put(scan, CONFIG, file(b"{\"max_positions\": 12", OLD));
            scan.good.insert(path(CONFIG), b"{\"max_positions\": -4}".as_slice().into());
        },
        told: &[
            "medium config_invalid planned config/trading_config.json: the file is no sound JSON: EOF while parsing an object at line 1 column 20 [restored from the default in the settings]",
        ],
        after: |_| vec![(CONFIG, holds(DEFAULT_CONFIG))],
    },
    Fault {
        name: "required configuration lost",
        touches: &[PLAIN_CONFIG],
        make: |scan| put(scan, PLAIN_CONFIG, file(b"", OLD)),
        told: &[
            "high config_invalid standing config/golden_hour_config.json: the file has no bytes, expected the configuration [there is no good copy and no default to restore it from]",
        ],
        after: same,
    },
    Fault {
        name: "required configuration bare",
        touches: &[PLAIN_CONFIG],
        make: |scan| {
            put(scan, PLAIN_CONFIG, file(b"{}", OLD));
            scan.good.insert(path(PLAIN_CONFIG), b"{\"hour\": 7}".as_slice().into());
        },
        told: &[
            "medium config_invalid planned config/golden_hour_config.json: the file holds `{}`, expected the configuration [restored from its last good copy]",
        ],
        after: |_| vec![(PLAIN_CONFIG, holds("{\"hour\": 7}"))],
    },
    Fault {
        name: "optional configuration missing",
        touches: &[OPTIONAL_CONFIG],
        make: |scan| put(scan, OPTIONAL_CONFIG, Entry::Missing),
        told: &[
            "low config_missing standing config/extra.json: there is no such file, expected the configuration [there is no good copy and no default to restore it from]",
        ],
        after: same,
    },
    Fault {
        name: "a name that is no text",
        touches: &["data/\\xff"],
        make: |scan| scan.refused.push(("data/\\xff".to_owned(), "the name is not UTF-8".to_owned())),
        told: &["medium inaccessible standing data/\\xff: it cannot be handled: the name is not UTF-8"],
        after: same,
    },
];

/// Whether what was told is what should be.
pub(super) fn assert_told(name: &str, told: &[String], expected: &[&str]) {
    let agree = |(line, expected): (&String, &&str)| match expected.strip_suffix('*') {
        Some(start) => line.starts_with(start.trim_end()),
        None => line == expected,
    };
    let all = told.len() == expected.len() && told.iter().zip(expected).all(agree);
    assert!(all, "{name}:\ntold     {told:#?}\nexpected {expected:#?}");
}

/// WSP-1, WSP-2, WSP-3, WSP-7: every fault alone is told word for word, and the tree after is the expected one, byte for byte.
#[test]
fn every_fault_alone() {
    assert_eq!(planned(&healthy()).findings, Vec::new(), "nothing is wrong in the healthy workspace");
    assert_eq!(planned(&healthy()).changes, Vec::new());
    for fault in FAULTS {
        let mut scan = healthy();
        (fault.make)(&mut scan);
        let plan = planned(&scan);
        let told: Vec<String> = plan.findings.iter().map(line).collect();
        assert_told(fault.name, &told, fault.told);
        let mut expected = tree(&scan);
        for (at, then) in (fault.after)(&scan) {
            match then {
                Tree::Gone => expected.remove(at),
                Tree::Folder => expected.insert(at.to_owned(), None),
                Tree::Holds(content) => expected.insert(at.to_owned(), Some(content)),
            };
        }
        assert_eq!(tree(&after(&scan, &plan)), expected, "{}", fault.name);
    }
}

/// WSP-2: an orphan is ended in paper mode alone; with a parent, a supervisor, a heartbeat or too few minutes it is none.
#[test]
fn orphans_are_told_apart() {
    let mut scan = healthy();
    scan.processes = vec![orphan(5), orphan(3)];
    let paper = planned(&scan);
    let ended: Vec<&Remedy> = paper.changes.iter().map(|change| &change.remedy).collect();
    let end = |pid| Remedy::EndProcess { pid, started_ticks: 99 };
    assert_eq!(ended, [&end(3), &end(5)]);
    assert!(after(&scan, &paper).processes.is_empty());
    use crate::model::Severity::{High, Medium};
    for (mode, why, severity) in [(Some(Mode::Real), "real mode", High), (None, "`mode` is not set", Medium)] {
        let plan = plan(&layout(), &scan, mode, QUIET, NOW);
        assert_eq!(plan.changes, Vec::new());
        assert!(plan.findings.len() == 2 && plan.findings.iter().all(|finding| finding.detail.contains(why)));
        assert!(plan.findings.iter().all(|finding| finding.severity == severity));
    }
    let changed: [fn(&mut crate::workspace::scan::BotProcess); 5] = [
        |process| process.has_parent = true,
        |process| process.supervisor = Some("unit bot.service".to_owned()),
        |process| process.is_named = true,
        |process| process.in_workspace = false,
        |process| process.started = NOW,
    ];
    for change in changed {
        let mut process = orphan(7);
        change(&mut process);
        scan.processes = vec![process];
        assert_eq!(planned(&scan).findings, Vec::new(), "{:?}", scan.processes);
    }
    scan.processes = vec![orphan(7)];
    let no_bot = crate::workspace::Layout { bot: None, ..layout() };
    assert_eq!(plan(&no_bot, &scan, Some(Mode::Paper), QUIET, NOW).findings, Vec::new());
}

/// WSP-6: a time that was set far ahead does not hold healing up for ever; one that is ahead because the clock was turned
/// back does, and nothing is done in a folder that may not be written.
#[test]
fn what_is_not_touched_now() {
    let with = |modified: i64, changed: i64| {
        let mut scan = healthy();
        let mut entry = file(b"", OLD);
        if let Entry::File(seen) = &mut entry {
            seen.version.modified_nanos = i128::from(NOW.millis() + modified * 1000) * 1_000_000;
            seen.version.changed_nanos = i128::from(NOW.millis() + changed * 1000) * 1_000_000;
        }
        put(&mut scan, STATE, entry);
        let plan = planned(&scan);
        (plan.changes.len(), plan.findings[0].detail.clone())
    };
    assert_eq!(with(-3, 0), (1, String::new()));
    assert_eq!(with(-2, 0), (1, String::new()));
    let young = "it changed less than 2 s ago, the bot may be at it".to_owned();
    assert_eq!(with(-1, -100), (0, young.clone()));
    assert_eq!(with(4, -100), (0, young.clone()));
    assert_eq!(with(86_400, -100), (1, String::new()));
    assert_eq!(with(86_400, -1), (0, young));
    let ahead = "its times lie ahead of the clock, so whether the bot is at it cannot be told".to_owned();
    assert_eq!(with(86_400, 86_400), (0, ahead));

    let mut scan = healthy();
    put(&mut scan, STATE, file(b"", OLD));
    put(&mut scan, KNOWN, Entry::Missing);
    lock(&mut scan, LOCK, Holder::Nobody);
    put(&mut scan, "state/heartbeats", Entry::Missing);
    put(&mut scan, "state", Entry::Directory(Access { read: true, write: false }));
    scan.heartbeats.clear();
    scan.entries.remove(&path(HEARTBEAT));
    let plan = planned(&scan);
    assert_eq!(plan.changes, Vec::new());
    assert_eq!(plan.findings.len(), 3, "{:#?}", plan.findings);
    assert!(plan.findings.iter().all(|finding| finding.detail == "the folder `state` may not be written"));
    assert!(plan.findings.iter().all(|finding| finding.state == crate::model::FindingState::Failed));
}

/// WSP-2: a positions file that the bot is writing at this moment is not told as lost records yet.
#[test]
fn half_written_records_are_not_lost_yet() {
    let mut scan = healthy();
    put(&mut scan, POSITIONS, file(&TWO_POSITIONS.as_bytes()[..CUT], 0));
    let told: Vec<String> = planned(&scan).findings.iter().map(line).collect();
    let expected = [
        "medium keys_missing deferred logs/positions_futures.json: *",
        "high json_corrupt deferred logs/positions_futures.json: *",
    ];
    assert_told("young", &told, &expected);
}

/// WSP-7: a good configuration that is not the copy is kept, once it has rested; a broken one, or one that says nothing,
/// never.
#[test]
fn good_configurations_are_kept() {
    let mut scan = healthy();
    assert_eq!(planned(&scan).keep, [PLAIN_CONFIG, CONFIG].map(path));
    scan.good.insert(path(CONFIG), b"{\"max_positions\": 9}".as_slice().into());
    put(&mut scan, PLAIN_CONFIG, file(b"{\"hour\": 8}", 1));
    assert_eq!(planned(&scan).keep, [path(CONFIG)]);
    put(&mut scan, CONFIG, file(b"{\"max_positions\": 0}", OLD));
    assert_eq!(planned(&scan).keep, []);
}

/// WSP-6: a round makes at most so many changes, parents first; the rest is told, and the next rounds go on.
#[test]
fn rounds_are_bounded() {
    let mut scan = Scan { at: NOW, ..Scan::default() };
    let mut layout = layout();
    layout.files.clear();
    layout.directories = (0..1_250).rev().flat_map(|n| [path(&format!("d{n}/x")), path(&format!("d{n}"))]).collect();
    for folder in &layout.directories {
        scan.entries.insert(folder.clone(), Entry::Missing);
    }
    let mut rounds = Vec::new();
    loop {
        let plan = plan(&layout, &scan, Some(Mode::Paper), QUIET, NOW);
        if plan.changes.is_empty() {
            break;
        }
        let deferred = plan.findings.iter().filter(|finding| finding.detail.contains("at most 1000 changes")).count();
        assert_eq!(deferred + plan.changes.len(), plan.findings.len());
        rounds.push(plan.changes.len());
        scan = after(&scan, &plan);
    }
    assert_eq!(rounds, [1_000, 1_000, 500]);
}
