//! What holds for every content, drawn at random.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const EMPTIES: [&str; 6] =
    ["{}", "[]", "null", r#"{"a": [], "b": []}"#, r#"{"open_positions": [], "closed_positions": []}"#, r#"{"a": {}}"#];

/// What always holds of what is saved.
pub(super) fn holds(bytes: &[u8], empty: &[u8]) -> Result<Salvaged, String> {
    let found = salvage(bytes, empty);
    let kind = |text: &[u8]| text.iter().copied().find(|byte| !scan::is_space(*byte));
    // What Python reads and others refuse stays only if nothing else is wrong.
    let is_read = *found.content == *bytes || serde_json::from_slice::<serde::de::IgnoredAny>(&found.content).is_ok();
    if !is_sound(&found.content) || !is_read {
        return Err(format!("it is not sound: {}", String::from_utf8_lossy(&found.content)));
    }
    if !empty.starts_with(b"null") && kind(&found.content) != kind(empty) {
        return Err(format!("it is of another kind: {}", String::from_utf8_lossy(&found.content)));
    }
    let again = salvage(&found.content, empty);
    if again.content != found.content || !again.is_lossless || (found.kept > 0 && again.kept != found.kept) {
        return Err(format!("a second time it is different: {found:?} {again:?}"));
    }
    if found.is_lossless != found.lost.is_empty() || found.lost.len() > account::LOSSES_MAX {
        return Err(format!("the account is wrong: {found:?}"));
    }
    if found.lost.iter().any(|loss| loss.offset + loss.len > bytes.len() || loss.what.is_empty()) {
        return Err(format!("the account leaves the file: {found:?}"));
    }
    Ok(found)
}

/// Every record of a sound text, as it is written.
pub(super) fn records(text: &[u8]) -> Vec<&[u8]> {
    let open = scan::space(text, 0);
    match text.get(open) {
        Some(b'[') => elements(text, open),
        Some(b'{') => scan::members(text, open)
            .flat_map(|member| match text[member.value] {
                b'[' => elements(text, member.value),
                b'{' => scan::members(text, member.value).map(|inner| &text[inner.start..inner.end]).collect(),
                _ => vec![&text[member.start..member.end]],
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn elements(text: &[u8], open: usize) -> Vec<&[u8]> {
    let (mut found, mut at) = (Vec::new(), scan::space(text, open + 1));
    while text[at] != b']' {
        let end = scan::value(text, at, Rigour::Strict).expect("it is sound");
        found.push(&text[at..end]);
        at = scan::space(text, end);
        at = if text[at] == b',' { scan::space(text, at + 1) } else { at };
    }
    found
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c\"\\\\{}\\[\\],:\u{e9}\n ]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-d\"]{1,2}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// WSP-2: whatever bytes a file holds, nothing panics and what comes out is sound.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), empty in prop::sample::select(&EMPTIES[..])) {
        prop_assert_eq!(holds(&bytes, empty.as_bytes()).err(), None);
    }

    /// WSP-2: the same for what looks like JSON; every record that is kept stood in the text.
    #[test]
    fn any_brackets(
        text in "([{}\\[\\]\":, 0-9ab\\\\\n\u{0}]|\"a\":|\"b\":|\\{\"a\":|\\[1,|\"x\"|null|NaN){0,40}",
        empty in prop::sample::select(&EMPTIES[..]),
    ) {
        let found = holds(text.as_bytes(), empty.as_bytes());
        prop_assert_eq!(found.as_ref().err(), None);
        let found = found.expect("it holds");
        if is_json(text.as_bytes()) || found.is_lossless {
            return Ok(());
        }
        for record in records(&found.content) {
            let is_there = text.as_bytes().windows(record.len()).any(|window| window == record);
            prop_assert!(is_there, "{} is not in {text}", String::from_utf8_lossy(record));
        }
    }

    /// WSP-2: content that is sound comes back as it is, and soundness is what the parser says.
    #[test]
    fn sound_is_kept(value in json(), is_wide in any::<bool>()) {
        let text = if is_wide { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.expect("it is JSON");
        prop_assert!(is_sound(text.as_bytes()));
        let empty = match &value { Value::Array(_) => "[]", Value::Object(_) => "{}", _ => "null" };
        for empty in [empty, "null"] {
            let found = salvage(text.as_bytes(), empty.as_bytes());
            prop_assert_eq!(&*found.content, text.as_bytes());
            prop_assert!(found.is_lossless && found.lost.is_empty());
        }
    }

    /// WSP-2: the parser agrees on what is JSON; it does not look at UTF-8 in what it skips, and knows no repeated keys.
    #[test]
    fn soundness_is_the_parsers(text in "[{}\\[\\]\":,\\-+.eE019 tru\\\\n]{0,12}") {
        let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(is_json(text.as_bytes()), parsed, "{}", text);
    }

    /// WSP-2: cut off anywhere, no more comes out than was there, and nothing else.
    #[test]
    fn cut_off(value in json(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::to_string(&value).expect("it is JSON");
        let cut = cut.index(text.len() + 1);
        let empty = if value.is_array() { "[]" } else { "{}" };
        let found = holds(&text.as_bytes()[..cut], empty.as_bytes());
        prop_assert_eq!(found.as_ref().err(), None);
        let found = found.expect("it holds");
        let mut known = records(text.as_bytes());
        for record in records(&found.content) {
            let place = known.iter().position(|one| *one == record);
            prop_assert!(place.is_some(), "{} of {text}", String::from_utf8_lossy(record));
            known.remove(place.expect("it is there"));
        }
    }
}
