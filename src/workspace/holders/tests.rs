//! Locks, descriptors and ids, held by real processes.
#![expect(clippy::disallowed_methods, reason = "starts the processes that hold, and writes what they hold")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::SystemTime;

use super::*;
use crate::workspace::root::Kind;

/// A process that does something with a file until it is dropped.
struct Other {
    child: Child,
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
}

impl Other {
    /// Runs the statements on the file `f` of the workspace, and answers once they have run.
    fn start(folder: &Path, statements: &str) -> Self {
        let program =
            format!("import fcntl, os, struct, sys\n{statements}\nprint('ready', flush=True)\nsys.stdin.read()\n");
        let mut child = Command::new("python3")
            .args(["-c", &program])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { stdin: child.stdin.take(), child }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stdin = None;
        self.child.wait().expect("a child can be waited for");
    }
}

/// A workspace with a file `f`.
fn workspace(content: &str) -> (tempfile::TempDir, Root, RelPath) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), content).unwrap();
    let root = Root::open(folder.path()).unwrap();
    (folder, root, RelPath::parse("f").unwrap())
}

/// What is said of the file `f` as a lock file.
fn held(root: &Root, path: &RelPath, is_bot: bool) -> Holder {
    let seen = root.stat(path).unwrap();
    assert_eq!(seen.kind, Kind::File);
    let (content, version) = root.read(path, 1 << 20).unwrap();
    let open = Open::of(&BTreeSet::from([(version.device, version.inode)]));
    holder(root, path, (&version, Some(&content)), &open, |_| is_bot)
}

/// WSP-2: every kind of lock that a process can have on a file is seen, by the kernel's table and by trying, and is gone
/// once that process is.
#[test]
fn locks_of_the_kernel_are_seen() {
    for take in [
        "f = open('f', 'r'); fcntl.flock(f, fcntl.LOCK_EX)",
        "f = open('f', 'r'); fcntl.flock(f, fcntl.LOCK_SH)",
        "f = open('f', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)",
        "f = open('f', 'r+'); fcntl.lockf(f, fcntl.LOCK_SH, 1, 1000)",
        "f = open('f', 'r+'); fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",
    ] {
        let (folder, root, path) = workspace("");
        assert_eq!((is_locked(&root, &path), held(&root, &path, false)), (Ok(false), Holder::Nobody), "{take}");
        let version = root.stat(&path).unwrap().version;
        let other = Other::start(folder.path(), take);
        assert_eq!(is_locked(&root, &path), Ok(true), "{take}");
        assert_eq!(listed(version.device, version.inode).unwrap().len(), 1, "{take}");
        // As if the table did not show it, which it does not for another container.
        assert_eq!(probe(&root.open_file(&path).unwrap(), true), Ok(true), "{take}");
        let is_own_pid = take.contains("37")
            || matches!(held(&root, &path, false), Holder::Process(who) if who.contains(&other.pid().to_string()));
        assert!(is_own_pid, "{take}: {:?}", held(&root, &path, false));
        drop(other);
        assert_eq!((is_locked(&root, &path), held(&root, &path, false)), (Ok(false), Holder::Nobody), "{take}");
        assert_eq!(root.stat(&path).unwrap().version, version, "looking changes nothing");
    }
}

/// WSP-2: a file that is merely open counts as held; one that is open for writing is told.
#[test]
fn open_files_are_seen() {
    for (mode, writes) in [("r", false), ("r+", true), ("a", true)] {
        let (folder, root, path) = workspace("x");
        let version = root.stat(&path).unwrap().version;
        assert_eq!(writers(version.device, version.inode), Ok(Vec::new()));
        let other = Other::start(folder.path(), &format!("f = open('f', '{mode}')"));
        let pid = other.pid().to_string();
        let writers = writers(version.device, version.inode).unwrap();
        assert_eq!(
            writers.iter().any(|who| who.starts_with(&format!("process {pid} ("))),
            writes,
            "{mode}: {writers:?}"
        );
        assert!(matches!(held(&root, &path, false), Holder::Process(who) if who.contains(&pid)), "{mode}");
        assert_eq!(is_locked(&root, &path), Ok(false));
        drop(other);
        assert_eq!(held(&root, &path, false), Holder::Nobody);
    }
    // What this very process has open does not count.
    let (folder, root, path) = workspace("x");
    let _file = fs::OpenOptions::new().append(true).open(folder.path().join("f")).unwrap();
    let version = root.stat(&path).unwrap().version;
    assert_eq!(writers(version.device, version.inode), Ok(Vec::new()));
}

/// WSP-2: the process whose id stands in a lock file holds it while it lives, if it is that process; what cannot be
/// found out is not "nobody".
#[test]
fn the_process_that_a_file_names_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let other = Other::start(folder.path(), "");
    let pid = other.pid();
    let dead = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let host = own_host();
    let (nobody, held_by, unknown) = (0, 1, 2);
    for (content, age, is_bot, expected) in [
        (format!("{pid}\n"), 0, false, held_by),
        (format!("{{\"pid\": {pid}}}"), 0, false, held_by),
        (format!("{{\"pid\": {pid}, \"host\": \"{host}\"}}"), 0, false, held_by),
        (format!("{{\"pid\": {pid}, \"hostname\": \"another-{host}\"}}"), 0, false, unknown),
        (format!("{{\"pid\": {dead}, \"hostname\": \"another-{host}\"}}"), 0, false, unknown),
        // Written an hour ago: by an earlier process of that id.
        (format!("{pid}\n"), 3_600, false, nobody),
        (format!("{pid}\n"), 3_600, true, unknown),
        (format!("{dead}\n"), 0, false, nobody),
        (format!("{{\"pid\": {dead}, \"host\": \"localhost\"}}"), 0, false, nobody),
        ("locked\n".to_owned(), 0, false, nobody),
        ("{\"pid\": tru".to_owned(), 0, false, unknown),
        (String::new(), 0, false, nobody),
    ] {
        let (folder, root, path) = workspace(&content);
        let file = fs::OpenOptions::new().append(true).open(folder.path().join("f")).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        drop(file);
        let found = held(&root, &path, is_bot);
        let kind = match &found {
            Holder::Nobody => nobody,
            Holder::Process(_) => held_by,
            Holder::Unknown(_) => unknown,
        };
        assert_eq!(kind, expected, "{content} {age} s old: {found:?}");
    }
    assert_eq!(named_in(format!("{{\"pid\": {pid}, \"host\": \"{host}\"}}").as_bytes()), Some(pid));
    assert_eq!(named_in(format!("{{\"pid\": {pid}, \"host\": \"another\"}}").as_bytes()), None);
}

/// WSP-2: what was not read, or may have a holder that cannot be seen, is not free.
#[test]
fn the_unseen_is_never_nobody() {
    let (_folder, root, path) = workspace("");
    let version = root.stat(&path).unwrap().version;
    let is = |content: Option<&[u8]>, open: &Open| holder(&root, &path, (&version, content), open, |_| false);
    assert_eq!(is(Some(b""), &Open::default()), Holder::Nobody);
    assert!(matches!(is(None, &Open::default()), Holder::Unknown(_)));
    let unseen = Open { unseen: BTreeSet::from([version.uid]), ..Open::default() };
    assert!(matches!(is(Some(b""), &unseen), Holder::Unknown(_)));
    let others = Open { unseen: BTreeSet::from([version.uid + 1]), ..Open::default() };
    assert_eq!(is(Some(b""), &others), Holder::Nobody);
    let foreign = Version { uid: version.uid + 1, ..version.clone() };
    let hidden = Open { hides: true, ..Open::default() };
    assert!(matches!(holder(&root, &path, (&foreign, Some(b"")), &hidden, |_| false), Holder::Unknown(_)));
}

/// WSP-2: what is no file is refused at once, without an answer that it is free.
#[test]
fn what_is_no_file_is_refused_at_once() {
    let (folder, root, _) = workspace("");
    fs::create_dir(folder.path().join("folder")).unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("nothing", folder.path().join("dangling")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("outside")).unwrap();
    for name in ["folder", "fifo", "dangling", "outside", "absent"] {
        let answer = is_locked(&root, &RelPath::parse(name).unwrap());
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
}

/// The kernel's table of locks is read as it is written, those that wait included.
#[test]
fn the_table_of_locks_is_read() {
    let table = "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF\n\
                 1: -> POSIX  ADVISORY  WRITE 3570 fd:00:2531452 0 EOF\n\
                 2: FLOCK  ADVISORY  READ 708 00:13:16001 0 EOF\n\
                 3: OFDLCK ADVISORY  WRITE -1 08:01:99 0 EOF\n\
                 4: LEASE  ACTIVE    READ  99 08:01:98 0 EOF\n\
                 what is this\n";
    let on = |major, minor, inode| listed_in(table, rustix::fs::makedev(major, minor), inode);
    assert_eq!(on(0xfd, 0, 2_531_452), [3568, 3570]);
    assert_eq!((on(0xfd, 1, 2_531_452), on(0xfd, 0, 2)), (vec![], vec![]));
    // btrfs and overlays: `stat` tells a device that the table does not know.
    assert_eq!((on(0, 99, 16_001), on(8, 1, 16_001), on(0, 7, 98)), (vec![708], vec![708], vec![99]));
    assert_eq!(on(8, 1, 99), [0]);
}

/// A host is this one by its name, with or without its domain.
#[test]
fn this_host_has_several_names() {
    let own = own_host();
    assert!(is_own(&own) && is_own(&own.to_ascii_uppercase()) && is_own("localhost"));
    assert!(!is_own(&format!("x{own}")) && !is_own(""));
}
