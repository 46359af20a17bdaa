//! What this program was built from; told by the build script.

/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, or why it is not known.
pub const COMMIT: &str = env!("BUILT_FROM_COMMIT");
/// The machine it is for.
pub const TARGET: &str = env!("BUILT_FOR_TARGET");
/// All three: `0.1.0 (1a2b3c4d5e6f, armv7-unknown-linux-gnueabihf)`.
pub const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("BUILT_FROM_COMMIT"),
    ", ",
    env!("BUILT_FOR_TARGET"),
    ")"
);
