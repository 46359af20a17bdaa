//! What the kernel counts for a process.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// `/proc` counts CPU time in `USER_HZ`, which Linux keeps at 100 everywhere.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub struct Reading {
    pub cpu: Duration,
    pub rss_kib: u64,
    pub peak_rss_kib: u64,
    /// None where the kernel does not let us see it (another user's process).
    pub written: Option<u64>,
    /// On the device under its data, where that was asked for.
    pub written_to_device: Option<u64>,
}

pub fn read(pid: u32) -> anyhow::Result<Reading> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name may hold spaces and parentheses: count from its end.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let cpu = ticks(12).zip(ticks(13)).context("no CPU time in /proc/PID/stat")?;

    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(Reading {
        cpu: TICK * (cpu.0 + cpu.1),
        rss_kib: named(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")?,
        peak_rss_kib: named(&status, "VmHWM:").context("no VmHWM in /proc/PID/status")?,
        written: named(&io, "write_bytes:"),
        written_to_device: None,
    })
}

fn named(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
