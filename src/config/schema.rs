//! The JSON Schema of the settings file: `chiron config schema`.
//!
//! Kept by hand, and kept true by the tests below: the loader is asked which keys it takes.
//! **Invariant:** the loader never asks the schema anything but the defaults it shows.

use serde_json::{Map, Value};

/// JSON Schema 2020-12 of `chiron.yml`.
pub const SCHEMA: &str = include_str!("schema.json");

/// Every default that the schema names, outside of lists and of mappings by name.
pub(super) fn defaults() -> Value {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON, as a test shows");
    defaults_of(&schema, &schema).unwrap_or_default()
}

/// The default of `part`, which is a part of `schema`.
fn defaults_of(part: &Value, schema: &Value) -> Option<Value> {
    let part = resolved(part, schema);
    let Some(properties) = part["properties"].as_object() else { return part.get("default").cloned() };
    let mut found = Map::new();
    for (key, value) in properties {
        // A default beside a reference wins over the one of what is referred to.
        if let Some(default) = value.get("default").cloned().or_else(|| defaults_of(value, schema)) {
            found.insert(key.clone(), default);
        }
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// What `part` refers to, if it does.
fn resolved<'s>(part: &'s Value, schema: &'s Value) -> &'s Value {
    match part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => schema.pointer(pointer).unwrap_or(&Value::Null),
        None => part,
    }
}

#[cfg(test)]
mod tests;
