//! The safety levels a bot obeys, and what each forbids (POL-1).

use serde::{Deserialize, Serialize};

/// A safety level, mildest first; the order is the strictness of POL-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is forbidden.
    AllowAll,
    /// Less leverage, half sizes, tighter stops.
    SafeRiskProfile,
    /// No new exposure; exits and stop changes go on.
    NoNewTrades,
    /// No new exposure; risky positions are closed.
    DefensiveExit,
    /// Nothing is traded, everything is closed; latched until a person releases it.
    EmergencyShutdown,
}

impl Level {
    /// Every level, mildest first.
    pub const ALL: [Self; 5] =
        [Self::AllowAll, Self::SafeRiskProfile, Self::NoNewTrades, Self::DefensiveExit, Self::EmergencyShutdown];

    /// The word used as a label, in files and by bots.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowAll => "allow_all",
            Self::SafeRiskProfile => "safe_risk_profile",
            Self::NoNewTrades => "no_new_trades",
            Self::DefensiveExit => "defensive_exit",
            Self::EmergencyShutdown => "emergency_shutdown",
        }
    }

    /// The level of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// What the level forbids.
    pub const fn restrictions(self) -> Restrictions {
        let open = Restrictions::NONE;
        match self {
            Self::AllowAll => open,
            Self::SafeRiskProfile => {
                Restrictions { max_leverage: Some(5.0), size_factor: 0.5, tighten_stops: true, ..open }
            }
            Self::NoNewTrades => Restrictions { open: false, increase: false, ..open },
            Self::DefensiveExit => Restrictions { open: false, increase: false, close: CloseScope::Risky, ..open },
            Self::EmergencyShutdown => {
                Restrictions { open: false, increase: false, trade: false, close: CloseScope::All, ..open }
            }
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which positions the bot is told to close, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseScope {
    /// None.
    None,
    /// Leverage above 5, no stop, or losing.
    Risky,
    /// All of them.
    All,
}

/// What is forbidden, field by field. Closing, reducing and cancelling are allowed under every policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restrictions {
    /// May a position be opened?
    pub open: bool,
    /// May a position be increased?
    pub increase: bool,
    /// May the bot trade at all, beyond closing, reducing and cancelling?
    pub trade: bool,
    /// Highest leverage for new exposure; `None` is unlimited.
    pub max_leverage: Option<f64>,
    /// Factor on the size of new exposure, 0 to 1.
    pub size_factor: f64,
    /// Should stops be tightened?
    pub tighten_stops: bool,
    /// Which positions are to be closed.
    pub close: CloseScope,
}

impl Restrictions {
    /// Nothing is forbidden.
    pub const NONE: Self = Self {
        open: true,
        increase: true,
        trade: true,
        max_leverage: None,
        size_factor: 1.0,
        tighten_stops: false,
        close: CloseScope::None,
    };

    /// The stricter of both, field by field, so that adding a source can only tighten (POL-2).
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            open: self.open && other.open,
            increase: self.increase && other.increase,
            trade: self.trade && other.trade,
            max_leverage: match (self.max_leverage, other.max_leverage) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            size_factor: self.size_factor.min(other.size_factor),
            tighten_stops: self.tighten_stops || other.tighten_stops,
            close: self.close.max(other.close),
        }
    }
}

/// Who may hold a level (POL-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The evaluation of health and issues (POL-1).
    Evaluation,
    /// An alert's route or label.
    Alert,
    /// An action that is a policy, held until its episode ends (ACT-1).
    Action,
    /// A person, with reason and expiry.
    Operator,
    /// The workspace gate.
    Workspace,
    /// chiron cannot see or cannot remember (POL-4).
    Blindness,
    /// chiron has just started and knows too little.
    Startup,
}

impl PolicySource {
    /// Every source, in the order metrics list them.
    pub const ALL: [Self; 7] =
        [Self::Evaluation, Self::Alert, Self::Action, Self::Operator, Self::Workspace, Self::Blindness, Self::Startup];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Alert => "alert",
            Self::Action => "action",
            Self::Operator => "operator",
            Self::Workspace => "workspace",
            Self::Blindness => "blindness",
            Self::Startup => "startup",
        }
    }
}

/// The question a bot asks at the gate (POL-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Open a new position.
    OpenPosition,
    /// Add to a position.
    IncreasePosition,
    /// Close or reduce a position; allowed under every policy.
    ClosePosition,
    /// Move a stop or a target; allowed under every policy but `emergency_shutdown`, where only closing is left.
    AdjustStop,
    /// Trade at all.
    Trade,
}

impl Intent {
    /// Every intent.
    pub const ALL: [Self; 5] =
        [Self::OpenPosition, Self::IncreasePosition, Self::ClosePosition, Self::AdjustStop, Self::Trade];

    /// The word used in the path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenPosition => "open_position",
            Self::IncreasePosition => "increase_position",
            Self::ClosePosition => "close_position",
            Self::AdjustStop => "adjust_stop",
            Self::Trade => "trade",
        }
    }

    /// The intent of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|intent| intent.as_str() == text)
    }
}
