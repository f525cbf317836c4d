//! `refresh_intelligence`: fetches the intelligence that the bot trades on anew. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Fetches the intelligence that the bot trades on anew.
pub const SPEC: ActionSpec = ActionSpec {
    name: "refresh_intelligence",
    expected_result: "intelligence fresh",
    risk: "load on its provider",
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

What is bound fetches the intelligence data anew, or starts what fetches it. It has worked when the failure point that found
the data stale, or its provider away, finds it well; it is watched up to the deadline of `verify.within`.

## Preconditions

A binding for the subsystem of the failure point, which is `platform` unless the failure point names one.

## If interrupted

It is done again: fetching twice is the same as once. So the class is `natural` unless the binding says otherwise, and it is
tried up to three times (`retries: 2`), with the pauses of every retry. If the data is still stale then, a person is told.

## Reverse

None is needed: fresh data takes the place of stale data.

## Risk

Its provider counts one more request.
";
