//! What the four rules of a bot's parts share.

use crate::model::{BotPart, Criticality, EpisodeKey, Issue, IssueSource, Name, Severity, Timestamp};

use super::super::{Subject, Verdict};

/// The verdict on one part of a bot. A part that was not looked at is unknown.
pub(super) fn of_part(
    kind: &'static str,
    part: BotPart,
    severity: Severity,
    subject: Subject<'_>,
    now: Timestamp,
) -> Verdict {
    let Subject::Vitals { subsystem, vitals, affects } = subject else { return Verdict::Unknown };
    let Some((_, trouble)) = vitals.parts.iter().find(|(looked_at, _)| *looked_at == part) else {
        return Verdict::Unknown;
    };
    let Some(trouble) = trouble else { return Verdict::CLEAR };
    let name = &subsystem.name;
    let description = match part {
        BotPart::Process => format!("{name}: the bot does not answer"),
        BotPart::Loop => format!("{name}: the bot's trading loop stands still"),
        BotPart::Exchange => format!("{name}: the bot's exchange does not answer or sends nothing new"),
        BotPart::Strategy => format!("{name}: the bot's strategy fails"),
    };
    let issue = Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: name.clone(), symbol: None, kind: kind.into() },
        severity,
        timestamp: now,
        description,
        symptoms: vec![trouble.clone()],
        root_cause: None,
        impacts_trading: subsystem.criticality == Criticality::Full && severity >= Severity::High,
        affects_subsystems: affects.to_vec(),
        source: IssueSource::Check,
    };
    Some(issue).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Settings, evaluate};
    use crate::model::{Subsystem, Vitals};

    const NOW: Timestamp = Timestamp::from_millis(1_795_378_600_000);
    const KINDS: [&str; 4] = ["bot_process", "bot_loop", "bot_exchange", "bot_strategy"];

    /// What the four rules say of these parts: `?` unknown, `-` clear, `!` an issue.
    fn said(criticality: Criticality, parts: &[(BotPart, Option<&str>)]) -> (String, Vec<Issue>) {
        let subsystem = Subsystem { name: "bot".into(), criticality, depends_on: Vec::new() };
        let parts = parts.iter().map(|(part, trouble)| (*part, trouble.map(str::to_owned))).collect();
        let vitals = Vitals { parts, ..Vitals::default() };
        let subject = Subject::Vitals { subsystem: &subsystem, vitals: &vitals, affects: &["x".into()] };
        let verdicts = evaluate(subject, &Settings::default(), NOW);
        let (mut marks, mut issues) = (String::new(), Vec::new());
        for kind in KINDS {
            match verdicts.iter().find(|(found, _)| *found == kind).map(|(_, verdict)| verdict) {
                Some(Verdict::Unknown) => marks.push('?'),
                Some(Verdict::Known(found)) if found.is_empty() => marks.push('-'),
                Some(Verdict::Known(found)) => {
                    marks.push('!');
                    issues.extend(found.clone());
                }
                None => marks.push(' '),
            }
        }
        (marks, issues)
    }

    /// OBS-9, DET-1: each part has its own type and severity; what was not looked at is neither raised nor cleared.
    #[test]
    fn parts_are_issues_of_their_own() {
        use BotPart::{Exchange, Loop, Process, Strategy};
        let full = |parts: &[_]| said(Criticality::Full, parts);
        assert_eq!(full(&[]).0, "????");
        assert_eq!(full(&BotPart::ALL.map(|part| (part, None))).0, "----");
        for (parts, marks, severity, trouble) in [
            (&[(Process, Some("gone"))][..], "!???", Severity::Critical, "gone"),
            (&[(Process, None), (Loop, Some("stuck"))], "-!??", Severity::Critical, "stuck"),
            (&[(Process, None), (Exchange, Some("away"))], "-?!?", Severity::High, "away"),
            (&[(Process, None), (Loop, None), (Exchange, None), (Strategy, Some("x"))], "---!", Severity::High, "x"),
        ] {
            let (found, issues) = full(parts);
            assert_eq!(found, marks);
            assert_eq!((issues.len(), issues[0].severity, issues[0].impacts_trading), (1, severity, true));
            assert_eq!((issues[0].symptoms[0].as_str(), issues[0].affects_subsystems.len()), (trouble, 1));
            assert!(!said(Criticality::Partial, parts).1[0].impacts_trading);
        }
    }

    #[test]
    fn pages_have_their_headings() {
        for kind in KINDS {
            let rule = super::super::VITALS.iter().find(|rule| rule.kind == kind).expect("it is registered");
            for heading in ["Raised when", "Cleared when", "Why it matters", "Ladder", "False alarms"] {
                assert!(rule.doc.contains(&format!("\n## {heading}\n")), "{kind} lacks `{heading}`");
            }
        }
    }
}
