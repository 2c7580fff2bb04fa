//! Cuts a file into pieces by its content, so that an inserted byte moves the cuts behind it along with the data.
//!
//! A gear hash rolls over the last 64 bytes. A piece ends where the hash is low. Both sides must cut alike, so
//! docs/protocol.md specifies this. The state is a few words, and bytes may come in any portions: a library that looks
//! at a whole piece at once would need up to 16 MiB for each file.

use std::sync::LazyLock;

use crate::protocol::wire::limits::{PIECE_LOG2_MAX, PIECE_LOG2_MIN};

/// Bytes that decide a cut.
const WINDOW: usize = 64;
/// What each byte adds to the hash.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut reader = blake3::Hasher::new_derive_key("towline 1 2026 gear table").finalize_xof();
    std::array::from_fn(|_| {
        let mut word = [0; 8];
        reader.fill(&mut word);
        u64::from_le_bytes(word)
    })
});

/// The most bytes that a piece can have, at an average of 2^`piece_log2`.
pub fn piece_bytes_max(piece_log2: u8) -> u64 {
    4 << piece_log2
}

/// Cuts one file, from its start.
#[derive(Debug)]
pub struct Cutter {
    gear: &'static [u64; 256],
    /// Where the piece may end, from which length on it may do so more easily, and where it must end.
    min: usize,
    average: usize,
    max: usize,
    /// Bytes of the piece so far, and their hash.
    len: usize,
    hash: u64,
}

impl Cutter {
    /// Cuts pieces of about 2^`piece_log2` bytes.
    pub fn new(piece_log2: u8) -> Self {
        let average = 1 << piece_log2.clamp(PIECE_LOG2_MIN, PIECE_LOG2_MAX);
        Self { gear: &GEAR, min: average / 4, average, max: average * 4, len: 0, hash: 0 }
    }

    /// Takes bytes of the piece from the front of `bytes`, which is not empty. Returns their number, and whether the
    /// piece ends with them.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        // The hash at the first possible end depends on a whole window before it.
        let mut at = (self.min - WINDOW).saturating_sub(self.len).min(bytes.len());
        let strict = u64::MAX / (2 * self.average as u64);
        for (end, limit) in [(self.min - 1, 0), (self.average - 1, strict), (self.max, 4 * strict)] {
            let stop = (at + end.saturating_sub(self.len + at)).min(bytes.len());
            while at < stop {
                self.hash = (self.hash << 1).wrapping_add(self.gear[usize::from(bytes[at])]);
                at += 1;
                if self.hash < limit {
                    return (at, self.end());
                }
            }
        }
        self.len += at;
        let is_full = self.len == self.max;
        (at, is_full && self.end())
    }

    fn end(&mut self) -> bool {
        (self.len, self.hash) = (0, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn ends(piece_log2: u8, bytes: &[u8], portion: usize) -> Vec<usize> {
        let (mut cutter, mut ends, mut at) = (Cutter::new(piece_log2), Vec::new(), 0);
        while at < bytes.len() {
            let (n, is_end) = cutter.take(&bytes[at..bytes.len().min(at + portion)]);
            at += n;
            ends.extend(is_end.then_some(at));
        }
        ends
    }

    /// [W-49]
    #[test]
    fn cuts_are_pinned() {
        assert_eq!(GEAR[0], 7_464_397_120_301_165_937);
        let bytes = random(0, 1 << 18);
        assert_eq!(ends(13, &bytes, 1 << 18)[..4], [8537, 18561, 34651, 43043]);
        assert_eq!(ends(13, &[0; 100_000], 100_000), [32768, 65536, 98304]);
    }

    #[test]
    fn cuts_do_not_depend_on_portions_and_stay_within_their_lengths() {
        let bytes = random(1, 8 << 20);
        let cuts = ends(13, &bytes, bytes.len());
        for portion in [1, 63, 4096, 262_144] {
            assert_eq!(ends(13, &bytes, portion), cuts, "{portion}");
        }
        let lengths: Vec<_> = cuts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(lengths.iter().all(|len| (2048..=32768).contains(len)), "{lengths:?}");
        let mean = bytes.len() / cuts.len();
        assert!((9_000..11_500).contains(&mean), "{mean}");
    }

    #[test]
    fn cuts_move_along_with_an_insertion() {
        let old = random(2, 4 << 20);
        let new = [&random(3, 10), &old[..]].concat();
        let (before, after) = (ends(13, &old, old.len()), ends(13, &new, new.len()));
        let moved = before.iter().filter(|end| after.contains(&(**end + 10))).count();
        assert!(moved + 8 >= before.len(), "{moved} of {}", before.len());
    }
}
