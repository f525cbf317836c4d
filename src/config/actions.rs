//! `actions`: how far each action may go alone, and which are only rehearsed (ACT-1, ACT-3).

use std::collections::{BTreeMap, BTreeSet};

use super::intake::{Intake, known_action};
use crate::base::tree::{Section, shorten};
use crate::model::{Autonomy, Name};

const AUTONOMY: [(&str, Autonomy); 3] =
    [("automatic", Autonomy::Automatic), ("approval", Autonomy::Approval), ("manual", Autonomy::Manual)];

/// The action that is never automatic by one word alone.
const FLATTEN: &str = "close_all_positions";

/// What the operator says of single actions.
#[derive(Debug, Default)]
pub(super) struct Actions {
    pub(super) autonomy: BTreeMap<Name, Autonomy>,
    pub(super) dry_run: BTreeSet<Name>,
}

/// `actions` and `auto_flatten`.
pub(super) fn actions(top: &mut Section<'_>, intake: &Intake<'_>) -> Actions {
    let auto_flatten = top.or("auto_flatten", false);
    let mut actions = Actions::default();
    for (name, at, node) in top.entries("actions") {
        let path = format!("actions.{name}");
        if let Err((rule, hint)) = known_action(name) {
            intake.problems.push(*at, "actions", &shorten(name), &rule, hint);
            continue;
        }
        let Some(mut section) = Section::open(node, &path, intake.problems) else { continue };
        let autonomy = section.word("autonomy", &AUTONOMY);
        if name == FLATTEN && autonomy == Some(Autonomy::Automatic) && !auto_flatten {
            let hint = "it makes losses real and moves the price; add `auto_flatten: true` at the top if chiron is to \
                        close every position without asking anybody"
                .to_owned();
            section.reject("autonomy", "expected `approval` or `manual` without `auto_flatten: true`", Some(hint));
        }
        let furthest = crate::recommend::furthest(name);
        if autonomy.is_some_and(|asked| asked < furthest) {
            let rule =
                if furthest == Autonomy::Manual { "expected `manual`" } else { "expected `approval` or `manual`" };
            let hint = if furthest == Autonomy::Manual {
                "it is only ever shown to a person, who decides about positions"
            } else {
                "what the bot has switched off for its safety is not switched on again before a person has agreed"
            };
            section.reject("autonomy", rule, Some(hint.to_owned()));
        }
        let name = Name::from(name.as_str());
        if section.or("dry_run", false) {
            actions.dry_run.insert(name.clone());
        }
        section.finish();
        actions.autonomy.extend(autonomy.map(|autonomy| (name, autonomy)));
    }
    actions
}
