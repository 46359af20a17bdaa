//! The queries of the Spark API, and the rows that are staged there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngsi_ferry::fuzzing;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzing::query(text);
    }
    fuzzing::rows(data);
});
