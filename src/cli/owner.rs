//! Root's files in a data directory would be closed to the gateway's own user.
//! So where no gateway runs, root looks at its store as that user.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use rustix::io::{FdFlags, fcntl_setfd};

/// `data_dir`, over whatever the configuration says.
const VARIABLE: &str = "NGSI_FERRY_DATA_DIR";

/// Starts this very program anew as the user that the data directory belongs
/// to. Returns where that is us already.
///
/// # Errors
/// Where it cannot be started so.
pub(super) fn become_owner_of(data_dir: &Path) -> Result<()> {
    let folder = File::open(data_dir)?;
    let owner = folder.metadata()?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    // systemd closes the way to the folder to all others, so it is handed over
    // as it is open here.
    fcntl_setfd(&folder, FdFlags::empty())?;
    let open = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let program = std::env::current_exe()?;
    let mut again = Command::new(&program);
    again.args(std::env::args_os().skip(1)).env(VARIABLE, open);
    // Only returns where it failed.
    let failed = again.gid(owner.gid()).uid(owner.uid()).exec();
    Err(anyhow!(failed)).with_context(|| {
        format!(
            "no gateway runs, and {} cannot be run as user {}, whom {} belongs to",
            program.display(),
            owner.uid(),
            data_dir.display()
        )
    })
}
