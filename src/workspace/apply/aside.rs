//! Clears away what lies beside a file under one of chiron's own names.
//!
//! **Invariant:** such a name goes only if what it names has another name too, is what chiron itself wrote, or is durable as
//! a copy; everything else stays under that name and is told.

use std::ffi::OsStr;

use rustix::fs::AtFlags;

use crate::workspace::backup::Backups;
use crate::workspace::holders;
use crate::workspace::ledger::record::Stray;
use crate::workspace::root::{Place, Trouble, hash_whole, version_of};
use crate::workspace::scan::Version;

/// A version that may go without a further copy: chiron wrote it, or a copy of it is durable.
#[derive(Clone, Copy, Debug)]
pub(in crate::workspace) struct Known<'a> {
    sha256: &'a str,
    file: Option<(u64, u64)>,
}

impl<'a> Known<'a> {
    /// Exactly that file with exactly that content.
    pub(in crate::workspace) fn file(version: &'a Version) -> Self {
        Self { sha256: &version.sha256, file: Some((version.device, version.inode)) }
    }

    /// What chiron was about to write; after a crash nobody knows the file itself any more.
    pub(in crate::workspace) fn content(sha256: &'a str) -> Self {
        Self { sha256, file: None }
    }

    fn is(&self, version: &Version) -> bool {
        version.sha256 == self.sha256 && self.file.is_none_or(|file| file == (version.device, version.inode))
    }
}

/// What a change has left besides what it was to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::workspace) struct Aside {
    /// Copies of versions that nobody planned to replace.
    pub(in crate::workspace) strays: Vec<Stray>,
    /// Names under which something still lies.
    pub(in crate::workspace) left: Vec<String>,
    /// Why.
    why: Vec<String>,
}

impl Aside {
    /// Removes the name `name` beside the place, if what it names can be spared.
    pub(in crate::workspace) fn clear(
        &mut self,
        backups: &Backups,
        place: &Place,
        name: &OsStr,
        known: Option<Known<'_>>,
    ) {
        if let Err(why) = self.try_clear(backups, place, name, known) {
            self.leave(name, &why);
        }
    }

    /// Tells that something stays under that name.
    pub(in crate::workspace) fn leave(&mut self, name: &OsStr, why: &str) {
        let name = name.to_string_lossy().into_owned();
        tracing::warn!(name = %name, why = %why, "a file stays beside the one that was to be healed");
        self.why.push(format!("`{name}` stays beside it: {why}"));
        self.left.push(name);
    }

    /// Adds what is left to the answer of a change.
    pub(in crate::workspace) fn tell(&self, detail: &mut String) {
        for why in &self.why {
            if !detail.is_empty() {
                detail.push_str("; ");
            }
            detail.push_str(why);
        }
    }

    fn try_clear(
        &mut self,
        backups: &Backups,
        place: &Place,
        name: &OsStr,
        known: Option<Known<'_>>,
    ) -> Result<(), String> {
        let left = place.beside(name).map_err(|trouble| trouble.to_string())?;
        let seen = match left.stat() {
            Ok(seen) => seen.version,
            Err(Trouble::Missing) => return Ok(()),
            Err(trouble) => return Err(format!("it cannot be looked at: {trouble}")),
        };
        let id = |version: &Version| (version.device, version.inode);
        if !place.stat().is_ok_and(|stands| id(&stands.version) == id(&seen)) {
            self.spare(backups, &left, &seen, known)?;
        }
        if !left.stat().is_ok_and(|again| id(&again.version) == id(&seen)) {
            return Err("somebody has put something else there".to_owned());
        }
        rustix::fs::unlinkat(&left.folder, &left.name, AtFlags::empty())
            .map_err(|errno| format!("it cannot be removed: {errno}"))
    }

    /// Proves that the file of that name can be spared, by a copy if need be.
    fn spare(
        &mut self,
        backups: &Backups,
        left: &Place,
        seen: &Version,
        known: Option<Known<'_>>,
    ) -> Result<(), String> {
        let file = left.open().map_err(|trouble| format!("it cannot be copied: {trouble}"))?;
        let version = hash_whole(&file).map_err(|trouble| format!("it cannot be copied: {trouble}"))?;
        if (version.device, version.inode) != (seen.device, seen.inode) {
            return Err("somebody has put something else there".to_owned());
        }
        if known.is_some_and(|known| known.is(&version)) {
            return Ok(());
        }
        if let Some(writer) = holders::writers(version.device, version.inode).ok().and_then(|by| by.into_iter().next())
        {
            return Err(format!("{writer} has it open for writing"));
        }
        let sha256 = backups.put_file(&file).map_err(|trouble| format!("it cannot be copied: {trouble}"))?;
        let unhashed = Version { sha256: String::new(), ..version.clone() };
        if sha256 != version.sha256 || !version_of(&file).is_ok_and(|now| now == unhashed) {
            return Err("it changed while it was copied".to_owned());
        }
        tracing::warn!(%sha256, "a version of the bot that nobody planned to replace is kept as a copy");
        self.strays.push(Stray { sha256, len: version.len });
        Ok(())
    }
}

/// What it means that names of a folder could not be synced: the change is made all the same.
pub(in crate::workspace) fn unproven(synced: Result<(), Trouble>) -> String {
    synced.err().map(|trouble| format!("not proven durable: {trouble}")).unwrap_or_default()
}
