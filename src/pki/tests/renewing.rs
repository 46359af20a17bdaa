use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::pki::renewal::renew_at;

const DAY: Duration = Duration::from_hours(24);

/// The keys of a folder, in the order of their names.
fn keys(plant: &Plant) -> [String; 3] {
    ["ca.key", "client.key", "server.key"].map(|file| plant.read(file))
}

#[tokio::test]
async fn renew_keeps_names_keys_and_ca() {
    let plant = Plant::made();
    issue_client(&plant.dir, "line3.plant1").unwrap();
    let (before, old) = (plant.all(), tls::names(&plant.path("server.pem")).unwrap());
    let old_client = plant.client("line3.plant1");

    let renewal = renew(&plant.dir, Keys::Kept).unwrap();
    let renewed: Vec<_> = renewal.renewed.iter().map(|one| one.cert.clone()).collect();
    assert_eq!(renewed, ["client.pem", "line3.plant1.pem", "server.pem"].map(|f| plant.path(f)));
    assert!(renewal.skipped.is_empty() && renewal.former_end.is_none());
    for (file, (before, after)) in ALL.iter().zip(before.iter().zip(&plant.all())) {
        let is_renewed = ["server.pem", "client.pem"].contains(file);
        assert_eq!(before != after, is_renewed, "{file}");
    }
    assert_eq!(tls::names(&plant.path("server.pem")).unwrap(), old);
    plant.check_pairs();

    // Clients change over one by one: the old certificate is still good.
    for client in [old_client, plant.client("line3.plant1")] {
        let peer = plant.shake(client, "localhost").await;
        assert_eq!(peer.name.as_deref(), Some("line3.plant1"));
    }
}

#[tokio::test]
async fn new_keys_are_made_where_they_are_asked_for() {
    let plant = Plant::made();
    let (before, old_client) = (plant.all(), plant.client("client"));
    let renewal = renew(&plant.dir, Keys::New).unwrap();
    assert!(renewal.renewed.iter().all(|one| one.new_key));
    assert!(renewal.to_string().contains("and key, both together"), "{renewal}");
    let after = plant.all();
    assert_eq!(before[..2], after[..2], "the authority stays");
    assert!(before[2..].iter().zip(&after[2..]).all(|(before, after)| before != after));
    plant.check_pairs();
    for client in [old_client, plant.client("client")] {
        plant.shake(client, "localhost").await;
    }
}

#[test]
fn a_certificate_fits_its_key_whenever_the_two_are_read() {
    let plant = Plant::made();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !ended.load(Ordering::Relaxed) {
                plant.check_pairs();
                reads += 1;
            }
            reads
        });
        for _ in 0..20 {
            renew(&plant.dir, Keys::Kept).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn a_client_whose_key_is_elsewhere_is_renewed_for_that_key() {
    let plant = Plant::made();
    let (key, elsewhere) = (plant.path("client.key"), plant.path("moved"));
    fs::rename(&key, &elsewhere).unwrap();
    let before = plant.read("client.pem");
    renew(&plant.dir, Keys::Kept).unwrap();
    assert_ne!(plant.read("client.pem"), before);
    assert!(!key.exists());
    tls::check_pair(&plant.path("client.pem"), &elsewhere).unwrap();
}

#[test]
fn a_renewal_that_crashed_before_the_rename_is_finished_or_never_was() {
    let plant = Plant::made();
    let before = plant.all();
    renew(&plant.dir, Keys::Kept).unwrap();
    let new = plant.read("server.pem");
    let staged = plant.path(".server.pem.part");

    // Staged whole: whoever comes next finishes it.
    fs::write(plant.path("server.pem"), &before[2]).unwrap();
    fs::write(&staged, &new).unwrap();
    plant.check_pairs();
    assert!(ensure(&plant.dir, &[]).unwrap().is_none());
    assert_eq!(plant.read("server.pem"), new);
    assert!(!staged.exists());

    // Cut short: it never was.
    fs::write(&staged, &new[..new.len() / 2]).unwrap();
    assert!(ensure(&plant.dir, &[]).unwrap().is_none());
    assert_eq!(plant.read("server.pem"), new);
    assert!(!staged.exists());
    plant.check_pairs();
}

#[test]
fn a_renewal_that_crashed_between_key_and_certificate_is_completed() {
    let plant = Plant::made();
    let (old_key, old_cert) = (plant.read("server.key"), plant.read("server.pem"));
    renew(&plant.dir, Keys::New).unwrap();
    let new_cert = plant.read("server.pem");
    // The key went ahead, the certificate is staged still.
    fs::write(plant.path(".server.pem.part"), &new_cert).unwrap();
    fs::write(plant.path("server.pem"), &old_cert).unwrap();
    assert!(tls::check_pair(&plant.path("server.pem"), &plant.path("server.key")).is_err());
    assert!(ensure(&plant.dir, &[]).unwrap().is_none());
    assert_eq!(plant.read("server.pem"), new_cert);
    plant.check_pairs();

    // Nothing staged: a pair that does not match is made again.
    fs::write(plant.path("server.key"), old_key).unwrap();
    let renewal = renew(&plant.dir, Keys::Kept).unwrap();
    let new: Vec<_> = renewal.renewed.iter().filter(|one| one.new_key).collect();
    assert_eq!(new.iter().map(|one| &one.cert).collect::<Vec<_>>(), [&plant.path("server.pem")]);
    plant.check_pairs();
}

#[test]
fn a_group_that_could_read_a_key_can_read_the_renewed_one() {
    let plant = Plant::made();
    fs::set_permissions(plant.path("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
    renew(&plant.dir, Keys::New).unwrap();
    assert_eq!(mode(&plant.path("server.key")), 0o640);
    assert_eq!(mode(&plant.path("client.key")), 0o600);
}

#[tokio::test]
async fn an_authority_is_renewed_years_ahead_and_no_client_notices() {
    let plant = Plant::empty();
    let start = at(tls::FLOOR) + 700 * DAY;
    init_at(&plant.dir, &[], start).unwrap();
    let (keys_before, end) = (keys(&plant), tls::not_after(&plant.path("ca.pem")).unwrap());
    // As Spark holds it: the old authority, the old certificate.
    let old_client = plant.client("client");
    let early = renew_at(&plant.dir, Keys::Kept, end - 6 * 365 * DAY).unwrap();
    assert_eq!((early.former_end, early.authority_expires), (None, end));

    let renewal = renew_at(&plant.dir, Keys::Kept, end - 4 * 365 * DAY).unwrap();
    assert_eq!(renewal.former_end, Some(end));
    assert!(renewal.authority_expires > end + 15 * 365 * DAY);
    let told = renewal.to_string();
    let before = format!("give the new ca.pem to every client before {}", tls::date(end));
    assert!(told.contains(&before), "{told}");
    assert_eq!(keys(&plant), keys_before);
    // Both ways round: an old certificate at the new authority, and an old
    // authority that looks at a new certificate.
    for client in [old_client, plant.client("client")] {
        let peer = plant.shake(client, "localhost").await;
        assert_eq!(peer.name.as_deref(), Some("client"));
    }
}

#[test]
fn an_authority_that_has_ended_is_renewed_too_and_until_then_signs_nothing() {
    let plant = Plant::empty();
    init_at(&plant.dir, &[], at(tls::FLOOR)).unwrap();
    let late = tls::not_after(&plant.path("ca.pem")).unwrap() + 10 * DAY;
    let folder = Folder::open(&plant.dir).unwrap();
    let names = ["late".to_owned()];
    let subject = Subject { names: &names, purpose: Purpose::CLIENT };
    let refused = Authority::load(&folder).unwrap().sign(subject, late).err().unwrap();
    assert!(refused.to_string().contains("pki renew"), "{refused}");
    drop(folder);
    let renewal = renew_at(&plant.dir, Keys::Kept, late).unwrap();
    assert!(renewal.renewed.iter().all(|one| one.expires > late + 800 * DAY));
}

#[tokio::test]
async fn clients_of_two_authorities_in_one_file_are_let_in_while_they_change_over() {
    let (plant, successor) = (Plant::made(), Plant::made());
    let of_both = plant.read("ca.pem") + &successor.read("ca.pem");
    for other in [&plant, &successor] {
        fs::write(other.path("both.pem"), &of_both).unwrap();
    }
    for server in [&plant, &successor] {
        for client in [&plant, &successor] {
            let (cert, key) = (client.path("client.pem"), client.path("client.key"));
            let both = client.path("both.pem");
            let config = tls::client_config(Some(&both), Some((&cert, &key))).unwrap();
            let peer = server.shake_as(config, "localhost", "both.pem").await;
            assert_eq!(peer.name.as_deref(), Some("client"));
        }
    }
}

#[test]
fn renew_leaves_certificates_of_other_authorities() {
    let (plant, other) = (Plant::made(), Plant::made());
    fs::copy(other.path("server.pem"), plant.path("company.pem")).unwrap();
    fs::write(plant.path("broken.pem"), "").unwrap();
    let renewal = renew(&plant.dir, Keys::Kept).unwrap();
    let skipped: Vec<_> = renewal.skipped.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(skipped, [plant.path("broken.pem"), plant.path("company.pem")]);
    assert_eq!(plant.read("company.pem"), other.read("server.pem"));
    assert!(renewal.to_string().contains("another authority signed it"));
}
