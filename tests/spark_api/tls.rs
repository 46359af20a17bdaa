//! Who gets a connection: TLS 1.3, and a certificate of our authority.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

use crate::common::gateway::{DEADLINE, Gateway, Setup};

/// curl, because it can be told to use an older TLS.
async fn curl(gateway: &Gateway, identity: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/stderr", "-w", "%{http_code}", "--noproxy", "*"]);
    command.arg("--cacert").arg(gateway.setup().data_dir().join("pki/ca.pem"));
    if let Some(pki) = identity {
        command.arg("--cert").arg(pki.join("client.pem"));
        command.arg("--key").arg(pki.join("client.key"));
    }
    let url = gateway.spark_url("/v1/streams");
    command.args(arguments).arg(url).output().await.unwrap()
}

fn status(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn only_a_certificate_of_our_authority_and_only_tls_1_3_is_let_in() {
    let gateway = Gateway::start().await;
    let own = gateway.setup().data_dir().join("pki");
    let other = gateway.setup().folder().join("other");
    let made = gateway.setup().command(["pki", "init", "--dir", other.to_str().unwrap()]);
    assert!({ made }.output().await.unwrap().status.success());

    let let_in = curl(&gateway, Some(&own), &["--tlsv1.3"]).await;
    assert_eq!(status(&let_in), "200", "{let_in:?}");
    for (what, identity, arguments) in [
        ("no certificate", None, &["--tlsv1.3"][..]),
        ("another authority's", Some(other.as_path()), &["--tlsv1.3"]),
        ("TLS 1.2", Some(&own), &["--tls-max", "1.2"]),
    ] {
        let refused = curl(&gateway, identity, arguments).await;
        assert_eq!(status(&refused), "000", "{what}: {refused:?}");
        assert!(!refused.status.success(), "{what}");
    }
    // The client may hear of it before the line is written.
    let refused = || gateway.log().matches("a TLS connection was refused").count();
    let told = async {
        while refused() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("not each is told");
    assert_eq!(refused(), 3, "{}", gateway.log());
}

#[tokio::test]
async fn plain_http_is_not_spoken() {
    let gateway = Gateway::start().await;
    let mut plain = crate::common::http::Client::connect(gateway.spark).await.unwrap();
    plain.send(&crate::common::http::bare_request("GET", "/v1/streams")).await.unwrap();
    assert!(plain.answer().await.is_err());
}

#[tokio::test]
async fn with_tokens_a_certificate_may_be_left_out_but_not_be_anothers() {
    let setup = Setup::new().set_file("SPARK__TOKEN_FILE", "spark-1 0123456789abcdef\n");
    let gateway = setup.start().await;
    let own = gateway.setup().data_dir().join("pki");
    let bearer = ["-H", "Authorization: Bearer 0123456789abcdef"];
    assert_eq!(status(&curl(&gateway, None, &bearer).await), "200");
    assert_eq!(status(&curl(&gateway, Some(&own), &[]).await), "200");
    assert_eq!(status(&curl(&gateway, None, &[]).await), "401");
    let other = gateway.setup().folder().join("other");
    let made = gateway.setup().command(["pki", "init", "--dir", other.to_str().unwrap()]);
    assert!({ made }.output().await.unwrap().status.success());
    assert_eq!(status(&curl(&gateway, Some(&other), &bearer).await), "000");
}
