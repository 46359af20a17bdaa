//! Slow readers, and more connections than are allowed.

use std::sync::Arc;
use std::time::Duration;

use ngsi_ferry::tls::client_config;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{Api, fill_large, post};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{Client, bare_request};

async fn connect(gateway: &Gateway, receive_buffer: u32) -> Client<TlsStream<TcpStream>> {
    let pki = gateway.setup().data_dir().join("pki");
    let (cert, key) = (pki.join("client.pem"), pki.join("client.key"));
    let config = client_config(Some(&pki.join("ca.pem")), Some((&cert, &key))).unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(receive_buffer).unwrap();
    let stream = socket.connect(gateway.spark).await.unwrap();
    let name = "localhost".try_into().unwrap();
    Client::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
}

#[tokio::test]
async fn readers_that_take_nothing_hold_nobody_up() {
    let gateway = Gateway::start().await;
    fill_large(&gateway, 60).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&gateway, 4096).await;
        let path = "/v1/streams/default/records?from=0&max_bytes=100000000";
        client.send(&bare_request("GET", path)).await.unwrap();
        slow.push(client);
    }
    let others = async {
        let api = Api::of(&gateway);
        let (mut from, mut seen) = (0, 0);
        while from < 60 {
            let answer = api.records(&format!("from={from}&max_bytes=100000000")).await;
            seen += answer.numbers().len();
            from = answer.next();
        }
        assert_eq!(seen, 60);
        post(&gateway, "/notify", &vec![b'x'; 8 << 20]).await;
    };
    tokio::time::timeout(Duration::from_secs(20), others).await.expect("held up by slow readers");
    // Slow is not broken: they get theirs whole.
    for mut client in slow {
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.ends_with(b"}\n"));
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_for_too_long_is_cut_off_and_its_memory_freed() {
    // An answer larger than what the kernel holds for a reader.
    let setup = Setup::new().set("BYTES_IN_FLIGHT", "16MiB");
    let gateway = setup.set("SPARK__BODY_TIMEOUT", "500ms").start().await;
    fill_large(&gateway, 60).await;
    let mut slow = connect(&gateway, 4096).await;
    let path = "/v1/streams/default/records?from=0&max_bytes=100000000";
    slow.send(&bare_request("GET", path)).await.unwrap();
    let in_flight = async |expected: bool| {
        let state = async { while (gateway.status().await["bytes_in_flight"] != 0) != expected {} };
        tokio::time::timeout(Duration::from_secs(10), state).await.expect("bytes in flight");
    };
    in_flight(true).await;
    in_flight(false).await;
    assert!(slow.answer().await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let gateway = Setup::new().set("SPARK__MAX_CONNECTIONS", "2").start().await;
    let (mut one, other) = (connect(&gateway, 65536).await, connect(&gateway, 65536).await);
    let mut third = std::pin::pin!(connect(&gateway, 65536));
    let asked = bare_request("GET", "/v1/streams");
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = third.as_mut() => panic!("a third connection"),
            answer = one.exchange(&asked) => assert_eq!(answer.unwrap().status, 200),
        }
    }
    drop(other);
    let mut third = third.await;
    assert_eq!(third.exchange(&asked).await.unwrap().status, 200);
}
