//! Locks, descriptors and ids, held by real processes.
#![expect(clippy::disallowed_methods, reason = "starts the processes that hold, and writes what they hold")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Mode};

use super::locks::{is_flocked, is_shown};
use super::open::OpenBy;
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
    let version = root.stat(path).unwrap().version;
    holder_in(root, path, &Look::at(&BTreeSet::from([(version.device, version.inode)]), false), is_bot).holder
}

fn holder_in(root: &Root, path: &RelPath, look: &Look, is_bot: bool) -> Held {
    assert_eq!(root.stat(path).unwrap().kind, Kind::File);
    let (content, version) = root.read(path, 1 << 20).unwrap();
    holder(root, path, (&version, Some(&content)), look, |_| is_bot)
}

/// What is seen where nobody has anything.
fn nobody() -> Look {
    Look { open: Open::default(), table: Table::of(""), bot_lives: false }
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
        let file = (version.device, version.inode);
        assert_eq!(Table::read().on(file).unwrap().len(), 1, "{take}");
        // As if the table did not show it, which it does not for another container; locks of a descriptor it always shows.
        let (opened, empty) = (root.open_file(&path).unwrap(), Table::of(""));
        if take.contains("lockf") {
            assert_eq!(is_shown(&opened, file, &empty), Ok(true), "{take}");
        }
        assert_eq!(is_flocked(&opened), Ok(take.contains("flock(f, fcntl.LOCK_EX)")), "{take}");
        let is_own_pid = take.contains("37")
            || matches!(held(&root, &path, false), Holder::Process(who) if who.contains(&other.pid().to_string()));
        assert!(is_own_pid, "{take}: {:?}", held(&root, &path, false));
        drop(other);
        assert_eq!((is_locked(&root, &path), held(&root, &path, false)), (Ok(false), Holder::Nobody), "{take}");
        assert_eq!(root.stat(&path).unwrap().version, version, "looking changes nothing");
    }
}

/// WSP-2: looking for locks stops nobody from taking one, and leaves none behind.
#[test]
fn looking_for_locks_takes_none() {
    let (folder, root, path) = workspace("");
    let version = root.stat(&path).unwrap().version;
    let file = (version.device, version.inode);
    let mine = fs::OpenOptions::new().append(true).open(folder.path().join("f")).unwrap();
    // A lock of this process: were one to write tried here by a look, this one would be lost when that look closes the file.
    let opened = root.open_file(&path).unwrap();
    rustix::fs::flock(&mine, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(is_shown(&opened, file, &Table::of("")), Ok(false));
    assert_eq!(is_flocked(&opened), Ok(false), "a shared lock stands beside another");
    rustix::fs::flock(&mine, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(is_flocked(&opened), Ok(true));
    rustix::fs::flock(&mine, FlockOperation::Unlock).unwrap();
    assert_eq!((is_locked(&root, &path), Table::read().on(file)), (Ok(false), Ok(vec![])));
}

/// WSP-2: a file that is merely open counts as held; one that is open for writing is told.
#[test]
fn open_files_are_seen() {
    for (mode, writes) in [("r", false), ("r+", true), ("a", true)] {
        let (folder, root, path) = workspace("x");
        let version = root.stat(&path).unwrap().version;
        assert_eq!(writers(version.device, version.inode), Ok(vec![]));
        let other = Other::start(folder.path(), &format!("f = open('f', '{mode}')"));
        let pid = other.pid().to_string();
        let is_told = |who: Vec<String>| who.iter().any(|who| who.starts_with(&format!("process {pid} (")));
        assert_eq!(writers(version.device, version.inode).map(is_told), Ok(writes), "{mode}");
        assert_eq!(openers(version.device, version.inode).map(is_told), Ok(true), "{mode}");
        assert!(matches!(held(&root, &path, false), Holder::Process(who) if who.contains(&pid)), "{mode}");
        assert_eq!(is_locked(&root, &path), Ok(false));
        drop(other);
        assert_eq!(held(&root, &path, false), Holder::Nobody);
    }
    // What this very process has open does not count.
    let (folder, root, path) = workspace("x");
    let _file = fs::OpenOptions::new().append(true).open(folder.path().join("f")).unwrap();
    let version = root.stat(&path).unwrap().version;
    assert_eq!(writers(version.device, version.inode), Ok(vec![]));
}

/// WSP-6: a file that is mapped counts without a descriptor; one that is mapped to be written is being written.
#[test]
fn mapped_files_are_seen() {
    let map = "import mmap; f = open('f', 'r+'); m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=";
    for (rights, writes) in [("mmap.PROT_READ | mmap.PROT_WRITE", true), ("mmap.PROT_READ", false)] {
        let (folder, root, path) = workspace("some text");
        let version = root.stat(&path).unwrap().version;
        // Python keeps a descriptor of its own for a map; the look is at what is mapped all the same.
        let close = "; f.close(); [os.close(n) for n in range(3, 20) if os.path.exists(f'/proc/self/fd/{n}') \
                     and os.readlink(f'/proc/self/fd/{n}').endswith('/f')]";
        let other = Other::start(folder.path(), &format!("{map}{rights}){close}"));
        let is_it = |who: Vec<String>| who.len() == 1 && who[0].contains(&other.pid().to_string());
        assert_eq!(writers(version.device, version.inode).map(&is_it), Ok(writes), "{rights}");
        assert_eq!(openers(version.device, version.inode).map(is_it), Ok(true), "{rights}");
        assert!(matches!(held(&root, &path, false), Holder::Process(_)), "{rights}");
    }
}

/// WSP-6: who writes a file cannot be told while a process that could may not be looked into; what hides from its own
/// user, root's services beside other users' files, and others' processes do not count.
#[test]
fn writers_that_cannot_be_told_are_an_error() {
    let rights = |uid, gid, mode| Some(Rights { uid, gid, mode });
    let (own, bot, root, other) = (1000, 1001, 0, 1002);
    let device = rustix::fs::stat("/").unwrap().st_dev;
    let volume = device + 1;
    let unseen = |user, groups: &[u32]| Open {
        unseen: vec![Unseen { pid: i32::MAX, user, groups: groups.to_vec() }],
        users: BTreeSet::from([own]),
        ..Open::default()
    };
    let hides = || Open { hides: true, ..Open::default() };
    let container =
        |users: &[u32]| Open { is_container: true, users: users.iter().copied().collect(), ..Open::default() };
    let cut = Open { is_cut: true, ..Open::default() };
    for (name, open, rights, device, wanted, is_unsure) in [
        ("nobody unseen", Open::default(), rights(bot, bot, 0o644), volume, Use::Write, false),
        ("the owner", unseen(bot, &[bot]), rights(bot, bot, 0o644), device, Use::Write, true),
        ("of the own user", unseen(own, &[own]), rights(own, own, 0o644), device, Use::Write, false),
        ("somebody else", unseen(other, &[other]), rights(own, own, 0o644), device, Use::Write, false),
        ("of the group", unseen(other, &[other, bot]), rights(own, bot, 0o664), device, Use::Write, true),
        ("group reads", unseen(other, &[other, bot]), rights(own, bot, 0o644), device, Use::Write, false),
        ("group reads", unseen(other, &[other, bot]), rights(own, bot, 0o644), device, Use::Any, true),
        ("root beside", unseen(root, &[root]), rights(own, root, 0o664), device, Use::Write, false),
        ("root's file", unseen(root, &[root]), rights(root, root, 0o644), device, Use::Write, true),
        ("nobody knows whose", unseen(other, &[]), None, device, Use::Write, true),
        ("nobody knows whose", unseen(root, &[]), None, device, Use::Write, false),
        ("hidden, own", hides(), rights(own, own, 0o644), device, Use::Write, false),
        ("hidden, another's", hides(), rights(bot, bot, 0o644), device, Use::Write, true),
        ("container, own", container(&[own]), rights(own, own, 0o644), volume, Use::Write, false),
        ("container, seen", container(&[own, bot]), rights(bot, bot, 0o644), volume, Use::Write, false),
        ("container, elsewhere", container(&[own]), rights(bot, bot, 0o644), volume, Use::Write, true),
        ("container, no volume", container(&[own]), rights(bot, bot, 0o644), device, Use::Write, false),
        ("no time", cut, rights(own, own, 0o644), device, Use::Write, true),
    ] {
        let found = open.unsure(device, rights.as_ref(), wanted, own);
        assert_eq!(found.is_some(), is_unsure, "{name} {wanted:?}: {found:?}");
    }
    // And over a real file, whose owner is known by the descriptor.
    let (folder, root, path) = workspace("x");
    let version = root.stat(&path).unwrap().version;
    let file = (version.device, version.inode);
    assert_eq!(rights_of(file), None);
    let _open = fs::File::open(folder.path().join("f")).unwrap();
    assert_eq!(rights_of(file).map(|rights| (rights.uid, rights.gid)), Some((version.uid, version.gid)));
    assert!(Open::of(&BTreeSet::from([file]), Duration::ZERO).is_cut);
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
        // Written before it began, as far as clocks tell.
        (format!("{pid}\n"), 30, false, unknown),
        (format!("{pid}\n"), 3_600, false, unknown),
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
    for (text, expected) in [
        (format!("{{\"pid\": {pid}, \"host\": \"{host}\"}}"), Naming::Process(pid)),
        (format!("{{\"pid\": {pid}, \"host\": \"another\"}}"), Naming::Elsewhere),
        ("{}".to_owned(), Naming::Nobody),
        ("{\"pid".to_owned(), Naming::Nobody),
    ] {
        assert_eq!(naming(text.as_bytes()), expected, "{text}");
    }
}

/// WSP-2: an id that another process has by now is no evidence within ten minutes, nor ever if that process is of the file's
/// owner; and an id says nothing of other containers.
#[test]
fn ids_are_evidence_only_where_they_are_clear() {
    let folder = tempfile::tempdir().unwrap();
    let other = Other::start(folder.path(), "");
    let pid = other.pid();
    let dead = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let own = own_user();
    let base = Version {
        inode: 1,
        device: 1,
        len: 0,
        modified_nanos: 0,
        changed_nanos: 0,
        sha256: String::new(),
        mode: 0o644,
        uid: own,
        gid: 0,
    };
    let here = || Open::default();
    let container = || Open { is_container: true, ..Open::default() };
    // The other process is that of a container, and has the dead one's id there.
    let inner = || Open {
        inner: [(i32::try_from(dead).unwrap(), vec![i32::try_from(pid).unwrap()])].into(),
        ..Open::default()
    };
    let host = own_host();
    let (nobody, held_by, unknown) = (0, 1, 2);
    for (number, pid, host, age, uid, open, expected) in [
        (1, pid, None, 0, own, here(), held_by),
        (2, pid, None, 400, own + 1, here(), unknown),
        (3, pid, None, 700, own + 1, here(), nobody),
        (4, pid, None, 700, own, here(), unknown),
        (5, dead, None, 700, own, here(), nobody),
        (6, dead, None, 700, own, container(), unknown),
        (7, dead, Some("localhost"), 700, own, container(), unknown),
        (8, dead, Some(&*host), 700, own, container(), nobody),
        (9, pid, None, 700, own + 1, container(), unknown),
        (10, pid, None, 0, own, container(), held_by),
        (11, dead, None, 700, own, inner(), unknown),
        (12, dead, None, 700, own + 1, inner(), nobody),
        (13, std::process::id(), None, 0, own, here(), nobody),
    ] {
        let nanos = i128::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
        let version = Version { modified_nanos: nanos - i128::from(age) * 1_000_000_000, uid, ..base.clone() };
        let found = named(pid, host, &version, &open, |_| false);
        let kind = match &found.holder {
            Holder::Nobody => nobody,
            Holder::Process(_) => held_by,
            Holder::Unknown(_) => unknown,
        };
        assert_eq!(kind, expected, "{number}: {found:?}");
    }
    drop(other);
}

/// WSP-2: while the bot lives, a lock that says nothing of its holder may be the bot's; one whose process has ended is not.
#[test]
fn a_mute_lock_is_kept_while_the_bot_lives() {
    let dead = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    for (content, is_mute) in [
        (String::new(), true),
        ("locked".to_owned(), true),
        ("0b0ef2f4-6b57-4f0e-9d3c-0b8a6c7d1e2f".to_owned(), true),
        ("{\"at\": 4711}".to_owned(), true),
        (format!("{dead}"), false),
    ] {
        let (_folder, root, path) = workspace(&content);
        assert_eq!(holder_in(&root, &path, &nobody(), false).holder, Holder::Nobody, "{content}");
        let found = holder_in(&root, &path, &Look { bot_lives: true, ..nobody() }, false);
        assert_eq!(matches!(found.holder, Holder::Unknown(_)), is_mute, "{content}: {found:?}");
    }
}

/// WSP-2: what was not read, or may have a holder that cannot be seen, is not free.
#[test]
fn the_unseen_is_never_nobody() {
    let (_folder, root, path) = workspace("");
    let version = root.stat(&path).unwrap().version;
    let is = |version: &Version, content: Option<&[u8]>, open: Open| {
        holder(&root, &path, (version, content), &Look { open, ..nobody() }, |_| false).holder
    };
    assert_eq!(is(&version, Some(b""), Open::default()), Holder::Nobody);
    assert!(matches!(is(&version, None, Open::default()), Holder::Unknown(_)));
    let unseen = |user| Open { unseen: vec![Unseen { pid: i32::MAX, user, groups: vec![] }], ..Open::default() };
    let foreign = Version { uid: version.uid + 1, ..version.clone() };
    assert!(matches!(is(&foreign, Some(b""), unseen(foreign.uid)), Holder::Unknown(_)));
    assert_eq!(is(&foreign, Some(b""), unseen(foreign.uid + 1)), Holder::Nobody);
    assert_eq!(is(&version, Some(b""), unseen(version.uid)), Holder::Nobody, "it hides from its own user");
    let hidden = Open { hides: true, ..Open::default() };
    assert!(matches!(is(&foreign, Some(b""), hidden), Holder::Unknown(_)));
    assert!(matches!(is(&version, Some(b""), Open { is_cut: true, ..Open::default() }), Holder::Unknown(_)));
    let by = OpenBy { pid: i32::MAX, writes: false };
    let open = Open { by: [((version.device, version.inode), vec![by])].into(), ..Open::default() };
    assert!(matches!(is(&version, Some(b""), open), Holder::Process(_)));
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
    let table = Table::of(table);
    let on = |major, minor, inode| table.on((rustix::fs::makedev(major, minor), inode)).unwrap();
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
