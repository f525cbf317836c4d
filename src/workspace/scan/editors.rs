//! Whether somebody has a file open in an editor, by what editors leave beside it while they do.
//!
//! **Invariant:** looks at a few names, reads nothing.

use std::time::Duration;

use crate::model::Timestamp;
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Root, Trouble};

/// A copy that an editor keeps beside the file for good tells of one that works only while it is as young as this.
const RECENT: Duration = Duration::from_secs(600);

/// Whether an editor has the file open.
pub(super) fn is_edited(root: &Root, path: &RelPath, now: Timestamp) -> bool {
    let beside = |name: String| {
        let text = path.parent().map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
        RelPath::parse(&text).ok()
    };
    let name = path.name();
    // vim's swap files, as far as it counts for most; Emacs' lock, a link to nothing; its autosave.
    let while_open = [
        format!(".{name}.swp"),
        format!(".{name}.swo"),
        format!(".{name}.swn"),
        format!(".#{name}"),
        format!("#{name}#"),
    ];
    // The copy before a save, which some keep, and the file by which vim tries whether it may write.
    let around_a_save = [format!("{name}~"), "4913".to_owned()];
    let is_there = |name: String| match beside(name).map(|path| root.stat(&path)) {
        // A link to nothing, or out of the workspace, is there as well.
        Some(Ok(_) | Err(Trouble::Dangling(_) | Trouble::Leaves | Trouble::Loop)) => true,
        Some(Err(_)) | None => false,
    };
    let is_recent = |name: String| {
        let seen = beside(name).and_then(|path| root.stat(&path).ok());
        // A rename, which makes such a copy, keeps its time of writing.
        let millis = seen.and_then(|seen| i64::try_from(seen.version.changed_nanos.div_euclid(1_000_000)).ok());
        millis.is_some_and(|millis| now.since(Timestamp::from_millis(millis)) < RECENT)
    };
    while_open.into_iter().any(is_there) || around_a_save.into_iter().any(is_recent)
}
