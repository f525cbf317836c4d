//! The layout that comes out of the settings.
#![expect(clippy::disallowed_methods, reason = "lays out the files that the settings name")]

use std::path::Path;

use crate::base::clock::Clock;
use crate::base::tree::{Problems, Section, parse};
use crate::config::{Inputs, Loaded, load, load_text};
use crate::model::Timestamp;
use crate::workspace::layout::{FileSpec, QUANTUM, Role};

const EVERY_KEY: &str = "tests/config/heal.good.yml";

fn clock() -> Clock {
    Clock::manual(Timestamp::EPOCH)
}

fn loaded(text: &str) -> Loaded {
    let loaded = load_text(text, "tests/config/test.yml", &Inputs::default(), clock());
    loaded.unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

fn refused(text: &str) -> String {
    let problems = load_text(text, "tests/config/test.yml", &Inputs::default(), clock()).expect_err(text);
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn directories(loaded: &Loaded) -> Vec<&str> {
    loaded.settings.heal.layout.directories.iter().map(crate::workspace::layout::RelPath::as_str).collect()
}

fn file<'l>(loaded: &'l Loaded, path: &str) -> &'l FileSpec {
    loaded.settings.heal.layout.file(path).unwrap_or_else(|| panic!("{path} is in the layout"))
}

fn empty(spec: &FileSpec) -> &str {
    std::str::from_utf8(spec.empty.as_deref().expect("there is one")).expect("UTF-8")
}

/// WSP-1, WSP-2, WSP-7: the built-in layout is right, has what the specification names, and is what holds without a file.
#[test]
fn the_built_in_layout_is_that_of_the_specification() {
    let problems = Problems::new("quantum.yml");
    let root = parse(QUANTUM, &problems).expect("YAML");
    let mut section = Section::open(&root, "heal", &problems).expect("a mapping");
    super::raw::read(&mut section, Path::new("/"), true);
    section.finish();
    assert!(problems.is_empty(), "{problems:?}");

    let loaded = loaded("");
    let heal = &loaded.settings.heal;
    assert!(heal.enabled && heal.dry_run);
    assert_eq!(heal.state_dir, heal.workspace.join(".chiron"));
    assert_eq!(
        directories(&loaded),
        ["logs", "config", "configs", "data", "feature_store", "state", "state/heartbeats", "logs/backups"]
    );
    let layout = &heal.layout;
    let roles: Vec<(&str, Role, bool)> =
        layout.files.iter().map(|spec| (spec.path.as_str(), spec.role, spec.required)).collect();
    assert_eq!(
        roles,
        [
            ("logs/positions_futures.json", Role::Positions, true),
            ("logs/portfolio_futures.json", Role::Portfolio, true),
            ("config/golden_hour_config.json", Role::Config, false),
            ("config/trading_config.json", Role::Config, false),
        ]
    );
    let positions = file(&loaded, "logs/positions_futures.json");
    assert_eq!(empty(positions), "{\"open_positions\": [], \"closed_positions\": []}\n");
    assert_eq!(positions.keys, [("open_positions".into(), "[]".into()), ("closed_positions".into(), "[]".into())]);
    assert_eq!(empty(file(&loaded, "logs/portfolio_futures.json")), "{\"open_position_count\": 0, \"trades\": []}\n");
    assert!(layout.locks.matches("state/a/b/x.lock") && layout.locks.matches("logs/x.lock"));
    assert!(!layout.locks.matches("data/x.lock") && !layout.locks.matches("state/x.lock/y"));
    assert!(layout.heartbeats.matches("state/heartbeats/a.json"));
    assert!(!layout.heartbeats.matches("state/heartbeats/a/b.json"), "a star is one part of a path");
    assert_eq!((layout.lock_age.as_secs(), layout.heartbeat_age.as_secs(), heal.every.as_secs()), (300, 600, 600));
    assert!(layout.bot.is_none() && heal.slot.is_none());
}

/// Chiron's own files are nothing that the bot has written: neither the healings nor the log of what was healed.
#[test]
fn own_files_never_count_as_the_bots() {
    let settings = loaded("").settings;
    let log = ["", ".1", ".mark"].map(|suffix| format!("logs/failure_point_healing.jsonl{suffix}"));
    for name in log.iter().map(String::as_str).chain([".chiron"]) {
        assert!(settings.own_files.contains(&settings.workspace.join(name)), "{name}");
    }
    assert_eq!(settings.heal.own_files, settings.own_files);
}

/// What is copied from the built-in layout is the built-in layout.
#[test]
fn a_copy_of_the_built_in_layout_is_the_same() {
    let indented: String = QUANTUM.lines().map(|line| format!("  {line}\n")).collect();
    let copy = loaded(&format!("heal:\n{indented}  layout: none\n"));
    let original = loaded("");
    assert_eq!(format!("{:?}", copy.settings.heal.layout), format!("{:?}", original.settings.heal.layout));
}

/// Every key arrives, and the settings lie over the built-in layout file by file and key by key.
#[test]
fn every_key_arrives_over_the_built_in_layout() {
    let inputs = Inputs { config_file: Some(EVERY_KEY.into()), ..Inputs::default() };
    let loaded = load(&inputs, clock()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let heal = &loaded.settings.heal;
    assert_eq!(
        directories(&loaded),
        [
            "journal",
            "journal/today",
            "config",
            "configs",
            "data",
            "feature_store",
            "state",
            "state/heartbeats",
            "journal/today/backups",
            "run",
            "state/deep",
            "state/deep/er",
            "logs",
        ],
        "`logs` of the layout is where `log_dir` says; parents come first; nothing is made for a file that is not"
    );
    let engine = file(&loaded, "state/engine.json");
    assert_eq!(
        empty(engine),
        "{\"cursor\": 0.10000000000000001, \"id\": 123456789012345678901234567890, \"name\": \"1\", \"on\": true, \
         \"off\": \"no\", \"none\": null, \"list\": [1e3]}\n",
        "every digit is kept"
    );
    assert_eq!(engine.keys, [("cursor".into(), "0.10000000000000001".into()), ("list".into(), "[]".into())]);
    assert!(engine.required && engine.role == Role::State);
    assert_eq!(empty(file(&loaded, "state/text.json")), "{\"a\":   1.50}", "a text is kept as it is");
    let portfolio = file(&loaded, "journal/today/portfolio_futures.json");
    assert_eq!((portfolio.role, portfolio.required, empty(portfolio)), (Role::Portfolio, false, "{\"trades\": []}\n"));
    assert!(heal.layout.file("config/golden_hour_config.json").is_none(), "null takes it out");
    assert!(heal.layout.file("config/limits.json").is_none(), "so does `enabled: false`, against the failure point");
    let trading = file(&loaded, "config/trading_config.json");
    assert!(trading.role == Role::Config && trading.schema.is_some() && empty(trading).contains("max_positions"));
    let named = file(&loaded, "config/named.json");
    assert!(named.required && named.schema.is_some(), "`heal.files` names it, so the failure point does not count");
    let bare = file(&loaded, "far/away/file.json");
    assert_eq!((bare.role, bare.empty.is_none(), bare.required), (Role::State, true, false));
    assert!(heal.layout.file("config/extra.yml").is_none() && heal.layout.file("config/nothing.json").is_none());
    let warned: Vec<&String> = loaded.warnings.iter().filter(|line| line.contains("is not restored")).collect();
    assert_eq!(warned.len(), 2, "{:#?}", loaded.warnings);
    assert!(warned[0].contains("config/nothing.json") && warned[0].contains("no such file"), "{warned:?}");
    let layout = &heal.layout;
    assert_eq!(
        layout.locks.written,
        ["state/**/*.lock", "journal/*.pid", "state/LOCK"],
        "instead of the built-in ones"
    );
    assert_eq!((layout.lock_age.as_secs(), layout.heartbeat_age.as_secs(), heal.every.as_secs()), (600, 1200, 300));
    assert!(layout.json.matches("state/x.json") && !layout.json.matches("state/a/x.json"));
    let bot = layout.bot.as_ref().expect("a bot");
    assert_eq!((bot.command.as_str(), bot.grace.as_secs()), ("/srv/bot/run.py", 5));
    let slot = heal.slot.as_ref().expect("a slot");
    assert_eq!(slot.path, heal.workspace.join("releases/current"));
    assert_eq!(slot.manifest, Path::new("meta/slot.json"));
    let retention = heal.retention;
    assert_eq!((retention.keep.as_secs(), retention.bytes_max, retention.healings_max), (90 * 86_400, 2 << 20, 10));
    assert_eq!((heal.quiet.as_secs(), heal.file_max), (0, 4096));
}

/// What of the layout lies below `log_dir` and `data_dir` is where those are; what is outside of the workspace is not healed.
#[test]
fn the_layout_follows_the_folders_of_the_settings() {
    let elsewhere = loaded("log_dir: /var/log/bot\ndata_dir: store/da[ta\n");
    assert_eq!(
        directories(&elsewhere),
        ["config", "configs", "store", "store/da[ta", "feature_store", "state", "state/heartbeats"]
    );
    assert!(elsewhere.settings.heal.layout.of_role(Role::Positions).is_none());
    assert_eq!(elsewhere.settings.heal.layout.locks.written, ["state/**/*.lock"]);
    assert!(elsewhere.warnings.iter().any(|line| line.contains("`log_dir` lies outside of the workspace")));
    let same = loaded("log_dir: .\n");
    assert!(same.settings.heal.layout.file("positions_futures.json").is_some());
    assert!(same.settings.heal.layout.locks.matches("state/x.lock"));
    let bracket = loaded("log_dir: \"a[b\"\n");
    assert!(bracket.settings.heal.layout.locks.matches("a[b/x/y.lock"), "the name is no pattern");
}

/// Whether chiron heals: by the profile, by the section, by its key.
#[test]
fn healing_is_on_with_the_profile_or_the_section() {
    for (text, enabled, files) in [
        ("", true, 4),
        ("profile: none", false, 0),
        ("profile: none\nheal: {every: 1m}", true, 0),
        ("profile: none\nheal: {layout: quantum}", true, 4),
        ("heal: {layout: none}", true, 0),
        ("heal: {enabled: false}", false, 4),
    ] {
        let heal = loaded(text).settings.heal;
        assert_eq!((heal.enabled, heal.layout.files.len()), (enabled, files), "{text}");
    }
}

/// WSP-2: what is removed by its name has the name of a lock, whatever the pattern; and a layout file never matches.
#[test]
fn lock_patterns_only_match_locks() {
    for pattern in [
        "**",
        "*",
        "**/*",
        "state/**",
        "state/*.json",
        "logs/positions_futures.json",
        "**/*.*",
        "state/{a,b}",
        "x/[a-z]",
        "state/*.lock*",
        "state/*.{lock,json}",
        "logs/*futures?json",
        "data/trades.db",
        "",
        "a//b.lock",
        "./a.lock",
        "{**,x/*.lock}",
        ".chiron/x.lock",
    ] {
        let told = refused(&format!("heal: {{lock_patterns: [\"{pattern}\"]}}"));
        assert!(told.contains("heal.lock_patterns[0]"), "{pattern}: {told}");
    }
    for pattern in ["**/*.lock", "state/**/*.pid", "state/LOCK", "state/*/lock", "run/{a,b}.lck", "x/[ab].LOCK"] {
        loaded(&format!("heal: {{lock_patterns: [\"{pattern}\"]}}"));
    }
    let own = "heal: {files: {state/engine.lock: {}}}";
    assert!(refused(own).contains("heal.files.state/engine.lock: found `state/engine.lock`, expected no lock pattern"));
}

/// A whole machine, or somebody's home, is no workspace that is healed; without a mode nothing is written anyway.
#[test]
fn what_is_more_than_a_workspace_is_refused() {
    for folder in ["/", "/home", "/home/nobody-there", "/root", "/etc", "/usr/", "/var", "/tmp"] {
        let told = refused(&format!("mode: paper\nworkspace: {folder}\n"));
        assert!(
            told.contains("workspace: found `/") && told.contains("expected the bot's own folder to heal"),
            "{told}"
        );
        assert!(told.contains("heal: {enabled: false}"), "{told}");
        loaded(&format!("mode: paper\nworkspace: {folder}\nheal: {{enabled: false}}\n"));
        loaded(&format!("workspace: {folder}\n"));
    }
    loaded("mode: paper\nworkspace: /home/nobody-there/bot\n");
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/", folder.path().join("link")).expect("a link");
    let link = folder.path().join("link").display().to_string();
    assert!(refused(&format!("mode: real\nworkspace: {link}\n")).contains("but `/` holds more than a bot"));
}

/// SEC-3: what the operator's default holds is never shown; what is in force otherwise is.
#[test]
fn the_layout_in_force_is_shown_without_defaults() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("default.json"), r#"{"exchange": {"key": "canary"}}"#).expect("written");
    let text = "heal:\n  files:\n    config/a.json: {role: config, default: default.json}\n    \
                state/b.json: {empty: {api_key: canary2, cursor: 1}, keys: {cursor: 0}}\n    \
                config/golden_hour_config.json:\n";
    std::fs::write(folder.path().join("chiron.yml"), text).expect("written");
    let inputs = Inputs { config_file: Some(folder.path().join("chiron.yml")), ..Inputs::default() };
    let loaded = load(&inputs, clock()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(empty(file(&loaded, "config/a.json")).contains("canary"), "it is what the file is restored to");
    let shown = &loaded.settings.shown["settings"]["heal"];
    assert!(!shown.to_string().contains("canary"), "{shown:#}");
    assert_eq!(
        (&shown["layout"], &shown["every"], &shown["enabled"]),
        (&"quantum".into(), &"10m".into(), &true.into())
    );
    assert_eq!(shown["files"]["config/a.json"]["default"], "default.json");
    assert_eq!(shown["files"]["config/golden_hour_config.json"], serde_json::Value::Null);
    assert_eq!(shown["files"]["state/b.json"]["empty"]["cursor"], 1);
    assert_eq!(shown["files"]["logs/positions_futures.json"]["role"], "positions");
    assert_eq!(shown["backups"]["keep"], "30d");
    assert_eq!(shown["lock_patterns"][0], "state/**/*.lock");
}
