//! `disable_module`: takes a broken module out of the platform's decisions. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Takes a broken module out of the platform's decisions.
pub const SPEC: ActionSpec = ActionSpec {
    name: "disable_module",
    expected_result: "system goes on without the module",
    risk: "degraded functionality",
    autonomy: Autonomy::Automatic,
    containing: true,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: Some("enable_module"),
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The module that the binding names no longer takes part; the platform goes on without it.

## Preconditions

A binding for the target, and a platform that works without the module.

## If interrupted

The module may be in or out. What follows is decided by the binding's class; switching off twice is the same
as once, so `natural` usually fits.

## Reverse

`enable_module`, when the episode ends, if it is configured so.

## Risk

Decisions are made without what the module knows.
";
