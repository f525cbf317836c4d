//! `restart_subsystem`: stops the subsystem and starts it again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Stops the subsystem and starts it again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "restart_subsystem",
    expected_result: "subsystem restored",
    risk: "brief interruption",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The process, service or container that the binding names is stopped and started. Nothing else is touched;
orders and positions at the exchange stay as they are.

## Preconditions

A binding for the target. No other run on it, cooldown and budget not spent, and nothing broken that it
depends on: the root goes first.

## If interrupted

The target may be stopped, started, or half way. What follows is decided by the binding's class: `natural` and
`keyed` are done again, `probeable` is asked first, `one_shot` becomes `indeterminate` and goes to a person.

## Reverse

None. A restart that made things worse is answered by the next rung of the ladder.

## Risk

The target does nothing while it restarts, and loses what it held only in memory.
";
