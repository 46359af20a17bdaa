use std::path::Path;

use super::*;
use crate::store::{Config, Metrics, Store};
use crate::write_back::Request;

fn store(folder: &Path) -> Store {
    Store::open(folder, Config::default(), Vec::new(), Metrics::default()).unwrap()
}

async fn letters(store: &Store) -> DeadLetters {
    let (log, write_backs) = (store.dead_letters(), store.write_backs());
    DeadLetters::open(Arc::clone(log), Arc::clone(write_backs)).await.unwrap()
}

fn letter(entity: &str, seq: Sequence) -> DeadLetter {
    let request = Request {
        method: "PATCH".to_owned(),
        path: format!("/v2/entities/{entity}/attrs"),
        headers: vec![
            ("content-type".to_owned(), "application/json".into()),
            ("x-raw".to_owned(), Bytes::from_static(b"\xff")),
        ],
        body: Bytes::from_static(b"{\"t\":{\"value\":1}}"),
    };
    DeadLetter {
        request: Some(LetterRequest::from(&request)),
        unreadable: None,
        reason: "refused".to_owned(),
        status: Some(404),
        answer: Some("{}".to_owned()),
        attempts: 1,
        entities: vec![Entity { tenant: String::new(), id: entity.to_owned() }],
        write_back: Place { log: "e".to_owned(), seq, attempt: 0, row: 0, part: 0 },
        time: SystemTime::UNIX_EPOCH,
    }
}

fn key(id: &str) -> EntityKey {
    EntityKey { tenant: "".into(), id: id.to_owned() }
}

use bytes::Bytes;

#[tokio::test]
async fn a_retried_letter_is_the_newest_write_back_and_open_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let letters = letters(&store).await;
    let id = letters.add(&letter("a", 1).into()).await.unwrap();
    letters.retry(id, false).await.unwrap();
    assert_eq!(letters.count(), 0);
    assert!(matches!(letters.retry(id, false).await, Err(Error::Unknown(_))));
    let log = store.write_backs();
    let record = log.read_one(log.bounds().next - 1).await.unwrap().unwrap();
    let Entry::Request(request) = Entry::from_record(record).unwrap() else { panic!("a request") };
    assert_eq!(Some(request), super::LetterRequest::to_request(&letter("a", 1).request.unwrap()));
    assert_eq!(store.dead_letters().position(OPERATOR), Some(store.dead_letters().bounds().next));
}

#[tokio::test]
async fn what_is_newer_by_now_is_overwritten_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let letters = letters(&store).await;
    let id = letters.add(&letter("a", 1).into()).await.unwrap();
    assert!(!letters.concerns(&[key("b")]));
    letters.superseded_by(&[key("a"), key("a")]).await.unwrap();
    let end = store.dead_letters().bounds().next;
    letters.superseded_by(&[key("a")]).await.unwrap();
    assert_eq!(store.dead_letters().bounds().next, end, "said once");
    let error = letters.retry(id, false).await.unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert!(letters.show(id).await.unwrap().superseded);
    letters.retry(id, true).await.unwrap();
}

#[tokio::test]
async fn a_restart_finds_the_open_ones_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let before = {
        let store = store(folder.path());
        let letters = letters(&store).await;
        let mut ids = Vec::new();
        for (at, entity) in ["a", "b", "c"].into_iter().enumerate() {
            ids.push(letters.add(&letter(entity, at as Sequence).into()).await.unwrap());
        }
        letters.drop(ids[0]).await.unwrap();
        letters.superseded_by(&[key("c")]).await.unwrap();
        let listed = letters.list(0, 10).await.unwrap();
        store.close().await;
        listed
    };
    let store = store(folder.path());
    let letters = letters(&store).await;
    assert_eq!(letters.list(0, 10).await.unwrap(), before);
    assert_eq!(before.iter().map(|l| l.superseded).collect::<Vec<_>>(), [false, true]);
    assert_eq!(before[0].letter, letter("b", 1));
    assert_eq!(letters.list(before[1].id, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_write_back_is_one_dead_letter_however_often_it_is_buried() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let letters = letters(&store).await;
    let id = letters.add(&letter("a", 1).into()).await.unwrap();
    assert_eq!(letters.add(&letter("a", 1).into()).await.unwrap(), id);
    assert_eq!(letters.count(), 1);
}
