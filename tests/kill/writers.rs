//! Programs that write to Orion through the pass-through, and what was
//! accepted of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::life::Life;
use super::seed::Seed;
use crate::common::spark::Spark;

/// Whether the gateway took a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It said so.
    Yes,
    /// No answer came.
    Unknown,
    /// It must never reach Orion.
    Never,
}

/// Writes of one entity by their number, which rises in the order of writing.
pub type Writes = BTreeMap<u64, Taken>;

/// Everything written to one Orion, by entity.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<BTreeMap<String, Writes>>>);

impl Written {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, entity: &str, number: u64, taken: Taken) {
        self.lock().entry(entity.to_owned()).or_default().insert(number, taken);
    }

    fn next(&self, entity: &str) -> u64 {
        let written = self.lock();
        let last = written.get(entity).and_then(|writes| writes.keys().next_back().copied());
        last.unwrap_or(0) + 1
    }
}

/// Write number `number`: one that may be repeated, or one that must not.
pub fn attributes(number: u64, once: bool) -> Value {
    if once {
        json!({"once": {"type": "StructuredValue", "value": {"$push": number}}})
    } else {
        json!({"number": {"type": "Number", "value": number}})
    }
}

/// Writes to its own entities, one write after the other, until the gateway is
/// gone.
pub async fn write(
    spark: Spark,
    mut entities: Vec<String>,
    mut chance: Seed,
    to: Written,
    life: Life,
) {
    while !entities.is_empty() {
        let at = usize::try_from(chance.below(entities.len() as u64)).unwrap();
        let entity = &entities[at];
        let number = to.next(entity);
        to.note(entity, number, Taken::Unknown);
        let path = format!("/v2/entities/{entity}/attrs");
        let body = attributes(number, chance.one_in(5));
        match spark.try_write("PATCH", &path, &[], &body).await {
            Ok(reply) if reply.status == 204 => {
                to.note(entity, number, Taken::Yes);
                life.acknowledged("write-backs");
            }
            Ok(reply) => return life.refused(&format!("{reply:?}")),
            // What the line still holds may come after the next one: that is
            // no order to be kept, so this entity is left alone.
            Err(_) if life.tries_again().await => drop(entities.swap_remove(at)),
            Err(_) => return,
        }
    }
}
