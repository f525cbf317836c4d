//! Makes the changes of a plan, each whole or not at all.
//!
//! **Invariant:** a file that is not the version that was looked at is left alone; a crash leaves the old file or the new.
