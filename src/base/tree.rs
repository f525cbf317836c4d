//! A settings file as a tree that knows where each value stands, and typed taking that gathers every mistake.
//!
//! Flow: YAML or JSON text -> [`parse`] -> [`Node`] -> [`Section`], from which each module takes its own keys.
//! **Invariant:** nothing here stops at the first mistake; all go into [`Problems`].

use std::cell::RefCell;
use std::time::Duration;

use crate::model::Problem;

#[cfg(test)]
pub(crate) mod asked;
mod parse;
mod take;
#[cfg(test)]
mod tests;

pub use parse::{SIZE_MAX, parse};

/// 1-based line and column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// 1-based.
    pub line: usize,
    /// 1-based.
    pub column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub at: Position,
}

impl Node {
    /// The value on one line, at most about 60 characters, without the credentials of an address; for messages.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        self.show(&mut text);
        shorten(&text)
    }

    fn show(&self, out: &mut String) {
        if out.chars().count() > FOUND_MAX {
            return;
        }
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Scalar { text, quoted: true } => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            Value::Scalar { text, quoted: false } => out.push_str(text),
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate().take(FOUND_MAX) {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.show(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (index, (key, _, value)) in entries.iter().enumerate().take(FOUND_MAX) {
                    out.push_str(if index == 0 { "" } else { ", " });
                    out.push_str(key);
                    out.push_str(": ");
                    value.show(out);
                }
                out.push('}');
            }
        }
    }
}

/// A YAML value; scalars keep their text, so that a taker decides what they mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A scalar; `quoted` ones are always strings.
    Scalar {
        /// The text.
        text: String,
        /// Whether it was quoted.
        quoted: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order: key, where the key stands, value.
    Map(Vec<(String, Position, Node)>),
}

/// Gathers the mistakes of one file.
#[derive(Debug)]
pub struct Problems {
    file: String,
    list: RefCell<Vec<Problem>>,
}

impl Problems {
    /// An empty list for `file`.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: RefCell::default() }
    }

    /// Adds one.
    pub fn push(&self, at: Position, path: &str, found: &str, rule: &str, hint: Option<String>) {
        self.list.borrow_mut().push(Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            found: found.to_owned(),
            rule: rule.to_owned(),
            hint,
        });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// [`did_you_mean`], unless there are so many problems already that nobody reads the suggestions; they cost time.
    pub fn suggest(&self, word: &str, candidates: &[&str]) -> Option<String> {
        if self.list.borrow().len() < SUGGESTIONS_MAX { did_you_mean(word, candidates) } else { None }
    }

    /// All of them, by position.
    pub fn into_vec(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| (problem.line, problem.column));
        list
    }
}

/// A value that can be taken from a [`Node`].
pub trait FromNode: Sized {
    /// What is expected, for the message: `a duration such as 30s`.
    const EXPECTED: &'static str;
    /// The value, or `Err` with a better hint if there is one.
    fn from_node(node: &Node) -> Result<Self, Option<String>>;

    /// The value, or `None` and a problem at the node. Collections report each of their items.
    fn take(node: &Node, path: &str, problems: &Problems) -> Option<Self> {
        match Self::from_node(node) {
            Ok(value) => Some(value),
            Err(hint) => {
                problems.push(node.at, path, &node.shown(), &format!("expected {}", Self::EXPECTED), hint);
                None
            }
        }
    }
}

/// A mapping being taken apart. Keys that nobody took are reported by [`Section::finish`], with a suggestion.
#[derive(Debug)]
pub struct Section<'a> {
    /// The dotted path of this mapping, empty at the top.
    path: String,
    at: Position,
    entries: &'a [(String, Position, Node)],
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// Opens a mapping; anything else is a problem (null counts as an empty mapping).
    pub fn open(node: &'a Node, path: &str, problems: &'a Problems) -> Option<Self> {
        let entries: &[_] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                problems.push(node.at, path, &node.shown(), "expected a mapping of keys to values", None);
                return None;
            }
        };
        Some(Self { path: path.to_owned(), at: node.at, entries, known: Vec::new(), problems })
    }

    /// The dotted path of a key of this mapping.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where problems go.
    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// Where this mapping begins.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Whether the key is there and not null; counts as taken.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// The node of a key, if it is there and not null; counts as taken.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        #[cfg(test)]
        asked::note(|| self.path_of(key));
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.find(key)
    }

    /// An optional value; a value of the wrong kind is a problem and gives `None`.
    pub fn opt<T: FromNode>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        T::take(node, &self.path_of(key), self.problems)
    }

    /// A value that must be there; its absence is a problem at the section's position.
    pub fn req<T: FromNode>(&mut self, key: &'static str) -> Option<T> {
        if self.has(key) {
            return self.opt(key);
        }
        self.reject(key, &format!("missing, expected {}", T::EXPECTED), None);
        None
    }

    /// A value with a default.
    pub fn or<T: FromNode>(&mut self, key: &'static str, default: T) -> T {
        self.opt(key).unwrap_or(default)
    }

    /// One of a fixed set of words; anything else is a problem that lists them and suggests the nearest.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.node(key)?;
        let found = match &node.value {
            Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == found) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let rule = format!("expected {}", one_of(&names));
        let hint = self.problems.suggest(found, &names);
        self.problems.push(node.at, &self.path_of(key), &node.shown(), &rule, hint);
        None
    }

    /// A nested mapping under a key; `None` also for null.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        Section::open(node, &self.path_of(key), self.problems)
    }

    /// The entries of a nested mapping whose keys are names, in order: name, its position, value.
    pub fn entries(&mut self, key: &'static str) -> &'a [(String, Position, Node)] {
        let Some(node) = self.node(key) else { return &[] };
        if let Value::Map(entries) = &node.value {
            return entries;
        }
        self.reject(key, "expected a mapping of names to settings", None);
        &[]
    }

    /// The items of a list under a key.
    pub fn list(&mut self, key: &'static str) -> &'a [Node] {
        let Some(node) = self.node(key) else { return &[] };
        if let Value::List(items) = &node.value {
            return items;
        }
        self.reject(key, "expected a list", None);
        &[]
    }

    /// Reports that the value of a key breaks a rule (`expected ...`); at the value's position, or the section's if it
    /// is absent.
    pub fn reject(&self, key: &str, rule: &str, hint: Option<String>) {
        let (at, found) = self.find(key).map_or((self.at, String::new()), |node| (node.at, node.shown()));
        self.problems.push(at, &self.path_of(key), &found, rule, hint);
    }

    /// Reports every key that nobody took, with the nearest known key as a hint.
    pub fn finish(self) {
        for (key, at, _) in self.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let hint = self.problems.suggest(key, &self.known).or_else(|| {
                let quoted: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
                (!quoted.is_empty()).then(|| format!("known here: {}", quoted.join(", ")))
            });
            self.problems.push(*at, &shorten(&self.path_of(key)), "", "unknown key", hint);
        }
    }

    fn find(&self, key: &str) -> Option<&'a Node> {
        let (_, _, node) = self.entries.iter().find(|(name, ..)| name == key)?;
        (node.value != Value::Null).then_some(node)
    }
}

/// The candidate that `word` was most likely meant to be, if any is near: few letters differ, or it is the beginning of
/// just one, or most of one with letters left out.
pub fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.len() > FOUND_MAX {
        return None;
    }
    let candidates = &candidates[..candidates.len().min(CANDIDATES_MAX)];
    let plain = word.to_lowercase().replace(['-', ' '], "_");
    let limit = (plain.chars().count() / 3).clamp(1, 4);
    let by_distance = candidates
        .iter()
        .filter(|candidate| candidate.len().abs_diff(plain.len()) <= limit)
        .map(|candidate| (strsim::osa_distance(&plain, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    by_distance.or_else(|| {
        let long_enough = plain.len() >= 4;
        let only = |test: &dyn Fn(&str) -> bool| {
            let mut fitting = candidates.iter().filter(|candidate| long_enough && test(candidate));
            fitting.next().filter(|_| fitting.next().is_none()).copied()
        };
        only(&|candidate| candidate.starts_with(&plain))
            .or_else(|| only(&|candidate| plain.len() * 3 >= candidate.len() * 2 && is_within(&plain, candidate)))
    })
}

/// Whether `text` with letters left out gives `word`.
fn is_within(word: &str, text: &str) -> bool {
    let mut letters = text.chars();
    word.chars().all(|wanted| letters.any(|letter| letter == wanted))
}

/// ``did you mean `check_interval`?``, if a candidate is near.
pub fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// ``one of `a`, `b` ``, or just `` `a` `` if there is but one.
pub fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => format!("`{word}`"),
        _ => format!("one of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// One line of at most about 60 characters, without control characters and without the credentials of an address.
pub fn shorten(text: &str) -> String {
    let redacted = redact(text);
    let mut chars = redacted.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(FOUND_MAX).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

/// `postgres://user:word@host` becomes `postgres://***@host`, everywhere in `text`.
pub fn redact(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((scheme, after)) = rest.split_once("://") {
        let end = after.find(['/', '?', '#', ' ', ',']).unwrap_or(after.len());
        let host = &after[..end];
        out.extend([scheme, "://"]);
        match host.rfind('@') {
            Some(at) => out.extend(["***", &host[at..]]),
            None => out.push_str(host),
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

const FOUND_MAX: usize = 60;
/// Problems beyond this get no suggestion.
const SUGGESTIONS_MAX: usize = 200;
/// A suggestion is looked for among so many names.
const CANDIDATES_MAX: usize = 2000;

/// Reads `30s`, `5m`, `1h30m`, `250ms`, `2d`; `None` if it is no such duration. Units, greatest first and each at most
/// once, are `w`, `d`, `h`, `m`, `s` and `ms`; the sum is at most 100 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    take::duration(text)
}
