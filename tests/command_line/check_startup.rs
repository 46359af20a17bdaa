//! `ngsi-ferry check --startup`, which systemd runs before each start.

use std::time::{Duration, Instant};

use tokio::process::Command;

use super::support::{Said, ok, run};
use crate::common::gateway::Setup;

const CHECK: [&str; 2] = ["check", "--startup"];

/// Generous, for a machine that does much else.
const FAST: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_passes_by_itself_refuses_no_start_and_is_not_waited_for() {
    // Nobody answers there, and nobody refuses: a test network.
    let setup = Setup::new().set("ORION__URL", "http://192.0.2.1:1026");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = setup
        .set("INTAKE__LISTEN", &taken.local_addr().unwrap().to_string())
        .set("STORE__MIN_FREE", "9000PiB");
    let begun = Instant::now();
    let said = ok(&setup, &CHECK).await;
    assert!(begun.elapsed() < FAST, "{:?}", begun.elapsed());
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert!(!setup.data_dir().exists(), "a check leaves nothing behind");
}

#[tokio::test]
async fn a_clock_that_was_never_set_refuses_no_start() {
    let setup = Setup::new();
    // With certificates that begin in what this clock takes for the future.
    ok(&setup, &["pki", "init"]).await;
    let mut early = Command::new("faketime");
    early.args(["1970-01-02 00:00:00"]).args(command_line(&setup.command(CHECK)));
    let Some(said) = output(&setup, early).await else {
        println!("skipped: needs faketime");
        return;
    };
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_no_start_and_one_that_cannot_be_written_does() {
    let setup = Setup::new();
    std::fs::create_dir(setup.data_dir()).unwrap();
    let on = |options: &str| {
        let mount =
            format!("mount -t tmpfs -o {options} none \"$NGSI_FERRY_DATA_DIR\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &mount, "sh"]).args(command_line(&setup.command(CHECK)));
        command.env("STATE_DIRECTORY", "/var/lib/ngsi-ferry");
        command
    };
    // The folder itself takes the only inode.
    let Some(full) = output(&setup, on("nr_inodes=1")).await.filter(|said| said.code != Some(32))
    else {
        println!("skipped: needs root, to mount");
        return;
    };
    assert_eq!((full.code, full.err.as_str()), (Some(0), ""), "{full:?}");
    let read_only = output(&setup, on("ro")).await.unwrap();
    assert_eq!(read_only.code, Some(1), "{read_only:?}");
    for expected in ["cannot be written", "may write to /var/lib/ngsi-ferry alone"] {
        assert!(read_only.err.contains(expected), "{}", read_only.err);
    }
}

#[tokio::test]
async fn what_no_start_can_get_over_refuses_it_and_a_start_ends_the_same_way() {
    for (setting, value) in [
        ("STORE__MAX_BYTES", "8 elephants"),
        ("INTAKE__LISTEN", "everywhere"),
        ("INTAKE__SECRET_FILE", "none.secret"),
        ("SPARK__CLIENT_CA", "none.pem"),
        ("SPARK__TOKEN_FILE", "none.tokens"),
        ("DATA_DIR", "a-file/data"),
    ] {
        let setup = Setup::new().set(setting, value);
        setup.write("a-file", "");
        let said = run(&setup, &CHECK).await;
        assert_eq!(said.code, Some(1), "{setting}={value}: {said:?}");
        assert!(said.err.contains(&format!("NGSI_FERRY_{setting}")), "{setting}: {}", said.err);
        assert_eq!(run(&setup, &["run"]).await.code, Some(1), "{setting}={value}");
    }
    let setup = Setup::new().set_file("SPARK__CERT", "no certificate");
    let setup = setup.set_file("SPARK__KEY", "no key").set_file("SPARK__CLIENT_CA", "none either");
    let said = run(&setup, &CHECK).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("NGSI_FERRY_SPARK__CERT"), "{}", said.err);
    assert_eq!(run(&setup, &["run"]).await.code, Some(1));
}

#[tokio::test]
async fn what_the_gateway_can_do_without_refuses_no_start() {
    let setup = Setup::new().set("ORION__TOKEN_FILE", "none.token");
    assert_eq!(run(&setup, &["check"]).await.code, Some(1));
    ok(&setup, &CHECK).await;
    assert!(setup.start().await.stop().await.1.success());
}

/// A command as another one's arguments.
fn command_line(command: &Command) -> Vec<std::ffi::OsString> {
    let command = command.as_std();
    let program = std::iter::once(command.get_program());
    program.chain(command.get_args()).map(ToOwned::to_owned).collect()
}

/// Runs it with the variables of a setup; none where it cannot be run.
async fn output(setup: &Setup, mut command: Command) -> Option<Said> {
    let own = setup.command([""; 0]);
    for (name, value) in own.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(command.current_dir(setup.folder()).output().await.ok()?.into())
}
