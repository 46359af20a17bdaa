//! From Orion to Spark and back, on the real program.

mod common;

use common::fixtures;
use common::gateway::Gateway;
use common::orion::OrionStandIn;

#[tokio::test]
async fn every_captured_notification_comes_out_byte_for_byte() {
    let gateway = Gateway::start().await;
    let fixtures = fixtures::all();
    for fixture in &fixtures {
        let answer = common::http::once(gateway.intake, &fixture.raw).await;
        assert_eq!(answer.status, 204, "{}", fixture.name);
    }
    let records = gateway.records("default", 0).await;
    assert_eq!(records.len(), fixtures.len());
    for (fixture, record) in fixtures.iter().zip(&records) {
        let stored = ngsi_ferry::record::Record::decode(record.to_string().as_bytes()).unwrap();
        let stored = stored.notification;
        assert_eq!(stored.method, fixture.method, "{}", fixture.name);
        assert_eq!(stored.path, fixture.path, "{}", fixture.name);
        assert_eq!(stored.body, fixture.body, "{}", fixture.name);
        let _ = OrionStandIn::start;
    }
}
