//! `resume_trading`: lets the bot open and increase positions again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Lets the bot open and increase positions again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "resume_trading",
    expected_result: "trading resumed",
    risk: "new exposure while the cause may come back",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: true,
    needs_policy: Some(Level::SafeRiskProfile),
    holds: None,
    reverse: Some("pause_trading"),
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

What is bound tells the bot that it may trade again. The level that `pause_trading` held is released with the issue, by
itself and by the rules of the policy; this action never loosens the policy.

## Preconditions

A binding for the target: without one, nothing is undone and nobody is asked. It raises risk, so the issue must be over,
the target's health verified, the Watchdog alive where one is configured, and the policy in force must permit it. A
person is asked first, unless `actions.resume_trading.autonomy` is `automatic`.

## If interrupted

What follows is decided by the binding's class, as for every action.

## Reverse

`pause_trading`, as the ladder of the next issue has it.

## Risk

The bot takes on exposure again. If the cause comes back, so does the pause.
";
