//! Chance that can be repeated.

use std::time::SystemTime;

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// `NGSI_FERRY_SEED`, or another one each time.
pub fn chosen() -> u64 {
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    setting("NGSI_FERRY_SEED").unwrap_or_else(now)
}

/// splitmix64.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for a task or a body, that does not depend on what is
    /// drawn from this one.
    pub fn of(&self, what: u64) -> Self {
        let mut other = Self(self.0 ^ what.wrapping_mul(0xd6e8_feb8_6659_fd93));
        other.next();
        other
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The body of the notification of that id, 50 B to 40 KB, text or not.
/// Nothing of it has to be remembered to check it byte for byte.
pub fn body(seed: &Seed, id: u64) -> Vec<u8> {
    let mut seed = seed.of(id);
    // As many of 50 to 100 B as of 20 to 40 KB.
    let octave = 50 << seed.below(10);
    let len = (octave + seed.below(octave)).min(40_000);
    let binary = seed.one_in(4);
    let mut body = format!("{id:016x}:").into_bytes();
    while (body.len() as u64) < len {
        let bytes = seed.next().to_le_bytes();
        if binary {
            body.extend(bytes);
        } else {
            body.extend(
                bytes.map(|byte| b" \"\\{}:,.0123456789abcdefghijklmnop"[usize::from(byte) % 34]),
            );
        }
    }
    body
}

/// The id that a body names.
pub fn id_of(body: &[u8]) -> Option<u64> {
    let hex = std::str::from_utf8(body.get(..16)?).ok()?;
    u64::from_str_radix(hex, 16).ok()
}
