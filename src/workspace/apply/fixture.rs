//! A real workspace in a temporary folder, for the tests of healing: files, plans made by hand, trees compared.
//!
//! **Invariant:** only tests use it.
#![expect(clippy::disallowed_methods, reason = "a test makes and reads the files that are healed")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::transaction::{Outcome, Transaction};
use crate::base::clock::Clock;
use crate::model::{FindingCode, HealingTrigger, Mode, Timestamp};
use crate::workspace::backup::Backups;
use crate::workspace::layout::{Layout, RelPath};
use crate::workspace::ledger::folder::Folder;
use crate::workspace::ledger::{Ledger, settle};
use crate::workspace::plan::{Change, Remedy};
use crate::workspace::root::Root;
use crate::workspace::{Error, Retention, Settings};

/// What a tree holds: path to a line that tells everything that is compared.
pub(in crate::workspace) type Tree = BTreeMap<String, String>;

pub(in crate::workspace) struct Fixture {
    /// Removed at the end.
    _folder: tempfile::TempDir,
    pub(in crate::workspace) settings: Settings,
    pub(in crate::workspace) clock: Clock,
}

/// A path that is written out in a test.
pub(in crate::workspace) fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("the test names a path below the workspace")
}

/// Settings of the workspace at that path.
pub(in crate::workspace) fn settings_of(workspace: &Path) -> Settings {
    Settings {
        enabled: true,
        every: Duration::from_secs(600),
        workspace: workspace.to_owned(),
        state_dir: workspace.join(".chiron"),
        mode: Some(Mode::Paper),
        dry_run: false,
        layout: Arc::new(Layout::default()),
        own_files: Arc::new(Vec::new()),
        slot: None,
        retention: Retention::default(),
        quiet: Duration::ZERO,
        file_max: 64 << 20,
    }
}

impl Fixture {
    pub(in crate::workspace) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings_of(folder.path());
        let clock = Clock::manual(Timestamp::parse_rfc3339("2025-11-23T01:34:56Z").expect("a date"));
        Self { _folder: folder, settings, clock }
    }

    /// A workspace at a path that is there already, with the same clock.
    pub(in crate::workspace) fn at(&self, workspace: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { _folder: folder, settings: settings_of(workspace), clock: self.clock.clone() }
    }

    pub(in crate::workspace) fn path(&self, path: &str) -> PathBuf {
        self.settings.workspace.join(path)
    }

    pub(in crate::workspace) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(path).parent().expect("it has a folder")).expect("folders can be made");
        std::fs::write(self.path(path), content).expect("a file can be written");
    }

    pub(in crate::workspace) fn read(&self, path: &str) -> Option<String> {
        std::fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(in crate::workspace) fn root(&self) -> Root {
        Root::open(&self.settings.workspace).expect("the workspace is there")
    }

    pub(in crate::workspace) fn ledger(&self) -> Ledger {
        Ledger::lock(Folder::create(&self.settings, &self.root()).expect("a folder")).expect("nobody else heals")
    }

    fn change(&self, path: &str, code: FindingCode, remedy: Remedy) -> Change {
        let before = self.root().hash(&rel(path)).ok();
        Change { findings: Vec::new(), code, path: Some(rel(path)), remedy, before }
    }

    pub(in crate::workspace) fn replace(&self, path: &str, content: &str) -> Change {
        let remedy = Remedy::ReplaceFile { content: content.as_bytes().into(), keep_times: false };
        self.change(path, FindingCode::JsonCorrupt, remedy)
    }

    pub(in crate::workspace) fn reset(&self, path: &str, content: &str) -> Change {
        let remedy = Remedy::ReplaceFile { content: content.as_bytes().into(), keep_times: true };
        self.change(path, FindingCode::HeartbeatStale, remedy)
    }

    pub(in crate::workspace) fn create(&self, path: &str, content: &str) -> Change {
        self.change(path, FindingCode::FileMissing, Remedy::CreateFile(content.as_bytes().into()))
    }

    pub(in crate::workspace) fn create_dir(&self, path: &str) -> Change {
        self.change(path, FindingCode::DirectoryMissing, Remedy::CreateDirectory)
    }

    pub(in crate::workspace) fn remove(&self, path: &str) -> Change {
        self.change(path, FindingCode::LockStale, Remedy::RemoveFile)
    }

    /// Makes those changes as one healing; `hook` is called at each step.
    pub(in crate::workspace) fn heal(&self, changes: &[Change], hook: &dyn Fn(&str)) -> Result<Outcome, Error> {
        let root = self.root();
        let ledger = Ledger::lock(Folder::create(&self.settings, &root)?)?;
        let backups = Backups::create(&ledger.state)?;
        settle::settle(&root, &ledger, &backups, self.clock.now())?;
        let transaction = Transaction {
            root: &root,
            ledger: &ledger,
            backups: &backups,
            clock: &self.clock,
            trigger: HealingTrigger::Command,
            by: None,
            undoes: None,
            grace: Some(Duration::from_millis(200)),
            hook,
        };
        transaction.run(changes.iter().map(crate::workspace::engine::step).collect())
    }

    /// Everything below the workspace but what chiron keeps for itself.
    pub(in crate::workspace) fn tree(&self) -> Tree {
        let mut found = Tree::new();
        let mut left = vec![self.settings.workspace.clone()];
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(&folder).expect("it can be listed") {
                let path = entry.expect("it can be listed").path();
                if path == self.settings.state_dir {
                    continue;
                }
                let stat = std::fs::symlink_metadata(&path).expect("it is there");
                let name = path.strip_prefix(&self.settings.workspace).expect("it is below").display().to_string();
                let rights = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
                let line = if stat.is_dir() {
                    left.push(path);
                    rights
                } else if stat.is_file() {
                    let content = std::fs::read(&path).expect("it can be read");
                    format!("{rights} {}.{} {} {content:?}", stat.mtime(), stat.mtime_nsec(), xattrs(&path))
                } else {
                    format!("{rights} link")
                };
                found.insert(name, line);
            }
        }
        found
    }

    pub(in crate::workspace) fn set_mode(&self, path: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(path), mode).expect("the mode can be set");
    }

    /// Sets an extended attribute.
    pub(in crate::workspace) fn set_xattr(&self, path: &str, name: &str, value: &[u8]) {
        rustix::fs::setxattr(self.path(path), name, value, rustix::fs::XattrFlags::empty())
            .expect("the temporary folder's file system has extended attributes");
    }

    /// Sets the modification time.
    pub(in crate::workspace) fn set_modified(&self, path: &str, nanos: i128) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path(path)).expect("it is there");
        super::attributes::set_modified(&file, nanos).expect("times can be set");
    }
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let len = rustix::fs::listxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut found = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(path, name.as_str(), value.as_mut_slice()).expect("it can be read");
        found.push(format!("{name}={:?}", &value[..len]));
    }
    found.sort();
    found.join(",")
}
