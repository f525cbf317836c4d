//! Databases that are sound, spoilt, torn, busy and abandoned; and that nothing beside them changes.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

fn never() -> GiveUp {
    Arc::new(|| false)
}

/// A database with `rows` rows of a table and an index.
fn make(path: &Path, mode: &str, rows: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.execute_batch("CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, note TEXT); CREATE INDEX by_symbol ON trades (symbol)").unwrap();
    connection
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
             INSERT INTO trades SELECT i, 'S' || (i % 97), hex(zeroblob(40)) FROM n",
            [rows],
        )
        .unwrap();
    connection
}

/// Overwrites the middle of a database.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
}

/// Name, size, date and content of everything in a folder.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.clone(), (path.metadata().unwrap().modified().unwrap(), std::fs::read(&path).unwrap())))
        .collect()
}

/// OBS-3, OBS-7: in every journal mode, in use or not, a database is sound, and no file appears or changes.
#[test]
fn a_look_changes_nothing() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL", "MEMORY"] {
        for in_use in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("bot #1?%.db");
            let connection = make(&path, mode, 2000);
            let connection = in_use.then_some(connection);
            let before = everything(folder.path());
            for thorough in [false, true] {
                assert_eq!(verify(&path, thorough, &never()), Verdict::Sound, "{mode} {in_use}");
            }
            let seen = look(&path).unwrap();
            assert!(seen.is_database && seen.held.is_none(), "{mode}: {seen:?}");
            assert_eq!(seen.wal_mode, mode == "WAL");
            assert_eq!(seen.wal_size.is_some(), mode == "WAL" && in_use, "{mode}");
            assert!(everything(folder.path()) == before, "{mode} {in_use}: a file has changed");
            drop(connection);
        }
    }
}

/// OBS-3: damage is told by SQLite's own words; what is no database is told so.
#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    drop(make(&path, "DELETE", 5000));
    spoil(&path);
    let before = everything(folder.path());
    let Verdict::Damaged(message) = verify(&path, false, &never()) else { panic!("not found") };
    assert!(message.contains("age "), "{message}");
    assert!(everything(folder.path()) == before);
    std::fs::write(&path, b"SQLite format 3\0 and pages").unwrap();
    assert!(matches!(verify(&path, false, &never()), Verdict::Damaged(_)));
    std::fs::write(&path, [b"SQLite format 3\0".as_slice(), &[0; 5000]].concat()).unwrap();
    assert!(matches!(verify(&path, false, &never()), Verdict::Damaged(_)));
    // An index that lost entries is found by the thorough check alone.
    std::fs::remove_file(&path).unwrap();
    let connection = make(&path, "DELETE", 100);
    connection
        .execute_batch(
            "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'CREATE INDEX by_symbol ON trades (note)' \
             WHERE name = 'by_symbol'; PRAGMA writable_schema = 0",
        )
        .unwrap();
    drop(connection);
    assert_eq!(verify(&path, false, &never()), Verdict::Sound);
    assert!(matches!(verify(&path, true, &never()), Verdict::Damaged(_)));
}

/// OBS-3: what a checkpoint that was cut short left in the file is no damage while the WAL has the rest.
#[test]
fn a_torn_checkpoint_is_no_damage_and_real_damage_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    let connection = make(&path, "WAL", 5000);
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    connection
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; UPDATE trades SET note = hex(randomblob(40)), symbol = 'T' || id",
        )
        .unwrap();
    // Every page that the WAL holds may be torn in the file.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 4;
    bytes[middle..middle + 8000].fill(0xa5);
    let kept = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(check(&path, "immutable=1", false, &never()), Verdict::Damaged(_)), "the file alone is torn");
    assert_eq!(verify(&path, false, &never()), Verdict::Sound);
    std::fs::write(&path, kept).unwrap();
    // Once it is checkpointed, the same damage is real.
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    connection.execute_batch("INSERT INTO trades (symbol) VALUES ('x')").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(verify(&path, false, &never()), Verdict::Damaged(_)));
}

/// OBS-3: a transaction that a crash has cut short is no damage: its journal says so.
#[test]
fn a_hot_journal_is_unclear() {
    let folder = tempfile::tempdir().unwrap();
    let (live, dead) = (folder.path().join("live"), folder.path().join("dead"));
    std::fs::create_dir(&live).unwrap();
    std::fs::create_dir(&dead).unwrap();
    let connection = make(&live.join("bot.db"), "DELETE", 5000);
    // So little memory that pages go to the file before the commit.
    connection
        .execute_batch(
            "PRAGMA cache_size = 5; PRAGMA synchronous = FULL; BEGIN; UPDATE trades SET note = hex(randomblob(60))",
        )
        .unwrap();
    for name in ["bot.db", "bot.db-journal"] {
        std::fs::copy(live.join(name), dead.join(name)).unwrap();
    }
    let path = dead.join("bot.db");
    assert_eq!(look(&path).unwrap().held, Some(Held::Journal));
    assert_eq!(verify(&path, false, &never()), Verdict::Unclear("a write was interrupted and not yet undone".into()));
}

#[test]
fn what_takes_too_long_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    drop(make(&path, "DELETE", 20_000));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let give_up: GiveUp = Arc::new(move || counted.fetch_add(1, Ordering::Relaxed) >= 5);
    assert_eq!(verify(&path, false, &give_up), Verdict::Unfinished);
    assert_eq!(asked.load(Ordering::Relaxed), 6);
}

/// OBS-3, OBS-7: a bot that writes all the time, and never waits, meets no `SQLITE_BUSY` while the check runs over and over;
/// and the check never takes half of its commit for damage.
#[test]
fn a_writer_is_never_kept_waiting() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "WAL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bot.db");
        let connection = make(&path, mode, 20_000);
        connection.pragma_update(None, "wal_autocheckpoint", 20).unwrap();
        let done = AtomicBool::new(false);
        let (written, verdicts) = std::thread::scope(|scope| {
            let done = &done;
            let writer = scope.spawn(move || {
                let mut written = 0;
                while !done.load(Ordering::Relaxed) {
                    let sql = "INSERT INTO trades (symbol, note) SELECT symbol, hex(randomblob(40)) FROM trades WHERE \
                               id % 500 = abs(random()) % 500; DELETE FROM trades WHERE id % 700 = abs(random()) % 700";
                    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{mode}: {error}"));
                    written += 1;
                }
                written
            });
            let mut verdicts = [0; 2];
            for _ in 0..15 {
                match verify(&path, false, &never()) {
                    Verdict::Sound => verdicts[0] += 1,
                    Verdict::Unclear(_) => verdicts[1] += 1,
                    other => panic!("{mode}: {other:?}"),
                }
            }
            done.store(true, Ordering::Relaxed);
            (writer.join().unwrap(), verdicts)
        });
        assert!(written > 0, "{mode}");
        assert_eq!(verdicts.iter().sum::<i32>(), 15, "{mode}: {verdicts:?}, {written} writes");
    }
}
