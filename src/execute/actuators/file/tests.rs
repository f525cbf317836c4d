//! Real files in a temporary folder.
#![expect(clippy::disallowed_methods, reason = "prepares files and looks at what became of them")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::model::RunKey;

fn order() -> Order {
    Order {
        key: RunKey { episode: "logging_20251123_013456".into(), rung: 1, attempt: 1 },
        action: "clear_cache".into(),
        target: "logging".into(),
        epoch: 3,
        timeout: Duration::from_secs(60),
        about: crate::execute::About::default(),
        evidence: None,
    }
}

fn content(text: &str) -> Write {
    Write::Content(text.to_owned())
}

async fn apply(path: &Path, write: Write) -> (Ending, String) {
    let answer = File { workspace: "/".into(), path: path.to_owned(), write }.apply(&order()).await;
    assert_eq!(answer.output, "");
    (answer.ending, answer.detail)
}

async fn probe(path: &Path, write: Write) -> ProbeAnswer {
    File { workspace: "/".into(), path: path.to_owned(), write }.probe(&order()).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn content_is_written_replaced_and_probed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag.json");
    assert_eq!(probe(&path, content("{}")).await, ProbeAnswer::DidNotHappen);
    assert_eq!(apply(&path, content("{}")).await, (Ending::Ok, format!("`{}` written", path.display())));
    assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    assert_eq!(probe(&path, content("{}")).await, ProbeAnswer::Happened);
    for other in ["{", "{}\n", "", "[]"] {
        assert_eq!(probe(&path, content(other)).await, ProbeAnswer::DidNotHappen, "{other:?}");
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let before = std::fs::metadata(&path).unwrap();
    assert_eq!(apply(&path, content("")).await.0, Ending::Ok);
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!((after.len(), after.mode() & 0o777), (0, 0o600));
    assert_ne!(after.ino(), before.ino(), "replaced, not rewritten in place");
    assert_eq!(names(folder.path()), ["flag.json"], "nothing temporary is left");
}

/// ACT-4: what was changed is told, and nothing where nothing was.
#[tokio::test]
async fn what_was_changed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag");
    let shown = path.display().to_string();
    let changed = async |write| File { workspace: "/".into(), path: path.clone(), write }.apply(&order()).await.changed;
    assert_eq!(changed(content("on")).await, format!("`{shown}` written, 2 bytes, was absent"));
    assert_eq!(changed(content("")).await, format!("`{shown}` written, 0 bytes, had 2 bytes"));
    assert_eq!(changed(Write::Touch).await, format!("`{shown}` is dated now"));
    assert_eq!(changed(Write::Delete).await, format!("`{shown}` is gone, had 0 bytes"));
    assert_eq!(changed(Write::Delete).await, "");
    assert_eq!(changed(Write::Touch).await, format!("`{shown}` created, was absent"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(changed(Write::Delete).await, "", "what failed has changed nothing");
}

/// A reader that holds the old file keeps the old file, whole.
#[tokio::test]
async fn a_reader_sees_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, "old old old").unwrap();
    let mut reader = std::fs::File::open(&path).unwrap();
    assert_eq!(apply(&path, content("new")).await.0, Ending::Ok);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old old old");
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

#[tokio::test]
async fn a_touch_creates_and_dates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reload");
    assert_eq!(apply(&path, Write::Touch).await.0, Ending::Ok);
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::write(&path, "kept").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(apply(&path, Write::Touch).await, (Ending::Ok, format!("`{}` touched", path.display())));
    let age = std::fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    assert_eq!(probe(&path, Write::Touch).await, ProbeAnswer::Unknown);
}

#[tokio::test]
async fn a_deletion_is_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.flag");
    std::fs::write(&path, "x").unwrap();
    assert_eq!(probe(&path, Write::Delete).await, ProbeAnswer::DidNotHappen);
    assert_eq!(apply(&path, Write::Delete).await, (Ending::Ok, format!("`{}` deleted", path.display())));
    assert_eq!(probe(&path, Write::Delete).await, ProbeAnswer::Happened);
    assert_eq!(apply(&path, Write::Delete).await, (Ending::Ok, format!("`{}` absent already", path.display())));
    let far = folder.path().join("absent/kill.flag");
    assert_eq!(apply(&far, Write::Delete).await.0, Ending::Ok);
}

/// What is not a regular file is left alone: links (also dangling ones), folders, FIFOs. Nothing hangs.
#[tokio::test]
async fn only_regular_files_are_touched() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("target"), "precious").unwrap();
    symlink(at("target"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    let made = std::process::Command::new("/usr/bin/mkfifo").arg(at("fifo")).status().unwrap();
    assert!(made.success());
    let before = names(folder.path());
    for name in ["link", "dangling", "folder", "fifo"] {
        for write in [content("x"), Write::Touch, Write::Delete] {
            let (ending, detail) = apply(&at(name), write.clone()).await;
            assert_eq!(ending, Ending::NotStarted, "{name} {write:?}: {detail}");
            let what = if matches!(name, "link" | "dangling") { "symbolic link" } else { "not a regular file" };
            assert!(detail.contains(what), "{detail}");
            assert_eq!(probe(&at(name), write).await, ProbeAnswer::Unknown, "{name}");
        }
    }
    assert_eq!(names(folder.path()), before);
    assert_eq!(std::fs::read(at("target")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_missing_folder_means_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/flag");
    for write in [content("x"), Write::Touch] {
        let (ending, detail) = apply(&path, write).await;
        assert_eq!(ending, Ending::NotStarted);
        assert!(detail.contains("absent` is not a directory"), "{detail}");
    }
    assert_eq!(names(folder.path()), Vec::<String>::new());
    std::fs::write(folder.path().join("absent"), "a file, not a folder").unwrap();
    assert_eq!(apply(&path, content("x")).await.0, Ending::NotStarted);
}

#[tokio::test]
async fn preflight_warns_of_what_would_fail() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        |name: &str| File { workspace: folder.path().into(), path: folder.path().join(name), write: Write::Touch };
    assert_eq!(file("flag").preflight().await, Vec::<String>::new());
    assert_eq!(file("absent/flag").preflight().await.len(), 1);
    symlink("elsewhere", folder.path().join("link")).unwrap();
    let warnings = file("link").preflight().await;
    assert!(warnings.len() == 1 && warnings[0].contains("symbolic link"), "{warnings:?}");
}

#[test]
fn it_says_what_it_would_do() {
    let file = |write| File { workspace: "/w".into(), path: "/w/a".into(), write };
    assert_eq!(file(content("abc")).describe(), "write 3 bytes to `/w/a`");
    assert_eq!(file(Write::Touch).describe(), "touch `/w/a`");
    assert_eq!(file(Write::Delete).describe(), "delete `/w/a`");
    assert_eq!(file(Write::Delete).means(), Means::File);
}

#[test]
fn a_path_stays_below_the_workspace() {
    for good in ["flag", "./flag", "data/flag.json", "data//./flag", "a..b/.hidden"] {
        assert!(check_path(good).is_ok(), "{good}");
    }
    for bad in ["", "/etc/passwd", "../flag", "data/../../flag", "data/", "data/..", ".", "a\0b"] {
        assert!(check_path(bad).is_err(), "{bad}");
    }
}

/// ACT-2: a folder that is a link leads nowhere, be it below the workspace or out of it; the workspace itself may be one.
#[tokio::test]
async fn a_linked_folder_is_not_followed() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let workspace = folder.path().join("workspace");
    symlink(outside.path(), &workspace).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("flag"), "precious").unwrap();
    symlink(elsewhere.path(), workspace.join("data")).unwrap();
    std::fs::create_dir_all(workspace.join("real/deep")).unwrap();
    let file = |name: &str, write| File { workspace: workspace.clone(), path: workspace.join(name), write };
    for write in [content("x"), Write::Touch, Write::Delete] {
        let answer = file("data/flag", write.clone()).apply(&order()).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{write:?}: {answer:?}");
        assert!(answer.detail.contains("data` is a symbolic link, which is not followed"), "{}", answer.detail);
        assert_eq!(file("data/flag", write.clone()).probe(&order()).await, ProbeAnswer::Unknown);
        assert_eq!(file("data/flag", write).preflight().await.len(), 1);
    }
    assert_eq!(std::fs::read(elsewhere.path().join("flag")).unwrap(), b"precious");
    assert_eq!(file("real/deep/flag", content("x")).apply(&order()).await.ending, Ending::Ok);
    assert_eq!(std::fs::read(outside.path().join("real/deep/flag")).unwrap(), b"x");
    assert_eq!(names(&outside.path().join("real/deep")), ["flag"], "nothing temporary is left");
}

/// ACT-3: a change whose turn comes only after the timeout is told not to have begun, and does not begin.
#[test]
fn a_change_that_waits_too_long_never_begins() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag");
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        drop(tokio::task::spawn_blocking(move || held.recv()));
        let order = Order { timeout: Duration::from_millis(100), ..order() };
        let file = File { workspace: "/".into(), path: path.clone(), write: content("x") };
        let answer = file.apply(&order).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{answer:?}");
        release.send(()).unwrap();
        // Its turn has come and gone once the next one's has.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    assert!(!path.exists());
}
