//! What goes wrong while a bot runs: corrupt JSON, stale locks and heartbeats, orphans (WSP-2).
//!
//! **Invariant:** pure; who cannot be seen holds the lock, who is not known to be an orphan is none, and nothing is ended
//! where money is real.

use std::sync::Arc;
use std::time::Duration;

use super::{Draft, Found, bounded, count, finding, span};
use crate::base::redact;
use crate::model::{FindingCode, Mode, Severity, Timestamp};
use crate::workspace::edit;
use crate::workspace::layout::{FileSpec, Layout, PACKAGE_LOCKS};
use crate::workspace::plan::{Remedy, members};
use crate::workspace::salvage::{self, Salvaged};
use crate::workspace::scan::{Entry, Holder, Scan, Version};

/// Losses told in one detail; all of them are in the backup.
const LOSSES_TOLD: usize = 5;

/// A file that is no JSON keeps what of it can be read.
pub(super) fn corrupt(draft: &mut Draft<'_>, spec: Option<&FileSpec>) {
    let holds_money = spec.is_some_and(|spec| spec.role.holds_money());
    let Err(why) = super::sound(&draft.content) else { return };
    if super::is_blank(&draft.content) {
        // Files of the layout were filled or told before; others are not ours to fill.
        if spec.is_none() {
            let description = format!("{}, expected JSON", super::blank_words(&draft.content));
            let mut finding = finding(FindingCode::FileEmpty, Severity::Low, draft.path.as_str(), description);
            "only files that the layout lists are filled".clone_into(&mut finding.detail);
            draft.standing.push(finding);
        }
        return;
    }
    let starts_list = draft.content.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let plain: Arc<[u8]> = if starts_list { b"[]".as_slice().into() } else { b"{}".as_slice().into() };
    let empty = spec.and_then(|spec| spec.empty.clone()).filter(|empty| super::sound(empty).is_ok()).unwrap_or(plain);
    let mut saved = salvage::salvage(&draft.content, &empty);
    if super::sound(&saved.content).is_err() {
        saved = Salvaged { content: empty, kept: 0, lost: Vec::new(), is_lossless: false };
    }
    let severity = if holds_money { Severity::High } else { Severity::Medium };
    let description = format!("the file is no sound JSON: {}", redact::line(&why, 200));
    let mut told = finding(FindingCode::JsonCorrupt, severity, draft.path.as_str(), description);
    told.detail = account(&saved);
    if holds_money && !saved.is_lossless {
        draft.standing.push(records_lost(draft, &saved));
    }
    draft.heal(told, saved.content);
}

/// What was kept and what was not.
fn account(saved: &Salvaged) -> String {
    let kept = format!("kept {}", count(saved.kept, "record"));
    if saved.lost.is_empty() {
        return if saved.is_lossless {
            format!("{kept}, lost none")
        } else {
            format!("{kept}, the rest is unreadable")
        };
    }
    let told = saved.lost.iter().take(LOSSES_TOLD).map(loss).collect::<Vec<_>>().join("; ");
    let more = saved.lost.len().saturating_sub(LOSSES_TOLD);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("{kept}, lost: {told}{more}")
}

fn loss(loss: &salvage::Loss) -> String {
    format!("{} (byte {}, {})", redact::line(&members(&loss.what), 120), loss.offset, count(loss.len, "byte"))
}

fn records_lost(draft: &Draft<'_>, saved: &Salvaged) -> crate::model::WorkspaceFinding {
    let what = match saved.lost.len() {
        0 => "an unknown number of records".to_owned(),
        lost => count(lost, "part"),
    };
    let description = format!("{what} of this file cannot be read and may be positions or trades: compare its backup");
    let mut finding = finding(FindingCode::RecordsLost, Severity::Critical, draft.path.as_str(), description);
    finding.records = bounded(saved.lost.iter().map(loss));
    if finding.records.is_empty() {
        finding.records = vec![what];
    }
    finding
}

/// A heartbeat that is too old is reset once, and stays a finding until the bot writes it.
pub(super) fn heartbeat(draft: &mut Draft<'_>, version: &Version, age_max: Duration, now: Timestamp) {
    let tell = |description| finding(FindingCode::HeartbeatStale, Severity::Medium, draft.path.as_str(), description);
    if edit::is_reset(draft.original) {
        let finding = tell("the heartbeat was reset, and the bot has not written it since".to_owned());
        draft.standing.push(finding);
        return;
    }
    let last = version.modified();
    if now.since(last) <= age_max {
        return;
    }
    let mut finding = tell(format!("last written at {last}, more than {} ago", span(age_max)));
    let reset = edit::reset_heartbeat(&draft.content, last, now);
    // A list is data that a reset would not keep.
    let is_list = matches!(super::json::parse(&draft.content), Some(super::json::Node::List(_)));
    if !is_list && edit::is_reset(&reset) {
        draft.heal(finding, reset.into());
        draft.keep_times = true;
    } else {
        "it cannot be reset without changing what is there".clone_into(&mut finding.detail);
        draft.standing.push(finding);
    }
}

/// Lock files that are too old and held by nobody.
pub(super) fn locks(layout: &Layout, scan: &Scan, now: Timestamp) -> Vec<Found> {
    let mut found = Vec::new();
    for (path, holder) in &scan.locks {
        let Some(Entry::File(seen)) = scan.entries.get(path) else { continue };
        let last = seen.version.modified();
        let is_ours = layout.file(path.as_str()).is_none() && !PACKAGE_LOCKS.contains(&path.name());
        if !is_ours || now.since(last) <= layout.lock_age {
            continue;
        }
        let since = format!("last written at {last}, more than {} ago", span(layout.lock_age));
        let (severity, description, remedy, detail) = match holder {
            Holder::Process(_) => continue,
            Holder::Nobody => {
                (Severity::Medium, format!("{since}, and nobody holds it"), Some(Remedy::RemoveFile), String::new())
            }
            Holder::Unknown(why) => {
                let description = format!("{since}, and who holds it cannot be found out");
                (Severity::Low, description, None, redact::line(why, 200))
            }
        };
        let mut finding = finding(FindingCode::LockStale, severity, path.as_str(), description);
        finding.detail = detail;
        found.push(Found { finding, remedy });
    }
    found
}

/// Processes of the bot that nobody started, watches or hears of.
pub(super) fn orphans(layout: &Layout, scan: &Scan, mode: Option<Mode>, now: Timestamp) -> Vec<Found> {
    let is_orphan = |process: &&crate::workspace::scan::BotProcess| {
        let is_old = now.since(process.started) > layout.heartbeat_age;
        let is_alone = !process.has_parent && process.supervisor.is_none() && !process.is_named;
        layout.bot.is_some() && process.in_workspace && is_alone && is_old
    };
    let found = scan.processes.iter().filter(is_orphan).map(|process| {
        let command = redact::line(&process.command, 200);
        let since = process.started;
        let description = format!("`{command}` runs since {since} without parent, supervisor or heartbeat");
        let path = process.pid.to_string();
        // Two bots that trade with real money are worse than one, and chiron may end none.
        let severity = if mode == Some(Mode::Real) { Severity::High } else { Severity::Medium };
        let mut finding = finding(FindingCode::OrphanProcess, severity, &path, description);
        let remedy = match mode {
            Some(Mode::Paper) => Some(Remedy::EndProcess { pid: process.pid, started_ticks: process.started_ticks }),
            Some(Mode::Real) => {
                "only told: no process is ended in real mode".clone_into(&mut finding.detail);
                None
            }
            None => {
                "only told: `mode` is not set, so no process is ended".clone_into(&mut finding.detail);
                None
            }
        };
        Found { finding, remedy }
    });
    found.collect()
}
