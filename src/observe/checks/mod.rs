//! Registry of check kinds: one file each, listed once in [`CHECKS`].
//!
//! **Invariant:** every file of this folder is in the list; a test reads the folder.

pub mod container;
pub mod dir_age;
pub mod dns;
pub mod exec;
pub mod file_age;
pub mod file_set;
pub mod freqtrade;
pub mod http;
pub mod json;
pub mod metric;
pub mod postgres;
pub mod process;
pub mod promql;
pub mod push;
pub mod redis;
pub mod sqlite;
pub mod systemd;
pub mod tcp;
pub mod tls;
pub mod vitals;
pub mod websocket;

use super::check::{AnyCheck, BuildContext, Check, CheckSpec, Judgement};
use crate::base::tree::Section;
use crate::model::Timestamp;

/// Every check kind, in the order of the catalog.
pub const CHECKS: [&CheckSpec; 21] = [
    &file_age::SPEC,
    &json::SPEC,
    &file_set::SPEC,
    &dir_age::SPEC,
    &http::SPEC,
    &tcp::SPEC,
    &dns::SPEC,
    &tls::SPEC,
    &process::SPEC,
    &exec::SPEC,
    &push::SPEC,
    &promql::SPEC,
    &metric::SPEC,
    &postgres::SPEC,
    &redis::SPEC,
    &sqlite::SPEC,
    &vitals::SPEC,
    &freqtrade::SPEC,
    &websocket::SPEC,
    &systemd::SPEC,
    &container::SPEC,
];

/// The kind of that name.
pub fn check(kind: &str) -> Option<&'static CheckSpec> {
    CHECKS.into_iter().find(|spec| spec.kind == kind)
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-7: kinds are unique and snake_case, and no file of the folder is forgotten.
    #[test]
    fn the_registry_is_complete() {
        let mut kinds: Vec<&str> = CHECKS.iter().map(|spec| spec.kind).collect();
        for kind in &kinds {
            assert!(kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{kind}");
            assert_eq!(check(kind).unwrap().kind, *kind);
        }
        assert!(check("none").is_none());
        kinds.sort_unstable();
        assert_eq!(kinds, testing::files_of("src/observe/checks", &["mod", "testing"]));
    }

    #[test]
    fn every_page_has_its_headings_in_order() {
        for spec in CHECKS {
            let headings: Vec<&str> = spec.doc.lines().filter_map(|line| line.strip_prefix("# ")).collect();
            assert_eq!(headings, ["What it asks", "Why it matters", "Failure reasons", "Parameters"], "{}", spec.kind);
            for part in spec.doc.split("# ").skip(1) {
                assert!(part.lines().count() > 1, "{}: {part}", spec.kind);
            }
        }
    }
}
