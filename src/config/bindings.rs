//! `bindings`: which means carries out an action on a subsystem (ACT-2).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::intake::{Intake, action, checked, pause, span};
use super::subsystems::Known;
use crate::base::tree::{Position, Section};
use crate::execute::actuators::{ACTUATORS, ActuatorContext};
use crate::execute::{Actuator, Binding, Environment, VerifySettings};
use crate::model::{Autonomy, Class, Name, PLATFORM};

const CLASSES: [(&str, Class); 4] = [
    ("natural", Class::Natural),
    ("keyed", Class::Keyed),
    ("probeable", Class::Probeable),
    ("one_shot", Class::OneShot),
];

/// How success is looked for where nothing is said: not before the action's own settle time, and never at once.
const SETTLE_MIN: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(60);
const HOLD_DOWN: u32 = 1;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The whole list.
pub(super) fn bindings(
    top: &mut Section<'_>,
    intake: &Intake<'_>,
    known: &Known,
    workspace: &Path,
    environment: &Environment,
) -> Vec<Binding> {
    let context = ActuatorContext {
        workspace: workspace.to_owned(),
        probe: None,
        folder: intake.folder.clone(),
        class: Class::OneShot,
        environment: environment.clone(),
        warnings: Default::default(),
    };
    let mut taken: Vec<Binding> = Vec::new();
    let mut first: HashMap<Name, Position> = HashMap::new();
    for (index, node) in top.list("bindings").iter().enumerate() {
        let path = format!("bindings[{index}]");
        let Some(section) = Section::open(node, &path, intake.problems) else { continue };
        let (id, binding) = binding(section, &path, intake, known, &context);
        if let Some(id) = id {
            if let Some(at) = first.get(&id) {
                let rule =
                    format!("expected one binding for `{id}`, the first is at line {}, column {}", at.line, at.column);
                intake.problems.push(node.at, &path, "", &rule, Some("remove one of them".to_owned()));
            } else {
                first.insert(id, node.at);
            }
        }
        if let Some(binding) = binding {
            let mut binding = binding;
            binding.place = intake.place(node.at, &path);
            taken.push(binding);
        }
    }
    taken
}

/// A binding's id as soon as its action and its subsystem are right, and the binding if all of it is.
fn binding(
    mut section: Section<'_>,
    path: &str,
    intake: &Intake<'_>,
    known: &Known,
    context: &ActuatorContext,
) -> (Option<Name>, Option<Binding>) {
    let missing = |section: &mut Section<'_>, key: &'static str, what: &str| {
        if !section.has(key) {
            section.reject(key, &format!("missing, expected {what}"), None);
        }
    };
    missing(&mut section, "action", "the name of an action");
    missing(&mut section, "subsystem", "the name of a subsystem");
    let action = action(&mut section, "action");
    let only_shown = |name: &Name| crate::recommend::furthest(name) == Autonomy::Manual;
    if action.as_ref().is_some_and(only_shown) {
        section.reject(
            "action",
            "expected an action that can be carried out; this one is only ever shown to a person",
            None,
        );
    }
    let subsystem = known.take_or_platform(&mut section, "subsystem");
    if let Some(name) = subsystem.as_ref().filter(|name| known.is_disabled(name)) {
        intake.warn_key(&mut section, "subsystem", &format!("`{name}` is not enabled, so this is never used"));
    }
    let takes_back = |name: &Name| {
        let spec = crate::execute::actions::action(name);
        spec.is_some_and(|spec| spec.raises_risk && spec.reverse.is_some())
    };
    if subsystem.as_ref().is_some_and(|name| *name == *PLATFORM) && action.as_ref().is_some_and(takes_back) {
        let hint = "give the failure point a `subsystem`, and bind the action and what takes it back to that";
        let rule =
            "expected a subsystem; whether the platform is well again is not checked, so nothing is taken back for it";
        section.reject("subsystem", rule, Some(hint.to_owned()));
    }
    let (usual_class, usual_retries) = usual(action.as_ref());
    let class = section.word("class", &CLASSES).unwrap_or(usual_class);
    let probe = section.opt::<Vec<String>>("probe");
    if probe.is_some() && class != Class::Probeable {
        section.reject("probe", "expected a probe only with `class: probeable`", None);
    }
    let probe = probe.filter(|argv| {
        let right = argv.first().is_some_and(|program| !program.is_empty());
        if !right {
            section.reject("probe", "expected a program and its arguments", None);
        }
        right
    });
    let verify = verify(&mut section, action.as_ref());
    let dry_run = section.or("dry_run", false);
    let rule = "expected a whole number from 0 to 10";
    let retries = checked(&mut section, "retries", usual_retries, rule, |value| *value <= 10);
    let has_timeout = section.has("timeout");
    let mut timeout = span(&mut section, "timeout", TIMEOUT);
    let context = ActuatorContext {
        workspace: context.workspace.clone(),
        probe,
        folder: context.folder.clone(),
        class,
        warnings: Default::default(),
        environment: context.environment.clone(),
    };
    let (actuator, own_timeout) = means(&mut section, path, &context);
    for (at, path, text) in context.warnings.take() {
        intake.warn(at, &path, &text);
    }
    if let (false, Some(own)) = (has_timeout, own_timeout) {
        timeout = own;
    }
    section.finish();
    let (Some(action), Some(subsystem)) = (action, subsystem) else { return (None, None) };
    let id = Name::from(format!("{action}@{subsystem}"));
    let binding = actuator.map(|actuator| Binding {
        id: id.clone(),
        action,
        subsystem,
        class,
        verify,
        retries,
        timeout,
        dry_run,
        place: String::new(),
        actuator,
    });
    (Some(id), binding)
}

/// What a crash permits, and how many further tries there are, where the binding does not say.
fn usual(action: Option<&Name>) -> (Class, u32) {
    match action.map(Name::as_str) {
        // To fetch, restore or ask twice is the same as once (WSP-7).
        Some("refresh_intelligence" | "restore_configuration" | "retry_connection") => (Class::Natural, 2),
        _ => (Class::OneShot, 0),
    }
}

/// The one means of a binding, and its own time limit.
pub(super) fn means(
    section: &mut Section<'_>,
    path: &str,
    context: &ActuatorContext,
) -> (Option<Arc<dyn Actuator>>, Option<Duration>) {
    let named: Vec<&'static str> = ACTUATORS.iter().map(|spec| spec.key).filter(|key| section.has(key)).collect();
    if named.len() != 1 {
        let keys: Vec<String> = ACTUATORS.iter().map(|spec| format!("`{}`", spec.key)).collect();
        let found = if named.is_empty() { "none".to_owned() } else { named.join(" and ") };
        let rule = format!("expected exactly one means of {}, found {found}", keys.join(", "));
        section.problems().push(section.position(), path, "", &rule, None);
    }
    let mut built = None;
    let mut timeout = None;
    for spec in ACTUATORS.iter().filter(|spec| named.contains(&spec.key)) {
        let Some(mut inner) = section.section(spec.key) else { continue };
        if matches!(spec.key, "exec" | "http") && inner.has("timeout") {
            timeout = Some(span(&mut inner, "timeout", TIMEOUT));
        }
        built = (spec.build)(&mut inner, context);
        inner.finish();
    }
    (built.filter(|_| named.len() == 1), timeout)
}

fn verify(section: &mut Section<'_>, action: Option<&Name>) -> VerifySettings {
    let spec = action.and_then(|name| crate::execute::actions::action(name));
    let usual = spec.map_or(SETTLE_MIN, |spec| spec.settle.max(SETTLE_MIN));
    let Some(mut section) = section.section("verify") else {
        return VerifySettings { settle: usual, within: WITHIN.max(usual), hold_down: HOLD_DOWN };
    };
    let within_given = section.has("within");
    let mut settle = pause(&mut section, "settle", usual);
    let within = span(&mut section, "within", WITHIN.max(settle));
    let rule = "expected a whole number from 1 to 100";
    let hold_down = checked(&mut section, "hold_down", HOLD_DOWN, rule, |value| (1..=100).contains(value));
    if within_given && !section.has("settle") {
        // A short deadline alone also shortens the usual wait before it.
        settle = settle.min(within);
    }
    if within < settle {
        section.reject("within", "expected at least as long as `settle`", None);
    }
    section.finish();
    VerifySettings { settle, within, hold_down }
}
