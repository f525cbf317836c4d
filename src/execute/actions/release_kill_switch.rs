//! `release_kill_switch`: releases a kill switch of the bot whose time has passed. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Releases a kill switch of the bot whose time has passed.
pub const SPEC: ActionSpec = ActionSpec {
    name: "release_kill_switch",
    expected_result: "kill switch released",
    risk: "the bot trades again",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: true,
    needs_policy: Some(Level::SafeRiskProfile),
    holds: None,
    reverse: None,
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

What is bound releases the bot's own kill switch. It is offered only once the time in the switch's file has passed without a
release: while the switch is active by right, nothing is done. It has worked when the failure point `kill_switch` finds it released.

## Preconditions

A binding for the subsystem of the failure point, which is `platform` unless the failure point names one, and a person's yes:
no setting makes it automatic. It raises risk, so nothing else may be critical there, the Watchdog must be alive where one is
configured, and the policy in force, apart from what the kill switch holds for being active, must be `safe_risk_profile` or laxer. Of
`platform`, every subsystem that trading depends on fully must have been healthy for `policy.min_hold`. All of it is looked at
once more when it begins, and a yes holds for the switch as it was shown: one that is drawn anew is asked about anew.

## If interrupted

It is never done again by itself. A person decides.

## Reverse

None by chiron: the bot draws its kill switch itself.

## Risk

The bot takes on exposure again, and what drew the switch may still be there.
";
