//! Workspaces that mix everything, by chance: what must hold for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::fixture::*;
use crate::model::{FindingState, Mode, Timestamp};
use crate::workspace::findings::dangerous::dangers;
use crate::workspace::layout::{Layout, RelPath};
use crate::workspace::plan::{Plan, Remedy, after, diff};
use crate::workspace::scan::{Access, Entry, Holder, Scan};

/// Choices of one workspace.
const CHOICES: usize = 64;

/// Contents of money files, right and wrong.
const MONEY: &[&[u8]] = &[
    TWO_POSITIONS.as_bytes(),
    TWO_COUNTED.as_bytes(),
    b"{\"open_positions\": [{\"id\": \"p\", \"symbol\": \"A\", \"size\": 1.50, \"entry_price\": 2}], \"closed_positions\": [1]}",
    b"{\"open_positions\": [{\"id\": \"p\", \"symbol\": \"A\", \"size\": 0, \"entry_price\": 2}]}",
    b"{\"closed_positions\": [{\"id\": 12345678901234567890123}], \"note\": \"kept\"}",
    b"{\"open_position_count\": 1, \"trades\": [{\"id\": \"t\", \"status\": \"filled\", \"size\": 1, \"filled\": 0.9}]}",
    b"{\"open_position_count\": 0, \"open_positions\": []}",
    b"{\"open_positions\": [{\"symbol\": \"A\", \"size\": 1, \"entry_price\": 2}, {\"symbol\": \"a\", \"size\": 1, \"entry_price\": 2}]}",
    b"[]",
    b"{}",
    b"{\"open_positions\": [], \"open_positions\": [{\"symbol\": \"A\", \"size\": 0, \"entry_price\": 2}]}",
    b"\"text\"",
];
/// Contents of other files.
const OTHER: &[&[u8]] = &[
    b"{\"symbols\": [\"A\"], \"n\": 0.10000000000000001}",
    b"{\"other\": {\"deep\": [1, 2.50]}}",
    b"[1, {\"a\": null}]",
    b"{\"max_positions\": 3}",
    b"{\"max_positions\": 0}",
    b"{\"status\": \"running\", \"cycle\": 7}",
    b"{\"status\": \"reset\", \"reset_at\": \"2025-11-23T00:00:00Z\", \"last_seen\": \"2025-11-22T00:00:00Z\"}",
];

/// A choice out of so many; the bytes are used up one after the other.
struct Dice<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        let (high, low) = (self.0.next().copied().unwrap_or(0), self.0.next().copied().unwrap_or(0));
        (usize::from(high) * 256 + usize::from(low)) % sides
    }

    fn content(&mut self, from: &[&[u8]]) -> Vec<u8> {
        let mut content = from[self.roll(from.len())].to_vec();
        match self.roll(14) {
            0 => content.truncate(self.roll(content.len() + 1)),
            1 => content.extend([0; 9]),
            2 => content.clear(),
            3 => content = b" {}\n".to_vec(),
            4 => content = vec![0; 33],
            5 => content.extend_from_slice(b"{\"more\": 1}"),
            6 => content.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            7 => {
                let at = self.roll(content.len().max(1));
                content.insert(at, 0xff);
            }
            8 => {
                let at = self.roll(content.len().max(1));
                content.remove(at.min(content.len() - 1));
            }
            _ => {}
        }
        content
    }

    fn entry(&mut self, from: &[&[u8]]) -> Entry {
        let age = [0, 1, 60, 120, OLD, OLD, OLD][self.roll(7)];
        let mut entry = file(&self.content(from), age);
        let other = self.roll(16);
        if let Entry::File(seen) = &mut entry {
            match other {
                0 => seen.access.write = false,
                1 => seen.content = None,
                2 => (seen.access.read, seen.content) = (false, None),
                3 => return Entry::Other("a FIFO".to_owned()),
                4 => return Entry::Unreadable("permission denied".to_owned()),
                5 => return Entry::Directory(OPEN),
                6 | 7 => return Entry::Missing,
                _ => {}
            }
        }
        entry
    }

    fn workspace(&mut self) -> Scan {
        let mut scan = healthy();
        for at in [POSITIONS, PORTFOLIO] {
            let entry = self.entry(MONEY);
            put(&mut scan, at, entry);
        }
        for at in [CONFIG, PLAIN_CONFIG, OPTIONAL_CONFIG, STATE, KNOWN, NESTED, FREE, HEARTBEAT] {
            let entry = self.entry(OTHER);
            put(&mut scan, at, entry);
            if self.roll(3) == 0 {
                scan.good.insert(path(at), self.content(OTHER).into());
            }
            if self.roll(12) == 0 {
                scan.heartbeats.push(path(at));
            }
            if self.roll(12) == 0 {
                scan.json.push(path(at));
            }
        }
        for at in [LOCK, "state/other.lock", "state/yarn.lock"] {
            let entry = self.entry(OTHER);
            put(&mut scan, at, entry);
            let holder = [Holder::Nobody, Holder::Process("one".to_owned()), Holder::Unknown("why".to_owned())];
            scan.locks.insert(path(at), holder[self.roll(3)].clone());
        }
        for folder in ["data", "logs/backups", "run/deep", "run", "config", "logs", "state/heartbeats", "state"] {
            match self.roll(24) {
                0 => self.lose(&mut scan, folder),
                1 => put(&mut scan, folder, Entry::Directory(Access { read: true, write: false })),
                _ => {}
            }
        }
        for pid in 0..self.roll(3) {
            let mut process = orphan(u32::try_from(pid).unwrap_or(0) + 2);
            process.has_parent = self.roll(3) == 0;
            scan.processes.push(process);
        }
        scan
    }

    /// The folder is not there, or is something else; so nothing below it is.
    fn lose(&mut self, scan: &mut Scan, folder: &str) {
        let entry = if self.roll(3) == 0 { Entry::Other("a socket".to_owned()) } else { Entry::Missing };
        let below = format!("{folder}/");
        for (_, entry) in scan.entries.iter_mut().filter(|(path, _)| path.as_str().starts_with(&below)) {
            *entry = Entry::Missing;
        }
        put(scan, folder, entry);
    }
}

/// Everything that holds for every workspace.
fn holds(bytes: &[u8]) -> Plan {
    let mut dice = Dice(bytes.iter().cycle());
    let scan = dice.workspace();
    let mode = [None, Some(Mode::Paper), Some(Mode::Real)][dice.roll(3)];
    let layout = layout();
    let first = plan(&layout, &scan, mode, QUIET, NOW);
    accounts(&scan, &first);
    parents_come_first(&scan, &first);
    nothing_is_lost(&layout, &scan, &first);
    order_does_not_matter(&layout, &scan, mode, &first);
    let shown = diff(&first, &scan);
    assert!(shown.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "{shown}");
    comes_to_rest(&layout, &scan, mode, &first);
    first
}

/// Every change names its findings, each of which is planned and names no danger; every planned finding has one change.
fn accounts(scan: &Scan, plan: &Plan) {
    let mut named = BTreeMap::new();
    for change in &plan.changes {
        assert!(!change.findings.is_empty(), "{change:?}");
        for index in &change.findings {
            let finding = &plan.findings[*index];
            assert!(named.insert(*index, ()).is_none(), "finding {index} has two changes");
            assert_eq!(finding.state, FindingState::Planned);
            assert!(!finding.code.is_dangerous());
            match (&change.path, &change.remedy) {
                (Some(path), _) => assert_eq!(finding.path, path.as_str()),
                (None, Remedy::EndProcess { pid, .. }) => assert_eq!(finding.path, pid.to_string()),
                (None, other) => panic!("a change without a place: {other:?}"),
            }
        }
        let before = change.path.as_ref().and_then(|path| scan.entries.get(path));
        match (&change.remedy, before) {
            (Remedy::CreateDirectory | Remedy::CreateFile(_), Some(Entry::Missing)) => assert_eq!(change.before, None),
            (Remedy::ReplaceFile { content, .. }, Some(Entry::File(seen))) => {
                assert_eq!(change.before.as_ref(), Some(&seen.version));
                assert_ne!(seen.content.as_ref(), Some(content), "a change that changes nothing");
            }
            (Remedy::RemoveFile, Some(Entry::File(seen))) => {
                assert_eq!(change.before.as_ref(), Some(&seen.version));
                let path = change.path.as_ref().expect("a file has a path");
                assert_eq!(scan.locks.get(path), Some(&Holder::Nobody), "only locks of nobody are removed");
            }
            (Remedy::EndProcess { .. }, None) => {}
            other => panic!("a change of something else: {other:?}"),
        }
    }
    let planned = plan.findings.iter().filter(|finding| finding.state == FindingState::Planned).count();
    assert_eq!(planned, named.len());
    assert!(plan.findings.iter().all(|finding| !finding.description.is_empty() && !finding.path.is_empty()));
}

/// A folder is there, or is made earlier, before anything is made in it; no path is changed twice.
fn parents_come_first(scan: &Scan, plan: &Plan) {
    let mut there: BTreeSet<RelPath> = BTreeSet::new();
    for change in &plan.changes {
        let Some(path) = &change.path else { continue };
        if let Some(parent) = path.parent() {
            let stands = matches!(scan.entries.get(&parent), Some(Entry::Directory(access)) if access.write);
            assert!(stands || there.contains(&parent), "{path} has no folder");
        }
        assert!(there.insert(path.clone()), "{path} is changed twice");
    }
}

/// WSP-3 and WSP-1: files that a danger names stay; every member of every object that parses stays, byte for byte in its value.
fn nothing_is_lost(layout: &Layout, scan: &Scan, plan: &Plan) {
    let then = after(scan, plan);
    for danger in dangers(layout, scan) {
        for path in &danger.files {
            assert_eq!(scan.entries.get(path), then.entries.get(path), "{path} was written");
            assert!(plan.changes.iter().all(|change| change.path.as_ref() != Some(path)));
        }
        assert!(plan.findings.contains(&danger.finding), "{danger:?}");
    }
    let now: Vec<_> = dangers(layout, scan).into_iter().map(|danger| danger.finding).collect();
    for danger in dangers(layout, &then) {
        for path in danger.files.iter().filter(|_| !now.contains(&danger.finding)) {
            let (before, after) = (scan.entries.get(path), then.entries.get(path));
            let is_readable =
                matches!(before, Some(Entry::File(seen)) if seen.content.as_deref().is_some_and(can_be_read));
            assert!(!is_readable || before == after, "{path} was made dangerous: {danger:?}");
        }
        assert!(plan.findings.contains(&danger.finding), "it came to light: {danger:?}");
    }
    for (path, entry) in &scan.entries {
        let (Entry::File(seen), Some(Entry::File(now))) = (entry, then.entries.get(path)) else {
            let is_lock = scan.locks.contains_key(path);
            assert!(matches!(entry, Entry::Missing) || then.entries.get(path) == Some(entry) || is_lock, "{path}");
            continue;
        };
        let is_config = path.as_str().starts_with("config/");
        let (Some(old), Some(new)) = (&seen.content, &now.content) else { continue };
        if is_config || old == new {
            continue;
        }
        assert!(serde_json::from_slice::<serde_json::Value>(new).is_ok(), "{path} holds JSON then");
        let members = |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(bytes).ok();
        let (Some(old), Some(new)) = (members(old), members(new)) else { continue };
        for (key, value) in old {
            let is_reset =
                scan.heartbeats.contains(path) && ["status", "reset_at", "last_seen"].contains(&key.as_str());
            assert!(is_reset || new.get(&key) == Some(&value), "{path} lost {key}");
        }
    }
}

/// Whether a reader that is not strict makes something of a file.
fn can_be_read(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.trim_end_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// However the scan and the layout are ordered, the plan is the same.
fn order_does_not_matter(layout: &Layout, scan: &Scan, mode: Option<Mode>, first: &Plan) {
    let (mut layout, mut scan) = (layout.clone(), scan.clone());
    layout.files.reverse();
    layout.directories.reverse();
    scan.heartbeats.reverse();
    scan.json.reverse();
    scan.processes.reverse();
    scan.refused.reverse();
    assert_eq!(&plan(&layout, &scan, mode, QUIET, NOW), first);
}

/// A minute later only what was deferred is changed, and then nothing any more.
fn comes_to_rest(layout: &Layout, scan: &Scan, mode: Option<Mode>, first: &Plan) {
    let deferred: BTreeSet<&str> =
        first.findings.iter().filter(|f| f.state == FindingState::Deferred).map(|f| f.path.as_str()).collect();
    let later: Timestamp = NOW.plus(Duration::from_secs(60));
    let then = after(scan, first);
    let second = plan(layout, &then, mode, QUIET, later);
    for change in &second.changes {
        let path = change.path.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(deferred.contains(path.as_str()), "changed again: {change:?}\nfirst {first:#?}");
    }
    let third = plan(layout, &after(&then, &second), mode, QUIET, later);
    assert_eq!(third.changes, Vec::new(), "it does not come to rest");
    for finding in &third.findings {
        let is_over = matches!(finding.state, FindingState::Standing | FindingState::Failed);
        assert!(is_over, "{finding:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// WSP-6: healing is idempotent, deletes no record that parses, writes no dangerous file, and does not depend on order.
    #[test]
    fn any_workspace(bytes in proptest::collection::vec(any::<u8>(), CHOICES * 2)) {
        holds(&bytes);
    }
}

/// WSP-6: the same for 2,000 workspaces from seeds, which meet every kind of finding and change.
#[test]
fn seeded_workspaces() {
    let (mut codes, mut states, mut kinds) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in 1_u64..=2_000 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let random = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        let bytes: Vec<u8> = random.take(CHOICES * 8).collect();
        let plan = holds(&bytes);
        codes.extend(plan.findings.iter().map(|finding| finding.code));
        states.extend(plan.findings.iter().map(|finding| finding.state));
        kinds.extend(
            plan.changes.iter().map(|change| std::mem::discriminant(&change.remedy)).map(|kind| format!("{kind:?}")),
        );
    }
    let missing: Vec<&str> = crate::model::FindingCode::ALL
        .into_iter()
        .filter(|code| !codes.contains(code))
        .map(|code| code.as_str())
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(states.contains(&FindingState::Deferred) && states.contains(&FindingState::Planned));
    assert_eq!(kinds.len(), 5);
}
