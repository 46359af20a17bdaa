mod renewing;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::{Acceptor, ClientCertificates, Peer, ServerTls, Versions};

const YEAR: Duration = Duration::from_hours(365 * 24);
const ALL: [&str; 6] = ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"];

struct Plant {
    _root: TempDir,
    dir: PathBuf,
}

impl Plant {
    /// A folder that is not there yet.
    fn empty() -> Self {
        let root = TempDir::new().unwrap();
        let dir = root.path().join("pki");
        Self { _root: root, dir }
    }

    fn made() -> Self {
        let made = Self::empty();
        init(&made.dir, &["edge1.plant.example".to_owned(), "192.168.1.10".to_owned()]).unwrap();
        made
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn all(&self) -> Vec<String> {
        ALL.iter().map(|file| self.read(file)).collect()
    }

    fn check_pairs(&self) {
        for name in [CA, SERVER, CLIENT] {
            let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
            tls::check_pair(&self.path(&cert), &self.path(&key)).unwrap();
        }
    }

    fn client(&self, name: &str) -> ClientConfig {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        tls::client_config(Some(&self.path("ca.pem")), Some((&cert, &key))).unwrap()
    }

    /// A mutual handshake over a loopback socket: the name the server saw.
    async fn shake(&self, client: ClientConfig, host: &'static str) -> Peer {
        self.shake_as(client, host, "ca.pem").await
    }

    /// As `shake`, with another file of authorities for clients.
    async fn shake_as(&self, client: ClientConfig, host: &'static str, ca: &str) -> Peer {
        let acceptor = Acceptor::new(ServerTls {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            clients: ClientCertificates::Required { ca: self.path(ca) },
            versions: Versions::Tls13,
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (connection, _) = listener.accept().await.unwrap();
            acceptor.accept(connection, Duration::from_secs(10)).await
        };
        let client = async {
            let connection = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(host).unwrap();
            TlsConnector::from(Arc::new(client)).connect(name, connection).await
        };
        let (server, client) = tokio::join!(server, client);
        client.unwrap();
        server.unwrap().1
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_init_makes_shakes_hands_under_every_name() {
    let plant = Plant::made();
    for host in ["localhost", "127.0.0.1", "::1", "edge1.plant.example", "192.168.1.10"] {
        let peer = plant.shake(plant.client("client"), host).await;
        assert_eq!(peer.name.as_deref(), Some("client"), "{host}");
    }
}

#[test]
fn keys_are_for_their_owner_alone() {
    let plant = Plant::made();
    assert_eq!(mode(&plant.dir), 0o700);
    for name in [CA, SERVER, CLIENT] {
        assert_eq!(mode(&plant.path(&format!("{name}.key"))), 0o600);
    }
    assert_eq!(fs::read_dir(&plant.dir).unwrap().count(), ALL.len(), "nothing staged is left");
}

#[test]
fn an_existing_ca_is_never_overwritten() {
    let plant = Plant::made();
    let before = plant.all();
    assert!(matches!(init(&plant.dir, &[]), Err(Error::AuthorityExists { .. })));
    assert_eq!(plant.all(), before);

    // Half of one is one too.
    for file in ["ca.pem", "ca.key"] {
        let half = Plant::empty();
        fs::create_dir(&half.dir).unwrap();
        fs::write(half.path(file), "precious").unwrap();
        assert!(matches!(init(&half.dir, &[]), Err(Error::AuthorityExists { .. })));
        assert_eq!(half.read(file), "precious");
    }
}

#[test]
fn ensure_makes_once_and_then_leaves_as_is() {
    let plant = Plant::empty();
    let created = ensure(&plant.dir, &[]).unwrap().unwrap();
    assert_eq!(created.files.len(), ALL.len());
    let before = plant.all();
    assert!(ensure(&plant.dir, &["more".to_owned()]).unwrap().is_none());
    assert_eq!(plant.all(), before);

    // Moving secrets elsewhere is not a reason to make new ones.
    for file in ["ca.key", "client.pem", "client.key"] {
        fs::remove_file(plant.path(file)).unwrap();
    }
    assert!(ensure(&plant.dir, &[]).unwrap().is_none());
    assert!(!plant.path("client.key").exists());
}

#[test]
fn ensure_finishes_what_a_crash_left_at_any_step() {
    // The order in which files appear; a crash leaves a prefix of it.
    let order = ["ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem"];
    for step in 0..=order.len() {
        let plant = Plant::made();
        let authority = plant.read("ca.pem");
        for (i, file) in order.iter().enumerate().skip(step) {
            let staged = plant.path(&format!(".{file}.part"));
            // The pair in work is staged whole; later ones are not begun.
            if i / 2 == step / 2 {
                fs::rename(plant.path(file), staged).unwrap();
            } else {
                fs::remove_file(plant.path(file)).unwrap();
            }
        }
        ensure(&plant.dir, &[]).unwrap();
        plant.check_pairs();
        if step > 0 {
            assert_eq!(plant.read("ca.pem"), authority, "step {step}");
        }
        assert_eq!(fs::read_dir(&plant.dir).unwrap().count(), ALL.len(), "step {step}");
    }
}

#[test]
fn half_a_server_pair_is_reported_and_left() {
    let plant = Plant::made();
    fs::remove_file(plant.path("server.pem")).unwrap();
    let text = ensure(&plant.dir, &[]).unwrap_err().to_string();
    assert!(text.contains("server.key is there"), "{text}");
    assert!(plant.path("server.key").exists());
}

#[test]
fn what_was_staged_but_never_begun_is_dropped() {
    let plant = Plant::made();
    let before = plant.all();
    for file in [".server.key.part", ".server.pem.part", ".x.key.part"] {
        fs::write(plant.path(file), "half").unwrap();
    }
    assert!(ensure(&plant.dir, &[]).unwrap().is_none());
    assert_eq!(plant.all(), before);
    assert_eq!(fs::read_dir(&plant.dir).unwrap().count(), ALL.len());
}

#[tokio::test]
async fn a_box_whose_clock_is_unset_makes_certificates_that_work_later() {
    for now in [at(0), at(40), at(tls::FLOOR - 1)] {
        let plant = Plant::empty();
        let created = init_at(&plant.dir, &[], now).unwrap();
        assert!(created.clock_unset);
        assert!(created.to_string().contains("pki renew"));
        assert!(created.expires > SystemTime::now() + YEAR);
        plant.shake(plant.client("client"), "localhost").await;
    }
}

#[test]
fn a_clients_name_must_be_a_dns_name() {
    let plant = Plant::made();
    let long = "a".repeat(65);
    for wrong in [
        "", ".", "a..b", "a.", ".a", "-a", "a-", "A", "a b", "a/b", "../a", "a_b", "ä", "*.a",
        "10.0.0.1", "::1", "ca", "server", &long,
    ] {
        let error = issue_client(&plant.dir, wrong).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{wrong}: {error}");
    }
    assert!(matches!(issue_client(&plant.dir, "client"), Err(Error::Exists { .. })));
    for right in ["spark-1", "line3.plant1", "7up"] {
        let identity = issue_client(&plant.dir, right).unwrap();
        assert_eq!(tls::names(&identity.cert).unwrap(), [right]);
        assert!(matches!(issue_client(&plant.dir, right), Err(Error::Exists { .. })));
    }
}

#[test]
fn a_wrong_server_name_is_refused_before_anything_is_made() {
    let plant = Plant::empty();
    for wrong in ["https://edge1", "edge1:8443", "[::1]", "", "a b", "*"] {
        assert!(
            matches!(init(&plant.dir, &[wrong.to_owned()]), Err(Error::Name { .. })),
            "{wrong}"
        );
    }
    assert!(!plant.dir.exists());
}

#[test]
fn an_authority_whose_key_is_elsewhere_or_wrong_says_so() {
    let (plant, other) = (Plant::made(), Plant::made());
    fs::remove_file(plant.path("ca.key")).unwrap();
    let error = issue_client(&plant.dir, "spark").unwrap_err();
    assert!(matches!(error, Error::NoAuthorityKey { .. }), "{error}");
    fs::copy(other.path("ca.key"), plant.path("ca.key")).unwrap();
    let error = issue_client(&plant.dir, "spark").unwrap_err();
    assert!(error.to_string().contains("ca.key does not belong to ca.pem"), "{error}");
    let nowhere = issue_client(&Plant::empty().dir, "spark").unwrap_err();
    assert!(nowhere.to_string().contains("pki init"), "{nowhere}");
}
