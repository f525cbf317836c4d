//! `enable_module`: puts a module that was disabled to use again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Puts a module that was disabled to use again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "enable_module",
    expected_result: "module in use again",
    risk: "a module that is not sound yet",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: true,
    needs_policy: None,
    holds: None,
    reverse: Some("disable_module"),
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The module that `disable_module` took out is used again, by what is bound.

## Preconditions

A binding for the target: without one, nothing is undone and nobody is asked. It raises risk, so the issue must be over,
the target's health verified, the Watchdog alive where one is configured, and the policy in force must permit it. A
person is asked first, unless `actions.enable_module.autonomy` is `automatic`.

## If interrupted

What follows is decided by the binding's class, as for every action.

## Reverse

`disable_module`, as the ladder of the next issue has it.

## Risk

The platform depends on the module again.
";
