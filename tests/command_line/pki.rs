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
async fn renewed_certificates_are_taken_over_on_sighup_and_no_connection_drops() {
    let gateway = Gateway::start().await;
    let asked = bare_request("GET", "/v1/streams");
    let stream = connect(&gateway, "client").await;
    let before = certificate(&stream);
    let mut kept = Client::over(stream);
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200);

    let renewed = ok(gateway.setup(), &["pki", "renew"]).await.out;
    assert!(renewed.contains("renewed ") && renewed.contains("SIGHUP"), "{renewed}");
    assert_eq!(certificate(&connect(&gateway, "client").await), before, "not before SIGHUP");
    gateway.signal("HUP");
    let taken_over = async {
        loop {
            let stream = connect(&gateway, "client").await;
            if certificate(&stream) != before {
                return Client::over(stream);
            }
        }
    };
    let mut new = tokio::time::timeout(DEADLINE, taken_over).await.expect("never taken over");
    assert_eq!(new.exchange(&asked).await.unwrap().status, 200);
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200);
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
