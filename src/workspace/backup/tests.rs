//! Copies are what their names say, or are refused.
#![expect(clippy::disallowed_methods, reason = "the tests spoil copies")]

use super::*;
use crate::workspace::apply::fixture::{Fixture, rel};

/// WSP-6: a copy that no longer is what its name says is refused, and takes the right content again when it is put anew.
#[test]
fn a_spoiled_copy_is_refused() {
    let at = Fixture::new();
    let ledger = at.ledger();
    let backups = Backups::create(&ledger.state).expect("it can be made");
    let sha = backups.put(b"content").expect("there is room");
    assert_eq!(&*backups.get(&sha, 100).expect("it is whole"), b"content");
    let path = backups.folder.join(&sha[..2]).join(&sha);
    std::fs::write(&path, "c0ntent").expect("it can be spoiled");
    assert!(matches!(backups.get(&sha, 100), Err(Lost::Spoiled(_))));
    at.write("file", "content");
    let file = at.root().open_file(&rel("file")).expect("it is there");
    assert_eq!(backups.put_file(&file).expect("there is room"), sha);
    assert_eq!(&*backups.get(&sha, 100).expect("it is whole again"), b"content");
    assert!(matches!(backups.get("../../etc/passwd", 100), Err(Lost::Missing(_))));
}

/// WSP-7: the last good copy of a configuration file is kept once for each content, and a spoiled one is none.
#[test]
fn the_last_good_copy_is_kept() {
    let at = Fixture::new();
    let ledger = at.ledger();
    let backups = Backups::create(&ledger.state).expect("it can be made");
    let path = rel("config/trading_config.json");
    assert!(good(&at.settings, &path).is_none());
    backups.keep(&path, b"{\"a\":1}", at.clock.now()).expect("there is room");
    let written = std::fs::metadata(at.settings.state_dir.join(GOOD)).expect("it is there").modified().expect("a time");
    backups.keep(&path, b"{\"a\":1}", at.clock.now()).expect("there is room");
    let again = std::fs::metadata(at.settings.state_dir.join(GOOD)).expect("it is there").modified().expect("a time");
    assert_eq!(written, again, "what is kept is not written again");
    backups.keep(&path, b"{\"a\":2}", at.clock.now()).expect("there is room");
    assert_eq!(good(&at.settings, &path).as_deref(), Some(&b"{\"a\":2}"[..]));
    assert_eq!(backups.remove_others(&backups.good_hashes().expect("it can be read")).expect("it works"), 1);
    let sha = sha256(b"{\"a\":2}");
    std::fs::write(backups.folder.join(&sha[..2]).join(&sha), "spoiled").expect("it can be spoiled");
    assert!(good(&at.settings, &path).is_none());
}
