//! Secrets that this process knows, and their removal from whatever is about to be shown (SEC-3).
//!
//! The settings loader tells every secret it reads; the log, outputs of commands and details of checks pass through
//! [`text`]. It is the second line: the first is that secrets are kept in types that do not show them.
//!
//! **Invariant:** what was remembered once is removed for the life of the process, also after a reload that drops it: the
//! old one may still be in an answer under way.

use std::borrow::Cow;
use std::sync::{LazyLock, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use arc_swap::ArcSwapOption;
use serde_json::Value;

/// What stands in its place.
pub const REDACTED: &str = "<redacted>";
/// Shorter texts would be found everywhere and hide what an operator must read.
const SECRET_MIN: usize = 8;
/// A bound for a process that is reloaded for years with ever new secrets.
const SECRETS_MAX: usize = 1_000;

static KNOWN: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
static FINDER: ArcSwapOption<AhoCorasick> = ArcSwapOption::const_empty();

/// Removes this text from everything that is shown from now on. Texts shorter than 8 bytes are not remembered.
pub fn remember(secret: &str) {
    let secret = secret.trim();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if secret.len() < SECRET_MIN || known.len() >= SECRETS_MAX || known.iter().any(|one| one == secret) {
        return;
    }
    known.push(secret.to_owned());
    // The longest first, so that a secret that contains another goes whole.
    let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(known.iter());
    if let Ok(finder) = built {
        FINDER.store(Some(std::sync::Arc::new(finder)));
    }
}

/// The text without any secret that is known.
pub fn text(shown: &str) -> Cow<'_, str> {
    let finder = FINDER.load();
    match finder.as_deref() {
        Some(finder) if finder.is_match(shown) => {
            let mut out = String::with_capacity(shown.len());
            finder.replace_all_with(shown, &mut out, |_, _, out| {
                out.push_str(REDACTED);
                true
            });
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(shown),
    }
}

/// The same in place.
pub fn string(shown: &mut String) {
    if let Cow::Owned(clean) = text(shown) {
        *shown = clean;
    }
}

/// The same for every text of a JSON value, keys of objects aside.
pub fn value(shown: &mut Value) {
    match shown {
        Value::String(text) => string(text),
        Value::Array(items) => items.iter_mut().for_each(value),
        Value::Object(keys) => keys.values_mut().for_each(value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// SEC-3: what is known is removed, wherever it stands, and nothing else is.
    #[test]
    fn secrets_are_removed() {
        for secret in ["redact-test-alpha", " redact-test-alpha-and-more\n", "short"] {
            remember(secret);
        }
        assert_eq!(text("nothing here"), "nothing here");
        assert_eq!(text("a short word stays"), "a short word stays");
        assert_eq!(text("x=redact-test-alpha."), "x=<redacted>.");
        assert_eq!(text("redact-test-alpha-and-more redact-test-alpha"), "<redacted> <redacted>");
        let mut shown = json!({"a": ["Bearer redact-test-alpha", 1], "b": {"c": "redact-test-alpha"}});
        value(&mut shown);
        assert_eq!(shown, json!({"a": ["Bearer <redacted>", 1], "b": {"c": "<redacted>"}}));
    }
}
