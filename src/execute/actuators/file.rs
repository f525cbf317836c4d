//! `file`: a file of the workspace written, touched or deleted.
//!
//! **Invariant:** a reader sees the old file or the new one, never a part; nothing but a regular file is ever replaced,
//! and a symbolic link in the path is refused, not followed: what is changed is below the workspace.
#![expect(clippy::disallowed_methods, reason = "changes one file of the workspace")]

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{ActuatorContext, ActuatorSpec, Text, Yes};
use crate::base::files;
use crate::base::tree::Section;
use crate::execute::begin::{self, Begun};
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::model::{Ending, Means};

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "file", doc: DOC, build };

const DOC: &str = "\
## What it calls

The file system, for `path` below the workspace, and one of `write: CONTENT` (the file then holds exactly that, replaced
atomically), `touch: true` (its modification time is now; it is created if missing) or `delete: true`. Only regular files
are touched; a symbolic link, at the end of the path or on the way there from the workspace, is refused.
A change whose turn comes only after the binding's timeout is not begun.

## Permissions

chiron's user must be allowed to write to the folder, which must be there, and for `touch` to the file.

## Idempotence

Doing it twice is the same as once, so class `natural` fits. As `probeable`, a file with the content, or none after a
deletion, says that the effect is in place; a touch cannot be told.
";

/// What is done to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// It then holds exactly this.
    Content(String),
    /// Its modification time is then now; created if missing.
    Touch,
    /// It is then absent.
    Delete,
}

/// A file with what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The workspace.
    pub workspace: PathBuf,
    /// The file, below it.
    pub path: PathBuf,
    /// What is done.
    pub write: Write,
}

impl File {
    /// Does it, on this thread.
    fn change(&self) -> Answer {
        let answer = |ending, detail: String| Answer::new(ending, detail);
        let shown = self.path.display();
        let (place, before) = match self.look() {
            Ok(found) => found,
            Err(why) => return answer(Ending::NotStarted, why),
        };
        let (result, done) = match (&self.write, &place, &before) {
            (Write::Delete, _, None) | (Write::Delete, None, _) => (Ok(()), "absent already"),
            (_, None, _) => {
                let folder = folder(&self.path).display();
                let detail = format!("`{folder}` is not a directory, expected the folder of `{shown}`");
                return answer(Ending::NotStarted, detail);
            }
            (Write::Content(content), Some(place), _) => (files::replace(&place.path, content.as_bytes()), "written"),
            (Write::Touch, Some(place), _) => (touch(&place.path), "touched"),
            (Write::Delete, Some(place), Some(_)) => (delete(&place.path), "deleted"),
        };
        match result {
            Ok(()) => {
                Answer { changed: self.changed(before.as_ref()), ..answer(Ending::Ok, format!("`{shown}` {done}")) }
            }
            Err(error) => answer(Ending::Failed, format!("`{shown}` cannot be {done}: {error}")),
        }
    }

    /// What would keep it from working, looked at on this thread.
    fn doubts(&self) -> Vec<String> {
        let folder = folder(&self.path).display();
        match self.look() {
            Err(why) => vec![why],
            Ok((None, _)) => vec![format!("`{folder}` is not a directory, expected a folder to write to")],
            Ok((Some(place), _)) => {
                let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                let allowed = rustix::fs::access(place.folder(), needed);
                allowed.err().map(|error| format!("`{folder}` cannot be written to: {error}")).into_iter().collect()
            }
        }
    }

    /// Where the file is to stand and what stands there: a regular file or nothing; else why it is left alone. No place if
    /// its folder is missing.
    fn look(&self) -> Result<(Option<Place>, Option<Metadata>), String> {
        let Some(place) = self.reach()? else { return Ok((None, None)) };
        let before = look(&place.path, &self.path)?;
        Ok((Some(place), before))
    }

    /// Goes from the workspace to the file's folder, following no link.
    fn reach(&self) -> Result<Option<Place>, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = match rustix::fs::open(&self.workspace, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(format!("`{}` cannot be entered: {error}", self.workspace.display())),
        };
        let outside = || format!("`{}` is not below the workspace", self.path.display());
        let below = self.path.strip_prefix(&self.workspace).map_err(|_| outside())?;
        let name = below.file_name().ok_or_else(outside)?;
        let mut at = self.workspace.clone();
        for part in below.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else { return Err(outside()) };
            at.push(part);
            let shown = at.display();
            folder = match rustix::fs::openat(&folder, part, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let link = rustix::fs::readlinkat(&folder, part, Vec::new()).is_ok();
                    let what = if link { "is a symbolic link, which is not followed" } else { "is not a directory" };
                    return Err(format!("`{shown}` {what}, expected a folder of `{}`", self.path.display()));
                }
                Err(error) => return Err(format!("`{shown}` cannot be entered: {error}")),
            };
        }
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Some(Place { path, _folder: folder }))
    }

    /// What is different now that it was done; empty if nothing is.
    fn changed(&self, before: Option<&Metadata>) -> String {
        let shown = self.path.display();
        let was = before.map_or_else(|| "was absent".to_owned(), |before| format!("had {} bytes", before.len()));
        match (&self.write, before) {
            (Write::Content(content), _) => format!("`{shown}` written, {} bytes, {was}", content.len()),
            (Write::Touch, None) => format!("`{shown}` created, was absent"),
            (Write::Touch, Some(_)) => format!("`{shown}` is dated now"),
            (Write::Delete, None) => String::new(),
            (Write::Delete, Some(_)) => format!("`{shown}` is gone, {was}"),
        }
    }

    /// Looks whether the effect is in place, on this thread.
    fn in_place(&self) -> ProbeAnswer {
        let yes_or_no = |yes| if yes { ProbeAnswer::Happened } else { ProbeAnswer::DidNotHappen };
        match (&self.write, self.look()) {
            (Write::Touch, _) | (_, Err(_)) => ProbeAnswer::Unknown,
            (Write::Delete, Ok((_, found))) => yes_or_no(found.is_none()),
            (Write::Content(content), Ok((Some(place), Some(_)))) => {
                holds(&place.path, content).map_or(ProbeAnswer::Unknown, yes_or_no)
            }
            (Write::Content(_), Ok(_)) => ProbeAnswer::DidNotHappen,
        }
    }
}

/// Where a file is to stand, held so that nobody can lead the way there elsewhere meanwhile.
struct Place {
    /// A path to it that begins at the held folder.
    path: PathBuf,
    _folder: OwnedFd,
}

impl Place {
    fn folder(&self) -> &Path {
        folder(&self.path)
    }
}

#[async_trait]
impl Actuator for File {
    fn means(&self) -> Means {
        Means::File
    }

    async fn apply(&self, order: &Order) -> Answer {
        let file = self.clone();
        let shown = self.path.display();
        match begin::before(Instant::now() + order.timeout, move || file.change()).await {
            Begun::Done(answer) => answer,
            Begun::Not(why) => Answer::new(Ending::NotStarted, format!("`{shown}` was not touched: {why}")),
            Begun::Hangs(_) => {
                let limit = order.timeout;
                let detail = format!("the change of `{shown}` has not come back within {limit:?}; it may still happen");
                Answer::new(Ending::Timeout, detail)
            }
            Begun::Broken(why) => Answer::new(Ending::Failed, format!("whether it worked is not known: {why}")),
        }
    }

    async fn probe(&self, _order: &Order) -> ProbeAnswer {
        let file = self.clone();
        tokio::task::spawn_blocking(move || file.in_place()).await.unwrap_or(ProbeAnswer::Unknown)
    }

    async fn preflight(&self) -> Vec<String> {
        let file = self.clone();
        let looked = tokio::task::spawn_blocking(move || file.doubts()).await;
        looked.unwrap_or_else(|error| vec![format!("it cannot be looked at: {error}")])
    }

    fn describe(&self) -> String {
        let path = self.path.display();
        match &self.write {
            Write::Content(content) => format!("write {} bytes to `{path}`", content.len()),
            Write::Touch => format!("touch `{path}`"),
            Write::Delete => format!("delete `{path}`"),
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// What stands at the path: a regular file, nothing, or why it is left alone.
fn look(path: &Path, shown: &Path) -> Result<Option<Metadata>, String> {
    let shown = shown.display();
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("`{shown}` cannot be looked at: {error}")),
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        Err(format!("`{shown}` is a symbolic link, expected a regular file; name the file that it points to"))
    } else if !kind.is_file() {
        Err(format!("`{shown}` is not a regular file and is left alone"))
    } else {
        Ok(Some(metadata))
    }
}

/// Sets the modification time to now; opened without following a link and without waiting for a FIFO's other end.
fn touch(path: &Path) -> io::Result<()> {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
    file.sync_all()?;
    sync_folder(path)
}

fn delete(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(path),
    }
}

/// Makes a rename or a removal durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    std::fs::File::open(folder(path))?.sync_all()
}

/// Whether the file holds exactly `content`; reads at most one byte more.
fn holds(path: &Path, content: &str) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let mut found = Vec::new();
    file.take(content.len() as u64 + 1).read_to_end(&mut found).ok()?;
    Some(found == content.as_bytes())
}

fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    let path = section.req::<Text>("path");
    let asked = ["write", "touch", "delete"].into_iter().filter(|key| section.has(key)).count();
    let content = section.opt::<Text>("write").map(|text| Write::Content(text.0));
    let touch = section.opt::<Yes>("touch").map(|Yes| Write::Touch);
    let delete = section.opt::<Yes>("delete").map(|Yes| Write::Delete);
    if asked != 1 {
        section.reject("write", "expected exactly one of `write`, `touch: true` and `delete: true`", None);
        return None;
    }
    let path = path?.0;
    if let Err(rule) = check_path(&path) {
        section.reject("path", rule, None);
        return None;
    }
    let workspace = context.workspace.clone();
    Some(Arc::new(File { path: workspace.join(path), workspace, write: content.or(touch).or(delete)? }))
}

/// A path may name a file below the workspace and nothing else.
fn check_path(path: &str) -> Result<(), &'static str> {
    let parts = || Path::new(path).components().filter(|part| *part != Component::CurDir);
    if path.contains('\0') || path.ends_with('/') || parts().next().is_none() {
        return Err("expected the path of a file");
    }
    if !parts().all(|part| matches!(part, Component::Normal(_))) {
        return Err("expected a path relative to the workspace, without `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
