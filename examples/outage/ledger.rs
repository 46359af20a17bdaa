//! Who sent, stored, got and applied what, told by those who did it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What became of a notification, as Orion sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent; no answer yet.
    Sent,
    /// Answered with 204: it must arrive.
    Acknowledged,
    /// The connection broke, or another answer came: it may have been stored.
    Unanswered,
    /// Nobody listened.
    NotTaken,
}

#[derive(Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    notifications: Vec<Notification>,
    /// How often Orion applied each write-back, by its number.
    write_backs: Vec<u32>,
    newest: HashMap<String, u64>,
    out_of_order: u64,
    strangers: u64,
}

struct Notification {
    fate: Fate,
    delivered: u32,
}

/// The books, added up.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    pub sent: u64,
    pub acknowledged: u64,
    pub open: u64,
    pub unanswered: u64,
    pub unanswered_but_stored: u64,
    pub not_taken: u64,
    pub delivered: u64,
    /// Acknowledged, and not with Spark.
    pub backlog: u64,
    pub delivered_twice: u64,
    pub written_back: u64,
    pub applied: u64,
    /// Times that Orion got a write-back that it had applied already.
    pub applied_again: u64,
    pub out_of_order: u64,
    /// Write-backs or records that nobody had sent.
    pub strangers: u64,
}

impl Ledger {
    /// Orion is about to send a notification, of this number.
    pub fn send(&self) -> u64 {
        let mut books = self.lock();
        books.notifications.push(Notification { fate: Fate::Sent, delivered: 0 });
        books.notifications.len() as u64 - 1
    }

    pub fn sent(&self, number: u64, fate: Fate) {
        self.lock().notifications[index(number)].fate = fate;
    }

    /// Spark has these, and writes a verdict on each back.
    pub fn delivered(&self, numbers: &[u64]) {
        let mut books = self.lock();
        for number in numbers {
            match books.notifications.get_mut(index(*number)) {
                Some(notification) => notification.delivered += 1,
                None => books.strangers += 1,
            }
        }
        books.write_backs.extend(std::iter::repeat_n(0, numbers.len()));
    }

    /// How many write-backs Spark has made; the next gets this number.
    pub fn written_back(&self) -> u64 {
        self.lock().write_backs.len() as u64
    }

    /// Orion applied a write-back.
    pub fn applied(&self, entity: &str, number: u64) {
        let mut books = self.lock();
        let newest = books.newest.entry(entity.to_owned()).or_insert(number);
        let is_late = number < *newest;
        *newest = number.max(*newest);
        books.out_of_order += u64::from(is_late);
        match books.write_backs.get_mut(index(number)) {
            Some(times) => *times += 1,
            None => books.strangers += 1,
        }
    }

    pub fn figures(&self) -> Figures {
        let books = self.lock();
        let mut sum = Figures {
            out_of_order: books.out_of_order,
            strangers: books.strangers,
            written_back: books.write_backs.len() as u64,
            ..Figures::default()
        };
        for Notification { fate, delivered } in &books.notifications {
            let arrived = u64::from(*delivered > 0);
            sum.sent += 1;
            sum.delivered += arrived;
            sum.delivered_twice += u64::from(delivered.saturating_sub(1));
            match fate {
                Fate::Sent => sum.open += 1,
                Fate::Acknowledged => {
                    sum.acknowledged += 1;
                    sum.backlog += 1 - arrived;
                }
                Fate::Unanswered => {
                    sum.unanswered += 1;
                    sum.unanswered_but_stored += arrived;
                }
                Fate::NotTaken => sum.not_taken += 1,
            }
        }
        for times in &books.write_backs {
            sum.applied += u64::from(*times > 0);
            sum.applied_again += u64::from(times.saturating_sub(1));
        }
        sum
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    /// Write-backs that Orion has not applied.
    pub fn waiting(&self) -> u64 {
        self.written_back - self.applied
    }

    /// Acknowledged and not delivered, or written back and not applied.
    pub fn lost(&self) -> u64 {
        self.backlog + self.waiting()
    }

    /// Whether nothing is under way any more.
    pub fn is_settled(&self) -> bool {
        self.lost() + self.open == 0
    }

    /// Whether every promise was kept.
    pub fn is_whole(&self) -> bool {
        self.lost() + self.delivered_twice + self.out_of_order + self.strangers == 0
            && self.applied > 0
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
