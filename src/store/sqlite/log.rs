//! Whether the write-ahead log that a crash left behind holds commits that SQLite would silently leave out.
//!
//! SQLite reads the log up to the first frame that does not match its checksum. A torn last commit is normal and was never
//! answered; a second one behind it was written after a sync, so an answered commit would be lost.
//! **Invariant:** reads only, one frame header at a time, whatever the log's size.
#![expect(clippy::disallowed_methods, reason = "this reads the log beside the journal")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const HEADER: u64 = 32;
const FRAME: u64 = 24;

/// What a log holds beside what SQLite has taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing that was ever answered.
    Nothing,
    /// Its header is damaged, so that SQLite takes nothing from it.
    Header,
    /// So many commits after the first damaged frame.
    Commits(u64),
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The checksum over the first 24 bytes of a log's header, by the byte order that its magic number names.
fn checksum(header: &[u8]) -> (u32, u32) {
    let swapped = word(header, 0) & 1 == 0;
    let read = |at| if swapped { word(header, at).swap_bytes() } else { word(header, at) };
    (0..24).step_by(8).fold((0, 0), |(first, second): (u32, u32), at| {
        let first = first.wrapping_add(read(at)).wrapping_add(second);
        (first, second.wrapping_add(read(at + 4)).wrapping_add(first))
    })
}

/// Looks at the log at `path`, of which SQLite has taken the first `taken` frames.
pub(super) fn left(path: &Path, taken: u64) -> io::Result<Left> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if length <= HEADER {
        return Ok(Left::Nothing);
    }
    let mut header = [0; HEADER as usize];
    file.read_exact_at(&mut header, 0)?;
    let sound = word(&header, 0) | 1 == 0x377f_0683 && checksum(&header) == (word(&header, 24), word(&header, 28));
    if !sound {
        return Ok(Left::Header);
    }
    let step = FRAME + u64::from(word(&header, 8));
    let (mut at, mut commits) = (HEADER + taken * step, 0);
    let mut frame = [0; FRAME as usize];
    while at + step <= length {
        file.read_exact_at(&mut frame, at)?;
        // Frames of an earlier round of the log carry other salts.
        commits += u64::from(frame[8..16] == header[16..24] && word(&frame, 4) != 0);
        at += step;
    }
    Ok(if commits > 1 { Left::Commits(commits) } else { Left::Nothing })
}
