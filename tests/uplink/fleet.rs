//! Many gateways' uplinks, the true ones, on one relay: how fast it takes what
//! they have, what memory each costs it, and how long it takes to catch up
//! after an outage.
//!
//! `NGSI_FERRY_UPLINK_GATEWAYS` sets how many, `NGSI_FERRY_UPLINK_BACKLOG` how
//! many records each has kept while the relay was away. The figures of a fleet:
//!
//! ```sh
//! NGSI_FERRY_UPLINK_GATEWAYS=200 NGSI_FERRY_UPLINK_BACKLOG=600 cargo nextest run --release \
//!     --locked --test uplink catches_up_with_a_fleet --success-output immediate
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use ngsi_ferry::budget::Budget;
use ngsi_ferry::pki;
use ngsi_ferry::record::{Line, Record, Sequence};
use ngsi_ferry::store::{self, Log, Store};
use ngsi_ferry::uplink::{Config, Inbox, Metrics, Parts, Uplink};
use ngsi_ferry::write_back::Pulled;

use crate::common::gateway::Gateway;
use crate::edge;
use crate::oracle::seed::setting;
use crate::pair::until;
use crate::spark_api::Api;

const IN_A_COMMIT: u64 = 20;

/// Nobody writes back here.
struct Nothing;

impl Inbox for Nothing {
    async fn taken_over(&self) -> Result<Option<Pulled>, String> {
        Ok(None)
    }
    async fn take_over(&self, _: Vec<Record>, _: Pulled, _: Sequence) -> Result<(), String> {
        Ok(())
    }
    async fn settle(&self) -> Result<Option<Pulled>, String> {
        Ok(None)
    }
}

struct Edge {
    log: Arc<Log>,
    store: Arc<Store>,
    uplink: Uplink<Nothing>,
}

impl Edge {
    async fn of(relay: &Gateway, at: std::net::SocketAddr, folder: &Path, name: &str) -> Self {
        let pki = relay.setup().data_dir().join("pki");
        pki::issue_client(&pki, name).unwrap();
        let file = |name: String| Some(pki.join(name));
        let config = Config {
            url: Some(format!("https://{at}")),
            ca: file("ca.pem".to_owned()),
            cert: file(format!("{name}.pem")),
            key: file(format!("{name}.key")),
            ..Config::default()
        };
        let folder = folder.join(name);
        let open = move || {
            Store::open(&folder, store::Config::default(), Vec::new(), store::Metrics::default())
        };
        let store = Arc::new(tokio::task::spawn_blocking(open).await.unwrap().unwrap());
        let log = store.stream_for("default").await.unwrap();
        let parts = Parts {
            id: name.to_owned(),
            store: Arc::clone(&store),
            budget: Budget::new(16 << 20),
            metrics: Metrics::default(),
        };
        let uplink = Uplink::new(config, parts, Arc::new(Nothing)).await.unwrap();
        Self { log, store, uplink }
    }
}

/// As many records as Orion's notifications of one sensor.
async fn fill(log: &Log, records: u64) {
    for commit in 0..records.div_ceil(IN_A_COMMIT) {
        let lines = (0..IN_A_COMMIT).map(|at| {
            let value = commit * IN_A_COMMIT + at;
            let body = json!({"subscriptionId": "6543210fedcba9876543210f", "data": [{
                "id": format!("urn:ngsi-ld:Press:{}", value % 16), "type": "Press",
                "temperature": {"type": "Number", "value": value, "metadata": {}},
                "pressure": {"type": "Number", "value": value * 3, "metadata": {}}}]});
            let headers: [(&str, &[u8]); 2] =
                [("fiware-service", b"plant1"), ("content-type", b"application/json")];
            let (now, body) = (SystemTime::now(), body.to_string());
            Line::encode(now, "POST", "/notify", &headers, body.as_bytes())
        });
        log.append(lines.collect()).await.unwrap();
    }
}

fn resident_kib(relay: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Of the relay so far: other work on the machine changes it less than the time.
fn cpu_seconds(relay: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Records that the relay has of all gateways.
async fn at_relay(relay: &Gateway) -> u64 {
    let listed = Api::of(relay).get("/v1/gateways?stream=default").await.json();
    let gateways = listed["gateways"].as_array().cloned().unwrap_or_default();
    let edges = gateways.iter().filter(|one| one["gateway"].as_str().unwrap().starts_with("edge"));
    edges.map(|one| one["streams"][0]["next"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_away_catches_up_with_a_fleet() {
    let count = setting("NGSI_FERRY_UPLINK_GATEWAYS").unwrap_or(6);
    let backlog = setting("NGSI_FERRY_UPLINK_BACKLOG").unwrap_or(100);
    let backlog = backlog.div_ceil(IN_A_COMMIT) * IN_A_COMMIT;
    let relay = edge::relay().set("RELAY__MAX_GATEWAYS", &count.to_string()).start().await;
    let line = crate::line::Line::to(relay.spark).await;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut edges = Vec::new();
    for at in 0..count {
        let name = format!("edge{at:03}");
        edges.push(Edge::of(&relay, line.addr(), folder.path(), &name).await);
    }
    let before = resident_kib(&relay);
    let (stop, mut uplinks, mut stores) = (CancellationToken::new(), JoinSet::new(), Vec::new());
    for Edge { log, store, uplink } in edges {
        fill(&log, IN_A_COMMIT).await;
        uplinks.spawn(uplink.run(stop.clone()));
        stores.push((log, store));
    }
    until("the relay knows them all", async || at_relay(&relay).await == count * IN_A_COMMIT).await;
    let setup = relay.kill().await;
    let mut filling = JoinSet::new();
    for (log, _) in &stores {
        let log = Arc::clone(log);
        filling.spawn(async move { fill(&log, backlog).await });
    }
    filling.join_all().await;
    let begun = Instant::now();
    let relay = setup.start().await;
    line.lead_to(relay.spark);
    let all = count * (backlog + IN_A_COMMIT);
    while at_relay(&relay).await < all {
        assert!(begun.elapsed() < Duration::from_mins(10), "in vain");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = begun.elapsed();
    let (kib, cpu) = (resident_kib(&relay), cpu_seconds(&relay));
    #[allow(clippy::cast_precision_loss)]
    let records = (count * backlog) as f64;
    let (rate, for_each_cpu_second) = (records / took.as_secs_f64(), records / cpu);
    eprintln!(
        "{count} gateways, {backlog} records each: caught up after {:.1} s, the relay's start and \
         the back-off included ({rate:.0} records/s); {cpu:.1} s of CPU at the relay \
         ({for_each_cpu_second:.0} records for each); RSS {} KiB before the first, {kib} KiB after: \
         {} KiB for each gateway",
        took.as_secs_f64(),
        before,
        kib.saturating_sub(before) / count,
    );
    stop.cancel();
    uplinks.join_all().await;
    for (_, store) in stores {
        store.close().await;
    }
}
