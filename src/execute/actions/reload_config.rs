//! `reload_config`: makes the subsystem read its configuration again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Makes the subsystem read its configuration again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "reload_config",
    expected_result: "configuration fresh",
    risk: "a bad configuration",
    autonomy: Autonomy::Manual,
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

The target reads its configuration files again. The files themselves are not changed.

## Preconditions

A person who has looked at the configuration that will be read, and a binding if chiron is to carry it out.

## If interrupted

The old or the new configuration may be in force. Reading it again is the same as reading it once, so
`natural` usually fits.

## Reverse

None. The earlier configuration has to be put back and read again.

## Risk

A configuration that is bad comes into force.
";
