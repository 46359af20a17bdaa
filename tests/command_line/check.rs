//! `ngsi-ferry check`.

use super::support::{ok, run};
use crate::common::gateway::{Gateway, Setup};
use crate::common::orion::OrionStandIn;

#[tokio::test]
async fn every_problem_is_told_at_once_with_file_and_line() {
    let text = r#"id = "plant"
[intake]
lisen = "127.0.0.1:8061"
max_body = "8 elephants"
[spark]
cert = "none.pem"
[[stream]]
name = "Press"
[[stream]]
name = "oven"
when_full = "rejekt"
[[route]]
stream = "a/b"
"#;
    let setup = Setup::new();
    setup.write("gateway.toml", text);
    let setup = setup.set("CONFIG", "gateway.toml").set("ORION__URLL", "http://orion");
    let said = run(&setup, &["check"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    for expected in [
        "gateway.toml:3: [intake] lisen is not a setting; did you mean \"listen\"?",
        "gateway.toml:4: [intake] max_body = \"8 elephants\": not a size; write for example",
        "gateway.toml:6: [spark] cert = \"none.pem\": cert and key belong together",
        "gateway.toml:8: [[stream]] name = \"Press\": not a stream's name",
        "gateway.toml:11: [[stream]] when_full = \"rejekt\"",
        "gateway.toml:13: [[route]] stream = \"a/b\": not a stream's name",
        "NGSI_FERRY_ORION__URLL is not a setting; did you mean NGSI_FERRY_ORION__URL?",
        "in the way of a start.",
    ] {
        assert!(said.out.contains(expected), "{expected} is not in\n{}", said.out);
    }
    let json = run(&setup, &["check", "--json"]).await;
    assert_eq!(json.code, Some(1));
    let problems = json.json()["problems"].clone();
    assert_eq!(problems[0]["origin"]["line"], 3);
    assert_eq!(said.out.matches("WRONG").count(), problems.as_array().unwrap().len());
    // A start is refused for the same reasons.
    let start = run(&setup, &["run"]).await;
    assert_eq!(start.code, Some(1));
    assert!(start.err.contains("gateway.toml:3: [intake] lisen"), "{}", start.err);
}

#[tokio::test]
async fn settings_that_would_keep_it_from_working_are_refused() {
    for (setting, value, said) in [
        ("SPARK__LIVE_SHARE", "0.95", "a number from 0 to 0.9"),
        ("SPARK__LIVE_SHARE", "-0.1", "a number from 0 to 0.9"),
        ("SPARK__DRAIN_RATE", "0", "leave it out for no limit"),
        ("ORION__MAX_RATE", "0", "a number above 0"),
        ("STORE__GATHER", "8s", "at most a quarter of store.stuck_after"),
    ] {
        let setup = Setup::new().set(setting, value);
        let checked = run(&setup, &["check"]).await;
        assert_eq!(checked.code, Some(1), "{setting}={value}");
        assert!(checked.out.contains(said), "{setting}={value}: {}", checked.out);
    }
}

#[tokio::test]
async fn a_good_configuration_is_said_to_be_good() {
    let orion = OrionStandIn::start().await;
    let setup = Setup::new().set("ORION__URL", &orion.url());
    let said = ok(&setup, &["check"]).await;
    for expected in [
        "ok      configuration: built-in defaults",
        "intake.listen 127.0.0.1:0 is free",
        "Orion answers at http://127.0.0.1:",
        "notice  no certificates yet; the first start makes an authority in",
        "Nothing is in the way of a start.",
    ] {
        assert!(said.out.contains(expected), "{expected} is not in\n{}", said.out);
    }
    assert_eq!(ok(&setup, &["check", "--json"]).await.json()["problems"], serde_json::json!([]));
    assert!(!setup.data_dir().exists(), "a check leaves nothing behind");
}

#[tokio::test]
async fn an_orion_that_is_away_is_a_notice_and_no_problem() {
    let said = ok(&Setup::new(), &["check"]).await;
    assert!(
        said.out.contains("notice  Orion does not answer at http://127.0.0.1:9"),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn ports_certificates_files_and_the_disk_are_looked_at() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new()
        .set("INTAKE__LISTEN", &taken.local_addr().unwrap().to_string())
        .set("INTAKE__SECRET_FILE", "none.secret")
        .set("STORE__MIN_FREE", "9000PiB")
        .set_file("SPARK__TOKEN_FILE", "spark-1 short\n")
        .set_file("INTAKE__CERT", "no certificate")
        .set_file("INTAKE__KEY", "no key");
    let said = run(&setup, &["check"]).await;
    assert_eq!(said.code, Some(1));
    for expected in [
        "NGSI_FERRY_INTAKE__LISTEN = ",
        "cannot listen: Address already in use",
        "NGSI_FERRY_INTAKE__SECRET_FILE",
        "less than store.min_free",
        ":1: a line is NAME TOKEN",
        "NGSI_FERRY_INTAKE__CERT",
    ] {
        assert!(said.out.contains(expected), "{expected} is not in\n{}", said.out);
    }
    assert!(!said.out.contains("spark-1 short"), "{}", said.out);
}

#[tokio::test]
async fn beside_a_running_gateway_its_own_ports_are_no_problem() {
    let gateway = Gateway::start().await;
    let said = ok(gateway.setup(), &["check"]).await;
    assert!(said.out.contains("a gateway runs with this configuration"), "{}", said.out);
    assert!(said.out.contains("server.pem for localhost"), "{}", said.out);
}

#[tokio::test]
async fn too_few_connections_for_a_relays_gateways_are_noticed_and_the_default_follows_them() {
    let relay = || {
        Setup::new()
            .set("CLIENT__0__NAME", "*")
            .set("CLIENT__0__ALLOW__0", "uplink")
            .set("RELAY__MAX_GATEWAYS", "100")
    };
    let said = ok(&relay().set("SPARK__MAX_CONNECTIONS", "399"), &["check"]).await;
    assert!(said.out.contains("notice  spark.max_connections = 399 is too few"), "{}", said.out);
    let too_few = relay().set("SPARK__MAX_CONNECTIONS", "399").start().await;
    assert!(too_few.log().contains("spark.max_connections = 399 is too few"), "{}", too_few.log());
    for fine in [relay(), relay().set("SPARK__MAX_CONNECTIONS", "400"), Setup::new()] {
        let said = ok(&fine, &["check"]).await;
        assert!(!said.out.contains("max_connections"), "{}", said.out);
    }
}
