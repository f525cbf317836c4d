//! The large, regular series that count events: issues, actions and their durations.
//!
//! A [`Tables`] is an immutable index over shared atomic rows: counting in a known row takes no lock, a new row makes a
//! new index. Labels are written once, when a row is made.
//! **Invariant:** at most [`FURTHER_MAX`] rows of each table are beyond what the configuration names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::model::{HOST, Name, Outcome, PLATFORM, POLICY_NOT_FOLLOWED, Severity, WORKSPACE};

use super::text::{Family, Kind, Text, bound, prepare};

/// Rows of a table that occurrence, not configuration, may add; beyond that they count under `other`.
pub(super) const FURTHER_MAX: usize = 1_000;

/// What rows beyond the bound are counted under.
pub(super) const OTHER: &str = "other";

/// The issue type that every subsystem has (DET-4).
pub(super) const SUBSYSTEM_STATUS: &str = "subsystem_status";

/// The issue types of the host (OBS-4, OBS-10).
pub(super) const HOST_KINDS: [&str; 5] =
    ["cpu_pressure", "memory_pressure", "disk_pressure", "disk_forecast", "memory_forecast"];

/// The issue types of the platform as a whole.
pub(super) const PLATFORM_KINDS: [&str; 1] = [POLICY_NOT_FOLLOWED];

/// Bounds of `chiron_action_duration_seconds`: from a file written to a slow restart.
pub(super) const ACTION_BOUNDS: [f64; 12] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Bounds of `chiron_recovery_duration_seconds`: from one check interval to an hour.
pub(super) const RECOVERY_BOUNDS: [f64; 11] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];

/// Bounds of what an issue takes: from a push that is judged at once to an hour.
pub(super) const ISSUE_BOUNDS: [f64; 13] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0];

type Pair = (Name, Name);

/// Counts of one (subsystem, type), per severity.
#[derive(Debug)]
pub(super) struct IssueRow {
    key: Pair,
    labels: [Box<str>; Severity::ALL.len()],
    pub(super) open: [AtomicU64; Severity::ALL.len()],
    pub(super) opened: [AtomicU64; Severity::ALL.len()],
    pub(super) resolved: [AtomicU64; Severity::ALL.len()],
}

impl IssueRow {
    fn new(key: Pair) -> Self {
        let labels = Severity::ALL
            .map(|severity| prepare(&[("subsystem", &key.0), ("type", &key.1), ("severity", severity.as_str())]));
        Self { key, labels, open: Default::default(), opened: Default::default(), resolved: Default::default() }
    }
}

/// Takes one off a gauge, never below zero: an issue of a subject that a reload removed may end unseen.
pub(super) fn decrease(gauge: &AtomicU64) {
    let _ = gauge.fetch_update(Relaxed, Relaxed, |value| Some(value.saturating_sub(1)));
}

/// Counts of one (action, subsystem), per outcome.
#[derive(Debug)]
pub(super) struct ActionRow {
    key: Pair,
    labels: [Box<str>; Outcome::ALL.len()],
    pub(super) ended: [AtomicU64; Outcome::ALL.len()],
}

impl ActionRow {
    fn new(key: Pair) -> Self {
        let labels = Outcome::ALL
            .map(|outcome| prepare(&[("action", &key.0), ("subsystem", &key.1), ("outcome", outcome.as_str())]));
        Self { key, labels, ended: Default::default() }
    }

    fn occurred(&self) -> bool {
        self.ended.iter().any(|count| count.load(Relaxed) > 0)
    }
}

/// How long something took, in fixed buckets.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One per bound, and one above them all; not cumulative.
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
    bucket_labels: Box<[Box<str>]>,
    labels: Box<str>,
}

impl Histogram {
    pub(super) fn new(labels: &[(&str, &str)], bounds: &'static [f64]) -> Self {
        let with_bound = |bound: &str| {
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            prepare(&labels)
        };
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanos: AtomicU64::new(0),
            bucket_labels: bounds.iter().chain([&f64::INFINITY]).map(|value| with_bound(&bound(*value))).collect(),
            labels: prepare(labels),
        }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn render(&self, family: &mut Family<'_, '_>) {
        let mut total = 0;
        for (count, labels) in self.counts.iter().zip(&self.bucket_labels) {
            total += count.load(Relaxed);
            family.suffixed("_bucket", labels, total);
        }
        family.suffixed_float("_sum", &self.labels, Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64());
        family.suffixed("_count", &self.labels, total);
    }
}

/// Durations of one action, and how its recommendations ended.
#[derive(Debug)]
pub(super) struct DurationRow {
    pub(super) action: Name,
    recommended_labels: [Box<str>; Outcome::ALL.len()],
    pub(super) recommended: [AtomicU64; Outcome::ALL.len()],
    pub(super) run: Histogram,
    pub(super) recovery: Histogram,
}

impl DurationRow {
    fn new(action: Name) -> Self {
        let run = Histogram::new(&[("action", &action)], &ACTION_BOUNDS);
        let recovery = Histogram::new(&[("action", &action)], &RECOVERY_BOUNDS);
        let recommended_labels =
            Outcome::ALL.map(|outcome| prepare(&[("action", &action), ("outcome", outcome.as_str())]));
        Self { action, recommended_labels, recommended: Default::default(), run, recovery }
    }
}

/// What issues of one type took.
#[derive(Debug)]
pub(super) struct KindRow {
    pub(super) detection: Histogram,
    pub(super) recovery: Histogram,
}

impl KindRow {
    fn new(kind: &Name) -> Self {
        let histogram = || Histogram::new(&[("type", kind)], &ISSUE_BOUNDS);
        Self { detection: histogram(), recovery: histogram() }
    }
}

/// What one action did about issues of one type.
#[derive(Debug)]
pub(super) struct KindActionRow {
    labels: [Box<str>; Outcome::ALL.len()],
    pub(super) ended: [AtomicU64; Outcome::ALL.len()],
    pub(super) reaction: Histogram,
}

impl KindActionRow {
    fn new((kind, action): &Pair) -> Self {
        let labels =
            Outcome::ALL.map(|outcome| prepare(&[("type", kind), ("action", action), ("outcome", outcome.as_str())]));
        let reaction = Histogram::new(&[("action", action), ("type", kind)], &ISSUE_BOUNDS);
        Self { labels, ended: Default::default(), reaction }
    }
}

/// Rows in order, and where to find each.
#[derive(Debug)]
struct Rows<K, R> {
    list: Vec<Arc<R>>,
    index: HashMap<K, Arc<R>>,
    /// How many of the list the configuration names; the others occurred.
    configured: usize,
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Self {
        Self { list: Vec::new(), index: HashMap::new(), configured: 0 }
    }
}

impl<K: Clone + Eq + std::hash::Hash, R> Clone for Rows<K, R> {
    fn clone(&self) -> Self {
        Self { list: self.list.clone(), index: self.index.clone(), configured: self.configured }
    }
}

impl<K: Clone + Ord + std::hash::Hash, R> Rows<K, R> {
    fn insert(&mut self, key: K, row: Arc<R>) {
        if self.index.insert(key, Arc::clone(&row)).is_none() {
            self.list.push(row);
        }
    }

    /// Adds what `new` does not have yet, of what stays.
    fn keep_in(&self, new: &mut Self, stays: impl Fn(&K) -> bool) {
        let mut rows: Vec<_> = self.index.iter().filter(|(key, _)| stays(key)).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        for (key, row) in rows {
            if !new.index.contains_key(key) {
                new.insert(key.clone(), Arc::clone(row));
            }
        }
    }

    /// Rows that the configuration names besides: they stand before what occurred.
    fn expect(&mut self, keys: impl IntoIterator<Item = K>, make: impl Fn(&K) -> R) {
        let mut expected: Vec<Arc<R>> = Vec::new();
        // Rows are shared, so where one lies tells which it is.
        let mut known: HashSet<*const R> = self.list[..self.configured].iter().map(Arc::as_ptr).collect();
        for key in keys {
            let row = self.index.entry(key.clone()).or_insert_with(|| Arc::new(make(&key)));
            if known.insert(Arc::as_ptr(row)) {
                expected.push(Arc::clone(row));
            }
        }
        let further: Vec<Arc<R>> = self.list.drain(self.configured..).collect();
        let further: Vec<Arc<R>> = further.into_iter().filter(|row| !known.contains(&Arc::as_ptr(row))).collect();
        self.list.extend(expected);
        self.configured = self.list.len();
        self.list.extend(further);
    }

    fn full(&self) -> bool {
        self.list.len() - self.configured >= FURTHER_MAX
    }
}

/// All tables as they stand; cloned to add a row, which is rare and bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    subsystems: Arc<HashSet<Name>>,
    issues: Rows<Pair, IssueRow>,
    actions: Rows<Pair, ActionRow>,
    durations: Rows<Name, DurationRow>,
    kinds: Rows<Name, KindRow>,
    /// By type and action.
    kind_actions: Rows<Pair, KindActionRow>,
}

impl Tables {
    /// The rows that the configuration names, with the counts of `old` where it has them, then what else of `old`
    /// is about a subject that is still configured.
    pub(super) fn configured(subsystems: &[Name], bindings: &[(Name, Name)], actions: &[Name], old: &Self) -> Self {
        let mut new = Self {
            subsystems: Arc::new(
                subsystems.iter().cloned().chain([HOST, PLATFORM, WORKSPACE].map(Name::from)).collect(),
            ),
            ..Self::default()
        };
        let status = subsystems.iter().map(|subsystem| (subsystem.clone(), Name::from(SUBSYSTEM_STATUS)));
        let host = HOST_KINDS.map(|kind| (Name::from(HOST), Name::from(kind)));
        let platform = PLATFORM_KINDS.map(|kind| (Name::from(PLATFORM), Name::from(kind)));
        for key in status.chain(host).chain(platform) {
            let row = old.issues.index.get(&key).cloned();
            new.issues.insert(key.clone(), row.unwrap_or_else(|| Arc::new(IssueRow::new(key))));
        }
        for key in bindings {
            let row = old.actions.index.get(key).cloned();
            new.actions.insert(key.clone(), row.unwrap_or_else(|| Arc::new(ActionRow::new(key.clone()))));
        }
        for action in actions {
            let row = old.durations.index.get(action).cloned();
            new.durations.insert(action.clone(), row.unwrap_or_else(|| Arc::new(DurationRow::new(action.clone()))));
        }
        for kind in [SUBSYSTEM_STATUS].into_iter().chain(HOST_KINDS).map(Name::from) {
            let row = old.kinds.index.get(&kind).cloned();
            new.kinds.insert(kind.clone(), row.unwrap_or_else(|| Arc::new(KindRow::new(&kind))));
        }
        for (action, _) in bindings.iter().filter(|(_, subsystem)| *subsystem != *HOST) {
            let key = (Name::from(SUBSYSTEM_STATUS), action.clone());
            if new.kind_actions.index.contains_key(&key) {
                continue;
            }
            let row = old.kind_actions.index.get(&key).cloned();
            new.kind_actions.insert(key.clone(), row.unwrap_or_else(|| Arc::new(KindActionRow::new(&key))));
        }
        new.kinds.configured = new.kinds.list.len();
        new.kind_actions.configured = new.kind_actions.list.len();
        old.kinds.keep_in(&mut new.kinds, |_| true);
        new.issues.configured = new.issues.list.len();
        new.actions.configured = new.actions.list.len();
        new.durations.configured = new.durations.list.len();
        for row in old.issues.list.iter().filter(|row| new.subsystems.contains(&row.key.0)) {
            new.issues.insert(row.key.clone(), Arc::clone(row));
        }
        for row in old.actions.list.iter().filter(|row| new.subsystems.contains(&row.key.1) && row.occurred()) {
            new.actions.insert(row.key.clone(), Arc::clone(row));
            if let Some(durations) = old.durations.index.get(&row.key.0) {
                new.durations.insert(row.key.0.clone(), Arc::clone(durations));
            }
        }
        let (all, durations) = (&mut new.kind_actions, &new.durations);
        old.kind_actions.keep_in(all, |(_, action)| durations.index.contains_key(action));
        new
    }

    /// The issue types that subsystems may come to have besides, with their rows at zero.
    pub(super) fn expect_issues(&mut self, raised: &[(Name, Name)]) {
        self.issues.expect(raised.iter().cloned(), |key| IssueRow::new(key.clone()));
        let kinds: std::collections::BTreeSet<Name> = raised.iter().map(|(_, kind)| kind.clone()).collect();
        self.kinds.expect(kinds, KindRow::new);
    }

    /// No issue is open any more; the counts of what was opened and resolved stay.
    pub(super) fn close_all(&self) {
        self.issues.list.iter().flat_map(|row| &row.open).for_each(|open| open.store(0, Relaxed));
    }

    /// The row of that issue, if it is there.
    pub(super) fn issue(&self, subsystem: &Name, kind: &Name) -> Option<&Arc<IssueRow>> {
        self.issues.index.get(&(subsystem.clone(), kind.clone()))
    }

    /// The row that counts that issue, made if need be; the last one there is if the bound is reached.
    pub(super) fn issue_or_insert(&mut self, subsystem: &Name, kind: &Name) -> Arc<IssueRow> {
        let mut key = (subsystem.clone(), kind.clone());
        if self.issues.full() && !self.issues.index.contains_key(&key) {
            key.1 = OTHER.into();
            if !self.subsystems.contains(subsystem) {
                key.0 = OTHER.into();
            }
        }
        if !self.issues.index.contains_key(&key) {
            self.issues.insert(key.clone(), Arc::new(IssueRow::new(key.clone())));
        }
        Arc::clone(&self.issues.index[&key])
    }

    /// The row of that action on that target, if it is there.
    pub(super) fn action(&self, action: &Name, subsystem: &Name) -> Option<&Arc<ActionRow>> {
        self.actions.index.get(&(action.clone(), subsystem.clone()))
    }

    /// The row that counts that action on that target, made if need be.
    pub(super) fn action_or_insert(&mut self, action: &Name, subsystem: &Name) -> Arc<ActionRow> {
        let mut key = (action.clone(), subsystem.clone());
        if self.actions.full() && !self.actions.index.contains_key(&key) {
            key = (OTHER.into(), OTHER.into());
        }
        if !self.actions.index.contains_key(&key) {
            self.actions.insert(key.clone(), Arc::new(ActionRow::new(key.clone())));
        }
        Arc::clone(&self.actions.index[&key])
    }

    /// The durations of that action, if they are there.
    pub(super) fn duration(&self, action: &Name) -> Option<&Arc<DurationRow>> {
        self.durations.index.get(action)
    }

    /// The durations of that action, made if need be.
    pub(super) fn duration_or_insert(&mut self, action: &Name) -> Arc<DurationRow> {
        let mut key = action.clone();
        if self.durations.full() && !self.durations.index.contains_key(&key) {
            key = OTHER.into();
        }
        if !self.durations.index.contains_key(&key) {
            self.durations.insert(key.clone(), Arc::new(DurationRow::new(key.clone())));
        }
        Arc::clone(&self.durations.index[&key])
    }

    /// What issues of that type took, if it is there.
    pub(super) fn kind(&self, kind: &Name) -> Option<&Arc<KindRow>> {
        self.kinds.index.get(kind)
    }

    /// What issues of that type took, made if need be.
    pub(super) fn kind_or_insert(&mut self, kind: &Name) -> Arc<KindRow> {
        let mut key = kind.clone();
        if self.kinds.full() && !self.kinds.index.contains_key(&key) {
            key = OTHER.into();
        }
        if !self.kinds.index.contains_key(&key) {
            self.kinds.insert(key.clone(), Arc::new(KindRow::new(&key)));
        }
        Arc::clone(&self.kinds.index[&key])
    }

    /// What that action did about issues of that type, if it is there.
    pub(super) fn kind_action(&self, kind: &Name, action: &Name) -> Option<&Arc<KindActionRow>> {
        self.kind_actions.index.get(&(kind.clone(), action.clone()))
    }

    /// What that action did about issues of that type, made if need be.
    pub(super) fn kind_action_or_insert(&mut self, kind: &Name, action: &Name) -> Arc<KindActionRow> {
        let mut key = (kind.clone(), action.clone());
        if self.kind_actions.full() && !self.kind_actions.index.contains_key(&key) {
            key = (OTHER.into(), OTHER.into());
        }
        if !self.kind_actions.index.contains_key(&key) {
            self.kind_actions.insert(key.clone(), Arc::new(KindActionRow::new(&key)));
        }
        Arc::clone(&self.kind_actions.index[&key])
    }

    /// Every action known by its durations, in order.
    pub(super) fn known_actions(&self) -> impl Iterator<Item = &Name> {
        self.durations.list.iter().map(|row| &row.action)
    }

    /// Whether the configuration names that subsystem, or it is the host.
    pub(super) fn knows(&self, subsystem: &Name) -> bool {
        self.subsystems.contains(subsystem)
    }

    /// Writes every family of the tables.
    pub(super) fn render(&self, text: &mut Text<'_>) {
        type Pick = fn(&IssueRow) -> &[AtomicU64; Severity::ALL.len()];
        let issues: [(&str, Kind, &str, Pick); 3] = [
            ("chiron_issues", Kind::Gauge, "Issues that are open.", |row| &row.open),
            ("chiron_issues_opened_total", Kind::Counter, "Issues opened.", |row| &row.opened),
            ("chiron_issues_resolved_total", Kind::Counter, "Issues resolved.", |row| &row.resolved),
        ];
        for (name, kind, help, pick) in issues {
            let mut family = text.family(name, kind, help);
            for row in &self.issues.list {
                for (labels, value) in row.labels.iter().zip(pick(row)) {
                    family.prepared(labels, value.load(Relaxed));
                }
            }
        }
        if !self.actions.list.is_empty() {
            let help = "Actions that ended, by the outcome that verification gave them.";
            let mut family = text.family("chiron_actions_total", Kind::Counter, help);
            for row in &self.actions.list {
                for (labels, value) in row.labels.iter().zip(&row.ended) {
                    family.prepared(labels, value.load(Relaxed));
                }
            }
        }
        if !self.durations.list.is_empty() {
            let help = "From the start of an action to the answer of its means.";
            let mut family = text.family("chiron_action_duration_seconds", Kind::Histogram, help);
            self.durations.list.iter().for_each(|row| row.run.render(&mut family));
            let help = "From an issue opened to its recovery verified, by the action that healed it.";
            let mut family = text.family("chiron_recovery_duration_seconds", Kind::Histogram, help);
            self.durations.list.iter().for_each(|row| row.recovery.render(&mut family));
            let help = "Recommendations that ended, each in one outcome, whether they ran or not.";
            let mut family = text.family("chiron_recommendations_ended_total", Kind::Counter, help);
            for row in &self.durations.list {
                for (labels, value) in row.recommended_labels.iter().zip(&row.recommended) {
                    family.prepared(labels, value.load(Relaxed));
                }
            }
        }
        if !self.kinds.list.is_empty() {
            let help = "From the last check that was not as bad, or an alert's own start, to the issue opened.";
            let mut family = text.family("chiron_detection_duration_seconds", Kind::Histogram, help);
            self.kinds.list.iter().for_each(|row| row.detection.render(&mut family));
            let help = "From an issue opened to the issue resolved.";
            let mut family = text.family("chiron_issue_recovery_duration_seconds", Kind::Histogram, help);
            self.kinds.list.iter().for_each(|row| row.recovery.render(&mut family));
        }
        if !self.kind_actions.list.is_empty() {
            let help = "From an issue opened to an action for it started.";
            let mut family = text.family("chiron_reaction_duration_seconds", Kind::Histogram, help);
            self.kind_actions.list.iter().for_each(|row| row.reaction.render(&mut family));
            let help = "Actions that ended, by the type of the issue they were for.";
            let mut family = text.family("chiron_issue_actions_total", Kind::Counter, help);
            for row in &self.kind_actions.list {
                for (labels, value) in row.labels.iter().zip(&row.ended) {
                    family.prepared(labels, value.load(Relaxed));
                }
            }
        }
    }
}
