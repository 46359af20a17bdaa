//! `pki renew` is killed before each of its steps.

use std::path::Path;
use std::process::Stdio;

use ngsi_ferry::tls;
use tokio::process::Command;

use crate::common::gateway::Setup;
use crate::support::*;

/// What changes something on the disk; names that this machine does not know
/// are passed over.
const STEPS: [&str; 9] =
    ["openat", "write", "fsync", "fchmod", "rename", "renameat", "renameat2", "unlink", "unlinkat"];
/// A renewal has far fewer of each.
const MOST: usize = 100;

/// Runs `pki renew` and kills it at a call of that name that concerns a
/// certificate's folder, the `nth`; true where it ended before that.
async fn survives(setup: &Setup, (call, nth): (&str, usize), arguments: &[&str]) -> bool {
    let own = setup.command(["pki", "renew"].iter().chain(arguments));
    let own = own.as_std();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P", text(&setup.data_dir().join("pki"))]);
    for name in ["server.pem", "server.key", "client.pem", "client.key"] {
        for path in [name.to_owned(), format!(".{name}.part")] {
            command.arg("-P").arg(setup.data_dir().join("pki").join(path));
        }
    }
    command.args(["-e", &format!("trace=?{call}")]);
    command.args(["-e", &format!("inject=?{call}:signal=KILL:when={nth}")]);
    command.arg(own.get_program()).args(own.get_args()).current_dir(setup.folder());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.status().await.unwrap().success()
}

fn strace_works() -> bool {
    let probe = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=getppid:signal=KILL:when=9", "true"];
    std::process::Command::new("strace").args(probe).status().is_ok_and(|ended| ended.success())
}

fn pairs_fit(pki: &Path, step: (&str, usize)) {
    for name in ["ca", "server", "client"] {
        let file = |kind: &str| pki.join(format!("{name}.{kind}"));
        let fits = tls::check_pair(&file("pem"), &file("key"));
        assert!(fits.is_ok(), "{step:?}: {fits:?}");
    }
}

#[tokio::test]
async fn a_renewal_that_is_killed_at_any_step_leaves_pairs_that_fit() {
    if !strace_works() {
        return eprintln!("skipped: strace cannot inject signals here");
    }
    let setup = Setup::new();
    ok(&setup, &["pki", "init"]).await;
    let pki = setup.data_dir().join("pki");
    let mut kills = 0;
    for call in STEPS {
        let mut nth = 1;
        while !survives(&setup, (call, nth), &[]).await {
            pairs_fit(&pki, (call, nth));
            (kills, nth) = (kills + 1, nth + 1);
            assert!(nth < MOST, "{call} never ends");
        }
    }
    assert!(kills > 10, "only {kills} kills");
    pairs_fit(&pki, ("none", 0));
    let left = std::fs::read_dir(&pki).unwrap().count();
    assert_eq!(left, 6, "something staged is left");
}

#[tokio::test]
async fn a_renewal_of_keys_that_is_killed_at_any_step_is_whole_at_the_next_start() {
    if !strace_works() {
        return eprintln!("skipped: strace cannot inject signals here");
    }
    let mut setup = Setup::new();
    ok(&setup, &["pki", "init"]).await;
    let pki = setup.data_dir().join("pki");
    let mut kills = 0;
    // Between the two renames of a pair it does not fit, until it is looked at.
    for call in ["fsync", "rename", "renameat", "renameat2"] {
        let mut nth = 1;
        while !survives(&setup, (call, nth), &["--new-keys"]).await {
            let gateway = setup.start().await;
            pairs_fit(&pki, (call, nth));
            connect(gateway.spark, &pki, "client").await.unwrap();
            setup = gateway.kill().await;
            (kills, nth) = (kills + 1, nth + 1);
            assert!(nth < MOST, "{call} never ends");
        }
    }
    assert!(kills > 8, "only {kills} kills");
}
