//! Room made at the end of a file before it is written into.
//!
//! A file that grows with each small write makes the file system write its
//! journal each time: twelve kilobytes on ext4, for one of data. Room that was
//! filled with zeros once has its blocks, its length and nothing to journal.
//! (Blocks that are only reserved, as `fallocate` does, are journalled when
//! they are first written.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes made at a time, with one journal entry.
const STEP: u64 = 128 << 10;
const PAGE: [u8; 4096] = [0; 4096];
/// Where a commit writes more than this, the zeros would cost more than the
/// journal.
const LARGEST_COMMIT: u64 = 12 << 10;
/// Of the reads that look for the end of what was written.
const BLOCK: usize = 16 << 10;

/// What is known of a file's room.
#[derive(Debug, Default)]
pub(super) struct Preallocation {
    /// Bytes at the file's end that are still zeros, about.
    room: u64,
    /// Of the last commits.
    average: Option<u64>,
    /// The disk had no room to make.
    given_up: bool,
}

impl Preallocation {
    /// Makes room where the commit of about `bytes` that follows needs it, and
    /// where it pays. Nobody may be writing to the file's end meanwhile.
    ///
    /// # Errors
    /// Where the room could not be synced. A disk without room is no error:
    /// the file then grows with its writes.
    pub(super) fn provide(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        let average = self.average.map_or(bytes, |average| (average * 7 + bytes) / 8);
        self.average = Some(average);
        if average > LARGEST_COMMIT || self.given_up {
            return Ok(());
        }
        if self.room < bytes {
            let len = file.metadata()?.len();
            self.room = zeros_at_end(file, len)?;
            if self.room < bytes {
                if fill_with_zeros(file, len).is_err() {
                    self.given_up = true;
                    return Ok(());
                }
                file.sync_data()?;
                self.room += STEP;
            }
        }
        self.room = self.room.saturating_sub(bytes);
        Ok(())
    }
}

/// A page at a time: the kernel would keep one large write as one large page,
/// and count all of it as written with each small write into it.
fn fill_with_zeros(file: &File, from: u64) -> io::Result<()> {
    (from..from + STEP).step_by(PAGE.len()).try_for_each(|at| file.write_all_at(&PAGE, at))
}

/// How many bytes at the end of a file of length `len` are zeros.
fn zeros_at_end(file: &File, len: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(len - (start + last as u64 + 1));
        }
        end = start;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn room_is_made_once_for_many_small_commits() {
        let file = file();
        file.write_all_at(b"head", 0).unwrap();
        let mut preallocation = Preallocation::default();
        let mut at = 4;
        for _ in 0..100 {
            preallocation.provide(&file, 1000).unwrap();
            assert!(file.metadata().unwrap().len() >= at + 1000);
            file.write_all_at(&[7; 1000], at).unwrap();
            at += 1000;
        }
        assert_eq!(file.metadata().unwrap().len(), 4 + STEP);
    }

    #[test]
    fn what_stands_in_the_file_is_never_written_over() {
        let file = file();
        file.write_all_at(&[1; 100_000], 0).unwrap();
        Preallocation::default().provide(&file, 5000).unwrap();
        let mut back = vec![0; 100_000];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back.iter().all(|byte| *byte == 1));
        assert_eq!(file.metadata().unwrap().len(), 100_000 + STEP);
    }

    #[test]
    fn large_commits_get_none() {
        let file = file();
        Preallocation::default().provide(&file, LARGEST_COMMIT + 1).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn zeros_are_counted_from_the_end() {
        let file = file();
        file.write_all_at(&[1], 20_000).unwrap();
        file.write_all_at(&[0; 40_000], 20_001).unwrap();
        assert_eq!(zeros_at_end(&file, 60_001).unwrap(), 40_000);
        assert_eq!(zeros_at_end(&file, 20_000).unwrap(), 20_000, "all of it");
    }
}
