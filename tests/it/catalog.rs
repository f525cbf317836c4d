//! The public catalog is made from the registries: a page that drifts from what runs fails here.

use chiron::detect::rules::{FORECASTS, RULES};
use chiron::execute::actions::ACTIONS;
use chiron::execute::actuators::ACTUATORS;
use chiron::observe::checks::CHECKS;
use chiron::observe::profile::SUBSYSTEMS;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/catalog.md");

const HEAD: &str = "\
# Catalog

Everything chiron knows by name, with the page that stands beside its code. Made by
`UPDATE_GOLDEN=1 cargo test --test it catalog`; changed nowhere else.

";

/// A page below its name: headings of the page become the fourth level, and a title that repeats the name goes.
fn page(noun: &str, name: &str, doc: &str) -> String {
    let mut text = format!("### {noun} `{name}`\n\n");
    let title = format!("# {name}");
    for line in doc.trim().lines().filter(|line| *line != title) {
        match line.trim_start_matches('#') {
            heading if heading.len() < line.len() => text += &format!("####{heading}\n"),
            _ => text += &format!("{line}\n"),
        }
    }
    // A page whose title went begins with an empty line.
    text.replacen("\n\n\n", "\n\n", 1) + "\n"
}

/// A part of the catalog: a list of its names, then the pages.
fn part(title: &str, noun: &str, intro: &str, pages: Vec<(&str, String)>) -> String {
    let anchor = noun.to_lowercase().replace(' ', "-");
    let names: Vec<String> = pages.iter().map(|(name, _)| format!("[`{name}`](#{anchor}-{name})")).collect();
    let pages: String = pages.iter().map(|(name, doc)| page(noun, name, doc)).collect();
    format!("## {title}\n\n{intro}\n\n{}\n\n{pages}", names.join(" · "))
}

fn catalog() -> String {
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let subsystems = SUBSYSTEMS.iter().map(|spec| {
        let needs = if spec.depends_on.is_empty() { "nothing".to_owned() } else { list(spec.depends_on) };
        (spec.name, format!("Criticality `{}`; depends on {needs}.\n\n{}", spec.criticality.as_str(), spec.doc))
    });
    let checks = CHECKS.iter().map(|spec| (spec.kind, spec.doc.to_owned()));
    let rules = RULES.iter().chain(&FORECASTS).map(|rule| (rule.kind, rule.doc.to_owned()));
    let actions = ACTIONS.iter().map(|spec| (spec.name, spec.doc.to_owned()));
    let means = ACTUATORS.iter().map(|spec| (spec.key, spec.doc.to_owned()));
    [
        HEAD.to_owned(),
        part(
            "Subsystems of profile `quantum`",
            "Subsystem",
            "Known without configuration; each can be overridden key by key, or switched off.",
            subsystems.collect(),
        ),
        part("Kinds of checks", "Check", "The word after `kind:` of a subsystem's `check`.", checks.collect()),
        part(
            "Issue types",
            "Issue",
            "What the rules raise. Those of failure points have [pages of their own](failure-points.md).",
            rules.collect(),
        ),
        part("Actions", "Action", "What can be done about an issue, once it is bound to a means.", actions.collect()),
        part("Means", "Means", "The key of a binding that says how its action is carried out.", means.collect()),
    ]
    .concat()
    .trim_end()
    .to_owned()
        + "\n"
}

/// OBS-7, STYLE 1: the manual is generated from what runs.
#[test]
fn the_catalog_is_that_of_the_registries() {
    let made = catalog();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PATH, &made).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/catalog.md is not what the registries say, first at {differs:?}; run UPDATE_GOLDEN=1 cargo test --test it catalog"
    );
}
