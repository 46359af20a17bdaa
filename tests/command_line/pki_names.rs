//! `ngsi-ferry pki init --name` where the first start has made an authority.

use reqwest::StatusCode;

use super::support::{ok, run};
use crate::common::gateway::{DEADLINE, Gateway};

#[tokio::test]
async fn names_are_added_to_the_certificate_of_a_gateway_that_runs_already() {
    let gateway = Gateway::start().await;
    let setup = gateway.setup();
    let name = "edge1.plant.example";
    let said = ok(setup, &["pki", "init", "--name", name]).await.out;
    assert!(said.contains(name) && said.contains("localhost"), "{said}");
    let again = ok(setup, &["pki", "init", "--name", name]).await.out;
    assert!(again.contains("already"), "{again}");
    assert_eq!(run(setup, &["pki", "init", "--name", "not a name"]).await.code, Some(1));
    assert_eq!(run(setup, &["pki", "init"]).await.code, Some(1), "it is there");

    // The client's certificate of before, and the new name.
    let pki = setup.data_dir().join("pki");
    let identity = (pki.join("client.pem"), pki.join("client.key"));
    gateway.signal("HUP");
    let url = format!("https://{name}:{}/v1/streams", gateway.spark.port());
    let answered = async {
        loop {
            ngsi_ferry::tls::install_provider();
            let identity = Some((identity.0.as_path(), identity.1.as_path()));
            let tls = ngsi_ferry::tls::client_config(Some(&pki.join("ca.pem")), identity).unwrap();
            let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
            let client = client.resolve(name, gateway.spark).build().unwrap();
            if let Ok(answer) = client.get(&url).send().await {
                return answer.status();
            }
        }
    };
    let status = tokio::time::timeout(DEADLINE, answered).await.expect("the name is not known");
    assert_eq!(status, StatusCode::OK);
}
