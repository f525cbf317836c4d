//! Removes healings that are old, and the copies that none of the others needs.
//!
//! **Invariant:** the newest healing, every copy that a kept healing needs and every last good copy stay.

use std::collections::{BTreeMap, BTreeSet};

use super::folder::state;
use super::record::Stored;
use super::{Ledger, files, read_file};
use crate::model::Timestamp;
use crate::workspace::backup::Backups;
use crate::workspace::{Error, Retention};

/// Whether the oldest healing is older than allowed; one look at the names.
pub(in crate::workspace) fn is_due(ledger: &Ledger, retention: &Retention, now: Timestamp) -> Result<bool, Error> {
    let found = files(ledger.healings())?;
    let old = found.first().and_then(|(key, _)| key.at()).is_some_and(|at| now.since(at) > retention.keep);
    Ok(found.len() > 1 && (old || found.len() > retention.healings_max))
}

/// The copies that a healing needs to be undone: SHA-256, and size.
fn needs(stored: &Stored) -> impl Iterator<Item = (&str, u64)> {
    let before = stored.changes.iter().filter(|change| change.planned.path.is_some());
    before.filter_map(|change| change.planned.before.as_ref()).filter_map(|kept| {
        let sha = kept.version.sha256.as_str();
        (!sha.is_empty()).then_some((sha, kept.version.len))
    })
}

/// Keeps to the limits. Returns how many healings went.
pub(in crate::workspace) fn expire(
    ledger: &Ledger,
    backups: &Backups,
    retention: &Retention,
    now: Timestamp,
) -> Result<usize, Error> {
    let healings = ledger.healings();
    let mut found = files(healings)?;
    found.reverse();
    let mut needed: BTreeMap<String, u64> = BTreeMap::new();
    let mut bytes = 0_u64;
    let mut kept = 0;
    let mut gone = Vec::new();
    let mut is_certain = true;
    for (key, name) in found {
        // A healing that cannot be read may need any copy.
        let stored = read_file(healings, &name).ok();
        let own = healings.len(&name).unwrap_or(0);
        let fresh: BTreeMap<String, u64> = match &stored {
            Some(Some(stored)) => needs(stored).map(|(sha, len)| (sha.to_owned(), len)).collect(),
            _ => BTreeMap::new(),
        };
        let more: u64 = fresh.iter().filter(|(sha, _)| !needed.contains_key(*sha)).map(|(_, len)| len).sum();
        let is_old = key.at().is_some_and(|at| now.since(at) > retention.keep);
        let is_much = bytes.saturating_add(own).saturating_add(more) > retention.bytes_max;
        // What is older than one that goes goes too, so that no healing is left without the one that undid it.
        let goes = !gone.is_empty() || is_old || is_much || kept >= retention.healings_max;
        if kept > 0 && goes {
            gone.push(name);
            continue;
        }
        is_certain &= stored.is_some();
        kept += 1;
        bytes = bytes.saturating_add(own).saturating_add(more);
        needed.extend(fresh);
    }
    for name in &gone {
        let context = || format!("`{}` cannot be removed", healings.path.join(name).display());
        healings.remove(name).map_err(|trouble| state(context(), &trouble))?;
    }
    healings.sync().map_err(|trouble| state(format!("`{}` cannot be synced", healings.path.display()), &trouble))?;
    if is_certain && let Some(good) = backups.good_hashes() {
        let needed: BTreeSet<String> = needed.into_keys().chain(good).collect();
        backups.remove_others(&needed)?;
    }
    Ok(gone.len())
}
