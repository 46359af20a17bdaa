//! The same damages under the real program: what it logs, shows and answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ngsi_ferry::record::Sequence;
use serde_json::Value;

use crate::bed::{Bed, Left, content, other_records};
use crate::campaign::{Expected, judge};
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::harm::{HARMS, Victim, harm};
use crate::picture::{Numbers, Picture};
use crate::table::Table;

/// What a client of the Spark API sees who begins at 0.
pub async fn picture_of(gateway: &Gateway, stream: &str, what: &str) -> Picture {
    let client = gateway.spark_client();
    let get = async |path: String| {
        let answer = client.get(gateway.spark_url(&path)).send().await.unwrap();
        let status = answer.status().as_u16();
        let next = answer.headers().get("ngsi-ferry-next").cloned();
        let next = next.map(|next| next.to_str().unwrap().parse::<Sequence>().unwrap());
        (status, next, answer.text().await.unwrap())
    };
    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let (_, _, told) = get(format!("/v1/streams/{stream}")).await;
    let mut picture = Picture { next: json(&told)["next"].as_u64().unwrap(), ..Picture::default() };
    let mut at = 0;
    while at < picture.next {
        let path = format!("/v1/streams/{stream}/records?from={at}&until={}", picture.next);
        let (status, next, body) = get(path).await;
        if status == 410 {
            let gone = json(&body);
            let earliest = gone["earliest"].as_u64().unwrap();
            assert!(earliest > at, "{what}: {gone}");
            assert_eq!(gone["reason"], "lost", "{what}: {gone}");
            picture.lost.add(at..earliest);
            at = earliest;
            continue;
        }
        assert_eq!(status, 200, "{what}: {body}");
        for line in body.lines().map(json) {
            let seq = line["seq"].as_u64().unwrap();
            let body = match &line["body_base64"] {
                Value::String(packed) => STANDARD.decode(packed).unwrap(),
                _ => line["body"].as_str().unwrap().into(),
            };
            assert!(body == content(seq).body, "{what}: {seq} came back as another");
            picture.skipped.add(at..seq);
            picture.served.add(seq..seq + 1);
            at = seq + 1;
        }
        picture.skipped.add(at..next.unwrap());
        at = next.unwrap();
    }
    picture
}

fn ranges(list: &Value) -> Numbers {
    let mut numbers = Numbers::default();
    for range in list.as_array().into_iter().flatten() {
        numbers.add(range["from"].as_u64().unwrap()..range["until"].as_u64().unwrap());
    }
    numbers
}

/// The ranges of the ERROR lines that say so, put in order.
fn logged(log: &str) -> Numbers {
    let field = |line: &str, name: &str| -> Option<Sequence> {
        line.split_once(&format!(" {name}="))?.1.split_whitespace().next()?.parse().ok()
    };
    let lost = log
        .lines()
        .filter(|line| line.contains("ERROR") && line.contains("records lost log=\"default\""));
    let mut found: Vec<_> =
        lost.map(|line| field(line, "from").unwrap()..field(line, "until").unwrap()).collect();
    found.sort_unstable_by_key(|range| range.start);
    let mut numbers = Numbers::default();
    for range in found {
        numbers.add(range);
    }
    numbers
}

async fn check_told(gateway: &Gateway, picture: &Picture, what: &str) {
    let status = gateway.status().await;
    let streams = status["streams"].as_array().unwrap();
    let stream = streams.iter().find(|stream| stream["name"] == "default").unwrap();
    assert_eq!(stream["lost"], picture.lost.count(), "{what}: {stream}");
    let damaged = status["damaged"].as_array().unwrap();
    let damaged = damaged.iter().find(|log| log["log"] == "default");
    assert_eq!(damaged.is_some(), picture.lost.count() > 0, "{what}: {status}");
    let reported = damaged.map(|log| ranges(&log["ranges"])).unwrap_or_default();
    assert_eq!(reported, picture.lost, "{what}: {status}");

    let json = gateway.setup().command(["status", "--json"]).output().await.unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["damaged"], status["damaged"], "{what}");
    let shown = gateway.setup().command(["status"]).output().await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for lost in &picture.lost.0 {
        let line = format!("default: records {} to {} are lost", lost.start, lost.end - 1);
        assert!(shown.contains(&line), "{what}: no {line:?} in\n{shown}");
    }
    let said = shown.lines().filter(|line| line.contains("lost to damage")).count();
    assert_eq!(said, picture.lost.0.len(), "{what}:\n{shown}");
}

async fn start(setup: Setup, what: &str) -> Gateway {
    let _ = std::fs::remove_file(setup.log_file());
    let started = tokio::time::timeout(DEADLINE, setup.start()).await;
    started.unwrap_or_else(|_| panic!("{what}: it does not start"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_gateway_starts_logs_shows_and_answers_exactly_what_is_lost() {
    let (rounds, mut seed) = crate::rounds(40);
    let mut table = Table::default();
    for left in [Left::Closed, Left::Killed] {
        let mut setup = Setup::new().set("STORE__MIN_FREE", "0B");
        let bed = Bed::make(setup.data_dir(), left).await;
        for n in 0..rounds.div_ceil(20) {
            bed.restore();
            let victim = match n % 3 {
                0 | 1 => Victim::Db,
                _ => Victim::SegmentFolder,
            };
            let harms = if victim == Victim::Db { &HARMS[..] } else { victim.harms() };
            let how = harms[usize::try_from(seed.below(harms.len() as u64)).unwrap()];
            let harmed = victim.choose(&bed.data, &mut seed);
            let expected = Expected::of(&bed, victim, &harmed);
            let what = harm(&harmed[0], how, &mut seed);

            let gateway = start(setup, &what).await;
            let picture = picture_of(&gateway, "default", &what).await;
            let result = judge(&bed, &expected, &picture, false, &what);
            assert_eq!(logged(&gateway.log()), picture.lost, "{what}:\n{}", gateway.log());
            check_told(&gateway, &picture, &what).await;
            let other = picture_of(&gateway, crate::bed::OTHER, &what).await;
            assert_eq!(other.served.0, [other_records()], "{what}: another stream");
            let (stopped, ended) = gateway.stop().await;
            assert!(ended.success(), "{what}: {ended:?}");

            let gateway = start(stopped, &what).await;
            assert_eq!(picture_of(&gateway, "default", &what).await, picture, "{what}");
            check_told(&gateway, &picture, &what).await;
            assert_eq!(logged(&gateway.log()).0, [], "{what}: told once");
            setup = gateway.stop().await.0;
            table.add(victim, how, result);
        }
    }
    eprintln!("{}", table.render());
}
