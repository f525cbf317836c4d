//! The watcher against real folders and the real kernel.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be watched")]

use super::*;
use crate::model::{Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::checks::dir_age::DirAge;
use crate::observe::probes::folder::Filter;
use std::fs;
use tokio::time::timeout;

const NOBODY: [usize; 0] = [];

/// A check that looks at these paths.
struct Looks(Vec<PathBuf>);

impl Check for Looks {
    type Reading = ();
    const KIND: &'static str = "looks";

    async fn read(&self) {}

    fn judge(&self, (): &(), _now: Timestamp) -> Judgement {
        Judgement::new(Status::Healthy)
    }

    fn watches(&self) -> Vec<PathBuf> {
        self.0.clone()
    }
}

fn scheduled(check: Arc<dyn AnyCheck>) -> ScheduledCheck {
    let minute = Duration::from_secs(60);
    ScheduledCheck { subsystem: "a".into(), check, interval: minute, timeout: minute }
}

/// One check for each path.
async fn watching(paths: &[PathBuf], own_files: &[PathBuf]) -> Watcher {
    let checks: Vec<_> = paths.iter().map(|path| scheduled(Arc::new(Looks(vec![path.clone()])))).collect();
    let mut watcher = Watcher::new(checks.iter(), own_files, Watching::default()).expect("there are paths");
    quiet(&mut watcher).await;
    watcher
}

/// Lets it walk its ways and hear what it has not, until there is nothing; answers what changed meanwhile.
async fn quiet(watcher: &mut Watcher) -> Vec<usize> {
    let (mut changed, mut silent) = (BTreeSet::new(), 0);
    while silent < 4 {
        match timeout(Duration::from_millis(15), watcher.changes()).await {
            Ok(changes) => {
                changed.extend(changes.into_iter().map(|change| change.check));
                silent = 0;
            }
            Err(_) if watcher.batch.is_some() || !watcher.known.pending.is_empty() => {}
            Err(_) => silent += 1,
        }
    }
    changed.into_iter().collect()
}

/// What changes by that.
async fn after(watcher: &mut Watcher, act: impl FnOnce()) -> Vec<usize> {
    act();
    quiet(watcher).await
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// OBS-7: written, replaced, touched, removed: the checks of that name look, and no others of the folder.
#[tokio::test]
async fn a_file_of_that_name_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "").unwrap();
    let mut watcher = watching(&[at("a"), at("b"), at("a")], &[]).await;
    assert_eq!(after(&mut watcher, || fs::write(at("a"), "x").unwrap()).await, [0, 2]);
    assert_eq!(after(&mut watcher, || replace(&at("b"), "x")).await, [1]);
    assert_eq!(after(&mut watcher, || fs::write(at("other"), "x").unwrap()).await, NOBODY);
    let touch = || drop(fs::File::open(at("a")).unwrap().set_modified(std::time::UNIX_EPOCH));
    assert_eq!(after(&mut watcher, touch).await, [0, 2]);
    assert_eq!(after(&mut watcher, || fs::remove_file(at("b")).unwrap()).await, [1]);
    assert_eq!(after(&mut watcher, || drop(fs::read(at("a")).unwrap())).await, NOBODY, "who reads changes nothing");
    assert!(watcher.counts.changes() >= 5);
    assert!(watcher.counts.held().0 >= 1 && watcher.counts.held().1 == 0, "{:?}", watcher.counts.held());
}

/// OBS-7: who is done has settled, who has only begun has not.
#[tokio::test]
async fn a_file_in_mid_write_has_not_settled() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut watcher = watching(std::slice::from_ref(&path), &[]).await;
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"half").unwrap();
    let changes = timeout(Duration::from_secs(5), watcher.changes()).await.unwrap();
    assert_eq!(changes, [Changed { check: 0, settled: false, gap: FILE_GAP }]);
    drop(file);
    let changes = timeout(Duration::from_secs(5), watcher.changes()).await.unwrap();
    assert_eq!(changes, [Changed { check: 0, settled: true, gap: FILE_GAP }]);
}

/// OBS-7: folders that are not there yet, come, go, come again, are moved away and replaced, far up as well as near.
#[tokio::test]
async fn folders_come_and_go() {
    let base = tempfile::tempdir().unwrap();
    let (top, deep) = (base.path().join("ws"), base.path().join("ws/data/live"));
    let path = deep.join("state.json");
    let mut watcher = watching(std::slice::from_ref(&path), &[]).await;
    for round in 0..2 {
        assert_eq!(after(&mut watcher, || fs::create_dir(&top).unwrap()).await, [0], "{round}");
        fs::create_dir_all(&deep).unwrap();
        quiet(&mut watcher).await;
        assert_eq!(after(&mut watcher, || replace(&path, "1")).await, [0], "{round}");
        assert_eq!(after(&mut watcher, || fs::remove_dir_all(&top).unwrap()).await, [0], "{round}");
    }
    // Written before anybody could listen in the new folder.
    let at_once = || {
        fs::create_dir_all(&deep).unwrap();
        fs::write(&path, "2").unwrap();
    };
    assert_eq!(after(&mut watcher, at_once).await, [0]);
    let moved = base.path().join("old");
    assert_eq!(after(&mut watcher, || fs::rename(&top, &moved).unwrap()).await, [0], "moved away");
    assert_eq!(after(&mut watcher, || fs::write(moved.join("data/live/state.json"), "3").unwrap()).await, NOBODY);
    assert_eq!(after(&mut watcher, || fs::rename(&moved, &top).unwrap()).await, [0], "and back");
    assert_eq!(after(&mut watcher, || fs::write(&path, "4").unwrap()).await, [0]);
    let other = base.path().join("other");
    fs::create_dir_all(other.join("data/live")).unwrap();
    let swap = || {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &top, rustix::fs::CWD, &other, flags).unwrap();
    };
    assert_eq!(after(&mut watcher, swap).await, [0], "exchanged for another");
    assert_eq!(after(&mut watcher, || fs::write(other.join("data/live/state.json"), "5").unwrap()).await, NOBODY);
    assert_eq!(after(&mut watcher, || fs::write(&path, "6").unwrap()).await, [0]);
    // What was awaited in the base folder is not listened for any more.
    assert_eq!(after(&mut watcher, || fs::write(base.path().join("noise"), "").unwrap()).await, NOBODY);
    let needless: Vec<_> = watcher.known.watched.values().filter(|watched| watched.is_needless()).collect();
    assert!(needless.is_empty());
}

/// OBS-7: links on the way, links to files, and links that are set anew are followed.
#[tokio::test]
async fn links_are_followed() {
    use std::os::unix::fs::symlink;
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    for folder in ["one", "two", "links"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::write(at("one/f"), "").unwrap();
    fs::write(at("two/f"), "").unwrap();
    symlink("one", at("current")).unwrap();
    symlink("../one/f", at("links/latest")).unwrap();
    let mut watcher = watching(&[at("current/f"), at("links/latest")], &[]).await;
    assert_eq!(after(&mut watcher, || fs::write(at("one/f"), "1").unwrap()).await, [0, 1]);
    let point = |link: &str, target: &str| {
        symlink(target, at("new")).unwrap();
        fs::rename(at("new"), at(link)).unwrap();
    };
    assert_eq!(after(&mut watcher, || point("current", "two")).await, [0]);
    assert_eq!(after(&mut watcher, || fs::write(at("two/f"), "2").unwrap()).await, [0]);
    assert_eq!(after(&mut watcher, || fs::write(at("one/f"), "3").unwrap()).await, [1]);
    assert_eq!(after(&mut watcher, || point("links/latest", "../two/f")).await, [1]);
    assert_eq!(after(&mut watcher, || fs::write(at("one/f"), "4").unwrap()).await, NOBODY);
    assert_eq!(after(&mut watcher, || fs::write(at("two/f"), "5").unwrap()).await, [0, 1]);
    // A loop leads nowhere and ends.
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    watching(&[at("a/f")], &[]).await;
}

/// OBS-7, OBS-3: a folder is watched as a whole, with those below that come later; what does not count, and what chiron
/// writes itself, wakes nobody.
#[tokio::test]
async fn a_folder_as_a_whole() {
    let base = tempfile::tempdir().unwrap();
    let logs = base.path().join("logs");
    fs::create_dir_all(logs.join("old")).unwrap();
    let own = [logs.join("chiron.log"), logs.join("state")];
    let age = DirAge {
        path: logs.clone(),
        filter: Filter::new(Some("*.log"), &own).unwrap(),
        what: "Newest log".to_owned(),
        limits: crate::observe::age::AgeLimits::live_file(),
        missing: crate::observe::age::Missing::Unknown,
    };
    let checks = [scheduled(Arc::new(age)), scheduled(Arc::new(Looks(vec![own[0].clone()])))];
    let mut watcher = Watcher::new(checks.iter(), &own, Watching::default()).unwrap();
    quiet(&mut watcher).await;
    for (name, woken) in [
        ("bot.log", true),
        ("old/bot.log", true),
        ("bot.csv", false),
        ("chiron.log", false),
        ("chiron.log.1", false),
        (".chiron.log.tmp.log", false),
    ] {
        let changed = after(&mut watcher, || fs::write(logs.join(name), "x").unwrap()).await;
        assert_eq!(changed.first(), woken.then_some(&0), "{name}");
    }
    fs::create_dir_all(logs.join("new/deeper")).unwrap();
    quiet(&mut watcher).await;
    fs::write(logs.join("new/deeper/bot.log"), "x").unwrap();
    let changes = timeout(Duration::from_secs(5), watcher.changes()).await.unwrap();
    assert_eq!((changes[0].check, changes[0].gap), (0, FOLDER_GAP));
    quiet(&mut watcher).await;
    assert_eq!(after(&mut watcher, || fs::remove_dir_all(&logs).unwrap()).await, [0]);
    assert_eq!(after(&mut watcher, || fs::create_dir(&logs).unwrap()).await, [0]);
    assert_eq!(after(&mut watcher, || fs::write(logs.join("bot.log"), "x").unwrap()).await, [0]);
}

/// OBS-7: when more happened than the kernel keeps, everything is looked at.
#[tokio::test]
async fn an_overflow_wakes_all() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("a"), folder.path().join("b")];
    let mut watcher = watching(&paths, &[]).await;
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Neighbouring events that are equal are merged, so two files take turns. Nobody reads meanwhile.
    let others =
        [fs::File::create(folder.path().join("c")).unwrap(), fs::File::create(folder.path().join("d")).unwrap()];
    for index in 0..=most {
        std::io::Write::write_all(&mut &others[index % 2], b"x").unwrap();
    }
    assert_eq!(quiet(&mut watcher).await, [0, 1]);
}

/// OBS-7: where the kernel gives no more watches the rest is told of, and what is watched stays so.
#[tokio::test]
async fn too_many_watches_leave_the_rest_to_the_schedule() {
    let base = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["a", "b", "c"].map(|name| base.path().join(name).join("f")).into();
    paths.iter().for_each(|path| fs::create_dir(path.parent().unwrap()).unwrap());
    let checks: Vec<_> = paths.iter().map(|path| scheduled(Arc::new(Looks(vec![path.clone()])))).collect();
    let mut watcher = Watcher::new(checks.iter(), &[], Watching::default()).unwrap();
    let above = base.path().components().count() - 1;
    watcher.most = above + 2;
    quiet(&mut watcher).await;
    assert_eq!(watcher.counts.held(), (above as u64 + 2, 1));
    assert!(watcher.warned);
    for (index, path) in paths.iter().enumerate() {
        let expected: &[usize] = if index < 2 { &[index] } else { &[] };
        assert_eq!(after(&mut watcher, || fs::write(path, "x").unwrap()).await, expected);
    }
    // Once there is room again, the next round takes it.
    watcher.most = WATCHES_MAX;
    watcher.round_at = Instant::now();
    quiet(&mut watcher).await;
    assert_eq!(after(&mut watcher, || fs::write(&paths[2], "y").unwrap()).await, [2]);
    assert_eq!(watcher.counts.held().1, 0);
}

/// SPEC 15: a way that hangs is given up after its time, the others are walked all the same, and what comes back late counts.
#[tokio::test]
async fn a_hanging_way_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name).join("f"));
    paths.iter().for_each(|path| fs::create_dir(path.parent().unwrap()).unwrap());
    let mut watcher = watching(&paths, &[]).await;
    let now = Instant::now();
    let abandoned = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&abandoned);
    watcher.batch = Some(Batch {
        number: 77,
        left: vec![0, 1],
        all: vec![0, 1],
        begun: now,
        heard: now.checked_sub(WALK_LIMIT).unwrap(),
        abandoned,
        strays: false,
    });
    quiet(&mut watcher).await;
    assert!(stop.load(Ordering::Relaxed) && watcher.known.spots[0].hung);
    assert_eq!((watcher.hung, watcher.counts.held().1), (1, 1));
    assert_eq!(after(&mut watcher, || fs::write(&paths[1], "x").unwrap()).await, [1]);
    watcher.tell.send(Told::Way { batch: 77, spot: 0, way: Way::default() }).await.ok().unwrap();
    quiet(&mut watcher).await;
    assert_eq!((watcher.hung, watcher.counts.held().1), (0, 0));
    assert_eq!(after(&mut watcher, || fs::write(&paths[0], "x").unwrap()).await, [0]);
}
