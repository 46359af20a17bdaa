//! Fewer bytes on the line. Where notifications come one at a time each is a
//! group of its own, and packs badly alone; many of them as one frame take a
//! third. The relay packs what it gets anew in any case.

use std::io;

use bytes::Bytes;
use zstd::stream::{read, write};

/// Frames that are larger on average hold enough to repeat itself.
const SMALL: usize = 16 << 10;
/// A higher one takes more memory than it saves bytes.
const LEVEL: i32 = 1;

/// The same lines in one frame, where that is shorter.
pub(super) async fn repacked(body: Bytes, frames: usize) -> Bytes {
    if frames < 2 || body.len() / frames > SMALL {
        return body;
    }
    let small = body.clone();
    match tokio::task::spawn_blocking(move || as_one(&small)).await {
        Ok(Ok(packed)) if packed.len() < body.len() => packed.into(),
        // Damage is the relay's to name: it knows what it was sent.
        _ => body,
    }
}

fn as_one(frames: &[u8]) -> io::Result<Vec<u8>> {
    let mut lines = read::Decoder::with_buffer(frames)?;
    let mut packer = write::Encoder::new(Vec::with_capacity(frames.len() / 2), LEVEL)?;
    io::copy(&mut lines, &mut packer)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32) -> String {
        format!(
            "{{\"seq\":{number},\"method\":\"POST\",\"path\":\"/notify\",\"body\":\"{{\\\"id\\\":{}}}\"}}\n",
            number.wrapping_mul(2_654_435_761)
        )
    }

    #[tokio::test]
    async fn many_small_frames_become_one_with_the_same_lines_in_a_third_of_the_bytes() {
        let lines: Vec<String> = (0..200).map(line).collect();
        let frames: Vec<u8> =
            lines.iter().flat_map(|line| zstd::encode_all(line.as_bytes(), 1).unwrap()).collect();
        let body = repacked(Bytes::from(frames.clone()), lines.len()).await;
        assert!(body.len() * 3 < frames.len(), "{} of {}", body.len(), frames.len());
        assert_eq!(zstd::decode_all(&body[..]).unwrap(), lines.concat().as_bytes());
    }

    #[tokio::test]
    async fn what_does_not_unpack_goes_as_it_is() {
        let mut frames = zstd::encode_all(&b"a line\n"[..], 1).unwrap();
        frames.extend_from_slice(b"no frame at all");
        let body = Bytes::from(frames);
        assert_eq!(repacked(body.clone(), 2).await, body);
    }

    #[tokio::test]
    async fn large_frames_are_left_alone() {
        let large = Bytes::from(vec![7; 3 * SMALL]);
        assert_eq!(repacked(large.clone(), 2).await, large);
    }
}
