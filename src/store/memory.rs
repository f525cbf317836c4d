//! A store that forgets everything with the process; for rehearsals and, with seeded faults, for tests.
//!
//! Sharing the `Arc` stands for reopening: a new `acquire` fences the older epoch.
//! **Invariant:** the same answers as every other store; a fault never leaves half a transaction.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use imbl::{OrdMap, Vector};

use crate::journal::{
    AuditEntry, Entry, Epoch, JournalStore, Line, Record, Recovered, StoreError, StoreErrorKind, is_legal,
};
use crate::model::{IntakeAlert, RunState, Timestamp};

use super::step::{self, Step};

/// The memory store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    faults: Option<Faults>,
}

/// Everything stored. Its maps share structure, so that each transaction works on a cheap copy and may stop halfway.
#[derive(Clone, Debug, Default)]
struct Tables {
    epoch: u64,
    last: u64,
    pruned: u64,
    last_intake: u64,
    intake: OrdMap<u64, IntakeAlert>,
    journal: OrdMap<u64, Entry>,
    runs: OrdMap<String, (RunState, u64)>,
    holds: OrdMap<(&'static str, String), u8>,
    latched: bool,
    snapshots: OrdMap<u64, Vec<u8>>,
    audit: Vector<AuditEntry>,
}

/// What a fault does to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Unavailable,
    Full,
    LostAnswer,
    LostWrite,
}

/// A seeded source of faults (splitmix64).
#[derive(Debug)]
struct Faults {
    state: u64,
    rate: f64,
}

impl Faults {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "32 bits fit a float exactly")]
    fn strike(&mut self) -> Option<Fault> {
        let share = (self.next() >> 32) as f64 / f64::from(u32::MAX);
        (share < self.rate).then(|| match self.next() % 4 {
            0 => Fault::Unavailable,
            1 => Fault::Full,
            2 => Fault::LostAnswer,
            _ => Fault::LostWrite,
        })
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store in which a share `rate` (0 to 1) of the writes fails: unavailable, full, or ambiguous with the
    /// write applied or not. The same seed and calls give the same faults.
    pub fn with_faults(seed: u64, rate: f64) -> Self {
        let faults = Some(Faults { state: seed, rate });
        Self { inner: Mutex::new(Inner { tables: Tables::default(), faults }) }
    }

    /// From now on a share `rate` of the writes fails; without a seed nothing ever does.
    pub fn set_fault_rate(&self, rate: f64) {
        if let Some(faults) = self.lock().faults.as_mut() {
            faults.rate = rate;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a transaction: all of it or, on a refusal or fault, nothing.
    fn write<T>(&self, work: impl FnOnce(&mut Tables) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.lock();
        let fault = inner.faults.as_mut().and_then(Faults::strike);
        let trouble = |kind| Err(StoreError::new(kind, "a seeded fault of the memory store"));
        match fault {
            Some(Fault::Unavailable) => return trouble(StoreErrorKind::Unavailable),
            Some(Fault::Full) => return trouble(StoreErrorKind::Full),
            Some(Fault::LostWrite) => return trouble(StoreErrorKind::Ambiguous),
            Some(Fault::LostAnswer) | None => {}
        }
        let mut tables = inner.tables.clone();
        let answer = work(&mut tables)?;
        inner.tables = tables;
        if fault == Some(Fault::LostAnswer) { trouble(StoreErrorKind::Ambiguous) } else { Ok(answer) }
    }

    /// Runs a read, which fails only by being unavailable.
    fn read<T>(&self, work: impl FnOnce(&Tables) -> T) -> Result<T, StoreError> {
        let mut inner = self.lock();
        if inner.faults.as_mut().and_then(Faults::strike).is_some() {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "a seeded fault of the memory store"));
        }
        Ok(work(&inner.tables))
    }
}

impl Tables {
    fn fence(&self, epoch: Epoch) -> Result<(), StoreError> {
        if epoch.0 == self.epoch { Ok(()) } else { Err(step::fenced(epoch, self.epoch)) }
    }

    fn append(&mut self, at: Timestamp, records: Vec<Record>, rising: bool) -> Result<u64, StoreError> {
        for record in records {
            self.last += 1;
            self.apply(Step::of(&record), rising)?;
            if let Some(line) = Line::of(&record) {
                let (number, previous) =
                    self.audit.last().map_or((0, AuditEntry::START), |last| (last.number, last.digest.as_str()));
                let entry = line.after(number, previous, at);
                self.audit.push_back(entry);
            }
            self.journal.insert(self.last, Entry { seq: self.last, at, record });
        }
        Ok(self.last)
    }

    fn apply(&mut self, step: Step, rising: bool) -> Result<(), StoreError> {
        match step {
            Step::Free => {}
            Step::NewRun(key) => {
                if self.runs.contains_key(&key) {
                    return Err(step::run_exists(&key));
                }
                self.runs.insert(key, (RunState::Intended, self.last));
            }
            Step::MoveRun(key, to) => match self.runs.get_mut(&key) {
                Some((state, seq)) if is_legal(*state, to) => (*state, *seq) = (to, self.last),
                found => return Err(step::illegal_move(&key, found.map(|(state, _)| state.as_str()), to)),
            },
            Step::Latch(_) => self.latched = true,
            Step::Unlatch(by, reason) => {
                step::must_be_signed(&by, &reason)?;
                self.latched = false;
            }
            Step::Hold { source, subject, rank } => {
                let key = (source, subject);
                if rising {
                    step::must_rise(source, &key.1, rank, self.holds.get(&key).copied())?;
                }
                self.holds.insert(key, rank);
            }
            Step::EndHold { source, subject } => {
                self.holds.remove(&(source, subject));
            }
            Step::Taken(id) => {
                self.intake.remove(&id);
            }
        }
        Ok(())
    }

    fn prune(&mut self, keep: u64) {
        while self.snapshots.len() > 2
            && let Some(oldest) = self.snapshots.get_min().map(|(seq, _)| *seq)
        {
            self.snapshots.remove(&oldest);
        }
        let oldest = self.snapshots.get_min().map_or(0, |(seq, _)| *seq);
        let upto = oldest.min(self.last.saturating_sub(keep));
        if upto <= self.pruned {
            return;
        }
        for seq in self.pruned + 1..=upto {
            self.journal.remove(&seq);
        }
        let gone = |(_, (state, seq)): &(&String, &(RunState, u64))| *seq <= upto && state.is_final();
        let gone: Vec<String> = self.runs.iter().filter(gone).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.runs.remove(&key);
        }
        self.pruned = upto;
    }
}

#[async_trait]
impl JournalStore for MemoryStore {
    async fn acquire(&self, _incarnation: &str, _now: Timestamp) -> Result<Recovered, StoreError> {
        self.write(|tables| {
            tables.epoch += 1;
            let snapshot = tables.snapshots.get_max().map(|(seq, body)| (*seq, body.clone()));
            let after = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
            let entries = tables.journal.range(after + 1..).map(|(_, entry)| entry.clone()).collect();
            Ok(Recovered { epoch: Epoch(tables.epoch), snapshot, entries })
        })
    }

    async fn accept(&self, alerts: Vec<IntakeAlert>) -> Result<(), StoreError> {
        if alerts.is_empty() {
            return Ok(());
        }
        self.write(|tables| {
            for alert in alerts {
                tables.last_intake += 1;
                tables.intake.insert(tables.last_intake, alert);
            }
            Ok(())
        })
    }

    async fn pending(&self, after: u64, limit: usize) -> Result<Vec<(u64, IntakeAlert)>, StoreError> {
        self.read(|tables| {
            let newer = tables.intake.range(after.saturating_add(1)..);
            newer.take(limit).map(|(id, alert)| (*id, alert.clone())).collect()
        })
    }

    async fn commit(&self, epoch: Epoch, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        self.write(|tables| {
            tables.fence(epoch)?;
            tables.append(at, records, false)
        })
    }

    async fn tighten(&self, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        records.iter().try_for_each(step::may_tighten)?;
        self.write(|tables| tables.append(at, records, true))
    }

    async fn snapshot(&self, epoch: Epoch, seq: u64, state: Vec<u8>, keep: u64) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.fence(epoch)?;
            let latest = tables.snapshots.get_max().map(|(seq, _)| *seq);
            step::snapshot_fits(seq, tables.pruned, tables.last, latest)?;
            tables.snapshots.insert(seq, state);
            tables.prune(keep);
            Ok(())
        })
    }

    async fn history(&self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(|tables| {
            tables.journal.range(after.saturating_add(1)..).take(limit).map(|(_, entry)| entry.clone()).collect()
        })
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|tables| {
            let newer = tables.audit.iter().filter(|entry| entry.number > after);
            newer.take(limit).cloned().collect()
        })
    }

    async fn probe(&self, _now: Timestamp) -> Result<(), StoreError> {
        self.write(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(seed: u64) -> Vec<Option<StoreErrorKind>> {
        let store = MemoryStore::with_faults(seed, 0.5);
        let mut answers = Vec::new();
        for _ in 0..200 {
            answers.push(store.tighten(Timestamp::EPOCH, vec![Record::Latched { reason: "test".into() }]).await);
        }
        answers.into_iter().map(|answer| answer.err().map(|error| error.kind)).collect()
    }

    /// The same seed strikes the same calls, so that a failing run can be replayed.
    #[tokio::test]
    async fn faults_follow_the_seed() {
        let first = answers(7).await;
        assert_eq!(first, answers(7).await);
        assert_ne!(first, answers(8).await);
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Full, StoreErrorKind::Ambiguous] {
            assert!(first.contains(&Some(kind)), "{kind:?} never struck");
        }
        assert!(first.contains(&None));
    }

    /// A store that has recovered fails no more.
    #[tokio::test]
    async fn faults_end() {
        let store = MemoryStore::with_faults(3, 1.0);
        assert!(store.probe(Timestamp::EPOCH).await.is_err());
        store.set_fault_rate(0.0);
        for _ in 0..100 {
            store.probe(Timestamp::EPOCH).await.expect("it has recovered");
        }
    }

    /// An ambiguous write is there or not there; every other fault has written nothing.
    #[tokio::test]
    async fn only_ambiguous_faults_may_have_written() {
        let store = MemoryStore::with_faults(11, 0.5);
        let (mut sure, mut maybe) = (0, 0);
        for _ in 0..200 {
            match store.tighten(Timestamp::EPOCH, vec![Record::Latched { reason: "test".into() }]).await {
                Ok(_) => sure += 1,
                Err(error) if error.kind == StoreErrorKind::Ambiguous => maybe += 1,
                Err(_) => {}
            }
        }
        let there = store.lock().tables.journal.len();
        assert!(there > sure, "no ambiguous write was applied");
        assert!(there < sure + maybe, "every ambiguous write was applied");
    }
}
