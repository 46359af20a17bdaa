//! Room made at the end of a file before it is written into.
//!
//! A file that grows with each small write makes the file system write its
//! journal each time: twelve kilobytes on ext4, for one of data. Room that was
//! filled with zeros once has its blocks, its length and nothing to journal.
//! (Blocks that are only reserved, as `fallocate` does, are journalled when
//! they are first written.)
//!
//! The file's length is kept ahead of all that is written, and a multiple of
//! [`LEN_UNIT`]: any other length tells that damage cut it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What a file's length is a multiple of: sled pads its log to such a border
/// where a message does not fit before it.
pub(super) const LEN_UNIT: u64 = 512 << 10;
/// What sled may write beyond the values themselves, with one commit.
const OVERHEAD: u64 = 64 << 10;
/// Most bytes filled at a time, with one journal entry.
const LONGEST_STEP: u64 = 128 << 10;
/// More than a message of sled's may end in.
pub(super) const ZEROS_WRITTEN: u64 = 8 << 10;
const PAGE: [u8; 4096] = [0; 4096];
/// The kernel's, and what a file's blocks are.
pub(super) const PAGE_LEN: u64 = PAGE.len() as u64;
/// Where a commit writes more than this, the zeros would cost more than the
/// journal.
const LARGEST_COMMIT: u64 = 12 << 10;
/// Of the reads that look for the end of what was written.
const BLOCK: usize = 16 << 10;

/// What is known of a file's room.
#[derive(Debug)]
pub(super) struct Preallocation {
    /// Bytes filled at a time.
    step: u64,
    /// The end of what was written, or somewhat behind it.
    written: u64,
    /// Everything below has its blocks.
    filled: u64,
    /// The file's length.
    len: u64,
    /// Bytes of the last commits.
    average: Option<u64>,
    /// The disk had no room to make.
    given_up: bool,
}

impl Preallocation {
    /// For a file that is to become about `file_bytes` long.
    pub(super) fn of(file_bytes: u64) -> Self {
        let step = (file_bytes / 8).clamp(PAGE_LEN, LONGEST_STEP);
        Self { step, written: 0, filled: 0, len: 0, average: None, given_up: false }
    }

    /// Gives a new file its length. Blocks come with the first commit, which
    /// tells whether they pay.
    ///
    /// # Errors
    /// As [`Preallocation::provide`].
    pub(super) fn begin(&mut self, file: &File) -> io::Result<()> {
        self.look_at(file)?;
        self.make(file, 0, false)
    }

    /// Makes room for a commit of about `bytes` that follows, with blocks
    /// where that pays. Nobody may be writing to the file meanwhile.
    ///
    /// # Errors
    /// Where the room could not be synced. A disk without room is no error:
    /// the blocks are then made by the writes.
    pub(super) fn provide(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        let average = self.average.map_or(bytes, |average| (average * 7 + bytes) / 8);
        self.average = Some(average);
        let pays = average <= LARGEST_COMMIT && !self.given_up;
        let is_short = |room: &Self| {
            room.len < room.len_for(bytes) || pays && room.filled < room.written + bytes
        };
        if is_short(self) {
            self.look_at(file)?;
            if is_short(self) {
                self.make(file, bytes, pays)?;
            }
        }
        self.written += bytes;
        Ok(())
    }

    fn len_for(&self, bytes: u64) -> u64 {
        (self.written + bytes + OVERHEAD).next_multiple_of(LEN_UNIT) + LEN_UNIT
    }

    fn look_at(&mut self, file: &File) -> io::Result<()> {
        self.len = file.metadata()?.len();
        self.written = self.len - zeros_at_end(file, self.len)?;
        Ok(())
    }

    fn make(&mut self, file: &File, bytes: u64, pays: bool) -> io::Result<()> {
        let wanted = self.len_for(bytes);
        if self.len < wanted {
            file.set_len(wanted)?;
            self.len = wanted;
        }
        if pays && self.filled < self.written + bytes {
            let from = self.filled.max(self.written);
            let until = (from + self.step.max(bytes)).min(self.len);
            match fill_with_zeros(file, from, until) {
                Ok(()) => self.filled = until,
                Err(_) => self.given_up = true,
            }
        }
        file.sync_data()
    }
}

/// Cuts a file to what was written into it, up to the next multiple of `unit`:
/// nothing more will be. What was written may end in zeros itself, though never
/// in so many. Only with [`LEN_UNIT`] may it still be asked whether it was cut.
pub(super) fn give_back(file: &File, unit: u64) -> io::Result<()> {
    let len = file.metadata()?.len();
    let written = len - zeros_at_end(file, len)?;
    file.set_len(len.min((written + ZEROS_WRITTEN).next_multiple_of(unit)))
}

/// A page at a time: the kernel would keep one large write as one large page,
/// and count all of it as written with each small write into it.
fn fill_with_zeros(file: &File, from: u64, until: u64) -> io::Result<()> {
    let mut at = from;
    while at < until {
        // Up to the page's end.
        let page_end = (at + 1).next_multiple_of(PAGE_LEN).min(until);
        let len = usize::try_from(page_end - at).unwrap_or(PAGE.len());
        file.write_all_at(&PAGE[..len], at)?;
        at = page_end;
    }
    Ok(())
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
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn file() -> File {
        tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    fn blocks(file: &File) -> u64 {
        file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn room_is_made_once_for_many_small_commits() {
        let file = file();
        file.write_all_at(b"head", 0).unwrap();
        let mut preallocation = Preallocation::of(8 << 20);
        let mut at = 4;
        let mut before = None;
        for _ in 0..100 {
            preallocation.provide(&file, 1000).unwrap();
            assert!(blocks(&file) >= at + 1000);
            assert_eq!(file.metadata().unwrap().len() % LEN_UNIT, 0);
            file.write_all_at(&[7; 1000], at).unwrap();
            at += 1000;
            assert_eq!(*before.get_or_insert(blocks(&file)), blocks(&file));
        }
    }

    #[test]
    fn what_stands_in_the_file_is_never_written_over() {
        let file = file();
        file.write_all_at(&vec![1; 100_000], 0).unwrap();
        Preallocation::of(8 << 20).provide(&file, 5000).unwrap();
        let mut back = vec![0; 100_000];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back.iter().all(|byte| *byte == 1));
        give_back(&file, PAGE_LEN).unwrap();
        let len = file.metadata().unwrap().len();
        assert!((100_000 + ZEROS_WRITTEN..100_000 + 2 * ZEROS_WRITTEN).contains(&len), "{len}");
    }

    #[test]
    fn large_commits_get_length_but_no_blocks() {
        let file = file();
        Preallocation::of(8 << 20).provide(&file, LARGEST_COMMIT + 1).unwrap();
        assert_eq!((file.metadata().unwrap().len(), blocks(&file)), (2 * LEN_UNIT, 0));
    }

    /// On a board of 32 bits too; the file has holes, and takes no room.
    #[test]
    fn a_file_of_over_four_gib_is_looked_at_extended_and_cut() {
        for end in [(2 << 30) + 5, (4 << 30) + 5] {
            let file = file();
            file.write_all_at(&[1, 2, 3], end - 3).unwrap();
            file.set_len(end + 20_000).unwrap();
            let mut preallocation = Preallocation::of(8 << 20);
            preallocation.provide(&file, 5000).unwrap();
            let len = file.metadata().unwrap().len();
            assert!(len.is_multiple_of(LEN_UNIT) && len > end + 5000, "{len} after {end}");
            give_back(&file, PAGE_LEN).unwrap();
            let len = file.metadata().unwrap().len();
            assert!((end..end + 3 * ZEROS_WRITTEN).contains(&len), "{len} after {end}");
            let mut back = [0; 3];
            file.read_exact_at(&mut back, end - 3).unwrap();
            assert_eq!(back, [1, 2, 3]);
        }
    }

    #[test]
    fn zeros_are_counted_from_the_end() {
        let file = file();
        file.write_all_at(&[1], 20_000).unwrap();
        file.write_all_at(&vec![0; 40_000], 20_001).unwrap();
        assert_eq!(zeros_at_end(&file, 60_001).unwrap(), 40_000);
        assert_eq!(zeros_at_end(&file, 20_000).unwrap(), 20_000, "all of it");
    }
}
