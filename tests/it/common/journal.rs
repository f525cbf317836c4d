//! Reading the journal as `GET /api/v1/journal` tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Chiron;

/// Entries asked for at once.
const PAGE: usize = 1000;

impl Chiron {
    /// Every entry after `seq`, oldest first.
    pub(crate) fn journal_after(&self, mut seq: u64) -> Vec<Value> {
        let mut entries = Vec::new();
        loop {
            let answer = self.get_json(&format!("/api/v1/journal?after={seq}&limit={PAGE}"));
            let page = answer.get("entries").unwrap_or(&answer).as_array().cloned();
            let page = page.unwrap_or_else(|| panic!("the journal answers a list of entries, found {answer}"));
            let Some(last) = page.last() else { return entries };
            let last = last["seq"].as_u64().unwrap_or_else(|| panic!("an entry has a seq, found {last}"));
            assert!(last > seq, "after={seq} answered an entry with seq {last}");
            seq = last;
            entries.extend(page);
        }
    }

    /// The whole journal.
    pub(crate) fn journal(&self) -> Vec<Value> {
        self.journal_after(0)
    }
}

/// The kinds of the entries.
pub(crate) fn kinds(entries: &[Value]) -> Vec<String> {
    entries.iter().filter_map(|entry| entry["kind"].as_str().map(str::to_owned)).collect()
}

/// Whether `wanted` appears in this order, with anything between; else what was missing.
pub(crate) fn in_order(found: &[String], wanted: &[&str]) -> Result<(), String> {
    let mut left = found.iter();
    for kind in wanted {
        if !left.any(|other| other == kind) {
            return Err(format!("no `{kind}` in its place of {wanted:?}; the journal has {found:?}"));
        }
    }
    Ok(())
}

/// The states of every run the journal tells of: key and kind of its latest record.
pub(crate) fn runs(entries: &[Value]) -> BTreeMap<String, String> {
    let mut runs = BTreeMap::new();
    for entry in entries {
        let kind = entry["kind"].as_str().unwrap_or_default();
        if let (true, Some(key)) = (kind.starts_with("run_"), entry["key"].as_str()) {
            runs.insert(key.to_owned(), kind.to_owned());
        }
    }
    runs
}

/// Whether a run of this latest kind will not move again.
pub(crate) fn is_final(kind: &str) -> bool {
    matches!(kind, "run_verified" | "run_cancelled" | "run_indeterminate")
}

/// The journal, once every run in it has ended and nothing was added for half a second; else what is still open.
pub(crate) fn settled(chiron: &Chiron) -> Result<Vec<Value>, String> {
    let entries = chiron.journal();
    let open: Vec<_> = runs(&entries).into_iter().filter(|(_, kind)| !is_final(kind)).collect();
    if !open.is_empty() {
        return Err(format!("{} runs are under way: {:?}", open.len(), &open[..open.len().min(5)]));
    }
    let last = |entries: &[Value]| entries.last().and_then(|entry| entry["seq"].as_u64()).unwrap_or(0);
    let before = last(&entries);
    std::thread::sleep(Duration::from_millis(500));
    let more = chiron.journal_after(before);
    if more.is_empty() { Ok(entries) } else { Err(format!("the journal still grows: {:?}", kinds(&more))) }
}
