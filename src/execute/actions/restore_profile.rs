//! `restore_profile`: puts the ordinary risk profile back. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Puts the ordinary risk profile back.
pub const SPEC: ActionSpec = ActionSpec {
    name: "restore_profile",
    expected_result: "ordinary risk profile in use",
    risk: "larger positions while the cause may come back",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: true,
    needs_policy: Some(Level::AllowAll),
    holds: None,
    reverse: Some("switch_to_safe_profile"),
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

What is bound gives the bot its ordinary profile back. The level that `switch_to_safe_profile` held is released with the
issue, by itself and by the rules of the policy.

## Preconditions

A binding for the target: without one, nothing is undone and nobody is asked. It raises risk, so the issue must be over,
the target's health verified, the Watchdog alive where one is configured, and the policy in force must permit it. A
person is asked first, unless `actions.restore_profile.autonomy` is `automatic`.

## If interrupted

What follows is decided by the binding's class, as for every action.

## Reverse

`switch_to_safe_profile`, as the ladder of the next issue has it.

## Risk

Leverage and sizes are the ordinary ones again.
";
