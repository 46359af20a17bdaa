//! Write-backs that Spark gives to the relay, on their way to Orion.

use ::http::Method;
use serde_json::json;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::OrionStandIn;
use crate::common::spark::{Spark, number};
use crate::edge;
use crate::pair::{EDGE, Pair, count, status, until, wipe};

struct Plant {
    orion: OrionStandIn,
    pair: Pair,
}

impl Plant {
    async fn start() -> Self {
        Self::with(Setup::new(), edge::relay()).await
    }

    async fn with(edge: Setup, relay: Setup) -> Self {
        let orion = OrionStandIn::start().await;
        let entity = json!({"id": "e", "type": "T", "n": {"type": "Number", "value": 0}});
        let raw = http::json_request("POST", "/v2/entities", &entity);
        let made = Client::connect(orion.addr()).await.unwrap().exchange(&raw).await.unwrap();
        assert_eq!(made.status, 201, "{made:?}");
        let pair = Pair::of(edge.set("ORION__URL", &orion.url()), relay).await;
        let plant = Self { orion, pair };
        let known = async || plant.spark().abort(("nothing", 0)).await.status == 200;
        until("the relay has an outbox for the gateway", known).await;
        plant
    }

    fn spark(&self) -> Spark {
        Spark::through(&self.pair.relay, EDGE)
    }

    /// What reached Orion so far, in order.
    fn values(&self) -> Vec<u64> {
        let history = self.orion.history("", "e");
        let updates = history.iter().filter(|applied| applied.operation != "create");
        updates.map(|applied| applied.sent["n"]["value"].as_u64().unwrap()).collect()
    }

    async fn reached(&self, values: &[u64]) {
        until("what was written reaches Orion", async || self.values().len() >= values.len()).await;
        assert_eq!(self.values(), values);
    }
}

#[tokio::test]
async fn what_is_committed_at_the_relay_reaches_orion_once_and_in_order() {
    let plant = Plant::start().await;
    let spark = plant.spark();
    spark.stage(("q", 0), "a", &[number("e", "n", 1), number("e", "n", 2)]).await;
    spark.stage(("q", 0), "never", &[number("e", "n", 99)]).await;
    spark.stage(("q", 0), "b", &[number("e", "n", 3)]).await;
    assert_eq!(spark.commit(("q", 0), &["a", "b"]).await.done(), "now");
    assert_eq!(spark.commit(("q", 0), &["a", "b"]).await.done(), "before");
    spark.set("e", "n", 4).await;
    plant.reached(&[1, 2, 3, 4]).await;
    // A query of the same name that writes to the gateway itself is another.
    let direct = Spark::of(&plant.pair.edge);
    direct.stage(("q", 0), "a", &[number("e", "n", 5)]).await;
    assert_eq!(direct.commit(("q", 0), &["a"]).await.done(), "now");
    plant.reached(&[1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn an_attempt_is_committed_though_the_gateway_was_killed_and_its_own_time_is_over() {
    let mut plant = Plant::start().await;
    plant.spark().stage(("q", 0), "a", &[number("e", "n", 1)]).await;
    let pulled = async |plant: &Plant| {
        let edge = &plant.pair.edge;
        until("it is pulled", async || status(edge).await["pulled_entries"] == 1).await;
    };
    pulled(&plant).await;
    let setup = plant.pair.edge.kill().await.set("SPARK__STAGE_EXPIRY", "1s");
    plant.pair.edge = setup.start().await;
    // Its own ones expire meanwhile.
    let direct = Spark::of(&plant.pair.edge);
    direct.stage(("direct", 0), "a", &[number("e", "n", 9)]).await;
    let expired = async || plant.pair.edge.log().contains("staged attempts expired");
    until("an own attempt expires", expired).await;
    assert_eq!(plant.spark().commit(("q", 0), &["a"]).await.done(), "now");
    plant.reached(&[1]).await;
}

#[tokio::test]
async fn a_wiped_outbox_is_told_of_and_repeats_nothing() {
    let mut plant = Plant::start().await;
    plant.spark().stage(("q", 0), "a", &[number("e", "n", 1)]).await;
    plant.spark().commit(("q", 0), &["a"]).await;
    plant.spark().stage(("q", 1), "b", &[number("e", "n", 99)]).await;
    plant.reached(&[1]).await;
    until("all is pulled", async || status(&plant.pair.edge).await["pulled_entries"] == 3).await;
    let setup = plant.pair.relay.kill().await;
    wipe(&setup.data_dir().join("outboxes"));
    plant.pair.relay = setup.start().await;
    plant.pair.line.lead_to(plant.pair.relay.spark);
    until("the relay is asked again", async || {
        Spark::through(&plant.pair.relay, EDGE)
            .try_stage(("q", 0), "a", &[number("e", "n", 1)])
            .await
            .is_ok_and(|reply| reply.status == 200)
    })
    .await;
    // As Spark, which was not told that its commit had counted.
    assert_eq!(plant.spark().commit(("q", 0), &["a"]).await.done(), "now");
    plant.spark().stage(("q", 2), "c", &[number("e", "n", 2)]).await;
    plant.spark().commit(("q", 2), &["c"]).await;
    plant.reached(&[1, 2]).await;
    assert_eq!(count(&plant.pair.edge.log(), "the relay has begun a new outbox"), 1);
}

#[tokio::test]
async fn a_wiped_gateway_repeats_nothing_and_still_takes_the_commit_of_what_was_staged() {
    let mut plant = Plant::start().await;
    plant.spark().set("e", "n", 1).await;
    plant.spark().stage(("q", 0), "a", &[number("e", "n", 2)]).await;
    plant.reached(&[1]).await;
    until("all is pulled", async || status(&plant.pair.edge).await["pulled_entries"] == 2).await;
    // The place is noted a second after the last entry.
    let settled = async || {
        let api = crate::edge::Edge::of(&plant.pair.relay, EDGE).await;
        let state = api.api.get(&api.path("write-backs")).await.json();
        let consumers = state["consumers"].as_array().cloned().unwrap_or_default();
        consumers.iter().any(|one| one["name"] == "uplink" && one["position"] == 2)
    };
    until("the relay is told how far it is", settled).await;
    let setup = plant.pair.edge.kill().await;
    wipe(&setup.data_dir());
    plant.pair.edge = setup.start().await;
    plant.spark().commit(("q", 0), &["a"]).await;
    plant.reached(&[1, 2]).await;
}

/// The queries whose last batch stands in the state of a log of write-backs.
fn remembered(gateway: &Gateway, log: &str) -> Vec<String> {
    let state = std::fs::read(gateway.setup().data_dir().join(log).join("state.a")).unwrap();
    let text = String::from_utf8_lossy(&state).into_owned();
    let marks = text.split("\"committed:").skip(1);
    marks.filter_map(|mark| Some(mark.split_once('"')?.0.to_owned())).collect()
}

#[tokio::test]
async fn neither_side_remembers_a_query_of_one_batch_for_ever() {
    let short = |setup: Setup| setup.set("SPARK__STAGE_EXPIRY", "2s");
    let plant = Plant::with(short(Setup::new()), short(edge::relay())).await;
    let spark = plant.spark();
    let once = async || {
        let body = json!({"attempts": ["a"], "once": true}).to_string().into_bytes();
        let path = "/v1/write-backs/single/0/commit";
        spark.request(Method::POST, path, &[], body).await.unwrap()
    };
    spark.stage(("single", 0), "a", &[number("e", "n", 1)]).await;
    assert_eq!(once().await.done(), "now");
    assert_eq!(once().await.done(), "before");
    spark.stage(("goes-on", 0), "a", &[number("e", "n", 2)]).await;
    assert_eq!(spark.commit(("goes-on", 0), &["a"]).await.done(), "now");
    plant.reached(&[1, 2]).await;
    let outbox = format!("outboxes/{EDGE}");
    until("both have forgotten it", async || {
        remembered(&plant.pair.relay, &outbox) == ["goes-on"]
            && remembered(&plant.pair.edge, "write-backs") == ["~goes-on"]
    })
    .await;
    assert_eq!(once().await.status, 410);
    assert_eq!(spark.commit(("goes-on", 0), &["a"]).await.done(), "before");
    plant.reached(&[1, 2]).await;
}
