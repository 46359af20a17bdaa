//! What a gateway hands over for its replica: JSON lines with their numbers,
//! packed or not, and the numbers that carry no record. Checked before any of
//! it is stored: it must account for its whole range, once.

use std::io::{BufRead, BufReader, Read};

use super::committer::{MAX_GROUP_BYTES, MAX_GROUP_RECORDS};
use super::group::Packer;
use super::replication::Part;
use super::segment::PIECE_LEN;
use super::state::Hole;
use crate::record::{Sequence, stamp_of};

/// 32 MiB, twice what any frame of ours needs: memory that a header may ask for.
const WINDOW_LOG: u32 = 25;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It does not unpack.
    #[error("the body does not unpack: {0}")]
    Unpack(#[from] std::io::Error),
    /// It unpacks to more than is taken at a time. Send less.
    #[error("the body unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// A line is no record.
    #[error("line {0} of the body is not a record as GET …/records gives it")]
    Line(usize),
    /// Numbers are missing, out of their range, out of order, or told twice.
    #[error(
        "{what}: the body and its holes must account for each number of the range once, in order"
    )]
    Range {
        /// What is wrong.
        what: String,
    },
}

/// What a request says of its body.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// JSON lines, or zstd frames of them.
    pub body: &'a [u8],
    /// Whether they are packed.
    pub packed: bool,
    /// The first number accounted for.
    pub from: Sequence,
    /// One past the last of them.
    pub until: Sequence,
    /// Numbers without a record.
    pub holes: Vec<Hole>,
    /// Bytes that it may unpack to.
    pub max_bytes: u64,
    /// zstd's level for what is stored.
    pub level: i32,
}

impl Incoming<'_> {
    /// Reads it, into parts that follow each other. Takes the processor's time,
    /// and about 2 MiB of memory beside what it returns.
    ///
    /// # Errors
    /// What is wrong with it, for whoever sent it.
    pub fn parts(mut self) -> Result<Vec<Part>, Malformed> {
        self.holes.sort_unstable_by_key(|hole| hole.from);
        let holes = std::mem::take(&mut self.holes);
        let mut reading = Reading {
            at: self.from,
            until: self.until,
            holes: holes.into_iter().peekable(),
            gathered: Vec::new(),
            first: self.from,
            newest_ms: 0,
            packer: Packer::new(self.level)?,
            parts: Vec::new(),
        };
        if self.packed {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(self.body)?;
            decoder.window_log_max(WINDOW_LOG)?;
            let limited = decoder.take(self.max_bytes + 1);
            reading.read(BufReader::with_capacity(64 << 10, limited), self.max_bytes)?;
        } else {
            reading.read(self.body, self.max_bytes)?;
        }
        reading.finish()
    }
}

struct Reading {
    /// Everything below is accounted for.
    at: Sequence,
    until: Sequence,
    holes: std::iter::Peekable<std::vec::IntoIter<Hole>>,
    /// Lines of the group that is being gathered.
    gathered: Vec<u8>,
    first: Sequence,
    newest_ms: u64,
    packer: Packer,
    parts: Vec<Part>,
}

impl Reading {
    fn read(&mut self, mut lines: impl BufRead, max_bytes: u64) -> Result<(), Malformed> {
        let mut line = Vec::new();
        let mut bytes = 0;
        for number in 1.. {
            line.clear();
            let len = lines.read_until(b'\n', &mut line)?;
            if len == 0 {
                break;
            }
            bytes += len as u64;
            if bytes > max_bytes {
                return Err(Malformed::TooLarge(max_bytes));
            }
            let (seq, newest_ms) = stamp_of(&line).ok_or(Malformed::Line(number))?;
            self.skip_holes_upto(seq)?;
            if seq != self.at || seq >= self.until {
                return Err(wrong(format!("record {seq} where {} was due", self.at)));
            }
            if self.gathered.is_empty() {
                self.first = seq;
            }
            self.gathered.extend_from_slice(&line);
            self.newest_ms = self.newest_ms.max(newest_ms);
            self.at += 1;
            let records = usize::try_from(self.at - self.first).unwrap_or(usize::MAX);
            if records >= MAX_GROUP_RECORDS || self.gathered.len() >= MAX_GROUP_BYTES {
                self.pack()?;
            }
        }
        Ok(())
    }

    /// Takes over the holes that lie before a number.
    fn skip_holes_upto(&mut self, seq: Sequence) -> Result<(), Malformed> {
        while let Some(hole) = self.holes.next_if(|hole| hole.from < seq) {
            if hole.from != self.at || hole.until <= hole.from || hole.until > self.until {
                return Err(wrong(format!(
                    "a hole from {} to {} where {} was due",
                    hole.from, hole.until, self.at
                )));
            }
            self.pack()?;
            self.at = hole.until;
            self.parts.push(Part::Hole(hole));
        }
        Ok(())
    }

    fn pack(&mut self) -> Result<(), Malformed> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        // A group holds no more than MAX_GROUP_RECORDS.
        let count = u32::try_from(self.at - self.first).unwrap_or(u32::MAX);
        let packed =
            self.packer.pack(self.first, count, &self.gathered, self.newest_ms, PIECE_LEN)?;
        self.parts.push(Part::Group(packed));
        self.gathered.clear();
        self.newest_ms = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Part>, Malformed> {
        self.skip_holes_upto(self.until)?;
        self.pack()?;
        match self.holes.next() {
            Some(hole) => Err(wrong(format!("a hole from {} to {}", hole.from, hole.until))),
            None if self.at < self.until => Err(wrong(format!("nothing for {}", self.at))),
            None => Ok(self.parts),
        }
    }
}

fn wrong(what: String) -> Malformed {
    Malformed::Range { what }
}
