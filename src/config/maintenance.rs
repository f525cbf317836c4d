//! `recovery.storm`, `groups` and `maintenance`: when what heals is held back (ACT-3).

use std::collections::HashMap;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::intake::{Intake, NAME_RULE, checked, count, is_name, known_action, span};
use super::subsystems::Known;
use crate::admit::group::Group;
use crate::admit::storm;
use crate::admit::window::{Plan, Window};
use crate::base::tree::{FromNode, Node, Position, Section, did_you_mean, shorten};
use crate::model::{Name, Timestamp};

/// Windows in a file.
const WINDOWS_MAX: usize = 100;

/// `recovery.storm`.
pub(super) fn storm(section: &mut Section<'_>) -> storm::Settings {
    let basis = storm::Settings::default();
    let Some(mut section) = section.section("storm") else { return basis };
    let rule = "expected a share from 0 to 1";
    let settings = storm::Settings {
        subsystems: count(&mut section, "subsystems", basis.subsystems),
        share: checked(&mut section, "share", basis.share, rule, |value| (0.0..=1.0).contains(value)),
        calm: span(&mut section, "calm", basis.calm),
    };
    section.finish();
    settings
}

/// `groups`: like targets by the name of their group.
pub(super) fn groups(top: &mut Section<'_>, intake: &Intake<'_>, known: &Known) -> Vec<Group> {
    let mut taken: HashMap<Name, (String, Position)> = HashMap::new();
    let mut groups = Vec::new();
    for (name, at, node) in top.entries("groups") {
        if !is_name(name) {
            intake.problems.push(*at, "groups", &shorten(name), NAME_RULE, None);
        }
        let path = format!("groups.{name}");
        let Some(mut section) = Section::open(node, &path, intake.problems) else { continue };
        let nodes = section.list("members");
        if nodes.len() < 2 {
            let hint = Some("a group is of targets that stand in for each other".to_owned());
            section.reject("members", "expected a list of at least two subsystems", hint);
        }
        let mut members = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", section.path_of("members"));
            let Some(member) = subsystem(node, &path, intake, known) else { continue };
            if let Some((other, at)) = taken.get(&member) {
                let rule = format!(
                    "expected a subsystem that is in no other group and in this one once; it is in `{other}` at line {}, \
                     column {}",
                    at.line, at.column
                );
                intake.problems.push(node.at, &path, &node.shown(), &rule, Some("remove one of them".to_owned()));
                continue;
            }
            taken.insert(member.clone(), (name.clone(), node.at));
            if known.is_disabled(&member) {
                intake.warn(node.at, &path, &format!("`{member}` is not enabled, so it does not count"));
            } else {
                members.push(member);
            }
        }
        let rule = "expected a share from 0 to 1";
        let share = |value: &f64| (0.0..=1.0).contains(value);
        let min_healthy = checked(&mut section, "min_healthy", 0.5, rule, share);
        let group = Group { name: name.as_str().into(), members, min_healthy };
        // What would never be acted upon, however healthy all the others are, is a mistake.
        if group.members.len() > 1 && group.is_unhealthy(&group.members[0], |_| true) {
            let (others, all) = (group.members.len() - 1, group.members.len());
            let rule = format!("expected at most {others}/{all}: with more, none of {all} members is ever acted upon");
            section.reject("min_healthy", &rule, None);
        }
        section.finish();
        if group.members.len() > 1 {
            groups.push(group);
        }
    }
    groups
}

/// `maintenance`: windows by their plan.
pub(super) fn windows(top: &mut Section<'_>, intake: &Intake<'_>, known: &Known, now: Timestamp) -> Vec<Window> {
    let mut first: HashMap<Name, Position> = HashMap::new();
    let mut windows = Vec::new();
    let nodes = top.list("maintenance");
    if nodes.len() > WINDOWS_MAX {
        top.reject("maintenance", &format!("expected at most {WINDOWS_MAX} windows"), None);
    }
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("maintenance[{index}]");
        let Some(mut section) = Section::open(node, &path, intake.problems) else { continue };
        let name = section.req::<String>("name").and_then(|text| {
            if is_name(&text) {
                return Some(Name::from(text));
            }
            section.reject("name", NAME_RULE, None);
            None
        });
        if let Some(name) = &name {
            if let Some(at) = first.get(name) {
                let rule = format!("expected each name once, the first is at line {}, column {}", at.line, at.column);
                section.reject("name", &rule, None);
            }
            first.entry(name.clone()).or_insert(node.at);
        }
        let plan = plan(&mut section, now);
        if !section.has("duration") {
            section.reject("duration", "missing, expected how long it lasts, such as 4h", None);
        }
        let rule = "expected a duration such as 4h, from 1m to 30d";
        let bounds = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
        let basis = Duration::from_secs(3600);
        let duration = checked(&mut section, "duration", basis, rule, |value| bounds.contains(value));
        let subsystems = names(&mut section, "subsystems", |node, path| {
            if matches!(String::from_node(node), Ok(text) if text == crate::model::HOST) {
                return Some(crate::model::HOST.into());
            }
            subsystem(node, path, intake, known)
        });
        let actions = names(&mut section, "actions", |node, path| {
            let text = String::take(node, path, intake.problems)?;
            match known_action(&text) {
                Ok(()) => Some(Name::from(text)),
                Err((rule, hint)) => {
                    intake.problems.push(node.at, path, &node.shown(), &rule, hint);
                    None
                }
            }
        });
        if section.has("subsystems") && section.list("subsystems").is_empty() {
            section.reject(
                "subsystems",
                "expected at least one subsystem",
                Some("leave the key out for all".to_owned()),
            );
        }
        section.finish();
        if let (Some(name), Some(plan)) = (name, plan) {
            windows.push(Window { name, plan, duration, subsystems, actions });
        }
    }
    windows
}

/// `cron` and `timezone`.
fn plan(section: &mut Section<'_>, now: Timestamp) -> Option<Plan> {
    let zone = match section.opt::<String>("timezone") {
        None => Some(Tz::UTC),
        Some(text) => {
            let found = text.parse::<Tz>().ok();
            if found.is_none() {
                let names: Vec<&str> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
                let hint = did_you_mean(&text, &names);
                section.reject("timezone", "expected a time zone such as Europe/Vienna", hint);
            }
            found
        }
    };
    let text = section.req::<String>("cron")?;
    match Plan::parse(&text, zone.unwrap_or(Tz::UTC), now) {
        Ok(plan) => zone.map(|_| plan),
        Err(why) => {
            let rule = "expected five fields: minute, hour, day of the month, month, day of the week";
            section.reject("cron", rule, Some(format!("such as `0 22 * * SAT`; {why}")));
            None
        }
    }
}

fn names(section: &mut Section<'_>, key: &'static str, take: impl Fn(&Node, &str) -> Option<Name>) -> Vec<Name> {
    let path = section.path_of(key);
    let nodes = section.list(key).iter().enumerate();
    nodes.filter_map(|(index, node)| take(node, &format!("{path}[{index}]"))).collect()
}

/// A configured subsystem; anything else is a problem.
fn subsystem(node: &Node, path: &str, intake: &Intake<'_>, known: &Known) -> Option<Name> {
    let text = String::take(node, path, intake.problems)?;
    match known.find(&text, intake.problems) {
        Ok(name) => Some(name),
        Err(hint) => {
            intake.problems.push(node.at, path, &node.shown(), "expected a configured subsystem", hint);
            None
        }
    }
}
