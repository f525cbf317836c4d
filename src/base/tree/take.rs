//! What each plain type takes from a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{FromNode, Node, Problems, Value};

impl FromNode for String {
    const EXPECTED: &'static str = "a text";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::Scalar { text, .. } => Ok(text.clone()),
            _ => Err(None),
        }
    }
}

impl FromNode for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::Scalar { text, .. } if !text.is_empty() => Ok(Self::from(text)),
            _ => Err(None),
        }
    }
}

impl FromNode for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Scalar { text, quoted } = &node.value else { return Err(None) };
        let meant = match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => true,
            "false" | "no" | "off" | "n" | "0" => false,
            _ => return Err(None),
        };
        if !quoted && matches!(text.as_str(), "true" | "false") {
            Ok(meant)
        } else {
            Err(Some(format!("write {meant}")))
        }
    }
}

/// A plain number, or the hint to remove its quotes.
fn number<T: std::str::FromStr>(node: &Node) -> Result<T, Option<String>> {
    let Value::Scalar { text, quoted } = &node.value else { return Err(None) };
    let value = text.parse::<T>().map_err(|_| None)?;
    if *quoted { Err(Some("remove the quotes".to_owned())) } else { Ok(value) }
}

macro_rules! whole_numbers {
    ($($kind:ty => $expected:literal),* $(,)?) => {$(
        impl FromNode for $kind {
            const EXPECTED: &'static str = $expected;

            fn from_node(node: &Node) -> Result<Self, Option<String>> {
                number(node)
            }
        }
    )*};
}

whole_numbers! {
    u16 => "a whole number from 0 to 65535",
    u32 => "a whole number from 0 to 4294967295",
    u64 => "a whole number from 0 to 18446744073709551615",
    usize => "a whole number from 0 to 18446744073709551615",
}

impl FromNode for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let value: Self = number(node)?;
        if value.is_finite() { Ok(value) } else { Err(None) }
    }
}

impl FromNode for Duration {
    const EXPECTED: &'static str = "a duration such as 30s, 5m or 1h30m";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Scalar { text, .. } = &node.value else { return Err(None) };
        duration(text).ok_or_else(|| match text.parse::<u64>() {
            Ok(number) => Some(format!("write {number}s")),
            Err(_) => None,
        })
    }
}

impl FromNode for SocketAddr {
    const EXPECTED: &'static str = "an address and a port such as 127.0.0.1:19913";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Scalar { text, .. } = &node.value else { return Err(None) };
        text.parse().map_err(|_| {
            let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
            let port: u16 = port.parse().ok()?;
            let host = if text.starts_with(':') { "0.0.0.0" } else { "127.0.0.1" };
            Some(format!("write {host}:{port}"))
        })
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::List(items) => items.iter().map(T::from_node).collect(),
            Value::Scalar { .. } => Err(Some(format!("write [{}]", node.shown()))),
            _ => Err(None),
        }
    }

    fn take(node: &Node, path: &str, problems: &Problems) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let hint = Self::from_node(node).err().flatten();
            problems.push(node.at, path, &node.shown(), "expected a list", hint);
            return None;
        };
        let taken: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| T::take(item, &format!("{path}[{index}]"), problems))
            .collect();
        taken.into_iter().collect()
    }
}

impl FromNode for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a mapping of names to texts";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Map(entries) = &node.value else { return Err(None) };
        entries.iter().map(|(key, _, value)| Ok((key.clone(), String::from_node(value)?))).collect()
    }

    fn take(node: &Node, path: &str, problems: &Problems) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            problems.push(node.at, path, &node.shown(), &format!("expected {}", Self::EXPECTED), None);
            return None;
        };
        let taken: Vec<Option<(String, String)>> = entries
            .iter()
            .map(|(key, _, value)| Some((key.clone(), String::take(value, &format!("{path}.{key}"), problems)?)))
            .collect();
        taken.into_iter().collect()
    }
}

/// Units in milliseconds, greatest first.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// 100 years: beyond it a duration is a slip, and sums with dates could overflow.
const DURATION_MAX: u64 = 36_500 * 86_400_000;

/// See [`super::parse_duration`].
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let index = units.iter().position(|(unit, _)| *unit == &rest[..letters])?;
        millis = millis.checked_add(number.checked_mul(units[index].1)?).filter(|sum| *sum <= DURATION_MAX)?;
        units = &units[index + 1..];
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}
