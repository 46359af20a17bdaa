//! `ngsi-ferry pki`, and taking new certificates over.

use std::sync::Arc;

use ngsi_ferry::tls::client_config;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{ok, run};
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{Client, bare_request};

async fn connect(gateway: &Gateway, name: &str) -> TlsStream<TcpStream> {
    let pki = gateway.setup().data_dir().join("pki");
    let file = |kind: &str| pki.join(format!("{name}.{kind}"));
    let (cert, key) = (file("pem"), file("key"));
    let config = client_config(Some(&pki.join("ca.pem")), Some((&cert, &key))).unwrap();
    let stream = TcpStream::connect(gateway.spark).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn an_authority_is_made_once_and_clients_are_added() {
    let setup = Setup::new();
    let made = ok(&setup, &["pki", "init", "--name", "ferry.plant.example"]).await.out;
    assert!(made.contains("ferry.plant.example") && made.contains("keep ca.key secret"), "{made}");
    let again = run(&setup, &["pki", "init"]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("pki"), "{again:?}");
    let client = ok(&setup, &["pki", "client", "spark-1"]).await.out;
    assert!(client.contains("for the client spark-1, valid until"), "{client}");
    for wrong in [&["pki", "client", "spark-1"][..], &["pki", "client", "Spark 1"]] {
        assert_eq!(run(&setup, wrong).await.code, Some(1), "{wrong:?}");
    }
    let gateway = setup.start().await;
    let mut client = Client::over(connect(&gateway, "spark-1").await);
    assert_eq!(client.exchange(&bare_request("GET", "/v1/streams")).await.unwrap().status, 200);
}

#[tokio::test]
async fn renew_says_that_the_running_gateway_uses_what_is_new() {
    let gateway = Gateway::start().await;
    let before = certificate(&connect(&gateway, "client").await);
    let renewed = ok(gateway.setup(), &["pki", "renew"]).await.out;
    assert!(renewed.contains("renewed ") && renewed.contains("server.pem"), "{renewed}");
    assert!(renewed.contains("its key is the same"), "{renewed}");
    assert!(renewed.contains("uses what is new for it: spark.cert"), "{renewed}");
    assert_ne!(certificate(&connect(&gateway, "client").await), before);
    let (setup, _) = gateway.stop().await;
    let alone = ok(&setup, &["pki", "renew", "--new-keys"]).await.out;
    assert!(alone.contains("with a new key"), "{alone}");
    assert!(alone.contains("no gateway answers here"), "{alone}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_old_one_in_place() {
    let gateway = Gateway::start().await;
    let before = certificate(&connect(&gateway, "client").await);
    std::fs::write(gateway.setup().data_dir().join("pki/server.pem"), "nonsense").unwrap();
    gateway.signal("HUP");
    let told = async {
        while !gateway.log().contains("a certificate is not taken over") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("nothing is said");
    assert_eq!(certificate(&connect(&gateway, "client").await), before);
}
