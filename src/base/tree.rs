//! A settings file as a tree that knows where each value stands, and typed taking that gathers every mistake.
//!
//! Flow: YAML or JSON text -> [`parse`] -> [`Node`] -> [`Section`], from which each module takes its own keys.
//! **Invariant:** nothing here stops at the first mistake; all go into [`Problems`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::Problem;

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

    /// All of them, by position.
    pub fn into_vec(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| (problem.line, problem.column));
        list
    }
}

/// Reads YAML (JSON is YAML too). At most 1 MiB, no aliases, no duplicate keys, one document, depth at most 64.
/// A syntax error is one problem and gives `None`.
pub fn parse(_text: &str, _problems: &Problems) -> Option<Node> {
    None
}

/// A value that can be taken from a [`Node`].
pub trait FromNode: Sized {
    /// What is expected, for the message: `a duration such as 30s`.
    const EXPECTED: &'static str;
    /// The value, or `Err` with a better hint if there is one.
    fn from_node(node: &Node) -> Result<Self, Option<String>>;
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
    pub fn open(_node: &'a Node, _path: &str, _problems: &'a Problems) -> Option<Self> {
        None
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
    pub fn has(&mut self, _key: &'static str) -> bool {
        false
    }

    /// The node of a key, if it is there and not null; counts as taken.
    pub fn node(&mut self, _key: &'static str) -> Option<&'a Node> {
        None
    }

    /// An optional value; a value of the wrong kind is a problem and gives `None`.
    pub fn opt<T: FromNode>(&mut self, _key: &'static str) -> Option<T> {
        None
    }

    /// A value that must be there; its absence is a problem at the section's position.
    pub fn req<T: FromNode>(&mut self, _key: &'static str) -> Option<T> {
        None
    }

    /// A value with a default.
    pub fn or<T: FromNode>(&mut self, key: &'static str, default: T) -> T {
        self.opt(key).unwrap_or(default)
    }

    /// One of a fixed set of words; anything else is a problem that lists them and suggests the nearest.
    pub fn word<T: Copy>(&mut self, _key: &'static str, _words: &[(&'static str, T)]) -> Option<T> {
        None
    }

    /// A nested mapping under a key.
    pub fn section(&mut self, _key: &'static str) -> Option<Section<'a>> {
        None
    }

    /// The entries of a nested mapping whose keys are names, in order: name, its position, value.
    pub fn entries(&mut self, _key: &'static str) -> &'a [(String, Position, Node)] {
        &[]
    }

    /// The items of a list under a key.
    pub fn list(&mut self, _key: &'static str) -> &'a [Node] {
        &[]
    }

    /// Reports that the value of a key breaks a rule; at the value's position, or the section's if it is absent.
    pub fn reject(&self, _key: &str, _rule: &str, _hint: Option<String>) {}

    /// Reports every key that nobody took, with the nearest known key as a hint.
    pub fn finish(self) {}
}

/// Reads `30s`, `5m`, `1h30m`, `250ms`, `2d`; `None` if it is no such duration.
pub fn parse_duration(_text: &str) -> Option<Duration> {
    None
}

#[expect(unused, reason = "implemented with the tree")]
type Taken = (BTreeMap<String, String>, PathBuf);
