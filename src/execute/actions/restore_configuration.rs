//! `restore_configuration`: brings back configuration files that are missing or broken. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Brings back configuration files that are missing or broken.
pub const SPEC: ActionSpec = ActionSpec {
    name: "restore_configuration",
    expected_result: "configuration files whole",
    risk: "changes since the last good copy are lost",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::from_secs(1),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

chiron's own healing of the workspace brings each configuration file that is missing or broken back from its last good copy or
from its default (`heal` in the settings). What was there is kept, and `chiron heal --rollback ID` brings it back; the outcome
names the healing. Nothing else of the workspace is healed by it. A file that was changed within `heal.quiet` is waited for, up to
three times and 10 minutes in all. It has worked when the failure point `configuration` finds every file whole; where healing
finds nothing to restore of the files that the failure point looks at, it was not begun and the next action has its turn.

## Preconditions

None but `heal`, which must not be switched off: chiron carries it out itself unless something else is bound to it. A file that
`heal` does not know is not restored.

## If interrupted

A healing that was interrupted left each file old or new, never half. It is done again, and finds what is still to be done.

## Reverse

`chiron heal --rollback ID`, by a person.

## Risk

What was changed in the file since its last good copy is lost to the bot until a person merges it.
";
