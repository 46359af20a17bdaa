//! Certificates, tokens, secrets and grants, read from where the configuration
//! says.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tracing::info;

use crate::config::Config;
use crate::orion::intake::Rules;
use crate::pki;
use crate::spark::Access;
use crate::tls::{Acceptor, ClientCertificates, ServerTls, Versions};

/// TLS of each listener that has it.
pub(super) struct Tls {
    pub spark: Arc<Acceptor>,
    pub intake: Option<Arc<Acceptor>>,
    pub pass_through: Option<Arc<Acceptor>>,
    pub line_sockets: Vec<Option<Arc<Acceptor>>>,
}

impl Tls {
    pub(super) async fn of(config: &Config) -> Result<Self> {
        Ok(Self {
            spark: spark_tls(config).await?,
            intake: own_tls(config.intake.cert.as_deref(), config.intake.key.as_deref())?,
            pass_through: own_tls(
                config.pass_through.cert.as_deref(),
                config.pass_through.key.as_deref(),
            )?,
            line_sockets: line_socket_tls(config)?,
        })
    }

    /// Each with the setting that names its certificate.
    pub(super) fn acceptors(&self) -> Vec<(String, Arc<Acceptor>)> {
        let named = |name: &str, tls: Option<&Arc<Acceptor>>| {
            tls.map(|tls| (name.to_owned(), Arc::clone(tls)))
        };
        let all = [
            named("spark.cert", Some(&self.spark)),
            named("intake.cert", self.intake.as_ref()),
            named("pass_through.cert", self.pass_through.as_ref()),
        ];
        let line_sockets = self.line_sockets.iter().enumerate();
        let line_sockets = line_sockets
            .filter_map(|(at, tls)| named(&format!("line_socket[{at}].cert"), tls.as_ref()));
        all.into_iter().flatten().chain(line_sockets).collect()
    }
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

/// TLS of a listener that asks for no client certificate; none without one.
fn own_tls(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<Arc<Acceptor>>> {
    let (Some(cert), Some(key)) = (cert, key) else { return Ok(None) };
    let settings = ServerTls {
        cert: cert.to_owned(),
        key: key.to_owned(),
        clients: ClientCertificates::None,
        versions: Versions::Tls12And13,
    };
    Ok(Some(Arc::new(Acceptor::new(settings)?)))
}

/// TLS of each line socket that has it, in their order.
fn line_socket_tls(config: &Config) -> Result<Vec<Option<Arc<Acceptor>>>> {
    let acceptors = config.line_socket.iter().map(|socket| {
        let (Some(cert), Some(key)) = (&socket.cert, &socket.key) else { return Ok(None) };
        let clients = match &socket.client_ca {
            None => ClientCertificates::None,
            Some(ca) => ClientCertificates::Required { ca: ca.clone() },
        };
        let (cert, key, versions) = (cert.clone(), key.clone(), Versions::Tls12And13);
        let settings = ServerTls { cert, key, clients, versions };
        Ok(Some(Arc::new(Acceptor::new(settings)?)))
    });
    acceptors.collect()
}

/// Who may do what at the Spark API.
pub(super) fn access(config: &Config) -> Result<Access> {
    let spark = &config.spark;
    let (tokens, denied) = (spark.token_file.as_deref(), spark.deny_file.as_deref());
    Ok(Access::load(config.client.clone(), tokens, denied)?)
}

/// Who may do what at the pass-through's own listener; without tokens,
/// whoever can connect.
pub(super) fn pass_through_access(config: &Config) -> Result<Option<Access>> {
    let Some(tokens) = &config.pass_through.token_file else { return Ok(None) };
    let denied = config.spark.deny_file.as_deref();
    Ok(Some(Access::load(config.client.clone(), Some(tokens), denied)?))
}

/// Routes and the intake's secret.
pub(super) fn rules(config: &Config) -> Result<Rules> {
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
