//! What is known beforehand of a file's structure, by the empty one that was given.
//!
//! **Invariant:** knows keys and kinds, never a value.

use super::scan::{self, Kind};
use super::walk::Doubtful;

/// The structure that is expected.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// `None` if nothing is known: whatever the file holds is taken.
    pub(super) kind: Option<Kind>,
    /// Its keys as written, without quotes, and what they hold if that is a list or object.
    pub(super) keys: Vec<(Vec<u8>, Option<Kind>)>,
}

impl Expected {
    pub(super) fn of(empty: &[u8]) -> Self {
        let at = scan::space(empty, 0);
        let Some(kind) = empty.get(at).copied().and_then(Kind::opened_by) else { return Self::default() };
        let mut keys = Vec::new();
        if kind == Kind::Object && super::is_json(empty) {
            for member in scan::members(empty, at) {
                let key = empty[member.start + 1..member.key_end - 1].to_vec();
                keys.push((key, Kind::opened_by(empty[member.value])));
            }
        }
        Self { kind: Some(kind), keys }
    }

    /// The index of the key that `text` (quoted, with what follows it) names.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let end = scan::raw_string(text, 0)?;
        self.keys.iter().position(|(key, _)| key == &text[1..end - 1])
    }

    pub(super) fn note(&self, seen: &mut [bool], text: &[u8]) {
        if let Some(at) = self.find(text) {
            seen[at] = true;
        }
    }

    /// Whether a value that begins so is of the kind that its key lets expect.
    pub(super) fn may_hold(&self, text: &[u8], first: u8) -> bool {
        let kind = self.find(text).and_then(|at| self.keys[at].1);
        kind.is_none_or(|kind| Kind::opened_by(first) == Some(kind))
    }

    /// The index of the key of the member that `text` begins with, if it is expected and holds what it should.
    pub(super) fn place(&self, text: &[u8]) -> Option<usize> {
        let at = self.find(text)?;
        let value = scan::key(text, 0, scan::Rigour::Strict).ok()?;
        let kind = self.keys[at].1;
        (kind.is_none() || kind == text.get(value).copied().and_then(Kind::opened_by)).then_some(at)
    }

    pub(super) fn is_object(&self, text: &[u8]) -> bool {
        self.find(text).is_some_and(|at| self.keys[at].1 == Some(Kind::Object))
    }

    /// What the lack of a list's name says of records that may have stood below it.
    pub(super) fn doubt(&self, seen: &[bool]) -> Doubtful {
        let mut lists = self.keys.iter().zip(seen).filter(|((_, kind), _)| kind.is_some()).peekable();
        if lists.peek().is_none() {
            Doubtful::SameShape
        } else if lists.all(|(_, seen)| *seen) {
            Doubtful::Kept
        } else {
            Doubtful::Lost
        }
    }

    /// Whether an object that is sound has every expected key.
    pub(super) fn are_all_in(&self, found: &[&[u8]]) -> bool {
        self.keys.iter().all(|(key, _)| found.contains(&key.as_slice()))
    }

    /// Whether it has one of them, if any is expected.
    pub(super) fn is_any_in(&self, found: &[&[u8]]) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|(key, _)| found.contains(&key.as_slice()))
    }
}
