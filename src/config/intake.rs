//! What every part of the loader shares: where problems and warnings go, and the rules that several keys obey.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::tree::{FromNode, Position, Problems, Section, did_you_mean, shorten};
use crate::model::{Level, Name, Problem, Severity};

/// Why a text is refused: the rule, and a hint.
pub(super) type Refusal = (String, Option<String>);

/// One load under way.
pub(super) struct Intake<'a> {
    /// The file as it was named; empty without one.
    pub(super) file: &'a str,
    /// Mistakes in the file.
    pub(super) problems: &'a Problems,
    /// Mistakes in the flags.
    pub(super) flags: &'a Problems,
    /// Mistakes in files that the file names.
    pub(super) elsewhere: RefCell<Vec<Problem>>,
    /// Relative paths of the file are below it; absolute.
    pub(super) folder: PathBuf,
    /// What works, but probably not as meant.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl Intake<'_> {
    /// Tells of something that works, but probably not as meant.
    pub(super) fn warn(&self, at: Position, path: &str, text: &str) {
        let place = self.place(at, path);
        let warning = if place.is_empty() { text.to_owned() } else { format!("{place}: {text}") };
        self.warnings.borrow_mut().push(warning);
    }

    /// `chiron.yml:12:5: bindings[0]`; what is not known is left out.
    pub(super) fn place(&self, at: Position, path: &str) -> String {
        let mut place = self.file.to_owned();
        if !place.is_empty() && at.line > 0 {
            place.push_str(&format!(":{}:{}", at.line, at.column));
        }
        if !place.is_empty() && !path.is_empty() {
            place.push_str(": ");
        }
        place.push_str(path);
        place
    }

    /// The same, about a key of a section.
    pub(super) fn warn_key(&self, section: &mut Section<'_>, key: &'static str, text: &str) {
        let at = section.node(key).map_or(section.position(), |node| node.at);
        self.warn(at, &section.path_of(key), text);
    }

    /// A text that a flag or a key gives; the flag wins, but the key is checked all the same.
    pub(super) fn flag_or_key<T>(
        &self,
        section: &mut Section<'_>,
        key: &'static str,
        (flag, given): (&str, Option<&str>),
        convert: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let from_file = section.opt::<String>(key).and_then(|text| match convert(&text) {
            Ok(value) => Some(value),
            Err((rule, hint)) => {
                section.reject(key, &rule, hint);
                None
            }
        });
        let Some(text) = given else { return from_file };
        match convert(text) {
            Ok(value) => Some(value),
            Err((rule, hint)) => {
                self.flags.push(Position::default(), flag, &shorten(text), &rule, hint);
                None
            }
        }
    }
}

/// The value of a key if it is there and obeys a rule, else `default`; a broken rule is a problem, as is another kind.
pub(super) fn checked<T: FromNode>(
    section: &mut Section<'_>,
    key: &'static str,
    default: T,
    rule: &str,
    obeys: impl Fn(&T) -> bool,
) -> T {
    let Some(node) = section.node(key) else { return default };
    let hint = match T::from_node(node) {
        Ok(value) if obeys(&value) => return value,
        Ok(_) => None,
        Err(hint) => hint,
    };
    section.reject(key, rule, hint);
    default
}

/// The shortest and longest duration where nothing narrower is asked for.
const SPAN_MIN: Duration = Duration::from_millis(100);
const SPAN_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A duration from 100 ms to 30 days.
pub(super) fn span(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    let rule = "expected a duration such as 30s, from 100ms to 30d";
    checked(section, key, default, rule, |value| (SPAN_MIN..=SPAN_MAX).contains(value))
}

/// A duration from nothing to 30 days.
pub(super) fn pause(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    checked(section, key, default, "expected a duration such as 30s, at most 30d", |value| *value <= SPAN_MAX)
}

/// A whole number of at least 1 and at most a million.
pub(super) fn count(section: &mut Section<'_>, key: &'static str, default: u32) -> u32 {
    checked(section, key, default, "expected a whole number from 1 to 1000000", |value| (1..=1_000_000).contains(value))
}

/// A level by its name.
pub(super) fn level(section: &mut Section<'_>, key: &'static str) -> Option<Level> {
    section.word(key, &Level::ALL.map(|level| (level.as_str(), level)))
}

/// A level for blindness, which never closes positions and so never goes beyond `no_new_trades` (POL-4).
pub(super) fn blindness_level(section: &mut Section<'_>, key: &'static str) -> Level {
    let level = level(section, key).unwrap_or(Level::NoNewTrades);
    if level > Level::NoNewTrades {
        let hint = Some("blindness never closes positions".to_owned());
        section.reject(key, "expected `no_new_trades` or a milder level", hint);
    }
    level.min(Level::NoNewTrades)
}

/// A severity by its name.
pub(super) fn severity(section: &mut Section<'_>, key: &'static str) -> Option<Severity> {
    section.word(key, &Severity::ALL.map(|severity| (severity.as_str(), severity)))
}

/// A name such as `order_router`.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The rule of [`is_name`].
pub(super) const NAME_RULE: &str = "expected a name of at most 63 characters in snake_case, such as `order_router`";

/// An issue type, whatever it is called.
pub(super) fn kind(section: &mut Section<'_>, key: &'static str) -> Option<Name> {
    let text = section.opt::<String>(key)?;
    if is_name(&text) {
        return Some(text.into());
    }
    section.reject(key, NAME_RULE, None);
    None
}

/// A known action.
pub(super) fn action(section: &mut Section<'_>, key: &'static str) -> Option<Name> {
    let text = section.opt::<String>(key)?;
    if let Err((rule, hint)) = known_action(&text) {
        section.reject(key, &rule, hint);
        return None;
    }
    Some(text.into())
}

/// Whether `text` names an action.
pub(super) fn known_action(text: &str) -> Result<(), Refusal> {
    if crate::execute::actions::action(text).is_some() {
        return Ok(());
    }
    let mut names = crate::execute::actions::ACTIONS.map(|spec| spec.name);
    names.sort_unstable();
    let hint = did_you_mean(text, &names).unwrap_or_else(|| format!("known actions: {}", names.join(", ")));
    Err(("expected a known action".to_owned(), Some(hint)))
}

/// `path` below `base`, unless it is absolute; without `.` in it.
pub(super) fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path).components().collect()
}

/// An address with scheme http or https and a host, without the slash at its end.
pub(super) fn address(text: &str) -> Result<String, Refusal> {
    let refusal = |hint: Option<String>| ("expected an address such as http://127.0.0.1:9093".to_owned(), hint);
    let Ok(url) = reqwest::Url::parse(text) else {
        let hint = (!text.contains("://")).then(|| format!("write http://{}", shorten(text)));
        return Err(refusal(hint));
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        let hint = (!text.contains("://")).then(|| format!("write http://{}", shorten(text)));
        return Err(refusal(hint));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refusal(Some("without `?` and `#`".to_owned())));
    }
    Ok(text.trim_end_matches('/').to_owned())
}
