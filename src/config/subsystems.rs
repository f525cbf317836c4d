//! `subsystems`: the built-in ones of the profile, overridden key by key, then the operator's own (OBS-3, OBS-6, OBS-7).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::SubsystemSettings;
use super::graph;
use super::intake::{Intake, NAME_RULE, checked, is_name, span};
use crate::base::tree::{FromNode, Node, Position, Problems, Section, Value, did_you_mean, shorten};
use crate::model::{Criticality, HOST, Name, PLATFORM, Subsystem, WORKSPACE};
use crate::observe::check::{AnyCheck, BuildContext, ScheduledCheck};
use crate::observe::checks::{CHECKS, check};
use crate::observe::profile::{BuiltIn, SUBSYSTEMS};

/// The names that bindings, routes and ladders may use.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: HashSet<Name>,
    disabled: HashSet<Name>,
    /// The names in order, for suggestions.
    sorted: Vec<Name>,
}

impl Known {
    /// A configured subsystem, or the host; anything else is a problem.
    pub(super) fn take(&self, section: &mut Section<'_>, key: &'static str) -> Option<Name> {
        let text = section.opt::<String>(key)?;
        if text == HOST || self.names.contains(text.as_str()) {
            return Some(text.into());
        }
        section.reject(key, "expected a configured subsystem", self.hint(&text, section.problems()));
        None
    }

    /// The same, or the platform as a whole, whose issues are those of failure points that name no subsystem.
    pub(super) fn take_or_platform(&self, section: &mut Section<'_>, key: &'static str) -> Option<Name> {
        match section.node(key).map(|node| &node.value) {
            Some(Value::Scalar { text, .. }) if text == PLATFORM => section.opt::<String>(key).map(Name::from),
            _ => self.take(section, key),
        }
    }

    /// A configured subsystem of that name, or what was probably meant.
    pub(super) fn find(&self, text: &str, problems: &Problems) -> Result<Name, Option<String>> {
        self.names.get(text).cloned().ok_or_else(|| self.hint(text, problems))
    }

    /// Whether it is configured, but not enabled.
    pub(super) fn is_disabled(&self, name: &Name) -> bool {
        self.disabled.contains(name)
    }

    fn hint(&self, text: &str, problems: &Problems) -> Option<String> {
        let names: Vec<&str> = self.sorted.iter().map(Name::as_str).collect();
        problems.suggest(text, &names)
    }
}

/// How often, where a subsystem does not say.
#[derive(Clone, Copy)]
pub(super) struct Intervals {
    pub(super) check: Duration,
    pub(super) critical: Duration,
}

/// Seconds that a check may take, where nothing says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the runner grants beyond a check's own limit, so that the check's own, better answer comes first.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// One subsystem before the graph is known.
struct Draft {
    name: Name,
    enabled: bool,
    criticality: Criticality,
    /// With the place in the file, for those that stand there.
    depends_on: Vec<(Name, Option<Position>)>,
    check: Option<Arc<dyn AnyCheck>>,
    interval: Option<Duration>,
    timeout: Duration,
}

/// The enabled subsystems, in the order of the profile and then of the file, and every name.
pub(super) fn subsystems(
    top: &mut Section<'_>,
    intake: &Intake<'_>,
    profile: &[&BuiltIn],
    context: &BuildContext,
    intervals: Intervals,
) -> (Vec<SubsystemSettings>, Known) {
    let entries = top.entries("subsystems");
    let heals = heals(top, !profile.is_empty());
    let built_in: HashSet<&str> = profile.iter().map(|spec| spec.name).collect();
    let mut drafts = Vec::new();
    for spec in profile {
        let entry = entries.iter().find(|(name, ..)| name == spec.name).map(|(.., node)| node);
        drafts.push(draft(spec.name, entry, Some(spec), intake, context));
    }
    for (name, at, node) in entries.iter().filter(|(name, ..)| !built_in.contains(name.as_str())) {
        if name == HOST {
            let hint = Some("set `thresholds` for it".to_owned());
            intake.problems.push(
                *at,
                "subsystems.host",
                "",
                "expected another name, `host` is the machine itself",
                hint,
            );
        } else if name == PLATFORM {
            let rule = "expected another name, `platform` stands for all subsystems together";
            intake.problems.push(*at, "subsystems.platform", "", rule, None);
        } else if name == WORKSPACE {
            let hint = "rename it, for example to `bot_workspace`, wherever it is named";
            if heals {
                let rule = "expected another name, `workspace` stands for what `heal` finds in the bot's workspace";
                intake.problems.push(*at, "subsystems.workspace", "", rule, Some(hint.to_owned()));
            } else {
                let text = format!("the name is refused as soon as `heal` is enabled; {hint}");
                intake.warn(*at, "subsystems.workspace", &text);
            }
        } else if !is_name(name) {
            intake.problems.push(*at, "subsystems", &shorten(name), NAME_RULE, None);
        }
        let hint = intake_hint(name, profile);
        if !has_check(node) && hint.is_some() {
            // Most likely an override of a built-in one, so a missing check is not the mistake.
            intake.problems.push(
                *at,
                &format!("subsystems.{name}"),
                "",
                "expected a built-in subsystem, or a `check`",
                hint,
            );
            continue;
        }
        drafts.push(draft(name, Some(node), None, intake, context));
    }
    let needs = needs(&drafts, intake);
    let kept: Vec<bool> = drafts.iter().map(|draft| draft.enabled).collect();
    let left = match graph::order(&needs) {
        Ok(order) => graph::without(&needs, &order, &kept),
        Err(cycles) => {
            for cycle in cycles {
                tell_cycle(&cycle, &drafts, intake);
            }
            needs
        }
    };
    let names: Vec<Name> = drafts.iter().map(|draft| draft.name.clone()).collect();
    let disabled = drafts.iter().filter(|draft| !draft.enabled).map(|draft| draft.name.clone()).collect();
    let settings = drafts.into_iter().zip(left).filter(|(draft, _)| draft.enabled).filter_map(|(draft, needs)| {
        let critical = draft.criticality == Criticality::Full;
        let interval = draft.interval.unwrap_or(if critical { intervals.critical } else { intervals.check });
        Some(SubsystemSettings {
            subsystem: Subsystem {
                name: draft.name.clone(),
                criticality: draft.criticality,
                depends_on: needs.into_iter().map(|need| names[need].clone()).collect(),
            },
            scheduled: ScheduledCheck { subsystem: draft.name, check: draft.check?, interval, timeout: draft.timeout },
        })
    });
    let settings = settings.collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    (settings, Known { names: names.into_iter().collect(), disabled, sorted })
}

/// The built-in subsystems of a profile.
pub(super) fn profile(name: &str) -> &'static [&'static BuiltIn] {
    const BUILT_IN: &[&BuiltIn] = &SUBSYSTEMS;
    if name == "none" { &[] } else { BUILT_IN }
}

fn intake_hint(name: &str, profile: &[&BuiltIn]) -> Option<String> {
    let names: Vec<&str> = profile.iter().map(|spec| spec.name).collect();
    did_you_mean(name, &names)
}

/// Whether healing is enabled; what is wrong in its section is told where that is read.
fn heals(top: &mut Section<'_>, by_default: bool) -> bool {
    let Some(section) = top.node("heal") else { return by_default };
    let Value::Map(entries) = &section.value else { return true };
    let named = entries.iter().find(|(key, ..)| key == "enabled").map(|(.., node)| &node.value);
    !matches!(named, Some(Value::Scalar { text, .. }) if text == "false")
}

fn has_check(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.iter().any(|(key, ..)| key == "check"))
}

fn draft(
    name: &str,
    node: Option<&Node>,
    built_in: Option<&BuiltIn>,
    intake: &Intake<'_>,
    context: &BuildContext,
) -> Draft {
    let mut draft = Draft {
        name: name.into(),
        enabled: true,
        criticality: built_in.map_or(Criticality::Partial, |spec| spec.criticality),
        depends_on: built_in
            .map_or(&[] as &[_], |spec| spec.depends_on)
            .iter()
            .map(|need| (Name::from(*need), None))
            .collect(),
        check: None,
        interval: None,
        timeout: TIMEOUT,
    };
    let path = format!("subsystems.{name}");
    let section = node.and_then(|node| Section::open(node, &path, intake.problems));
    let Some(mut section) = section else {
        // A built-in one that the file leaves alone, or whose entry has been refused already.
        draft.check = built_in.map(|spec| (spec.build)(context));
        return draft;
    };
    draft.enabled = section.or("enabled", true);
    let words = [Criticality::Full, Criticality::Partial, Criticality::None].map(|word| (word.as_str(), word));
    draft.criticality = section.word("criticality", &words).unwrap_or(draft.criticality);
    if section.has("depends_on") {
        let path = section.path_of("depends_on");
        let nodes = section.list("depends_on").iter().enumerate();
        draft.depends_on = nodes
            .filter_map(|(index, node)| {
                let text = String::take(node, &format!("{path}[{index}]"), intake.problems)?;
                Some((Name::from(text), Some(node.at)))
            })
            .collect();
    }
    draft.interval = section.has("interval").then(|| span(&mut section, "interval", TIMEOUT));
    let own_limit = section.node("check").and_then(own_timeout);
    let rule = "expected a duration such as 5s, from 10ms to 10m";
    let bounds = Duration::from_millis(10)..=Duration::from_secs(600);
    let default = own_limit.map_or(TIMEOUT, |own| own.saturating_add(GRACE));
    draft.timeout = checked(&mut section, "timeout", default, rule, |value| bounds.contains(value));
    draft.check = match (section.has("check"), built_in) {
        (true, _) => section.section("check").and_then(|section| build_check(section, intake, context)),
        (false, Some(spec)) => Some((spec.build)(context)),
        (false, None) => {
            let hint = Some("write check: {kind: ...}".to_owned());
            section.reject("check", "missing, expected a check", hint);
            None
        }
    };
    section.finish();
    draft
}

/// `timeout` of a check's own section, if it is one; whether its kind has that key is for the kind to say.
fn own_timeout(node: &Node) -> Option<Duration> {
    let Value::Map(entries) = &node.value else { return None };
    let (.., node) = entries.iter().find(|(key, ..)| key == "timeout")?;
    Duration::from_node(node).ok()
}

pub(super) fn build_check(
    mut section: Section<'_>,
    intake: &Intake<'_>,
    context: &BuildContext,
) -> Option<Arc<dyn AnyCheck>> {
    let kind = section.req::<String>("kind")?;
    let Some(spec) = check(&kind) else {
        let mut kinds = CHECKS.map(|spec| spec.kind);
        kinds.sort_unstable();
        let rule = format!("expected a known kind of check: {}", kinds.join(", "));
        section.reject("kind", &rule, did_you_mean(&kind, &kinds));
        return None;
    };
    let built = (spec.build)(&mut section, context);
    for caution in built.iter().flat_map(|check| check.cautions()) {
        intake.warn_key(&mut section, "kind", &caution);
    }
    section.finish();
    built
}

/// Who needs whom, by index; an unknown name is a problem.
fn needs(drafts: &[Draft], intake: &Intake<'_>) -> Vec<Vec<usize>> {
    let index: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.name.as_str(), index)).collect();
    let mut names: Vec<&str> = index.keys().copied().collect();
    names.sort_unstable();
    let find = |draft: &Draft| {
        let mut list = Vec::new();
        for (place, (need, at)) in draft.depends_on.iter().enumerate() {
            match (index.get(need.as_str()), at) {
                (Some(need), _) if list.contains(need) => {}
                (Some(need), _) => list.push(*need),
                (None, Some(at)) => {
                    let path = format!("subsystems.{}.depends_on[{place}]", draft.name);
                    let found = shorten(need);
                    intake.problems.push(
                        *at,
                        &path,
                        &found,
                        "expected a configured subsystem",
                        intake.problems.suggest(need, &names),
                    );
                }
                (None, None) => {}
            }
        }
        list
    };
    drafts.iter().map(find).collect()
}

fn tell_cycle(cycle: &[usize], drafts: &[Draft], intake: &Intake<'_>) {
    let mut names: Vec<&str> = cycle.iter().map(|index| drafts[*index].name.as_str()).collect();
    names.push(names[0]);
    let placed = cycle.iter().enumerate().find_map(|(place, index)| {
        let next = drafts[cycle[(place + 1) % cycle.len()]].name.as_str();
        let (_, at) = drafts[*index].depends_on.iter().find(|(need, at)| need == next && at.is_some())?;
        Some((*index, (*at)?))
    });
    let (index, at) = placed.unwrap_or((cycle[0], Position::default()));
    let path = format!("subsystems.{}.depends_on", drafts[index].name);
    let shown = names.join(" -> ");
    let rule = format!(
        "expected no cycle of dependencies, found {}",
        if shown.len() > 500 { "a very long one" } else { &shown }
    );
    intake.problems.push(at, &path, "", &rule, None);
}
