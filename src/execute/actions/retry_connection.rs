//! `retry_connection`: asks anew whether hosts or an exchange are reached again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Asks anew whether hosts or an exchange are reached again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "retry_connection",
    expected_result: "connection back",
    risk: "none",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

Nothing. The failure point that found a host or an exchange away asks it anew, at once. That is tried 1 s after it was found
away, 5 s after that, and 25 s after that; each try is a run of its own.

## Preconditions

None: chiron carries it out itself unless something else is bound to it. As it changes nothing, budgets, cooldowns, storms and
maintenance do not hold it up, and it uses up none of them; instead a target is asked at most 12 times an hour, then it is passed
over. What the settings bind to it is an action as any other, and all of them hold it up. Of what is critical a backup comes
first, if `fallback_to_backup` is bound and waits for nobody.

## If interrupted

It is done again.

## Reverse

None is needed.

## Risk

None: a few further connections.
";
