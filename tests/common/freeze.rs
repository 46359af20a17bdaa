//! A process that stands still, as when the power goes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A thread in the middle of a sync stops when the disk has answered.
const DEADLINE: Duration = Duration::from_secs(30);

/// SIGSTOP; when this returns, none of its threads does anything any more.
/// An error says what it is of.
pub fn freeze(pid: u32) -> Result<(), String> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| format!("{pid} is no process"))?;
    kill_process(process, Signal::STOP).map_err(|error| format!("process {pid}: {error}"))?;
    let begun = Instant::now();
    while !is_frozen(pid)? {
        if begun.elapsed() > DEADLINE {
            return Err(format!("process {pid} does not stop"));
        }
        // Nobody tells of it but to the parent, and only of the whole process.
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn is_frozen(pid: u32) -> Result<bool, String> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut stopped = tasks.flatten().filter_map(|task| {
        // One that has ended meanwhile does nothing either.
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        // The name before it is in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        Some(matches!(fields.chars().next(), Some('T' | 't' | 'Z' | 'X')))
    });
    Ok(stopped.all(|is_stopped| is_stopped))
}
