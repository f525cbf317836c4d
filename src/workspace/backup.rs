//! Copies of files before their first change, by their content, and the last good copies of configuration files.
//!
//! **Invariant:** a copy is durable before the change it is for is begun, and is never changed.

use std::path::PathBuf;

/// The folder of copies: `STATE_DIR/backups/ab/abcdef...`, one file for each content.
#[derive(Clone, Debug)]
pub struct Backups {
    /// Where.
    pub folder: PathBuf,
}
