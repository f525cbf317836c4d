//! Every finding alone and in company: the tree before and after, byte for byte, and again after another round.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{found, heal, healings, undo_all};
use crate::cli::run;
use crate::common::{FOLDERS, PORTFOLIO, POSITIONS, Workspace, sample};

/// What a path is expected to be afterwards; what is not named stays as it was, to the byte and the nanosecond.
enum After {
    /// A folder.
    Folder,
    /// A file with this content.
    Holds(&'static str),
    /// A file with JSON that says this; for what has a time in it.
    Says(fn(&Value) -> bool),
    /// Nothing.
    Gone,
}

use After::{Folder, Gone, Holds, Says};

/// One workspace.
struct Case {
    name: &'static str,
    /// What is wrong in a whole workspace.
    breaks: fn(&Workspace),
    /// What `chiron heal` finds: `CODE STATE PATH`.
    finds: &'static [&'static str],
    after: &'static [(&'static str, After)],
    code: i32,
}

const POSITIONS_EMPTY: &str = "{\"open_positions\": [], \"closed_positions\": []}\n";
const PORTFOLIO_EMPTY: &str = "{\"open_position_count\": 0, \"trades\": []}\n";

fn cases() -> Vec<Case> {
    vec![
        Case { name: "nothing", breaks: |_| {}, finds: &[], after: &[], code: 0 },
        Case {
            name: "a folder is missing",
            breaks: |workspace| workspace.remove("feature_store"),
            finds: &["directory_missing healed feature_store"],
            after: &[("feature_store", Folder)],
            code: 0,
        },
        Case {
            name: "both files are missing",
            breaks: |workspace| {
                workspace.remove(POSITIONS);
                workspace.remove(PORTFOLIO);
            },
            finds: &[
                "file_missing healed logs/portfolio_futures.json",
                "file_missing healed logs/positions_futures.json",
            ],
            after: &[(POSITIONS, Holds(POSITIONS_EMPTY)), (PORTFOLIO, Holds(PORTFOLIO_EMPTY))],
            code: 0,
        },
        Case {
            name: "files without content",
            breaks: |workspace| {
                workspace.write(POSITIONS, b"{}");
                workspace.write(PORTFOLIO, b"");
            },
            finds: &["file_empty healed logs/portfolio_futures.json", "file_empty healed logs/positions_futures.json"],
            after: &[(POSITIONS, Holds(POSITIONS_EMPTY)), (PORTFOLIO, Holds(PORTFOLIO_EMPTY))],
            code: 0,
        },
        Case {
            name: "a key is missing, and every digit of the rest stays",
            breaks: |workspace| {
                workspace.write(POSITIONS, b"{\"open_positions\": [], \"id\": 123456789012345678901234567890}\n");
                workspace.write(PORTFOLIO, b"{\"open_position_count\": 0, \"trades\": []}");
            },
            finds: &["keys_missing healed logs/positions_futures.json"],
            after: &[(
                POSITIONS,
                Says(|value| value["closed_positions"] == serde_json::json!([]) && value["open_positions"].is_array()),
            )],
            code: 0,
        },
        Case {
            name: "a stale lock, one that is young, and one of a package manager",
            breaks: |workspace| {
                workspace.write("state/bot.lock", b"");
                workspace.write("state/uv.lock", b"version = 1\n");
                workspace.write("state/young.lock", b"");
                workspace.rest("state/young.lock", std::time::Duration::from_secs(60));
            },
            finds: &["lock_stale healed state/bot.lock"],
            after: &[("state/bot.lock", Gone)],
            code: 0,
        },
        Case {
            name: "a stale heartbeat is reset and stands",
            breaks: |workspace| workspace.write("state/heartbeats/feed.json", b"{\"status\": \"ok\", \"n\": 1.50}\n"),
            finds: &["heartbeat_stale standing state/heartbeats/feed.json"],
            after: &[(
                "state/heartbeats/feed.json",
                Says(|value| value["status"] == "reset" && value["n"] == 1.5 && value["reset_at"].is_string()),
            )],
            code: 0,
        },
        Case {
            name: "the positions do not match the portfolio",
            breaks: |workspace| workspace.write(PORTFOLIO, b"{\"open_position_count\": 3, \"trades\": []}\n"),
            finds: &["state_mismatch standing logs/positions_futures.json"],
            after: &[],
            code: 2,
        },
        Case {
            name: "a partial fill",
            breaks: |workspace| {
                let text = String::from_utf8(sample("portfolio_futures.json")).expect("text");
                let text = text.replace("\"filled_size\": 0.1}", "\"filled_size\": 0.05}");
                workspace.write(PORTFOLIO, text.as_bytes());
            },
            finds: &["partial_fill standing logs/portfolio_futures.json"],
            after: &[],
            code: 2,
        },
        Case {
            name: "one position twice",
            breaks: |workspace| {
                let text = String::from_utf8(sample("positions_futures.json")).expect("text");
                let text =
                    text.replace("\"ETHUSDT\", \"direction\": \"SHORT\"", "\"BTCUSDT\", \"direction\": \"LONG\"");
                workspace.write(POSITIONS, text.as_bytes());
            },
            finds: &["position_conflict standing logs/positions_futures.json"],
            after: &[],
            code: 2,
        },
        Case {
            name: "a price of zero",
            breaks: |workspace| {
                let text = String::from_utf8(sample("positions_futures.json")).expect("text");
                workspace.write(POSITIONS, text.replace("3011.25", "0").as_bytes());
            },
            finds: &["data_integrity standing logs/positions_futures.json"],
            after: &[],
            code: 2,
        },
    ]
}

/// The content that a broken file with positions has: its tail is missing in the middle of `p-2`.
fn torn_positions() -> Vec<u8> {
    let whole = sample("positions_futures.json");
    let at = whole.windows(10).position(|bytes| bytes == b"\"leverage\"").expect("it is there");
    let second = at + 20 + whole[at + 20..].windows(10).position(|bytes| bytes == b"\"leverage\"").expect("twice");
    whole[..second].to_vec()
}

/// WSP-1, WSP-2, WSP-3: each finding alone: exactly what it names is changed, everything else stays to the nanosecond, a
/// second round changes nothing, and a rollback brings the tree of before back.
#[test]
fn each_alone() {
    for case in cases() {
        let workspace = Workspace::whole();
        (case.breaks)(&workspace);
        let before = workspace.tree();
        let report = heal(&workspace, "paper", &[]).ended(case.code).json();
        assert_eq!(found(&report), case.finds, "{}: {report:#}", case.name);
        assert_eq!(report["success"], case.code == 0, "{}", case.name);
        let after = workspace.tree();
        let mut expected: BTreeMap<_, _> = before.0.clone();
        for (path, then) in case.after {
            let now = after.0.get(*path).cloned();
            match then {
                Gone => assert!(now.is_none(), "{}: {path} is still there", case.name),
                Folder => assert!(workspace.path(path).is_dir(), "{}: {path}", case.name),
                Holds(text) => assert_eq!(workspace.text(path), *text, "{}: {path}", case.name),
                Says(is_so) => {
                    let value = serde_json::from_slice(&workspace.read(path)).expect("it is JSON");
                    assert!(is_so(&value), "{}: {path}: {value}", case.name);
                }
            }
            match now {
                Some(entry) => drop(expected.insert((*path).to_owned(), entry)),
                None => drop(expected.remove(*path)),
            }
        }
        after.assert_same(&crate::common::Tree(expected), case.name);

        let (kept, told) = (healings(&workspace).len(), workspace.operator_alerts().len());
        heal(&workspace, "paper", &[]).ended(case.code);
        workspace.tree().assert_same(&after, &format!("{}: the second round", case.name));
        assert_eq!(healings(&workspace).len(), kept, "{}: a round without changes is no healing", case.name);
        assert_eq!(workspace.operator_alerts().len(), told, "{}: told once", case.name);
        let critical = usize::try_from(report["critical"].as_u64().expect("a number")).expect("few");
        assert_eq!(told, critical, "{}: {:?}", case.name, workspace.operator_alerts());

        undo_all(&workspace, "paper");
        workspace.tree().assert_same(&before, &format!("{}: the rollback", case.name));
    }
}

/// WSP-1, WSP-4: from nothing but a folder everything that is always there is made, and the statistics say so.
#[test]
fn from_an_empty_folder() {
    let workspace = Workspace::empty();
    let said = heal(&workspace, "real", &[]);
    let report = said.json();
    for folder in FOLDERS {
        assert!(workspace.path(folder).is_dir(), "{folder}: {report:#}");
    }
    assert_eq!(workspace.text(POSITIONS), POSITIONS_EMPTY);
    assert_eq!(workspace.text(PORTFOLIO), PORTFOLIO_EMPTY);
    let stats = &report["stats"];
    assert_eq!((&stats["directories_created"], &stats["files_created"]), (&8.into(), &2.into()), "{report:#}");
    assert_eq!(report["healed"], 10, "{report:#}");
    undo_all(&workspace, "real");
    let left: Vec<String> = workspace.tree().0.into_keys().collect();
    assert!(left.is_empty() || left == ["logs"], "only the log of alerts may keep its folder: {left:?}");
}

/// WSP-2, WSP-3: a torn file with positions keeps every complete record byte for byte; that one is lost is critical and
/// stands, and so is the mismatch that this brings to light; the original is kept.
#[test]
fn torn_positions_keep_what_is_complete() {
    let workspace = Workspace::whole();
    workspace.write(POSITIONS, &torn_positions());
    let before = workspace.tree();
    let report = heal(&workspace, "real", &[]).ended(2).json();
    let text = workspace.text(POSITIONS);
    assert!(text.contains("\"size\": 0.10000000000000001, \"entry_price\": 64000.5"), "{text}");
    assert!(!text.contains("p-2"), "an incomplete record is none: {text}");
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(value["open_positions"].as_array().map(Vec::len), Some(1), "{text}");
    assert!(value["closed_positions"].is_array(), "{text}");
    let found = found(&report);
    assert!(found.contains(&format!("json_corrupt healed {POSITIONS}")), "{found:?}");
    assert!(found.contains(&format!("records_lost standing {POSITIONS}")), "{found:?}");
    assert!(found.contains(&format!("state_mismatch standing {POSITIONS}")), "{found:?}");
    let told: Vec<String> = workspace.operator_alerts().iter().map(|line| line["description"].to_string()).collect();
    assert!(told.iter().any(|line| line.contains("RECORDS_LOST")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("STATE_MISMATCH")), "{told:?}");
    undo_all(&workspace, "real");
    workspace.tree().assert_same(&before, "the original is kept");
}

/// WSP-2: damage around the records loses none of them, nor a digit.
#[test]
fn damage_around_records() {
    let positions = String::from_utf8(sample("positions_futures.json")).expect("text");
    let portfolio = sample("portfolio_futures.json");
    let mut with_nul = positions.clone().into_bytes();
    with_nul.extend([0; 512]);
    let mut with_bom = b"\xef\xbb\xbf".to_vec();
    with_bom.extend(positions.as_bytes());
    let sixteen: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(positions.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let comma = positions.replace("}],\n \"closed", "},],\n \"closed").into_bytes();
    for (name, bytes) in [("NUL bytes", with_nul), ("a BOM", with_bom), ("UTF-16", sixteen), ("a comma", comma)] {
        let workspace = Workspace::whole();
        workspace.write(POSITIONS, &bytes);
        let report = heal(&workspace, "real", &[]).ended(0).json();
        assert_eq!(found(&report), [format!("json_corrupt healed {POSITIONS}")], "{name}: {report:#}");
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("it is JSON");
        assert_eq!(value(&workspace.read(POSITIONS)), value(positions.as_bytes()), "{name}");
        assert!(workspace.text(POSITIONS).contains("0.10000000000000001"), "{name}: every digit");
        assert_eq!(workspace.read(PORTFOLIO), portfolio, "{name}");
    }
}

/// WSP-7: a configuration file that is missing or broken comes back: from the last good copy, else from the operator's
/// default; the broken one is kept.
#[test]
fn configuration_comes_back() {
    let (golden, trading) = ("config/golden_hour_config.json", "config/trading_config.json");
    let workspace = Workspace::whole();
    let settings = workspace.beside("chiron.yml");
    std::fs::write(workspace.beside("trading.default.json"), "{\"max_positions\": 3}\n").expect("a default");
    let text = format!("heal:\n  files:\n    {trading}: {{role: config, default: trading.default.json}}\n");
    std::fs::write(&settings, text).expect("settings");
    let flag = format!("--config.file={}", settings.display());
    // A first round has seen them whole.
    heal(&workspace, "paper", &[&flag]).ended(0);
    let good = workspace.read(golden);
    workspace.write(golden, b"{\"enabled\": tr");
    workspace.remove(trading);
    let before = workspace.tree();
    let report = heal(&workspace, "paper", &[&flag]).ended(0).json();
    assert_eq!(
        found(&report),
        [format!("config_invalid healed {golden}"), format!("config_missing healed {trading}")],
        "{report:#}"
    );
    assert_eq!(workspace.read(golden), good);
    assert_eq!(workspace.text(trading), "{\"max_positions\": 5}\n", "the last good copy goes before the default");
    undo_all(&workspace, "paper");
    workspace.tree().assert_same(&before, "the broken one is kept");

    let fresh = Workspace::whole();
    fresh.remove(trading);
    heal(&fresh, "paper", &[&flag]).ended(0);
    assert_eq!(fresh.text(trading), "{\"max_positions\": 3}\n", "no copy, so the default");
}

/// WSP-6: a link that leaves the workspace is told and never followed, nor is what stands in the way of a folder touched.
#[test]
fn nothing_outside_is_touched() {
    let workspace = Workspace::whole();
    let outside = workspace.beside("outside.json");
    std::fs::write(&outside, "").expect("a file can be written");
    workspace.remove(PORTFOLIO);
    symlink(&outside, workspace.path(PORTFOLIO)).expect("a link can be made");
    workspace.remove("data");
    workspace.write("data", b"a file");
    let before = workspace.tree();
    let report = heal(&workspace, "paper", &[]).json();
    let found = found(&report);
    assert!(found.contains(&format!("misplaced standing {PORTFOLIO}")), "{found:?}");
    assert!(found.contains(&"misplaced standing data".to_owned()), "{found:?}");
    workspace.tree().assert_same(&before, "nothing was changed");
    assert_eq!(std::fs::read(&outside).expect("it is there"), b"");
}

/// WSP-1 to WSP-3 together: what may be healed is, beside dangerous findings whose files keep every byte.
#[test]
fn in_company() {
    let workspace = Workspace::whole();
    for case in cases() {
        if !case.after.iter().any(|(path, _)| [POSITIONS, PORTFOLIO].contains(path)) {
            (case.breaks)(&workspace);
        }
    }
    let text = String::from_utf8(sample("positions_futures.json")).expect("text");
    workspace.write(POSITIONS, text.replace("\"size\": 1.5", "\"size\": -1.5").as_bytes());
    let money = [POSITIONS, PORTFOLIO].map(|path| workspace.tree().0[path].clone());
    let before = workspace.tree();
    let report = heal(&workspace, "real", &[]).ended(2).json();
    let found = found(&report);
    for line in [
        "directory_missing healed feature_store",
        "lock_stale healed state/bot.lock",
        "heartbeat_stale standing state/heartbeats/feed.json",
        "partial_fill standing logs/portfolio_futures.json",
        "data_integrity standing logs/positions_futures.json",
    ] {
        assert!(found.iter().any(|one| one == line), "{line}: {found:#?}");
    }
    let tree = workspace.tree();
    assert_eq!([&tree.0[POSITIONS], &tree.0[PORTFOLIO]], [&money[0], &money[1]], "never written");
    let alerts = workspace.operator_alerts();
    assert!(
        alerts.iter().any(|line| line["description"].to_string().contains("p-2")),
        "the record is named: {alerts:?}"
    );
    heal(&workspace, "real", &[]).ended(2);
    workspace.tree().assert_same(&tree, "the second round");
    assert_eq!(workspace.operator_alerts(), alerts, "told once");
    undo_all(&workspace, "real");
    workspace.tree().assert_same(&before, "the rollback");
}

/// WSP-6: a dry run tells what it would do as a diff and writes nothing at all; so does a round without a mode, which says
/// why.
#[test]
fn a_dry_run_writes_nothing() {
    let workspace = Workspace::whole();
    workspace.write(POSITIONS, b"{\"open_positions\": []}\n");
    workspace.write(PORTFOLIO, b"{\"open_position_count\": 1, \"trades\": []}\n");
    workspace.remove("data");
    workspace.write("state/bot.lock", b"");
    let before = workspace.tree();
    let report = heal(&workspace, "real", &["--dry-run"]).json();
    assert_eq!(report["dry_run"], true);
    let diff = report["diff"].as_str().unwrap_or_default();
    assert!(diff.contains("state/bot.lock") && diff.contains("data"), "{diff}");
    let said = run(&mut workspace.command("heal", &[]));
    assert!(said.err.contains("no mode was given") && said.err.contains("--mode paper"), "{said:?}");
    assert!(said.out.contains("dry run") && said.out.contains("state_mismatch"), "{said:?}");
    workspace.tree().assert_same(&before, "nothing was written");
    assert!(!workspace.path(".chiron").exists() && workspace.operator_alerts().is_empty());

    let planned = Workspace::whole();
    planned.remove("data");
    let said = heal(&planned, "paper", &["--dry-run"]).ended(1).json();
    assert_eq!(found(&said), ["directory_missing planned data"]);
    assert!(!planned.path(".chiron").exists() && !planned.path("data").exists());
}

/// WSP-4, SPEC 14: the table says what was found, what was done, the statistics, and the command that undoes it.
#[test]
fn the_table() {
    let workspace = Workspace::whole();
    workspace.remove("data");
    let said = run(&mut workspace.command("heal", &["--mode=paper"])).ended(0);
    for expected in [
        "found 1: healed 1, planned 0, deferred 0, failed 0, critical 0",
        "directory_missing",
        "directories_created 1",
        "score ",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:?}");
    }
    let undo = said.out.split("to undo it: ").nth(1).and_then(|rest| rest.lines().next()).expect("a command");
    let arguments: Vec<&str> = undo.split(' ').collect();
    assert_eq!(arguments[..2], ["chiron", "heal"], "{undo}");
    let undone = crate::cli::chiron(&arguments[1..]).ended(0);
    assert!(undone.out.contains("undone: ") && !workspace.path("data").exists(), "{undone:?}");
    let list = run(&mut workspace.command("heal", &["--list"])).ended(0).out;
    assert!(list.contains("undone by ") && list.contains("rollback of "), "{list}");
    for bad in [&["--list", "--dry-run"] as &[&str], &["--rollback=x", "--dry-run"], &["--force"]] {
        run(&mut workspace.command("heal", bad)).ended(3);
    }
    run(&mut workspace.command("heal", &["--mode=paper", "--rollback=20250101T000000Z-000001"])).ended(3);
}

/// A workspace that is not there is told, and nothing is made.
#[test]
fn no_workspace() {
    let workspace = Workspace::empty();
    let nowhere = Workspace::at(&workspace.path("nowhere"));
    let said = heal(&nowhere, "paper", &[]).ended(3);
    assert!(said.err.contains("nowhere"), "{said:?}");
    assert!(!workspace.path("nowhere").exists());
}
