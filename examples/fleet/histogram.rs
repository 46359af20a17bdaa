//! Arrivals, drawn.

use std::time::Duration;

/// What is counted together.
pub const SLOT: Duration = Duration::from_millis(100);
/// Slots in a line, where there are many.
const LINES: usize = 40;
const WIDTH: usize = 60;

/// Prints how many came in each slot, and how far the fullest is above an
/// even spread.
pub fn print(what: &str, arrivals: impl Iterator<Item = Duration>) {
    let mut slots: Vec<usize> = Vec::new();
    for at in arrivals {
        let slot = usize::try_from(at.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX - 1);
        slots.resize(slots.len().max(slot + 1), 0);
        slots[slot] += 1;
    }
    let all: usize = slots.iter().sum();
    let peak = slots.iter().max().copied().unwrap_or(0);
    #[allow(clippy::cast_precision_loss)]
    let even = all as f64 / slots.len().max(1) as f64;
    #[allow(clippy::cast_precision_loss)]
    let above = peak as f64 / even.max(f64::MIN_POSITIVE);
    println!("\n{what}: {all} in {:?}", SLOT * u32::try_from(slots.len()).unwrap_or(u32::MAX));
    println!("in 100 ms at most {peak}; evenly spread {even:.1}; {above:.1} times that");
    let together = slots.len().div_ceil(LINES).max(1);
    let lines: Vec<usize> = slots.chunks(together).map(|slots| slots.iter().sum()).collect();
    let fullest = lines.iter().max().copied().unwrap_or(0).max(1);
    for (line, count) in (0u32..).zip(&lines) {
        let from = SLOT * line * u32::try_from(together).unwrap_or(1);
        let bar = "#".repeat((count * WIDTH).div_ceil(fullest));
        println!("{:>7.1} s {count:>4} {bar}", from.as_secs_f64());
    }
}
