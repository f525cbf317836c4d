//! The files that settings are read from, bounded.
#![expect(clippy::disallowed_methods, reason = "opens the settings file and the files with secrets")]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::base::tree::{Position, Problems, SIZE_MAX};
use crate::model::Problem;

/// A regular file's content and its permission bits, or what stands in the way, in a few words.
pub(super) fn bounded(path: &Path, max: usize) -> Result<(Vec<u8>, u32), String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        _ => error.to_string(),
    };
    // A FIFO must not make us wait for its other end.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(told)?;
    let meta = file.metadata().map_err(told)?;
    if !meta.is_file() {
        return Err("no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() > max { Err(format!("more than {max} bytes")) } else { Ok((bytes, meta.mode())) }
}

/// The text of the settings file at `path`, or the problem with it.
pub fn read_config(path: &Path) -> Result<String, Vec<Problem>> {
    let problems = Problems::new(path.to_string_lossy());
    let nowhere = Position::default();
    let text = match bounded(path, SIZE_MAX) {
        Ok((bytes, _)) => String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let good = String::from_utf8_lossy(good);
            let line = good.rsplit('\n').next().unwrap_or_default();
            let at = Position { line: good.matches('\n').count() + 1, column: line.chars().count() + 1 };
            problems.push(at, "", "", "expected UTF-8 text", None);
        }),
        Err(found) => {
            problems.push(nowhere, "", &found, "expected a readable settings file of at most 1 MiB", None);
            Err(())
        }
    };
    text.map_err(|()| problems.into_vec())
}

/// What is wrong with `path` as the workspace: a warning, or an error if it is something else than a folder.
pub(super) fn folder(path: &Path) -> Result<(), (bool, String)> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err((true, "not a folder".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err((true, "not a folder".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err((false, "no such folder yet".to_owned())),
        Err(error) => Err((false, error.to_string())),
    }
}
