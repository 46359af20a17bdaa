//! The lines that a start without any configuration prints work as pasted.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::support::Said;
use crate::common::program::program;

#[tokio::test]
async fn the_lines_to_paste_work_as_pasted() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(program());
    for listener in ["INTAKE", "SPARK", "ADMIN"] {
        // No fixed ports in tests; everything else is as it comes.
        command.env(format!("NGSI_FERRY_{listener}__LISTEN"), "127.0.0.1:0");
    }
    command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut gateway = command.kill_on_drop(true).spawn().unwrap();
    let mut printed = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let (mut pasted, mut answers) = (Vec::new(), Vec::new());
    while pasted.len() < 3 {
        let line = printed.next_line().await.unwrap().expect("fewer than three lines to paste");
        if line.trim_start().starts_with("curl ") {
            pasted.push(line);
        }
    }
    for line in &pasted {
        let mut bash = Command::new("bash");
        bash.args(["-c", line]).current_dir(folder.path());
        let said = Said::from(bash.output().await.unwrap());
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
        answers.push(said.out);
    }
    assert!(answers[0].starts_with("HTTP/1.1 204 No Content\r\n"), "{answers:?}");
    let record: serde_json::Value = serde_json::from_str(&answers[1]).unwrap();
    assert_eq!(record["headers"]["fiware-service"], "plant1");
    assert!(record["body"].as_str().unwrap().contains("urn:Press:1"));
    assert!(answers[2].starts_with("HTTP/1.1 204 No Content\r\n"), "{answers:?}");

    let pki = folder.path().join("ngsi-ferry-data/pki");
    for file in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        assert!(pki.join(file).is_file(), "{file}");
    }
}
