//! The secret, the networks, and TLS.

use std::sync::Arc;

use ngsi_ferry::tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::{bodies, post, stored};
use crate::common::gateway::Setup;
use crate::common::http::{self, Client};

fn with(header: &str, value: &str) -> Vec<u8> {
    http::request("POST", "/notify", &[(header, value)], b"{}")
}

#[tokio::test]
async fn a_secret_is_demanded_alone_or_as_bearer_and_never_stored() {
    let gateway = Setup::new().set_file("INTAKE__SECRET_FILE", "s3cret-enough\n").start().await;
    let cases = [
        (with("Authorization", "Bearer s3cret-enough"), 204),
        (with("authorization", "s3cret-enough"), 204),
        (with("Authorization", "Bearer s3cret-enougH"), 401),
        (with("Authorization", "Bearer s3cret-enough2"), 401),
        (with("Authorization", "Bearer "), 401),
        (with("X-Auth-Token", "s3cret-enough"), 401),
        (post("{}"), 401),
    ];
    for (raw, status) in cases {
        let answer = http::once(gateway.intake, &raw).await;
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&raw));
    }
    let stored = stored(&gateway, "default").await;
    assert_eq!(stored.len(), 2);
    assert!(!format!("{stored:?}").contains("s3cret"), "{stored:?}");
    assert!(!gateway.log().contains("s3cret"));
}

#[tokio::test]
async fn the_header_of_the_secret_is_a_setting_and_others_are_kept() {
    let setup = Setup::new()
        .set_file("INTAKE__SECRET_FILE", "s3cret-enough")
        .set("INTAKE__SECRET_HEADER", "X-Gate");
    let gateway = setup.start().await;
    let headers = [("X-Gate", "s3cret-enough"), ("Authorization", "Bearer of Orion")];
    let raw = http::request("POST", "/notify", &headers, b"{}");
    assert_eq!(http::once(gateway.intake, &raw).await.status, 204);
    let stored = stored(&gateway, "default").await;
    assert_eq!(stored[0].header("authorization"), Some("Bearer of Orion"));
    assert_eq!(stored[0].header("x-gate"), None);
}

#[tokio::test]
async fn a_refusal_of_a_large_body_arrives_too() {
    let gateway = Setup::new().set_file("INTAKE__SECRET_FILE", "s3cret-enough").start().await;
    let raw = http::request("POST", "/notify", &[], &vec![b'x'; 4 << 20]);
    assert_eq!(http::once(gateway.intake, &raw).await.status, 401);
}

#[tokio::test]
async fn only_the_networks_that_are_listed_may_send() {
    for (networks, status) in
        [("[\"192.0.2.0/24\", \"::1/128\"]", 403), ("[\"192.0.2.0/24\", \"127.0.0.0/8\"]", 204)]
    {
        let gateway = Setup::new().set("INTAKE__ALLOW", networks).start().await;
        for _ in 0..3 {
            let answer = http::once(gateway.intake, &post("{}")).await;
            assert_eq!(answer.status, status, "{networks}: {}", answer.text());
        }
        let stored = if status == 204 { 3 } else { 0 };
        assert_eq!(bodies(&gateway, "default").await.len(), stored);
        // The sender's loss is told of, and not with a line for each.
        let log = gateway.log();
        let told = log.lines().filter(|line| line.contains("notifications are refused")).count();
        assert_eq!(told, usize::from(status == 403), "{log}");
    }
}

#[tokio::test]
async fn with_a_certificate_the_intake_speaks_tls_only() {
    let setup = Setup::new();
    let made = setup.command(["pki", "init"]).output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let pki = setup.data_dir().join("pki");
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let setup =
        setup.set("INTAKE__CERT", &file("server.pem")).set("INTAKE__KEY", &file("server.key"));
    let gateway = setup.start().await;

    let config = tls::client_config(Some(&pki.join("ca.pem")), None).unwrap();
    let stream = TcpStream::connect(gateway.intake).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let mut client = Client::over(stream);
    for _ in 0..2 {
        assert_eq!(client.exchange(&post("{}")).await.unwrap().status, 204);
    }
    let mut plain = Client::connect(gateway.intake).await.unwrap();
    plain.send(&post("{}")).await.unwrap();
    // What comes is a TLS alert, and no HTTP.
    assert!(plain.answer().await.is_err());
    assert_eq!(bodies(&gateway, "default").await.len(), 2);
}
