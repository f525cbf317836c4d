//! What a file of the layout is given when it holds nothing: JSON, from the settings or from the operator's own file.
//!
//! **Invariant:** numbers keep every digit that was written; no record of money is ever among it.

use std::path::Path;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value as Json;

use super::raw::{Spot, bytes_of};
use crate::base::tree::{Node, Value};
use crate::workspace::layout::Role;

/// JSON that a file is given.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// As it is written into the file.
    pub(super) bytes: Arc<[u8]>,
    /// What it says.
    pub(super) value: Json,
    /// Where it was named.
    pub(super) spot: Spot,
    /// Whether it is the operator's own file, which nobody else may see.
    pub(super) from_file: bool,
}

impl Content {
    /// A structure as YAML, or a text that is JSON.
    pub(super) fn of_node(node: &Node, path: String) -> Result<Self, String> {
        // What stands there is not told: of a configuration file it may be a secret.
        let spot = Spot { at: node.at, path, found: String::new() };
        let text = match &node.value {
            Value::Scalar { text, .. } => text.clone(),
            _ => json_text(node) + "\n",
        };
        Self::new(text.into_bytes(), spot, false).map_err(|why| format!("expected a JSON structure, but {why}"))
    }

    /// What a file holds.
    pub(super) fn of_file(path: &Path, spot: Spot) -> Result<Self, String> {
        Self::new(bytes_of(path)?, spot, true)
    }

    fn new(bytes: Vec<u8>, spot: Spot, from_file: bool) -> Result<Self, String> {
        let value: Json = serde_json::from_slice(&bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        match &value {
            Json::Object(map) if map.is_empty() => {
                Err("a file that holds `{}` counts as empty: name at least one key".to_owned())
            }
            Json::Object(_) | Json::Array(_) => Ok(Self { bytes: bytes.into(), value, spot, from_file }),
            _ => Err("it is neither a mapping nor a list".to_owned()),
        }
    }

    /// The rule that it breaks as the content of such a file.
    pub(super) fn fault(&self, role: Role, keys: &[(String, String)], schema: Option<&Validator>) -> Option<String> {
        if role.holds_money() && has_records(&self.value) {
            return Some("expected lists without entries: no position or trade may be made up".to_owned());
        }
        if let Some((missing, _)) = keys.iter().find(|(key, _)| self.value.get(key).is_none()) {
            return Some(format!("expected `{missing}` in it, as `keys` has it"));
        }
        let error = schema?.validate(&self.value).err()?;
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "at the top".to_owned() } else { format!("at `{place}`") };
        // The text of an error may hold what is at fault, which may be a secret.
        Some(format!("expected what `schema` allows, but {place}: {}", error.masked()))
    }
}

/// Whether any list in it has an entry.
pub(super) fn has_records(value: &Json) -> bool {
    match value {
        Json::Array(list) => !list.is_empty(),
        Json::Object(map) => map.values().any(has_records),
        _ => false,
    }
}

/// A node as JSON text on one line.
pub(super) fn json_text(node: &Node) -> String {
    let quoted = |text: &str| Json::String(text.to_owned()).to_string();
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar { text, quoted: false } if matches!(text.as_str(), "true" | "false") => text.clone(),
        // The text itself, since a number that was parsed may have lost digits.
        Value::Scalar { text, quoted: false } if serde_json::from_str::<serde_json::Number>(text).is_ok() => {
            text.trim().to_owned()
        }
        Value::Scalar { text, .. } => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, _, value)| format!("{}: {}", quoted(key), json_text(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}
