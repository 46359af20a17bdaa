//! Processes that stand still, as when the power goes.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A thread in the middle of a sync stops when the disk has answered.
const DEADLINE: Duration = Duration::from_secs(30);

/// SIGSTOP; when this returns, none of its threads does anything any more.
/// An error says what it is of.
pub fn freeze(pid: u32) -> Result<(), String> {
    kill_process(process(pid)?, Signal::STOP).map_err(|error| format!("process {pid}: {error}"))?;
    wait_for(&format!("process {pid}"), || is_frozen(pid))
}

/// As [`freeze`], a whole process group, by its leader.
pub fn freeze_group(leader: u32) -> Result<(), String> {
    let group = process(leader)?;
    kill_process_group(group, Signal::STOP).map_err(|error| format!("group {leader}: {error}"))?;
    wait_for(&format!("group {leader}"), || members(leader).into_iter().all(is_frozen))
}

/// The processes of a group, ended ones that nobody has waited for left out.
pub fn members(leader: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = after_name(&stat).split(' ').collect();
        fields.first().is_some_and(|state| !matches!(*state, "Z" | "X"))
            && fields.get(2).and_then(|group| group.parse().ok()) == Some(leader)
    })
    .collect()
}

pub fn process(pid: u32) -> Result<Pid, String> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    process.ok_or_else(|| format!("{pid} is no process"))
}

fn wait_for(what: &str, is_frozen: impl Fn() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !is_frozen() {
        if begun.elapsed() > DEADLINE {
            return Err(format!("{what} does not stop"));
        }
        // Nobody tells of it but to the parent, and only of the whole process.
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// One that has ended does nothing either.
fn is_frozen(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        after_name(&stat).chars().next()
    });
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// The fields from the state on: the name before them is in brackets, and may
/// hold anything.
fn after_name(stat: &str) -> &str {
    stat.rsplit_once(") ").map_or("", |(_, fields)| fields)
}
