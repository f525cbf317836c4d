//! Secrets that this process knows, and their removal from whatever is about to be shown (SEC-3).
//!
//! The settings loader tells every secret it reads; the log, outputs of commands and details of checks pass through
//! [`text`]. It is the second line: the first is that secrets are kept in types that do not show them.
//!
//! **Invariant:** what was remembered once is removed for the life of the process, also after a reload that drops it: the
//! old one may still be in an answer under way. Of more than [`SECRETS_MAX`] those that were used last are kept.

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
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if !keep(&mut known, secret.trim(), SECRETS_MAX) {
        return;
    }
    // The longest first, so that a secret that contains another goes whole.
    let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(known.iter());
    if let Ok(finder) = built {
        FINDER.store(Some(std::sync::Arc::new(finder)));
    }
}

/// Puts a secret last; answers whether it is a new one. The first goes if there are too many.
fn keep(known: &mut Vec<String>, secret: &str, max: usize) -> bool {
    if secret.len() < SECRET_MIN {
        return false;
    }
    if let Some(at) = known.iter().position(|one| one == secret) {
        known[at..].rotate_left(1);
        return false;
    }
    if known.len() >= max {
        known.remove(0);
    }
    known.push(secret.to_owned());
    true
}

/// A text of another program on one line, at most `max` characters of it, without secrets that are known and without the
/// credentials of an address. What is cut off is cut last, so that no half of a secret is left.
pub fn line(shown: &str, max: usize) -> String {
    let clean = super::tree::redact(&text(shown));
    let mut chars = clean.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
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

/// What [`text`] makes of what begins at byte `start`. A secret that begins before it goes as a whole. `start` is on the
/// boundary of a character.
pub fn from(shown: &str, start: usize) -> String {
    let finder = FINDER.load();
    let mut out = String::with_capacity(shown.len().saturating_sub(start));
    let mut at = start;
    for found in finder.iter().flat_map(|finder| finder.find_iter(shown)).filter(|found| found.end() > start) {
        out.push_str(shown.get(at..found.start()).unwrap_or_default());
        out.push_str(REDACTED);
        at = found.end();
    }
    out.push_str(&shown[at..]);
    out
}

/// Parts of the names of arguments whose values are secrets.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "credential",
    "authorization",
    "cookie",
];
/// The same as whole words of a name.
const SECRET_WORDS: [&str; 2] = ["pass", "pwd"];

/// Whether a name, of a key or an argument, is that of a secret and not that of its file.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '.'], "_");
    let names_a_file = ["_file", "_files", "_path", "_dir"].iter().any(|ending| name.ends_with(ending));
    let is_word = || name.split('_').any(|word| SECRET_WORDS.contains(&word));
    !names_a_file && (SECRET_NAMES.iter().any(|part| name.contains(part)) || is_word())
}

/// A command line as it may be shown: `--token=X`, `--token X`, `password:X` and `-u user:X` lose X, however short; addresses
/// lose their login and query.
pub fn arguments(words: &[String]) -> Vec<String> {
    split(words).into_iter().map(|(shown, _)| shown).collect()
}

/// The secrets that [`arguments`] leaves out, to be [`remember`]ed.
pub fn secrets(words: &[String]) -> Vec<&str> {
    // `Bearer TOKEN`, `Basic ...`: the word before is none.
    let last = |secret: &'_ str| secret.rfind(' ').map_or(0, |at| at + 1);
    split(words).into_iter().filter_map(|(_, secret)| secret.map(|secret| &secret[last(secret)..])).collect()
}

/// What an argument says of the one after it.
enum Next {
    Any,
    Secret,
    Login,
}

/// Every word as it may be shown, and the secret that was in it.
fn split(words: &[String]) -> Vec<(String, Option<&str>)> {
    let mut next = Next::Any;
    let words = words.iter().map(|word| match std::mem::replace(&mut next, Next::Any) {
        Next::Secret => (REDACTED.to_owned(), Some(word.as_str())),
        Next::Login => login("", word),
        Next::Any if matches!(word.as_str(), "-u" | "--user" | "--proxy-user" | "-U") => {
            next = Next::Login;
            (word.clone(), None)
        }
        Next::Any => match word.split_once(['=', ':']) {
            Some((name, value)) if names_a_secret(name) => (format!("{}{REDACTED}", &word[..=name.len()]), Some(value)),
            Some(("--user" | "--proxy-user", _)) => login(&word[..=word.find('=').unwrap_or(0)], word),
            Some((name, _)) if name.starts_with("-u") && name.len() > 2 && !word.contains("=") => login("-u", word),
            None if word.starts_with('-') && names_a_secret(word) => {
                next = Next::Secret;
                (word.clone(), None)
            }
            _ => address(word),
        },
    });
    words.collect()
}

/// `user:password` after `before`, without the password.
fn login<'a>(before: &str, word: &'a str) -> (String, Option<&'a str>) {
    let rest = word.strip_prefix(before).unwrap_or(word);
    match rest.split_once(':') {
        Some((user, password)) if !user.contains('/') => (format!("{before}{user}:{REDACTED}"), Some(password)),
        _ => address(word),
    }
}

/// A text without the login and the query of an address in it; the secret is the login's password.
fn address(word: &str) -> (String, Option<&str>) {
    let login = word.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next()?.rsplit_once('@'));
    let password = login.and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password);
    let shown = super::tree::redact(word);
    match (shown.contains("://"), shown.split_once('?')) {
        (true, Some((before, _))) => (format!("{before}?{REDACTED}"), password),
        _ => (shown, password),
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

    /// SEC-3: a secret that begins before the cut is removed as a whole, and what is before the cut stays away.
    #[test]
    fn a_cut_tears_no_secret() {
        remember("redact-test-omega");
        let shown = "ab redact-test-omega cd redact-test-omega";
        for (start, expected) in [
            (0, "ab <redacted> cd <redacted>"),
            (3, "<redacted> cd <redacted>"),
            (8, "<redacted> cd <redacted>"),
            (20, " cd <redacted>"),
            (shown.len(), ""),
        ] {
            assert_eq!(from(shown, start), expected, "{start}");
        }
    }

    /// SEC-3: a text of a peer is one line of bounded length, and its end tears neither a secret nor a login.
    #[test]
    fn a_line_tears_no_secret() {
        remember("redact-test-sigma");
        for (given, max, expected) in [
            (" a\nb\u{0}c ", 10, "a b c"),
            ("12345678", 4, "1234..."),
            ("key redact-test-sigma", 8, "key <red..."),
            ("key redact-test-sigma", 99, "key <redacted>"),
            ("http://u:canary@host/x", 16, "http://***@host/..."),
            ("http://u:canary", 12, "http://u:can..."),
        ] {
            assert_eq!(line(given, max), expected, "{given:?}");
        }
        assert_eq!(line(&"x://".repeat(1_000_000), 8), "x://x://...");
    }

    /// SEC-3: with too many secrets the one that was not used for the longest time goes, never the new one.
    #[test]
    fn the_latest_secrets_are_kept() {
        let mut known = Vec::new();
        for (secret, is_new) in
            [("secret-a", true), ("secret-b", true), ("secret-a", false), ("secret-c", true), ("short", false)]
        {
            assert_eq!(keep(&mut known, secret, 2), is_new, "{secret}");
        }
        assert_eq!(known, ["secret-a", "secret-c"]);
    }

    /// SEC-3: what may be a secret in a command line is not shown, however short it is.
    #[test]
    fn arguments_lose_their_secrets() {
        for (given, shown, secret) in [
            ("--password=x", "--password=<redacted>", "x"),
            ("--token x", "--token <redacted>", "x"),
            ("--api-key -x", "--api-key <redacted>", "-x"),
            ("--db.pass x", "--db.pass <redacted>", "x"),
            ("PASSWORD:x", "PASSWORD:<redacted>", "x"),
            ("-H Authorization:x", "-H Authorization:<redacted>", "x"),
            ("-u bot:x", "-u bot:<redacted>", "x"),
            ("-ubot:x", "-ubot:<redacted>", "x"),
            ("--user=bot:x", "--user=bot:<redacted>", "x"),
            ("--user bot:x", "--user bot:<redacted>", "x"),
            ("http://u:x@h/p", "http://***@h/p", "x"),
            ("http://h/p?k=x", "http://h/p?<redacted>", ""),
            ("-u bot", "-u bot", ""),
            ("--token-file /run/token", "--token-file /run/token", ""),
            ("--token-file=/run/token", "--token-file=/run/token", ""),
            ("--compass north --unit=a:b x=y", "--compass north --unit=a:b x=y", ""),
            ("--token", "--token", ""),
        ] {
            let words: Vec<String> = given.split(' ').map(str::to_owned).collect();
            assert_eq!(arguments(&words).join(" "), shown);
            assert_eq!(secrets(&words).join(" "), secret, "{given}");
        }
        assert_eq!(secrets(&["Authorization: Bearer abc".to_owned()]), ["abc"]);
    }
}
