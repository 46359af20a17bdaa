//! A stored group: the records of one commit, as one zstd frame of JSON
//! lines behind a header that tells whether it came back whole.
//!
//! The frame goes out to a client as it stands here. Layout of a group's
//! bytes (integers little-endian), before it is cut over several keys:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | codec, 1 = zstd |
//! | 2..4 | number of chunks |
//! | 4..8 | number of records |
//! | 8..12 | length of the frame |
//! | 12..16 | length of the lines, unpacked |
//! | 16..24 | newest `received`, ms since 1970; 0 = the clock was not set |
//! | 24..28 | crc32c over the first sequence number, bytes 0..24 and the frame |
//! | 28.. | the frame |

use std::ops::Range;

use bytes::Bytes;

use crate::record::Sequence;

/// Most records of a group, and so the farthest that the first numbers of two
/// neighbouring groups are apart.
pub(super) const MAX_GROUP_COUNT: u64 = 2048;
/// Bytes in front of the frame.
pub(super) const HEADER_LEN: usize = 28;
const VERSION: u8 = 1;
const CODEC_ZSTD: u8 = 1;

/// What a group says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHeader {
    /// Number of its first record.
    pub first: Sequence,
    /// Number of records; never 0.
    pub count: u32,
    /// Bytes of the zstd frame.
    pub frame_len: u32,
    /// Bytes of the lines in it.
    pub lines_len: u32,
    /// Newest `received` in it, ms since 1970; 0 where the clock was not set.
    pub newest_ms: u64,
    /// Over how many keys it is cut.
    pub chunks: u16,
    crc: u32,
}

/// A group as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it says about itself.
    pub header: GroupHeader,
    /// A zstd frame of JSON lines.
    pub frame: Bytes,
}

/// A group that did not come back as it was written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Damaged {
    /// Shorter than its header says.
    #[error("the group is cut short")]
    Short,
    /// Written by another version, or not a group at all.
    #[error("not a group of a known version")]
    Version,
    /// The checksum does not match.
    #[error("the group's checksum does not match")]
    Checksum,
    /// The frame does not unpack to what the header says.
    #[error("the group does not unpack")]
    Frame,
}

impl GroupHeader {
    /// One past the number of its last record.
    #[must_use]
    pub fn end(&self) -> Sequence {
        self.first + Sequence::from(self.count)
    }

    /// Reads the header from the start of a group's bytes.
    pub(super) fn decode(first: Sequence, bytes: &[u8]) -> Result<Self, Damaged> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Damaged::Short)?;
        if header[0] != VERSION || header[1] != CODEC_ZSTD {
            return Err(Damaged::Version);
        }
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let header = Self {
            first,
            chunks: u16::from_le_bytes([header[2], header[3]]),
            count: u32_at(4),
            frame_len: u32_at(8),
            lines_len: u32_at(12),
            newest_ms: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            crc: u32_at(24),
        };
        if header.count == 0
            || u64::from(header.count) > MAX_GROUP_COUNT
            || header.chunks == 0
            || first.checked_add(u64::from(header.count)).is_none()
        {
            return Err(Damaged::Version);
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = VERSION;
        out[1] = CODEC_ZSTD;
        out[2..4].copy_from_slice(&self.chunks.to_le_bytes());
        out[4..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..12].copy_from_slice(&self.frame_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.lines_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.newest_ms.to_le_bytes());
        out[24..28].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    fn checksum(&self, frame: &[u8]) -> u32 {
        let sum = crc32c::crc32c(&self.first.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &self.encode()[..24]);
        crc32c::crc32c_append(sum, frame)
    }
}

impl Group {
    /// The group's bytes, cut into pieces of at most `chunk_len`.
    pub(super) fn to_chunks(&self, chunk_len: usize) -> Vec<Vec<u8>> {
        let head_room = chunk_len - HEADER_LEN;
        let (head, tail) = self.frame.split_at(self.frame.len().min(head_room));
        let mut first = Vec::with_capacity(HEADER_LEN + head.len());
        first.extend_from_slice(&self.header.encode());
        first.extend_from_slice(head);
        let mut chunks = vec![first];
        chunks.extend(tail.chunks(chunk_len).map(<[u8]>::to_vec));
        chunks
    }

    /// Checks a frame against its header.
    pub(super) fn verify(header: GroupHeader, frame: Bytes) -> Result<Self, Damaged> {
        if frame.len() != header.frame_len as usize {
            return Err(Damaged::Short);
        }
        if header.checksum(&frame) != header.crc {
            return Err(Damaged::Checksum);
        }
        Ok(Self { header, frame })
    }

    /// Checksum of the whole group, to be folded into its segment's.
    pub(super) fn crc(&self) -> u32 {
        self.header.crc
    }

    /// The JSON lines, each with its LF.
    ///
    /// # Errors
    /// Where the frame does not unpack to what the header says.
    pub fn lines(&self) -> Result<Vec<u8>, Damaged> {
        let len = self.header.lines_len as usize;
        let lines = zstd::bulk::decompress(&self.frame, len).map_err(|_| Damaged::Frame)?;
        if lines.len() != len {
            return Err(Damaged::Frame);
        }
        Ok(lines)
    }

    /// This group with only the records of `range` in it: itself where that
    /// is all of them, `None` where it is none.
    ///
    /// # Errors
    /// Where the frame does not unpack to what the header says.
    pub fn cut(self, range: &Range<Sequence>) -> Result<Option<Self>, Damaged> {
        let from = range.start.max(self.header.first);
        let until = range.end.min(self.header.end());
        if from >= until {
            return Ok(None);
        }
        if from == self.header.first && until == self.header.end() {
            return Ok(Some(self));
        }
        let lines = self.lines()?;
        let wanted = slice_lines(&lines, from - self.header.first, until - from);
        let count = u32::try_from(until - from).map_err(|_| Damaged::Frame)?;
        let mut packer = Packer::new(0).map_err(|_| Damaged::Frame)?;
        let group = packer.pack(from, count, wanted, self.header.newest_ms, usize::MAX);
        group.map(Some).map_err(|_| Damaged::Frame)
    }
    /// As many of its first records as fit into `max_bytes` of lines, but at
    /// least one.
    ///
    /// # Errors
    /// Where the frame does not unpack to what the header says.
    pub fn cut_to_bytes(self, max_bytes: usize) -> Result<Self, Damaged> {
        if self.header.lines_len as usize <= max_bytes || self.header.count == 1 {
            return Ok(self);
        }
        let lines = self.lines()?;
        let ends = lines.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let fitting = ends.take_while(|end| *end <= max_bytes).count().max(1);
        let first = self.header.first;
        self.cut(&(first..first + fitting as u64))?.ok_or(Damaged::Frame)
    }
}

/// `count` lines of `lines`, after the first `skip`.
fn slice_lines(lines: &[u8], skip: u64, count: u64) -> &[u8] {
    let mut ends = lines.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    let nth = |ends: &mut dyn Iterator<Item = usize>, n: u64| {
        usize::try_from(n).ok().and_then(|n| n.checked_sub(1)).and_then(|n| ends.nth(n))
    };
    let start = if skip == 0 { 0 } else { nth(&mut ends, skip).unwrap_or(lines.len()) };
    let end = nth(&mut ends, count).unwrap_or(lines.len());
    &lines[start..end]
}

/// Packs lines into groups; keeps the compressor's tables between them.
pub(super) struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Packer {
    /// A packer of the given zstd level; 0 is zstd's own default.
    pub(super) fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(level)? })
    }

    /// Packs `count` lines, the first of which has the number `first`.
    pub(super) fn pack(
        &mut self,
        first: Sequence,
        count: u32,
        lines: &[u8],
        newest_ms: u64,
        chunk_len: usize,
    ) -> std::io::Result<Group> {
        let frame = Bytes::from(self.zstd.compress(lines)?);
        let too_large = |_| std::io::Error::other("a group larger than 4 GiB");
        let chunks = (frame.len().saturating_add(HEADER_LEN)).div_ceil(chunk_len).max(1);
        let mut header = GroupHeader {
            first,
            count,
            frame_len: u32::try_from(frame.len()).map_err(too_large)?,
            lines_len: u32::try_from(lines.len()).map_err(too_large)?,
            newest_ms,
            chunks: u16::try_from(chunks).map_err(too_large)?,
            crc: 0,
        };
        header.crc = header.checksum(&frame);
        Ok(Group { header, frame })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(count: u64, first: u64) -> Vec<u8> {
        (first..first + count).flat_map(|n| format!("{{\"seq\":{n},x}}\n").into_bytes()).collect()
    }

    fn reassemble(first: Sequence, chunks: &[Vec<u8>]) -> Result<Group, Damaged> {
        let header = GroupHeader::decode(first, &chunks[0])?;
        let mut frame = chunks[0][HEADER_LEN..].to_vec();
        chunks[1..].iter().for_each(|chunk| frame.extend_from_slice(chunk));
        Group::verify(header, frame.into())
    }

    proptest! {
        #[test]
        fn a_group_cut_over_keys_comes_back(count in 1u32..200, chunk_len in 32usize..300) {
            let lines = lines(count.into(), 10);
            let group = Packer::new(1).unwrap().pack(10, count, &lines, 5, chunk_len).unwrap();
            let chunks = group.to_chunks(chunk_len);
            prop_assert_eq!(chunks.len(), usize::from(group.header.chunks));
            prop_assert!(chunks.iter().all(|c| c.len() <= chunk_len));
            let back = reassemble(10, &chunks).unwrap();
            prop_assert_eq!(&back, &group);
            prop_assert_eq!(back.lines().unwrap(), lines);
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..10_000, bit in 0u8..8) {
            let lines = lines(20, 10);
            let group = Packer::new(1).unwrap().pack(10, 20, &lines, 5, 8192).unwrap();
            let mut chunks = group.to_chunks(8192);
            let at = at % chunks[0].len();
            chunks[0][at] ^= 1 << bit;
            prop_assert!(reassemble(10, &chunks).is_err());
        }

        #[test]
        fn a_cut_group_holds_exactly_the_range(from in 0u64..40, len in 0u64..40) {
            let all = lines(20, 10);
            let group = Packer::new(1).unwrap().pack(10, 20, &all, 5, 8192).unwrap();
            let range = from..from + len;
            let expected: Vec<u64> = range.clone().filter(|n| (10..30).contains(n)).collect();
            match group.cut(&range).unwrap() {
                None => prop_assert!(expected.is_empty()),
                Some(part) => {
                    prop_assert_eq!(part.header.first, expected[0]);
                    let count = expected.len() as u64;
                    prop_assert_eq!(part.lines().unwrap(), lines(count, expected[0]));
                }
            }
        }
    }
}
