//! The NGSI reader.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ngsi_ferry::fuzzing::ngsi(data));
