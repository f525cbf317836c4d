//! What a look at a failure point found wrong, gathered into one judgement.
//!
//! **Invariant:** pure and bounded; at most one finding without a symbol and one for each symbol comes out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::{Finding, Name, Severity, Status};
use crate::observe::check::Judgement;

/// Symbols that have a finding of their own.
pub(super) const SYMBOLS_MAX: usize = 100;
/// Longest description, in characters.
const TEXT_MAX: usize = 500;
/// Longest name of a symbol, in characters.
const SYMBOL_MAX: usize = 64;

/// Findings as they come.
#[derive(Debug, Default)]
pub(super) struct Findings {
    status: Option<Status>,
    of_all: Option<Finding>,
    by_symbol: BTreeMap<Name, Finding>,
}

impl Findings {
    /// Something is wrong. The text must stay the same for as long as the trouble does: each change of it is journaled.
    pub(super) fn add(&mut self, status: Status, severity: Severity, symbol: Option<&str>, text: String) {
        if self.status.is_none_or(|worst| worst.rank() < status.rank()) {
            self.status = Some(status);
        }
        let symbol = symbol.map(Name::from);
        let slot = match &symbol {
            Some(symbol) => self.by_symbol.get_mut(symbol),
            None => self.of_all.as_mut(),
        };
        match slot {
            Some(finding) => {
                finding.severity = finding.severity.max(severity);
                finding.description.push_str("; ");
                finding.description.push_str(&text);
            }
            None => {
                let finding = Finding { symbol: symbol.clone(), severity, description: text };
                match symbol {
                    Some(symbol) => drop(self.by_symbol.insert(symbol, finding)),
                    None => self.of_all = Some(finding),
                }
            }
        }
    }

    /// The judgement of a look that could be taken: healthy if nothing was found.
    pub(super) fn judgement(self) -> Judgement {
        let Self { status, mut of_all, by_symbol } = self;
        let mut judgement = Judgement::new(status.unwrap_or(Status::Healthy));
        let mut findings: Vec<Finding> = by_symbol.into_values().collect();
        // The worst keep an issue of their own; ties by name, so that the choice is stable.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if findings.len() > SYMBOLS_MAX {
            let rest = findings.split_off(SYMBOLS_MAX);
            let severity = rest.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Low);
            let text = format!("more symbols than {SYMBOLS_MAX} have findings");
            match &mut of_all {
                Some(finding) => {
                    finding.severity = finding.severity.max(severity);
                    finding.description = format!("{}; {text}", finding.description);
                }
                None => of_all = Some(Finding { symbol: None, severity, description: text }),
            }
        }
        let mut all: Vec<Finding> = of_all.into_iter().chain(findings).collect();
        for finding in &mut all {
            finding.description = bounded(&finding.description);
        }
        if let Some(first) = all.first() {
            let key = if judgement.status == Status::Critical { "error" } else { "warning" };
            let more = if all.len() > 1 { format!("; and {} more", all.len() - 1) } else { String::new() };
            judgement = judgement.with(key, format!("{}{more}", first.description));
        }
        judgement = judgement.with("findings", Value::Array(all.iter().map(shown).collect()));
        judgement.signals.findings = all;
        judgement
    }
}

fn shown(finding: &Finding) -> Value {
    let mut value = json!({"severity": finding.severity, "description": finding.description});
    if let Some(symbol) = &finding.symbol {
        value["symbol"] = json!(symbol);
    }
    value
}

fn bounded(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(TEXT_MAX).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

/// A text that can be the name of a symbol.
pub(super) fn symbol(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    let fits = !text.is_empty()
        && text.chars().count() <= SYMBOL_MAX
        && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-8: one finding in all and one for each symbol, whatever was found; the worst of each counts.
    #[test]
    fn findings_are_gathered() {
        let clear = Findings::default().judgement();
        assert_eq!((clear.status, clear.signals.findings.len()), (Status::Healthy, 0));
        let mut found = Findings::default();
        found.add(Status::Degraded, Severity::Medium, None, "a".to_owned());
        found.add(Status::Critical, Severity::Critical, None, "b".to_owned());
        found.add(Status::Degraded, Severity::Low, Some("ETH"), "c".to_owned());
        found.add(Status::Degraded, Severity::Medium, Some("BTC"), "d".to_owned());
        found.add(Status::Degraded, Severity::High, Some("ETH"), "e\n".to_owned());
        let judgement = found.judgement();
        assert_eq!(judgement.status, Status::Critical);
        let told: Vec<_> = judgement
            .signals
            .findings
            .iter()
            .map(|finding| (finding.symbol.as_deref().unwrap_or(""), finding.severity, finding.description.as_str()))
            .collect();
        assert_eq!(
            told,
            [("", Severity::Critical, "a; b"), ("ETH", Severity::High, "c; e "), ("BTC", Severity::Medium, "d")]
        );
        assert_eq!(judgement.details["error"], "a; b; and 2 more");
    }

    #[test]
    fn findings_are_bounded() {
        let mut found = Findings::default();
        for index in 0..500 {
            let severity = if index == 499 { Severity::High } else { Severity::Medium };
            found.add(Status::Degraded, severity, Some(&format!("S{index:03}")), "x".repeat(10_000));
        }
        let judgement = found.judgement();
        assert_eq!(judgement.signals.findings.len(), SYMBOLS_MAX + 1);
        assert_eq!(judgement.signals.findings[0].symbol, None);
        assert_eq!(judgement.signals.findings[1].symbol.as_deref(), Some("S499"), "the worst is not left out");
        assert!(judgement.signals.findings.iter().all(|finding| finding.description.len() < 600));
    }

    #[test]
    fn names_of_symbols() {
        assert_eq!(symbol(&json!("BTC/USDT:USDT")), Some("BTC/USDT:USDT"));
        for value in [json!(""), json!("A B"), json!("A\n"), json!(1), json!(null), json!("x".repeat(65))] {
            assert_eq!(symbol(&value), None, "{value}");
        }
    }
}
