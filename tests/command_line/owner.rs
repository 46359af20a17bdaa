//! Root beside a gateway that runs as another user, as systemd makes one.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::support::{Said, post};
use crate::common::gateway::{Gateway, Setup};

/// Nobody's, so it may be anybody's.
const USER: u32 = 65_534;

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Where that user may run it.
fn copy_of_the_program(setup: &Setup) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = folder.path().join("ngsi-ferry");
    std::fs::copy(setup.command([""; 0]).as_std().get_program(), &copy).unwrap();
    (folder, copy)
}

async fn run(setup: &Setup, program: &Path, arguments: &[&str]) -> Said {
    let plain = setup.command(arguments);
    let mut command = tokio::process::Command::new(program);
    for (name, value) in plain.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(arguments).current_dir(setup.folder()).output().await.unwrap().into()
}

#[tokio::test]
async fn root_leaves_nothing_in_the_data_directory_that_the_gateways_user_cannot_open() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let gateway = Gateway::start().await;
    post(&gateway, "/notify", "{}").await;
    // As a crash leaves it: looking at it writes.
    let setup = gateway.kill().await;
    let data = setup.data_dir();
    std::fs::remove_file(setup.get("ADMIN__SOCKET").unwrap()).unwrap();
    // No way there for others, as beneath systemd's /var/lib/private.
    std::fs::set_permissions(setup.folder(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::remove_dir_all(data.join("pki")).unwrap();
    for path in all_below(&data) {
        chown(&path, Some(USER), Some(USER)).unwrap();
    }
    let (_folder, program) = copy_of_the_program(&setup);
    for arguments in [&["status"][..], &["peek"], &["dead-letters", "list"]] {
        let said = run(&setup, &program, arguments).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    }
    for arguments in [&["pki", "init"][..], &["pki", "client", "wear-model"], &["pki", "renew"]] {
        let said = run(&setup, &program, arguments).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    }
    for path in all_below(&data) {
        let owner = std::fs::metadata(&path).unwrap().uid();
        assert_eq!(owner, USER, "{} is another's", path.display());
    }
}
