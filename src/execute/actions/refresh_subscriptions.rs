//! `refresh_subscriptions`: subscribes to the channels of a connected WebSocket anew. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Subscribes to the channels of a connected WebSocket anew.
pub const SPEC: ActionSpec = ActionSpec {
    name: "refresh_subscriptions",
    expected_result: "data flows again",
    risk: "a gap in the data",
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

What is bound cancels the subscriptions of the target and makes them again; the connection stays.

## Preconditions

A binding for the target, whose connection stands.

## If interrupted

Some channels may be without a subscription. Subscribing again is harmless, so `natural` usually fits.

## Reverse

None is needed: the same channels are subscribed to as before.

## Risk

A short gap in the data of every channel.
";
