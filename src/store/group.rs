//! A stored group: the records of one commit, as one zstd frame of JSON
//! lines behind a header that tells whether it came back whole.
//!
//! The frame goes out to a client as it stands here. It is cut over several
//! pieces; the first is the head, which begins (integers little-endian) with
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `NGF2` |
//! | 4 | codec, 1 = zstd |
//! | 5 | 0 |
//! | 6..8 | number of pieces |
//! | 8..12 | number of records |
//! | 12..16 | length of the frame |
//! | 16..20 | length of the lines, unpacked |
//! | 20..28 | newest `received`, ms since 1970; 0 = the clock was not set |
//! | 28..36 | number of the first record |
//! | 36..40 | crc32c of the frame |
//! | 40..44 | crc32c of bytes 0..40 |
//!
//! and each of the others with `+`, 0, and how many pieces are left from this
//! one on, in two bytes.

use std::ops::Range;

use bytes::Bytes;

use crate::record::Sequence;

/// Most records of a group.
pub(super) const MAX_GROUP_COUNT: u64 = 2048;
/// Bytes in front of the frame.
pub(super) const HEADER_LEN: usize = 44;
const MAGIC: &[u8; 4] = b"NGF2";
const CODEC_ZSTD: u8 = 1;
const TAIL: [u8; 2] = [b'+', 0];
const TAIL_HEADER_LEN: usize = 4;

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
    /// In how many pieces it is stored.
    pub pieces: u16,
    frame_crc: u32,
}

/// What a stored piece turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The first of a group.
    Head(GroupHeader),
    /// Another one; the next group's head is so many pieces on.
    Tail {
        /// At least 1.
        next_head: u16,
    },
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

    fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Damaged::Short)?;
        if !header.starts_with(MAGIC) || header[4] != CODEC_ZSTD {
            return Err(Damaged::Version);
        }
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if crc32c::crc32c(&header[..40]) != u32_at(40) {
            return Err(Damaged::Checksum);
        }
        let header = Self {
            pieces: u16::from_le_bytes([header[6], header[7]]),
            count: u32_at(8),
            frame_len: u32_at(12),
            lines_len: u32_at(16),
            newest_ms: u64_at(20),
            first: u64_at(28),
            frame_crc: u32_at(36),
        };
        if header.count == 0
            || u64::from(header.count) > MAX_GROUP_COUNT
            || header.pieces == 0
            || header.first.checked_add(u64::from(header.count)).is_none()
        {
            return Err(Damaged::Version);
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..4].copy_from_slice(MAGIC);
        out[4] = CODEC_ZSTD;
        out[6..8].copy_from_slice(&self.pieces.to_le_bytes());
        out[8..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..16].copy_from_slice(&self.frame_len.to_le_bytes());
        out[16..20].copy_from_slice(&self.lines_len.to_le_bytes());
        out[20..28].copy_from_slice(&self.newest_ms.to_le_bytes());
        out[28..36].copy_from_slice(&self.first.to_le_bytes());
        out[36..40].copy_from_slice(&self.frame_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..40]);
        out[40..].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// Reads what stands at the start of a stored piece.
pub(super) fn read_piece(bytes: &[u8]) -> Result<Piece, Damaged> {
    if let [b'+', 0, low, high, ..] = bytes {
        let next_head = u16::from_le_bytes([*low, *high]);
        return if next_head == 0 { Err(Damaged::Version) } else { Ok(Piece::Tail { next_head }) };
    }
    GroupHeader::decode(bytes).map(Piece::Head)
}

/// The headers of groups in raw bytes, wherever they stand.
pub(super) fn headers_in(bytes: &[u8]) -> impl Iterator<Item = GroupHeader> {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, found)| found == MAGIC);
    starts.filter_map(|(at, _)| GroupHeader::decode(&bytes[at..]).ok())
}

impl Group {
    /// The group in pieces of at most `piece_len` bytes.
    pub(super) fn to_pieces(&self, piece_len: usize) -> Vec<Vec<u8>> {
        let in_head = self.frame.len().min(piece_len - HEADER_LEN);
        let (head, tail) = self.frame.split_at(in_head);
        let mut pieces = Vec::with_capacity(usize::from(self.header.pieces));
        pieces.push([&self.header.encode(), head].concat());
        for (part, left) in
            tail.chunks(piece_len - TAIL_HEADER_LEN).zip((1..self.header.pieces).rev())
        {
            pieces.push([&TAIL[..], &left.to_le_bytes(), part].concat());
        }
        pieces
    }

    /// Puts a group together from its head and what brings its other pieces,
    /// by their place.
    ///
    /// # Errors
    /// The outer one is that of `piece`.
    pub(super) fn from_pieces<P: std::ops::Deref<Target = [u8]>, E>(
        header: GroupHeader,
        head: &[u8],
        mut piece: impl FnMut(u16) -> Result<Option<P>, E>,
    ) -> Result<Result<Self, Damaged>, E> {
        // A damaged length must not become an allocation of gigabytes.
        let most = usize::from(header.pieces) * head.len();
        let mut frame = Vec::with_capacity(most.min(header.frame_len as usize));
        frame.extend_from_slice(&head[HEADER_LEN..]);
        for place in 1..header.pieces {
            match piece(place)? {
                Some(tail)
                    if read_piece(&tail)
                        == Ok(Piece::Tail { next_head: header.pieces - place }) =>
                {
                    frame.extend_from_slice(&tail[TAIL_HEADER_LEN..]);
                }
                _ => return Ok(Err(Damaged::Short)),
            }
        }
        Ok(Self::verify(header, frame.into()))
    }

    /// Checks a frame against its header.
    fn verify(header: GroupHeader, frame: Bytes) -> Result<Self, Damaged> {
        if frame.len() != header.frame_len as usize {
            return Err(Damaged::Short);
        }
        if crc32c::crc32c(&frame) != header.frame_crc {
            return Err(Damaged::Checksum);
        }
        Ok(Self { header, frame })
    }

    /// Checksum of the frame, to be folded into its segment's.
    pub(super) fn crc(&self) -> u32 {
        self.header.frame_crc
    }

    /// The JSON lines, each with its LF.
    ///
    /// # Errors
    /// Where the frame does not unpack to what the header says.
    pub fn lines(&self) -> Result<Vec<u8>, Damaged> {
        let len = self.header.lines_len as usize;
        // Asked first: a wrong length must not become an allocation that no
        // board can make.
        let said = zstd::zstd_safe::get_frame_content_size(&self.frame);
        if !matches!(said, Ok(Some(said)) if said == u64::from(self.header.lines_len)) {
            return Err(Damaged::Frame);
        }
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
        self.cut_in_pieces(range, usize::MAX)
    }

    /// As [`Group::cut`], to be stored in pieces of that length again.
    pub(super) fn cut_in_pieces(
        self,
        range: &Range<Sequence>,
        piece_len: usize,
    ) -> Result<Option<Self>, Damaged> {
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
        let group = packer.pack(from, count, wanted, self.header.newest_ms, piece_len);
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
        piece_len: usize,
    ) -> std::io::Result<Group> {
        let frame = Bytes::from(self.zstd.compress(lines)?);
        let too_large = |_| std::io::Error::other("a group larger than 4 GiB");
        let in_tails = frame.len().saturating_sub(piece_len - HEADER_LEN);
        let header = GroupHeader {
            first,
            count,
            frame_len: u32::try_from(frame.len()).map_err(too_large)?,
            lines_len: u32::try_from(lines.len()).map_err(too_large)?,
            newest_ms,
            pieces: u16::try_from(1 + in_tails.div_ceil(piece_len - TAIL_HEADER_LEN))
                .map_err(too_large)?,
            frame_crc: crc32c::crc32c(&frame),
        };
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

    fn reassemble(pieces: &[Vec<u8>]) -> Result<Group, Damaged> {
        let Piece::Head(header) = read_piece(&pieces[0])? else { return Err(Damaged::Version) };
        let piece = |at: u16| Ok::<_, ()>(pieces.get(usize::from(at)).map(Vec::as_slice));
        Group::from_pieces(header, &pieces[0], piece).unwrap()
    }

    #[test]
    fn a_length_beyond_any_memory_is_damage_and_allocates_nothing() {
        let lines = lines(3, 10);
        let mut group = Packer::new(1).unwrap().pack(10, 3, &lines, 5, 6000).unwrap();
        for wrong in [0, 1, group.header.lines_len + 1, i32::MAX as u32 + 1, u32::MAX] {
            group.header.lines_len = wrong;
            let pieces = group.to_pieces(6000);
            assert_eq!(reassemble(&pieces).unwrap().lines(), Err(Damaged::Frame), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_group_in_pieces_comes_back(count in 1u32..200, piece_len in 64usize..300) {
            let lines = lines(count.into(), 10);
            let group = Packer::new(1).unwrap().pack(10, count, &lines, 5, piece_len).unwrap();
            let pieces = group.to_pieces(piece_len);
            prop_assert_eq!(pieces.len(), usize::from(group.header.pieces));
            prop_assert!(pieces.iter().all(|piece| piece.len() <= piece_len));
            for (at, piece) in (0..group.header.pieces).zip(&pieces).skip(1) {
                let next_head = group.header.pieces - at;
                prop_assert_eq!(read_piece(piece), Ok(Piece::Tail { next_head }));
            }
            let back = reassemble(&pieces).unwrap();
            prop_assert_eq!(&back, &group);
            prop_assert_eq!(back.lines().unwrap(), lines);
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..10_000, bit in 0u8..8, piece_len in 64usize..300) {
            let lines = lines(20, 10);
            let group = Packer::new(1).unwrap().pack(10, 20, &lines, 5, piece_len).unwrap();
            let mut pieces = group.to_pieces(piece_len);
            let piece = at % pieces.len();
            let at = at % pieces[piece].len();
            pieces[piece][at] ^= 1 << bit;
            prop_assert!(reassemble(&pieces).is_err());
        }

        #[test]
        fn a_header_is_found_wherever_it_stands(before in 0usize..100, first in 0u64..1 << 60) {
            let group = Packer::new(1).unwrap().pack(first, 3, &lines(3, 0), 5, 8192).unwrap();
            let mut bytes = b"NGF2".repeat(before);
            bytes.extend_from_slice(&group.to_pieces(8192)[0]);
            let found: Vec<_> = headers_in(&bytes).map(|header| header.first).collect();
            prop_assert_eq!(found, [first]);
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
