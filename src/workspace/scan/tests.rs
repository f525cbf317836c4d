//! Looks at real workspaces: links, FIFOs, sockets, devices, names, ages, limits and processes.
#![expect(clippy::disallowed_methods, reason = "makes the files and processes that are looked at")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use globset::{GlobBuilder, GlobSetBuilder};

use super::*;
use crate::base::clock::Clock;
use crate::workspace::Retention;
use crate::workspace::layout::{BotPattern, FileSpec, Layout, Patterns};

fn patterns(written: &[&str]) -> Patterns {
    let mut set = GlobSetBuilder::new();
    for text in written {
        set.add(GlobBuilder::new(text).literal_separator(true).build().unwrap());
    }
    Patterns { written: written.iter().map(|text| (*text).to_owned()).collect(), set: set.build().unwrap() }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn file(at: &str, role: Role) -> FileSpec {
    FileSpec { path: path(at), role, empty: None, keys: Vec::new(), required: false, schema: None }
}

/// The patterns of the built-in layout, and some folders and files.
fn layout() -> Layout {
    Layout {
        directories: ["logs", "state", "state/heartbeats", "feature_store"].map(path).to_vec(),
        files: vec![file("logs/positions.json", Role::Positions), file("config/bot.json", Role::Config)],
        locks: patterns(&["state/**/*.lock", "logs/**/*.lock"]),
        lock_age: Duration::from_secs(300),
        heartbeats: patterns(&["state/heartbeats/*.json"]),
        heartbeat_age: Duration::from_secs(600),
        json: patterns(&["state/*.json"]),
        bot: None,
    }
}

struct Workspace {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Workspace {
    fn new(layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            enabled: true,
            every: Duration::from_secs(600),
            workspace: folder.path().to_owned(),
            state_dir: folder.path().join(".chiron"),
            mode: None,
            dry_run: false,
            layout: Arc::new(layout),
            own_files: Arc::new(Vec::new()),
            slot: None,
            retention: Retention::default(),
            quiet: Duration::from_secs(2),
            file_max: 64 << 20,
        };
        Self { folder, settings }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that last changed `age` seconds ago, with the folders above it.
    fn write(&self, name: &str, content: &str, age: u64) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        let file = fs::File::create(self.at(name)).unwrap();
        std::io::Write::write_all(&mut &file, content.as_bytes()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    fn root(&self) -> Root {
        Root::open(self.folder.path()).unwrap()
    }

    fn scan(&self) -> Scan {
        scan(&self.root(), &self.settings, Clock::system().now()).unwrap()
    }

    fn walk(&self, limits: walk::Limits) -> walk::Found {
        let own = Own::of(&self.root(), &self.settings);
        walk::walk(&self.root(), &self.settings.layout, &own, limits)
    }
}

fn content<'a>(scan: &'a Scan, at: &str) -> Option<&'a [u8]> {
    match scan.entries.get(&path(at)) {
        Some(Entry::File(file)) => file.content.as_deref(),
        _ => None,
    }
}

fn names(paths: &[RelPath]) -> Vec<&str> {
    paths.iter().map(RelPath::as_str).collect()
}

/// WSP-1: whatever stands under a path of the layout is told as what it is, without waiting on it; nothing outside of the
/// workspace is looked at.
#[test]
fn everything_is_seen_as_what_it_is() {
    let shapes = [
        "file",
        "empty",
        "folder",
        "absent",
        "fifo",
        "socket",
        "device",
        "dangling",
        "outside",
        "absolute",
        "loop",
        "inside",
        "to-folder",
        "file/below",
        "absent/below",
        "dangling/below",
        "outside/below",
    ];
    let files = shapes.iter().map(|name| file(name, Role::State)).collect();
    let workspace = Workspace::new(Layout { files, ..Layout::default() });
    workspace.write("file", "{\"a\": 1}", 7);
    workspace.write("empty", "", 7);
    workspace.write("folder/inner", "", 7);
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, workspace.at(name), kind, rustix::fs::Mode::from_raw_mode(0o600), device)
    };
    node("fifo", rustix::fs::FileType::Fifo, 0).unwrap();
    // Only root may make one, and not in every container.
    let has_device = node("device", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3)).is_ok();
    let _socket = std::os::unix::net::UnixListener::bind(workspace.at("socket")).unwrap();
    for (target, link) in [
        ("nothing", "dangling"),
        ("../outside", "outside"),
        ("/etc", "absolute"),
        ("loop", "loop"),
        ("file", "inside"),
        ("folder", "to-folder"),
    ] {
        symlink(target, workspace.at(link)).unwrap();
    }
    let begun = Instant::now();
    let scan = workspace.scan();
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits");
    let both = Access { read: true, write: true };
    let other = |what: &str| Entry::Other(what.to_owned());
    for (name, expected) in [
        ("folder", Entry::Directory(both)),
        ("to-folder", Entry::Directory(both)),
        ("absent", Entry::Missing),
        ("absent/below", Entry::Missing),
        ("fifo", other("a FIFO")),
        ("socket", other("a socket")),
        ("device", if has_device { other("a device") } else { Entry::Missing }),
        ("dangling", other("a dangling link to nothing")),
        ("outside", other("a link that leaves the workspace")),
        ("absolute", other("a link that leaves the workspace")),
        ("outside/below", other("a link that leaves the workspace")),
        ("loop", other("links that lead to each other")),
        ("file/below", Entry::Unreadable("a part of its path is no folder".to_owned())),
    ] {
        assert_eq!(scan.entries[&path(name)], expected, "{name}");
    }
    let Entry::File(seen) = &scan.entries[&path("file")] else { panic!("{:?}", scan.entries) };
    assert_eq!((seen.content.as_deref(), seen.access), (Some(&b"{\"a\": 1}"[..]), both));
    let age = scan.at.since(seen.version.modified());
    assert!(age >= Duration::from_secs(7) && age < Duration::from_secs(60), "{age:?}");
    assert_eq!((seen.version.len, seen.version.mode), (8, 0o644 & !umask()));
    assert_eq!(seen.version.sha256, crate::workspace::root::sha256(b"{\"a\": 1}"));
    // A link inside the workspace is the file it leads to.
    assert_eq!(scan.entries[&path("inside")], scan.entries[&path("file")]);
    assert_eq!(content(&scan, "empty"), Some(&b""[..]));
    assert!(scan.refused.is_empty() && scan.locks.is_empty(), "{scan:?}");
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

/// WSP-1: what may not be written or read is told; the superuser may everything.
#[test]
fn rights_are_told() {
    let files = vec![file("closed", Role::State), file("fixed", Role::State)];
    let workspace = Workspace::new(Layout { files, ..Layout::default() });
    for (name, mode) in [("closed", 0o000), ("fixed", 0o444)] {
        workspace.write(name, "x", 0);
        fs::set_permissions(workspace.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    let scan = workspace.scan();
    let access = |name: &str| match &scan.entries[&path(name)] {
        Entry::File(seen) => (seen.access.read, seen.access.write, seen.content.is_some()),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(access("closed"), (is_root, is_root, is_root));
    assert_eq!(access("fixed"), (true, is_root, true));
}

/// WSP-2: files that are too large are seen, not read; what is held at once is bounded.
#[test]
fn large_files_are_not_read() {
    let files = (0..6).map(|at| file(&format!("f{at}"), Role::State)).collect();
    let mut workspace = Workspace::new(Layout { files, ..Layout::default() });
    workspace.settings.file_max = 1_000;
    workspace.write("f0", &"x".repeat(1_001), 0);
    for at in 1..6 {
        workspace.write(&format!("f{at}"), &"x".repeat(1_000), 0);
    }
    let scan = workspace.scan();
    let read: Vec<bool> = (0..6).map(|at| content(&scan, &format!("f{at}")).is_some()).collect();
    assert_eq!(read, [false, true, true, true, true, false]);
    let refused: Vec<&str> = scan.refused.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(refused, ["f5"]);
    let Entry::File(seen) = &scan.entries[&path("f0")] else { panic!("{:?}", scan.entries) };
    assert_eq!((seen.version.len, seen.version.sha256.as_str()), (1_001, ""));
    // The limit of the settings themselves, with a file that takes no room.
    workspace.settings.file_max = 64 << 20;
    fs::File::create(workspace.at("f0")).unwrap().set_len((64 << 20) + 1).unwrap();
    assert_eq!(content(&workspace.scan(), "f0"), None);
}

/// WSP-2: locks, heartbeats and JSON files are found by the layout's patterns wherever they point, and only there; a package
/// manager's locks and chiron's own files never are.
#[test]
fn patterns_are_walked() {
    let mut workspace = Workspace::new(layout());
    for name in [
        "state/a.lock",
        "state/deep/er/b.lock",
        "logs/c.lock",
        "elsewhere/d.lock",
        "e.lock",
        "state/f.locked",
        "state/Cargo.lock",
        "state/deep/poetry.lock",
        "state/node_modules/x/g.lock",
        "logs/.venv/h.lock",
        "state/lib/site-packages/i.lock",
        "state/own.lock",
        ".chiron/j.lock",
        "state/.chiron/k.lock",
        "state/heartbeats/main.json",
        "state/heartbeats/own.json",
        "state/heartbeats/deep/no.json",
        "state/extra.json",
        "state/deep/no.json",
        "logs/positions.json",
    ] {
        workspace.write(name, "{}", 3_600);
    }
    fs::create_dir(workspace.at("state/folder.lock")).unwrap();
    workspace.write("state/folder.lock/l.lock", "", 3_600);
    workspace.settings.own_files =
        Arc::new(vec![workspace.at("state/own.lock"), workspace.at("state/heartbeats/own.json")]);
    workspace.settings.state_dir = workspace.at("state/.chiron");
    let scan = workspace.scan();
    let locks: Vec<&str> = scan.locks.keys().map(RelPath::as_str).collect();
    assert_eq!(locks, ["logs/c.lock", "state/a.lock", "state/deep/er/b.lock", "state/folder.lock/l.lock"]);
    assert!(scan.locks.values().all(|holder| *holder == Holder::Nobody), "{:?}", scan.locks);
    assert_eq!(names(&scan.heartbeats), ["state/heartbeats/main.json"]);
    assert_eq!(names(&scan.json), ["state/extra.json"]);
    assert_eq!(content(&scan, "state/heartbeats/main.json"), Some(&b"{}"[..]));
    let seen: Vec<&str> = scan.entries.keys().map(RelPath::as_str).collect();
    let expected = [
        "config",
        "config/bot.json",
        "feature_store",
        "logs",
        "logs/c.lock",
        "logs/positions.json",
        "state",
        "state/a.lock",
        "state/deep",
        "state/deep/er",
        "state/deep/er/b.lock",
        "state/extra.json",
        "state/folder.lock",
        "state/folder.lock/l.lock",
        "state/heartbeats",
        "state/heartbeats/main.json",
    ];
    assert_eq!(seen, expected);
    assert!(scan.refused.is_empty(), "{:?}", scan.refused);
    assert!(scan.visited > 20 && scan.visited < 60, "{}", scan.visited);
}

/// WSP-2: a lock is looked at once it is old enough, to the second; a young one is not even read.
#[test]
fn only_old_locks_are_looked_at() {
    let workspace = Workspace::new(layout());
    for (name, age) in [("young", 10), ("old", 400)] {
        workspace.write(&format!("state/{name}.lock"), "1", age);
    }
    let scan = workspace.scan();
    let locks: Vec<&str> = scan.locks.keys().map(RelPath::as_str).collect();
    assert_eq!(locks, ["state/old.lock"]);
    assert_eq!((content(&scan, "state/young.lock"), content(&scan, "state/old.lock")), (None, Some(&b"1"[..])));
    let Entry::File(seen) = &scan.entries[&path("state/young.lock")] else { panic!("{:?}", scan.entries) };
    for (after, is_old) in [(299_999, false), (300_000, true)] {
        let now = seen.version.modified().plus(Duration::from_millis(after));
        let scan = super::scan(&workspace.root(), &workspace.settings, now).unwrap();
        assert_eq!(scan.locks.contains_key(&path("state/young.lock")), is_old, "{after}");
    }
}

/// WSP-6: links to folders are not walked through, fixed parts of patterns inside the workspace aside, and loops end.
#[test]
fn links_are_not_walked_through() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.lock"), "").unwrap();
    let mut layout = layout();
    layout.heartbeats = patterns(&["state/heartbeats/*.json", "beats/*.json", "away/*.json"]);
    let workspace = Workspace::new(layout);
    workspace.write("data/state/b.lock", "", 3_600);
    workspace.write("data/beats/main.json", "{}", 0);
    for (target, link) in [
        (outside.path().to_str().unwrap(), "data/state/outside"),
        ("..", "data/state/up"),
        (".", "data/state/self"),
        ("../..", "data/state/root"),
        ("data/state", "state"),
        ("../beats", "data/state/heartbeats"),
        ("data/beats", "beats"),
        (outside.path().to_str().unwrap(), "away"),
        ("b.lock", "data/state/c.lock"),
        ("nothing", "data/state/d.lock"),
    ] {
        symlink(target, workspace.at(link)).unwrap();
    }
    let scan = workspace.scan();
    let locks: Vec<&str> = scan.locks.keys().map(RelPath::as_str).collect();
    assert_eq!(locks, ["state/b.lock", "state/c.lock"]);
    assert_eq!(scan.entries[&path("state/d.lock")], Entry::Other("a dangling link to nothing".to_owned()));
    assert_eq!(names(&scan.heartbeats), ["beats/main.json", "state/heartbeats/main.json"]);
    let refused: Vec<&str> = scan.refused.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(refused, ["away"], "{:?}", scan.refused);
}

/// WSP-2: names that are no UTF-8 are told if they would have mattered.
#[test]
fn names_without_text_are_refused() {
    let workspace = Workspace::new(layout());
    workspace.write("state/a.lock", "", 3_600);
    let raw = |name: &[u8]| workspace.at("state").join(OsStr::from_bytes(name));
    fs::write(raw(b"b\xff.lock"), "").unwrap();
    fs::write(raw(b"c\xff.txt"), "").unwrap();
    fs::create_dir(raw(b"d\xff")).unwrap();
    fs::write(raw(b"d\xff/e.lock"), "").unwrap();
    fs::write(raw(b"f\n.lock"), "").unwrap();
    let scan = workspace.scan();
    let mut refused: Vec<&str> = scan.refused.iter().map(|(path, _)| path.as_str()).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["state/b\u{fffd}.lock", "state/d\u{fffd}"], "{:?}", scan.refused);
    assert_eq!(scan.locks.len(), 1);
    assert!(scan.entries.contains_key(&path("state/f\n.lock")));
}

/// WSP-2: depth, names and matches are bounded, and what was left out is told.
#[test]
fn walking_is_bounded() {
    let workspace = Workspace::new(layout());
    let deep = |folders: usize| format!("state/{}x.lock", "d/".repeat(folders));
    for folders in [0, 1, 2, 3] {
        workspace.write(&deep(folders), "", 3_600);
    }
    let limits = walk::Limits { depth: 3, ..walk::Limits::default() };
    let found = workspace.walk(limits);
    assert_eq!(found.locks, [path(&deep(0)), path(&deep(1)), path(&deep(2))]);
    assert_eq!(found.refused, [("state/d/d/d".to_owned(), "deeper than 3 folders, not looked at".to_owned())]);
    for limits in [walk::Limits { names: 3, ..limits }, walk::Limits { matches: 1, ..limits }] {
        let found = workspace.walk(limits);
        assert!(found.locks.len() <= 2 && found.refused.len() == 1, "{found:?}");
        assert!(found.refused[0].1.contains("the rest was not looked at"), "{found:?}");
    }
    // A pattern without `**` is walked no deeper than it reaches.
    let mut shallow = layout();
    shallow.locks = patterns(&["state/*/*.lock"]);
    let shallow =
        Workspace { settings: Settings { layout: Arc::new(shallow), ..workspace.settings.clone() }, ..workspace };
    let found = shallow.walk(limits);
    assert_eq!((found.locks, found.refused), (vec![path(&deep(1))], vec![]));
}

/// WSP-2: patterns with alternatives and wildcards in their first part find what their globs match.
#[test]
fn patterns_of_every_form_are_walked() {
    for (pattern, expected) in [
        ("{state,logs}/**/*.lock", vec!["logs/c.lock", "state/a.lock", "state/x/b.lock"]),
        ("state/{a,x/b}.lock", vec!["state/a.lock", "state/x/b.lock"]),
        ("{state/a.lock,logs/c.lock}", vec!["logs/c.lock", "state/a.lock"]),
        ("**/b.lock", vec!["state/x/b.lock"]),
        ("state/[ab].lock", vec!["state/a.lock"]),
        ("state/a.lock", vec!["state/a.lock"]),
        ("top.lock", vec!["top.lock"]),
        ("*/?.lock", vec!["logs/c.lock", "state/a.lock"]),
        ("state/**", vec!["state/a.lock", "state/x/b.lock"]),
    ] {
        let workspace = Workspace::new(Layout { locks: patterns(&[pattern]), ..Layout::default() });
        for name in ["state/a.lock", "state/x/b.lock", "logs/c.lock", "top.lock"] {
            workspace.write(name, "", 3_600);
        }
        let mut found = workspace.walk(walk::Limits::default()).locks;
        found.sort();
        assert_eq!(names(&found), expected, "{pattern}");
    }
}

/// WSP-1: a workspace that was removed while it was open is no workspace.
#[test]
fn a_removed_workspace_is_an_error() {
    let workspace = Workspace::new(layout());
    let root = workspace.root();
    fs::remove_dir(workspace.folder.path()).unwrap();
    let error = scan(&root, &workspace.settings, Clock::system().now()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Workspace);
}

/// WSP-7: the last good copy is at hand for every configuration file that does not hold exactly that.
#[test]
fn good_copies_are_at_hand() {
    let workspace = Workspace::new(Layout { files: vec![file("config/bot.json", Role::Config)], ..Layout::default() });
    let good = "{\"leverage\": 1}";
    workspace.write("config/bot.json", good, 0);
    assert!(workspace.scan().good.is_empty(), "none is kept");
    let sha = crate::workspace::root::sha256(good.as_bytes());
    workspace.write(&format!(".chiron/backups/{}/{sha}", &sha[..2]), good, 0);
    let index = format!("{{\"format\": 1, \"files\": {{\"config/bot.json\": {{\"sha256\": \"{sha}\", \"at\": 0}}}}}}");
    let at = serde_json::to_string(&Timestamp::from_millis(0)).unwrap();
    workspace.write(".chiron/good.json", &index.replace("\"at\": 0", &format!("\"at\": {at}")), 0);
    for (content, is_wanted) in
        [(Some(good), false), (Some("{\"leverage\": 2}"), true), (Some("{"), true), (Some(""), true), (None, true)]
    {
        match content {
            Some(content) => workspace.write("config/bot.json", content, 0),
            None => fs::remove_file(workspace.at("config/bot.json")).unwrap(),
        }
        let found = workspace.scan().good;
        assert_eq!(found.get(&path("config/bot.json")).map(|copy| &**copy), is_wanted.then_some(good.as_bytes()));
    }
}

/// WSP-7: a configuration file that somebody has open in an editor is told, by what vim, Emacs and others leave beside it.
#[test]
fn editors_are_seen() {
    let files = vec![file("config/bot.json", Role::Config), file("bot.json", Role::State)];
    let workspace = Workspace::new(Layout { files, ..Layout::default() });
    workspace.write("config/bot.json", "{}", 0);
    assert!(workspace.scan().edited.is_empty());
    for (litter, is_seen) in [
        (".bot.json.swp", true),
        (".bot.json.swo", true),
        ("#bot.json#", true),
        ("bot.json~", true),
        ("4913", true),
        (".other.json.swp", false),
        ("bot.json.bak", false),
    ] {
        workspace.write(&format!("config/{litter}"), "", 86_400);
        assert_eq!(workspace.scan().edited.contains(&path("config/bot.json")), is_seen, "{litter}");
        fs::remove_file(workspace.at("config").join(litter)).unwrap();
    }
    symlink("user@host.4711:17", workspace.at("config/.#bot.json")).unwrap();
    assert_eq!(workspace.scan().edited, BTreeSet::from([path("config/bot.json")]));
    fs::remove_file(workspace.at("config/.#bot.json")).unwrap();
    // A copy that an editor keeps for good tells of nobody once it is old.
    workspace.write("config/bot.json~", "", 0);
    let later = Clock::system().now().plus(Duration::from_secs(601));
    assert!(super::scan(&workspace.root(), &workspace.settings, later).unwrap().edited.is_empty());
    // Other files are the bot's, and nobody edits them.
    workspace.write(".bot.json.swp", "", 0);
    assert!(!workspace.scan().edited.contains(&path("bot.json")));
}

/// WSP-5: what may be done with the workspace's own folder is told.
#[test]
fn rights_to_the_workspace_are_told() {
    let workspace = Workspace::new(Layout::default());
    let both = Access { read: true, write: true };
    assert_eq!(workspace.scan().root_access, both);
    fs::set_permissions(workspace.folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(workspace.scan().root_access, Access { write: is_root, ..both });
    // What even root may not write.
    let proc = Root::open(Path::new("/proc/self")).unwrap();
    assert_eq!(root_access(&proc).unwrap(), Access { read: true, write: false });
    fs::set_permissions(workspace.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// WSP-6: another file system below a wildcard is not entered, and told; one that a pattern names is.
#[test]
fn other_file_systems_are_not_entered() {
    // `/proc` is one everywhere.
    for (pattern, locks, refused) in [
        ("p*/uptime", vec![], vec!["proc"]),
        ("proc/upt*", vec!["proc/uptime"], vec![]),
        ("proc/*/uptime", vec![], vec![]),
    ] {
        let mut workspace = Workspace::new(Layout { locks: patterns(&[pattern]), ..Layout::default() });
        workspace.settings.workspace = PathBuf::from("/");
        let root = Root::open(Path::new("/")).unwrap();
        let own = Own::of(&root, &workspace.settings);
        let found = walk::walk(&root, &workspace.settings.layout, &own, walk::Limits::default());
        assert_eq!(names(&found.locks), locks, "{pattern}");
        let told: Vec<&str> =
            found.refused.iter().filter(|(_, why)| why.contains("is mounted")).map(|(at, _)| at.as_str()).collect();
        // What else is mounted in `/proc` differs.
        assert!(refused.iter().all(|at| told.contains(at)), "{pattern}: {:?}", found.refused);
    }
    let both = Layout { locks: patterns(&["p*/uptime", "proc/upt*"]), ..Layout::default() };
    let root = Root::open(Path::new("/")).unwrap();
    let found = walk::walk(&root, &both, &Own::default(), walk::Limits::default());
    assert_eq!(names(&found.locks), ["proc/uptime"]);
    assert!(found.refused.iter().any(|(at, _)| at == "proc"), "{:?}", found.refused);
}

/// WSP-2: while a heartbeat is young, or a process of the bot lives, a lock that names nobody is nobody's to remove.
#[test]
fn mute_locks_stay_while_the_bot_lives() {
    let (workspace, token) = with_bot();
    workspace.write("state/a.lock", "", 3_600);
    let is_unknown = || matches!(workspace.scan().locks[&path("state/a.lock")], Holder::Unknown(_));
    assert!(!is_unknown());
    for (age, expected) in [(0, true), (700, false)] {
        workspace.write("state/heartbeats/main.json", "{}", age);
        assert_eq!(is_unknown(), expected, "{age}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let bot = Bot::child(elsewhere.path(), &token);
    only(&workspace, "read x");
    assert!(!is_unknown(), "of another workspace");
    drop(bot);
    let bot = Bot::child(workspace.folder.path(), &token);
    only(&workspace, "read x");
    assert!(is_unknown());
    drop(bot);
    assert!(!is_unknown());
}

/// WSP-2: a shell that waits for the bot is not the bot.
#[test]
fn a_shell_around_the_bot_is_not_the_bot() {
    let (workspace, token) = with_bot();
    let script = format!("sh -c 'read x; :' {token}; :");
    let bot = Bot::start(Command::new("sh").args(["-c", &script]), workspace.folder.path());
    let found = only(&workspace, "read x; :");
    assert!(found.pid != bot.child.id() && found.has_parent, "{found:?}");
}

/// A process of a bot that waits until its standard input is closed, which the end of the test does.
struct Bot {
    child: Child,
    _stdin: ChildStdin,
}

impl Bot {
    /// A child of this process, with the token in its command line.
    fn child(folder: &Path, token: &str) -> Self {
        Self::start(Command::new("sh").args(["-c", "read x", token]), folder)
    }

    /// One whose parent has ended: it leads no session, and has been adopted.
    fn orphan(folder: &Path, token: &str) -> Self {
        let script = "exec 3<&0; sh -c 'read x <&3' \"$0\" &";
        let mut bot = Self::start(Command::new("setsid").args(["sh", "-c", script, token]), folder);
        assert!(bot.child.wait().unwrap().success());
        bot
    }

    fn start(command: &mut Command, folder: &Path) -> Self {
        let mut child = command.current_dir(folder).stdin(Stdio::piped()).spawn().expect("sh and setsid are installed");
        let stdin = child.stdin.take().unwrap();
        Self { child, _stdin: stdin }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        // Ends by itself when its input is closed; a child is ended and reaped here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn token() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("scan-bot-{}-{}.py", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A workspace whose bot is told by a token of its own.
fn with_bot() -> (Workspace, String) {
    let token = token();
    let bot = BotPattern { command: token.clone(), grace: Duration::from_secs(1) };
    (Workspace::new(Layout { bot: Some(bot), ..layout() }), token)
}

/// The only process of the bot, once its command line is that of a bot alone.
fn only(workspace: &Workspace, script: &str) -> BotProcess {
    let begun = Instant::now();
    loop {
        let found = workspace.scan().processes;
        match &*found {
            [one]
                if one.command.contains(script)
                    && !one.command.contains("exec")
                    && !one.command.contains("sh -c 'r") =>
            {
                return one.clone();
            }
            _ => assert!(begun.elapsed() < Duration::from_secs(30), "{found:?}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// WSP-2: a process of the bot whose parent lives is no orphan; one whose parent has ended is.
#[test]
fn orphans_are_told_from_children() {
    let (workspace, token) = with_bot();
    assert_eq!(workspace.scan().processes, []);
    let child = Bot::child(workspace.folder.path(), &token);
    let found = only(&workspace, "read x");
    assert_eq!((found.pid, found.command.as_str()), (child.child.id(), &*format!("sh -c read x {token}")));
    assert!(found.has_parent && found.in_workspace && !found.is_named, "{found:?}");
    let age = Clock::system().now().since(found.started);
    assert!(age < Duration::from_secs(60), "{found:?}");
    let ticks = procfs::process(i32::try_from(found.pid).unwrap()).unwrap().started;
    assert_eq!(found.started_ticks, ticks);
    drop(child);
    assert_eq!(workspace.scan().processes, []);

    let orphan = Bot::orphan(workspace.folder.path(), &token);
    let found = only(&workspace, "read x <&3");
    assert!(!found.has_parent && found.in_workspace && !found.is_named, "{found:?}");
    // Whatever runs this test may itself be a unit or a container, which then owns the orphan too.
    assert_eq!(found.supervisor.is_some(), processes::tests_are_owned(), "{found:?}");
    drop(orphan);
}

/// WSP-2: a young heartbeat, lock or pid file speaks for the process that it names, an old one does not; nor does one
/// of another host.
#[test]
fn a_young_file_speaks_for_its_process() {
    let (workspace, token) = with_bot();
    let orphan = Bot::orphan(workspace.folder.path(), &token);
    let pid = only(&workspace, "read x").pid;
    for (name, content, age, expected) in [
        ("state/heartbeats/main.json", format!("{{\"pid\": {pid}}}"), 0, true),
        ("state/heartbeats/main.json", format!("{{\"pid\": {pid}}}"), 700, false),
        ("state/heartbeats/main.json", format!("{{\"pid\": {}}}", pid + 1), 0, false),
        ("state/heartbeats/main.json", "{\"status\": \"alive\"}".to_owned(), 0, true),
        ("state/heartbeats/main.json", "{\"status\": \"alive\"}".to_owned(), 700, false),
        ("state/heartbeats/main.json", format!("{{\"pid\": {pid}, \"host\": \"elsewhere\"}}"), 0, false),
        ("state/bot.lock", format!("{pid}\n"), 0, true),
        ("state/bot.lock", format!("{pid}\n"), 400, true),
        // It began after that, but is of the lock's owner, so it may be the one.
        ("state/bot.lock", format!("{pid}\n"), 700, true),
        ("state/bot.lock", format!("{}\n", pid + 1), 0, false),
        ("bot.pid", format!("{pid}\n"), 0, true),
        ("feature_store/bot.pid", format!("{pid}\n"), 0, true),
        ("logs/bot.pid", format!("{pid}\n"), 0, true),
        ("logs/bot.pid", format!("{pid}\n"), 700, false),
        ("elsewhere/bot.pid", format!("{pid}\n"), 0, false),
    ] {
        workspace.write(name, &content, age);
        let found = workspace.scan().processes;
        assert!(matches!(&*found, [one] if one.is_named == expected), "{name} {content} {age}: {found:?}");
        fs::remove_file(workspace.at(name)).unwrap();
    }
    drop(orphan);
}

/// WSP-2: a process belongs to this workspace by its folder or by an argument, and to no other.
#[test]
fn other_workspaces_are_told_apart() {
    let (workspace, token) = with_bot();
    let elsewhere = tempfile::tempdir().unwrap();
    let here = workspace.folder.path().to_str().unwrap();
    for (folder, more, expected) in [
        (elsewhere.path(), String::new(), false),
        (elsewhere.path(), format!("{here}-2/config.json"), false),
        (elsewhere.path(), format!("{here}/config.json"), true),
        (elsewhere.path(), format!("--config={here}/config.json"), true),
        (workspace.folder.path(), String::new(), true),
    ] {
        let bot = Bot::start(Command::new("sh").args(["-c", "read x", &token, &more]), folder);
        assert_eq!(only(&workspace, "read x").in_workspace, expected, "{folder:?} {more}");
        drop(bot);
    }
}

/// WSP-2: without a pattern, or with an empty one, no process is the bot's; chiron itself never is.
#[test]
fn nobody_is_the_bot_without_a_pattern() {
    let mut workspace = Workspace::new(layout());
    assert_eq!(workspace.scan().processes, []);
    for command in ["", " "] {
        let bot = Some(BotPattern { command: command.to_owned(), grace: Duration::from_secs(1) });
        workspace.settings.layout = Arc::new(Layout { bot, ..layout() });
        assert_eq!(workspace.scan().processes, []);
    }
    let own = std::env::args().next().unwrap();
    let bot = Some(BotPattern { command: own, grace: Duration::from_secs(1) });
    workspace.settings.layout = Arc::new(Layout { bot, ..layout() });
    assert!(workspace.scan().processes.iter().all(|found| found.pid != std::process::id()));
}
