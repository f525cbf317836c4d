//! The settings of healing for people, in the shape of the file.
//!
//! **Invariant:** what the operator's default files hold is not among it.

use serde_json::{Map, Value, json};

use super::super::show::span;
use crate::workspace::Settings;
use crate::workspace::layout::{FileSpec, RelPath, Role};

/// What is in force.
pub(in super::super) fn shown(settings: &Settings) -> Value {
    let layout = &settings.layout;
    let mut shown = json!({
        "enabled": settings.enabled,
        "every": span(settings.every),
        "lock_patterns": layout.locks.written,
        "lock_age": span(layout.lock_age),
        "heartbeat_patterns": layout.heartbeats.written,
        "heartbeat_age": span(layout.heartbeat_age),
        "json_patterns": layout.json.written,
        "directories": layout.directories.iter().map(RelPath::as_str).collect::<Vec<_>>(),
        "files": layout.files.iter().map(|spec| (spec.path.to_string(), file(spec))).collect::<Map<_, _>>(),
        "backups": {
            "keep": span(settings.retention.keep),
            "max_bytes": settings.retention.bytes_max,
            "healings": settings.retention.healings_max,
        },
        "quiet": span(settings.quiet),
        "file_max": settings.file_max,
    });
    if let Some(bot) = &layout.bot {
        shown["bot"] = json!({"match": bot.command, "grace": span(bot.grace)});
    }
    if let Some(slot) = &settings.slot {
        shown["slot"] = json!({"path": slot.path, "manifest": slot.manifest});
    }
    shown
}

fn file(spec: &FileSpec) -> Value {
    let mut shown = json!({"enabled": true, "role": spec.role.as_str(), "required": spec.required});
    // Of a configuration file it may be the operator's own, with secrets in it.
    if let Some(value) = spec.empty.as_deref().filter(|_| spec.role != Role::Config).and_then(parsed) {
        shown["empty"] = value;
    }
    let keys = spec.keys.iter().map(|(key, text)| (key.clone(), parsed(text.as_bytes()).unwrap_or_default()));
    let keys: Map<_, _> = keys.collect();
    if !keys.is_empty() {
        shown["keys"] = Value::Object(keys);
    }
    shown
}

fn parsed(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}
