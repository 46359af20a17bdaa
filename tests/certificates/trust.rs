//! Clients that are trusted no more: connections that they have already.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{Client, bare_request};
use crate::support::*;

/// Whether a kept connection ends, though nobody asks anything.
async fn ends(client: &mut Client<Tls>) -> bool {
    tokio::time::timeout(DEADLINE, client.answer()).await.is_ok_and(|answer| answer.is_err())
}

#[tokio::test]
async fn an_authority_that_is_taken_away_ends_the_connections_that_it_let_in() {
    let setup = Setup::new();
    let (own, other) = (setup.folder().join("own"), setup.folder().join("other"));
    for dir in [&own, &other] {
        ok(&setup, &["pki", "init", "--dir", text(dir)]).await;
    }
    let read = |dir: &std::path::Path| std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    let trusted = setup.write("trusted.pem", &(read(&own) + &read(&other)));
    // The client of the other one must know the server.
    let both = read(&own) + &read(&other);
    std::fs::write(other.join("ca.pem"), both).unwrap();
    let gateway = setup
        .set("SPARK__CERT", text(&own.join("server.pem")))
        .set("SPARK__KEY", text(&own.join("server.key")))
        .set("SPARK__CLIENT_CA", text(&trusted))
        .start()
        .await;
    let asked = bare_request("GET", "/v1/streams");
    let mut stays = Client::over(connect(gateway.spark, &own, "client").await.unwrap());
    let mut goes = Client::over(connect(gateway.spark, &other, "client").await.unwrap());
    for client in [&mut stays, &mut goes] {
        assert_eq!(client.exchange(&asked).await.unwrap().status, 200);
    }

    // One more that is trusted, and a renewed server: nobody has to go.
    std::fs::write(&trusted, read(&own) + &read(&other) + &read(&own)).unwrap();
    gateway.signal("HUP");
    says(&gateway, "the configuration is taken over").await;
    for client in [&mut stays, &mut goes] {
        assert_eq!(client.exchange(&asked).await.unwrap().status, 200);
    }

    std::fs::write(&trusted, read(&own)).unwrap();
    gateway.signal("HUP");
    assert!(ends(&mut goes).await, "it may still ask");
    // It cannot be told whose: all end in order, and the trusted come back.
    assert!(ends(&mut stays).await);
    let mut back = Client::over(connect(gateway.spark, &own, "client").await.unwrap());
    assert_eq!(back.exchange(&asked).await.unwrap().status, 200);
    // With TLS 1.3 a client learns of its refusal with the first answer.
    let refused = match connect(gateway.spark, &other, "client").await {
        Err(_) => true,
        Ok(stream) => Client::over(stream).exchange(&asked).await.is_err(),
    };
    assert!(refused, "it is let in again");
}

#[tokio::test]
async fn a_denied_client_gets_nothing_more_though_it_waits_already() {
    let setup = Setup::new().set_file("SPARK__DENY_FILE", "");
    let denied = setup.folder().join("spark__deny_file");
    let gateway = setup.start().await;
    notify(&gateway, "first").await;
    let waiting = gateway.spark_client();
    let url = gateway.spark_url("/v1/streams/default/records?from=1&wait=20s");
    let waiting = tokio::spawn(waiting.get(url).send());
    // The other client is there to show that the wait has begun.
    says_connections(&gateway, 1).await;
    std::fs::write(&denied, "client\n").unwrap();
    gateway.signal("HUP");
    says(&gateway, "the configuration is taken over").await;
    notify(&gateway, "second").await;
    let answer = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    assert!(!answer.text().await.unwrap().contains("second"));
}

/// Waits until so many connections were accepted by the Spark API.
async fn says_connections(gateway: &Gateway, count: u64) {
    let url = format!("http://{}/metrics", gateway.admin);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let line = format!("ngsi_ferry_spark_connections_total {count}");
    let accepted = async || {
        let text = client.get(&url).send().await.unwrap().text().await.unwrap();
        text.contains(&line)
    };
    until("the connection is accepted", accepted).await;
}

#[tokio::test]
async fn a_denied_client_of_a_line_socket_is_disconnected_and_the_others_are_not() {
    let setup = Setup::new().set_file("SPARK__DENY_FILE", "");
    let denied = setup.folder().join("spark__deny_file");
    for arguments in [&["pki", "init"][..], &["pki", "client", "good"], &["pki", "client", "bad"]] {
        ok(&setup, arguments).await;
    }
    let pki = setup.data_dir().join("pki");
    let gateway = setup
        .set("LINE_SOCKET__0__LISTEN", "127.0.0.1:0")
        .set("LINE_SOCKET__0__FORM", "body")
        .set("LINE_SOCKET__0__CLIENTS", "repeat")
        .set("LINE_SOCKET__0__CERT", text(&pki.join("server.pem")))
        .set("LINE_SOCKET__0__KEY", text(&pki.join("server.key")))
        .set("LINE_SOCKET__0__CLIENT_CA", text(&pki.join("ca.pem")))
        .start()
        .await;
    let reader = async |name| {
        BufReader::new(connect(gateway.line_sockets[0], &pki, name).await.unwrap()).lines()
    };
    let (mut good, mut bad) = (reader("good").await, reader("bad").await);
    notify(&gateway, "first").await;
    for reader in [&mut good, &mut bad] {
        assert_eq!(reader.next_line().await.unwrap().as_deref(), Some("first"));
    }
    std::fs::write(&denied, "bad\n").unwrap();
    gateway.signal("HUP");
    let end = tokio::time::timeout(DEADLINE, bad.next_line()).await.expect("it stays connected");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    says(&gateway, "may read no more").await;
    notify(&gateway, "second").await;
    let next = tokio::time::timeout(Duration::from_secs(30), good.next_line()).await.unwrap();
    assert_eq!(next.unwrap().as_deref(), Some("second"));
}
