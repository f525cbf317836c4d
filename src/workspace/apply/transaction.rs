//! One healing from its plan to its end: journal, back up, apply, journal.
//!
//! **Invariant:** nothing is changed before the plan and the copies are durable; each change is journaled before it is begun
//! and after it has ended.

use std::cell::RefCell;
use std::time::Duration;

use super::attributes::Attributes;
use super::{Hands, Step, Stop};
use crate::base::clock::Clock;
use crate::model::{ChangeKind, ChangeRecord, ChangeState, HealingEnd, HealingTrigger, Name};
use crate::workspace::backup::Backups;
use crate::workspace::ledger::Ledger;
use crate::workspace::ledger::folder::state;
use crate::workspace::ledger::record::{Done, Kept, Planned};
use crate::workspace::root::{Root, Trouble, hash_whole, seen, sha256};
use crate::workspace::{Error, ErrorKind};

/// What a transaction needs besides its steps.
pub(in crate::workspace) struct Transaction<'a> {
    pub(in crate::workspace) root: &'a Root,
    pub(in crate::workspace) ledger: &'a Ledger,
    pub(in crate::workspace) backups: &'a Backups,
    pub(in crate::workspace) clock: &'a Clock,
    pub(in crate::workspace) trigger: HealingTrigger,
    pub(in crate::workspace) by: Option<String>,
    pub(in crate::workspace) undoes: Option<Name>,
    /// How long after SIGTERM SIGKILL follows; `None`: no process is ended.
    pub(in crate::workspace) grace: Option<Duration>,
    pub(in crate::workspace) hook: &'a dyn Fn(&str),
}

/// What it came to.
#[derive(Debug)]
pub(in crate::workspace) struct Outcome {
    pub(in crate::workspace) id: Name,
    /// In the order of the steps.
    pub(in crate::workspace) changes: Vec<ChangeRecord>,
}

impl Transaction<'_> {
    /// Makes the steps. An error means that the journal could not be written: what was applied until then is found out when
    /// the healing is settled.
    pub(in crate::workspace) fn run(&self, mut steps: Vec<Step>) -> Result<Outcome, Error> {
        let prefix = if self.undoes.is_some() { "rollback" } else { "heal" };
        let struck = |name: &str| {
            (self.hook)(name);
            match crate::base::failpoint::pass(&format!("{prefix}.{name}")) {
                true => Err(Error::new(ErrorKind::State, format!("failpoint `{prefix}.{name}`"))),
                false => Ok(()),
            }
        };
        let planned: Vec<(Planned, Option<Stop>)> = steps.iter_mut().map(|step| self.look(step)).collect();
        let (planned, mut stops): (Vec<Planned>, Vec<Option<Stop>>) = planned.into_iter().unzip();
        let records: Vec<Planned> = planned.clone();
        struck("planned.before")?;
        let now = self.clock.now();
        let mut journal = self.ledger.begin(now, self.trigger, self.by.clone(), self.undoes.clone(), planned)?;
        let id = journal.id.clone();
        let backed = struck("planned.after")
            .and_then(|()| struck("backup.before"))
            .and_then(|()| self.back_up(&steps, &mut stops))
            .and_then(|copies| struck("backup.after").map(|()| copies));
        let copies = match backed {
            Ok(copies) => copies,
            Err(error) => {
                // Nothing was changed and nothing will be, so there is nothing to tell of.
                journal.forget();
                return Err(error);
            }
        };
        journal.backed_up(copies)?;
        let hands = Hands {
            root: self.root,
            backups: self.backups,
            id: &id,
            prefix,
            grace: self.grace,
            hook: self.hook,
            aside: RefCell::default(),
        };
        let mut changes = Vec::with_capacity(steps.len());
        for (n, (step, record)) in steps.iter().zip(records).enumerate() {
            let made = match stops[n].take() {
                Some(stop) => Err(stop),
                None => {
                    journal.applying(n)?;
                    hands.make(n, step)
                }
            };
            let (state, mut detail, now) = match made {
                Ok(made) => (ChangeState::Applied, made.detail, made.now),
                Err(Stop::Deferred(why)) => (ChangeState::Deferred, why, None),
                Err(Stop::Failed(why)) => (ChangeState::Failed, why, None),
            };
            struck("applied.before")?;
            let aside = hands.aside.take();
            aside.tell(&mut detail);
            let done = Done { n, state, detail, now, strays: aside.strays, left: aside.left };
            journal.done(done.clone())?;
            struck("applied.after")?;
            let stored =
                crate::workspace::ledger::record::StoredChange { planned: record, is_begun: true, done: Some(done) };
            changes.push(stored.record());
        }
        struck("finished.before")?;
        journal.finish(HealingEnd::Finished, self.clock.now())?;
        // It is over; a step that is struck here can only kill.
        let _ = struck("finished.after");
        Ok(Outcome { id, changes })
    }

    /// Looks at what a step is about to change: what the journal keeps of it, and whether it can be made at all.
    fn look(&self, step: &mut Step) -> (Planned, Option<Stop>) {
        let mut planned = Planned {
            kind: step.kind,
            code: step.code,
            path: step.path.clone(),
            process: step.process,
            before: None,
            after: step.content.as_deref().map(sha256),
            detail: step.detail.clone(),
            lost: step.lost.clone(),
        };
        let stop = match (step.kind, &step.path, &step.before) {
            (ChangeKind::ReplaceFile | ChangeKind::RemoveFile, Some(path), Some(before)) => {
                match self.look_at_file(path, before) {
                    Ok(kept) => {
                        step.before = Some(kept.version.clone());
                        planned.before = Some(kept);
                        None
                    }
                    Err(stop) => {
                        let version = before.clone();
                        planned.before = Some(Kept { version, xattrs: std::collections::BTreeMap::new() });
                        Some(stop)
                    }
                }
            }
            (ChangeKind::ReplaceFile | ChangeKind::RemoveFile, _, _) => {
                Some(Stop::Failed("it names no file and version".to_owned()))
            }
            (ChangeKind::RemoveDirectory, Some(path), _) => {
                let folder = self.root.open_folder(Some(path));
                let kept = folder.and_then(|folder| {
                    let version = crate::workspace::root::version_of(&folder)?;
                    Attributes::keep(&folder, &version)
                });
                match kept {
                    Ok(kept) => {
                        planned.before = Some(kept);
                        None
                    }
                    Err(trouble) => Some(trouble.into()),
                }
            }
            _ => None,
        };
        (planned, stop)
    }

    fn look_at_file(
        &self,
        path: &crate::workspace::layout::RelPath,
        before: &crate::workspace::scan::Version,
    ) -> Result<Kept, Stop> {
        let file = match self.root.open_file(path) {
            Ok(file) => file,
            Err(Trouble::Missing | Trouble::Dangling(_)) => return Err(super::gone()),
            Err(trouble) => return Err(trouble.into()),
        };
        let names = seen(&rustix::fs::fstat(&file)?).names;
        if names > 1 {
            let why = format!("it has {names} names (hard links), and under the others it would stay as it is");
            return Err(Stop::Deferred(why));
        }
        let now = hash_whole(&file)?;
        // A scan that did not need the content has not hashed it.
        let sha256 = if before.sha256.is_empty() { now.sha256.clone() } else { before.sha256.clone() };
        if now != (crate::workspace::scan::Version { sha256, ..before.clone() }) {
            return Err(Stop::Deferred("it has changed since it was looked at".to_owned()));
        }
        Ok(Attributes::keep(&file, &now)?)
    }

    /// Copies every file that is about to be replaced or removed. What has changed meanwhile is left out of the healing.
    fn back_up(&self, steps: &[Step], stops: &mut [Option<Stop>]) -> Result<usize, Error> {
        let mut copies = 0;
        for (step, stop) in steps.iter().zip(stops) {
            let (Some(path), Some(before)) = (&step.path, &step.before) else { continue };
            if stop.is_some() || !matches!(step.kind, ChangeKind::ReplaceFile | ChangeKind::RemoveFile) {
                continue;
            }
            let file = match self.root.open_file(path) {
                Ok(file) => file,
                Err(trouble) => {
                    let is_gone = matches!(trouble, Trouble::Missing | Trouble::Dangling(_));
                    *stop = Some(if is_gone { super::gone() } else { trouble.into() });
                    continue;
                }
            };
            let context =
                || format!("`{path}` cannot be copied to `{}`, so nothing was changed", self.backups.folder.display());
            let sha = self.backups.put_file(&file).map_err(|trouble| state(context(), &trouble))?;
            if sha == before.sha256 {
                copies += 1;
            } else {
                *stop = Some(Stop::Deferred("it has changed since it was looked at".to_owned()));
            }
        }
        Ok(copies)
    }
}
