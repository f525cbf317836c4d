//! `repair_websocket`: connects a bot's WebSocket anew and subscribes to every channel again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Connects a bot's WebSocket anew and subscribes to every channel again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "repair_websocket",
    expected_result: "WebSocket connected and subscribed",
    risk: "no data while it reconnects",
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

What is bound closes the connection of the target, takes a fresh token where one is needed, connects again and subscribes to
every channel anew.

## Preconditions

A binding for the target. It should look first whether the credentials may open an authenticated connection: what is not
permitted is not repaired by trying again.

## If interrupted

The connection may be down or without its subscriptions. Connecting again is harmless, so `natural` usually fits.

## Reverse

None is needed: nothing but the connection is changed.

## Risk

Nothing is heard while it reconnects; tries in quick succession may meet the limit of the exchange.
";
