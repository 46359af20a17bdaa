//! Starting: whose settings count, and what is in the way.

use super::support::{ok, run};
use crate::common::gateway::{Gateway, Setup};

#[tokio::test]
async fn variables_override_the_file_and_the_file_the_defaults() {
    let setup = Setup::new();
    let file = setup.write("a.toml", "id = \"of-file\"\n[[stream]]\nname = \"press\"\n");
    let gateway = setup.set("CONFIG", file.to_str().unwrap()).start().await;
    let status = gateway.status().await;
    assert_eq!(
        (&status["id"], &status["streams"][1]["name"]),
        (&"of-file".into(), &"press".into())
    );
    let (setup, _) = gateway.stop().await;
    let gateway = setup.set("ID", "of-variable").start().await;
    assert_eq!(gateway.status().await["id"], "of-variable");
}

#[tokio::test]
async fn two_gateways_on_one_data_directory_are_refused_with_the_reason() {
    let gateway = Gateway::start().await;
    let setup = gateway.setup();
    let second = run(setup, &["run"]).await;
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("another ngsi-ferry answers at "), "{second:?}");
    assert!(second.err.contains("stop it, or set another data_dir"), "{second:?}");
    // Told by the lock too, where the sockets differ.
    let socket = setup.folder().join("s");
    let second: super::support::Said = setup
        .command(["run"])
        .env("NGSI_FERRY_ADMIN__SOCKET", socket)
        .output()
        .await
        .unwrap()
        .into();
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("is in use by another ngsi-ferry; stop it"), "{second:?}");
    assert_eq!(gateway.status().await["streams"][0]["name"], "default");
}

#[tokio::test]
async fn a_port_in_use_is_told_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for listener in ["INTAKE", "SPARK", "ADMIN"] {
        let setup = Setup::new().set(&format!("{listener}__LISTEN"), &address);
        let said = run(&setup, &["run"]).await;
        assert_eq!(said.code, Some(1));
        let expected = format!(
            "NGSI_FERRY_{listener}__LISTEN = \"{address}\": cannot listen: Address already in use"
        );
        assert!(said.err.contains(&expected), "{expected} is not in {}", said.err);
    }
    let setup = Setup::new();
    let file = setup.write("a.toml", &format!("[pass_through]\nlisten = \"{address}\"\n"));
    let said = run(&setup.set("CONFIG", file.to_str().unwrap()), &[]).await;
    let expected = format!("a.toml:2: [pass_through] listen = \"{address}\": cannot listen");
    assert!(said.err.contains(&expected), "{expected} is not in {}", said.err);
}

#[tokio::test]
async fn a_command_that_there_is_not_names_the_nearest() {
    let said = run(&Setup::new(), &["statsu"]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("status"), "{}", said.err);
    let help = ok(&Setup::new(), &["--help"]).await.out;
    for command in ["run", "check", "status", "peek", "dead-letters", "pki"] {
        assert!(help.contains(&format!("  {command}")), "{command} is not in\n{help}");
    }
}
