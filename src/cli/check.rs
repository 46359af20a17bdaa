//! `ngsi-ferry check`: everything that can be wrong before a start, at once.

mod held_ports;
mod startup;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::json;

use self::held_ports::is_held_by_systemd;
use super::gateway::is_writable;
use super::print_line;
use super::table::bytes;
use crate::certificates::Watch;
use crate::config::{Config, Problem, Problems, Settings, process_environment};
use crate::spark::Access;
use crate::{app, tls, uplink};

const ORION_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only look for what no start can get over: no ports, no Orion, no free
    /// space, no dates; says nothing where all is well
    #[arg(long, conflicts_with = "json")]
    startup: bool,
}

/// What was found: fine, worth a look, or in the way of a start.
#[derive(Default)]
struct Findings {
    fine: Vec<String>,
    notices: Vec<String>,
    problems: Vec<Problem>,
}

pub(super) async fn run(file: Option<&Path>, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.startup {
        return Ok(startup::run(file));
    }
    let mut found = Findings::default();
    let (settings, problems) = Settings::load_leniently(file, process_environment());
    let readable = problems.is_empty();
    found.problems.extend(problems);
    if let Some(settings) = settings {
        files(&settings, &mut found);
        credentials_for_others(&settings, &mut found);
        ends(&settings.config, &mut found);
        disk(&settings, &mut found);
        found.notices.extend(settings.config.too_few_connections());
        found.notices.extend(settings.config.larger_than_a_relay_takes());
        if readable {
            found.fine.push(match file {
                Some(file) => format!("configuration {}", file.display()),
                None => "configuration: built-in defaults".to_owned(),
            });
            ports(&settings, &mut found);
            orion(&settings.config, &mut found).await;
        }
    }
    if !readable {
        let text = "ports and Orion are looked at once the configuration can be read";
        found.notices.push(text.to_owned());
    }
    let problems = Problems::new(found.problems);
    if arguments.json {
        let report = json!({ "fine": found.fine, "notices": found.notices, "problems": problems });
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        found.fine.iter().for_each(|fine| print_line(&format!("ok      {fine}")));
        found.notices.iter().for_each(|notice| print_line(&format!("notice  {notice}")));
        for problem in &problems {
            print_line(&format!("WRONG   {problem}"));
        }
        if problems.is_empty() {
            print_line("Nothing is in the way of a start.");
        } else {
            let what = if problems.len() == 1 { "problem" } else { "problems" };
            print_line(&format!("{} {what} in the way of a start.", problems.len()));
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn files(settings: &Settings, found: &mut Findings) {
    let Config { spark, intake, pass_through, uplink, .. } = &settings.config;
    let own = settings.config.pki_dir();
    let pairs = [
        ("spark", spark.cert.clone(), spark.key.clone()),
        ("intake", intake.cert.clone(), intake.key.clone()),
        ("pass_through", pass_through.cert.clone(), pass_through.key.clone()),
        ("uplink", uplink.cert.clone(), uplink.key.clone()),
    ];
    let pairs = pairs.map(|(table, cert, key)| (table.to_owned(), cert, key)).into_iter();
    let line_sockets = settings.config.line_socket.iter().enumerate();
    let line_sockets = line_sockets
        .map(|(at, one)| (format!("line_socket[{at}]"), one.cert.clone(), one.key.clone()));
    for (table, cert, key) in pairs.chain(line_sockets) {
        if let (Some(cert), Some(key)) = (cert, key) {
            certificate(settings, &format!("{table}.cert"), &cert, &key, found);
        }
    }
    if spark.cert.is_none() {
        let (cert, key) = (own.join("server.pem"), own.join("server.key"));
        if cert.exists() {
            certificate(settings, "spark.cert", &cert, &key, found);
        } else {
            found.notices.push(format!(
                "no certificates yet; the first start makes an authority in {}",
                own.display()
            ));
        }
    }
    let mut object = |setting: &str, error: String| {
        found.problems.push(settings.problem(setting, &error, None));
    };
    if let Err(error) = Access::load(Vec::new(), spark.token_file.as_deref(), None) {
        object("spark.token_file", error.to_string());
    }
    if let Err(error) = Access::load(Vec::new(), None, spark.deny_file.as_deref()) {
        object("spark.deny_file", error.to_string());
    }
    if let Err(error) = Access::load(Vec::new(), pass_through.token_file.as_deref(), None) {
        object("pass_through.token_file", error.to_string());
    }
    let readable: [(&str, &Option<PathBuf>); 3] = [
        ("uplink.ca", &uplink.ca),
        ("intake.secret_file", &intake.secret_file),
        ("spark.client_ca", &spark.client_ca),
    ];
    let readable = readable.map(|(setting, path)| (setting.to_owned(), path)).into_iter();
    let line_sockets = settings.config.line_socket.iter().enumerate();
    let line_sockets =
        line_sockets.map(|(at, one)| (format!("line_socket[{at}].client_ca"), &one.client_ca));
    for (setting, path) in readable.chain(line_sockets) {
        if let Some(Err(error)) = path.as_ref().map(std::fs::read) {
            object(&setting, error.to_string());
        }
    }
}

/// What the gateway runs without, though not as it should: write-backs wait,
/// or the relay refuses it.
fn credentials_for_others(settings: &Settings, found: &mut Findings) {
    let Config { orion, uplink, .. } = &settings.config;
    if let Some(Err(error)) = orion.token_file.as_ref().map(std::fs::read) {
        found.problems.push(settings.problem("orion.token_file", &error.to_string(), None));
    }
    if let Some(Ok(name)) = uplink.cert.as_deref().map(uplink::certificate_name) {
        let id = settings.config.id();
        if name.as_ref() != Some(&id) {
            let name = name.as_deref().unwrap_or("nobody");
            let why = format!("the relay would know this gateway as {name}, and its id is {id}");
            let hint = format!(
                "set id = \"{name}\", or make a certificate with `ngsi-ferry pki client {id}` on the relay"
            );
            found.problems.push(settings.problem("uplink.cert", &why, Some(&hint)));
        }
    }
}

fn certificate(settings: &Settings, setting: &str, cert: &Path, key: &Path, found: &mut Findings) {
    if let Err(error) = tls::check_pair(cert, key) {
        found.problems.push(settings.problem(setting, &error.to_string(), None));
        return;
    }
    let names = tls::names(cert).unwrap_or_default().join(", ");
    found.fine.push(format!("certificate {} for {names}", cert.display()));
}

/// Every certificate that needs care, authorities and clients' too.
fn ends(config: &Config, found: &mut Findings) {
    let watch = Watch::new(
        app::certificates::own_folder(config),
        app::certificates::files(config),
        Vec::new(),
    );
    let now = SystemTime::now();
    for one in watch.certificates(now) {
        let (path, used_as) = (one.path.display(), &one.used_as);
        let told = found.problems.iter().any(|told| told.to_string().contains(&*path.to_string()));
        if let Some(problem) = one.problem.filter(|_| !told) {
            found.notices.push(format!("certificate {path} ({used_as}): {problem}"));
        }
    }
    found.notices.extend(tls::unset_clock(now));
}

fn disk(settings: &Settings, found: &mut Findings) {
    let config = &settings.config;
    let dir = &config.data_dir;
    let folder = match writable_folder(config) {
        Ok(folder) => folder,
        Err((folder, error)) => {
            found.problems.push(not_writable(settings, &folder, &error));
            return;
        }
    };
    let Ok(disk) = rustix::fs::statvfs(&folder) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let text = format!("data directory {}: {} free", dir.display(), bytes(free));
    if free < config.store.min_free {
        let message =
            format!("{text}, less than store.min_free = {}", bytes(config.store.min_free));
        let hint = "make room, or set a smaller store.min_free";
        found.problems.push(settings.problem("store.min_free", &message, Some(hint)));
    } else if free < config.store.max_bytes {
        let limit = bytes(config.store.max_bytes);
        found.notices.push(format!("{text}, less than store.max_bytes = {limit}"));
    } else {
        found.fine.push(text);
    }
}

/// The nearest folder of the data directory that is there already: it will
/// hold what is made. Or the one that cannot be written, and why.
fn writable_folder(config: &Config) -> Result<PathBuf, (PathBuf, std::io::Error)> {
    let dir = &config.data_dir;
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    let there = absolute.ancestors().find(|folder| folder.exists());
    let folder = there.unwrap_or(Path::new("/")).to_owned();
    match is_writable(&folder) {
        Ok(()) => Ok(folder),
        Err(error) => Err((folder, error)),
    }
}

fn not_writable(settings: &Settings, folder: &Path, error: &std::io::Error) -> Problem {
    // Set by systemd; the rest of the file system is read-only for the service.
    let hint = match std::env::var("STATE_DIRECTORY") {
        Ok(state) => format!(
            "the service may write to {state} alone: set data_dir to that, or allow another folder with ReadWritePaths= (systemctl edit)"
        ),
        Err(_) => "run this as the gateway's user or root, give the folder to that user, or set another data_dir".to_owned(),
    };
    let message = format!("{} cannot be written: {error}", folder.display());
    settings.problem("data_dir", &message, Some(&hint))
}

fn ports(settings: &Settings, found: &mut Findings) {
    let socket = settings.config.admin_socket();
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => {
            let text = "a gateway runs with this configuration; its ports are its own";
            found.notices.push(text.to_owned());
            return;
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let text = "this user cannot see whether a gateway runs, and has the ports; run this as root or as the gateway's user";
            found.notices.push(text.to_owned());
            return;
        }
        Err(_) => {}
    }
    for (setting, address) in settings.config.listeners() {
        match TcpListener::bind(address) {
            Ok(_) => found.fine.push(format!("{setting} {address} is free")),
            Err(_) if is_held_by_systemd(address.port()) => {
                let port = address.port();
                found.fine.push(format!("{setting}: systemd holds port {port} for the gateway"));
            }
            Err(error) => {
                let hint = "stop the other program, or choose another address or port";
                let message = format!("cannot listen: {error}");
                found.problems.push(settings.problem(&setting, &message, Some(hint)));
            }
        }
    }
}

/// An Orion that is away is no reason not to start: that is what this is for.
async fn orion(config: &Config, found: &mut Findings) {
    let url = &config.orion.url;
    tls::install_provider();
    let asked = async {
        let client = reqwest::Client::builder().no_proxy().timeout(ORION_PATIENCE);
        let client = if url.starts_with("https:") {
            client.tls_backend_preconfigured(tls::client_config(config.orion.ca.as_deref(), None)?)
        } else {
            // A box may have no authorities, and needs none then.
            client.tls_certs_only([])
        };
        let client = client.build()?;
        let version = format!("{}/version", url.trim_end_matches('/'));
        Ok::<_, anyhow::Error>(client.get(version).send().await?.status())
    };
    match asked.await {
        Ok(status) if status.is_success() => found.fine.push(format!("Orion answers at {url}")),
        Ok(status) => found.notices.push(format!("{url}/version answers {status}: is it Orion?")),
        Err(error) => {
            let error = error.root_cause();
            found
                .notices
                .push(format!("Orion does not answer at {url} ({error}); write-backs will wait"));
        }
    }
}
