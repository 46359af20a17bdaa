//! The gateway as a process: the real binary, started, killed, stopped and
//! started again on the same data.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use ngsi_ferry::tls;

use super::program::program;

/// Generous: a test waits for states, and this only ends a wait for one that
/// never comes.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// How a gateway is started.
pub struct Setup {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// A running gateway.
pub struct Gateway {
    process: Process,
    pub intake: SocketAddr,
    pub spark: SocketAddr,
    pub admin: SocketAddr,
    pub line_sockets: Vec<SocketAddr>,
}

/// A gateway that may not listen yet.
pub struct Process {
    setup: Setup,
    child: Child,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, by its name: `STOP`, `HUP`.
    pub fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill")
            .args([format!("-{signal}"), self.pid().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it ends by itself.
    pub async fn ends(mut self) -> (Setup, ExitStatus) {
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        (self.setup, ended.expect("the gateway does not stop").unwrap())
    }

    /// kill -9; `then` is done once it can do nothing any more, and may be
    /// what it takes for it to be gone.
    pub async fn kill_and(mut self, then: impl FnOnce()) -> Setup {
        // Refused where it has ended.
        let _ = self.child.start_kill();
        then();
        self.child.wait().await.unwrap();
        self.setup
    }
}

impl Setup {
    /// Defaults, ports chosen by the system, data in a folder of its own on
    /// the real disk: in memory a sync would mean nothing.
    pub fn new() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = tempfile::Builder::new().prefix("gw").tempdir_in(target).unwrap();
        let mut setup = Self { folder, variables: Vec::new() };
        for listener in ["INTAKE", "SPARK", "ADMIN"] {
            setup = setup.set(&format!("{listener}__LISTEN"), "127.0.0.1:0");
        }
        let (data, addresses) = (setup.data_dir(), setup.addresses_file());
        // Nobody listens on port 9 (discard): an Orion that is away.
        setup
            .set("DATA_DIR", data.to_str().unwrap())
            .set("ADDRESSES_FILE", addresses.to_str().unwrap())
            .set("ADMIN__SOCKET", setup_socket(&data).to_str().unwrap())
            .set("ORION__URL", "http://127.0.0.1:9")
    }

    /// Sets a setting by its variable, `INTAKE__LISTEN` for `intake.listen`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let name = format!("NGSI_FERRY_{name}");
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    /// What a setting was set to, by its variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = format!("NGSI_FERRY_{name}");
        let set = self.variables.iter().find(|(other, _)| *other == name);
        set.map(|(_, value)| value.as_str())
    }

    pub fn data_dir(&self) -> PathBuf {
        let set = self.variables.iter().find(|(name, _)| name == "NGSI_FERRY_DATA_DIR");
        set.map_or_else(|| self.folder.path().join("data"), |(_, folder)| folder.into())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn addresses_file(&self) -> PathBuf {
        self.folder.path().join("addresses.json")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("gateway.log")
    }

    /// The program with this setup's variables, for other commands than `run`.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        // Settings of the tests, and of whoever runs them, are none of its own.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("NGSI_FERRY_") && name != "NGSI_FERRY_LOG" {
                command.env_remove(&*name);
            }
        }
        command.args(arguments).envs(self.variables.iter().cloned()).current_dir(self.folder());
        command
    }

    /// As [`Setup::command`], through `sh -c`: `"$@"` in the script is the
    /// program.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program());
        command.envs(self.variables.iter().cloned()).current_dir(self.folder());
        command
    }

    /// Writes a file beside the data and returns its path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Sets a setting to the path of a file with this content.
    pub fn set_file(self, name: &str, content: &str) -> Self {
        let path = self.write(&name.to_lowercase(), content);
        self.set(name, path.to_str().unwrap())
    }

    /// Starts the gateway and waits until it listens.
    pub async fn start(self) -> Gateway {
        let command = self.command(["run"]);
        self.start_as(command).await
    }

    /// As [`Setup::start`], with a command of the caller's (under strace).
    pub async fn start_as(self, command: Command) -> Gateway {
        let Ok(gateway) = self.start_unless(command, std::future::pending()).await else {
            unreachable!("nothing ends the start")
        };
        gateway
    }

    /// As [`Setup::start_as`], unless `ended` comes before it listens.
    pub async fn start_unless(
        self,
        mut command: Command,
        ended: impl Future<Output = ()>,
    ) -> Result<Gateway, Process> {
        let _ = std::fs::remove_file(self.addresses_file());
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let addresses = tokio::select! {
            addresses = self.wait_for_addresses(&mut child) => Some(addresses),
            () = ended => None,
        };
        let process = Process { setup: self, child };
        let Some(addresses) = addresses else { return Err(process) };
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        let (intake, spark, admin) = (address("intake"), address("spark"), address("admin"));
        let line_sockets = addresses["line_sockets"].as_array().into_iter().flatten();
        let line_sockets =
            line_sockets.map(|address| address.as_str().unwrap().parse().unwrap()).collect();
        Ok(Gateway { process, intake, spark, admin, line_sockets })
    }

    async fn wait_for_addresses(&self, child: &mut Child) -> Value {
        // A file cannot be awaited without a crate for it; the child's end can.
        let found = async {
            loop {
                if let Ok(text) = std::fs::read(self.addresses_file()) {
                    return serde_json::from_slice(&text).unwrap();
                }
                if let Ok(ended) =
                    tokio::time::timeout(Duration::from_millis(5), child.wait()).await
                {
                    panic!("the gateway ended: {ended:?}\n{}", self.log());
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, found).await;
        found.unwrap_or_else(|_| panic!("the gateway does not listen\n{}", self.log()))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Setup {
    /// The log goes with the folder: where a test fails, what it said is of
    /// use to whoever looks for the reason.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("the gateway's log ends:\n{}", last.join("\n"));
        }
    }
}

/// A socket's path has at most 107 characters, so it cannot lie too deep.
fn setup_socket(data: &Path) -> PathBuf {
    let name = data.parent().unwrap().file_name().unwrap().to_str().unwrap();
    std::env::temp_dir().join(format!("ngsi-ferry-{name}.sock"))
}

impl Gateway {
    /// With the defaults of [`Setup::new`].
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    pub fn setup(&self) -> &Setup {
        &self.process.setup
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> String {
        self.process.setup.log()
    }

    /// Sends a signal, by its name: `STOP`, `HUP`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// kill -9.
    pub async fn kill(self) -> Setup {
        self.kill_and(|| {}).await
    }

    /// As [`Process::kill_and`].
    pub async fn kill_and(self, then: impl FnOnce()) -> Setup {
        self.process.kill_and(then).await
    }

    /// SIGTERM; returns how it ended.
    pub async fn stop(self) -> (Setup, ExitStatus) {
        self.signal("TERM");
        self.ends().await
    }

    /// Waits until it ends by itself.
    pub async fn ends(self) -> (Setup, ExitStatus) {
        self.process.ends().await
    }

    /// Waits until it ends by itself, and leaves it to be taken for killed.
    pub async fn ended(&mut self) {
        self.process.child.wait().await.unwrap();
    }

    /// A client of the Spark API with the gateway's own client certificate.
    pub fn spark_client(&self) -> reqwest::Client {
        let pki = self.process.setup.data_dir().join("pki");
        let (cert, key) = (pki.join("client.pem"), pki.join("client.key"));
        self.spark_client_with(Some((&cert, &key)))
    }

    pub fn spark_client_with(&self, identity: Option<(&Path, &Path)>) -> reqwest::Client {
        self.spark_client_builder(identity).build().unwrap()
    }

    /// One whose requests fail after so long.
    pub fn impatient_spark_client(&self, patience: Duration) -> reqwest::Client {
        let pki = self.process.setup.data_dir().join("pki");
        let (cert, key) = (pki.join("client.pem"), pki.join("client.key"));
        self.spark_client_builder(Some((&cert, &key))).timeout(patience).build().unwrap()
    }

    fn spark_client_builder(&self, identity: Option<(&Path, &Path)>) -> reqwest::ClientBuilder {
        tls::install_provider();
        let ca = self.process.setup.data_dir().join("pki/ca.pem");
        let tls = tls::client_config(Some(&ca), identity).unwrap();
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
    }

    pub fn spark_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.spark)
    }

    /// All records of a stream from a number on, as the JSON of their lines;
    /// a `410` is followed to where the records go on.
    pub async fn records(&self, stream: &str, from: u64) -> Vec<Value> {
        let client = self.spark_client();
        let (mut from, mut records) = (from, Vec::new());
        loop {
            let url = self.spark_url(&format!("/v1/streams/{stream}/records?from={from}"));
            let answer = client.get(url).send().await.unwrap();
            let status = answer.status();
            let next = answer.headers().get("ngsi-ferry-next").cloned();
            let body = answer.text().await.unwrap();
            if status == 410 {
                let gone: Value = serde_json::from_str(&body).unwrap();
                from = gone["earliest"].as_u64().unwrap();
                continue;
            }
            assert_eq!(status, 200, "{body}");
            if body.is_empty() {
                return records;
            }
            records.extend(body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            from = next.unwrap().to_str().unwrap().parse().unwrap();
        }
    }

    /// What `/status` says.
    pub async fn status(&self) -> Value {
        let url = format!("http://{}/status", self.admin);
        tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let body = client.get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
