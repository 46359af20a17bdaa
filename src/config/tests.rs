//! The promises of the configuration, on one like the real one.
