//! Whether money is at stake.

/// Whether money is at stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Simulated money.
    Paper,
    /// Real money.
    Real,
}

impl Mode {
    /// The word used in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Real => "real",
        }
    }
}
