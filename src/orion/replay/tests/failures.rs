//! What Orion, the network and a wrong configuration can do.

use super::orion::{Reply, Seen};
use super::*;

fn ok(_: &Seen) -> Reply {
    Reply::Status(204)
}

/// A port that nothing listens on, and nobody else is given while the socket
/// is held: an Orion may listen there later.
fn closed_port() -> (tokio::net::TcpSocket, std::net::SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn what_orion_refuses_is_a_dead_letter_with_its_answer_and_the_next_one_goes() {
    let answer = r#"{"error":"NotFound","description":"no such entity"}"#;
    let refuse_first = move |seen: &Seen| {
        if seen.body == value(1) { Reply::With(404, "", answer) } else { Reply::Status(204) }
    };
    let (gateway, orion) = (Gateway::new().await, Orion::new(refuse_first).await);
    gateway.patch("a", &value(1)).await;
    gateway.patch("a", &value(2)).await;
    let running = gateway.run(config(&orion));
    running.idle().await;
    let dead = gateway.dead(1).await;
    let letter = &dead[0].letter;
    assert_eq!(
        (letter.status, letter.answer.as_deref(), letter.attempts),
        (Some(404), Some(answer), 1)
    );
    assert_eq!(letter.request.as_ref().unwrap().body.as_deref(), Some(value(1).as_str()));
    assert!(dead[0].superseded, "a newer write of it was delivered");
    assert!(gateway.letters.retry(dead[0].id, false).await.is_err());
    gateway.letters.retry(dead[0].id, true).await.unwrap();
    soon(orion.requests(3)).await;
    running.stop().await;
}

#[tokio::test]
async fn an_increment_whose_answer_was_lost_goes_to_the_dead_letters() {
    let (gateway, orion) = (Gateway::new().await, Orion::new(|_: &Seen| Reply::Close).await);
    gateway.patch("a", INCREMENT).await;
    let running = gateway.run(config(&orion));
    let dead = gateway.dead(1).await;
    assert!(dead[0].letter.reason.starts_with("ambiguous"), "{}", dead[0].letter.reason);
    running.idle().await;
    assert_eq!(orion.lines().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_increment_that_found_no_orion_is_not_ambiguous_after_a_crash() {
    let (gateway, (_reserved, address)) = (Gateway::new().await, closed_port());
    gateway.patch("a", INCREMENT).await;
    let mut config = at(format!("http://{address}"));
    (config.backoff_min, config.backoff_max) = (Duration::from_hours(1), Duration::from_hours(1));
    let running = gateway.run(config.clone());
    running.until(|status| status.targets.iter().any(|target| !target.up)).await;
    // The note that it was not sent is the second.
    soon(gateway.store.outcomes().watch_end().wait_for(|end| *end >= 2)).await.unwrap();
    running.crash().await;
    let orion = Orion::at(address, ok).await;
    let running = gateway.run(config);
    soon(orion.requests(1)).await;
    running.idle().await;
    assert_eq!(gateway.letters.count(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_sign_of_life_ends_the_backoff() {
    let (gateway, (_reserved, address)) = (Gateway::new().await, closed_port());
    for n in 0..20 {
        gateway.patch(&format!("e{n}"), &value(n)).await;
    }
    let mut config = at(format!("http://{address}"));
    (config.backoff_min, config.backoff_max) = (Duration::from_hours(9), Duration::from_hours(9));
    config.max_attempts = 1;
    let running = gateway.run(config);
    running.until(|status| status.targets.iter().any(|target| !target.up)).await;
    running.until(|status| status.in_flight == 0).await;
    let orion = Orion::at(address, ok).await;
    gateway.signs.notify_one();
    running.idle().await;
    assert_eq!(orion.lines().len(), 20);
    assert!(running.handle.status().targets[0].up);
    assert_eq!(gateway.letters.count(), 0, "an Orion that is down is no write-back's fault");
    running.stop().await;
}

#[tokio::test]
async fn updates_that_pile_up_are_merged_where_that_is_wanted() {
    let (gateway, (_reserved, address)) = (Gateway::new().await, closed_port());
    let mut config = at(format!("http://{address}"));
    config.coalesce = Coalesce::Latest;
    (config.backoff_min, config.backoff_max) = (Duration::from_hours(9), Duration::from_hours(9));
    gateway.patch("b", &value(0)).await;
    let running = gateway.run(config);
    running.until(|status| status.targets.iter().any(|target| !target.up)).await;
    for n in 1..600 {
        gateway.patch("a", &value(n)).await;
    }
    running.until(|status| status.waiting == 2).await;
    let orion = Orion::at(address, ok).await;
    gateway.signs.notify_one();
    running.idle().await;
    let seen = soon(orion.requests(2)).await;
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().any(|seen| seen.body == value(599)));
    running.stop().await;
}

#[tokio::test]
async fn a_refused_token_waits_for_a_new_one_and_nothing_is_given_up() {
    let authorised = |seen: &Seen| {
        if seen.headers.contains("x-auth-token: new\r\n") {
            Reply::Status(204)
        } else {
            Reply::Status(401)
        }
    };
    let (gateway, orion) = (Gateway::new().await, Orion::new(authorised).await);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "old").unwrap();
    for n in 0..30 {
        gateway.patch(&format!("e{n}"), &value(n)).await;
    }
    let mut config = config(&orion);
    config.token_file = Some(token.path().to_owned());
    config.token_header = "X-Auth-Token".to_owned();
    let running = gateway.run(config);
    running.until(|status| status.targets.iter().any(|target| !target.up)).await;
    soon(orion.requests(12)).await;
    std::fs::write(token.path(), "new").unwrap();
    running.idle().await;
    assert_eq!(gateway.letters.count(), 0);
    assert!(running.handle.status().targets[0].up);
    running.stop().await;
}

#[tokio::test]
async fn a_write_that_fails_while_others_succeed_does_not_block_for_ever() {
    let poisoned = |seen: &Seen| {
        if seen.line.contains("/bad/") { Reply::Status(500) } else { Reply::Status(204) }
    };
    let (gateway, orion) = (Gateway::new().await, Orion::new(poisoned).await);
    gateway.patch("bad", &value(0)).await;
    let mut config = config(&orion);
    config.max_attempts = 3;
    config.parallel = 2;
    let running = gateway.run(config);
    let dead = tokio::spawn({
        let letters = gateway.letters.clone();
        async move {
            while letters.count() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    for n in 0.. {
        if dead.is_finished() {
            break;
        }
        gateway.patch("good", &value(n)).await;
    }
    let dead = gateway.dead(1).await;
    assert!(dead[0].letter.reason.contains("while others succeeded"), "{}", dead[0].letter.reason);
    running.idle().await;
    assert_eq!(gateway.letters.count(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_address_does_not_empty_the_queue_into_the_dead_letters() {
    let stranger = |_: &Seen| Reply::With(404, "", "<html>not here</html>");
    let (gateway, orion) = (Gateway::new().await, Orion::new(stranger).await);
    for n in 0..100 {
        gateway.patch(&format!("e{n}"), &value(n)).await;
    }
    let running = gateway.run(config(&orion));
    running.until(|status| status.targets.iter().any(|target| !target.up)).await;
    soon(orion.requests(40)).await;
    let right = Orion::new(ok).await;
    running.handle.reload(config(&right)).unwrap();
    running.idle().await;
    let dead = gateway.letters.count();
    assert!(dead <= 20, "{dead} dead letters");
    assert_eq!(right.lines().len(), 100 - dead);
    running.stop().await;
}

#[tokio::test]
async fn orion_is_left_alone_for_as_long_as_it_asks() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let busy = move |_: &Seen| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Reply::With(429, "Retry-After: 1\r\n", ""),
        _ => Reply::Status(204),
    };
    let (gateway, orion) = (Gateway::new().await, Orion::new(busy).await);
    gateway.patch("a", &value(1)).await;
    let started = std::time::Instant::now();
    let running = gateway.run(config(&orion));
    soon(orion.requests(2)).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    running.idle().await;
    running.stop().await;
}
