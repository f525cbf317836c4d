//! `policy.hooks`: how the bot is told of the policy, and how it is seen to follow (POL-5).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::bindings::means;
use super::intake::{Intake, NAME_RULE, below, is_name, level, span};
use super::subsystems::{Known, build_check};
use crate::base::tree::{Node, Position, Section, Value};
use crate::execute::actuators::ActuatorContext;
use crate::execute::{Actuator, Environment};
use crate::model::{Class, Level, Name};
use crate::observe::check::{AnyCheck, BuildContext, Wake};
use crate::observe::probes::shown::{Place, Shown};
use crate::policy::hooks::{Rule, When};

/// Hooks in all; each change of the policy tells every one.
const HOOKS_MAX: usize = 32;

const FIRST: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(30);
const RECHECK: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A way to tell the bot of the policy.
#[derive(Clone)]
pub struct PolicyHook {
    /// What is decided by.
    pub rule: Rule,
    /// The try is ended at this time.
    pub timeout: Duration,
    /// Where the settings have it.
    pub place: String,
    /// What tells the bot.
    pub actuator: Arc<dyn Actuator>,
    /// What shows that the bot follows.
    pub confirm: Confirm,
}

impl std::fmt::Debug for PolicyHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyHook").field("rule", &self.rule).field("confirm", &self.confirm).finish_non_exhaustive()
    }
}

/// What shows that the bot follows.
#[derive(Clone)]
pub enum Confirm {
    /// A check that is healthy if it does.
    Check(Arc<dyn AnyCheck>),
    /// The name of the level that the bot is at.
    Shows(Shown),
    /// Nothing; the operator wants it so.
    Nothing,
}

impl std::fmt::Debug for Confirm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check(check) => write!(f, "Check({})", check.kind()),
            Self::Shows(shown) => write!(f, "Shows({shown:?})"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

/// The whole list.
pub(super) fn hooks(
    policy: &mut Section<'_>,
    intake: &Intake<'_>,
    known: &Known,
    context: &BuildContext,
    environment: &Environment,
) -> Vec<Arc<PolicyHook>> {
    let mut taken: Vec<Arc<PolicyHook>> = Vec::new();
    let mut first: HashMap<Name, Position> = HashMap::new();
    let nodes = policy.list("hooks");
    if nodes.len() > HOOKS_MAX {
        policy.reject("hooks", &format!("expected at most {HOOKS_MAX} hooks"), None);
    }
    for (index, node) in nodes.iter().enumerate().take(HOOKS_MAX) {
        let path = format!("policy.hooks[{index}]");
        let Some(section) = Section::open(node, &path, intake.problems) else { continue };
        let Some(mut hook) = hook(section, &path, intake, known, context, environment) else { continue };
        if let Some(at) = first.get(&hook.rule.name) {
            let rule = format!(
                "expected one hook of the name `{}`, the first is at line {}, column {}",
                hook.rule.name, at.line, at.column
            );
            intake.problems.push(node.at, &path, "", &rule, Some("rename one of them".to_owned()));
            continue;
        }
        first.insert(hook.rule.name.clone(), node.at);
        hook.place = intake.place(node.at, &path);
        taken.push(Arc::new(hook));
    }
    taken
}

fn hook(
    mut section: Section<'_>,
    path: &str,
    intake: &Intake<'_>,
    known: &Known,
    context: &BuildContext,
    environment: &Environment,
) -> Option<PolicyHook> {
    let name = section.req::<String>("name").filter(|name| {
        let right = is_name(name);
        if !right {
            section.reject("name", NAME_RULE, None);
        }
        right
    });
    let when = when(&mut section);
    let actuators = ActuatorContext {
        workspace: context.workspace.clone(),
        probe: None,
        folder: intake.folder.clone(),
        // Telling a level twice is the same as once.
        class: Class::Natural,
        environment: environment.clone(),
        warnings: Default::default(),
    };
    let has_timeout = section.has("timeout");
    let mut timeout = span(&mut section, "timeout", TIMEOUT);
    let (actuator, own_timeout) = means(&mut section, path, &actuators);
    for (at, path, text) in actuators.warnings.take() {
        intake.warn(at, &path, &text);
    }
    if let (false, Some(own)) = (has_timeout, own_timeout) {
        timeout = own;
    }
    let confirm = confirm(&mut section, context, when, intake);
    let (mut first, mut max) = (FIRST, MAX);
    if let Some(mut retry) = section.section("retry") {
        first = span(&mut retry, "first", FIRST);
        max = span(&mut retry, "max", MAX.max(first));
        if max < first {
            retry.reject("max", "expected at least as long as `first`", None);
        }
        retry.finish();
    }
    let deadline = span(&mut section, "deadline", DEADLINE);
    let recheck = span(&mut section, "recheck", RECHECK);
    let subsystem = known.take(&mut section, "subsystem");
    section.finish();
    let confirm = confirm?;
    Some(PolicyHook {
        rule: Rule {
            name: name?.into(),
            when: when?,
            proof: !matches!(confirm, Confirm::Nothing),
            first,
            max,
            deadline,
            recheck,
            subsystem,
        },
        timeout,
        place: String::new(),
        actuator: actuator?,
        confirm,
    })
}

/// At which levels; `None` is a mistake.
fn when(section: &mut Section<'_>) -> Option<When> {
    if !section.has("when") {
        return Some(When::Always);
    }
    let mut inner = section.section("when")?;
    let (has_least, has_below) = (inner.has("at_least"), inner.has("below"));
    let (least, below) = (level(&mut inner, "at_least"), level(&mut inner, "below"));
    if below == Some(Level::AllowAll) {
        inner.reject("below", "expected a level above `allow_all`, the mildest", None);
    }
    inner.finish();
    if has_least == has_below {
        let hint = Some("leave `when` out to tell the bot of every change".to_owned());
        section.reject("when", "expected either `at_least` or `below`", hint);
    }
    match (least, below) {
        (Some(least), None) if !has_below => Some(When::AtLeast(least)),
        (None, Some(below)) if !has_least && below > Level::AllowAll => Some(When::Below(below)),
        _ => None,
    }
}

/// What shows that the bot follows; `None` is a mistake.
fn confirm(
    section: &mut Section<'_>,
    context: &BuildContext,
    when: Option<When>,
    intake: &Intake<'_>,
) -> Option<Confirm> {
    let Some(node) = section.node("confirm") else {
        let hint = "an exit code is no proof; write confirm: none if the bot cannot be looked at";
        section.reject("confirm", "missing, expected what shows that the bot follows", Some(hint.to_owned()));
        return None;
    };
    if is_none(node) {
        let text = "nothing proves that the bot follows; the answer of the means is taken for it";
        intake.warn_key(section, "confirm", text);
        return Some(Confirm::Nothing);
    }
    let Value::Map(_) = &node.value else {
        section.reject("confirm", "expected `check`, `shows`, or the word none", None);
        return None;
    };
    let mut inner = section.section("confirm")?;
    let (has_check, has_shows) = (inner.has("check"), inner.has("shows"));
    let check = inner.section("check").and_then(|check| build_check(check, intake, context));
    let shows = inner.section("shows").and_then(|shows| shown(shows, context));
    inner.finish();
    if has_check == has_shows {
        section.reject("confirm", "expected either `check` or `shows`", None);
        return None;
    }
    if let Some(check) = check {
        if check.slot().is_some() {
            section.reject(
                "confirm",
                "expected a kind of check that looks at the bot; nothing is pushed to a hook",
                None,
            );
            return None;
        }
        if check.session(Wake::new(|| {})).is_some() {
            section.reject(
                "confirm",
                "expected a kind of check that looks when it is asked; a hook keeps no connection",
                None,
            );
            return None;
        }
        if when == Some(When::Always) {
            let text = "a check says the same at every level, so it proves little here: add `when`, or use `shows`";
            intake.warn_key(section, "confirm", text);
        }
        return Some(Confirm::Check(check));
    }
    shows.map(Confirm::Shows)
}

/// The plain word `none`.
fn is_none(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if text == "none")
}

fn shown(mut section: Section<'_>, context: &BuildContext) -> Option<Shown> {
    let (has_file, has_url) = (section.has("file"), section.has("url"));
    let file = section.opt::<PathBuf>("file");
    let url = section.opt::<String>("url").and_then(|text| match reqwest::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            section.reject("url", "expected a URL that begins with http:// or https://", None);
            None
        }
    });
    let pointer = section.opt::<String>("pointer").filter(|pointer| {
        let right = pointer.is_empty() || pointer.starts_with('/');
        if !right {
            section.reject("pointer", "expected a JSON pointer", Some(format!("write /{pointer}")));
        }
        right
    });
    if has_file == has_url {
        section.reject("file", "expected either `file` or `url`", None);
    }
    section.finish();
    let place = match (file, url) {
        (Some(file), None) => Place::File(below(&context.workspace, &file)),
        (None, Some(url)) => Place::Url(context.http.clone(), url),
        _ => return None,
    };
    Some(Shown { place, pointer: pointer.filter(|pointer| !pointer.is_empty()) })
}
