//! `fallback_to_backup`: uses the backup source or endpoint instead of the broken one. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Uses the backup source or endpoint instead of the broken one.
pub const SPEC: ActionSpec = ActionSpec {
    name: "fallback_to_backup",
    expected_result: "backup source or endpoint in use",
    risk: "backup may be older or slower",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: Some("restore_primary"),
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The source, model or endpoint that the target reads from is replaced by its backup.

## Preconditions

A binding for the target, and a backup that is there and sound.

## If interrupted

The primary or the backup may be in use. What follows is decided by the binding's class.

## Reverse

`restore_primary`, when the episode ends, if it is configured so.

## Risk

The backup may be older or slower than the primary.
";
