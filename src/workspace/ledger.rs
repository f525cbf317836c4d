//! The healings of a workspace, durable: planned, backed up, applied, finished; one folder of small files.
//!
//! **Invariant:** one healing at a time (a lock on the folder); a step is written before it is taken; what a crash left
//! open is settled by looking before anything else is done.

use crate::model::{Healing, Name};

use super::{Error, Settings};

/// Every healing that is kept, oldest first. Needs no lock; one that is being written is told as it stands.
pub fn list(_settings: &Settings) -> Result<Vec<Healing>, Error> {
    Ok(Vec::new())
}

/// One of them.
pub fn read(settings: &Settings, id: &Name) -> Result<Healing, Error> {
    let found = list(settings)?.into_iter().find(|healing| healing.id == *id);
    found.ok_or_else(|| Error::new(super::ErrorKind::Unknown, format!("no healing `{id}` is kept")))
}
