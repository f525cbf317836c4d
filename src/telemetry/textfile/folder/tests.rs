//! A real folder with everything in it that a folder can have.

use std::fs::{File, create_dir, remove_file, rename, write};
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::super::text::PageFormat;
use super::*;

fn page(folder: &Folder) -> String {
    String::from_utf8(folder.read().in_format(PageFormat::Text).to_vec()).unwrap()
}

fn reasons(folder: &Folder) -> Vec<(String, &'static str)> {
    let mut found: Vec<_> = folder.read().left_out.iter().map(|(file, fault)| (file.clone(), fault.reason)).collect();
    found.sort();
    found
}

/// EXP-2: whatever lies in the folder, good files are taken, bad ones are told of, and nothing hangs.
#[test]
fn everything_in_a_folder_is_taken_or_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(at("good.prom"), "good 1\n").unwrap();
    write(at("empty.prom"), "").unwrap();
    write(at("other.txt"), "other 1\n").unwrap();
    write(at(".hidden.prom"), "hidden 1\n").unwrap();
    write(at("half.prom"), "half 1\nhal").unwrap();
    write(at("binary.prom"), b"a{x=\"\xff\"} 1\n").unwrap();
    File::create(at("large.prom")).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    create_dir(at("folder.prom")).unwrap();
    mknodat(CWD, at("fifo.prom"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    symlink(at("good.prom"), at("again.prom")).unwrap();
    symlink("nowhere", at("dangling.prom")).unwrap();
    write(outside.path().join("secret"), "secret 1\n").unwrap();
    symlink(outside.path().join("secret"), at("secret.prom")).unwrap();
    create_dir(at("..data")).unwrap();
    write(at("..data/inside"), "inside 1\n").unwrap();
    symlink("..data/inside", at("inside.prom")).unwrap();

    let folder = Folder::new(dir.path(), Clock::system());
    let expected = [
        ("binary.prom", "syntax"),
        ("dangling.prom", "link_outside"),
        ("fifo.prom", "unreadable"),
        ("folder.prom", "unreadable"),
        ("good.prom", "duplicate"),
        ("half.prom", "half_written"),
        ("large.prom", "too_large"),
        ("secret.prom", "link_outside"),
    ];
    assert_eq!(reasons(&folder), expected.map(|(file, reason)| (file.to_owned(), reason)));
    let page = page(&folder);
    for (part, there) in [
        ("\ngood 1\n", true),
        ("\ninside 1\n", true),
        ("file=\"empty.prom\"", true),
        ("file=\"again.prom\"", true),
        ("chiron_textfile_scrape_error 1\n", true),
        ("hidden", false),
        ("half", false),
        ("other", false),
        ("secret", false),
    ] {
        assert_eq!(page.contains(part), there, "{part}: {page}");
    }
}

/// EXP-2: a scrape sees what the folder has now; what has not changed is neither read nor merged again.
#[test]
fn changes_are_seen_by_the_next_scrape() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path(), Clock::system());
    assert!(page(&folder).contains("chiron_textfile_scrape_error 0\n"));
    let replace = |text: &str| {
        write(dir.path().join("new"), text).unwrap();
        rename(dir.path().join("new"), dir.path().join("a.prom")).unwrap();
    };
    replace("a 1\n");
    assert!(page(&folder).contains("\na 1\n"));
    let (first, second) = (folder.read(), folder.read());
    assert!(Arc::ptr_eq(&first, &second), "nothing has changed");
    replace("a 2\n");
    assert!(page(&folder).contains("\na 2\n"));
    replace("a 2 2\n");
    assert_eq!(reasons(&folder), [("a.prom".to_owned(), "timestamp")]);
    assert!(!page(&folder).contains("\na "), "no old value in place of one that cannot be read");
    replace("a 3\n");
    assert!(page(&folder).contains("\na 3\n"));
    remove_file(dir.path().join("a.prom")).unwrap();
    let empty = page(&folder);
    assert!(!empty.contains("a.prom") && empty.contains("scrape_error 0"), "{empty}");
    for index in 0..=FILES_MAX {
        write(dir.path().join(format!("{index:03}.prom")), format!("n{{x=\"{index}\"}} 1\n")).unwrap();
    }
    assert_eq!(reasons(&folder), [(format!("{FILES_MAX:03}.prom"), "too_many")]);
    drop(dir);
    let gone = page(&folder);
    assert!(gone.contains("chiron_textfile_scrape_error 1\n") && !gone.contains("n{"), "{gone}");
}

/// What is held in memory is bounded, whatever the files say.
#[test]
fn all_files_together_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..18 {
        File::create(dir.path().join(format!("{index:02}.prom"))).unwrap().set_len(FILE_BYTES_MAX).unwrap();
    }
    let folder = Folder::new(dir.path(), Clock::system());
    let found = reasons(&folder);
    let by = |reason: &str| found.iter().filter(|(_, found)| *found == reason).count();
    assert_eq!((by("half_written"), by("too_large"), found.len()), (16, 2, 18), "{found:?}");
}

/// Scrapes that come together are answered by a few readings, and all see the same.
#[test]
fn scrapes_at_once_share_a_reading() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.prom"), "a 1\n").unwrap();
    let folder = Folder::new(dir.path(), Clock::system());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(page(&folder).contains("\na 1\n")));
        }
    });
    assert!(folder.shared.lock().ended <= 16);
}

/// A folder that hangs costs a scrape no more than its patience, later ones nothing, and is told of in the metrics.
#[test]
fn a_folder_that_hangs_does_not_hang_the_scrape() {
    let clock = Clock::manual(crate::model::Timestamp::EPOCH);
    // Nobody serves it, as if its thread hung in a reading that was asked for just now.
    let state = State { begun: Some(clock.since_boot()), ..State::default() };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    let silent = Arc::new(merge(&[], vec![(String::new(), Fault::new("silent", ""))]));
    let folder = Folder { path: "/nowhere".into(), clock: clock.clone(), shared, silent };
    let before = Clock::system().since_boot();
    assert!(page(&folder).contains("chiron_textfile_scrape_error 1\n"));
    assert!(Clock::system().since_boot() - before >= PATIENCE);
    clock.advance(PATIENCE + Duration::from_millis(1));
    let before = Clock::system().since_boot();
    assert!(page(&folder).contains("chiron_textfile_scrape_error 1\n"));
    assert!(Clock::system().since_boot() - before < PATIENCE / 2);
}
