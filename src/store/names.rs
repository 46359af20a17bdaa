//! Names that a log's owner must know again without remembering them: twelve
//! bytes each in a file beside the log, appended and never read as a whole
//! into memory.
//!
//! What is kept of a name is 96 bits that it is taken for. The file is begun
//! anew when it is full, and the one before it is kept: it is bounded, and
//! what goes in the end are the names that were noted first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::checked_file::sync_folder;
use super::{Log, PositionError};

const FILE: &str = "forgotten";
const EARLIER: &str = "forgotten.old";
/// Its files in a log's folder.
pub(super) const FILES: [&str; 2] = [FILE, EARLIER];
const LEN: usize = 12;
/// 3 MiB.
const MOST: u64 = 1 << 18;

type Trace = [u8; LEN];

impl Log {
    /// Notes names, to be known again by [`Log::knows_name`]; they are on
    /// stable storage then. The last quarter of a million of them are.
    ///
    /// # Errors
    /// Where the disk refused it.
    pub async fn note_names(&self, names: &[String]) -> Result<(), PositionError> {
        let traces: Vec<Trace> = names.iter().map(|name| trace(name)).collect();
        self.in_folder(move |folder| note(folder, &traces, MOST)).await
    }

    /// Whether a name was noted.
    ///
    /// # Errors
    /// Where the disk refused to be read.
    pub async fn knows_name(&self, name: &str) -> Result<bool, PositionError> {
        let trace = trace(name);
        self.in_folder(move |folder| is_noted(folder, &trace)).await
    }

    async fn in_folder<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PositionError> {
        let folder = self.folder();
        let done = tokio::task::spawn_blocking(move || step(&folder)).await;
        done.unwrap_or_else(|_| Err(io::Error::other("it was cancelled")))
            .map_err(|error| PositionError::Disk(error.to_string()))
    }
}

/// FNV-1a of 64 bits, and a checksum that has nothing to do with it.
fn trace(name: &str) -> Trace {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    let mut trace = [0; LEN];
    trace[..8].copy_from_slice(&hash.to_le_bytes());
    trace[8..].copy_from_slice(&crc32c::crc32c(name.as_bytes()).to_le_bytes());
    trace
}

fn note(folder: &Path, traces: &[Trace], most: u64) -> io::Result<()> {
    let path = folder.join(FILE);
    let mut file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path)?;
    // Over what a cut has left of the last one.
    let mut whole = file.metadata()?.len() / LEN as u64;
    if whole >= most {
        fs::rename(&path, folder.join(EARLIER))?;
        file = File::create(&path)?;
        whole = 0;
    }
    file.seek(SeekFrom::Start(whole * LEN as u64))?;
    file.write_all(&traces.concat())?;
    file.sync_all()?;
    sync_folder(folder)
}

fn is_noted(folder: &Path, trace: &Trace) -> io::Result<bool> {
    for name in FILES {
        let file = match File::open(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let mut file = BufReader::with_capacity(4096 * LEN, file);
        let mut read = [0; LEN];
        loop {
            match file.read_exact(&mut read) {
                Ok(()) if read == *trace => return Ok(true),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_over_a_torn_end_and_a_full_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let known = |name: &str| is_noted(folder, &trace(name)).unwrap();
        assert!(!known("a"));
        note(folder, &[trace("a"), trace("b")], 3).unwrap();
        let mut torn = OpenOptions::new().append(true).open(folder.join(FILE)).unwrap();
        torn.write_all(b"torn").unwrap();
        note(folder, &[trace("c")], 3).unwrap();
        assert!(known("a") && known("b") && known("c") && !known("d"));
        note(folder, &[trace("d")], 3).unwrap();
        assert!(known("a") && known("c") && known("d"));
        note(folder, &[trace("e"), trace("f")], 3).unwrap();
        note(folder, &[trace("g")], 3).unwrap();
        let left = ["a", "c", "d", "f", "g"].map(known);
        assert_eq!(left, [false, false, true, true, true], "bounded: the first ones go");
    }
}
