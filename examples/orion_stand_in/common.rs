//! What the stand-in for Orion needs of the tests' common parts, under the
//! names that it uses there.

// Made for the tests: what is left unused here, they use.
#![allow(dead_code, unused_imports)]

#[path = "../../tests/common/fixtures.rs"]
pub mod fixtures;
#[path = "../../tests/common/http.rs"]
pub mod http;
#[path = "../../tests/common/orion/mod.rs"]
pub mod orion;
#[path = "../../tests/common/wire.rs"]
pub mod wire;
