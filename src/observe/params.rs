//! How checks take their parameters out of a settings section.
//!
//! **Invariant:** every mistake goes to the section's problems, and taking goes on, so that all come at once.

use std::path::PathBuf;
use std::time::Duration;

use super::age::{AgeLimits, Missing};
use super::check::BuildContext;
use crate::base::tree::{FromNode, Node, Section, Value, parse_duration};

/// Any scalar as text.
struct Text(String);

impl FromNode for Text {
    const EXPECTED: &'static str = "a text";
    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        scalar(node).map(|text| Self(text.to_owned())).ok_or(None)
    }
}

/// A finite number.
struct Number(f64);

impl FromNode for Number {
    const EXPECTED: &'static str = "a number";
    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let number = scalar(node).and_then(|text| text.parse::<f64>().ok());
        number.filter(|number| number.is_finite()).map(Self).ok_or(None)
    }
}

/// A whole number.
struct Whole(u64);

impl FromNode for Whole {
    const EXPECTED: &'static str = "a whole number, 0 or more";
    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        scalar(node).and_then(|text| text.parse().ok()).map(Self).ok_or(None)
    }
}

/// A duration.
struct Span(Duration);

impl FromNode for Span {
    const EXPECTED: &'static str = "a duration such as 30s or 5m";
    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let text = scalar(node).ok_or(None)?;
        match parse_duration(text) {
            Some(duration) => Ok(Self(duration)),
            None if text.parse::<f64>().is_ok() => Err(Some(format!("give a unit: {text}s"))),
            None => Err(None),
        }
    }
}

/// The text of a scalar node.
pub fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// An optional text.
pub fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.opt::<Text>(key).map(|text| text.0)
}

/// A text that must be there and not be empty.
pub fn required_text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.req::<Text>(key)?.0;
    if text.is_empty() {
        section.reject(key, "expected a text that is not empty", None);
        return None;
    }
    Some(text)
}

/// An optional number.
pub fn number(section: &mut Section<'_>, key: &'static str) -> Option<f64> {
    section.opt::<Number>(key).map(|number| number.0)
}

/// An optional whole number.
pub fn whole(section: &mut Section<'_>, key: &'static str) -> Option<u64> {
    section.opt::<Whole>(key).map(|whole| whole.0)
}

/// An optional duration, not zero.
pub fn span(section: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let span = section.opt::<Span>(key)?.0;
    if span.is_zero() {
        section.reject(key, "expected more than zero", None);
        return None;
    }
    Some(span)
}

/// A path that must be there; a relative one is below the workspace.
pub fn path(section: &mut Section<'_>, key: &'static str, context: &BuildContext) -> Option<PathBuf> {
    required_text(section, key).map(|text| context.workspace.join(text))
}

/// The path of a file with a secret or certificates; a relative one is below the folder of the settings file.
pub fn secret_path(section: &mut Section<'_>, key: &'static str, context: &BuildContext) -> Option<PathBuf> {
    text(section, key).map(|text| context.folder.join(text))
}

/// The same, which must be there.
pub fn required_secret_path(section: &mut Section<'_>, key: &'static str, context: &BuildContext) -> Option<PathBuf> {
    required_text(section, key).map(|text| context.folder.join(text))
}

/// A list of texts; absent is empty. A single text counts as a list of one.
pub fn texts(section: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let Some(node) = section.node(key) else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let taken: Vec<String> = items.iter().filter_map(|item| scalar(item).map(str::to_owned)).collect();
    if taken.len() != items.len() {
        section.reject(key, "expected a list of texts", None);
    }
    taken
}

/// `missing`: the grade of a file that is not there.
pub fn missing(section: &mut Section<'_>) -> Missing {
    let words = [("unknown", Missing::Unknown), ("degraded", Missing::Degraded), ("critical", Missing::Critical)];
    section.word("missing", &words).unwrap_or(Missing::Unknown)
}

/// `degraded_after` and `critical_after`, checked against each other.
pub fn age_limits(section: &mut Section<'_>, defaults: AgeLimits) -> AgeLimits {
    let limits = AgeLimits {
        degraded_after: span(section, "degraded_after").or(defaults.degraded_after),
        critical_after: span(section, "critical_after").or(defaults.critical_after),
    };
    if let (Some(degraded), Some(critical)) = (limits.degraded_after, limits.critical_after)
        && critical < degraded
    {
        let rule = format!("expected at least degraded_after, which is {}s", degraded.as_secs_f64());
        section.reject("critical_after", &rule, None);
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tree::Position;

    fn node(text: &str) -> Node {
        Node { value: Value::Scalar { text: text.to_owned(), quoted: false }, at: Position::default() }
    }

    #[test]
    fn numbers_are_finite_and_whole_ones_whole() {
        for (text, finite, whole) in
            [("1", true, true), ("1.5", true, false), ("-1", true, false), ("NaN", false, false), ("x", false, false)]
        {
            assert_eq!(Number::from_node(&node(text)).is_ok(), finite, "{text}");
            assert_eq!(Whole::from_node(&node(text)).is_ok(), whole, "{text}");
        }
        assert!(Text::from_node(&Node { value: Value::Null, at: Position::default() }).is_err());
    }
}
