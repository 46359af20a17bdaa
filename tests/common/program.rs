//! The program under test.

use std::ffi::OsString;

/// What cargo built for the tests, or where `FERRY_TEST_BIN` is set, what it
/// names: the same program for another machine, behind an emulator. (The name
/// is none of the gateway's own, which would take it for a setting.)
pub fn program() -> OsString {
    let named = std::env::var_os("FERRY_TEST_BIN");
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_ngsi-ferry").into())
}
