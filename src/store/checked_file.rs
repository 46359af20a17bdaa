//! Small files that are either whole or known not to be: JSON behind a
//! length and a checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Larger than any of these files ever is; a bound for what is read.
const MAX_LEN: u64 = 16 << 20;

/// Writes `value` over what stands in `path` and waits until it is on stable
/// storage. The file is not truncated first, so that a cut in between leaves
/// the length known; its checksum then tells that it is torn. A new one takes
/// its name when it is whole; whoever called syncs the folder. A file shorter
/// than `room` is filled up to it.
pub(super) fn write(path: &Path, value: &impl Serialize, room: usize) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    let len = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(8 + json.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
    bytes.extend_from_slice(&json);
    if path.exists() {
        return fill(&OpenOptions::new().write(true).open(path)?, bytes, room);
    }
    // One torn in its making would look like one that was whole before.
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    fill(&File::create(&staged)?, bytes, room)?;
    fs::rename(&staged, path)
}

fn fill(mut file: &File, mut bytes: Vec<u8>, room: usize) -> io::Result<()> {
    if bytes.len() < room && file.metadata()?.len() < room as u64 {
        bytes.resize(room, 0);
    }
    file.write_all(&bytes)?;
    file.sync_data()
}

/// Reads what [`write`] wrote; `None` where there is no such file, an error
/// of kind `InvalidData` where it is damaged.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_LEN).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let json = rest.get(..u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
    if crc32c::crc32c(json) != u32::from_le_bytes(*sum) {
        return Err(damaged());
    }
    serde_json::from_slice(json).map(Some).map_err(|_| damaged())
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
