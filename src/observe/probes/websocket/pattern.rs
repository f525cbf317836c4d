//! Which messages are meant: by a text in them, or by values of the JSON that they are.
//!
//! **Invariant:** pure; a message of more than [`LOOK_MAX`] bytes is never parsed and matches nothing.

use serde_json::Value;

/// Longest message that is looked into. Heartbeats, answers and pongs are far shorter.
pub const LOOK_MAX: usize = 64 * 1024;

/// One way for a message to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// It contains this text.
    Contains(String),
    /// It is JSON, and at every one of these pointers stands this value.
    Fields(Vec<(String, String)>),
}

/// A message matches if one of these does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(pub Vec<Pattern>);

/// A message, parsed at most once.
#[derive(Debug)]
pub struct Looked<'a> {
    text: &'a str,
    parsed: Option<Option<Value>>,
}

impl<'a> Looked<'a> {
    /// Not looked into yet.
    pub fn new(text: &'a str) -> Self {
        Self { text, parsed: None }
    }

    /// The message.
    pub fn text(&self) -> &'a str {
        self.text
    }

    fn value(&mut self) -> Option<&Value> {
        let text = self.text;
        self.parsed.get_or_insert_with(|| serde_json::from_str(text).ok()).as_ref()
    }
}

impl Patterns {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches.
    pub fn match_message(&self, message: &mut Looked<'_>) -> bool {
        message.text.len() <= LOOK_MAX && self.0.iter().any(|pattern| pattern.matches(message))
    }
}

impl Pattern {
    fn matches(&self, message: &mut Looked<'_>) -> bool {
        match self {
            Self::Contains(text) => message.text.contains(text.as_str()),
            Self::Fields(fields) => {
                // A word that is nowhere in the text is not at its place either; finding that out costs next to nothing.
                let text = message.text;
                let may = fields.iter().all(|(_, value)| !is_word(value) || text.contains(value.as_str()));
                may && message.value().is_some_and(|message| {
                    fields.iter().all(|(pointer, value)| message.pointer(pointer).is_some_and(|at| is(at, value)))
                })
            }
        }
    }
}

/// Whether JSON writes it as it is.
fn is_word(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    value.bytes().all(plain)
}

fn is(found: &Value, expected: &str) -> bool {
    match found {
        Value::String(text) => text == expected,
        Value::Number(number) => number.to_string() == expected,
        Value::Bool(flag) => expected == if *flag { "true" } else { "false" },
        Value::Null => expected == "null",
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXC-1: texts and values at pointers, in objects and lists; what is no JSON or too long matches no value.
    #[test]
    fn both_sides_of_each_pattern() {
        let fields = |fields: &[(&str, &str)]| {
            let own = fields.iter().map(|(pointer, value)| ((*pointer).to_owned(), (*value).to_owned()));
            Pattern::Fields(own.collect())
        };
        let heartbeat = fields(&[("/channel", "heartbeat")]);
        let accepted = fields(&[("/method", "auth"), ("/success", "true")]);
        let listed = fields(&[("/1", "hb")]);
        let coded = fields(&[("/code", "0")]);
        for (pattern, message, matches) in [
            (&heartbeat, r#"{"channel":"heartbeat"}"#, true),
            (&heartbeat, r#"{"channel":"trade","note":"heartbeat"}"#, false),
            (&heartbeat, r#"{"channel":"heartbeat""#, false),
            (&heartbeat, "heartbeat", false),
            (&accepted, r#"{"method":"auth","success":true}"#, true),
            (&accepted, r#"{"method":"auth","success":false}"#, false),
            (&accepted, r#"{"method":"auth"}"#, false),
            (&listed, r#"[17,"hb"]"#, true),
            (&listed, r#"[17,[1,2]]"#, false),
            (&coded, r#"{"code":0}"#, true),
            (&coded, r#"{"code":"0"}"#, true),
            (&coded, r#"{"code":{}}"#, false),
            (&Pattern::Contains("pong".to_owned()), "a pong it is", true),
            (&Pattern::Contains("pong".to_owned()), "a ping it is", false),
        ] {
            let patterns = Patterns(vec![Pattern::Contains("never".to_owned()), pattern.clone()]);
            assert_eq!(patterns.match_message(&mut Looked::new(message)), matches, "{pattern:?} {message}");
        }
        let long = format!("pong{}", " ".repeat(LOOK_MAX));
        let pong = Patterns(vec![Pattern::Contains("pong".to_owned())]);
        assert!(
            !pong.match_message(&mut Looked::new(&long)) && pong.match_message(&mut Looked::new(&long[..LOOK_MAX]))
        );
        assert!(!Patterns::default().match_message(&mut Looked::new("")));
    }

    /// EXC-1: JSON nested without end is refused, not followed.
    #[test]
    fn a_deep_message_matches_nothing() {
        let deep = "[".repeat(LOOK_MAX);
        let patterns = Patterns(vec![Pattern::Fields(vec![("/a".to_owned(), "1".to_owned())])]);
        assert!(!patterns.match_message(&mut Looked::new(&deep)));
    }
}
