//! What was sent, acknowledged and received, by number.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

/// `nf-`, 16 digits, `-`: found in whatever form a program sends it on.
const MARK: &[u8] = b"nf-";
const DIGITS: usize = 16;

#[derive(Clone, Copy, Default)]
struct Entry {
    acknowledged: bool,
    /// How often it came out.
    received: u64,
}

#[derive(Clone)]
pub struct Ledger {
    entries: Arc<Mutex<Vec<Entry>>>,
    acknowledged: watch::Sender<u64>,
    received: watch::Sender<Instant>,
}

/// What there is to tell.
pub struct Figures {
    pub sent: usize,
    pub acknowledged: usize,
    pub received: usize,
    /// Acknowledged, and never received.
    pub lost: Vec<usize>,
    /// Came out more than once.
    pub twice: usize,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            entries: Arc::default(),
            acknowledged: watch::Sender::new(0),
            received: watch::Sender::new(Instant::now()),
        }
    }

    fn with<T>(&self, what: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        what(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of a notification about to be sent. None is sent twice.
    pub fn sends(&self) -> usize {
        self.with(|entries| {
            entries.push(Entry::default());
            entries.len() - 1
        })
    }

    pub fn acknowledged(&self, number: usize) {
        self.with(|entries| entries[number].acknowledged = true);
        self.acknowledged.send_modify(|count| *count += 1);
    }

    /// Everything that these bytes name.
    pub fn received(&self, bytes: &[u8]) {
        let numbers = numbers(bytes);
        if numbers.is_empty() {
            return;
        }
        self.with(|entries| {
            for number in numbers {
                if let Some(entry) = entries.get_mut(number) {
                    entry.received += 1;
                }
            }
        });
        self.received.send_replace(Instant::now());
    }

    pub fn count(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until so many are acknowledged.
    pub async fn reaches(&self, count: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let _ = acknowledged.wait_for(|reached| *reached >= count).await;
    }

    /// When something came out last.
    pub fn last(&self) -> Instant {
        *self.received.borrow()
    }

    pub fn figures(&self) -> Figures {
        self.with(|entries| Figures {
            sent: entries.len(),
            acknowledged: entries.iter().filter(|entry| entry.acknowledged).count(),
            received: entries.iter().filter(|entry| entry.received > 0).count(),
            lost: (0..entries.len())
                .filter(|number| entries[*number].acknowledged && entries[*number].received == 0)
                .collect(),
            twice: entries.iter().filter(|entry| entry.received > 1).count(),
        })
    }
}

/// The name that carries a number.
pub fn name(number: usize) -> String {
    format!("nf-{number:016}-")
}

fn numbers(bytes: &[u8]) -> Vec<usize> {
    let len = MARK.len() + DIGITS + 1;
    let named = bytes.windows(len).filter(|window| window.starts_with(MARK));
    named
        .filter(|window| window.ends_with(b"-"))
        .filter_map(|window| {
            let digits = std::str::from_utf8(&window[MARK.len()..len - 1]).ok()?;
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
        })
        .collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, received, lost, twice } = self;
        let heads = ["sent", "acknowledged", "received", "lost", "twice"];
        let figures = [*sent, *acknowledged, *received, lost.len(), *twice];
        writeln!(f, "{}", heads.map(|head| format!("{head:>14}")).concat())?;
        writeln!(f, "{}", figures.map(|figure| format!("{figure:>14}")).concat())?;
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            writeln!(f, "the first lost is {}, the last {}", name(*first), name(*last))?;
        }
        Ok(())
    }
}
