//! Rules that hold for every means.
#![expect(clippy::disallowed_methods, reason = "one test lists the files of this folder")]

use super::*;
use crate::base::tree::Position;

pub(super) fn scalar(text: &str, quoted: bool) -> Node {
    Node { value: Value::Scalar { text: text.to_owned(), quoted }, at: Position::default() }
}

#[test]
fn keys_are_unique_and_every_file_is_registered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/execute/actuators");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned)
        })
        .filter(|name| name != "mod" && name != "tests")
        .collect();
    files.sort_unstable();
    let mut keys: Vec<_> = ACTUATORS.iter().map(|spec| spec.key).collect();
    keys.sort_unstable();
    assert_eq!(files, keys);
    for spec in ACTUATORS {
        assert_eq!(actuator(spec.key).unwrap().key, spec.key);
    }
    assert!(actuator("shell").is_none());
}

#[test]
fn every_page_has_every_heading_in_order_with_text_below() {
    for spec in ACTUATORS {
        let found: Vec<_> = spec.doc.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(found, HEADINGS, "`{}`", spec.key);
        for part in spec.doc.split("## ").skip(1) {
            assert!(part.split_once('\n').is_some_and(|(_, text)| text.trim().len() > 40), "`{}`", spec.key);
        }
    }
}

#[test]
fn small_values_are_read() {
    assert!(Text::from_node(&scalar("a", true)).is_ok_and(|text| text.0 == "a"));
    let list = Node { value: Value::List(Vec::new()), at: Position::default() };
    assert!(Text::from_node(&list).is_err());
    assert!(Yes::from_node(&scalar("true", false)).is_ok());
    for other in [scalar("true", true), scalar("false", false), scalar("yes", false), list] {
        assert!(Yes::from_node(&other).is_err(), "{other:?}");
    }
}
