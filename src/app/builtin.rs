//! Bindings that chiron has built in for what its failure points find (WSP-7): its own healing of the workspace, and asking
//! anew whether something is reached. A binding of the settings takes their place.
//!
//! **Invariant:** they go through the engine as every other binding: journaled before they begin, verified, rehearsed in
//! dry-run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::clock::Clock;
use crate::config::Settings;
use crate::execute::{Actuator, Answer, Binding, Order, ProbeAnswer, VerifySettings};
use crate::model::{
    ChangeState, Class, Ending, FindingCode, FindingState, HealingReport, HealingTrigger, Means, Name, Severity,
    Status, WorkspaceFinding,
};
use crate::observe::check::AnyCheck;
use crate::workspace::{self, ErrorKind};

/// Brings configuration files back.
const RESTORE: &str = "restore_configuration";
/// Asks anew.
const RETRY: &str = "retry_connection";
/// How long a healing of the workspace may take by itself, and with all that it waits for.
const HEALING_LIMIT: Duration = Duration::from_secs(120);
const LIMIT_MAX: Duration = Duration::from_secs(600);
/// How long after another healing of the same workspace it is tried again, and how often.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
const BUSY_TRIES: u32 = 15;
/// How often a file that is too young to be touched is waited for, and how much longer than it takes.
const QUIET_ROUNDS: u32 = 3;
const QUIET_SLACK: Duration = Duration::from_millis(250);

/// The bindings of the settings, and those that are built in.
pub(super) fn bindings(settings: &Settings) -> Vec<Binding> {
    let mut all = settings.bindings.clone();
    let mut connections: BTreeMap<Name, Retry> = BTreeMap::new();
    let mut limits: BTreeMap<Name, Duration> = BTreeMap::new();
    for point in &settings.failure_points {
        let (category, subsystem) = (&point.point.category, &point.point.subsystem);
        match category.as_str() {
            "configuration" if settings.heal.enabled => {
                let watched = point.scheduled.check.watches();
                let files = watched.iter().filter_map(|path| below(&settings.heal.workspace, path)).collect();
                let (limit, rounds) = patience(settings.heal.quiet);
                let restore = Restore { settings: settings.heal.clone(), files, rounds, clock: Clock::system() };
                let verify =
                    VerifySettings { settle: Duration::from_secs(1), within: Duration::from_secs(60), hold_down: 1 };
                add(&mut all, RESTORE, subsystem, verify, limit, Arc::new(restore));
            }
            "network" | "exchange_api" => {
                let limit = limits.entry(subsystem.clone()).or_default();
                *limit = point.scheduled.timeout.max(*limit);
                let retry = connections
                    .entry(subsystem.clone())
                    .or_insert_with(|| Retry { points: Vec::new(), clock: Clock::system() });
                retry.points.push((category.clone(), Arc::clone(&point.scheduled.check)));
            }
            _ => {}
        }
    }
    for (subsystem, retry) in connections {
        let verify = VerifySettings { settle: Duration::ZERO, within: Duration::from_secs(10), hold_down: 1 };
        let limit = limits.get(&subsystem).copied().unwrap_or_default();
        add(&mut all, RETRY, &subsystem, verify, limit, Arc::new(retry));
    }
    all
}

/// Adds a binding unless the settings have one.
fn add(
    all: &mut Vec<Binding>,
    action: &str,
    subsystem: &Name,
    verify: VerifySettings,
    timeout: Duration,
    actuator: Arc<dyn Actuator>,
) {
    if all.iter().any(|binding| binding.action == *action && binding.subsystem == *subsystem) {
        return;
    }
    all.push(Binding {
        id: format!("{action}@{subsystem}").into(),
        action: action.into(),
        subsystem: subsystem.clone(),
        // To restore or to ask twice is the same as once.
        class: Class::Natural,
        verify,
        retries: 2,
        timeout,
        dry_run: false,
        place: String::new(),
        actuator,
    });
}

/// How long a restoration may take, and how often within that it waits for files to rest.
fn patience(quiet: Duration) -> (Duration, u32) {
    let pause = quiet + QUIET_SLACK;
    let fits = |rounds: &u32| HEALING_LIMIT + pause * *rounds <= LIMIT_MAX;
    let rounds = (1..=QUIET_ROUNDS).rev().find(fits).unwrap_or(0);
    (HEALING_LIMIT + pause * rounds, rounds)
}

/// A file's path as healing tells it: relative to the workspace, `/` between the parts.
fn below(workspace: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(workspace).ok()?.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("/"))
}

/// Heals the configuration files of the workspace, for those that the failure point looks at.
struct Restore {
    settings: workspace::Settings,
    /// What the failure point looks at, by its path in the workspace.
    files: BTreeSet<String>,
    /// How often it waits for files to rest.
    rounds: u32,
    clock: Clock,
}

#[async_trait]
impl Actuator for Restore {
    fn means(&self) -> Means {
        Means::Internal
    }

    async fn apply(&self, _order: &Order) -> Answer {
        let (mut tries, mut rounds, mut done) = (0, 0, Vec::new());
        loop {
            let (settings, clock) = (self.settings.clone(), self.clock.clone());
            let only = Some(workspace::Scope::Configuration);
            let request = workspace::Request { only, ..workspace::Request::new(HealingTrigger::Action) };
            let healed = super::tasks::blocking(move || workspace::heal(&settings, &request, &clock)).await;
            match healed {
                // A file that has just been broken is left to the bot for a while: it may be writing it.
                Ok(report)
                    if rounds < self.rounds && !report.dry_run && report.findings.iter().any(|one| self.waits(one)) =>
                {
                    rounds += 1;
                    done.extend(Some(restored(&report, &self.files).changed).filter(|changed| !changed.is_empty()));
                    tokio::time::sleep(self.settings.quiet + QUIET_SLACK).await;
                }
                Ok(report) => {
                    let mut answer = restored(&report, &self.files);
                    // What an earlier round has made is made.
                    if answer.ending == Ending::NotStarted && !done.is_empty() {
                        answer = Answer::new(Ending::Ok, "restored once it had rested");
                    }
                    done.extend(Some(&answer.changed).filter(|changed| !changed.is_empty()).cloned());
                    return Answer { changed: done.join("; "), ..answer };
                }
                Err(error) if error.kind == ErrorKind::Busy && tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => {
                    let cause = error.source.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
                    return Answer::new(Ending::Failed, format!("the workspace was not healed: {error}{cause}"));
                }
            }
        }
    }

    async fn probe(&self, _order: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }

    async fn preflight(&self) -> Vec<String> {
        let files = &self.settings.layout.files;
        let mut known = files.iter().filter(|file| file.role == workspace::layout::Role::Config);
        let none = !known.any(|file| self.files.contains(file.path.as_str()));
        let doubt = "none of the configuration files that are looked at is healed; list them under `heal`";
        none.then(|| doubt.to_owned()).into_iter().collect()
    }

    fn describe(&self) -> String {
        "chiron brings configuration files of the workspace back".to_owned()
    }
}

fn is_config(code: FindingCode) -> bool {
    matches!(code, FindingCode::ConfigMissing | FindingCode::ConfigInvalid)
}

impl Restore {
    /// Whether a file that is looked at is to be healed, but not yet.
    fn waits(&self, finding: &WorkspaceFinding) -> bool {
        is_config(finding.code) && finding.state == FindingState::Deferred && self.files.contains(&finding.path)
    }
}

/// What a healing has come to, as far as these files go.
fn restored(report: &HealingReport, files: &BTreeSet<String>) -> Answer {
    if report.dry_run {
        return Answer::new(Ending::DryRun, "dry-run: nothing was done");
    }
    let made = report.changes.iter().filter(|change| is_config(change.code) && change.state == ChangeState::Applied);
    let made: Vec<&str> = made.map(|change| change.path.as_str()).collect();
    // What else the layout misses, and perhaps nobody needs, is not what was to be restored.
    let left = report.findings.iter().filter(|one| files.contains(&one.path) && one.state != FindingState::Healed);
    let left: Vec<String> = left
        .map(|one| {
            let why = if one.detail.is_empty() { one.state.as_str() } else { &one.detail };
            format!("{}: {} ({why})", one.path, one.description)
        })
        .collect();
    let undo = report.id.as_ref().map_or_else(String::new, |id| format!("; undo with `chiron heal --rollback {id}`"));
    let changed = if made.is_empty() { String::new() } else { format!("restored {}{undo}", made.join(", ")) };
    let (ending, detail) = match (made.len(), left.is_empty()) {
        (_, false) => (Ending::Failed, format!("not restored: {}", left.join("; "))),
        // The next rung has its turn; if somebody was faster, the failure point ends the issue.
        (0, true) => {
            let known: Vec<&str> = files.iter().map(String::as_str).collect();
            (Ending::NotStarted, format!("healing finds nothing to restore of {}", known.join(", ")))
        }
        (count, true) => (Ending::Ok, format!("{count} restored")),
    };
    Answer { changed, ..Answer::new(ending, detail) }
}

/// Asks what failure points find, anew.
struct Retry {
    points: Vec<(Name, Arc<dyn AnyCheck>)>,
    clock: Clock,
}

#[async_trait]
impl Actuator for Retry {
    fn means(&self) -> Means {
        Means::Internal
    }

    async fn apply(&self, order: &Order) -> Answer {
        let Some((_, check)) = self.points.iter().find(|(category, _)| *category == *order.about.issue_type) else {
            return Answer::new(Ending::NotStarted, "its failure point is configured no longer");
        };
        check.ask_anew();
        let judgement = check.judge(&check.read().await, self.clock.now());
        let heavy = judgement.signals.findings.iter().find(|finding| finding.severity >= Severity::High);
        let said = |key: &str| judgement.details.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let why = match heavy {
            Some(finding) => finding.description.clone(),
            None if judgement.status == Status::Unknown => {
                said("error").unwrap_or_else(|| "nothing is known".to_owned())
            }
            None => return Answer::new(Ending::Ok, format!("try {}: reached again", order.key.attempt)),
        };
        Answer::new(Ending::Failed, format!("try {}: {why}", order.key.attempt))
    }

    async fn probe(&self, _order: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }

    async fn preflight(&self) -> Vec<String> {
        Vec::new()
    }

    fn describe(&self) -> String {
        "chiron asks anew whether it is reached".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, ChangeRecord, HealingStats, Timestamp, Validation};

    fn report(changes: &[(FindingCode, ChangeState)], findings: &[(FindingCode, FindingState)]) -> HealingReport {
        let change = |(code, state): &(FindingCode, ChangeState)| ChangeRecord {
            kind: ChangeKind::ReplaceFile,
            code: *code,
            path: "conf/a.json".to_owned(),
            state: *state,
            before: None,
            after: None,
            detail: String::new(),
        };
        let finding = |(code, state): &(FindingCode, FindingState)| WorkspaceFinding {
            code: *code,
            severity: Severity::High,
            path: "conf/b.json".to_owned(),
            description: "is missing".to_owned(),
            records: Vec::new(),
            state: *state,
            detail: String::new(),
        };
        HealingReport {
            id: Some("20251123T013456Z-000001".into()),
            timestamp: Timestamp::EPOCH,
            trigger: HealingTrigger::Action,
            dry_run: false,
            success: true,
            healed: 0,
            failed: 0,
            critical: 0,
            stats: HealingStats::default(),
            findings: findings.iter().map(finding).collect(),
            changes: changes.iter().map(change).collect(),
            diff: String::new(),
            validation: Validation { score: 100.0, status: Status::Healthy, parts: Vec::new() },
            visited: 0,
            duration_ms: 0,
        }
    }

    /// WSP-7: what was restored is told with the way back; what was not is no success; neither other healings nor other files
    /// count; where there was nothing to do, nothing was begun.
    #[test]
    fn what_a_healing_comes_to() {
        use ChangeState::{Applied, Deferred};
        use FindingCode::{ConfigInvalid, ConfigMissing, LockStale};
        let files: BTreeSet<String> = ["conf/a.json", "conf/b.json"].map(str::to_owned).into();
        let restored = |report: &HealingReport| super::restored(report, &files);
        let done = restored(&report(&[(ConfigInvalid, Applied)], &[(ConfigInvalid, FindingState::Healed)]));
        assert_eq!((done.ending, done.detail.as_str()), (Ending::Ok, "1 restored"));
        let undo = "restored conf/a.json; undo with `chiron heal --rollback 20251123T013456Z-000001`";
        assert_eq!(done.changed, undo);
        let half = [(ConfigInvalid, FindingState::Healed), (ConfigMissing, FindingState::Standing)];
        let left = restored(&report(&[(ConfigInvalid, Applied)], &half));
        assert_eq!(left.ending, Ending::Failed);
        assert_eq!(left.detail, "not restored: conf/b.json: is missing (standing)");
        assert_eq!(left.changed, undo);
        let late = restored(&report(&[(ConfigInvalid, Deferred)], &[(ConfigInvalid, FindingState::Deferred)]));
        assert_eq!((late.ending, late.changed.as_str()), (Ending::Failed, ""));
        let other = restored(&report(&[(LockStale, Applied)], &[]));
        assert_eq!((other.ending, other.changed.as_str()), (Ending::NotStarted, ""));
        assert_eq!(other.detail, "healing finds nothing to restore of conf/a.json, conf/b.json");
        let only_a = ["conf/a.json".to_owned()].into();
        let beside = super::restored(&report(&[(ConfigInvalid, Applied)], &half), &only_a);
        assert_eq!((beside.ending, beside.detail.as_str()), (Ending::Ok, "1 restored"), "b is not looked at");
        let dry = restored(&HealingReport { dry_run: true, ..report(&[], &half) });
        assert_eq!(dry.ending, Ending::DryRun);
    }

    /// WSP-7: the time limit leaves room for what is waited for; what would take longer than anybody waits is not waited for.
    #[test]
    fn the_limit_leaves_room_for_files_to_rest() {
        for (quiet, limit, rounds) in
            [(0, 120_750, 3), (2, 126_750, 3), (159, 597_750, 3), (200, 520_500, 2), (3_600, 120_000, 0)]
        {
            let expected = (Duration::from_millis(limit), rounds);
            assert_eq!(patience(Duration::from_secs(quiet)), expected, "quiet {quiet} s");
        }
    }

    /// The paths of a failure point are those of healing, however they are written.
    #[test]
    fn paths_as_healing_tells_them() {
        let of = |path: &str| below(Path::new("/bot"), Path::new(path));
        assert_eq!(of("/bot/./conf//a.json").as_deref(), Some("conf/a.json"));
        assert_eq!(of("/elsewhere/a.json"), None);
        assert_eq!(of("/bot/../a.json"), None);
    }
}
