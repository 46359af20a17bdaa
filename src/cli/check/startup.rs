//! `ngsi-ferry check --startup`: what systemd asks before each start. A start is
//! refused only where none can succeed until a person has changed something.
//! What may pass by itself (an Orion that is away, a full disk, a clock that is
//! not set, a port that is taken) is the gateway's own business.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use tracing::error;

use super::{Findings, files, not_writable, writable_folder};
use crate::config::{Settings, process_environment};
use crate::systemd;
use crate::telemetry::is_read_by_journald;

pub(super) fn run(file: Option<&Path>) -> ExitCode {
    let mut found = Findings::default();
    let (settings, problems) = Settings::load_leniently(file, process_environment());
    found.problems.extend(problems);
    if let Some(settings) = settings {
        files(&settings, &mut found);
        data_dir(&settings, &mut found);
    }
    for problem in &found.problems {
        error!("{problem}");
    }
    if found.problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    if is_read_by_journald() {
        systemd::rest_after_a_failed_start();
    }
    ExitCode::FAILURE
}

fn data_dir(settings: &Settings, found: &mut Findings) {
    let Err((folder, error)) = writable_folder(&settings.config) else { return };
    let is_for_a_person =
        [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotADirectory];
    if is_for_a_person.contains(&error.kind()) {
        found.problems.push(not_writable(settings, &folder, &error));
    }
}
