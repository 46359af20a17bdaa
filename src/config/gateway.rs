//! The whole configuration: each module's own settings, composed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Problem, Problems, Sources};
use crate::orion::{Route, intake, replay};
use crate::spark::line_socket::{self, is_consumer_name};
use crate::spark::{self, Grant, PassThroughConfig, Right};
use crate::store::{self, RelayConfig, StreamConfig, is_stream_name};
use crate::units::size;
use crate::{admin, pki, uplink};

/// A few beats of what shows every half second that it runs.
const SHORTEST_STUCK_AFTER: Duration = Duration::from_secs(2);

/// Of the Spark API, beside those of gateways.
const CONNECTIONS: usize = 256;
/// Connections that a gateway has to its relay, at most.
const OF_A_GATEWAY: usize = 4;

/// Every setting there is, each with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gateway's name, for its relay and for Spark; the host's without it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Bytes that all requests and answers together may hold in memory.
    #[serde(with = "crate::units::size")]
    pub bytes_in_flight: u64,
    /// How long a stop may take to finish what was begun.
    #[serde(with = "crate::units::duration")]
    pub drain_timeout: Duration,
    /// A file that gets the addresses as JSON once everything listens; for
    /// scripts that let the system choose ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses_file: Option<PathBuf>,
    /// Notifications in.
    pub intake: intake::Config,
    /// Which stream takes what names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Route>,
    /// How records are kept.
    pub store: store::Config,
    /// What differs for a stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stream: Vec<StreamConfig>,
    /// What is kept for other gateways.
    pub relay: RelayConfig,
    /// Records out, write-backs in.
    pub spark: spark::Config,
    /// What each client may do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<Grant>,
    /// NGSI writes on a listener of their own.
    pub pass_through: PassThroughConfig,
    /// Streams as lines over TCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub line_socket: Vec<line_socket::Config>,
    /// Write-backs out.
    pub orion: replay::Config,
    /// The relay that gets the streams.
    pub uplink: uplink::Config,
    /// State and metrics.
    pub admin: admin::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            data_dir: PathBuf::from("ngsi-ferry-data"),
            bytes_in_flight: 8 << 20,
            drain_timeout: Duration::from_secs(20),
            addresses_file: None,
            intake: intake::Config::default(),
            route: Vec::new(),
            store: store::Config::default(),
            stream: Vec::new(),
            relay: RelayConfig::default(),
            spark: spark::Config::default(),
            client: Vec::new(),
            pass_through: PassThroughConfig::default(),
            line_socket: Vec::new(),
            orion: replay::Config::default(),
            uplink: uplink::Config::default(),
            admin: admin::Config::default(),
        }
    }
}

/// A configuration with where each setting came from.
pub struct Settings {
    /// The settings.
    pub config: Config,
    /// Where they came from.
    pub sources: Sources,
}

impl Settings {
    /// Reads `file` and the environment, and checks what can be checked
    /// without touching anything else.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let (settings, problems) = Self::load_leniently(file, environment);
        settings.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// As [`Settings::load`], but what is wrong keeps its default, so that the
    /// rest can be checked as well.
    pub fn load_leniently(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> (Option<Self>, Problems) {
        let (loaded, problems) = super::read_leniently::<Config>(file, environment);
        let Some(loaded) = loaded else { return (None, problems) };
        let settings = Self { config: loaded.value, sources: loaded.sources };
        let all = problems.into_iter().chain(settings.contradictions()).collect();
        (Some(settings), Problems::new(all))
    }

    /// A problem with a setting, told with where it was set.
    #[must_use]
    pub fn problem(&self, setting: &str, message: &str, hint: Option<&str>) -> Problem {
        self.sources.problem(setting, message, hint)
    }

    fn contradictions(&self) -> Vec<Problem> {
        let config = &self.config;
        let mut found = Vec::new();
        let mut object = |setting: &str, message: &str, hint: &str| {
            found.push(self.problem(setting, message, Some(hint)));
        };
        let name_form = "a name is 1 to 64 of a-z 0-9 . _ -, and not only dots";
        for (at, stream) in config.stream.iter().enumerate() {
            let setting = format!("stream[{at}].name");
            if !is_stream_name(&stream.name) {
                object(&setting, "not a stream's name", name_form);
            } else if config.stream[..at].iter().any(|other| other.name == stream.name) {
                object(&setting, "this stream is there already", "keep one of the two");
            }
        }
        for (at, route) in config.route.iter().enumerate() {
            if !is_stream_name(&route.stream) {
                object(&format!("route[{at}].stream"), "not a stream's name", name_form);
            }
        }
        for (at, client) in config.client.iter().enumerate() {
            if client.name.is_empty() {
                object(
                    &format!("client[{at}].name"),
                    "a client needs a name",
                    "write the DNS name in its certificate, or the name before its token",
                );
            }
        }
        for (table, cert, key) in [
            ("intake", &config.intake.cert, &config.intake.key),
            ("spark", &config.spark.cert, &config.spark.key),
            ("pass_through", &config.pass_through.cert, &config.pass_through.key),
            ("uplink", &config.uplink.cert, &config.uplink.key),
        ] {
            if cert.is_some() != key.is_some() {
                let set = if cert.is_some() { "cert" } else { "key" };
                object(
                    &format!("{table}.{set}"),
                    "cert and key belong together",
                    "set both or neither",
                );
            }
        }
        let spark = &config.spark;
        if spark.cert.is_some() && spark.client_ca.is_none() && spark.token_file.is_none() {
            object(
                "spark.cert",
                "with a certificate of your own nobody could authenticate",
                "set spark.client_ca or spark.token_file",
            );
        }
        if !(0.0..=0.9).contains(&spark.live_share) {
            object("spark.live_share", "not a share", "write a number from 0 to 0.9");
        }
        if spark.drain_rate == Some(0) {
            object("spark.drain_rate", "0 would never send anything", "leave it out for no limit");
        }
        if config.orion.max_rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            object("orion.max_rate", "not a rate", "write a number above 0, or leave it out");
        }
        self.contradictions_of_line_sockets(&mut object);
        self.contradictions_of_uplink(&mut object);
        let pass_through = &config.pass_through;
        if let Some(listen) = pass_through.listen {
            let plain = pass_through.cert.is_none();
            if plain && !listen.ip().is_loopback() && !pass_through.allow_plain {
                object(
                    "pass_through.listen",
                    "plain HTTP on an address that is not loopback",
                    "set pass_through.cert and key, or pass_through.allow_plain = true",
                );
            }
            if !plain && pass_through.token_file.is_none() {
                object(
                    "pass_through.cert",
                    "with TLS a token is needed too",
                    "set pass_through.token_file",
                );
            }
        }
        if !config.admin.listen.ip().is_loopback() {
            // It only shows, but it shows everything.
            tracing::warn!(listen = %config.admin.listen, "the admin listener is not on loopback");
        }
        self.contradictions_of_store(&mut object);
        found
    }
}

impl Settings {
    fn contradictions_of_line_sockets(&self, object: &mut impl FnMut(&str, &str, &str)) {
        let sockets = &self.config.line_socket;
        for (at, socket) in sockets.iter().enumerate() {
            object_to_line_socket(socket, &sockets[..at], |key, message, hint| {
                object(&format!("line_socket[{at}].{key}"), message, hint);
            });
        }
    }

    fn contradictions_of_store(&self, object: &mut impl FnMut(&str, &str, &str)) {
        let config = &self.config;
        if config.store.segment_bytes < 1 << 20 {
            object("store.segment_bytes", "smaller than a segment can be", "write 1MiB or more");
        }
        if config.relay.segment_bytes < 1 << 20 {
            object("relay.segment_bytes", "smaller than a segment can be", "write 1MiB or more");
        }
        if config.store.stuck_after < SHORTEST_STUCK_AFTER {
            object(
                "store.stuck_after",
                "a disk that works may take longer",
                "write 2s or more; 30s suits SD cards too",
            );
        }
        if config.store.gather > config.store.stuck_after / 4 {
            object(
                "store.gather",
                "a log that waits so long would be taken for one that stands still",
                "write at most a quarter of store.stuck_after",
            );
        }
    }

    fn contradictions_of_uplink(&self, object: &mut impl FnMut(&str, &str, &str)) {
        let (config, uplink) = (&self.config, &self.config.uplink);
        let Some(url) = &uplink.url else {
            if *uplink != uplink::Config::default() {
                object("uplink", "without uplink.url there is no uplink", "set uplink.url");
            }
            return;
        };
        if !url.starts_with("https://") {
            object("uplink.url", "no https:// address", "write https://HOST:8443");
        }
        if uplink.cert.is_none() {
            let hint = "make one with `ngsi-ferry pki client ID` on the relay, and set uplink.cert and uplink.key";
            object("uplink.cert", "the relay knows a gateway by its certificate alone", hint);
        }
        if !is_stream_name(&config.id()) {
            let hint = "set id to 1 to 64 of a-z 0-9 . _ -, and not only dots";
            object("id", "not a name that a relay takes", hint);
        }
        if uplink.rate == Some(0) {
            object("uplink.rate", "0 would never send anything", "leave it out for no limit");
        }
        if uplink.max_batch == 0 {
            object("uplink.max_batch", "0 would never send anything", "4MiB suits most lines");
        }
        if uplink.timeout.is_zero() {
            object("uplink.timeout", "nothing is answered in no time", "2m suits most lines");
        }
        for (at, stream) in uplink.streams.iter().enumerate() {
            if !is_stream_name(stream) {
                let hint = "a name is 1 to 64 of a-z 0-9 . _ -, and not only dots";
                object(&format!("uplink.streams[{at}]"), "not a stream's name", hint);
            }
        }
    }
}

fn object_to_line_socket(
    socket: &line_socket::Config,
    others: &[line_socket::Config],
    mut object: impl FnMut(&str, &str, &str),
) {
    if !is_stream_name(&socket.stream) {
        let form = "a name is 1 to 64 of a-z 0-9 . _ -, and not only dots";
        object("stream", "not a stream's name", form);
    }
    if !is_consumer_name(&socket.consumer) {
        object("consumer", "not a consumer's name", "a name is 1 to 128 of A-Z a-z 0-9 . _ : -");
    }
    let name = |one: &line_socket::Config| (one.stream.clone(), one.consumer.clone());
    if others.iter().any(|other| name(other) == name(socket)) {
        let hint = "two sockets would each take away what the other has not sent: set another name";
        object("consumer", "this consumer of the stream has a line socket already", hint);
    }
    if socket.cert.is_some() != socket.key.is_some() {
        let set = if socket.cert.is_some() { "cert" } else { "key" };
        object(set, "cert and key belong together", "set both or neither");
    }
    if socket.client_ca.is_some() && socket.cert.is_none() {
        object("client_ca", "without TLS no client shows a certificate", "set cert and key too");
    }
    if socket.cert.is_none() && !socket.listen.ip().is_loopback() {
        let hint = "set cert and key, or listen on loopback";
        object("listen", "plain TCP on an address that is not loopback", hint);
    }
    if socket.max_clients == 0 {
        object("max_clients", "nobody could connect", "write 1 or more");
    }
}

impl Config {
    /// The gateway's name.
    #[must_use]
    pub fn id(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        pki::host_name().unwrap_or_else(|| "ngsi-ferry".to_owned())
    }

    /// Connections that the Spark API may have at a time.
    #[must_use]
    pub fn spark_connections(&self) -> usize {
        let of_gateways = if self.is_relay() { self.connections_of_gateways() } else { 0 };
        self.spark.max_connections.unwrap_or(CONNECTIONS + of_gateways)
    }

    /// What to tell where the gateways whose relay this one is may have more
    /// connections than there may be.
    #[must_use]
    pub fn too_few_connections(&self) -> Option<String> {
        let needed = self.connections_of_gateways();
        let allowed = self.spark.max_connections.filter(|allowed| *allowed < needed)?;
        self.is_relay().then(|| {
            format!(
                "spark.max_connections = {allowed} is too few for relay.max_gateways = {}, which \
                 have up to {OF_A_GATEWAY} each: with all of them some wait. Leave it out, or set \
                 {} or more, or fewer gateways",
                self.relay.max_gateways,
                needed + CONNECTIONS,
            )
        })
    }

    /// What to tell where this gateway takes larger notifications than a relay
    /// does by itself.
    #[must_use]
    pub fn larger_than_a_relay_takes(&self) -> Option<String> {
        let (here, there) = (self.intake.max_body, spark::Config::default().max_body);
        (self.uplink.url.is_some() && here > there).then(|| {
            format!(
                "intake.max_body = {}, and a relay takes records of up to spark.max_body, {} \
                 unless it is set: set it on the relay to as much or more",
                size::display(here),
                size::display(there),
            )
        })
    }

    fn connections_of_gateways(&self) -> usize {
        self.relay.max_gateways.saturating_mul(OF_A_GATEWAY)
    }

    /// Whether any gateway may hand its records over here.
    fn is_relay(&self) -> bool {
        self.client.iter().any(|client| client.allow.contains(&Right::Uplink))
    }

    /// What the store is told.
    #[must_use]
    pub fn store_settings(&self) -> store::Settings {
        let (store, streams) = (self.store.clone(), self.stream.clone());
        store::Settings { store, streams, relay: self.relay.clone() }
    }

    /// Folder of the own authority.
    #[must_use]
    pub fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// Unix socket of the command line.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.data_dir.join("admin.sock"))
    }

    /// The addresses it is to listen on, with their settings.
    #[must_use]
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let mut all = vec![
            ("intake.listen".to_owned(), self.intake.listen),
            ("spark.listen".to_owned(), self.spark.listen),
            ("admin.listen".to_owned(), self.admin.listen),
        ];
        let pass_through = self.pass_through.listen;
        all.extend(pass_through.map(|listen| ("pass_through.listen".to_owned(), listen)));
        let line_sockets = self.line_socket.iter().enumerate();
        all.extend(line_sockets.map(|(at, one)| (format!("line_socket[{at}].listen"), one.listen)));
        all
    }

    /// What differs from `new` and cannot change while the gateway runs.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        // What SIGHUP takes over is made equal, so that the rest shows.
        let intake =
            intake::Config { secret_file: self.intake.secret_file.clone(), ..new.intake.clone() };
        let spark = spark::Config {
            token_file: self.spark.token_file.clone(),
            deny_file: self.spark.deny_file.clone(),
            ..new.spark.clone()
        };
        let store = store::Config {
            segment_bytes: self.store.segment_bytes,
            min_free: self.store.min_free,
            max_streams: self.store.max_streams,
            max_bytes: self.store.max_bytes,
            max_age: self.store.max_age,
            gather: self.store.gather,
            when_full: self.store.when_full,
            consumer_expiry: self.store.consumer_expiry,
            lease_expiry: self.store.lease_expiry,
            write_backs_max_bytes: self.store.write_backs_max_bytes,
            dead_letters_max_bytes: self.store.dead_letters_max_bytes,
            ..new.store.clone()
        };
        let pass_through = PassThroughConfig {
            token_file: self.pass_through.token_file.clone(),
            ..new.pass_through.clone()
        };
        // Its address, certificates and rates are taken over while it runs.
        let is_other_uplink = self.uplink.url.is_some() != new.uplink.url.is_some()
            || self.uplink.streams != new.uplink.streams;
        let differs = [
            ("[uplink] streams, or whether there is one", is_other_uplink),
            ("id", self.id != new.id),
            ("data_dir", self.data_dir != new.data_dir),
            ("bytes_in_flight", self.bytes_in_flight != new.bytes_in_flight),
            ("drain_timeout", self.drain_timeout != new.drain_timeout),
            ("[intake]", self.intake != intake),
            ("[spark]", self.spark != spark),
            ("[store] linger, compression_level or stuck_after", self.store != store),
            ("[pass_through]", self.pass_through != pass_through),
            ("[[line_socket]]", self.line_socket != new.line_socket),
            ("[admin]", self.admin != new.admin),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_gateways_of_a_relay_unless_they_are_set() {
        let mut config = Config::default();
        assert_eq!(config.spark_connections(), 256);
        let allow = vec![Right::Uplink];
        config.client = vec![Grant { name: "*".to_owned(), allow, ..Grant::default() }];
        config.relay.max_gateways = 1000;
        assert_eq!(config.spark_connections(), 4256);
        assert_eq!(config.too_few_connections(), None);
        config.spark.max_connections = Some(100);
        assert_eq!(config.spark_connections(), 100);
        let told = config.too_few_connections().unwrap();
        assert!(told.contains("4256 or more"), "{told}");
    }

    #[test]
    fn notifications_that_a_relay_may_not_take_are_told_where_there_is_one() {
        let mut config = Config::default();
        config.intake.max_body = 9 << 20;
        assert_eq!(config.larger_than_a_relay_takes(), None);
        config.uplink.url = Some("https://relay:8443".to_owned());
        assert!(config.larger_than_a_relay_takes().unwrap().contains("9MiB"));
        config.intake.max_body = 8 << 20;
        assert_eq!(config.larger_than_a_relay_takes(), None);
    }
}
