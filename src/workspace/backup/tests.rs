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
    for n in 3..6 {
        backups.keep(&path, format!("{{\"a\":{n}}}").as_bytes(), at.clock.now()).expect("there is room");
    }
    let needed = backups.good_hashes().expect("it can be read");
    let young = Spare { since: Some(at.clock.now()), room: 1 << 20 };
    assert_eq!(backups.remove_others(&needed, young).expect("it works"), 0, "copies that are not old stay");
    assert_eq!(backups.remove_others(&needed, Spare { room: 7, ..young }).expect("it works"), 1, "no room for both");
    assert_eq!(backups.remove_others(&needed, Spare { room: 0, ..young }).expect("it works"), 1);
    // Three are kept; a spoiled one is passed over for the one before.
    for n in [5, 4, 3] {
        let content = format!("{{\"a\":{n}}}");
        assert_eq!(good(&at.settings, &path).as_deref(), Some(content.as_bytes()));
        let sha = sha256(content.as_bytes());
        std::fs::write(backups.folder.join(&sha[..2]).join(&sha), "spoiled").expect("it can be spoiled");
    }
    assert!(good(&at.settings, &path).is_none());
    // An index that is broken is moved aside; one that cannot be read, or is newer, is left as it is.
    let index = at.settings.state_dir.join(GOOD);
    std::fs::write(&index, "{\"format\": 2}").expect("it can be written");
    backups.keep(&path, b"{\"a\":9}", at.clock.now()).expect_err("it is newer");
    std::fs::write(&index, "{\"form").expect("it can be spoiled");
    backups.keep(&path, b"{\"a\":9}", at.clock.now()).expect("it is begun anew");
    assert_eq!(std::fs::read(at.settings.state_dir.join(GOOD_BROKEN)).expect("it is kept"), b"{\"form");
    std::fs::remove_file(&index).expect("it is there");
    std::fs::create_dir(&index).expect("a folder");
    backups.keep(&path, b"{\"a\":8}", at.clock.now()).expect_err("it cannot be read");
}
