//! Rules that hold for every action, also for the one somebody adds next year.
#![expect(clippy::disallowed_methods, reason = "one test lists the files of this folder")]

use super::*;
use crate::model::{Autonomy, Level};

/// Lower-case words joined by single underscores.
fn is_snake_case(text: &str) -> bool {
    !text.is_empty()
        && text.split('_').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// ACT-1: the ten verbs of the table with their results and risks, word by word, then the vitals procedures.
#[test]
fn the_table_is_complete_and_in_order() {
    let expected = [
        ("restart_subsystem", "subsystem restored", "brief interruption"),
        ("pause_trading", "trading stopped", "missed opportunities"),
        ("switch_to_safe_profile", "exposure reduced, system stabilised", "reduced profit"),
        ("disable_module", "system goes on without the module", "degraded functionality"),
        ("fallback_to_backup", "backup source or endpoint in use", "backup may be older or slower"),
        ("close_all_positions", "flat", "realised losses"),
        ("no_new_trades", "no new exposure", "cannot capitalise"),
        ("defensive_exit", "risky positions closed, capital preserved", "potential losses"),
        ("reload_config", "configuration fresh", "a bad configuration"),
        ("clear_cache", "memory freed", "slower for a while"),
    ];
    let found: Vec<_> = ACTIONS.iter().map(|spec| (spec.name, spec.expected_result, spec.risk)).collect();
    assert_eq!(found[..10], expected);
    let procedures: Vec<_> = found[10..15].iter().map(|(name, ..)| *name).collect();
    let expected =
        ["reduce_memory", "repair_websocket", "refresh_subscriptions", "recover_rate_limit", "optimize_latency"];
    assert_eq!(procedures, expected, "REC-1");
}

/// ACT-1: which verbs are policies, which contain, which lower risk, and how far each goes alone.
#[test]
fn grades_are_as_specified() {
    use Autonomy::{Approval, Automatic, Manual};
    let expected = [
        ("restart_subsystem", Automatic, false, false, None),
        ("pause_trading", Automatic, true, true, Some(Level::NoNewTrades)),
        ("switch_to_safe_profile", Automatic, true, true, Some(Level::SafeRiskProfile)),
        ("disable_module", Automatic, true, false, None),
        ("fallback_to_backup", Automatic, false, false, None),
        ("close_all_positions", Approval, false, false, None),
        ("no_new_trades", Automatic, true, true, Some(Level::NoNewTrades)),
        ("defensive_exit", Approval, true, true, Some(Level::DefensiveExit)),
        ("reload_config", Manual, false, false, None),
        ("clear_cache", Automatic, false, false, None),
        ("reduce_memory", Automatic, false, false, None),
        ("repair_websocket", Automatic, false, false, None),
        ("refresh_subscriptions", Automatic, false, false, None),
        ("recover_rate_limit", Automatic, false, false, None),
        ("optimize_latency", Automatic, false, false, None),
        ("refresh_intelligence", Automatic, false, false, None),
        ("restore_configuration", Automatic, false, false, None),
        ("release_kill_switch", Approval, false, false, None),
        ("retry_connection", Automatic, false, false, None),
        ("review_position_limits", Manual, false, false, None),
        ("resume_trading", Approval, false, false, None),
        ("enable_module", Approval, false, false, None),
        ("restore_profile", Approval, false, false, None),
        ("restore_primary", Approval, false, false, None),
    ];
    let found = ACTIONS.map(|spec| (spec.name, spec.autonomy, spec.containing, spec.lowers_risk, spec.holds));
    assert_eq!(found, expected);
}

/// ACT-1, ACT-3: each reverse is an action of its own, undoes the one that names it, and alone raises risk.
#[test]
fn reverses_pair_up() {
    for spec in ACTIONS {
        assert!(!(spec.lowers_risk && spec.raises_risk), "`{}`", spec.name);
        let Some(reverse) = spec.reverse else {
            // What that undoes, the bot has done itself.
            let by_the_bot = spec.name == "release_kill_switch";
            assert_eq!(spec.raises_risk, by_the_bot, "`{}` raises risk, so it undoes something", spec.name);
            continue;
        };
        let back =
            action(reverse).unwrap_or_else(|| panic!("`{reverse}`, the reverse of `{}`, is an action", spec.name));
        assert_eq!((back.reverse, back.raises_risk), (Some(spec.name), !spec.raises_risk), "`{}`", spec.name);
    }
}

#[test]
fn names_are_unique_and_snake_case() {
    for (index, spec) in ACTIONS.iter().enumerate() {
        assert!(is_snake_case(spec.name), "`{}`", spec.name);
        assert!(ACTIONS[..index].iter().all(|other| other.name != spec.name), "`{}` twice", spec.name);
        assert_eq!(action(spec.name), Some(*spec));
        assert!(spec.reverse.is_none_or(is_snake_case), "reverse of `{}`", spec.name);
        assert!(!spec.expected_result.is_empty() && !spec.risk.is_empty(), "`{}`", spec.name);
    }
    assert_eq!(action("sell_everything"), None);
}

/// What holds a level contains and lowers risk; what lowers risk does so by a level.
#[test]
fn a_held_level_and_lower_risk_go_together() {
    for spec in ACTIONS {
        assert_eq!(spec.holds.is_some(), spec.lowers_risk, "`{}`", spec.name);
        assert!(!spec.lowers_risk || spec.containing, "`{}`", spec.name);
        assert_ne!(spec.holds, Some(Level::AllowAll), "`{}` holds nothing", spec.name);
    }
}

#[test]
fn every_page_has_every_heading_in_order_with_text_below() {
    for spec in ACTIONS {
        let found: Vec<_> = spec.doc.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(found, HEADINGS, "`{}`", spec.name);
        for part in spec.doc.split("## ").skip(1) {
            let text = part.split_once('\n').map_or("", |(_, text)| text.trim());
            assert!(text.len() > 10, "`{}`: a heading without text", spec.name);
        }
        assert!(spec.reverse.is_none_or(|reverse| spec.doc.contains(reverse)), "`{}` names its reverse", spec.name);
    }
}

#[test]
fn every_file_of_the_folder_is_registered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/execute/actions");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned)
        })
        .filter(|name| name != "mod" && name != "tests")
        .collect();
    files.sort_unstable();
    let mut names: Vec<_> = ACTIONS.iter().map(|spec| spec.name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
}
