//! Each kind of damage with what comes out of it, byte for byte, and files cut off at every byte.

use super::*;

const POSITIONS: &str = r#"{"open_positions": [], "closed_positions": []}"#;
/// Every sample of a workspace, with the structure that is expected of it.
pub(super) const SAMPLES: [(&str, &str); 8] = [
    (include_str!("samples/event_executor_state.json"), "{}"),
    (include_str!("samples/kill_switch.json"), "{}"),
    (include_str!("samples/portfolio_futures.json"), r#"{"total_value": 0, "trades": []}"#),
    (include_str!("samples/positions_futures.json"), POSITIONS),
    (include_str!("samples/recent_trades.json"), r#"{"trades": []}"#),
    (include_str!("samples/slot_manifest.json"), r#"{"files": {}}"#),
    (include_str!("samples/universe_snapshot.json"), "{}"),
    (include_str!("samples/vitals.json"), "{}"),
];

fn text(salvaged: &Salvaged) -> &str {
    std::str::from_utf8(&salvaged.content).expect("what comes out is UTF-8")
}

/// Asserts what comes out, how many records and how many losses there are, and what always holds.
#[track_caller]
fn check(bytes: impl AsRef<[u8]>, empty: &str, content: &str, kept: usize, lost: usize) -> Salvaged {
    let bytes = bytes.as_ref();
    let found = salvage(bytes, empty.as_bytes());
    assert_eq!(text(&found), content, "of {}: {:?}", String::from_utf8_lossy(bytes), found.lost);
    assert_eq!((found.kept, found.lost.len()), (kept, lost), "of {}: {found:?}", String::from_utf8_lossy(bytes));
    assert_eq!(found.is_lossless, lost == 0);
    assert!(found.lost.iter().all(|loss| loss.offset + loss.len <= bytes.len()));
    let again = salvage(&found.content, empty.as_bytes());
    assert_eq!(again.content, found.content, "salvaging twice changes nothing");
    found
}

/// WSP-2: damage that loses no record loses none, and no digit.
#[test]
fn lossless_damage() {
    let one = r#"{"open_positions": [{"id": 1, "size": 0.10000000000000001}], "closed_positions": []}"#;
    check(one, POSITIONS, one, 3, 0);
    let huge = r#"{"open_positions":[{"id":123456789012345678901234567890,"x":1e999}],"closed_positions":[]}"#;
    check(format!("{huge},"), POSITIONS, huge, 3, 0);
    check(format!("\u{feff}{one}\n"), POSITIONS, &format!("{one}\n"), 3, 0);
    check(format!("{one}\n\0\0\0\0"), POSITIONS, &format!("{one}\n"), 3, 0);
    check(format!("{one}}}"), POSITIONS, one, 3, 0);
    check("{\n  \"a\": [1]\n}\n]}\n", "{}", "{\n  \"a\": [1]\n}\n", 2, 0);
    check(r#"[{"id": 1}, {"id": 2}]]"#, "[]", r#"[{"id": 1}, {"id": 2}]"#, 2, 0);
    check(r#"[{"id": 1, "x": NaN}]"#, "[]", r#"[{"id": 1, "x": NaN}]"#, 1, 0);
    check(format!("{one}{one}"), POSITIONS, one, 3, 0);
    check("[1, 2, 3,]", "[]", "[1, 2, 3]", 3, 0);
    check("[1,, 2]", "[]", "[1, 2]", 2, 0);
    check("{\"a\": [1,],\n \"b\": {\"c\": 1,},\n}\n", "{}", "{\"a\": [1],\n \"b\": {\"c\": 1}\n}\n", 3, 0);
    check(r#"[{"id": 1}{"id": 2} {"id": 3}]"#, "[]", r#"[{"id": 1},{"id": 2}, {"id": 3}]"#, 3, 0);
    check(r#"{"a": 1 "b": [1] "c": 2}"#, "{}", r#"{"a": 1, "b": [1], "c": 2}"#, 4, 0);
    check(r#"{"a": 1, "a": 1}"#, "{}", r#"{"a": 1}"#, 1, 0);
}

/// WSP-2: what is in UTF-16 or Windows-1252 comes out in UTF-8.
#[test]
fn encodings() {
    let plain = "[{\"id\": \"\u{e9}\u{1f600}\", \"n\": 1.50}]\n";
    let units = |big: bool, mark: bool| {
        let mark = mark.then_some(0xFEFF_u16);
        let units = mark.into_iter().chain(plain.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
    };
    for (big, mark) in [(false, false), (false, true), (true, false), (true, true)] {
        check(units(big, mark), "[]", plain, 1, 0);
    }
    let mut cut = units(false, true);
    cut.truncate(cut.len() - 4);
    let found = check(&cut, "[]", "[{\"id\": \"\u{e9}\u{1f600}\", \"n\": 1.50}]\n".trim_end(), 1, 1);
    assert_eq!(found.lost[0].offset, cut.len());
    check(
        b"[{\"city\": \"Z\xFCrich\", \"fee\": \"2 \x80\"}]",
        "[]",
        "[{\"city\": \"Z\u{fc}rich\", \"fee\": \"2 \u{20ac}\"}]",
        1,
        0,
    );
    // UTF-8 elsewhere in the file: the byte is damage.
    let found = check(
        b"[{\"a\": \"\xC3\xA9\"}, {\"a\": \"\xFC\"}, {\"a\": 3}]",
        "[]",
        "[{\"a\": \"\u{e9}\"}, {\"a\": 3}]",
        2,
        1,
    );
    assert_eq!((found.lost[0].offset, found.lost[0].len), (14, 10));
    // 0x81 is no character of Windows-1252.
    check(b"[{\"a\": \"\x81\"}, {\"a\": 3}]", "[]", "[{\"a\": 3}]", 1, 1);
}

/// WSP-2: a record that is not whole is lost whole, and told.
#[test]
fn damaged_records() {
    let found = check(
        r#"[{"id": "p-1", "n": {"x": 1}}, {"id": "p-2", "size": nan, "n": {"x": 2}}, {"id": "p-3"}]"#,
        "[]",
        r#"[{"id": "p-1", "n": {"x": 1}}, {"id": "p-3"}]"#,
        2,
        1,
    );
    assert_eq!(found.lost[0].what, r#"the record that begins with {"id": "p-2", "size": nan, "n": {"x": 2}}"#);
    assert_eq!((found.lost[0].offset, found.lost[0].len), (31, 41));
    check(r#"{"a": nan, "b": 1, "c": -inf}"#, "{}", r#"{"b": 1}"#, 1, 2);
    check("[{\"a\": \"x\ny\"}, {\"a\": \"\\q\"}, {\"a\": 1}]", "[]", "[{\"a\": 1}]", 1, 2);
    // Wrong brackets, quotes that lack, and what only looks like a record.
    check(r#"[{"id": 1, "f": [{"a": 1}, {"a": 2=], "t": 1}, {"id": 2}]"#, "[]", r#"[{"id": 2}]"#, 1, 1);
    check(r#"[{"id": 1, "f": {"a": 1}, {"a": 2}], "t": 1}, {"id": 2}]"#, "[]", r#"[{"id": 2}]"#, 1, 1);
    check(
        r#"[{"id": 1}, {"id": "2, "n": {"x": 1}}, {"id": 3}, {"id": 4}]"#,
        "[]",
        r#"[{"id": 1}, {"id": 3}, {"id": 4}]"#,
        3,
        1,
    );
    check(r#"[{"id": 1}, {"id": 2, "s": "he said "hi" to {}"}, {"id": 3}]"#, "[]", r#"[{"id": 1}, {"id": 3}]"#, 2, 1);
    check(r#"["a", "he said "hi" there", "b"]"#, "[]", r#"["a", "b"]"#, 2, 1);
    check(r#"[{"id": 1, "n": {"x": 1}}, "t": 2}, {"id": 3}]"#, "[]", r#"[{"id": 3}]"#, 1, 1);
    check("[{\"id\": 1}, \0\0\0\0, \"n\": {\"x\": 1}}, {\"id\": 3}]", "[]", r#"[{"id": 1}, {"id": 3}]"#, 2, 1);
    check("[12\0\0, 13, 14", "[]", "[]", 0, 1);
    check(r#"{"a": 1} "b": [1, 2], "c": 3}"#, "{}", r#"{"c": 3}"#, 1, 1);
}

/// WSP-2: the list that a gap may have hidden is never guessed.
#[test]
fn gaps() {
    let torn = "{\"open_positions\": [{\"id\": 1}, {\"id\": 2\0\0\0\0\0\0{\"id\": 3}, {\"id\": 4}]";
    check(
        format!("{torn}, \"closed_positions\": []}}"),
        POSITIONS,
        r#"{"open_positions": [{"id": 1}, {"id": 4}], "closed_positions": []}"#,
        4,
        1,
    );
    // The name of the other list may have stood in the gap.
    check(format!("{torn}}}"), POSITIONS, r#"{"open_positions": [{"id": 1}]}"#, 2, 2);
    // Nothing is expected: the same keys are taken for the same list.
    check(format!("{torn}}}"), "{}", r#"{"open_positions": [{"id": 1}, {"id": 4}]}"#, 3, 1);
    check(torn.replace("\"id\": 4", "\"id\": 4, \"exit\": 1") + "}", "{}", r#"{"open_positions": [{"id": 1}]}"#, 2, 2);
    // The end is lost too: the rest could lie anywhere.
    check(torn, POSITIONS, r#"{"open_positions": [{"id": 1}]}"#, 2, 1);
    // The bracket between two lists is lost.
    check(
        r#"{"open_positions": [{"id": 1}, "closed_positions": [{"id": 2}], "x": 1}"#,
        POSITIONS,
        r#"{"open_positions": [{"id": 1}], "closed_positions": [{"id": 2}], "x": 1}"#,
        5,
        1,
    );
    // The beginning is lost.
    check(
        "\0\0\0\0\0\0\"id\": 1}, {\"id\": 2}], \"closed_positions\": [{\"id\": 3}]}",
        POSITIONS,
        r#"{"closed_positions": [{"id": 3}]}"#,
        2,
        1,
    );
    check(r#"": 1, "n": {"x": 1}}, {"id": 2}]"#, "[]", r#"[{"id": 2}]"#, 1, 1);
    check(r#"xyz [{"id": 1}]"#, "[]", r#"[{"id": 1}]"#, 1, 1);
}

/// WSP-2: an opening bracket that is lost moves nothing to where it was not, and is told.
#[test]
fn lost_brackets() {
    let open = r#""open_positions": [{"id": 1}]"#;
    let one = format!("{{{open}}}");
    // A member of a record surfaces in the document.
    check(format!(r#"{{{open}, "updated": 17"size": 2, "note": "x"}}]}}"#), POSITIONS, &one, 2, 1);
    check(format!(r#"{{{open}, "updated": 1712, "note": "x"}}]}}"#), POSITIONS, POSITIONS, 0, 1);
    // What seems to be the last list may be one of a record.
    let closed = r#""closed_positions": [{"a": 1}, {"a": 2}]"#;
    check(format!("{{{open}, {closed}}}]}}"), POSITIONS, &one, 2, 1);
    check(format!(r#"{{{open}, {closed}, "leverage": 3}}]}}"#), POSITIONS, &one, 2, 1);
    check(
        format!(r#"{{{open}, "closed_positions": []}}]}}"#),
        POSITIONS,
        &format!(r#"{{{open}, "closed_positions": []}}"#),
        3,
        1,
    );
    check(r#"[{"a": 1}, {"a": 2}]}]"#, "[]", "[]", 0, 1);
    check("[1, 2, 3]]", "[]", "[]", 0, 1);
    // Records that seem to be the value of another member.
    check(format!(r#"{{{open}, "updated": {{"id": 2}}, {{"id": 3}}]}}"#), POSITIONS, &one, 2, 1);
    // A member that is expected and not there may have stood where a comma is too much.
    check(format!("{{{open},}}"), POSITIONS, &one, 2, 1);
    // What a bracket too much may have closed is told, where nothing is known of the structure.
    check(r#"{"a": 1, "b": 2}}"#, "{}", r#"{"a": 1, "b": 2}"#, 2, 1);
    // A record stays one, whatever bracket stands before it.
    check(
        r#"{"trades": [{"id": 1}, [{"id": 2}, {"id": 3}], "x": 1}"#,
        r#"{"trades": []}"#,
        r#"{"trades": [{"id": 1}], "x": 1}"#,
        3,
        1,
    );
    check(r#"[{"id": 1}, [{"id": 2}, {"id": 3}]"#, "[]", r#"[{"id": 1}]"#, 1, 1);
    check("[[{\"id\": 1}], [{\"id\": 2}], [{", "[]", "[[{\"id\": 1}], [{\"id\": 2}]]", 2, 1);
}

/// WSP-2: of several documents the last whole one stays, and nothing is put together.
#[test]
fn several_documents() {
    let (a, b) = (
        r#"{"open_positions": [{"id": 1}], "closed_positions": []}"#,
        r#"{"open_positions": [{"id": 2}], "closed_positions": []}"#,
    );
    let found = check(format!("{a}{b}"), POSITIONS, b, 3, 1);
    assert_eq!((found.lost[0].offset, found.lost[0].len), (0, a.len()));
    check(format!("{a}\n{b}\n{{\"open_pos"), POSITIONS, &format!("{b}\n"), 3, 2);
    check(format!("{a}\n{{\"unknown\": 1}}"), POSITIONS, &format!("{a}\n"), 3, 1);
    check(format!("{}\n{b}", &a[..30]), POSITIONS, b, 3, 1);
    check(r#"{"open_positions": [{"id": 1}]}": 5}], "x": 1}"#, POSITIONS, r#"{"open_positions": [{"id": 1}]}"#, 2, 1);
    check(
        "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 3, \"si\n{\"id\": 4}\n{\"id",
        "[]",
        "[\n{\"id\": 1},\n{\"id\": 2},\n{\"id\": 4}\n]\n",
        3,
        2,
    );
    check("{\"id\": 1}\n{\"id\": 2}\n", "{}", "{\"id\": 2}\n", 1, 1);
    let found = check(r#"{"a": [1], "b": 1, "a": [2]}"#, "{}", r#"{"b": 1, "a": [2]}"#, 3, 1);
    assert_eq!(found.lost[0].what, r#"another value of "a": [1]"#);
    // The last whole one, not the last.
    check(r#"{"a": [1], "b": 1, "a": [2, 3"#, "{}", r#"{"a": [1], "b": 1}"#, 3, 2);
    // What a record names twice is as every parser reads it.
    check(r#"[{"a": 1, "a": 2},]"#, "[]", r#"[{"a": 1, "a": 2}]"#, 1, 0);
}

/// WSP-2: where nothing can be read the empty structure is given, and what was there is told.
#[test]
fn nothing_to_read() {
    for empty in ["", "\0\0\0\0", " \n", "\u{feff}", "\u{feff}\0"] {
        check(empty, POSITIONS, POSITIONS, 0, 1);
    }
    for garbage in ["x", "null", "12", "[1, 2]", "\"text\"", "{", "{\"open_pos", "]}", "{]", ":", "\u{7f}"] {
        check(garbage, POSITIONS, POSITIONS, 0, 1);
    }
    check("{\"a\": 1}", "[]", "[]", 0, 1);
    check("[1, 2,", "null", "[1, 2]", 2, 1);
    check("12", "null", "12", 0, 0);
    check("tru", "null", "null", 0, 1);
}

/// WSP-2: torn members that hold records keep them, those that are one record are lost.
#[test]
fn torn_members() {
    check(r#"{"files": {"a": 1, "b": 2, "c": 3"#, r#"{"files": {}}"#, r#"{"files": {"a": 1, "b": 2}}"#, 1, 1);
    check(r#"{"x": 1, "files": {"a": 1, "b": 2, "c": 3"#, "{}", r#"{"x": 1}"#, 1, 1);
    check(r#"{"x": 1, "m": {"a": {"b": 1}, "c": {"d": 2"#, "{}", r#"{"x": 1, "m": {"a": {"b": 1}}}"#, 2, 1);
    check(
        "{\n  \"a\": [\n    {\"id\": 1},\n    {\"id\": 2},\n    {\"i",
        "{}",
        "{\n  \"a\": [\n    {\"id\": 1},\n    {\"id\": 2}\n  ]\n}",
        3,
        1,
    );
    check(r#"{"open_positions": ["#, POSITIONS, r#"{"open_positions": []}"#, 1, 1);
}

/// WSP-2: a file that is cut off anywhere keeps every record that was whole there, and nothing else.
#[test]
fn every_truncation() {
    for (sample, empty) in SAMPLES {
        for wide in [false, true] {
            let value: serde_json::Value = serde_json::from_str(sample).expect("the sample is JSON");
            let whole =
                if wide { serde_json::to_string_pretty(&value).expect("it is JSON") } else { sample.to_owned() };
            for end in 0..whole.len() {
                let found = salvage(&whole.as_bytes()[..end], empty.as_bytes());
                assert!(is_sound(&found.content), "{}", text(&found));
                let saved: serde_json::Value = serde_json::from_slice(&found.content).expect("it is JSON");
                let want = whole_at(&whole, end, empty);
                assert_eq!(saved, want, "cut at {end}: {}", &whole[..end]);
                let is_all = whole[..end].trim_end() == whole.trim_end();
                assert_eq!(found.is_lossless, is_all, "cut at {end}");
            }
        }
    }
}

/// What was whole when the file was cut off: told from where each value ends in the whole file.
fn whole_at(whole: &str, cut: usize, empty: &str) -> serde_json::Value {
    use serde_json::Value;
    let none: Value = serde_json::from_str(empty).expect("it is JSON");
    let text = whole.as_bytes();
    // A number shows that it is whole by what follows.
    let is_whole = |value: usize, end: usize| end + usize::from(!b"\"{[tfn".contains(&text[value])) <= cut;
    let of = |value: usize, end: usize| serde_json::from_str::<Value>(&whole[value..end]).expect("it is JSON");
    let mut saved = serde_json::Map::new();
    for member in scan::members(text, 0) {
        let key = whole[member.start + 1..member.key_end - 1].to_owned();
        if is_whole(member.value, member.end) {
            saved.insert(key, of(member.value, member.end));
        } else if member.value < cut && text[member.value] == b'[' {
            let mut list = Vec::new();
            let mut at = scan::space(text, member.value + 1);
            while text[at] != b']' {
                let end = scan::value(text, at, Rigour::Strict).expect("it is JSON");
                if is_whole(at, end) {
                    list.push(of(at, end));
                }
                at = scan::space(text, end);
                at = if text[at] == b',' { scan::space(text, at + 1) } else { at };
            }
            saved.insert(key, list.into());
        } else if member.value < cut && text[member.value] == b'{' {
            let inner: Vec<_> =
                scan::members(text, member.value).filter(|inner| is_whole(inner.value, inner.end)).collect();
            let is_nested = !inner.is_empty() && inner.iter().all(|inner| b"{[".contains(&text[inner.value]));
            if none[&key].is_object() || is_nested {
                let pairs = inner
                    .iter()
                    .map(|inner| (whole[inner.start + 1..inner.key_end - 1].to_owned(), of(inner.value, inner.end)));
                saved.insert(key, Value::Object(pairs.collect()));
            }
        }
    }
    if saved.is_empty() { none } else { saved.into() }
}

/// WSP-2: neither deep nor large files exhaust anything, and the account stays short.
#[test]
fn bounds() {
    let deep = "[".repeat(200_000);
    assert_eq!(salvage(deep.as_bytes(), b"[]").content.as_ref(), b"[]");
    let closed = format!("[1, {deep}{}, 2,, ", "]".repeat(200_000));
    assert!(is_sound(&salvage(closed.as_bytes(), b"[]").content));
    assert_eq!(salvage(closed.as_bytes(), b"[]").kept, 3);
    for piece in [
        "{",
        "\"",
        "{\"a\":",
        "[1,",
        "[1 \0,",
        "{\"a\":{\"b\":NaN},",
        "\\",
        "{\"a\":\"",
        "}",
        "{}",
        "[[]\n{",
        "\u{e9}",
        "\",\"",
        "x,",
    ] {
        for empty in ["{}", "[]", "null", POSITIONS] {
            let bytes = piece.repeat(300_000 / piece.len());
            let found = salvage(bytes.as_bytes(), empty.as_bytes());
            assert!(is_sound(&found.content), "{piece} {empty}");
            assert!(found.lost.len() <= 100, "{piece}");
        }
    }
    let found = salvage(b"[NaN, ", b"[]");
    assert_eq!(found.kept, 0);
    let many = format!("[{}1, 2]", "nan, ".repeat(1_000));
    let found = salvage(many.as_bytes(), b"[]");
    assert_eq!((found.kept, found.lost.len(), found.lost[99].what.as_str()), (2, 100, "901 more"));
}

/// WSP-2: what is told never shows the value of a secret.
#[test]
fn secrets_are_not_told() {
    let found = salvage(br#"[{"id": 1, "api_key": "abcdef", "x": nan}]"#, b"[]");
    assert_eq!(found.lost[0].what, r#"the record that begins with {"id": 1, "api_key"#);
    let found = salvage(br#"{"password": "abcdef" x}"#, b"{}");
    assert!(found.lost.iter().all(|loss| !loss.what.contains("abc")), "{found:?}");
}

/// WSP-2: what is sound is told as JSON is defined.
#[test]
fn soundness() {
    for sound in [
        "{}",
        " [1, -0.5e+3, true, null, \"\\u00e9\\n\"] \n",
        "\"x\"",
        "1e999",
        "[[[]]]",
        "[\"\\ud800\"]",
        "[NaN, -Infinity]",
    ] {
        assert!(is_sound(sound.as_bytes()), "{sound}");
    }
    for other in [
        "",
        "{",
        "[1,]",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "\u{feff}{}",
        "{}{}",
        "[nan]",
        "[+Infinity]",
        "[Infinit]",
        "[\"\t\"]",
        "[\"\\x\"]",
        "{\"a\": 1, \"a\": 1}",
        "{\"a\": 1, \"\\u0061\": 1}",
        "{\"a\" 1}",
        "{a: 1}",
        "[1 2]",
        "{}\0",
        "[\"\\u12\"]",
    ] {
        assert!(!is_sound(other.as_bytes()), "{other}");
    }
    assert!(!is_sound(b"[\"\xFC\"]"));
    assert!(is_sound(&[b"[".repeat(5_000), b"]".repeat(5_000)].concat()));
}
