//! Which certificates a configuration uses, and who has read them.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::certificates::{File, Origin, User, Watch};
use crate::config::Config;
use crate::orion::replay;
use crate::tls::Acceptor;
use crate::uplink;

/// The folder of the gateway's own authority, where anything of it is in use.
#[must_use]
pub fn own_folder(config: &Config) -> Option<PathBuf> {
    config.spark.cert.is_none().then(|| config.pki_dir())
}

/// The files of certificates that a configuration names.
#[must_use]
pub fn files(config: &Config) -> Vec<File> {
    let Config { spark, intake, pass_through, uplink, orion, .. } = config;
    let mut files = Vec::new();
    let mut add = |used_as: &str, path: Option<&PathBuf>, origin: Origin| {
        let used_as = used_as.to_owned();
        files.extend(path.cloned().map(|path| File { path, used_as, origin }));
    };
    add("spark.cert", spark.cert.as_ref(), Origin::Elsewhere);
    add("spark.client_ca", spark.client_ca.as_ref(), Origin::Authority);
    add("intake.cert", intake.cert.as_ref(), Origin::Elsewhere);
    add("pass_through.cert", pass_through.cert.as_ref(), Origin::Elsewhere);
    for (at, socket) in config.line_socket.iter().enumerate() {
        add(&format!("line_socket[{at}].cert"), socket.cert.as_ref(), Origin::Elsewhere);
        add(&format!("line_socket[{at}].client_ca"), socket.client_ca.as_ref(), Origin::Authority);
    }
    if uplink.url.is_some() {
        add("uplink.cert", uplink.cert.as_ref(), Origin::Relay);
        add("uplink.ca", uplink.ca.as_ref(), Origin::RelayAuthority);
    }
    add("orion.ca", orion.ca.as_ref(), Origin::Authority);
    for (at, target) in orion.target.iter().enumerate() {
        add(&format!("orion.target[{at}].ca"), target.ca.as_ref(), Origin::Authority);
    }
    files
}

/// Everybody who reads certificates, and how they take over new ones.
pub(super) fn watch(
    config: &Arc<ArcSwap<Config>>,
    acceptors: &[(String, Arc<Acceptor>)],
    replay: &replay::Handle,
    uplink: Option<&uplink::Handle>,
) -> Watch {
    let mut users: Vec<User> = acceptors.iter().map(of_listener).collect();
    {
        let (now, replay) = (Arc::clone(config), replay.clone());
        let latest = Arc::clone(config);
        users.push(User {
            name: "orion.ca".to_owned(),
            files: Box::new(move || {
                let config = now.load();
                let targets = config.orion.target.iter().filter_map(|target| target.ca.clone());
                config.orion.ca.clone().into_iter().chain(targets).collect()
            }),
            take_over: Box::new(move || {
                replay.reload(latest.load().orion.clone()).map_err(|error| error.to_string())
            }),
        });
    }
    if let Some(uplink) = uplink.cloned() {
        let (now, latest) = (Arc::clone(config), Arc::clone(config));
        users.push(User {
            name: "uplink.cert".to_owned(),
            files: Box::new(move || {
                let uplink = &now.load().uplink;
                let all = [&uplink.cert, &uplink.key, &uplink.ca];
                all.into_iter().flatten().cloned().collect()
            }),
            take_over: Box::new(move || {
                uplink.reload(&latest.load().uplink).map_err(|error| error.to_string())
            }),
        });
    }
    let loaded = config.load();
    let listeners = acceptors.iter().map(|(_, acceptor)| Arc::clone(acceptor)).collect();
    Watch::new(own_folder(&loaded), files(&loaded), listeners).with_users(users)
}

fn of_listener((name, acceptor): &(String, Arc<Acceptor>)) -> User {
    let (files, acceptor) = (Arc::clone(acceptor), Arc::clone(acceptor));
    User {
        name: name.clone(),
        files: Box::new(move || files.files()),
        take_over: Box::new(move || acceptor.reload().map_err(|error| error.to_string())),
    }
}
