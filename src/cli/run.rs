//! `ngsi-ferry run`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::app::{self, Addresses};
use crate::config::{Config, Settings};
use crate::passed_sockets::PassedSockets;

pub(super) async fn run(
    settings: Settings,
    file: Option<PathBuf>,
    passed: PassedSockets,
) -> Result<ExitCode> {
    let config = settings.config.clone();
    raise_open_files();
    // For somebody who tries it; a service's log needs no lines to paste.
    let greet = file.is_none() || std::io::stdout().is_terminal();
    let started = |addresses: &Addresses| {
        if greet {
            super::print_line(&lines_to_paste(&config, addresses));
        }
    };
    app::run(settings, file.clone(), passed, started).await?;
    Ok(ExitCode::SUCCESS)
}

/// Shells and systemd allow 1024 open files to begin with and many more on
/// request; each connection and each segment is one.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it is refused, fewer connections are accepted at a time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn lines_to_paste(config: &Config, addresses: &Addresses) -> String {
    let pki = config.pki_dir();
    let pki = pki.display();
    let tls = format!("--cacert {pki}/ca.pem --cert {pki}/client.pem --key {pki}/client.key");
    let Addresses { intake, spark, admin, .. } = addresses;
    let orion = &config.orion.url;
    let data = config.data_dir.display();
    format!(
        r#"
ngsi-ferry keeps its data in {data} and replays write-backs to {orion}.
Paste these in another terminal, in this folder:

  # post a notification, as Orion would (answered 204 once it is on stable storage)
  curl -i http://{intake}/notify -H 'Content-Type: application/json' -H 'Fiware-Service: plant1' -d '{{"subscriptionId":"1","data":[{{"id":"urn:Press:1","type":"Press","temperature":{{"type":"Number","value":21.5,"metadata":{{}}}}}}]}}'

  # read it back over TLS, as Spark would
  curl --compressed {tls} 'https://{spark}/v1/streams/default/records?from=0'

  # write back to Orion (kept, and replayed in order once Orion can be reached)
  curl -i {tls} -X PATCH https://{spark}/v2/entities/urn:Press:1/attrs -H 'Content-Type: application/json' -H 'Fiware-Service: plant1' -d '{{"setpoint":{{"type":"Number","value":180}}}}'

  # look at it: ngsi-ferry status, or http://{admin}/status and /metrics
"#
    )
}
