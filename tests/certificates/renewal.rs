//! New certificates while the gateway serves.

use std::path::PathBuf;

use ngsi_ferry::certificates::{File, Origin, User, Watch};
use ngsi_ferry::tls;
use serde_json::Value;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{Client, bare_request};
use crate::support::*;

const READERS: usize = 6;
const ROUNDS: u64 = 5;

fn pki(gateway: &Gateway) -> PathBuf {
    gateway.setup().data_dir().join("pki")
}

/// Reads on by long-polls until it has all of `until`; how many requests that
/// took. With `anew` each request has a connection of its own.
async fn read_on(client: reqwest::Client, url: String, until: u64) -> Result<u64, String> {
    let (mut from, mut requests) = (0, 0);
    while from < until {
        let url = format!("{url}?from={from}&wait=5s");
        let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        if answer.status() != 200 {
            return Err(format!("{answer:?}"));
        }
        let next = answer.headers()["ngsi-ferry-next"].to_str().unwrap().parse::<u64>().unwrap();
        let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
        let seqs: Vec<u64> = body
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect();
        if seqs != (from..next).collect::<Vec<_>>() {
            return Err(format!("{seqs:?} and not {from}..{next}"));
        }
        from = next;
        requests += 1;
    }
    Ok(requests)
}

#[tokio::test]
async fn readers_that_wait_while_certificates_are_renewed_see_no_error() {
    let gateway = Gateway::start().await;
    let pki = pki(&gateway);
    let url = gateway.spark_url("/v1/streams/default/records");
    let records = 10 * (ROUNDS + 1);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let client = if reader % 2 == 0 {
            gateway.spark_client()
        } else {
            // Never keeps a connection: a handshake for each request.
            let (ca, cert, key) =
                (pki.join("ca.pem"), pki.join("client.pem"), pki.join("client.key"));
            let tls = tls::client_config(Some(&ca), Some((&cert, &key))).unwrap();
            let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
            builder.pool_max_idle_per_host(0).build().unwrap()
        };
        readers.spawn(read_on(client, url.clone(), records));
    }
    let mut kept = Client::over(connect(gateway.spark, &pki, "client").await.unwrap());
    let asked = bare_request("GET", "/v1/streams");
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200);
    let mut before = shown(&connect(gateway.spark, &pki, "client").await.unwrap());

    for round in 0..=ROUNDS {
        if round > 0 {
            let arguments = ["pki", "renew", "--new-keys"];
            let arguments = if round == ROUNDS { &arguments[..] } else { &arguments[..2] };
            let told = ok(gateway.setup(), arguments).await;
            assert!(told.contains("uses what is new for it: spark.cert"), "{told}");
            let after = shown(&connect(gateway.spark, &pki, "client").await.unwrap());
            assert_ne!(after, before, "round {round}: whoever connects now sees the new one");
            before = after;
        }
        for id in 0..10 {
            notify(&gateway, &format!("{round}:{id}")).await;
        }
    }
    let mut requests = 0;
    while let Some(read) = readers.join_next().await {
        requests += read.unwrap().unwrap();
    }
    assert!(requests > READERS as u64, "nobody waited");
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200, "a connection from before");
    assert!(!gateway.log().contains("a TLS connection was refused"), "{}", gateway.log());
}

#[tokio::test]
async fn files_of_the_users_own_are_taken_over_and_broken_ones_are_not() {
    let setup = Setup::new();
    let (own, other) = (setup.folder().join("own"), setup.folder().join("other"));
    for dir in [&own, &other] {
        ok(&setup, &["pki", "init", "--dir", text(dir)]).await;
    }
    let gateway = setup
        .set("SPARK__CERT", text(&own.join("server.pem")))
        .set("SPARK__KEY", text(&own.join("server.key")))
        .set("SPARK__CLIENT_CA", text(&own.join("ca.pem")))
        .start()
        .await;
    let before = shown(&connect(gateway.spark, &own, "client").await.unwrap());
    let told = ok(gateway.setup(), &["pki", "renew", "--dir", text(&own)]).await;
    assert!(told.contains("uses what is new for it: spark.cert"), "{told}");
    let renewed = shown(&connect(gateway.spark, &own, "client").await.unwrap());
    assert_ne!(renewed, before);
    line(&gateway.log(), &["INFO", "renewed files are in use", "spark.cert"]);

    // Somebody puts a certificate there whose key he forgets.
    std::fs::copy(other.join("server.pem"), own.join("server.pem")).unwrap();
    let told = ok(gateway.setup(), &["pki", "renew", "--dir", text(&other)]).await;
    assert!(told.contains("KEEPS ITS OLD ONES") && told.contains("does not belong"), "{told}");
    assert_eq!(shown(&connect(gateway.spark, &own, "client").await.unwrap()), renewed);
    line(&gateway.log(), &["WARN", "server.pem (spark.cert)", "stays in use"]);
    let status = ok(gateway.setup(), &["status"]).await;
    assert!(status.contains("! ") && status.contains("stays in use"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_noticed_within_a_minute_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "old").unwrap();
    let (out, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let (watched, read) = (path.clone(), path.clone());
    let user = User {
        name: "orion.ca".to_owned(),
        files: Box::new(move || vec![watched.clone()]),
        take_over: Box::new(move || {
            out.send(std::fs::read_to_string(&read).unwrap()).map_err(|error| error.to_string())
        }),
    };
    let file = File { path: path.clone(), used_as: "orion.ca".into(), origin: Origin::Authority };
    let watch = Watch::new(None, vec![file], Vec::new()).with_users(vec![user]);
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(std::sync::Arc::new(watch).run(stop.clone()));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    std::fs::write(&path, "new").unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(taken.recv().await.as_deref(), Some("new"));
    assert!(begun.elapsed() <= std::time::Duration::from_mins(1), "{:?}", begun.elapsed());
    stop.cancel();
    running.await.unwrap();
}
