//! Lines over TLS: the bytes on the wire are not those of the lines.

use std::sync::Arc;

use ngsi_ferry::tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::support::*;

async fn with_tls() -> Setup {
    let setup = setup(&[("REPEAT_WINDOW", "5")]);
    let made = setup.command(["pki", "init", "--name", "127.0.0.1"]).output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let pki = setup.data_dir().join("pki");
    let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    setup
        .set("LINE_SOCKET__0__CERT", &file("server.pem"))
        .set("LINE_SOCKET__0__KEY", &file("server.key"))
        .set("LINE_SOCKET__0__CLIENT_CA", &file("ca.pem"))
}

async fn connect(
    gateway: &Gateway,
    with_certificate: bool,
) -> std::io::Result<TlsStream<TcpStream>> {
    tls::install_provider();
    let pki = gateway.setup().data_dir().join("pki");
    let (ca, cert, key) = (pki.join("ca.pem"), pki.join("client.pem"), pki.join("client.key"));
    let identity = with_certificate.then_some((&*cert, &*key));
    let config = tls::client_config(Some(&ca), identity).unwrap();
    let stream = TcpStream::connect(gateway.line_sockets[0]).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn lines_come_over_tls_and_the_position_follows_what_is_acknowledged() {
    let gateway = with_tls().await.start().await;
    send(&gateway, 0..300, 3000).await;
    let mut reader = Lines::over(connect(&gateway, true).await.unwrap());
    assert_all(&reader.take(300).await, 300);
    assert_eq!(position(&gateway, |at| at >= 295).await, 295);
    drop(reader);
    let mut reader = Lines::over(connect(&gateway, true).await.unwrap());
    reader.take(5).await;
    assert_eq!(reader.rest().await, [""; 0]);
}

#[tokio::test]
async fn who_has_no_certificate_or_no_grant_gets_no_line() {
    let setup = with_tls().await;
    let gateway = setup.start().await;
    send(&gateway, 0..1, 10).await;
    let unknown = connect(&gateway, false).await;
    if let Ok(stream) = unknown {
        assert!(Lines::over(stream).next().await.is_none());
    }
    let (setup, _) = gateway.stop().await;
    let setup = setup.set("CLIENT__0__NAME", "client").set("CLIENT__0__ALLOW__0", "write-back");
    let gateway = setup.start().await;
    let stream = connect(&gateway, true).await.unwrap();
    assert!(Lines::over(stream).next().await.is_none());
}

#[tokio::test]
async fn a_grant_for_other_gateways_alone_gives_no_line() {
    for (named, is_granted) in [("elsewhere", false), ("edge1", true)] {
        let setup = with_tls().await.set("ID", "edge1");
        let setup = setup.set("CLIENT__0__NAME", "client").set("CLIENT__0__ALLOW__0", "read");
        let gateway = setup.set("CLIENT__0__GATEWAYS__0", named).start().await;
        send(&gateway, 0..1, 10).await;
        let mut reader = Lines::over(connect(&gateway, true).await.unwrap());
        assert_eq!(reader.next().await.is_some(), is_granted, "granted for {named}");
    }
}

#[tokio::test]
async fn a_name_that_is_denied_while_it_reads_gets_no_further_line() {
    let setup = with_tls().await;
    let denied = setup.folder().join("denied");
    std::fs::write(&denied, "# nobody\n").unwrap();
    let gateway = setup.set("SPARK__DENY_FILE", denied.to_str().unwrap()).start().await;
    send(&gateway, 0..1, 10).await;
    let mut reader = Lines::over(connect(&gateway, true).await.unwrap());
    assert_eq!(reader.take(1).await.len(), 1);
    std::fs::write(&denied, "client\n").unwrap();
    gateway.signal("HUP");
    assert!(reader.next().await.is_none(), "its connection ends");
    send(&gateway, 1..2, 10).await;
    let again = connect(&gateway, true).await;
    if let Ok(stream) = again {
        assert!(Lines::over(stream).next().await.is_none());
    }
    assert!(gateway.log().contains("a denied one"), "{}", gateway.log());
    // What it did not get is there for it when it may read again.
    std::fs::write(&denied, "").unwrap();
    gateway.signal("HUP");
    let reading = async {
        loop {
            if let Ok(stream) = connect(&gateway, true).await
                && let Some(line) = Lines::over(stream).next().await
            {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(DEADLINE, reading).await.expect("it is let in again");
    assert!(number_of(&line) < 2);
}
