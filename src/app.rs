//! The wiring: the only module that knows all the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::budget::Budget;
use crate::config::{Config, Settings, process_environment};
use crate::orion::dead_letters::DeadLetters;
use crate::orion::intake::{Intake, Rules};
use crate::orion::{IntakeMetrics, replay};
use crate::pki;
use crate::serve::Limits;
use crate::spark::api::Api;
use crate::spark::{Access, PassThrough, SparkMetrics, Staging};
use crate::store::{self, Store};
use crate::supervise::Supervisor;
use crate::tls::{self, Acceptor, ClientCertificates, ServerTls, Versions};

/// How long the logs may take to be sealed at the end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// How often certificates are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_hours(12);

/// Where the gateway listens, once it does.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// Notifications.
    pub intake: SocketAddr,
    /// Spark API.
    pub spark: SocketAddr,
    /// State and metrics.
    pub admin: SocketAddr,
    /// NGSI writes, where they have a listener of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_through: Option<SocketAddr>,
}

/// The sockets of a gateway.
struct Listeners {
    intake: TcpListener,
    spark: TcpListener,
    admin: TcpListener,
    pass_through: Option<TcpListener>,
    command: UnixListener,
}

/// Everything that SIGHUP reads anew.
struct Reloadable {
    file: Option<PathBuf>,
    config: Config,
    rules: Arc<ArcSwap<Rules>>,
    access: Arc<ArcSwap<Access>>,
    pass_through_access: Option<Arc<ArcSwap<Access>>>,
    acceptors: Vec<Arc<Acceptor>>,
    store: Arc<Store>,
    replay: replay::Handle,
}

/// Runs the gateway until it is told to stop. `started` is told the
/// addresses once everything listens.
///
/// # Errors
/// Where it cannot start, or ends without having been told to.
pub async fn run(
    settings: Settings,
    file: Option<PathBuf>,
    started: impl FnOnce(&Addresses),
) -> Result<()> {
    let Settings { ref config, .. } = settings;
    tls::install_provider();
    let mut registry = Registry::with_prefix("ngsi_ferry");
    let listeners = listen(&settings).await?;
    let store = open_store(config, &mut registry).await?;
    let spark_tls = spark_tls(config).await?;
    let intake_tls = own_tls(&config.intake.cert, &config.intake.key)?;
    let pass_through_tls = own_tls(&config.pass_through.cert, &config.pass_through.key)?;
    let access = Arc::new(ArcSwap::from_pointee(access(config)?));
    let pass_through_access = match &config.pass_through.token_file {
        None => None,
        Some(tokens) => Some(Arc::new(ArcSwap::from_pointee(Access::load(
            config.client.clone(),
            Some(tokens),
            config.spark.deny_file.as_deref(),
        )?))),
    };
    let rules = Arc::new(ArcSwap::from_pointee(rules(config)?));
    let addresses = listeners.addresses()?;

    let budget = Budget::new(config.bytes_in_flight);
    // However slow the line to Spark is, it leaves half to the intake.
    let spark_budget = budget.half();
    let signs_of_life = Arc::new(Notify::new());
    let mut tasks = Supervisor::new();
    let stop = tasks.stop_token();
    let spark_metrics = SparkMetrics::register(&mut registry);
    let dead_letters =
        DeadLetters::open(Arc::clone(store.dead_letters()), Arc::clone(store.write_backs()))
            .await?;
    let replay = replay::Replay::new(
        config.orion.clone(),
        replay::Logs::from(&*store),
        dead_letters.clone(),
        replay::Metrics::register(&mut registry),
        Arc::clone(&signs_of_life),
    )?;
    let replay_handle = replay.handle();
    let staging = Arc::new(Staging::new(
        Arc::clone(store.write_backs()),
        config.spark.stage_expiry,
        spark_metrics.clone(),
    ));
    let pass_through = PassThrough {
        log: Arc::clone(store.write_backs()),
        budget: spark_budget.clone(),
        max_body: config.spark.max_body,
        body_timeout: config.spark.body_timeout,
        metrics: spark_metrics.clone(),
    };
    let intake = Intake::new(
        config.intake.clone(),
        Arc::clone(&rules),
        Arc::clone(&store),
        budget.clone(),
        signs_of_life,
        IntakeMetrics::register(&mut registry),
    );
    let api = Api {
        config: config.spark.clone(),
        id: config.id(),
        access: Arc::clone(&access),
        store: Arc::clone(&store),
        budget: spark_budget,
        staging: Arc::clone(&staging),
        pass_through: pass_through.clone(),
        metrics: spark_metrics,
    };
    let acceptors: Vec<Arc<Acceptor>> =
        [Some(&spark_tls), intake_tls.as_ref(), pass_through_tls.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
    let certificates = acceptors.iter().map(|acceptor| acceptor.settings().cert.clone());
    let admin = Arc::new(Admin {
        id: config.id(),
        started: SystemTime::now(),
        store: Arc::clone(&store),
        dead_letters,
        replay: replay_handle.clone(),
        budget,
        certificates: certificates.collect(),
        registry,
        stop: stop.clone(),
    });

    tasks.spawn("intake", intake.run(listeners.intake, intake_tls, stop.clone()));
    tasks.spawn("spark API", api.run(listeners.spark, spark_tls, stop.clone()));
    tasks.spawn("staging", staging.run(stop.clone()));
    tasks.spawn("replay", {
        let stop = stop.clone();
        async move {
            if let Err(error) = replay.run(stop).await {
                error!(%error, "the replay ended");
            }
        }
    });
    if let Some(listener) = listeners.pass_through {
        let limits = Limits {
            connections: config.spark.max_connections,
            handshake: config.spark.body_timeout,
            head: config.spark.body_timeout,
            write: config.spark.body_timeout,
        };
        let access = pass_through_access.clone();
        let served = pass_through.run(listener, pass_through_tls, access, limits, stop.clone());
        tasks.spawn("pass-through", served);
    }
    tasks.spawn("certificate watch", warn_of_expiry(Arc::clone(&admin), stop.clone()));
    tasks.spawn("admin", Arc::clone(&admin).show(listeners.admin));
    tasks.spawn("command line", admin.command(listeners.command));
    tasks.spawn("retention", Arc::clone(&store).tidy(stop));

    info!(id = config.id(), intake = %addresses.intake, spark = %addresses.spark, admin = %addresses.admin, data_dir = %config.data_dir.display(), "ready");
    if let Some(path) = &config.addresses_file {
        tell_addresses(path, &addresses)?;
    }
    started(&addresses);

    let reloadable = Reloadable {
        file,
        config: config.clone(),
        rules,
        access,
        pass_through_access,
        acceptors,
        store: Arc::clone(&store),
        replay: replay_handle,
    };
    let ended = tasks.run(config.drain_timeout, || reloadable.reload()).await;
    if tokio::time::timeout(CLOSE_DEADLINE, store.close()).await.is_err() {
        warn!("the logs could not be sealed in time; the next start recovers them");
    }
    let _ = std::fs::remove_file(config.admin_socket());
    info!("stopped");
    Ok(ended?)
}

async fn open_store(config: &Config, registry: &mut Registry) -> Result<Arc<Store>> {
    let metrics = store::Metrics::register(registry);
    let (folder, store, streams) =
        (config.data_dir.clone(), config.store.clone(), config.stream.clone());
    let opened =
        tokio::task::spawn_blocking(move || Store::open(&folder, store, streams, metrics)).await?;
    Ok(Arc::new(opened?))
}

async fn listen(settings: &Settings) -> Result<Listeners> {
    let config = &settings.config;
    let bind = async |setting: &str, address: SocketAddr| {
        TcpListener::bind(address).await.map_err(|error| {
            let hint = "stop the other program, or choose another address or port";
            anyhow!("{}", settings.problem(setting, &format!("cannot listen: {error}"), Some(hint)))
        })
    };
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let pass_through = match config.pass_through.listen {
        None => None,
        Some(listen) => Some(bind("pass_through.listen", listen).await?),
    };
    Ok(Listeners {
        intake: bind("intake.listen", config.intake.listen).await?,
        spark: bind("spark.listen", config.spark.listen).await?,
        admin: bind("admin.listen", config.admin.listen).await?,
        pass_through,
        command: listen_for_commands(&config.admin_socket())?,
    })
}

/// The command line's socket, for the user and the group of the gateway.
fn listen_for_commands(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        // Left by a kill; the store's lock tells whether another one runs.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!(
                "another ngsi-ferry answers at {}; stop it, or set another data_dir",
                path.display()
            );
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!("cannot listen on {}; a socket's path has at most 107 characters: set admin.socket to a shorter one", path.display())
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

impl Listeners {
    fn addresses(&self) -> Result<Addresses> {
        let pass_through = self.pass_through.as_ref().map(TcpListener::local_addr);
        Ok(Addresses {
            intake: self.intake.local_addr()?,
            spark: self.spark.local_addr()?,
            admin: self.admin.local_addr()?,
            pass_through: pass_through.transpose()?,
        })
    }
}

/// Whole at once: a script that waits for the file never reads half of it.
fn tell_addresses(path: &Path, addresses: &Addresses) -> Result<()> {
    let made = path.with_extension("new");
    std::fs::write(&made, serde_json::to_vec(addresses)?)
        .and_then(|()| std::fs::rename(&made, path))
        .with_context(|| format!("cannot write addresses_file {}", path.display()))
}

/// TLS of the Spark API: the configured certificate, or one of the gateway's
/// own authority, which is made at the first start.
async fn spark_tls(config: &Config) -> Result<Arc<Acceptor>> {
    let spark = &config.spark;
    let own = config.pki_dir();
    if spark.cert.is_none() {
        let (dir, names) = (own.clone(), own_names(config));
        if let Some(created) =
            tokio::task::spawn_blocking(move || pki::ensure(&dir, &names)).await??
        {
            info!(dir = %created.dir.display(), "made a private authority and certificates");
        }
    }
    let file = |name: &str| own.join(name);
    let ca = match (&spark.client_ca, &spark.cert) {
        (Some(ca), _) => Some(ca.clone()),
        (None, None) => Some(file("ca.pem")),
        (None, Some(_)) => None,
    };
    let clients = match (ca, &spark.token_file) {
        (None, _) => ClientCertificates::None,
        (Some(ca), Some(_)) => ClientCertificates::Optional { ca },
        (Some(ca), None) => ClientCertificates::Required { ca },
    };
    let settings = ServerTls {
        cert: spark.cert.clone().unwrap_or_else(|| file("server.pem")),
        key: spark.key.clone().unwrap_or_else(|| file("server.key")),
        clients,
        versions: Versions::Tls13,
    };
    Ok(Arc::new(Acceptor::new(settings)?))
}

/// The address that Spark connects to is a name of the server too.
fn own_names(config: &Config) -> Vec<String> {
    let ip = config.spark.listen.ip();
    if ip.is_unspecified() { Vec::new() } else { vec![ip.to_string()] }
}

fn own_tls(cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Result<Option<Arc<Acceptor>>> {
    let (Some(cert), Some(key)) = (cert, key) else { return Ok(None) };
    let settings = ServerTls {
        cert: cert.clone(),
        key: key.clone(),
        clients: ClientCertificates::None,
        versions: Versions::Tls12And13,
    };
    Ok(Some(Arc::new(Acceptor::new(settings)?)))
}

fn access(config: &Config) -> Result<Access> {
    let spark = &config.spark;
    let (tokens, denied) = (spark.token_file.as_deref(), spark.deny_file.as_deref());
    Ok(Access::load(config.client.clone(), tokens, denied)?)
}

fn rules(config: &Config) -> Result<Rules> {
    let secret = match &config.intake.secret_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read intake.secret_file {}", path.display()))?;
            let secret = text.trim();
            if secret.is_empty() {
                bail!("intake.secret_file {} is empty: write the secret into it", path.display());
            }
            Some(secret.to_owned())
        }
    };
    Ok(Rules { routes: config.route.clone(), secret })
}

async fn warn_of_expiry(admin: Arc<Admin>, stop: tokio_util::sync::CancellationToken) {
    let mut ticks = tokio::time::interval(CERTIFICATE_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for path in &admin.certificates {
            let certificate = crate::status::Certificate::of(path);
            if let Some(problem) = certificate.problem {
                warn!(certificate = %path.display(), problem, "a certificate needs care");
            }
        }
    }
}

impl Reloadable {
    /// Takes over what may change while running; a part that cannot be used
    /// leaves the old one in place.
    fn reload(&self) {
        let settings = match Settings::load(self.file.as_deref(), process_environment()) {
            Ok(settings) => settings,
            Err(problems) => {
                error!(%problems, "the configuration is not taken over");
                return;
            }
        };
        let new = &settings.config;
        for acceptor in &self.acceptors {
            if let Err(error) = acceptor.reload() {
                error!(%error, "a certificate is not taken over");
            }
        }
        match rules(new) {
            Ok(rules) => self.rules.store(Arc::new(rules)),
            Err(error) => error!(%error, "routes and secret are not taken over"),
        }
        match access(new) {
            Ok(access) => self.access.store(Arc::new(access)),
            Err(error) => error!(%error, "tokens and grants are not taken over"),
        }
        if let (Some(access), Some(tokens)) =
            (&self.pass_through_access, &new.pass_through.token_file)
        {
            let denied = new.spark.deny_file.as_deref();
            match Access::load(new.client.clone(), Some(tokens), denied) {
                Ok(loaded) => access.store(Arc::new(loaded)),
                Err(error) => error!(%error, "tokens of the pass-through are not taken over"),
            }
        }
        self.store.reload(new.store.clone(), new.stream.clone());
        if let Err(error) = self.replay.reload(new.orion.clone()) {
            error!(%error, "[orion] is not taken over");
        }
        let left = self.config.needs_restart(new);
        if left.is_empty() {
            info!("the configuration is taken over");
        } else {
            let left = left.join(", ");
            warn!(needs_restart = left, "the configuration is taken over but for these");
        }
    }
}
