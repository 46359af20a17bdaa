//! Looks at all certificates, every minute and when it is asked to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::changes::{Known, Outcome, User};
use super::reminders::Reminders;
use super::report::{Certificate, ClientCertificate, File, Origin};
use crate::pki;
use crate::tls::{Acceptor, date};

/// How often the files are read; a few kilobytes that the kernel has in memory.
const EVERY: Duration = Duration::from_mins(1);
/// How long whoever replaces two files may take from one to the other, before
/// a pair that does not fit is called broken.
const BETWEEN_TWO_FILES: Duration = Duration::from_secs(5);

/// Knows every certificate in use.
pub struct Watch {
    /// The folder of the gateway's own authority, where that is in use.
    own: Option<PathBuf>,
    files: ArcSwap<Vec<File>>,
    acceptors: Vec<Arc<Acceptor>>,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    users: Vec<Known>,
    reminders: Reminders,
    /// Why the gateway could not renew its own certificate.
    own_problem: Option<String>,
}

/// What came of a look, for who asked for it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Whose files are in use now and were not before.
    pub taken_over: Vec<String>,
    /// What cannot be used, and why.
    pub refused: Vec<String>,
}

impl Watch {
    /// Watches `files`, and, in the folder `own`, whatever certificates there
    /// are; `acceptors` know the clients' certificates.
    #[must_use]
    pub fn new(own: Option<PathBuf>, files: Vec<File>, acceptors: Vec<Arc<Acceptor>>) -> Self {
        let state = State { users: Vec::new(), reminders: Reminders::default(), own_problem: None };
        Self {
            own,
            files: ArcSwap::from_pointee(files),
            acceptors,
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    /// As [`Watch::new`], with those who have read files and must read them
    /// anew when they change.
    #[must_use]
    pub fn with_users(self, users: Vec<User>) -> Self {
        self.state().users = users.into_iter().map(Known::new).collect();
        self
    }

    /// Other files are in use from now on.
    pub fn set_files(&self, files: Vec<File>) {
        self.files.store(Arc::new(files));
    }

    /// Looks at everything soon: the clock was set, say.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// All certificates, each file once.
    #[must_use]
    pub fn certificates(&self, now: SystemTime) -> Vec<Certificate> {
        let mut files = Vec::clone(&self.files.load());
        files.extend(self.own_files());
        let mut all: Vec<Certificate> = Vec::new();
        for file in files {
            if let Some(known) = all.iter_mut().find(|known| known.path == file.path) {
                known.used_as = format!("{}, {}", known.used_as, file.used_as);
            } else {
                all.push(Certificate::of(&file, now));
            }
        }
        let state = self.state();
        for user in &state.users {
            let (Some(path), Some(why)) = (user.certificate(), user.problem()) else { continue };
            if let Some(one) = all.iter_mut().find(|one| one.path == path) {
                one.is_not_used(why);
            }
        }
        let server = self.own.as_ref().map(|own| own.join("server.pem"));
        let server = all.iter_mut().find(|one| Some(&one.path) == server.as_ref());
        if let (Some(problem), Some(why)) =
            (server.and_then(|server| server.problem.as_mut()), &state.own_problem)
        {
            *problem = format!("{problem} (the gateway could not renew it itself: {why})");
        }
        all
    }

    /// The certificates that clients showed last.
    #[must_use]
    pub fn clients(&self, now: SystemTime) -> Vec<ClientCertificate> {
        let seen = self.acceptors.iter().flat_map(|acceptor| acceptor.clients());
        let newest = seen.fold(std::collections::BTreeMap::new(), |mut newest, (name, end)| {
            let known = newest.entry(name).or_insert(end);
            *known = end.max(*known);
            newest
        });
        let all = newest.into_iter();
        all.filter_map(|(client, end)| ClientCertificate::of(client, end, now)).collect()
    }

    /// What the own authority's folder holds: clients may be added at any time.
    fn own_files(&self) -> Vec<File> {
        let Some(own) = &self.own else { return Vec::new() };
        let entries = std::fs::read_dir(own).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| name.strip_suffix(".pem").map(ToOwned::to_owned))
            .collect();
        names.sort();
        let file = |name: String| {
            let path = own.join(format!("{name}.pem"));
            let (used_as, origin) = match name.as_str() {
                "ca" => ("the own authority".to_owned(), Origin::OwnAuthority),
                "server" => ("the own server".to_owned(), Origin::OwnServer),
                _ => (format!("the client {name}"), Origin::OwnClient),
            };
            File { path, used_as, origin }
        };
        names.into_iter().map(file).collect()
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
            }
            self.look_and_settle().await;
        }
    }

    /// Looks at everything now, and where files are just being replaced, a
    /// second time.
    pub async fn look_and_settle(self: &Arc<Self>) -> Looked {
        let (mut looked, unclear) = self.look_once().await;
        if unclear {
            tokio::time::sleep(BETWEEN_TWO_FILES).await;
            let (later, _) = self.look_once().await;
            looked.taken_over.extend(later.taken_over);
            looked.refused = later.refused;
        }
        looked
    }

    async fn look_once(self: &Arc<Self>) -> (Looked, bool) {
        let watch = Arc::clone(self);
        // Files are read, and a key may sign: not on the runtime's threads.
        let looked = tokio::task::spawn_blocking(move || watch.look(SystemTime::now())).await;
        looked.unwrap_or_default()
    }

    /// Renews the own certificate where it is due, takes over what changed,
    /// says what there is to say. Also tells whether it is worth another look
    /// soon.
    pub(super) fn look(&self, now: SystemTime) -> (Looked, bool) {
        self.renew_own(now);
        let (mut looked, mut unclear) = (Looked::default(), false);
        {
            let mut state = self.state();
            for user in &mut state.users {
                match user.look() {
                    Outcome::Unchanged => {}
                    Outcome::TakenOver => looked.taken_over.push(user.name().to_owned()),
                    Outcome::Perhaps => unclear = true,
                    Outcome::Refused => {
                        let why = user.problem().unwrap_or_default();
                        looked.refused.push(format!("{}: {why}", user.name()));
                    }
                }
            }
        }
        self.remind(now);
        (looked, unclear)
    }

    /// Has everybody read their files again, changed or not.
    pub fn reload(&self) {
        self.state().users.iter_mut().for_each(Known::reload);
        self.wake();
    }

    fn renew_own(&self, now: SystemTime) {
        let Some(own) = self.own.as_ref().filter(|own| pki::is_due(own, now)) else { return };
        let problem = match pki::renew_server(own, now) {
            Ok(None) => None,
            Ok(Some(renewed)) => {
                info!(certificate = %renewed.cert.display(), until = date(renewed.expires), "the gateway renewed its own certificate");
                None
            }
            Err(error) => {
                // Months are left; within the last it is said daily.
                debug!(%error, "the own certificate could not be renewed yet");
                Some(error.to_string())
            }
        };
        self.state().own_problem = problem;
    }

    fn remind(&self, now: SystemTime) {
        let certificates = self.certificates(now).into_iter().filter_map(|one| {
            let what = format!("{} ({})", one.path.display(), one.used_as);
            Some((what, one.concern?, one.problem?))
        });
        let clients = self.clients(now).into_iter().filter_map(|one| {
            Some((format!("of the client {}", one.client), one.concern?, one.problem?))
        });
        let all = certificates.chain(clients).collect();
        self.state().reminders.say(all, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
