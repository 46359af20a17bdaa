//! Years pass: what the gateway renews, and what it says.

use std::time::{Duration, SystemTime};

use ngsi_ferry::tls;

use crate::common::clock::{Clock, LIBRARY};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{Client, bare_request};
use crate::support::*;

const DAY: Duration = Duration::from_hours(24);

async fn metrics(gateway: &Gateway) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/metrics", gateway.admin);
    client.get(url).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_box_left_alone_renews_its_own_certificate_and_says_what_it_cannot() {
    let setup = Setup::new();
    let clock = Clock::new(&setup, "+0");
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let pki = gateway.setup().data_dir().join("pki");
    let asked = bare_request("GET", "/v1/streams");
    let stream = connect(gateway.spark, &pki, "client").await.unwrap();
    let before = shown(&stream);
    let mut kept = Client::over(stream);
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200);
    let end = tls::not_after(&pki.join("server.pem")).unwrap();
    let problems = async || {
        let status = gateway.status().await;
        let all = status["certificates"].as_array().unwrap().clone();
        let of = |name: &str| {
            let one = all.iter().find(|one| one["path"].as_str().unwrap().ends_with(name));
            one.unwrap_or_else(|| panic!("{name} is not watched: {status}"))["problem"].clone()
        };
        ["server.pem", "ca.pem", "client.pem"].map(of)
    };
    assert!(problems().await.iter().all(serde_json::Value::is_null));

    clock.jump("+560d");
    says(&gateway, "the gateway renewed its own certificate").await;
    let renewed = async || {
        let stream = connect(gateway.spark, &pki, "client").await.unwrap();
        shown(&stream) != before
    };
    until("whoever connects now sees the new one", renewed).await;
    assert!(tls::not_after(&pki.join("server.pem")).unwrap() > end + 500 * DAY);
    assert_eq!(kept.exchange(&asked).await.unwrap().status, 200, "a connection from before");
    assert!(problems().await.iter().all(serde_json::Value::is_null));

    // The client's copy is Spark's: nobody but a person can renew that.
    clock.jump("+810d");
    says(&gateway, "client.pem (the client client)").await;
    let date = humantime::format_rfc3339(end).to_string()[..10].to_owned();
    let told = line(&gateway.log(), &["client.pem (the client client)", "WARN"]);
    for part in [&*format!("on {date}"), "run `ngsi-ferry pki renew`", "give the new client.pem"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    line(&gateway.log(), &["WARN", "of the client client", &date]);
    let [server, ca, client] = problems().await;
    assert!(server.is_null() && ca.is_null(), "{server} {ca}");
    assert!(client.as_str().unwrap().contains(&date));
    let path = pki.join("client.pem");
    let gauge = |value| format!("certificate_problem{{path=\"{}\"}} {value}", path.display());
    assert!(metrics(&gateway).await.contains(&gauge(1)));
    let end_seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let shown_last =
        format!("client_certificate_expiry_seconds{{client=\"client\"}} {end_seconds}");
    assert!(metrics(&gateway).await.contains(&shown_last));
    let text = ok(gateway.setup(), &["status"]).await;
    assert!(text.contains("! ") && text.contains("client.pem (the client client): expires in"));

    clock.jump("+826d");
    let expired = async || {
        let log = gateway.log();
        log.lines().any(|line| line.contains("ERROR") && line.contains("client.pem (the client"))
    };
    until("its end is an error", expired).await;

    // Back to when all was well, and before: nothing is wrong by those clocks.
    for says in ["+0", "1970-01-02 00:00:00"] {
        clock.jump(says);
        let calm = async || problems().await.iter().all(serde_json::Value::is_null);
        until("the warnings end", calm).await;
    }
    assert!(metrics(&gateway).await.contains(&gauge(0)));
    let mut again = Client::over(connect(gateway.spark, &pki, "client").await.unwrap());
    assert_eq!(again.exchange(&asked).await.unwrap().status, 200);
    let (setup, ended) = gateway.stop().await;
    assert!(ended.success());
    // A day has not passed: each was said once.
    let warnings = setup.log().matches("client.pem (the client client)").count();
    assert_eq!(warnings, 2, "{}", setup.log());
}
