//! Removes healings that are old, and the copies that none of the others needs.
//!
//! **Invariant:** the newest healing, those that a person must look at, every copy that a kept healing needs and every good
//! copy stay; a clock that has jumped ahead makes nothing old.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::{Folder, state};
use super::record::Stored;
use super::{Key, Ledger, files, read_file, told};
use crate::model::{ChangeState, FindingCode, Timestamp};
use crate::workspace::backup::{Backups, Spare};
use crate::workspace::{Error, Retention};

/// Healings that are kept although nothing was changed.
const IDLE_MAX: usize = 20;

/// Healings that are kept although they did nothing but set heartbeats back.
const BEATS_MAX: usize = 100;

/// The file in `STATE_DIR` that tells when was looked for old healings last.
const GUARD: &str = "retention.json";

/// How long nothing goes for its age after the clock has jumped ahead: time enough to set it right.
const HELD: Duration = Duration::from_secs(86_400);

/// When was looked last, by the wall clock, so that a restart or reboot is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Guard {
    seen: Timestamp,
    /// Until then nothing goes for its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<Timestamp>,
}

impl Guard {
    /// What it is after a look at `now`. `last` is the last time that is known.
    fn after(self, now: Timestamp, keep: Duration) -> Self {
        let has_jumped = now.since(self.seen) > keep;
        // Set back, it was wrong before.
        let held = self.held_until.filter(|until| now >= self.seen && now < *until);
        Self { seen: now, held_until: if has_jumped { Some(now.plus(HELD)) } else { held } }
    }
}

/// Whether a healing may be old by now, asking the clock whether it can be believed.
fn may_age(state_folder: &Folder, found: &[(Key, String)], keep: Duration, now: Timestamp) -> bool {
    let kept = state_folder.read(GUARD, 4096).ok().flatten();
    let guard: Option<Guard> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // The newest may be of this very round.
    let before = found.iter().rev().nth(1).and_then(|(key, _)| key.at());
    let known = guard.or(before.map(|seen| Guard { seen, held_until: None }));
    let next = known.unwrap_or(Guard { seen: now, held_until: None }).after(now, keep);
    let written = serde_json::to_vec(&next).map_err(|error| std::io::Error::from(error).into());
    if let Err(trouble) = written.and_then(|text| state_folder.replace(GUARD, &text)) {
        tracing::warn!(error = %trouble, "when was looked for old healings cannot be written down, so none goes for its age");
        return false;
    }
    if next.held_until.is_some() {
        tracing::warn!("the clock is far ahead of the last healing, so none goes for its age yet");
    }
    next.held_until.is_none()
}

/// Whether the oldest healing is older than allowed; one look at the names.
pub(in crate::workspace) fn is_due(ledger: &Ledger, retention: &Retention, now: Timestamp) -> Result<bool, Error> {
    let found = files(ledger.healings())?;
    let old = found.first().and_then(|(key, _)| key.at()).is_some_and(|at| now.since(at) > retention.keep);
    Ok(found.len() > 1 && (old || found.len() > retention.healings_max))
}

/// The copies that a healing needs to be undone, and those that it kept unasked: SHA-256, and size.
fn needs(stored: &Stored) -> BTreeMap<String, u64> {
    let changes = stored.changes.iter().filter(|change| change.planned.path.is_some());
    let before = changes.filter_map(|change| change.planned.before.as_ref());
    let before = before.map(|kept| (kept.version.sha256.clone(), kept.version.len));
    let done = stored.changes.iter().filter_map(|change| change.done.as_ref());
    let strays = done.flat_map(|done| &done.strays).map(|stray| (stray.sha256.clone(), stray.len));
    before.chain(strays).filter(|(sha, _)| !sha.is_empty()).collect()
}

/// How many of its like are kept.
fn quota(stored: &Stored) -> (usize, usize) {
    let mut applied = stored.changes.iter().filter(|change| change.state() == ChangeState::Applied).peekable();
    if applied.peek().is_none() {
        return (0, IDLE_MAX);
    }
    // What undoes another stays as long as that one does.
    match stored.head.undoes.is_none() && applied.all(|change| change.planned.code == FindingCode::HeartbeatStale) {
        true => (1, BEATS_MAX),
        false => (2, usize::MAX),
    }
}

/// One file of a healing.
struct Found {
    key: Key,
    name: String,
    /// `None`: it cannot be read, and may need any copy.
    stored: Option<Option<Stored>>,
    /// Whether it is kept whatever its age.
    is_held: bool,
}

/// Every healing, newest first.
fn look(ledger: &Ledger) -> Result<Vec<Found>, Error> {
    let healings = ledger.healings();
    let names = files(healings)?.into_iter();
    let mut found: Vec<Found> = names
        .map(|(key, name)| {
            let stored = read_file(healings, &name).ok();
            Found { key, name, stored, is_held: false }
        })
        .collect();
    let readable: Vec<Stored> = found.iter().filter_map(|found| found.stored.clone().flatten()).collect();
    let undone: BTreeSet<_> =
        told(&readable).into_iter().filter(|told| told.undone_by.is_some()).map(|told| told.id).collect();
    for found in &mut found {
        if let Some(Some(stored)) = &found.stored {
            let waits = stored.needs_person() && !undone.contains(&stored.head.id);
            found.is_held = waits || stored.has_left();
        }
    }
    found.reverse();
    Ok(found)
}

/// Keeps to the limits. Returns how many healings went.
pub(in crate::workspace) fn expire(
    ledger: &Ledger,
    backups: &Backups,
    retention: &Retention,
    now: Timestamp,
) -> Result<usize, Error> {
    let healings = ledger.healings();
    let may_age = may_age(&ledger.state, &files(healings)?, retention.keep, now);
    let mut needed: BTreeMap<String, u64> = BTreeMap::new();
    let mut bytes = 0_u64;
    let mut kept = 0;
    let mut alike = [0_usize; 3];
    let mut gone = Vec::new();
    let (mut is_certain, mut is_cut) = (true, false);
    for found in look(ledger)? {
        let own = healings.len(&found.name).unwrap_or(0);
        let stored = found.stored.as_ref().and_then(Option::as_ref);
        let fresh = stored.map(needs).unwrap_or_default();
        let more: u64 = fresh.iter().filter(|(sha, _)| !needed.contains_key(*sha)).map(|(_, len)| len).sum();
        let (kind, most) = stored.map_or((2, usize::MAX), quota);
        if kept > 0 && !found.is_held {
            let is_old = may_age && found.key.at().is_some_and(|at| now.since(at) > retention.keep);
            let is_much = bytes.saturating_add(own).saturating_add(more) > retention.bytes_max;
            // What is older than one that goes goes too, so that no healing is left without the one that undid it.
            is_cut = is_cut || is_old || is_much || kept >= retention.healings_max;
            if is_cut || alike[kind] >= most {
                gone.push(found.name);
                continue;
            }
        }
        is_certain &= found.stored.is_some();
        kept += 1;
        alike[kind] += 1;
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
        let since = may_age.then(|| now.minus(retention.keep));
        backups.remove_others(&needed, Spare { since, room: retention.bytes_max.saturating_sub(bytes) })?;
    }
    Ok(gone.len())
}
