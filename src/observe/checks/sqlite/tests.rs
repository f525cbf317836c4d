//! The slower cycle on a clock that stands still, and the grades of what was found.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use rusqlite::Connection;

use super::*;
use crate::observe::checks::testing::{NOW, run_at};

fn make(path: &Path, rows: u32) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = OFF; CREATE TABLE trades (id INTEGER PRIMARY KEY, note TEXT)")
        .unwrap();
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
               INSERT INTO trades SELECT i, hex(zeroblob(40)) FROM n";
    connection.execute(sql, [rows]).unwrap();
}

fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
}

fn check(path: &Path, clock: &Clock) -> Sqlite {
    Sqlite::new(SqliteParams::new(path.to_owned()), clock.clone())
}

/// OBS-3: the integrity is remembered between its slower turns; a replaced file is checked at once, and so is a damaged one
/// that was repaired in its place.
#[test]
fn the_slower_cycle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 5000);
    let good = std::fs::read(&path).unwrap();
    let clock = Clock::manual(NOW);
    let check = check(&path, &clock);
    let judge = || run_at(&check, NOW);
    let first = judge();
    assert_eq!((first.status, &first.details["integrity"]), (Status::Healthy, &"sound".into()), "{first:?}");
    assert_eq!(first.details["integrity_checked_at"], NOW.to_string());
    spoil(&path);
    clock.advance(Duration::from_secs(599));
    assert_eq!(judge().status, Status::Healthy, "not yet looked at");
    // The wall clock does not count.
    clock.jump(86_400_000);
    assert_eq!(judge().status, Status::Healthy);
    clock.advance(Duration::from_secs(1));
    let damaged = judge();
    assert_eq!(damaged.status, Status::Critical);
    let error = damaged.details["error"].as_str().unwrap();
    assert!(error.contains("bot.db: damaged, SQLite found: ") && error.contains("age "), "{error}");
    assert_eq!(judge().details["error"], error, "it is remembered");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(judge().status, Status::Healthy, "repaired in its place");
    let other = folder.path().join("other.db");
    std::fs::write(&other, &good).unwrap();
    spoil(&other);
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(judge().status, Status::Critical, "exchanged for another");
}

/// OBS-3: what is no database, and what stands in its place.
#[test]
fn what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    let judge = |missing| {
        let params = SqliteParams { missing, ..SqliteParams::new(path.clone()) };
        run_at(&Sqlite::new(params, Clock::manual(NOW)), NOW)
    };
    assert_eq!(judge(Missing::Unknown).status, Status::Unknown);
    assert_eq!(judge(Missing::Critical).status, Status::Critical);
    for (content, error) in [
        ("", "empty, expected"),
        ("SQLite format 3", "does not begin as"),
        ("{}", "does not begin as"),
        ("SQLite format 3\0", "damaged, SQLite found: "),
    ] {
        std::fs::write(&path, content).unwrap();
        let judgement = judge(Missing::Unknown);
        assert_eq!(judgement.status, Status::Critical, "{content}");
        assert!(judgement.details["error"].as_str().unwrap().contains(error), "{judgement:?}");
        assert_eq!(judgement.details["size_bytes"], content.len());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(judge(Missing::Unknown).details["error"], format!("{}: is a directory", path.display()));
}

/// OBS-3: a database that one program holds without writing is degraded from the limit on, not before.
#[test]
fn both_sides_of_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 10);
    let mut params = SqliteParams::new(path.clone());
    let seen = look(&path).unwrap();
    let reading = |held, held_for, took| {
        let look = Look { held, ..seen };
        let (held_for, took) = (Duration::from_millis(held_for), Duration::from_millis(took));
        Reading { look, took, held_for, integrity: Some((Verdict::Sound, NOW)), note: None, unfinished: 0 }
    };
    let lock = Some(Held::Lock(Some(7)));
    params.degraded_latency = Some(Duration::from_secs(1));
    for (held, held_for, took, warning) in [
        (lock, 14_999, 999, ""),
        (lock, 15_000, 0, "locked by process 7 for 15 s without a write"),
        (Some(Held::Lock(None)), 20_000, 0, "locked for 20 s without a write"),
        (Some(Held::Journal), 15_000, 0, "a write was interrupted"),
        (None, 0, 1000, "answer took 1000 ms"),
    ] {
        let judgement = params.judge(&reading(held, held_for, took));
        let expected = if warning.is_empty() { Status::Healthy } else { Status::Degraded };
        assert_eq!(judgement.status, expected, "{warning}");
        let found = judgement.details.get("warning").map_or("", |text| text.as_str().unwrap());
        assert!(found.starts_with(warning), "{found}");
    }
    for (more, status) in [(0, Status::Healthy), (1, Status::Degraded)] {
        params.max_size_bytes = Some(seen.size - more);
        assert_eq!(params.judge(&reading(None, 0, 0)).status, status, "{more}");
    }
}

/// The same holder of the same version is one lock; a write in between, or another holder, begins anew.
#[test]
fn a_busy_writer_is_not_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 10);
    let memory = Memory::default();
    let mut seen = look(&path).unwrap();
    let second = Duration::from_secs;
    seen.held = Some(Held::Lock(Some(7)));
    assert_eq!(memory.held_for(&seen, second(100)), second(0));
    assert_eq!(memory.held_for(&seen, second(130)), second(30));
    make(&folder.path().join("x.db"), 20);
    seen.stamp = look(&folder.path().join("x.db")).unwrap().stamp;
    assert_eq!(memory.held_for(&seen, second(160)), second(0));
    seen.held = Some(Held::Lock(Some(8)));
    assert_eq!(memory.held_for(&seen, second(190)), second(0));
    assert_eq!(memory.held_for(&seen, second(200)), second(10));
    seen.held = None;
    assert_eq!(memory.held_for(&seen, second(201)), second(0));
}

/// OBS-3, OBS-5: what is too long for a reading is done by the session, which then asks for a reading.
#[tokio::test]
async fn the_session_does_what_is_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 20_000);
    let clock = Clock::manual(NOW);
    let check = check(&path, &clock);
    let stamp = look(&path).unwrap().stamp;
    let woken = Arc::new(Notify::new());
    let wake = Arc::clone(&woken);
    let session = Check::session(&check, Wake::new(move || wake.notify_one())).unwrap();
    let ask = async {
        while !check.memory.has_session.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        // As a reading leaves it whose time was over.
        check.memory.lock().under_way = true;
        check.memory.long.notify_one();
        woken.notified().await;
    };
    tokio::select! { () = session => unreachable!("it ends only when dropped"), () = ask => {} }
    let known = check.memory.lock().clone();
    assert_eq!(known.verdict, Some((Verdict::Sound, stamp, NOW)));
    assert!(!known.under_way && !check.memory.has_session.load(Ordering::SeqCst));
}

/// A try that told nothing keeps what was known, and is repeated soon, not at once.
#[test]
fn a_try_that_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 10);
    let (memory, seen, pace) = (Memory::default(), look(&path).unwrap(), Integrity::default());
    let second = Duration::from_secs;
    assert!(memory.begin(&seen, second(1000)));
    assert!(!memory.begin(&seen, second(1000),), "one at a time");
    memory.end(Verdict::Sound, seen.stamp, NOW, second(1), second(1001), pace);
    assert!(!memory.begin(&seen, second(1600)));
    assert!(memory.begin(&seen, second(1601)));
    memory.end(Verdict::Unclear("busy".into()), seen.stamp, NOW, second(1), second(1602), pace);
    assert!(memory.lock().verdict.is_some());
    assert!(!memory.begin(&seen, second(1611)));
    assert!(memory.begin(&seen, second(1612)));
    memory.end(Verdict::Unfinished, seen.stamp, NOW, second(60), second(1672), pace);
    assert_eq!(memory.lock().note.as_deref(), Some("not finished after 60 s"));
    assert!(!memory.begin(&seen, second(2271)) && memory.begin(&seen, second(2272)));
}

/// OBS-3: a check that never finishes is degraded from the third try in a row on, with what to do, and tried ever more seldom; one
/// that finishes begins anew.
#[test]
fn a_check_that_never_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bot.db");
    make(&path, 10);
    let check = check(&path, &Clock::manual(NOW));
    let (seen, pace) = (look(&path).unwrap(), Integrity::default());
    let minute = Duration::from_secs(60);
    let mut now = Duration::from_secs(10_000);
    let judge = || {
        let known = check.memory.lock().clone();
        let integrity = known.verdict.map(|(verdict, _, at)| (verdict, at));
        let (took, held_for, note, unfinished) = (minute, Duration::ZERO, known.note, known.unfinished);
        check.params.judge(&Reading { look: seen, took, held_for, integrity, note, unfinished })
    };
    let mut end = |verdict: Verdict, took: Duration| {
        check.memory.end(verdict, seen.stamp, NOW, took, now, pace);
        let pause = check.memory.lock().next - now;
        now += pause;
        pause / 60
    };
    let minutes = Duration::from_secs;
    for (took, pause, status) in [
        (QUICK, 10, Status::Healthy),
        (minute, 10, Status::Healthy),
        (minute, 10, Status::Healthy),
        (minute, 20, Status::Degraded),
        (minute, 40, Status::Degraded),
    ] {
        assert_eq!(end(Verdict::Unfinished, took), minutes(pause));
        assert_eq!(judge().status, status, "{pause}");
    }
    let warning = judge().details["warning"].clone();
    assert!(
        warning.as_str().unwrap().contains("4 tries in a row did not finish within 60 s; set a longer"),
        "{warning}"
    );
    for _ in 0..40 {
        end(Verdict::Unfinished, minute);
    }
    assert_eq!(end(Verdict::Unfinished, minute), minutes(24 * 60));
    end(Verdict::Unclear("busy".into()), minute);
    assert_eq!(judge().status, Status::Degraded, "it is not known any better");
    assert_eq!(end(Verdict::Sound, minute), minutes(10));
    assert_eq!(judge().status, Status::Healthy);
}

/// OBS-3: chiron's own journal is known however it is written, also before it is there.
#[test]
fn one_file_has_many_names() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&base, base.join("link")).unwrap();
    let own = base.join("chiron.db");
    for name in ["./chiron.db", "x/../chiron.db", "x/./y/../../chiron.db", "link/chiron.db", "x/../link/chiron.db"] {
        assert_eq!(real(&base.join(name)), own, "{name}");
    }
    std::fs::write(&own, "").unwrap();
    for name in ["./chiron.db", "x/../chiron.db", "link/chiron.db"] {
        assert_eq!(real(&base.join(name)), own, "{name}");
    }
    assert_ne!(real(&base.join("x/chiron.db")), own);
}
