//! What the integration tests share: the context broker's stand-in, a
//! byte-exact HTTP client, and the captured notifications.

// Each test binary compiles this module and uses a part of it:
// what one leaves unused, another uses.
#![allow(dead_code, unused_imports)]

pub mod clock;
pub mod fixtures;
pub mod freeze;
pub mod gateway;
pub mod http;
pub mod image;
pub mod orion;
pub mod spark;
pub mod wire;
