//! The streams and their states, and what there is not.

use super::support::{Api, fill, post};
use crate::common::gateway::{Gateway, Setup};

#[tokio::test]
async fn streams_tell_their_epoch_ends_bytes_and_consumers() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    post(&gateway, "/notify/press", b"{}").await;
    fill(&gateway, 7).await;
    api.acknowledge("job", 3).await;

    let all = api.get("/v1/streams").await.json();
    let names: Vec<&str> =
        all["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "press"]);

    let stream = api.stream("default").await;
    assert_eq!(stream, all["streams"][0]);
    assert_eq!(
        (&stream["earliest"], &stream["next"], &stream["records"]),
        (&0.into(), &7.into(), &7.into())
    );
    assert!(!stream["epoch"].as_str().unwrap().is_empty());
    assert!(stream["bytes"].as_u64().unwrap() > 0);
    let consumer = &stream["consumers"][0];
    assert_eq!(
        (&consumer["name"], &consumer["position"], &consumer["lag"]),
        (&"job".into(), &3.into(), &4.into())
    );
}

#[tokio::test]
async fn each_gateway_answers_under_its_own_id_too_and_under_no_other() {
    let gateway = Setup::new().set("ID", "plant-1").start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 2).await;
    assert_eq!(api.get("/v1/streams").await.json()["gateway"], "plant-1");
    for path in ["/v1/streams", "/v1/streams/default", "/v1/streams/default/records?from=0"] {
        let own = path.replace("/v1/", "/v1/gateways/plant-1/");
        assert_eq!(api.get(&own).await.body, api.get(path).await.body, "{own}");
        let other = path.replace("/v1/", "/v1/gateways/plant-2/");
        assert_eq!(api.get(&other).await.status, 404, "{other}");
    }
    let path = "/v1/gateways/plant-1/streams/default/consumers/job";
    assert_eq!(api.ask("PUT", path, "{\"position\":2}").await.status, 200);
    let path = "/gateways/plant-1/v2/entities/a/attrs";
    assert_eq!(api.ask("PATCH", path, "{\"a\":{\"value\":1}}").await.status, 204);
    let path = "/gateways/plant-2/v2/entities/a/attrs";
    assert_eq!(api.ask("PATCH", path, "{\"a\":{\"value\":1}}").await.status, 404);
}

#[tokio::test]
async fn what_there_is_not_or_not_for_that_method_is_said() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    let records = "/v1/streams/default/records";
    let cases = [
        ("GET", "/", 404, "there is nothing at /; see /v1/streams"),
        ("GET", "/v1/streams/none", 404, "there is no stream none"),
        ("GET", "/v1/streams/none/records?from=0", 404, "there is no stream none"),
        ("POST", "/v1/streams", 405, "does not take that method"),
        ("DELETE", "/v1/streams/default", 405, "does not take that method"),
        ("GET", "/v1/streams/default/consumers/job", 405, "does not take that method"),
        ("GET", "/v2/entities", 405, "read from Orion itself"),
        ("GET", records, 400, "from is missing"),
        ("GET", "/v1/streams/default/records?from=0&form=1", 400, "form is not a parameter here"),
        ("GET", "/v1/streams/default/records?from=0&from=1", 400, "from is given twice"),
        ("GET", "/v1/streams/default/records?from=-1", 400, "from=-1 is not a whole number"),
        ("GET", "/v1/streams/default/records?from=0&until=x", 400, "until=x is not a whole number"),
        ("GET", "/v1/streams/default/records?from=0&wait=soon", 400, "wait=soon is not a duration"),
        ("GET", "/v1/streams/default/records?from=0&epoch=%ff", 400, "not UTF-8"),
        ("DELETE", "/v1/streams/default/consumers/none", 404, "default has no consumer none"),
    ];
    for (method, path, status, says) in cases {
        let answer = api.ask(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        let description = answer.json()["description"].to_string();
        assert!(description.contains(says), "{method} {path}: {description}");
    }
}
