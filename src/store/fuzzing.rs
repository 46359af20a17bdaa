//! The group codec under arbitrary bytes.

use super::group::{Damaged, Group, Packer, Piece, headers_in, read_piece};
use crate::record::Sequence;

const PIECE_LEN: usize = 64;

fn read(pieces: &[Vec<u8>]) -> Result<Group, Damaged> {
    let head = pieces.first().ok_or(Damaged::Short)?;
    let Piece::Head(header) = read_piece(head)? else { return Err(Damaged::Version) };
    let piece = |at: u16| Ok::<_, Damaged>(pieces.get(usize::from(at)).map(Vec::as_slice));
    Group::from_pieces(header, head, piece)?
}

/// Reads bytes as a stored group; then stores them as lines, damages one bit,
/// and reads them back.
pub fn group(data: &[u8]) {
    let Some((first, data)) = data.split_first_chunk() else { return };
    let first = Sequence::from_le_bytes(*first);
    let _ = headers_in(data).count();
    let cut: Vec<Vec<u8>> = data.chunks(PIECE_LEN).map(<[u8]>::to_vec).collect();
    if let Ok(group) = read(&cut) {
        let _ = group.lines();
        let _ = group.cut(&(first..first.saturating_add(1)));
    }
    let Some((flip, text)) = data.split_first_chunk::<4>() else { return };
    let flip = u32::from_le_bytes(*flip) as usize;
    let mut lines = text.to_vec();
    lines.push(b'\n');
    lines.truncate(8192);
    if lines.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    let count = lines.iter().filter(|byte| **byte == b'\n').count().min(2048);
    let kept = lines.split_inclusive(|byte| *byte == b'\n').take(count).map(<[u8]>::len).sum();
    lines.truncate(kept);
    let Ok(records) = u32::try_from(count) else { return };
    if first.checked_add(u64::from(records)).is_none() {
        return;
    }
    let mut packer = Packer::new(1).expect("zstd is there");
    let packed = packer.pack(first, records, &lines, 7, PIECE_LEN).expect("it is small");
    let pieces = packed.to_pieces(PIECE_LEN);
    assert_eq!(pieces.len(), usize::from(packed.header.pieces));
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE_LEN));
    let whole = read(&pieces).expect("it comes back whole");
    assert_eq!(whole, packed);
    assert_eq!(whole.lines().as_deref(), Ok(&lines[..]));
    let middle = first + u64::from(records / 2);
    let end = whole.header.end();
    let mut parts = Vec::new();
    for range in [first..middle, middle..end] {
        if let Some(part) = whole.clone().cut(&range).expect("it unpacks") {
            assert_eq!((part.header.first, part.header.end()), (range.start, range.end));
            parts.extend(part.lines().expect("it unpacks"));
        }
    }
    assert_eq!(parts, lines);
    let mut damaged = pieces;
    let piece = flip % damaged.len();
    let at = flip % (damaged[piece].len() * 8);
    damaged[piece][at / 8] ^= 1 << (at % 8);
    assert!(read(&damaged).is_err(), "bit {at} of piece {piece} was flipped, and nobody noticed");
}
