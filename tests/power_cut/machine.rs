//! The power switch of the volatile file system, and its faults.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;

use super::content::Cut;
use super::image::Image;
use super::place::{Place, Step};

/// Nobody may wait longer for a cut to be finished: a test that failed in
/// between must come to its end.
const LONGEST_FREEZE: Duration = Duration::from_secs(20);

const TRAIL: usize = 4000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// The moment of the cut: nothing is answered.
    Frozen,
    /// Only errors, until the process is gone.
    Off,
}

/// When the power goes by itself.
#[derive(Debug, Clone, Copy)]
pub struct Aim {
    /// `None`: anywhere.
    pub place: Option<Place>,
    /// So many changes are let pass.
    pub after: u64,
}

/// Beginning and end of the path of something that is changed.
pub type Ends = (&'static str, &'static str);

/// Changes that fail.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Syncs fail; otherwise whatever needs room: writes, and new entries.
    pub of_syncs: bool,
    pub place: Option<Place>,
    /// So many are let pass.
    pub after: u64,
    /// How many fail; more than anybody counts to where it lasts.
    pub times: u64,
    pub errno: Errno,
}

impl Fault {
    fn strikes(&mut self, step: Step, place: Place) -> bool {
        let concerns = match step {
            Step::Sync => self.of_syncs,
            Step::Write | Step::Make => !self.of_syncs,
            Step::Remove | Step::Rename => false,
        };
        if !concerns || self.times == 0 || self.place.is_some_and(|aimed| aimed != place) {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

pub struct State {
    pub image: Image,
    power: Power,
    aim: Option<Aim>,
    /// What is to be changed before the power goes, in this order.
    course: VecDeque<Ends>,
    fault: Option<Fault>,
    failed: u64,
    is_up: bool,
    /// Where the last change was.
    place: Place,
    /// The last changes, for whoever looks for the reason of a failure.
    trail: VecDeque<String>,
}

impl State {
    fn note(&mut self, line: String) {
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(line);
    }
}

/// Shared by the file system's thread and the test.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    frozen: watch::Sender<bool>,
    faults: watch::Sender<u64>,
}

impl Machine {
    pub fn new(image: Image) -> Self {
        let (power, place) = (Power::On, Place::StartUp);
        let (aim, fault, failed, is_up) = (None, None, 0, false);
        let (trail, course) = (VecDeque::new(), VecDeque::new());
        let state = State { image, power, aim, course, fault, failed, is_up, place, trail };
        let state = Mutex::new(state);
        let (changed, frozen) = (Condvar::new(), watch::Sender::new(false));
        Self(Arc::new(Inner { state, changed, frozen, faults: watch::Sender::new(0) }))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What only looks: waits while frozen, and fails without power.
    pub fn look(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.lock();
        let frozen = |state: &mut State| state.power == Power::Frozen;
        let waited = self.0.changed.wait_timeout_while(state, LONGEST_FREEZE, frozen);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            state.power = Power::Off;
        }
        if state.power == Power::On { Ok(state) } else { Err(Errno::IO) }
    }

    /// What changes something. `of` tells the path, as far as anybody asks.
    /// The second value is the error that it shall fail with.
    pub fn step(
        &self,
        step: Step,
        of: impl Fn(&Image) -> String,
    ) -> Result<(MutexGuard<'_, State>, Option<Errno>), Errno> {
        let mut state = self.look()?;
        let path = of(&state.image);
        let place = Place::of(step, &path, state.is_up);
        if state.course.front().is_some_and(|(a, z)| path.starts_with(a) && path.ends_with(z)) {
            state.course.pop_front();
            if state.course.is_empty() {
                state.aim = Some(Aim { place: None, after: 0 });
            }
        }
        if let Some(aim) = &mut state.aim
            && aim.place.is_none_or(|aimed| aimed == place)
        {
            if aim.after == 0 {
                (state.aim, state.place) = (None, place);
                self.freeze_in(&mut state);
                drop(state);
                // Answered, with an error, when the process is as good as gone.
                return self.look().map(|state| (state, None));
            }
            aim.after -= 1;
        }
        state.place = place;
        let strikes = state.fault.as_mut().is_some_and(|fault| fault.strikes(step, place));
        let errno = state.fault.filter(|_| strikes).map(|fault| fault.errno);
        if strikes {
            state.failed += 1;
            self.0.faults.send_replace(state.failed);
        }
        state.note(format!("{step:?} {path}{}", if strikes { " FAILS" } else { "" }));
        Ok((state, errno))
    }

    /// The last changes, cuts and faults, one a line.
    pub fn trail(&self) -> String {
        self.lock().trail.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    fn freeze_in(&self, state: &mut State) {
        if state.power == Power::On {
            state.power = Power::Frozen;
            self.0.frozen.send_replace(true);
        }
    }

    /// From this moment on nothing is answered, and nothing changes.
    pub fn freeze(&self) {
        self.freeze_in(&mut self.lock());
    }

    /// What waits is answered with an error: of use once nobody can act on it.
    pub fn power_off(&self) {
        self.lock().power = Power::Off;
        self.0.changed.notify_all();
    }

    /// What was not durable is gone, and the power is back. Returns where the
    /// cut fell.
    pub fn cut(&self, cut: Cut, seed: u64) -> Place {
        let mut state = self.lock();
        state.image.cut(cut, seed);
        let place = state.place;
        state.note(format!("CUT ({cut:?}) during {place:?}"));
        (state.aim, state.fault, state.is_up) = (None, None, false);
        state.course.clear();
        state.power = Power::On;
        self.0.frozen.send_replace(false);
        self.0.changed.notify_all();
        std::mem::replace(&mut state.place, Place::StartUp)
    }

    /// Resolves at the moment of a cut.
    pub async fn frozen(&self) {
        let mut frozen = self.0.frozen.subscribe();
        // The sender lives as long as `self`.
        let _ = frozen.wait_for(|frozen| *frozen).await;
    }

    pub fn aim(&self, aim: Option<Aim>) {
        self.lock().aim = aim;
    }

    /// The power goes before the last of these changes, which come in this
    /// order, others between them.
    // Not every campaign has a course.
    #[allow(dead_code)]
    pub fn aim_along(&self, course: &[Ends]) {
        self.lock().course = course.iter().copied().collect();
    }

    /// The gateway listens: what it does now is no start any more. `false`
    /// where the power went before.
    pub fn is_up(&self) -> bool {
        let mut state = self.lock();
        state.is_up = true;
        state.aim = None;
        state.power == Power::On
    }

    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// How many changes failed as they were told to.
    pub fn failed(&self) -> watch::Receiver<u64> {
        self.0.faults.subscribe()
    }
}
