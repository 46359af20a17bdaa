//! A box that begins in 1970: what it keeps, and whom it finds once it knows
//! the time.

use std::time::{Duration, SystemTime};

use ngsi_ferry::tls::{self, Acceptor, ClientCertificates, ServerTls, Versions};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::common::clock::{Clock, LIBRARY};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{Client, bare_request};
use crate::common::orion::OrionStandIn;
use crate::company::Company;
use crate::support::*;

const UNSET: &str = "1970-01-01 00:01:00";
const DAY: Duration = Duration::from_hours(24);

/// Time enough to try at once, and not enough for a wait to be over by chance.
const AT_ONCE: Duration = Duration::from_secs(40);

#[tokio::test]
async fn what_a_box_makes_in_1970_serves_then_and_when_the_time_is_right() {
    let setup = Setup::new();
    let clock = Clock::new(&setup, UNSET);
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    says(&gateway, "the clock says 1970-01-01").await;
    line(&gateway.log(), &["WARN", "certificates cannot be verified until it is set"]);
    notify(&gateway, "kept").await;
    let pki = gateway.setup().data_dir().join("pki");
    let asked = bare_request("GET", "/v1/streams");
    let reaches = async || {
        let mut client = Client::over(connect(gateway.spark, &pki, "client").await.unwrap());
        client.exchange(&asked).await.unwrap().status
    };
    assert_eq!(reaches().await, 200, "a Spark that knows the time reads from it in 1970");
    assert_eq!(gateway.status().await["certificates"][0]["problem"], serde_json::Value::Null);
    let unset = gateway.status().await["clock_unset"].clone();
    assert!(unset.as_str().unwrap().contains("the clock says 1970"), "{unset}");
    for name in ["ca.pem", "server.pem", "client.pem"] {
        let end = tls::not_after(&pki.join(name)).unwrap();
        assert!(end > SystemTime::now() + 10 * 365 * DAY, "{name} would be over");
    }

    clock.jump("+0");
    says(&gateway, "the clock was set").await;
    assert_eq!(reaches().await, 200);
    let records = gateway.records("default", 0).await;
    assert_eq!(
        (records[0]["body"].as_str(), records[0]["clock"].as_str()),
        (Some("kept"), Some("unset"))
    );
    let status = gateway.status().await;
    assert_eq!(status["clock_unset"], serde_json::Value::Null);
    let started = status["started"].as_str().unwrap().to_owned();
    assert!(!started.starts_with("1970"), "{started}");
    assert!(!gateway.log().contains("needs care"), "{}", gateway.log());
}

#[tokio::test]
async fn clients_of_a_company_are_let_in_once_the_time_is_right() {
    let setup = Setup::new();
    let company = Company::new(&setup.folder().join("company"));
    company.sign("server", &["localhost"]);
    company.sign("spark", &["spark"]);
    let setup = setup
        .set("SPARK__CERT", text(&company.path("server.pem")))
        .set("SPARK__KEY", text(&company.path("server.key")))
        .set("SPARK__CLIENT_CA", text(&company.path("ca.pem")));
    let clock = Clock::new(&setup, UNSET);
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let folder = gateway.setup().folder().join("company");
    let asked = bare_request("GET", "/v1/streams");
    let ask = async || {
        let mut client = Client::over(connect(gateway.spark, &folder, "spark").await?);
        client.exchange(&asked).await.map(|answer| answer.status)
    };
    assert!(ask().await.is_err(), "in 1970 its certificate has not begun");
    line(&gateway.log(), &["refused", "the clock says 1970-01-01", "until it is set"]);
    clock.jump("+0");
    says(&gateway, "the clock was set").await;
    assert_eq!(ask().await.unwrap(), 200);
}

/// The relay of a company, on a machine that knows the time.
async fn relay(company: &Company) -> Gateway {
    Setup::new()
        .set("SPARK__CERT", text(&company.path("relay.pem")))
        .set("SPARK__KEY", text(&company.path("relay.key")))
        .set("SPARK__CLIENT_CA", text(&company.path("ca.pem")))
        .set("CLIENT__0__NAME", "edge1")
        .set("CLIENT__0__ALLOW", "[\"uplink\"]")
        .start()
        .await
}

#[tokio::test]
async fn the_uplink_waits_for_the_time_and_then_connects_by_itself() {
    let setup = Setup::new();
    let company = Company::new(&setup.folder().join("company"));
    company.sign("relay", &["127.0.0.1"]);
    company.sign("edge1", &["edge1"]);
    let relay = relay(&company).await;
    let setup = setup
        .set("ID", "edge1")
        .set("UPLINK__URL", &relay.spark_url(""))
        .set("UPLINK__CA", text(&company.path("ca.pem")))
        .set("UPLINK__CERT", text(&company.path("edge1.pem")))
        .set("UPLINK__KEY", text(&company.path("edge1.key")));
    let clock = Clock::new(&setup, UNSET);
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let edge = setup.start_as(command).await;
    notify(&edge, "first").await;
    says(&edge, "the relay cannot be reached").await;
    line(
        &edge.log(),
        &["the relay cannot be reached", "the clock says 1970-01-01", "until it is set"],
    );
    assert_eq!(edge.status().await["uplink"]["up"], false);

    clock.jump("+0");
    let is_there = async || edge.status().await["uplink"]["sent_records"] == 1;
    until("the relay has the record", is_there).await;
    let since = edge.status().await["uplink"]["since"].as_str().unwrap().to_owned();
    assert!(!since.starts_with("1970"), "{since}");
}

/// Orion behind TLS, as a proxy in front of it does that.
async fn tls_in_front(orion: &OrionStandIn, company: &Company) -> std::net::SocketAddr {
    let settings = ServerTls {
        cert: company.path("orion.pem"),
        key: company.path("orion.key"),
        clients: ClientCertificates::None,
        versions: Versions::Tls12And13,
    };
    let acceptor = std::sync::Arc::new(Acceptor::new(settings).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, behind) = (listener.local_addr().unwrap(), orion.addr());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = std::sync::Arc::clone(&acceptor);
            tokio::spawn(async move {
                let Ok((mut tls, _)) = acceptor.accept(stream, Duration::from_secs(10)).await
                else {
                    return;
                };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn orion_over_tls_gets_its_write_backs_when_the_time_is_right_however_long_the_wait() {
    let setup = Setup::new();
    let company = Company::new(&setup.folder().join("company"));
    company.sign("orion", &["127.0.0.1"]);
    let orion = OrionStandIn::start().await;
    let at = tls_in_front(&orion, &company).await;
    let setup = setup
        .set("ORION__URL", &format!("https://{at}"))
        .set("ORION__CA", text(&company.path("ca.pem")))
        .set("ORION__BACKOFF_MIN", "24h")
        .set("ORION__BACKOFF_MAX", "24h");
    let clock = Clock::new(&setup, UNSET);
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let spark = crate::common::spark::Spark::of(&gateway);
    spark.write("POST", "/v2/entities", &serde_json::json!({"id": "press", "type": "Press"})).await;
    says(&gateway, "Orion takes no write-backs").await;
    line(
        &gateway.log(),
        &["Orion takes no write-backs", "the clock says 1970-01-01", "until it is set"],
    );
    assert!(orion.requests().is_empty());

    clock.jump("+0");
    let begun = std::time::Instant::now();
    until("Orion has it", async || orion.entity("", "press").is_some()).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let target = gateway.status().await["replay"]["targets"][0].clone();
    assert!(!target["since"].as_str().unwrap().starts_with("1970"), "{target}");
}
