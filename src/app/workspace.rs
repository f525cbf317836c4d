//! What a look at the bot's workspace means: issues, levels that are held, and the healings as the journal tells them
//! (WSP-3, WSP-5, WSP-6).
//!
//! In: [`Round`]s of the healer. Out: episodes under the name `workspace`, holds of the source `workspace`, records.
//! **Invariant:** pure. What could not be looked at neither raises nor clears anything, and loosens nothing; nor does a
//! dangerous finding go with the file that it was found in. Each healing is told once and whole, whoever made it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::redact;
use crate::detect::Verdict;
use crate::journal::{Record, State};
use crate::model::{
    ChangeRecord, ChangeState, EpisodeId, EpisodeKey, FindingCode, FindingState, Healing, HealingReport, Issue,
    IssueSource, Level, Name, PolicySource, Reason, Severity, Status, Timestamp, ValidationPart, WORKSPACE,
    WORKSPACE_UNFIT, WORKSPACE_UNREADABLE, WorkspaceFinding,
};

use super::cycle::Cycle;
use super::draft::Draft;
use super::episodes::open_of;

/// Rounds in a row that could not look before that is an issue.
const ERRORS_MAX: u32 = 3;
/// Records about healings in one step; what is left follows in the next.
const RECORDS_IN_STEP: usize = 500;
/// Healings that wait to be told; the healer hands the others again.
const WAITING_MAX: usize = 2_000;
/// Findings, and records of each, that one line names; the symptoms have all.
const FINDINGS_NAMED: usize = 3;
const RECORDS_NAMED: usize = 10;
/// Characters of a finding's sentence, and of a change's detail, that are kept.
const SENTENCE_MAX: usize = 300;
/// Symptoms of one issue.
const SYMPTOMS_MAX: usize = 100;
/// The subject of the hold for a workspace that no bot may start in.
const VALIDATION: &str = "validation";

/// What the healer brings.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// What was found, or why nobody could look; `None` if nobody tried.
    pub look: Option<Result<Arc<HealingReport>, String>>,
    /// Healings that have ended and that the journal may not know, oldest first.
    pub healings: Vec<Healing>,
}

/// What is known of the workspace.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The latest look.
    pub report: Option<Arc<HealingReport>>,
    /// Rounds since then that could not look.
    pub errors: u32,
    /// Why the latest of them could not.
    pub why: String,
    /// Healings that are to be told, oldest first.
    pub waiting: VecDeque<Healing>,
    /// Issues are to be compared with it.
    pub dirty: bool,
}

/// What a look says of one kind of finding.
enum Said<'a> {
    /// It is there and for a person.
    Raised(Vec<&'a WorkspaceFinding>),
    /// It is there, but it is being seen to, or would be; or nobody could tell whether it is: that raises nothing and
    /// clears nothing.
    Open,
    /// It is not there.
    Clear,
}

/// A look, and whether it could judge every file that may hold something dangerous.
#[derive(Clone, Copy)]
struct Look<'a> {
    report: &'a HealingReport,
    unjudged: bool,
}

fn said(look: Look<'_>, code: FindingCode, least: Severity) -> Said<'_> {
    let of_it = || look.report.findings.iter().filter(|finding| finding.code == code && finding.severity >= least);
    let raised: Vec<&WorkspaceFinding> =
        of_it().filter(|finding| matches!(finding.state, FindingState::Standing | FindingState::Failed)).collect();
    if !raised.is_empty() {
        Said::Raised(raised)
    } else if of_it().any(|finding| matches!(finding.state, FindingState::Deferred | FindingState::Planned))
        || code.is_dangerous() && look.unjudged
    {
        Said::Open
    } else {
        Said::Clear
    }
}

/// What keeps a file from being looked into for what is dangerous.
const UNJUDGED: [FindingCode; 7] = [
    FindingCode::DirectoryMissing,
    FindingCode::FileMissing,
    FindingCode::FileEmpty,
    FindingCode::JsonCorrupt,
    FindingCode::RecordsLost,
    FindingCode::Misplaced,
    FindingCode::Inaccessible,
];

/// Whether one of these files could not be looked into, or was put right only in this very round: what was dangerous in it
/// may be hidden, or may have gone with what could not be saved.
fn is_unjudged<'a>(report: &HealingReport, files: impl Iterator<Item = &'a str>) -> bool {
    let hidden = report.findings.iter().filter(|finding| UNJUDGED.contains(&finding.code));
    let hidden: Vec<&str> = hidden.map(|finding| finding.path.as_str()).collect();
    let covers =
        |above: &str, file: &str| file.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !hidden.is_empty() && { files }.any(|file| hidden.iter().any(|above| covers(above, file)))
}

/// Whether a bot may start in the workspace, as far as that is a matter of the policy.
enum Fitness {
    Fit,
    /// chiron may not write there; whether the bot may is not known.
    Hindered(String),
    Unfit(String),
}

fn fitness(report: &HealingReport) -> Fitness {
    if !matches!(report.validation.status, Status::Critical | Status::Failed) {
        return Fitness::Fit;
    }
    let critical: Vec<_> = report.validation.parts.iter().filter(|part| part.critical).collect();
    let (own, others): (Vec<_>, Vec<_>) = critical.into_iter().partition(|part| match part.part {
        ValidationPart::Permissions => true,
        ValidationPart::Structure => lacks_only_what_may_not_be_made(report),
        ValidationPart::Slot | ValidationPart::Configuration => false,
    });
    let first = |parts: &[&crate::model::PartScore]| {
        cut(parts.iter().find_map(|part| part.problems.first()).map_or("", String::as_str))
    };
    if others.is_empty() && !own.is_empty() {
        return Fitness::Hindered(first(&own));
    }
    let score = report.validation.score;
    Fitness::Unfit(format!("no bot may start in the workspace: score {score:.0} of 100; {}", first(&others)))
}

/// Whether all that is wrong with the files are some that chiron would make if it might.
fn lacks_only_what_may_not_be_made(report: &HealingReport) -> bool {
    let open = report.findings.iter().filter(|finding| finding.state != FindingState::Healed);
    let (missing, others): (Vec<_>, Vec<_>) = open
        .filter(|finding| UNJUDGED.contains(&finding.code) && finding.code != FindingCode::DirectoryMissing)
        .partition(|finding| finding.code == FindingCode::FileMissing && finding.severity <= Severity::Medium);
    others.is_empty() && !missing.is_empty()
}

/// The finding that chiron itself is in the way of healing.
fn hindrance(why: &str) -> WorkspaceFinding {
    WorkspaceFinding {
        code: FindingCode::Inaccessible,
        severity: Severity::Medium,
        path: ".".to_owned(),
        description: format!("chiron may not heal here: {why}"),
        records: Vec::new(),
        state: FindingState::Standing,
        detail: "run chiron as the bot's user, with the workspace writable; else only the bot puts it right".to_owned(),
    }
}

impl Cycle {
    /// Takes what the healer brings.
    pub(super) fn take_healed(&mut self, rounds: &[Round]) {
        let known = &mut self.world.workspace;
        for round in rounds {
            if !round.healings.is_empty() {
                let mut waits: BTreeSet<Name> = known.waiting.iter().map(|healing| healing.id.clone()).collect();
                for healing in round.healings.iter().filter(|healing| healing.end.is_some()) {
                    if known.waiting.len() < WAITING_MAX && waits.insert(healing.id.clone()) {
                        known.waiting.push_back(healing.clone());
                    }
                }
            }
            match &round.look {
                // It was under way while healing was switched off.
                Some(_) if !self.rules.heals => {}
                Some(Ok(report)) => {
                    known.report = Some(Arc::clone(report));
                    (known.errors, known.dirty) = (0, true);
                }
                Some(Err(why)) => {
                    known.errors = known.errors.saturating_add(1);
                    known.why.clone_from(why);
                    known.dirty = true;
                }
                None => {}
            }
        }
    }

    /// Journals healings that the journal does not have, a bounded number of changes a step.
    pub(super) fn tell_healings(&mut self, draft: &mut Draft) {
        let waiting = &mut self.world.workspace.waiting;
        waiting.retain(|healing| !draft.state.healings.knows(&healing.id));
        // One that is told in part is told to its end first.
        let begun = draft.state.healings.under_way.as_ref();
        let begun = begun.and_then(|(id, _)| waiting.iter().position(|healing| healing.id == *id));
        if let Some(healing) = begun.filter(|at| *at > 0).and_then(|at| waiting.remove(at)) {
            waiting.push_front(healing);
        }
        // What cannot be made durable now is told when it can.
        if !self.world.journal_ok {
            return;
        }
        let mut left = RECORDS_IN_STEP;
        for healing in &*waiting {
            if !tell(draft, healing, &mut left) {
                return;
            }
        }
    }

    /// Compares the issues of the workspace with the latest look.
    pub(super) fn detect_workspace(&mut self, draft: &mut Draft) {
        if !self.rules.heals || !std::mem::take(&mut self.world.workspace.dirty) {
            return;
        }
        let known = &self.world.workspace;
        let report = known.report.clone().filter(|_| known.errors == 0);
        let before = self.told_before(&draft.state);
        let mut found = vec![(Name::from(WORKSPACE_UNREADABLE), unreadable(known, draft.now))];
        if let Some(report) = report {
            let look = self.look(&report, &draft.state);
            let (unfit, hindrance) = match fitness(&report) {
                Fitness::Fit => (Verdict::CLEAR, None),
                Fitness::Hindered(why) => (Verdict::CLEAR, Some(hindrance(&why))),
                // What is only looked at is not healed, so it cannot be fit; what was so before stays so.
                Fitness::Unfit(_) if report.dry_run => (Verdict::Unknown, None),
                Fitness::Unfit(why) => (Verdict::Known(vec![unfit(why, &report, draft.now)]), None),
            };
            found.push((WORKSPACE_UNFIT.into(), unfit));
            found.extend(FindingCode::ALL.map(|code| {
                let hindrance = hindrance.as_ref().filter(|finding| finding.code == code);
                let verdict = match (said(look, code, Severity::Medium), hindrance) {
                    (Said::Raised(mut findings), hindrance) => {
                        findings.extend(hindrance);
                        Verdict::Known(vec![issue(code, &findings, draft.now)])
                    }
                    (Said::Open, _) => Verdict::Unknown,
                    (Said::Clear, Some(_)) if report.dry_run => Verdict::Unknown,
                    (Said::Clear, Some(finding)) => Verdict::Known(vec![issue(code, &[finding], draft.now)]),
                    (Said::Clear, None) => Verdict::CLEAR,
                };
                (code.as_str().into(), verdict)
            }));
        }
        self.reconcile(draft, WORKSPACE, found, true, |_| None);
        self.tell_again(draft, &before);
    }

    /// A look together with what it could not judge: a file with positions or trades, or one that an open issue is about.
    fn look<'a>(&self, report: &'a HealingReport, state: &State) -> Look<'a> {
        let mut named: Vec<String> = Vec::new();
        for (key, id) in open_of(state, WORKSPACE) {
            let is_dangerous = FindingCode::ALL.iter().any(|code| code.is_dangerous() && key.kind == *code.as_str());
            if let Some(episode) = state.episodes.get(&id).filter(|_| is_dangerous) {
                named.extend(episode.facts.symptoms.iter().map(|text| place(text)));
            }
        }
        let files = self.rules.money_files.iter().map(String::as_str).chain(named.iter().map(String::as_str));
        Look { report, unjudged: is_unjudged(report, files) }
    }

    /// Whether an issue about a finding is open and critical.
    fn is_critical(state: &State, kind: &Name) -> bool {
        let key = EpisodeKey { subsystem: WORKSPACE.into(), symbol: None, kind: kind.clone() };
        let episode = state.open.get(&key).and_then(|id| state.episodes.get(id));
        episode.is_some_and(|episode| {
            (episode.facts.source, episode.facts.severity) == (IssueSource::Workspace, Severity::Critical)
        })
    }

    /// The open issues that a person was told of, and the places they were about.
    fn told_before(&self, state: &State) -> Vec<(EpisodeId, BTreeSet<String>)> {
        let open = open_of(state, WORKSPACE).into_iter();
        let told = open.filter_map(|(_, id)| state.episodes.get(&id).filter(|episode| episode.escalated.is_some()));
        told.map(|episode| (episode.id.clone(), episode.facts.symptoms.iter().map(|text| place(text)).collect()))
            .collect()
    }

    /// Further places of a critical issue are further trouble: a person is told of them too.
    fn tell_again(&mut self, draft: &mut Draft, before: &[(EpisodeId, BTreeSet<String>)]) {
        for (id, places) in before {
            let Some(episode) = draft.state.episodes.get(id) else { continue };
            let news = episode.facts.symptoms.iter().any(|text| !places.contains(&place(text)));
            if news && episode.by_check && episode.facts.severity == Severity::Critical {
                draft.push(Record::EpisodeEscalated { id: id.clone(), reason: Reason::Exhausted });
            }
        }
    }

    /// The levels that the workspace wants: `no_new_trades` for what is critical there, until it is seen to be gone, and
    /// while nobody has looked since the start.
    pub(super) fn want_workspace(
        &self,
        draft: &Draft,
        want: &mut impl FnMut(PolicySource, Name, Level, &dyn Fn() -> String),
    ) {
        let known = &self.world.workspace;
        let held: Vec<_> = draft.state.holds.iter().filter(|(key, _)| key.source == PolicySource::Workspace).collect();
        if !self.rules.heals {
            // Nobody looks any more; what is critical does not go by that.
            for (key, hold) in held.iter().filter(|(key, _)| Self::is_critical(&draft.state, &key.subject)) {
                want(key.source, key.subject.clone(), hold.level, &|| hold.reason.clone());
            }
            return;
        }
        let Some(report) = &known.report else {
            let reason = || match known.errors {
                0 => "the workspace has not been looked at since the start".to_owned(),
                _ => format!("the workspace could not be looked at since the start: {}", known.why),
            };
            want(PolicySource::Startup, WORKSPACE.into(), Level::NoNewTrades, &reason);
            for (key, hold) in held {
                want(key.source, key.subject.clone(), hold.level, &|| hold.reason.clone());
            }
            return;
        };
        let look = self.look(report, &draft.state);
        let unfit = match fitness(report) {
            Fitness::Unfit(why) => Some(why),
            Fitness::Fit | Fitness::Hindered(_) => None,
        };
        let is_open = |subject: &Name| {
            let code = FindingCode::ALL.into_iter().find(|code| *subject == *code.as_str());
            code.is_some_and(|code| matches!(said(look, code, Severity::Critical), Said::Open))
                // A workspace that is only looked at is not healed: that it is not fit holds nothing anew.
                || *subject == *VALIDATION && unfit.is_some() && report.dry_run
        };
        for (key, hold) in held {
            if known.errors > 0 || is_open(&key.subject) {
                want(key.source, key.subject.clone(), hold.level, &|| hold.reason.clone());
            }
        }
        for code in FindingCode::ALL {
            if let Said::Raised(findings) = said(look, code, Severity::Critical) {
                want(PolicySource::Workspace, code.as_str().into(), Level::NoNewTrades, &|| describe(code, &findings));
            }
        }
        if let Some(why) = unfit.filter(|_| !report.dry_run) {
            want(PolicySource::Workspace, VALIDATION.into(), Level::NoNewTrades, &|| why.clone());
        }
    }

    /// Whether the workspace has been looked at since the start, or need not be.
    pub fn workspace_seen(&self) -> bool {
        !self.rules.heals || self.world.workspace.report.is_some()
    }
}

/// What a person is to do about an issue of the workspace.
pub(super) fn advice(kind: &str) -> &'static str {
    let code = FindingCode::ALL.into_iter().find(|code| code.as_str() == kind);
    match code {
        Some(code) if code.is_dangerous() => {
            "chiron writes to none of these files: look at the named records, and put them right with the bot stopped"
        }
        Some(FindingCode::RecordsLost) => {
            "compare the file with its copy from before the healing (`chiron heal --rollback` restores it) and with the exchange"
        }
        Some(FindingCode::OrphanProcess) => "look whether the bot runs twice, and end the one that nobody supervises",
        Some(_) => "look at the files named, and put them right by hand",
        None if kind == WORKSPACE_UNFIT => {
            "put right what is named, so that a bot may start there; until then nothing new is opened"
        }
        None => "look whether the workspace and its folder `.chiron` are there and may be read and written",
    }
}

/// Tells one healing as far as there is room; whether it is told whole.
fn tell(draft: &mut Draft, healing: &Healing, left: &mut usize) -> bool {
    let (Some(end), false) = (healing.end, draft.state.healings.knows(&healing.id)) else {
        return healing.end.is_some();
    };
    let told = draft.state.healings.told(&healing.id);
    for (number, change) in (1..).zip(&healing.changes).filter(|(number, _)| *number > told) {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let detail = cut(&redact::text(&change.detail));
        draft.push(Record::WorkspaceChanged {
            healing: healing.id.clone(),
            number,
            trigger: healing.trigger,
            by: healing.by.clone(),
            change: ChangeRecord { detail, ..change.clone() },
        });
    }
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let applied = healing.changes.iter().filter(|change| change.state == ChangeState::Applied).count();
    draft.push(Record::WorkspaceHealed {
        healing: healing.id.clone(),
        planned_at: healing.at,
        trigger: healing.trigger,
        by: healing.by.clone(),
        undoes: healing.undoes.clone(),
        end,
        changes: count(healing.changes.len()),
        applied: count(applied),
    });
    true
}

fn unreadable(known: &Known, now: Timestamp) -> Verdict {
    match known.errors {
        0 if known.report.is_some() => Verdict::CLEAR,
        errors if errors < ERRORS_MAX => Verdict::Unknown,
        _ => {
            let description = "the workspace cannot be looked at".to_owned();
            Verdict::Known(vec![raise(WORKSPACE_UNREADABLE, Severity::High, description, vec![cut(&known.why)], now)])
        }
    }
}

/// The issue behind the hold for a workspace that no bot may start in, so that somebody is told.
fn unfit(why: String, report: &HealingReport, now: Timestamp) -> Issue {
    let critical = report.validation.parts.iter().filter(|part| part.critical);
    let problems = critical.flat_map(|part| part.problems.iter().map(|text| (part.part.as_str(), text)));
    let symptom = |(part, text): (&str, &String)| redact::text(&format!("{part}: {}", cut(text))).into_owned();
    let symptoms = problems.take(SYMPTOMS_MAX).map(symptom).collect();
    raise(WORKSPACE_UNFIT, Severity::High, redact::text(&why).into_owned(), symptoms, now)
}

fn issue(code: FindingCode, findings: &[&WorkspaceFinding], now: Timestamp) -> Issue {
    let severity = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Medium);
    let symptoms = findings.iter().take(SYMPTOMS_MAX).map(|finding| symptom(finding)).collect();
    raise(code.as_str(), severity, describe(code, findings), symptoms, now)
}

fn raise(kind: &str, severity: Severity, description: String, symptoms: Vec<String>, now: Timestamp) -> Issue {
    Issue {
        issue_id: "".into(),
        key: EpisodeKey { subsystem: WORKSPACE.into(), symbol: None, kind: kind.into() },
        severity,
        timestamp: now,
        description,
        symptoms,
        root_cause: None,
        // It is what a bot would read when it starts; one that runs has its state in memory.
        impacts_trading: false,
        affects_subsystems: Vec::new(),
        source: IssueSource::Workspace,
    }
}

/// One line with the code, the first few places, and the first few records of each.
fn describe(code: FindingCode, findings: &[&WorkspaceFinding]) -> String {
    let each = findings.iter().take(FINDINGS_NAMED).map(|finding| {
        let mut text = format!("{}: {}", finding.path, cut(&finding.description));
        append_records(&mut text, finding, RECORDS_NAMED);
        text
    });
    let mut text = format!("{} in {}", code.as_str().to_uppercase(), each.collect::<Vec<_>>().join("; in "));
    let more = findings.len().saturating_sub(FINDINGS_NAMED);
    if more > 0 {
        text.push_str(&format!("; and in {more} more"));
    }
    redact::text(&text).into_owned()
}

fn symptom(finding: &WorkspaceFinding) -> String {
    let mut text = format!("{}: {}", finding.path, cut(&finding.description));
    append_records(&mut text, finding, usize::MAX);
    if !finding.detail.is_empty() {
        text.push_str(&format!("; {}", cut(&finding.detail)));
    }
    redact::text(&text).into_owned()
}

fn append_records(text: &mut String, finding: &WorkspaceFinding, most: usize) {
    if finding.records.is_empty() {
        return;
    }
    let named: Vec<&str> = finding.records.iter().take(most).map(String::as_str).collect();
    text.push_str(&format!(" ({}", named.join(", ")));
    let more = finding.records.len() - named.len();
    text.push_str(&if more > 0 { format!(", and {more} more)") } else { ")".to_owned() });
}

/// The place that a symptom begins with.
fn place(symptom: &str) -> String {
    symptom.split_once(": ").map_or(symptom, |(place, _)| place).to_owned()
}

fn cut(text: &str) -> String {
    text.chars().take(SENTENCE_MAX).collect()
}
