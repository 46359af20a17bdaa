use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::pki::{self, Keys};
use crate::tls::{self, Acceptor, ClientCertificates, ServerTls, Versions};

const DAY: Duration = Duration::from_hours(24);

/// A box with an authority of its own, and a listener that uses it.
struct Plant {
    _root: TempDir,
    dir: PathBuf,
}

impl Plant {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let dir = root.path().join("pki");
        pki::init(&dir, &[]).unwrap();
        Self { _root: root, dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn listener(&self) -> Arc<Acceptor> {
        let settings = ServerTls {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            clients: ClientCertificates::Required { ca: self.path("ca.pem") },
            versions: Versions::Tls13,
        };
        Arc::new(Acceptor::new(settings).unwrap())
    }

    /// One that watches the listener, and has no authority of its own.
    fn watch(&self) -> Watch {
        let acceptor = self.listener();
        let (files, taking) = (Arc::clone(&acceptor), Arc::clone(&acceptor));
        let user = User {
            name: "spark.cert".to_owned(),
            files: Box::new(move || files.files()),
            take_over: Box::new(move || taking.reload().map_err(|error| error.to_string())),
        };
        let file = self.file("server.pem", Origin::Elsewhere);
        Watch::new(None, vec![file], vec![acceptor]).with_users(vec![user])
    }

    fn file(&self, name: &str, origin: Origin) -> File {
        File { path: self.path(name), used_as: "spark.cert".to_owned(), origin }
    }

    fn end(&self) -> SystemTime {
        tls::not_after(&self.path("server.pem")).unwrap()
    }
}

#[test]
fn an_end_is_told_from_thirty_days_before_with_its_date_and_what_to_do() {
    let plant = Plant::new();
    let file = plant.file("server.pem", Origin::OwnServer);
    let end = plant.end();
    let at = |now| Certificate::of(&file, now);
    assert_eq!(at(end - 31 * DAY).concern, None);
    let ending = at(end - 12 * DAY - Duration::from_mins(1));
    assert_eq!(ending.concern, Some(Concern::Ending));
    let problem = ending.problem.unwrap();
    let date = tls::date(end);
    assert!(problem.contains(&format!("expires in 12 days, on {date}")), "{problem}");
    assert!(problem.contains("`ngsi-ferry pki renew`"), "{problem}");
    let over = at(end + DAY);
    assert_eq!(over.concern, Some(Concern::Expired));
    assert!(over.problem.unwrap().contains(&format!("expired on {date}")));
}

#[test]
fn a_clock_that_is_not_set_expires_nothing_and_renews_nothing() {
    let plant = Plant::new();
    let watch = Watch::new(Some(plant.dir.clone()), Vec::new(), Vec::new());
    let server = fs::read(plant.path("server.pem")).unwrap();
    for now in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + 365 * DAY] {
        watch.look(now);
        assert!(watch.certificates(now).iter().all(|one| one.problem.is_none()));
    }
    assert_eq!(fs::read(plant.path("server.pem")).unwrap(), server);
}

#[test]
fn the_own_certificate_is_renewed_months_ahead_and_nothing_that_clients_hold() {
    let plant = Plant::new();
    let read = |file: &str| fs::read(plant.path(file)).unwrap();
    let kept = ["server.key", "ca.pem", "ca.key", "client.pem", "client.key"];
    let before = kept.map(read);
    let (server, end) = (read("server.pem"), plant.end());
    let names = tls::names(&plant.path("server.pem")).unwrap();
    let watch = Watch::new(Some(plant.dir.clone()), Vec::new(), Vec::new());

    watch.look(end - 280 * DAY);
    assert_eq!(read("server.pem"), server, "not before it is due");
    watch.look(end - 270 * DAY);
    assert_ne!(read("server.pem"), server);
    assert!(plant.end() > end + 500 * DAY);
    assert_eq!(tls::names(&plant.path("server.pem")).unwrap(), names);
    assert_eq!(kept.map(read), before);
    let renewed = read("server.pem");
    watch.look(end - 270 * DAY);
    assert_eq!(read("server.pem"), renewed, "once is enough");
}

#[test]
fn where_the_authoritys_key_is_elsewhere_a_person_is_told_before_the_end() {
    let plant = Plant::new();
    fs::remove_file(plant.path("ca.key")).unwrap();
    let (end, watch) = (plant.end(), Watch::new(Some(plant.dir.clone()), vec![], vec![]));
    let problem = |now| {
        watch.look(now);
        let all = watch.certificates(now);
        all.into_iter().find(|one| one.path == plant.path("server.pem")).unwrap().problem
    };
    assert_eq!(problem(end - 200 * DAY), None, "months are left");
    let told = problem(end - 20 * DAY).unwrap();
    assert!(told.contains("ca.key is missing"), "{told}");
}

#[test]
fn a_replaced_pair_is_taken_over_once() {
    let plant = Plant::new();
    let (watch, now) = (plant.watch(), SystemTime::now());
    assert_eq!(watch.look(now), (Looked::default(), false));
    pki::renew(&plant.dir, Keys::New).unwrap();
    let (looked, unclear) = watch.look(now);
    assert_eq!(looked.taken_over, ["spark.cert"]);
    assert!(!unclear && looked.refused.is_empty());
    assert_eq!(watch.look(now), (Looked::default(), false));
}

#[test]
fn a_pair_of_which_one_file_is_there_is_waited_for_and_then_refused() {
    let plant = Plant::new();
    let other = Plant::new();
    let (watch, now) = (plant.watch(), SystemTime::now());
    let copy = |from: &Path, name: &str| fs::copy(from.join(name), plant.path(name)).unwrap();
    copy(&other.dir, "server.key");
    assert_eq!(watch.look(now), (Looked::default(), true), "its certificate may follow");
    assert!(watch.certificates(now)[0].problem.is_none());
    let (looked, unclear) = watch.look(now);
    assert!(looked.refused[0].contains("does not belong"), "{looked:?}");
    assert!(!unclear);
    let problem = watch.certificates(now)[0].problem.clone().unwrap();
    assert!(problem.contains("does not belong") && problem.contains("stays in use"), "{problem}");

    copy(&other.dir, "server.pem");
    assert_eq!(watch.look(now).0.taken_over, ["spark.cert"]);
    assert!(watch.certificates(now)[0].problem.is_none());
}

#[test]
fn an_old_authority_beside_its_successor_worries_nobody() {
    let plant = Plant::new();
    let now = SystemTime::now();
    let of = |end: SystemTime| tls::authority_ends(&plant.path("ca.pem"), end).unwrap();
    let first = of(now);
    // As long as both count, the next end does; of those that have, the last.
    let mut both = fs::read(plant.path("ca.pem")).unwrap();
    both.extend(fs::read(plant.path("client.pem")).unwrap());
    fs::write(plant.path("ca.pem"), both).unwrap();
    let sooner = tls::not_after(&plant.path("client.pem")).unwrap();
    assert_eq!(of(now), sooner);
    assert_eq!(of(sooner + DAY), first);
    assert_eq!(of(first + DAY), first);
}

#[test]
fn a_file_that_two_settings_name_is_told_of_once() {
    let plant = Plant::new();
    let mut second = plant.file("server.pem", Origin::Elsewhere);
    second.used_as = "intake.cert".to_owned();
    let files = vec![plant.file("server.pem", Origin::Elsewhere), second];
    let watch = Watch::new(Some(plant.dir.clone()), files, Vec::new());
    let all = watch.certificates(SystemTime::now());
    let named = all.iter().filter(|one| one.path == plant.path("server.pem"));
    let named: Vec<_> = named.map(|one| one.used_as.as_str()).collect();
    assert_eq!(named, ["spark.cert, intake.cert, the own server"]);
}
