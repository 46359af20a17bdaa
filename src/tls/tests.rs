use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsConnector, client};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A folder with a CA and what it signed.
struct Plant {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Plant {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let plant = Self { dir: TempDir::new().unwrap(), ca };
        fs::write(plant.path("ca.pem"), plant.ca.pem()).unwrap();
        plant.sign("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, 2090);
        plant.sign("spark", &["Spark.Plant1", "other"], ExtendedKeyUsagePurpose::ClientAuth, 2090);
        plant
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn sign(&self, file: &str, names: &[&str], purpose: ExtendedKeyUsagePurpose, year: i32) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.ca).unwrap();
        fs::write(self.path(&format!("{file}.pem")), cert.pem()).unwrap();
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn settings(&self, clients: ClientCertificates) -> ServerTls {
        ServerTls {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            clients,
            versions: Versions::Tls13,
        }
    }

    fn required(&self) -> ClientCertificates {
        ClientCertificates::Required { ca: self.path("ca.pem") }
    }

    fn optional(&self) -> ClientCertificates {
        ClientCertificates::Optional { ca: self.path("ca.pem") }
    }

    fn acceptor(&self, clients: ClientCertificates) -> Acceptor {
        Acceptor::new(self.settings(clients)).unwrap()
    }

    /// A client that trusts this plant and shows the pair `file` of `from`.
    fn client(&self, identity: Option<(&Plant, &str)>) -> ClientConfig {
        let identity = identity.map(|(from, file)| {
            (from.path(&format!("{file}.pem")), from.path(&format!("{file}.key")))
        });
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        client_config(Some(&self.path("ca.pem")), identity).unwrap()
    }
}

type Client = std::io::Result<client::TlsStream<TcpStream>>;
type Server = Result<(TlsStream<TcpStream>, Peer), Error>;

async fn shake(acceptor: &Acceptor, config: ClientConfig) -> (Server, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (connection, _) = listener.accept().await.unwrap();
        acceptor.accept(connection, DEADLINE).await
    };
    let client = async {
        let connection = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, connection).await
    };
    tokio::join!(server, client)
}

/// The certificate that the server showed.
fn shown(client: &Client) -> Vec<u8> {
    client.as_ref().unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_client_of_the_same_ca_is_known_by_its_first_dns_name_in_lower_case() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(plant.required());
    let (server, client) = shake(&acceptor, plant.client(Some((&plant, "spark")))).await;
    let (mut server, peer) = server.unwrap();
    assert_eq!(peer.name.as_deref(), Some("spark.plant1"));

    let mut client = client.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0; 5];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_in_the_handshake() {
    let (plant, stranger) = (Plant::new(), Plant::new());
    for clients in [plant.required(), plant.optional()] {
        let acceptor = plant.acceptor(clients);
        let (server, _) = shake(&acceptor, plant.client(Some((&stranger, "spark")))).await;
        let error = server.unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("not signed by") && text.contains("ca.pem"), "{text}");
    }
}

#[tokio::test]
async fn a_server_certificate_does_not_serve_as_a_client() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(plant.required());
    let (server, _) = shake(&acceptor, plant.client(Some((&plant, "server")))).await;
    assert!(matches!(server, Err(Error::Handshake { .. })));
}

#[tokio::test]
async fn an_expired_client_is_refused_and_told_apart() {
    let plant = Plant::new();
    plant.sign("old", &["old"], ExtendedKeyUsagePurpose::ClientAuth, 2024);
    let acceptor = plant.acceptor(plant.required());
    let (server, _) = shake(&acceptor, plant.client(Some((&plant, "old")))).await;
    let text = server.unwrap_err().to_string();
    assert!(text.contains("renew the client's certificate"), "{text}");
}

#[tokio::test]
async fn a_client_without_a_certificate_enters_only_where_it_is_optional() {
    let plant = Plant::new();
    for (clients, enters) in
        [(ClientCertificates::None, true), (plant.optional(), true), (plant.required(), false)]
    {
        let acceptor = plant.acceptor(clients.clone());
        let (server, _) = shake(&acceptor, plant.client(None)).await;
        match server {
            Ok((_, peer)) => assert!(enters && peer.name.is_none(), "{clients:?}"),
            Err(e) => {
                assert!(!enters, "{clients:?}: {e}");
                assert!(e.to_string().contains("showed no certificate"), "{e}");
            }
        }
    }
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_where_it_is_allowed() {
    let plant = Plant::new();
    for (versions, enters) in [(Versions::Tls13, false), (Versions::Tls12And13, true)] {
        let settings = ServerTls { versions, ..plant.settings(ClientCertificates::None) };
        let acceptor = Acceptor::new(settings).unwrap();
        let old = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots(&plant.path("ca.pem")).unwrap())
            .with_no_client_auth();
        let (server, _) = shake(&acceptor, old).await;
        assert_eq!(server.is_ok(), enters, "{versions:?}");
        if let Err(e) = server {
            assert!(e.to_string().contains("no TLS version in common"), "{e}");
        }
    }
}

#[tokio::test]
async fn a_reload_shows_the_new_certificate() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(ClientCertificates::None);
    let (_, before) = shake(&acceptor, plant.client(None)).await;
    plant.sign("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, 2091);
    acceptor.reload().unwrap();
    let (_, after) = shake(&acceptor, plant.client(None)).await;
    assert_ne!(shown(&before), shown(&after));
}

#[tokio::test]
async fn a_failed_reload_keeps_the_old_certificate() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(ClientCertificates::None);
    let (_, before) = shake(&acceptor, plant.client(None)).await;
    fs::copy(plant.path("spark.key"), plant.path("server.key")).unwrap();
    assert!(matches!(acceptor.reload(), Err(Error::KeyMismatch { .. })));
    fs::write(plant.path("server.pem"), "").unwrap();
    assert!(matches!(acceptor.reload(), Err(Error::Missing { .. })));
    let (_, after) = shake(&acceptor, plant.client(None)).await;
    assert_eq!(shown(&before), shown(&after));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped_at_the_deadline() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(ClientCertificates::None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut silent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connection, _) = listener.accept().await.unwrap();
    let outcome = acceptor.accept(connection, Duration::from_millis(20)).await;
    assert!(matches!(outcome, Err(Error::Deadline { .. })));
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0, "the connection is closed");
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let plant = Plant::new();
    let acceptor = plant.acceptor(ClientCertificates::None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plain = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    plain.write_all(b"POST /notify HTTP/1.1\r\n\r\n").await.unwrap();
    let (connection, _) = listener.accept().await.unwrap();
    let error = acceptor.accept(connection, DEADLINE).await.unwrap_err();
    assert!(error.to_string().contains("http instead of https"), "{error}");
}

#[tokio::test]
async fn an_expired_server_certificate_is_served_and_reported() {
    let plant = Plant::new();
    plant.sign("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, 2024);
    plant.acceptor(ClientCertificates::None);
    let error = expires_in(&plant.path("server.pem")).unwrap_err();
    assert!(error.to_string().contains("expired on 2024-01-01"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_named_with_both_files() {
    let plant = Plant::new();
    let (cert, key) = (plant.path("server.pem"), plant.path("spark.key"));
    let text = check_pair(&cert, &key).unwrap_err().to_string();
    assert!(text.contains(cert.to_str().unwrap()), "{text}");
    assert!(text.contains(key.to_str().unwrap()), "{text}");
    assert!(text.contains("does not belong") && text.contains("pki renew"), "{text}");
    check_pair(&cert, &plant.path("server.key")).unwrap();
}

#[test]
fn every_wrong_file_is_told_apart() {
    let plant = Plant::new();
    let file = plant.path("wrong");
    let key_error = |content: &[u8]| {
        fs::write(&file, content).unwrap();
        pem::private_key(&file).unwrap_err().to_string()
    };
    let cert = fs::read(plant.path("server.pem")).unwrap();
    assert!(key_error(b"").contains("empty"));
    assert!(key_error(&cert).contains("exchanged"));
    assert!(key_error(b"\x30\x82\x01").contains("not PEM"));
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(key_error(encrypted).contains("decrypt it"));
    assert!(key_error(&cert[..cert.len() / 2]).contains("damaged"));
    let text = pem::certificates(&plant.path("server.key")).unwrap_err().to_string();
    assert!(text.contains("holds no certificate") && text.contains("exchanged"), "{text}");
    let text = pem::certificates(Path::new("/nonexistent/x.pem")).unwrap_err().to_string();
    assert!(text.contains("/nonexistent/x.pem") && text.contains("pki init"), "{text}");
}

#[test]
fn an_unreadable_key_says_who_must_read_it() {
    // Made by hand, because a test that runs as root may read everything.
    let error = Error::Read {
        what: "private key",
        path: "/x/server.key".into(),
        source: ErrorKind::PermissionDenied.into(),
    };
    let text = error.to_string();
    assert!(text.contains("/x/server.key") && text.contains("the user that ngsi-ferry"), "{text}");
}

#[test]
fn names_and_expiry_are_read_from_the_file() {
    let plant = Plant::new();
    let names_asked = ["localhost", "127.0.0.1", "::1"];
    plant.sign("server", &names_asked, ExtendedKeyUsagePurpose::ServerAuth, 2060);
    let cert = plant.path("server.pem");
    assert_eq!(names(&cert).unwrap(), names_asked);
    let end = SystemTime::from(rcgen::date_time_ymd(2060, 1, 1));
    assert_eq!(not_after(&cert).unwrap(), end);

    // A chain lasts as long as its shortest.
    plant.sign("short", &["ca"], ExtendedKeyUsagePurpose::ServerAuth, 2050);
    let chain = [fs::read(&cert).unwrap(), fs::read(plant.path("short.pem")).unwrap()].concat();
    fs::write(&cert, chain).unwrap();
    assert_eq!(not_after(&cert).unwrap(), SystemTime::from(rcgen::date_time_ymd(2050, 1, 1)));
}

#[test]
fn the_provider_may_be_installed_twice() {
    install_provider();
    install_provider();
    assert!(CryptoProvider::get_default().is_some());
}

#[tokio::test]
async fn who_judges_by_a_wrong_clock_is_told_to_look_at_it() {
    let plant = Plant::new();
    plant.sign("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, 2024);
    let acceptor = plant.acceptor(ClientCertificates::None);
    let (server, client) = shake(&acceptor, plant.client(None)).await;
    let text = chain(&client.unwrap_err());
    assert!(
        text.contains("certificate expired") && text.contains("check this box's clock"),
        "{text}"
    );
    let text = server.unwrap_err().to_string();
    assert!(text.contains("by the client's clock"), "{text}");
}

#[tokio::test]
async fn only_an_authority_that_is_gone_ends_what_it_let_in() {
    let (plant, other) = (Plant::new(), Plant::new());
    let acceptor = plant.acceptor(plant.required());
    let (server, _) = shake(&acceptor, plant.client(Some((&plant, "spark")))).await;
    let peer = server.unwrap().1;
    let read = |plant: &Plant| fs::read_to_string(plant.path("ca.pem")).unwrap();
    fs::write(plant.path("ca.pem"), read(&other) + &read(&plant)).unwrap();
    acceptor.reload().unwrap();
    assert!(!peer.trust.is_cancelled(), "another one was added");
    fs::copy(other.path("ca.pem"), plant.path("ca.pem")).unwrap();
    acceptor.reload().unwrap();
    assert!(peer.trust.is_cancelled());
    let (client, _) = acceptor.clients().into_iter().next().unwrap();
    assert_eq!(client, "spark.plant1");
}
