//! The wiring: the only module that knows all the others.

pub mod certificates;
mod clock;
mod credentials;
mod health;
mod inbox;
mod listen;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::budget::Budget;
use crate::build;
use crate::config::{Config, Settings};
use crate::health::Health;
use crate::orion::dead_letters::DeadLetters;
use crate::orion::intake::Intake;
use crate::orion::{IntakeMetrics, replay};
use crate::passed_sockets::PassedSockets;
use crate::serve::Limits;
use crate::signals::Signals;
use crate::spark::api::Api;
use crate::spark::line_socket::{self, LineSocket};
use crate::spark::{Access, Outboxes, PassThrough, SparkMetrics, Staging};
use crate::store::{self, Store};
use crate::supervise::Supervisor;
use crate::systemd;
use crate::tls;
use crate::uplink::{self, Uplink};
use crate::watchdog::Watchdog;
use credentials::Tls;
use health::Watched;
use inbox::Inbox;
pub use listen::Addresses;
use listen::Listeners;
use reload::Reloadable;

/// How long the logs may take to be sealed at the end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// And the process to be gone then.
const MARGIN: Duration = Duration::from_secs(5);
/// In which time whoever stands still has got on, or ended the process, counted
/// in `store.stuck_after`: thrice that for the most patient, and the last word
/// before it.
const PATIENCE: u32 = 4;

/// The parts of a gateway, made and not yet running.
struct Gateway {
    store: Arc<Store>,
    budget: Budget,
    intake: Intake,
    api: Api,
    staging: Arc<Staging>,
    outboxes: Arc<Outboxes>,
    uplink: Option<Uplink<Inbox>>,
    pass_through: PassThrough,
    line_sockets: Vec<LineSocket>,
    replay: replay::Replay,
    dead_letters: DeadLetters,
    registry: Registry,
    reloadable: Reloadable,
    tls: Tls,
    signs_of_life: Arc<Notify>,
}

/// Runs the gateway until it is told to stop, on the sockets that were passed
/// and others of its own. `started` is told the addresses once everything
/// listens.
///
/// # Errors
/// Where it cannot start, or ends without having been told to.
pub async fn run(
    settings: Settings,
    file: Option<PathBuf>,
    passed: PassedSockets,
    started: impl FnOnce(&Addresses),
) -> Result<()> {
    tls::install_provider();
    let listeners = listen::listen(&settings, passed).await?;
    let held = listeners.held.clone();
    let addresses = listeners.addresses()?;
    let config = settings.config;
    if let Some(why) = config.too_few_connections() {
        warn!("{why}");
    }
    let gateway = Gateway::make(&config, file).await?;
    let store = Arc::clone(&gateway.store);
    let health = Health::default();
    let watched = Watched::of(&gateway, &config);
    let (tasks, reloadable) = gateway.start(&config, listeners, &health, &watched);
    let stop = tasks.stop_token();
    systemd::patience(PATIENCE * config.store.stuck_after);
    let _watchdog = Watchdog::start(health, held, move || watched.busy(&stop))?;
    // Before anyone is told that it runs: from then on a stop is an orderly one.
    let signals = Signals::listen().context("cannot listen for signals")?;

    info!(version = build::LONG_VERSION, id = config.id(), intake = %addresses.intake, spark = %addresses.spark, admin = %addresses.admin, data_dir = %config.data_dir.display(), "ready");
    if let Some(path) = &config.addresses_file {
        listen::tell_addresses(path, &addresses)?;
    }
    started(&addresses);
    systemd::ready();

    let reload = || {
        systemd::reloading();
        reloadable.reload();
        systemd::ready();
    };
    let close = async {
        if tokio::time::timeout(CLOSE_DEADLINE, store.close()).await.is_err() {
            warn!("the logs could not be sealed in time; the next start recovers them");
        }
    };
    let (drain, longest) = (config.drain_timeout, config.drain_timeout + CLOSE_DEADLINE + MARGIN);
    let ended = tasks.run(signals, drain, longest, reload, close).await;
    let _ = std::fs::remove_file(config.admin_socket());
    if let Some(log) = store.broken() {
        bail!("log {log} ended unexpectedly; what was acknowledged is on the disk");
    }
    info!("stopped");
    Ok(ended?)
}

impl Gateway {
    async fn make(config: &Config, file: Option<PathBuf>) -> Result<Self> {
        let mut registry = Registry::with_prefix("ngsi_ferry");
        let store = open_store(config, &mut registry).await?;
        let tls = Tls::of(config).await?;
        let access = Arc::new(ArcSwap::from_pointee(credentials::access(config)?));
        let pass_through_access = credentials::pass_through_access(config)?;
        let rules = Arc::new(ArcSwap::from_pointee(credentials::rules(config)?));
        let budget = Budget::new(config.bytes_in_flight);
        // However slow the line to Spark is, it leaves half to the intake.
        let spark_budget = budget.half();
        let signs_of_life = Arc::new(Notify::new());
        let spark_metrics = SparkMetrics::register(&mut registry);
        let write_backs = store.write_backs();
        let dead_letters =
            DeadLetters::open(Arc::clone(store.dead_letters()), Arc::clone(write_backs)).await?;
        let replay = replay::Replay::new(
            config.orion.clone(),
            replay::Logs::from(&*store),
            dead_letters.clone(),
            replay::Metrics::register(&mut registry),
            Arc::clone(&signs_of_life),
        )?;
        let expiry = config.spark.stage_expiry;
        let staging = Staging::new(Arc::clone(write_backs), expiry, spark_metrics.clone());
        let staging = Arc::new(staging.fed_by_a_relay(config.uplink.url.is_some()));
        let uplink = make_uplink(config, &store, &spark_budget, &mut registry, &staging).await?;
        let outboxes = Arc::new(Outboxes::new(Arc::clone(&store), expiry, spark_metrics.clone()));
        let pass_through = PassThrough {
            log: Arc::clone(write_backs),
            budget: spark_budget.clone(),
            max_body: config.spark.max_body,
            body_timeout: config.spark.body_timeout,
            metrics: spark_metrics.clone(),
        };
        let mut line_sockets = Vec::new();
        let line_socket_metrics = line_socket::Metrics::register(&mut registry);
        // Clients that take nothing hold what is read for them: they leave
        // the other readers half of what those share.
        let line_socket_budget = spark_budget.half();
        for socket in &config.line_socket {
            let (socket, budget) = (socket.clone(), line_socket_budget.clone());
            let (id, access) = (config.id(), Arc::clone(&access));
            let made = LineSocket::new(socket, id, &store, budget, access, &line_socket_metrics);
            line_sockets.push(made.await?);
        }
        let intake = Intake::new(
            config.intake.clone(),
            Arc::clone(&rules),
            Arc::clone(&store),
            budget.clone(),
            Arc::clone(&signs_of_life),
            IntakeMetrics::register(&mut registry),
        );
        let api = Api {
            config: config.spark.clone(),
            connections: config.spark_connections(),
            id: config.id(),
            access: Arc::clone(&access),
            store: Arc::clone(&store),
            budget: spark_budget,
            staging: Arc::clone(&staging),
            outboxes: Arc::clone(&outboxes),
            pass_through: pass_through.clone(),
            metrics: spark_metrics,
            compression_level: config.store.compression_level,
        };
        let in_use = Arc::new(ArcSwap::from_pointee(config.clone()));
        let (handle, link) = (replay.handle(), uplink.as_ref().map(Uplink::handle));
        let watch = certificates::watch(&in_use, &tls.acceptors(), &handle, link.as_ref());
        let reloadable = Reloadable {
            file,
            started_with: config.clone(),
            in_use,
            rules,
            access,
            pass_through_access: pass_through_access
                .map(|access: Access| Arc::new(ArcSwap::from_pointee(access))),
            certificates: Arc::new(watch),
            store: Arc::clone(&store),
            replay: handle,
            uplink: link,
        };
        Ok(Self {
            store,
            budget,
            intake,
            api,
            staging,
            outboxes,
            uplink,
            pass_through,
            line_sockets,
            replay,
            dead_letters,
            registry,
            reloadable,
            tls,
            signs_of_life,
        })
    }

    fn start(
        self,
        config: &Config,
        listeners: Listeners,
        health: &Health,
        watched: &Watched,
    ) -> (Supervisor, Reloadable) {
        let mut tasks = Supervisor::new();
        let stop = tasks.stop_token();
        let Self { store, tls, reloadable, .. } = self;
        let certificates = Arc::clone(&reloadable.certificates);
        let admin = Arc::new(Admin {
            id: config.id(),
            started: Instant::now(),
            store: Arc::clone(&store),
            dead_letters: self.dead_letters,
            replay: self.replay.handle(),
            uplink: self.uplink.as_ref().map(Uplink::handle),
            budget: self.budget,
            certificates: Arc::clone(&certificates),
            line_sockets: self.line_sockets.iter().map(LineSocket::handle).collect(),
            health: health.clone(),
            registry: self.registry,
            stop: stop.clone(),
        });
        let (intake, api) = (watched.intake.clone(), watched.api.clone());
        tasks.spawn("intake", self.intake.run(listeners.intake, tls.intake, intake, stop.clone()));
        tasks.spawn("spark API", self.api.run(listeners.spark, tls.spark, api, stop.clone()));
        tasks.spawn("runtime", watched.runtime.clone().of_the_runtime(stop.clone()));
        tasks.spawn("committers", Arc::clone(&store).until_broken(stop.clone()));
        tasks.spawn("staging", self.staging.run(stop.clone()));
        tasks.spawn("outboxes", self.outboxes.run(stop.clone()));
        tasks.spawn("replay", run_replay(self.replay, stop.clone()));
        if let Some(uplink) = self.uplink {
            tasks.spawn("uplink", uplink.run(stop.clone()));
        }
        let sockets = self.line_sockets.into_iter().zip(listeners.line_sockets);
        for ((socket, listener), tls) in sockets.zip(tls.line_sockets) {
            tasks.spawn("line socket", socket.run(listener, tls, stop.clone()));
        }
        if let Some(listener) = listeners.pass_through {
            let limits = Limits {
                connections: config.spark_connections(),
                handshake: config.spark.body_timeout,
                head: config.spark.body_timeout,
                write: config.spark.body_timeout,
            };
            let access = reloadable.pass_through_access.clone();
            let stop = stop.clone();
            let served = self.pass_through.run(listener, tls.pass_through, access, limits, stop);
            tasks.spawn("pass-through", served);
        }
        let was_set = clock::was_set(&certificates, self.signs_of_life, reloadable.uplink.clone());
        tasks.spawn("clock", clock::watch(was_set, stop.clone()));
        tasks.spawn("certificates", certificates.run(stop.clone()));
        tasks.spawn("admin", Arc::clone(&admin).show(listeners.admin));
        tasks.spawn("command line", admin.command(listeners.command));
        tasks.spawn("retention", store.tidy(stop));
        (tasks, reloadable)
    }
}

async fn open_store(config: &Config, registry: &mut Registry) -> Result<Arc<Store>> {
    let metrics = store::Metrics::register(registry);
    let (folder, settings) = (config.data_dir.clone(), config.store_settings());
    let opened =
        tokio::task::spawn_blocking(move || Store::open_as(&folder, settings, metrics)).await?;
    Ok(Arc::new(opened?))
}

/// None where no relay is configured.
async fn make_uplink(
    config: &Config,
    store: &Arc<Store>,
    budget: &Budget,
    registry: &mut Registry,
    staging: &Arc<Staging>,
) -> Result<Option<Uplink<Inbox>>> {
    let parts = uplink::Parts {
        id: config.id(),
        store: Arc::clone(store),
        budget: budget.clone(),
        metrics: uplink::Metrics::register(registry),
    };
    if config.uplink.url.is_none() {
        parts.store.streams().iter().for_each(|log| uplink::warn_of_left_over(log));
        return Ok(None);
    }
    let inbox = Arc::new(Inbox(Arc::clone(staging)));
    Ok(Some(Uplink::new(config.uplink.clone(), parts, inbox).await?))
}

async fn run_replay(replay: replay::Replay, stop: CancellationToken) {
    if let Err(error) = replay.run(stop).await {
        error!(%error, "the replay ended");
    }
}
