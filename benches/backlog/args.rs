//! What can be asked of a run.

use clap::Parser;

#[derive(Parser)]
#[command(name = "backlog", about = "Build, start upon and drain a backlog")]
pub struct Args {
    /// Size of the backlog on the disk.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
    /// In place of that, so many small records.
    #[arg(long)]
    pub records: Option<u64>,
    /// Exit with 1 where a threshold is missed.
    #[arg(long)]
    pub check: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Bytes on the disk.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn bytes(&self) -> u64 {
        (self.gib.max(0.0) * f64::from(1 << 30)) as u64
    }

    /// Bytes that must be free before anything is begun: half as much again.
    pub fn needs(&self) -> u64 {
        // A small record takes less than 200 bytes, packed.
        let bytes = self.records.map_or(self.bytes(), |records| records * 200);
        bytes / 2 * 3 + (1 << 30)
    }
}
