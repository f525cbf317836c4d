//! `restore_primary`: uses the primary source or endpoint again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Uses the primary source or endpoint again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "restore_primary",
    expected_result: "primary source or endpoint in use",
    risk: "a primary that is not sound yet",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: true,
    needs_policy: None,
    holds: None,
    reverse: Some("fallback_to_backup"),
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The primary source, model or endpoint is used again instead of its backup. It is run too, at once and without its other
preconditions, when verification finds that `fallback_to_backup` has made things worse.

## Preconditions

A binding for the target: without one, nothing is undone and nobody is asked. It raises risk, so the issue must be over,
the target's health verified, the Watchdog alive where one is configured, and the policy in force must permit it. A
person is asked first, unless `actions.restore_primary.autonomy` is `automatic`.

## If interrupted

What follows is decided by the binding's class, as for every action.

## Reverse

`fallback_to_backup`, as the ladder of the next issue has it.

## Risk

The platform depends on the primary again.
";
