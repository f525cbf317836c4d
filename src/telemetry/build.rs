//! Which chiron this is, fixed when it was compiled.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The short commit hash it was built from, or `unknown`.
pub const REVISION: &str = match option_env!("CHIRON_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The version of the compiler, or `unknown`.
pub const RUSTC: &str = match option_env!("CHIRON_RUSTC") {
    Some(version) => version,
    None => "unknown",
};
