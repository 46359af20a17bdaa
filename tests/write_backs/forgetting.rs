//! What is remembered of queries is bounded, and nothing is applied twice for
//! that: a query that was forgotten is refused.

use ::http::Method;
use serde_json::json;

use super::helpers::{create, dead_letters, now, replayed, towards, until};
use crate::common::gateway::Gateway;
use crate::common::orion::OrionStandIn;
use crate::common::spark::{Reply, Spark, row};

/// As many queries as the gateway remembers, at most, before it forgets some.
const MOST: usize = 512 + 64;

/// The queries whose last batch stands in the state of the write-back log.
fn remembered(gateway: &Gateway) -> usize {
    let state = gateway.setup().data_dir().join("write-backs/state.a");
    let bytes = std::fs::read(state).unwrap();
    // Behind its end there may be the rest of a longer one before it.
    let (len, rest) = bytes.split_first_chunk::<4>().unwrap();
    let text = &rest[4..][..u32::from_le_bytes(*len) as usize];
    String::from_utf8_lossy(text).matches("committed:").count()
}

async fn commit_once(spark: &Spark, query: &str) -> Reply {
    let path = format!("/v1/write-backs/{query}/0/commit");
    let body = json!({"attempts": ["a"], "once": true}).to_string().into_bytes();
    spark.request(Method::POST, &path, &[], body).await.unwrap()
}

async fn increments() -> (OrionStandIn, [serde_json::Value; 1]) {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let increment = json!({"n": {"type": "Number", "value": {"$inc": 1}}});
    (orion, [row("PATCH", "/v2/entities/urn:a/attrs", &increment)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_so_many_others_came_after_is_refused_and_never_applied_again() {
    let (orion, rows) = increments().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for query in ["early", "used-again"] {
        spark.stage((query, 7), "a", &rows).await;
        assert_eq!(spark.commit((query, 7), &["a"]).await.done(), "now");
    }
    // Waits for its commit while all the others come.
    spark.stage(("waiting", 0), "a", &rows).await;
    assert_eq!(spark.commit(("waiting", 0), &["a"]).await.done(), "now");
    spark.stage(("waiting", 1), "a", &rows).await;
    for other in 0..MOST {
        if other == MOST / 2 {
            spark.stage(("used-again", 8), "a", &rows).await;
            assert_eq!(spark.commit(("used-again", 8), &["a"]).await.done(), "now");
        }
        let query = format!("other-{other}");
        spark.stage((&query, 0), "a", &[]).await;
        assert_eq!(spark.commit((&query, 0), &["a"]).await.done(), "now");
    }
    assert!(remembered(&gateway) <= MOST, "{}", remembered(&gateway));
    replayed(&gateway).await;
    let gateway = gateway.kill().await.start().await;
    let spark = Spark::of(&gateway);
    let staged = spark.stage(("early", 7), "b", &rows).await;
    let committed = spark.commit(("early", 7), &["a"]).await;
    let later = spark.stage(("early", 8), "a", &rows).await;
    for refused in [staged, committed, later] {
        assert_eq!(refused.status, 410, "{refused:?}");
        assert_eq!(refused.json()["error"], "Forgotten");
    }
    assert_eq!(spark.commit(("used-again", 8), &["a"]).await.done(), "before");
    assert_eq!(spark.stage(("used-again", 8), "b", &rows).await.done(), "before");
    assert_eq!(spark.commit(("waiting", 1), &["a"]).await.done(), "now");
    let dead = dead_letters(&gateway).await.len() as u64;
    // early, used-again twice, waiting twice; one that a kill met is ambiguous.
    let applied = now(&orion, "urn:a").as_u64().unwrap();
    assert!(applied <= 5 && applied + dead >= 5, "{applied}, {dead} dead");
}

#[tokio::test]
async fn a_query_of_one_batch_is_forgotten_after_a_while_and_its_repeat_is_refused() {
    let (orion, rows) = increments().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.stage(("single", 0), "a", &rows).await;
    assert_eq!(commit_once(&spark, "single").await.done(), "now");
    assert_eq!(commit_once(&spark, "single").await.done(), "before");
    spark.stage(("goes-on", 0), "a", &rows).await;
    assert_eq!(spark.commit(("goes-on", 0), &["a"]).await.done(), "now");
    let gateway = gateway.kill().await.start().await;
    let spark = Spark::of(&gateway);
    assert_eq!(commit_once(&spark, "single").await.done(), "before", "a kill takes nothing");
    let gateway = gateway.kill().await.set("SPARK__STAGE_EXPIRY", "1s").start().await;
    let spark = Spark::of(&gateway);
    until("it is forgotten", async || remembered(&gateway) == 1).await;
    let repeated = commit_once(&spark, "single").await;
    assert_eq!((repeated.status, &repeated.json()["error"]), (410, &json!("Gone")));
    assert_eq!(spark.commit(("goes-on", 0), &["a"]).await.done(), "before");
    let dead = dead_letters(&gateway).await.len() as u64;
    let applied = now(&orion, "urn:a").as_u64().unwrap();
    assert!(applied <= 2 && applied + dead >= 2, "{applied}, {dead} dead");
}
