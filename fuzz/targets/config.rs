//! The configuration: a file and variables.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

static SCRATCH: OnceLock<NamedTempFile> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let scratch = SCRATCH.get_or_init(|| NamedTempFile::new().expect("a temporary file"));
    ngsi_ferry::fuzzing::config(data, scratch.path());
});
