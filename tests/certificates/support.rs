//! What these tests share.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use ngsi_ferry::tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{self, Client};

/// Runs a command of the program, and insists on success.
pub async fn ok(setup: &Setup, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = setup.command(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(stdout), text(stderr));
    assert!(status.success(), "{arguments:?}: {out}{err}");
    out
}

/// A file's path as a setting has it.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A connection over TLS as the client of that name in a folder; `ca` lies
/// there too.
pub async fn connect(to: SocketAddr, pki: &Path, name: &str) -> std::io::Result<Tls> {
    let file = |kind: &str| pki.join(format!("{name}.{kind}"));
    let (cert, key) = (file("pem"), file("key"));
    let config = tls::client_config(Some(&pki.join("ca.pem")), Some((&cert, &key))).unwrap();
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

pub type Tls = TlsStream<TcpStream>;

/// The certificate that the server showed.
pub fn shown(stream: &Tls) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Sends a notification and insists on its 204.
pub async fn notify(gateway: &Gateway, body: &str) {
    let mut client = Client::connect(gateway.intake).await.unwrap();
    let raw = http::request("POST", "/notify", &[], body.as_bytes());
    assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
}

/// Polls what nobody tells of.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, polling).await.is_ok(), "in vain: {what}");
}

/// Waits until the log says so.
pub async fn says(gateway: &Gateway, text: &str) {
    until(text, async || gateway.log().contains(text)).await;
}

/// The line of the log that holds all of these.
pub fn line(log: &str, parts: &[&str]) -> String {
    let mut lines = log.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.next().unwrap_or_else(|| panic!("no line with {parts:?}:\n{log}")).to_owned()
}
