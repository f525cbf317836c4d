//! A bot's workspace on disk, and what stands in it byte for byte.
//!
//! **Invariant:** everything written here looks as if it had rested for an hour, so that nothing is taken for the work of a
//! live bot unless a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::chiron::BINARY;

/// The folders of the built-in layout.
pub(crate) const FOLDERS: [&str; 8] =
    ["logs", "config", "configs", "data", "feature_store", "state", "state/heartbeats", "logs/backups"];

/// Open and closed positions.
pub(crate) const POSITIONS: &str = "logs/positions_futures.json";
/// The portfolio and its trades.
pub(crate) const PORTFOLIO: &str = "logs/portfolio_futures.json";
/// Alerts to the operator.
pub(crate) const OPERATOR_ALERTS: &str = "logs/operator_alerts.jsonl";

/// What chiron keeps for itself, which is no part of what is healed.
const OWN: [&str; 3] = [".chiron", OPERATOR_ALERTS, "logs/failure_point_healing.jsonl"];

/// A file of the samples of a workspace.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/workspace").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A workspace in a temporary folder.
pub(crate) struct Workspace {
    dir: Option<tempfile::TempDir>,
    root: PathBuf,
}

impl Workspace {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let root = dir.path().join("bot");
        fs::create_dir(&root).expect("a folder can be made");
        Self { dir: Some(dir), root }
    }

    /// An empty one at a place that is there already.
    pub(crate) fn at(root: &Path) -> Self {
        Self { dir: None, root: root.to_path_buf() }
    }

    /// One in which nothing is wrong.
    pub(crate) fn whole() -> Self {
        let workspace = Self::empty();
        workspace.fill();
        workspace
    }

    /// Makes an empty one whole.
    pub(crate) fn fill(&self) {
        for folder in FOLDERS {
            fs::create_dir_all(self.path(folder)).expect("a folder can be made");
        }
        self.write(POSITIONS, &sample("positions_futures.json"));
        self.write(PORTFOLIO, &sample("portfolio_futures.json"));
        self.write("config/golden_hour_config.json", b"{\"enabled\": true}\n");
        self.write("config/trading_config.json", b"{\"max_positions\": 5}\n");
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path beside it, which belongs to the test.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.as_ref().expect("it has a temporary folder").path().join(name)
    }

    /// Writes a file that has rested for an hour.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let place = self.path(path);
        fs::create_dir_all(place.parent().expect("it has a folder")).expect("a folder can be made");
        fs::write(&place, bytes).expect("a file can be written");
        self.rest(path, Duration::from_secs(3600));
    }

    /// Makes a file look as if it was written so long ago.
    pub(crate) fn rest(&self, path: &str, age: Duration) {
        let file = fs::File::options().append(true).open(self.path(path)).expect("a file can be opened");
        let at = SystemTime::now() - age + Duration::from_nanos(123_456_789);
        file.set_modified(at).expect("its time can be set");
    }

    /// What a file holds.
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What a file holds, as text.
    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(path)).expect("it is UTF-8")
    }

    /// Removes a file or folder with all that is in it.
    pub(crate) fn remove(&self, path: &str) {
        let place = self.path(path);
        if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) }.expect("it can be removed");
    }

    /// The lines of the alerts to the operator.
    pub(crate) fn operator_alerts(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(OPERATOR_ALERTS)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// `chiron COMMAND --workspace THIS ARGUMENTS`, with nothing of the test's environment that it would look at.
    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut chiron = Command::new(BINARY);
        chiron.arg(command).arg("--workspace").arg(&self.root).args(arguments).stdin(Stdio::null());
        for name in
            ["CHIRON_CONFIG_FILE", "CHIRON_WORKSPACE", "CHIRON_MODE", "CHIRON_FAILPOINTS", "NO_COLOR", "COLUMNS"]
        {
            chiron.env_remove(name);
        }
        chiron
    }

    /// Everything that stands in it, but for what chiron keeps for itself.
    pub(crate) fn tree(&self) -> Tree {
        let mut entries = BTreeMap::new();
        walk(&self.root, "", &mut entries);
        Tree(entries)
    }
}

/// One thing in a tree.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// A link's target, a file's content, nothing of a folder.
    pub(crate) content: Option<Vec<u8>>,
    /// Kind and permissions.
    pub(crate) mode: u32,
    owner: (u32, u32),
    /// Of a file; a folder's changes with what is in it.
    modified: Option<(i64, i64)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = self.content.as_deref().map(String::from_utf8_lossy);
        write!(f, "{:o} {:?} {:?} {:?} {content:?}", self.mode, self.owner, self.modified, self.xattrs)
    }
}

impl Entry {
    /// Whether it is the same thing with the same content.
    pub(crate) fn holds_the_same(&self, other: &Self) -> bool {
        self.content == other.content && self.mode & 0o170_000 == other.mode & 0o170_000
    }
}

/// Everything in a workspace: content, permissions, owner, times of files, extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Entry>);

impl Tree {
    /// Paths at which two trees differ, with what stands in each.
    pub(crate) fn against(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differing = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        differing.map(|path| format!("{path}: {:?} and {:?}", self.0.get(path), other.0.get(path))).collect()
    }

    /// Paths at which two trees do not hold the same.
    pub(crate) fn differing(&self, other: &Self) -> BTreeSet<String> {
        let paths: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differs = |path: &&String| match (self.0.get(*path), other.0.get(*path)) {
            (Some(one), Some(two)) => !one.holds_the_same(two),
            _ => true,
        };
        paths.into_iter().filter(differs).cloned().collect()
    }

    /// The two are the same in everything.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        let differing = self.against(other);
        assert!(differing.is_empty(), "{what}:\n  {}", differing.join("\n  "));
    }
}

fn walk(root: &Path, below: &str, entries: &mut BTreeMap<String, Entry>) {
    let folder = root.join(below);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in listed {
        let entry = entry.expect("a folder can be listed");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if OWN.contains(&path.as_str()) {
            continue;
        }
        let place = entry.path();
        let meta = fs::symlink_metadata(&place).expect("it can be looked at");
        let content = if meta.is_symlink() {
            Some(fs::read_link(&place).expect("a link").into_os_string().into_encoded_bytes())
        } else if meta.is_file() {
            Some(fs::read(&place).expect("it can be read"))
        } else {
            None
        };
        let modified = meta.is_file().then(|| (meta.mtime(), meta.mtime_nsec()));
        let xattrs = if meta.is_symlink() { Vec::new() } else { xattrs(&place) };
        let owner = (meta.uid(), meta.gid());
        let (mode, is_dir) = (meta.permissions().mode(), meta.is_dir());
        entries.insert(path.clone(), Entry { content, mode, owner, modified, xattrs });
        if is_dir {
            walk(root, &path, entries);
        }
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let Ok(length) = rustix::fs::listxattr(path, &mut names[..]) else { return Vec::new() };
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    let mut found = Vec::new();
    for name in names.split_terminator('\0') {
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).expect("an attribute can be read");
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    found
}
