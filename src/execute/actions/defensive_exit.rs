//! `defensive_exit`: closes risky positions and keeps the others. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Closes risky positions and keeps the others.
pub const SPEC: ActionSpec = ActionSpec {
    name: "defensive_exit",
    expected_result: "risky positions closed, capital preserved",
    risk: "potential losses",
    autonomy: Autonomy::Approval,
    containing: true,
    lowers_risk: true,
    raises_risk: false,
    needs_policy: None,
    holds: Some(Level::DefensiveExit),
    reverse: None,
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The policy source `action` holds `defensive_exit` until the episode ends: no new positions, and the bot closes
the risky ones, those with leverage above 5, without a stop, or losing.

## Preconditions

A person's approval, because closing makes losses real. The policy may hold the same level without it.

## If interrupted

The level is held from the approval on and survives a crash with the journal. A bound command is treated by
its class.

## Reverse

None. What was closed has to be opened again as a new decision; the level is released with the episode.

## Risk

Positions are closed at a loss that might have recovered.
";
