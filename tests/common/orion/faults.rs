//! Faults a test injects: which requests, how often, and what goes wrong.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::answer::Answer;
use super::request::Request;

/// Holds requests until the test opens it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn close(&self) {
        self.0.send_replace(false);
    }

    async fn passed(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

#[derive(Debug, Clone)]
enum Hold {
    Gate(Gate),
    Delay(Duration),
}

/// What becomes of a matching request.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Nothing: it is only held.
    None,
    /// This answer, and nothing is applied.
    Answer(Answer),
    /// Applied, and then this answer.
    ApplyThenAnswer(Answer),
    /// Applied, and the connection closed without an answer: the ambiguous case.
    ApplyThenClose,
    CloseBeforeApply,
    /// Applied, and the connection closed in the middle of the answer.
    AnswerHalfThenClose,
    /// 401 unless it carries this token.
    NeedToken(String),
}

type Matcher = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// A fault, and the requests it is for: all of them, for ever, unless told.
#[derive(Clone)]
pub struct Fault {
    matches: Vec<Matcher>,
    left: Option<usize>,
    hold: Option<Hold>,
    effect: Effect,
    hits: Arc<AtomicUsize>,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?} left, hit {} times", self.effect, self.left, self.hits())
    }
}

impl Fault {
    fn with(effect: Effect) -> Self {
        Self { matches: Vec::new(), left: None, hold: None, effect, hits: Arc::default() }
    }

    /// Answers with that status, in Orion's form, without applying.
    pub fn answer(status: u16) -> Self {
        Self::with(Effect::Answer(injected(status)))
    }

    /// Answers exactly so, without applying.
    pub fn answer_with(answer: Answer) -> Self {
        Self::with(Effect::Answer(answer))
    }

    /// Applies, and nevertheless answers with that status.
    pub fn apply_then_answer(status: u16) -> Self {
        Self::with(Effect::ApplyThenAnswer(injected(status)))
    }

    pub fn apply_then_close() -> Self {
        Self::with(Effect::ApplyThenClose)
    }

    pub fn close_before_apply() -> Self {
        Self::with(Effect::CloseBeforeApply)
    }

    pub fn answer_half_then_close() -> Self {
        Self::with(Effect::AnswerHalfThenClose)
    }

    /// 401 until a request carries the token, in `X-Auth-Token` or as a
    /// bearer in `Authorization`.
    pub fn need_token(token: &str) -> Self {
        Self::with(Effect::NeedToken(token.to_owned()))
    }

    /// Holds requests until the gate opens, and then handles them as usual.
    pub fn held_by(gate: &Gate) -> Self {
        Self::with(Effect::None).hold(gate)
    }

    /// Handles requests as usual, that much later.
    pub fn delayed(by: Duration) -> Self {
        let mut fault = Self::with(Effect::None);
        fault.hold = Some(Hold::Delay(by));
        fault
    }

    /// Only where that holds too.
    pub fn when(mut self, matches: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.matches.push(Arc::new(matches));
        self
    }

    /// Only for requests that name that entity.
    pub fn entity(self, id: &str) -> Self {
        let id = id.to_owned();
        self.when(move |request| request.targets(&id))
    }

    /// Only the first so many matching requests.
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// With `Retry-After` on the answer.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        if let Effect::Answer(answer) | Effect::ApplyThenAnswer(answer) = &mut self.effect {
            answer.headers.push(("Retry-After".into(), seconds.to_string()));
        }
        self
    }

    /// Held by the gate before its effect.
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.hold = Some(Hold::Gate(gate.clone()));
        self
    }

    /// How many requests it was for; clones count together.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Whether this request is one of its own; counts it, if so.
    fn takes(&mut self, request: &Request) -> bool {
        if self.left == Some(0) || !self.matches.iter().all(|matches| matches(request)) {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        self.hits.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Waits as long as it holds a request.
    pub async fn held(&self) {
        match &self.hold {
            Some(Hold::Gate(gate)) => gate.passed().await,
            Some(Hold::Delay(by)) => tokio::time::sleep(*by).await,
            None => {}
        }
    }

    pub fn effect(&self) -> &Effect {
        &self.effect
    }
}

/// An error in Orion's form; a success has no body.
fn injected(status: u16) -> Answer {
    if (200..300).contains(&status) {
        return Answer::status(status);
    }
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    Answer::v2(status, &reason.unwrap_or("Error").replace(' ', ""), "injected by the test")
}

/// The first fault, in the order of injection, that takes the request.
pub fn pick(faults: &mut [Fault], request: &Request) -> Option<Fault> {
    faults.iter_mut().find_map(|fault| fault.takes(request).then(|| fault.clone()))
}

/// Whether the request carries that token.
pub fn carries(request: &Request, token: &str) -> bool {
    let bearer = request.header("authorization").and_then(|v| v.strip_prefix("Bearer "));
    request.header("x-auth-token") == Some(token) || bearer == Some(token)
}
