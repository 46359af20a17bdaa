//! Changes of entries that are not durable yet, in their order.

use std::ffi::{OsStr, OsString};

use super::oracle::seed::Seed;

/// An entry is made (`to`), removed (`from`), or renamed (both, as one).
#[derive(Debug, Clone)]
pub struct Change {
    pub from: Option<(u64, OsString)>,
    pub to: Option<(u64, OsString, u64)>,
}

#[derive(Debug)]
struct Pending {
    order: u64,
    change: Change,
    /// A failed sync marked it clean: only a later change of the same folder
    /// brings it to the disk.
    is_clean: bool,
}

#[derive(Default)]
pub struct Journal {
    pending: Vec<Pending>,
    /// Changes so far.
    order: u64,
}

impl Journal {
    pub fn note(&mut self, change: Change) {
        self.order += 1;
        self.pending.push(Pending { order: self.order, change, is_clean: false });
    }

    /// A sync of that folder: what becomes durable with it, in order.
    pub fn sync(&mut self, folder: u64) -> Vec<Change> {
        let mut due = Vec::new();
        if self.pending.iter().any(|pending| pending.is_of(folder) && !pending.is_clean) {
            let of_this = self.pending.extract_if(.., |pending| pending.is_of(folder));
            for pending in of_this.collect::<Vec<_>>() {
                self.settle(pending, &mut due);
            }
        }
        due
    }

    pub fn fail_sync(&mut self, folder: u64) {
        let of_this = self.pending.iter_mut().filter(|pending| pending.is_of(folder));
        of_this.for_each(|pending| pending.is_clean = true);
    }

    /// The first ones, as many as chance has it.
    pub fn some(&mut self, chance: &mut Seed) -> Vec<Change> {
        let mut due = Vec::new();
        for _ in 0..chance.below(self.pending.len() as u64 + 1) {
            if !self.pending.is_empty() {
                let first = self.pending.remove(0);
                self.settle(first, &mut due);
            }
        }
        due
    }

    /// Files and folders that would have a name if all of this were durable.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().filter_map(|pending| Some(pending.change.to.as_ref()?.2))
    }

    /// One becomes durable: what was to happen to its names before it has
    /// happened by then, and never happens after it.
    fn settle(&mut self, pending: Pending, due: &mut Vec<Change>) {
        let Change { from, to } = &pending.change;
        let names = [from.clone(), to.as_ref().map(|(folder, name, _)| (*folder, name.clone()))];
        for (folder, name) in names.into_iter().flatten() {
            let is_earlier =
                |other: &Pending| other.order < pending.order && other.names(folder, &name);
            while let Some(at) = self.pending.iter().position(is_earlier) {
                let earlier = self.pending.remove(at);
                // One that concerns two names is whole, or not at all.
                if earlier.change.from.is_some() && earlier.change.to.is_some() {
                    self.settle(earlier, due);
                }
            }
        }
        due.push(pending.change);
    }
}

impl Pending {
    fn is_of(&self, folder: u64) -> bool {
        let Change { from, to } = &self.change;
        from.as_ref().is_some_and(|(of, _)| *of == folder)
            || to.as_ref().is_some_and(|(of, ..)| *of == folder)
    }

    fn names(&self, folder: u64, name: &OsStr) -> bool {
        let Change { from, to } = &self.change;
        from.as_ref().is_some_and(|(of, from)| *of == folder && from == name)
            || to.as_ref().is_some_and(|(of, to, _)| *of == folder && to == name)
    }
}
