//! `recover_rate_limit`: lets the rate limit of one symbol recover. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Lets the rate limit of one symbol recover.
pub const SPEC: ActionSpec = ActionSpec {
    name: "recover_rate_limit",
    expected_result: "symbol below its rate limit",
    risk: "missed opportunities on the symbol",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::from_secs(5),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

What is bound keeps the bot from sending more for the symbol of the issue (`CHIRON_SYMBOL`) until its counter at the exchange
has come down: it pauses the symbol, cancels old orders slowly, and resumes.

## Preconditions

A binding for the target that knows the symbol. Without a symbol it concerns the whole target.

## If interrupted

The symbol may be paused. Pausing it again is harmless; resuming too early is not, so the binding should look at the counter.

## Reverse

None of its own: what is bound resumes the symbol once its counter permits.

## Risk

Nothing is traded on the symbol meanwhile. Orders that are cancelled protect nothing any more, so stops are to be left.
";
