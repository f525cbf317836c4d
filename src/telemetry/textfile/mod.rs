//! Series of the operator's own, from a folder of `*.prom` files (the textfile convention).
//!
//! Flow: [`folder`] reads what has changed -> [`parse`] takes a file whole or not at all -> [`merge`] makes one part of
//! the page from all of them.
//! **Invariant:** a file that is not understood to its end is left out whole, is told of, and takes no other with it. No
//! message quotes what a file says.

mod folder;
mod line;
mod merge;
mod parse;

pub(super) use folder::Folder;
pub use line::SampleLine;

/// Why a file is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// From a fixed set, see `docs/metrics.md`.
    pub(super) reason: &'static str,
    /// What was expected, and in which line; never a quotation.
    pub(super) detail: String,
}

impl Fault {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn at(line: usize, reason: &'static str, expected: &str) -> Self {
        Self::new(reason, format!("line {line}: {expected}"))
    }
}

/// Series taken from all files together.
const SERIES_MAX: usize = 20_000;

/// How names begin that belong to chiron's own series.
const RESERVED: [&str; 2] = ["chiron_", "process_"];
