//! The group codec under arbitrary bytes.

use bytes::Bytes;

use super::group::{Group, GroupHeader, HEADER_LEN, Packer};
use crate::record::Sequence;

const CHUNK_LEN: usize = 64;

/// Reads bytes as a stored group; then stores them as lines, damages one bit,
/// and reads them back.
pub fn group(data: &[u8]) {
    let Some((first, data)) = data.split_first_chunk() else { return };
    let first = Sequence::from_le_bytes(*first);
    if let Ok(header) = GroupHeader::decode(first, data)
        && let Ok(group) = Group::verify(header, Bytes::copy_from_slice(&data[HEADER_LEN..]))
    {
        let _ = group.lines();
        let _ = group.cut(&(first..first + 1));
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
    let packed = packer.pack(first, records, &lines, 7, CHUNK_LEN).expect("it is small");
    let chunks = packed.to_chunks(CHUNK_LEN);
    assert_eq!(chunks.len(), usize::from(packed.header.chunks));
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_LEN));
    let stored = chunks.concat();
    let read = |stored: &[u8]| {
        let header = GroupHeader::decode(first, stored)?;
        Group::verify(header, Bytes::copy_from_slice(&stored[HEADER_LEN..]))
    };
    let whole = read(&stored).expect("it comes back whole");
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
    let mut damaged = stored;
    let at = flip % (damaged.len() * 8);
    damaged[at / 8] ^= 1 << (at % 8);
    assert!(read(&damaged).is_err(), "bit {at} was flipped, and nobody noticed");
}
