//! The tree and its takers: positions, refusals, kinds of values, and arbitrary text.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn told(text: &str) -> Vec<String> {
    let problems = Problems::new("f");
    parse(text, &problems);
    problems.into_vec().iter().map(ToString::to_string).collect()
}

fn tree(text: &str) -> Node {
    let problems = Problems::new("f");
    let node = parse(text, &problems);
    assert_eq!(problems.into_vec(), [], "{text}");
    node.expect("a tree")
}

/// Takes `key` of a one-key text; the value or the problems.
fn take<T: FromNode>(value: &str) -> Result<T, Vec<String>> {
    let node = tree(&format!("key: {value}"));
    let problems = Problems::new("f");
    let mut section = Section::open(&node, "", &problems).expect("a mapping");
    let taken = section.req::<T>("key");
    section.finish();
    let list: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(taken.is_none(), !list.is_empty(), "{value}");
    taken.ok_or(list)
}

fn refused<T: FromNode + std::fmt::Debug>(value: &str) -> String {
    take::<T>(value).expect_err(value).join("\n")
}

#[test]
fn positions_are_one_based_lines_and_columns() {
    let node = tree("a: 1\nb:\n  - x\n  - {c: é, d: [1, 2]}\n");
    let Value::Map(entries) = &node.value else { panic!("{node:?}") };
    assert_eq!(node.at, Position { line: 1, column: 1 });
    assert_eq!(entries[0].2.at, Position { line: 1, column: 4 });
    assert_eq!(entries[1].1, Position { line: 2, column: 1 });
    let Value::List(items) = &entries[1].2.value else { panic!("{node:?}") };
    assert_eq!(items[0].at, Position { line: 3, column: 5 });
    let Value::Map(inner) = &items[1].value else { panic!("{node:?}") };
    assert_eq!(inner[0].2.at, Position { line: 4, column: 9 });
    assert_eq!(inner[1].1, Position { line: 4, column: 12 });
}

#[test]
fn json_reads_as_yaml_and_quoted_scalars_are_marked() {
    let node = tree("{\"a\": \"30\", \"b\": 30, \"c\": null, \"d\": \"\\u00e9\\n\"}");
    let Value::Map(entries) = &node.value else { panic!("{node:?}") };
    assert_eq!(entries[0].2.value, Value::Scalar { text: "30".into(), quoted: true });
    assert_eq!(entries[1].2.value, Value::Scalar { text: "30".into(), quoted: false });
    assert_eq!(entries[2].2.value, Value::Null);
    assert_eq!(entries[3].2.value, Value::Scalar { text: "é\n".into(), quoted: true });
}

#[test]
fn nothing_and_null_are_null() {
    for text in ["", "\n\n# only a comment\n", "---\n", "~", "null", "\u{feff}"] {
        assert_eq!(tree(text).value, Value::Null, "{text:?}");
    }
    let node = tree("a:\nb: 1\n");
    let Value::Map(entries) = &node.value else { panic!("{node:?}") };
    assert_eq!((&entries[0].2.value, entries[0].2.at), (&Value::Null, Position { line: 1, column: 1 }));
}

#[test]
fn refused_yaml_is_told_with_its_position() {
    let table = [
        ("a: &x 1\n", "f:1:4: a: found `&`, expected a value without an anchor (hint: remove the `&name`)"),
        (
            "a: !!int 1\n",
            "f:1:4: a: found `tag:yaml.org,2002:!int`, expected a value without a tag (hint: remove the tag)",
        ),
        ("a: 1\nb: {c: 2, c: 3}\n", "f:2:11: b.c: duplicate key, first at line 2, column 5 (hint: keep one of them)"),
        ("a: 1\n---\nb: 2\n", "f:2:1: expected one document, found a second (hint: remove the `---` and what follows)"),
        ("[a, b]: 1\n", "f:1:1: found `[a, b]`, expected a word as the key (hint: quote the key)"),
        ("a: b\u{0}c\n", "f:1:5: found `U+0000`, expected printable text (hint: remove the control character)"),
    ];
    for (text, expected) in table {
        assert_eq!(told(text).join("\n"), expected, "{text:?}");
    }
}

#[test]
fn an_alias_is_refused_beside_its_anchor() {
    let list = told("a: &x 1\nb: *x\n");
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(list[1], "f:2:4: b: found `*`, expected a value, not an alias (hint: write the value out)");
}

#[test]
fn syntax_errors_are_one_problem_with_a_position() {
    for text in
        ["a: [1, 2", "a: b: c", "a:\n\t- b\n", "a: \"b", "a: 1\n b: 2\n", "{a: 1", "a: *x\n", "- a\nb: 1\n", "%x"]
    {
        let problems = Problems::new("f");
        assert_eq!(parse(text, &problems), None, "{text:?}");
        let list = problems.into_vec();
        assert_eq!(list.len(), 1, "{text:?} {list:?}");
        assert!(list[0].line > 0 && list[0].column > 0 && list[0].rule.starts_with("expected valid YAML"), "{list:?}");
    }
    assert!(told("a:\n\t- b\n")[0].ends_with("(hint: indent with spaces, not with tabs)"), "{:?}", told("a:\n\t- b\n"));
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(told(&deep(64)).is_empty());
    assert_eq!(told(&deep(66)).len(), 1);
    assert!(told(&deep(66))[0].ends_with("expected at most 64 levels of nesting"));
    assert_eq!(told(&deep(200_000)).len(), 1);
    let large = format!("# {}", "x".repeat(SIZE_MAX));
    assert_eq!(told(&large), [format!("f:1:1: found `{} bytes`, expected at most 1 MiB", large.len())]);
    assert!(told(&large[..SIZE_MAX]).is_empty());
}

#[test]
fn a_misspelt_key_gets_the_nearest_known_one() {
    let node = tree("chek_interval: 30s\nzebra: 1\nCheck-Interval: 1\n");
    let problems = Problems::new("f");
    let mut section = Section::open(&node, "", &problems).expect("a mapping");
    assert_eq!(section.opt::<Duration>("check_interval"), None);
    assert!(!section.has("mode"));
    section.finish();
    let list: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(
        list,
        [
            "f:1:1: chek_interval: unknown key (hint: did you mean `check_interval`?)",
            "f:2:1: zebra: unknown key (hint: known here: `check_interval`, `mode`)",
            "f:3:1: Check-Interval: unknown key (hint: did you mean `check_interval`?)",
        ]
    );
}

#[test]
fn the_nearest_is_near() {
    let candidates =
        ["check_interval", "max_cpu_percent", "no_new_trades", "url", "mode", "more_than_one", "more_of_it"];
    let table = [
        ("check_intervall", Some("check_interval")),
        ("checkInterval", Some("check_interval")),
        ("max_cpu", Some("max_cpu_percent")),
        ("no_trades", Some("no_new_trades")),
        ("uri", Some("url")),
        ("Mode", Some("mode")),
        ("more_", None),
        ("zebra", None),
        ("", None),
        ("x", None),
    ];
    for (word, expected) in table {
        assert_eq!(nearest(word, &candidates), expected, "{word}");
    }
}

#[test]
fn numbers_are_ranged_and_plain() {
    assert_eq!(take::<u16>("65535"), Ok(65535));
    assert_eq!(refused::<u16>("65536"), "f:1:6: key: found `65536`, expected a whole number from 0 to 65535");
    assert_eq!(
        refused::<u32>("\"30\""),
        "f:1:6: key: found `\"30\"`, expected a whole number from 0 to 4294967295 (hint: remove the quotes)"
    );
    assert!(refused::<u64>("-1").contains("a whole number"));
    assert_eq!(take::<u64>("7"), Ok(7));
    assert_eq!(take::<usize>("7"), Ok(7));
    assert_eq!(take::<f64>("1.5e2"), Ok(150.0));
    for text in [".inf", "nan", "inf", "x", "[1]", "1e999"] {
        assert!(refused::<f64>(text).contains("expected a number"), "{text}");
    }
}

#[test]
fn booleans_are_two_words() {
    assert_eq!(take::<bool>("true"), Ok(true));
    assert_eq!(take::<bool>("false"), Ok(false));
    assert_eq!(refused::<bool>("yes"), "f:1:6: key: found `yes`, expected `true` or `false` (hint: write true)");
    assert!(refused::<bool>("off").ends_with("(hint: write false)"));
    assert!(refused::<bool>("\"true\"").ends_with("(hint: write true)"));
    assert!(refused::<bool>("maybe").ends_with("`true` or `false`"));
}

#[test]
fn durations_need_a_unit() {
    let table = [
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("2d", 172_800_000),
        ("1w2d3h4m5s6ms", 788_645_006),
        ("0s", 0),
    ];
    for (text, millis) in table {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        assert_eq!(take::<Duration>(&format!("\"{text}\"")), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in
        ["", "30", "s", "1m1h", "1s1s", "1.5s", "-1s", "1 s", "1S", "99999999999999999999s", "40000d", "é", "1é"]
    {
        assert_eq!(parse_duration(text), None, "{text}");
    }
    assert!(refused::<Duration>("30").ends_with("(hint: write 30s)"));
    assert!(refused::<Duration>("\"30\"").ends_with("(hint: write 30s)"));
}

#[test]
fn lists_and_maps_report_each_item() {
    assert_eq!(take::<Vec<u32>>("[1, 2]"), Ok(vec![1, 2]));
    assert_eq!(
        refused::<Vec<u32>>("[1, x, y]"),
        "f:1:10: key[1]: found `x`, expected a whole number from 0 to 4294967295\n\
         f:1:13: key[2]: found `y`, expected a whole number from 0 to 4294967295"
    );
    assert!(refused::<Vec<String>>("a").ends_with("expected a list (hint: write [a])"));
    assert_eq!(take::<BTreeMap<String, String>>("{a: 1}"), Ok(BTreeMap::from([("a".into(), "1".into())])));
    assert_eq!(refused::<BTreeMap<String, String>>("{a: [1]}"), "f:1:10: key.a: found `[1]`, expected a text");
    assert_eq!(take::<PathBuf>("/a/b"), Ok(PathBuf::from("/a/b")));
    assert_eq!(take::<SocketAddr>("127.0.0.1:80"), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
    assert_eq!(take::<SocketAddr>("\"[::1]:80\"").map(|a| a.port()), Ok(80));
    assert!(refused::<SocketAddr>("localhost:80").ends_with("(hint: write 127.0.0.1:80)"));
    assert!(refused::<SocketAddr>("\":80\"").ends_with("(hint: write 0.0.0.0:80)"));
}

#[test]
fn missing_and_wrong_sections_are_told_where_they_would_be() {
    let node = tree("a: 1\nb:\n  c: 2\n  e: x\n");
    let problems = Problems::new("f");
    let mut top = Section::open(&node, "", &problems).expect("a mapping");
    assert!(top.section("a").is_none());
    let mut nested = top.section("b").expect("a mapping");
    assert_eq!(nested.req::<String>("d"), None);
    assert_eq!(nested.word("e", &[("xx", 1), ("yy", 2)]), None);
    assert_eq!(nested.position(), Position { line: 3, column: 3 });
    assert_eq!(nested.entries("c"), []);
    assert_eq!(nested.list("c"), []);
    let list: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(
        list,
        [
            "f:1:4: a: found `1`, expected a mapping of keys to values",
            "f:3:3: b.d: missing, expected a text",
            "f:3:6: b.c: found `2`, expected a mapping of names to settings",
            "f:3:6: b.c: found `2`, expected a list",
            "f:4:6: b.e: found `x`, expected one of `xx`, `yy` (hint: did you mean `xx`?)",
        ]
    );
}

#[test]
fn found_values_are_short_and_without_credentials() {
    assert_eq!(shorten(&"x".repeat(61)).len(), 63);
    assert_eq!(shorten("postgres://user:p@ss@host/db"), "postgres://***@host/db");
    assert_eq!(shorten("a\nb"), "a b");
    assert_eq!(shorten("http://h/a@b http://u:p@h"), "http://h/a@b http://***@h");
}

/// Text that looks enough like YAML to reach deep into the parser.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "|",
        ">",
        "&x",
        "*x",
        "!t",
        "#",
        " ",
        "\t",
        "~",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "%TAG ! x\n",
        "\r",
        "\r\n",
        "é",
        "\u{2028}",
        "\u{feff}",
        "\\u",
        "\\x0",
        "\u{0}",
        "1",
        "\\",
        "<<",
        "@",
        "`",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check_positions(text: &str) -> Result<(), TestCaseError> {
    let problems = Problems::new("f");
    let node = parse(text, &problems);
    let broken = text.replace("\r\n", "\n");
    let lines: Vec<&str> = broken.split(['\n', '\r']).collect();
    let list = problems.into_vec();
    prop_assert!(node.is_some() || !list.is_empty());
    for problem in list {
        prop_assert!((1..=lines.len()).contains(&problem.line), "{problem}");
        prop_assert!((1..=lines[problem.line - 1].chars().count() + 1).contains(&problem.column), "{problem}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_a_tree_or_a_problem_inside_it(text in "\\PC{0,80}|(?s).{0,80}") {
        check_positions(&text)?;
    }

    #[test]
    fn any_yamlish_text_is_a_tree_or_a_problem_inside_it(text in yamlish()) {
        check_positions(&text)?;
    }

    #[test]
    fn durations_never_panic(text in "[0-9a-zé]{0,30}") {
        let _ = parse_duration(&text);
    }
}
