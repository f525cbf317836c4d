//! Disks that are full and folders that may not be written: what cannot be done is told, and nothing is torn.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{found, heal, undo_all};
use crate::common::{PORTFOLIO, POSITIONS, Tree, Workspace, tool};

/// Something mounted; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Self {
        run(Command::new(tool("mount")).args(arguments).arg(at));
        Self(at.to_path_buf())
    }

    /// A folder mounted onto itself, to be read only.
    fn read_only(at: &Path) -> Self {
        let path = at.to_str().expect("UTF-8");
        let mount = Self::new(&["--bind", path], at);
        run(Command::new(tool("mount")).args(["-o", "remount,ro,bind"]).arg(at));
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new(tool("umount")).arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("mount runs");
    assert!(output.status.success(), "this test mounts and needs root: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is wrong needs new files, larger files and a folder.
fn broken(workspace: &Workspace) {
    workspace.fill();
    workspace.remove("data");
    workspace.remove(PORTFOLIO);
    let positions = format!("{{\"open_positions\": [], \"note\": \"{}\"}}\n", "n".repeat(20_000));
    workspace.write(POSITIONS, positions.as_bytes());
    workspace.write("state/bot.lock", b"");
}

/// Every file is as before or as a healing without trouble leaves it.
fn assert_old_or_new(before: &Tree, whole: &Tree, now: &Tree, what: &str) {
    for path in now.differing(before) {
        let same = match (now.0.get(&path), whole.0.get(&path)) {
            (Some(now), Some(whole)) => now.holds_the_same(whole),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{what}: {path} is neither old nor new: {:?}", now.0.get(&path));
    }
}

/// WSP-6: a disk with any little space left: a file is whole, old or new; nothing is changed that could not be undone;
/// with space again everything is healed, and can be undone.
#[test]
fn a_full_disk() {
    let reference = Workspace::empty();
    broken(&reference);
    heal(&reference, "paper", &[]).ended(0);
    let whole = reference.tree();
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut refused = 0;
    let mut complete = 0;
    for pages in (0..30).step_by(3) {
        let _disk = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], dir.path());
        let workspace = Workspace::at(&dir.path().join("bot"));
        broken(&workspace);
        let before = workspace.tree();
        let filler = dir.path().join("filler");
        let mut file = fs::File::create(&filler).expect("a file can be made");
        for size in [65_536, 4096] {
            let chunk = vec![1_u8; size];
            while file.write_all(&chunk).is_ok() {}
        }
        let length = file.metadata().expect("it is there").len();
        file.set_len(length.saturating_sub(pages * 4096)).expect("it can be cut");
        drop(file);
        let said = heal(&workspace, "paper", &[]);
        assert!([0, 2, 3].contains(&said.code), "{pages} pages: {said:?}");
        if said.code == 0 {
            complete += 1;
        } else {
            refused += 1;
            let text = format!("{}{}", said.out, said.err);
            assert!(text.contains("No space left"), "{pages} pages: it says why: {said:?}");
        }
        assert_old_or_new(&before, &whole, &workspace.tree(), &format!("{pages} pages"));
        fs::remove_file(&filler).expect("it can be removed");
        heal(&workspace, "paper", &[]).ended(0);
        let differing = workspace.tree().differing(&whole);
        assert!(differing.is_empty(), "{pages} pages: {differing:?}");
        undo_all(&workspace, "paper");
        workspace.tree().assert_same(&before, &format!("{pages} pages, undone"));
    }
    assert!(refused > 0 && complete > 0, "{refused} were refused and {complete} complete: the levels are not telling");
}

/// WSP-6: a workspace that may only be read is looked at in a dry run and changed by nothing; the refusal says so.
#[test]
fn a_read_only_workspace() {
    let workspace = Workspace::empty();
    broken(&workspace);
    let before = workspace.tree();
    let mount = Mount::read_only(workspace.root());
    let said = heal(&workspace, "paper", &[]);
    assert!([2, 3].contains(&said.code), "{said:?}");
    assert!(format!("{}{}", said.out, said.err).contains("Read-only"), "it says why: {said:?}");
    let dry = heal(&workspace, "paper", &["--dry-run"]).json();
    assert!(dry["findings"].as_array().is_some_and(|list| list.len() >= 4), "{dry:#}");
    drop(mount);
    workspace.tree().assert_same(&before, "nothing was changed");
}

/// WSP-4, WSP-6: one folder that may only be read: what lies there is told with the reason, everything else is healed.
#[test]
fn a_read_only_folder() {
    let workspace = Workspace::empty();
    broken(&workspace);
    let positions = workspace.read(POSITIONS);
    let mount = Mount::read_only(&workspace.path("logs"));
    let report = heal(&workspace, "paper", &[]).json();
    let lines = found(&report);
    assert!(lines.contains(&"lock_stale healed state/bot.lock".to_owned()), "{lines:?}");
    assert!(lines.contains(&"directory_missing healed data".to_owned()), "{lines:?}");
    let findings = report["findings"].as_array().expect("findings");
    for path in [POSITIONS, PORTFOLIO] {
        let finding = findings.iter().find(|finding| finding["path"] == path).expect("it is told");
        assert_eq!(finding["state"], "failed", "{finding}");
        assert!(finding["detail"].as_str().is_some_and(|why| why.contains("may not be written")), "{finding}");
    }
    assert_eq!(report["validation"]["status"], "critical", "{report:#}");
    assert_eq!(workspace.read(POSITIONS), positions);
    drop(mount);
    heal(&workspace, "paper", &[]).ended(0);
    assert!(workspace.path(PORTFOLIO).exists());
}
