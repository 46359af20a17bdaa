//! The campaign's sums: kind of file by kind of damage.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::harm::{Harm, Victim};

/// What came of one damage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Result {
    /// Records that are gone, and are said to be lost.
    pub lost: u64,
    /// Numbers said to be lost that never had a record.
    pub over: u64,
    /// Records that are gone and were skipped without a word.
    pub silent: u64,
    /// How long the start took.
    pub start: Duration,
}

#[derive(Default)]
struct Cell {
    damages: u64,
    exact: u64,
    sum: Result,
}

/// All of them.
#[derive(Default)]
pub struct Table {
    cells: BTreeMap<(Victim, Harm), Cell>,
    slowest: Duration,
}

impl Table {
    pub fn add(&mut self, victim: Victim, harm: Harm, result: Result) {
        let cell = self.cells.entry((victim, harm)).or_default();
        cell.damages += 1;
        cell.exact += u64::from(result.over == 0 && result.silent == 0);
        cell.sum.lost += result.lost;
        cell.sum.over += result.over;
        cell.sum.silent += result.silent;
        self.slowest = self.slowest.max(result.start);
    }

    /// Printed at the end. Each that is counted has started.
    pub fn render(&self) -> String {
        let mut text = format!(
            "{:<16}{:<11}{:>8}{:>8}{:>14}{:>14}{:>8}\n",
            "damaged", "how", "started", "exact", "records lost", "over-reported", "silent"
        );
        let mut total = Cell::default();
        for ((victim, harm), cell) in &self.cells {
            line(&mut text, &format!("{victim:?}"), &format!("{harm:?}"), cell);
            total.damages += cell.damages;
            total.exact += cell.exact;
            total.sum.lost += cell.sum.lost;
            total.sum.over += cell.sum.over;
            total.sum.silent += cell.sum.silent;
        }
        line(&mut text, "all", "", &total);
        let _ = writeln!(text, "slowest start: {:?}", self.slowest);
        text
    }
}

fn line(text: &mut String, victim: &str, harm: &str, cell: &Cell) {
    let Cell { damages, exact, sum: Result { lost, over, silent, .. } } = cell;
    let _ = writeln!(
        text,
        "{victim:<16}{harm:<11}{damages:>8}{exact:>8}{lost:>14}{over:>14}{silent:>8}"
    );
}
