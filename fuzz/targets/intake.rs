//! The HTTP intake, from a connection's bytes to the store.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ngsi_ferry::fuzzing::Intake;
use tempfile::TempDir;

static INTAKE: OnceLock<(Intake, TempDir)> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let (intake, _) = INTAKE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        (Intake::new(folder.path()), folder)
    });
    intake.take(data);
});
