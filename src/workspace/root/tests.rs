//! Nothing leads out of a workspace, and nothing in it makes chiron wait.
#![expect(clippy::disallowed_methods, reason = "the tests make the files that are looked at")]

use std::os::unix::fs::symlink;

use super::*;
use crate::workspace::apply::fixture::{Fixture, rel};

/// WSP-6: links out of the workspace, absolute ones and `..` behind links are refused by every function; links inside it
/// are followed. Each is tried on real files.
#[test]
fn nothing_leads_out() {
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("secret"), "secret").expect("a file");
    let at = Fixture::new();
    at.write("state/a.json", "inside");
    symlink(outside.path(), at.path("out")).expect("a link");
    symlink(outside.path().join("secret"), at.path("secret")).expect("a link");
    symlink("../../../../../../../etc/passwd", at.path("up")).expect("a link");
    symlink("state/a.json", at.path("in")).expect("a link");
    symlink("state", at.path("folder")).expect("a link");
    symlink("nowhere", at.path("dangling")).expect("a link");
    symlink("loop", at.path("loop")).expect("a link");
    symlink("/proc/self/root/etc", at.path("magic")).expect("a link");
    let root = at.root();
    for path in ["out/secret", "secret", "up", "magic/passwd"] {
        assert!(matches!(root.stat(&rel(path)), Err(Trouble::Leaves)), "{path}: {:?}", root.stat(&rel(path)));
        assert!(matches!(root.read(&rel(path), 100), Err(Trouble::Leaves)), "{path}");
        assert!(root.access(&rel(path)).is_err(), "{path}");
        assert!(root.place(&rel(path)).is_err(), "{path}");
    }
    assert!(matches!(root.list(Some(&rel("out"))), Err(Trouble::Leaves)));
    assert!(matches!(root.create_dir(&rel("out/new")), Err(Trouble::Leaves)));
    assert_eq!(&*root.read(&rel("in"), 100).expect("it is inside").0, b"inside");
    assert_eq!(&*root.read(&rel("folder/a.json"), 100).expect("it is inside").0, b"inside");
    assert!(matches!(root.stat(&rel("dangling")), Err(Trouble::Dangling(target)) if target == "nowhere"));
    assert!(matches!(root.stat(&rel("loop")), Err(Trouble::Loop)));
    assert!(matches!(root.stat(&rel("missing/x")), Err(Trouble::Missing)));
    let place = root.place(&rel("in")).expect("it is inside");
    for name in ["../x", "/etc/passwd", "a/b", "..", ".", ""] {
        assert!(place.beside(OsStr::new(name)).is_err(), "{name}");
    }
    assert_eq!(place.name, "a.json");
    assert_eq!(place.stat().expect("it is there").kind, Kind::File);
}

/// WSP-6: a FIFO, a socket and a device are told and never opened; this test hangs if one is.
#[test]
fn nothing_waits() {
    let at = Fixture::new();
    rustix::fs::mkfifoat(CWD, at.path("fifo"), Mode::from_raw_mode(0o600)).expect("a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(at.path("socket")).expect("a socket");
    let root = at.root();
    for (path, kind) in [("fifo", Kind::Fifo), ("socket", Kind::Socket)] {
        assert_eq!(root.stat(&rel(path)).expect("it is there").kind, kind);
        let refused = root.read(&rel(path), 100).expect_err("it is no file");
        assert!(matches!(refused, Trouble::Other { found, expected: Kind::File } if found == kind), "{refused}");
    }
    let listed = root.list(None).expect("a folder");
    assert_eq!(listed.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [Kind::Fifo, Kind::Socket]);
}

/// WSP-6: a version tells content, size and times, and a file over the bound is refused unread.
#[test]
fn a_version_is_of_what_was_read() {
    let at = Fixture::new();
    at.write("a", "twelve bytes");
    let root = at.root();
    let (bytes, version) = root.read(&rel("a"), 12).expect("it is small enough");
    assert_eq!((bytes.len(), version.len, version.sha256.as_str()), (12, 12, sha256(b"twelve bytes").as_str()));
    assert_eq!(root.hash(&rel("a")).expect("it is there"), version);
    assert!(matches!(root.read(&rel("a"), 11), Err(Trouble::TooLarge { len: 12, max: 11 })));
    assert_eq!(root.access(&rel("a")).expect("it is there"), Access { read: true, write: true });
}
