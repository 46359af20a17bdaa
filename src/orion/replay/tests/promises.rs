//! Order, durability, and what Orion is sent.

use super::orion::{Reply, Seen};
use super::*;
use crate::orion::replay::target::Target;
use crate::write_back::{APPLIED, STAGED};

fn ok(_: &Seen) -> Reply {
    Reply::Status(204)
}

#[tokio::test]
async fn orion_gets_the_request_as_it_came_with_length_headers_and_token() {
    let (gateway, orion) = (Gateway::new().await, Orion::new(ok).await);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "secret\n").unwrap();
    gateway
        .append(Entry::Request(request("PATCH", "/v2/entities/a/attrs?type=T", &value(1))))
        .await;
    let Entry::Request(mut empty) = patch("a", "") else { unreachable!() };
    empty.headers.push(("fiware-service".to_owned(), "own".into()));
    empty.headers.push(("connection".to_owned(), "close".into()));
    empty.headers.push(("authorization".to_owned(), "Bearer ours".into()));
    gateway.append(Entry::Request(empty)).await;
    let mut config = config(&orion);
    config.headers.insert("Fiware-Service".to_owned(), "plant1".to_owned());
    config.token_file = Some(token.path().to_owned());
    let running = gateway.run(config);
    let seen = soon(orion.requests(2)).await;
    let of = |line: &str| seen.iter().find(|seen| seen.line == line).unwrap();
    let first = of("PATCH /v2/entities/a/attrs?type=T");
    assert_eq!(first.body, value(1));
    let length = format!("content-length: {}\r\n", first.body.len());
    for header in [&length, "fiware-service: plant1\r\n", "authorization: bearer secret\r\n"] {
        assert!(first.headers.contains(header), "{header} in {}", first.headers);
    }
    assert!(!first.headers.contains("chunked") && !first.headers.contains("gzip"));
    let second = of("PATCH /v2/entities/a/attrs");
    for header in
        ["content-length: 0\r\n", "fiware-service: own\r\n", "authorization: bearer secret"]
    {
        assert!(second.headers.contains(header), "{header} in {}", second.headers);
    }
    assert!(!second.headers.contains("plant1") && !second.headers.contains("connection: close"));
    running.stop().await;
}

#[tokio::test]
async fn a_commit_applies_its_rows_in_order_and_what_it_does_not_name_never() {
    let (gateway, orion) = (Gateway::new().await, Orion::new(ok).await);
    let row = |n: u32| {
        format!(r#"{{"method":"PATCH","path":"/v2/entities/a/attrs","body":{}}}"#, value(n))
    };
    let batch = |batch| Batch { query: "q".to_owned(), batch };
    let staged = async |number, attempt: &str, rows: String| {
        let (batch, attempt) = (batch(number), attempt.to_owned());
        gateway.append(Entry::Staged { batch, attempt, rows: rows.into() }).await
    };
    let lost = staged(0, "lost", row(9)).await;
    let first = staged(1, "x", format!("{}\nnot a row\n{}\n", row(3), row(4))).await;
    let second = staged(1, "y", format!("{}\n{}\n", row(1), row(2))).await;
    let later = staged(2, "z", row(5)).await;
    let attempt = |attempt: &str, seq| Attempt { attempt: attempt.to_owned(), seq };
    let attempts = vec![attempt("y", second), attempt("x", first)];
    gateway.append(Entry::Commit { batch: batch(1), attempts, once: false }).await;
    let running = gateway.run(config(&orion));
    let seen = soon(orion.requests(4)).await;
    let bodies: Vec<&str> = seen.iter().map(|seen| seen.body.as_str()).collect();
    assert_eq!(bodies, [value(1), value(2), value(3), value(4)]);
    let dead = gateway.dead(1).await;
    assert_eq!(dead[0].letter.unreadable.as_deref(), Some("not a row"));
    running.idle().await;
    running.stop().await;
    let log = gateway.store.write_backs();
    assert_eq!(log.position(APPLIED), Some(log.bounds().next));
    assert_eq!(log.position(STAGED), Some(later), "what may still be committed is kept");
    assert!(lost < first);

    // What is committed after a restart is still known.
    let attempts = vec![attempt("z", later)];
    gateway.append(Entry::Commit { batch: batch(2), attempts, once: false }).await;
    let running = gateway.run(config(&orion));
    assert_eq!(soon(orion.requests(5)).await[4].body, value(5));
    running.idle().await;
    running.stop().await;
    assert_eq!(log.position(STAGED), Some(log.bounds().next));
    assert_eq!(orion.lines().len(), 5);
}

#[tokio::test]
async fn entities_finish_out_of_order_and_none_is_taken_back_after_a_restart() {
    let gateway = Gateway::new().await;
    let slow =
        |seen: &Seen| if seen.line.contains("/a/") { Reply::Hang } else { Reply::Status(204) };
    let orion = Orion::new(slow).await;
    for n in 0..10 {
        gateway.patch(if n == 2 { "a" } else { "b" }, &value(n)).await;
    }
    gateway.patch("a", &value(10)).await;
    let running = gateway.run(config(&orion));
    running.until(|status| status.waiting == 2 && status.in_flight == 1).await;
    running.crash().await;
    orion.answer(ok);
    let before = orion.lines().len();
    assert_eq!(before, 10);
    let running = gateway.run(config(&orion));
    running.idle().await;
    let seen = soon(orion.requests(12)).await;
    let again: Vec<&str> = seen[before..].iter().map(|seen| seen.body.as_str()).collect();
    assert_eq!(again, [value(2), value(10)], "the hanging one and what waited for it, only");
    running.stop().await;
    let outcomes = gateway.store.outcomes();
    assert_eq!(
        outcomes.position(APPLIED),
        Some(outcomes.bounds().next),
        "nothing is needed any more"
    );
}

#[tokio::test]
async fn a_write_in_flight_at_a_crash_is_repeated_only_where_that_is_harmless() {
    let (gateway, orion) = (Gateway::new().await, Orion::new(|_: &Seen| Reply::Hang).await);
    gateway.patch("a", &value(1)).await;
    gateway.patch("b", INCREMENT).await;
    let create = request("POST", "/v2/entities", r#"{"id":"c","type":"T"}"#);
    gateway.append(Entry::Request(create)).await;
    let running = gateway.run(config(&orion));
    soon(orion.requests(3)).await;
    running.crash().await;
    let exists = r#"{"error":"Unprocessable","description":"Already Exists"}"#;
    orion.answer(move |seen| {
        if seen.line.starts_with("POST") {
            Reply::With(422, "", exists)
        } else {
            Reply::Status(204)
        }
    });
    let running = gateway.run(config(&orion));
    running.idle().await;
    let mut again = orion.lines().split_off(3);
    again.sort();
    assert_eq!(again, ["PATCH /v2/entities/a/attrs", "POST /v2/entities"]);
    let dead = gateway.dead(1).await;
    assert_eq!(dead.len(), 1, "that the created one exists means that it was applied");
    assert!(dead[0].letter.reason.starts_with("ambiguous"), "{}", dead[0].letter.reason);
    assert_eq!(dead[0].letter.entities[0].id, "b");
    running.stop().await;
}

#[tokio::test]
async fn a_stop_lets_what_is_in_flight_end_and_begins_nothing() {
    let gateway = Gateway::new().await;
    let orion = Orion::new(|_: &Seen| Reply::Hang).await;
    gateway.patch("a", &value(1)).await;
    gateway.patch("a", &value(2)).await;
    let mut config = config(&orion);
    config.timeout = Duration::from_millis(300);
    let running = gateway.run(config.clone());
    soon(orion.requests(1)).await;
    running.stop().await;
    assert_eq!(orion.lines().len(), 1);
    orion.answer(ok);
    let running = gateway.run(config);
    assert_eq!(soon(orion.requests(3)).await[1].body, value(1));
    running.idle().await;
    running.stop().await;
}

#[tokio::test]
async fn a_tenant_may_have_an_orion_of_its_own() {
    let (gateway, orion, other) =
        (Gateway::new().await, Orion::new(ok).await, Orion::new(ok).await);
    let Entry::Request(mut theirs) = patch("a", &value(1)) else { unreachable!() };
    theirs.headers.push(("fiware-service".to_owned(), "Plant2".into()));
    gateway.append(Entry::Request(theirs)).await;
    gateway.patch("a", &value(2)).await;
    let mut config = config(&orion);
    let target = TargetConfig { tenant: "plant2".to_owned(), ..TargetConfig::default() };
    config.target = vec![TargetConfig { url: Some(other.url()), ..target }];
    let running = gateway.run(config);
    assert_eq!(soon(other.requests(1)).await[0].body, value(1));
    assert_eq!(soon(orion.requests(1)).await[0].body, value(2));
    running.idle().await;
    assert_eq!(running.handle.status().targets[1].name, "plant2");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_go_to_orion_than_its_rate_allows() {
    let config = Config { max_rate: Some(20.0), ..at("http://127.0.0.1:9".to_owned()) };
    let endpoint = Arc::new(Endpoint::all(&config).unwrap().remove(0));
    let mut target = Target::new(endpoint, None, config.max_rate);
    target.ready.extend(0..10_000);
    let (begun, mut sent, mut looks) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(30) {
        while let Some(unit) = target.take(Instant::now(), 8, |_| 0) {
            sent += 1;
            target.in_flight += 1;
            target.ended(unit);
        }
        tokio::time::sleep_until(target.wakes_at().unwrap()).await;
        looks += 1;
    }
    // What a tenth of a second allows goes at once.
    assert!((600..=602).contains(&sent), "{sent}");
    assert!(looks <= 2 * sent, "{looks} looks for {sent} requests");
}
