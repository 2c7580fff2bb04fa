//! Finds the pieces of a new file in the old one, and makes the recipe of each chunk.

use std::collections::VecDeque;

use crate::protocol::delta::pieces::{PieceHasher, PieceIndex};
use crate::protocol::delta::recipe::{Recipe, RunSource};

/// Reads a new file once, from its start. A piece may reach over several chunks, so the recipe of a chunk is ready
/// when the piece over its end is.
#[derive(Debug)]
pub struct Matcher {
    /// `None` once all of the new file has been taken.
    index: Option<PieceIndex>,
    hasher: PieceHasher,
    size: u64,
    chunk_bytes: u64,
    /// Bytes taken, and bytes of them in recipes.
    taken: u64,
    matched: u64,
    /// Where the old file continues the last copy.
    next: u64,
    recipe: Recipe,
    ready: VecDeque<(u64, Recipe)>,
}

impl Matcher {
    /// Matches a file of `size` bytes, in chunks of `chunk_bytes`, with pieces of about 2^`piece_log2`.
    pub fn new(index: PieceIndex, piece_log2: u8, size: u64, chunk_bytes: u64) -> Self {
        Self {
            index: Some(index),
            hasher: PieceHasher::new(piece_log2),
            size,
            chunk_bytes,
            taken: 0,
            matched: 0,
            next: 0,
            recipe: Recipe::default(),
            ready: VecDeque::new(),
        }
    }

    /// How many bytes have been taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes of the new file.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut pieces = Vec::new();
        self.hasher.update(bytes, |piece| pieces.push(piece));
        self.taken += bytes.len() as u64;
        let is_end = self.taken >= self.size;
        if is_end {
            pieces.extend(self.hasher.finish());
        }
        for piece in pieces {
            let found = self.index.as_ref().and_then(|index| index.find(piece.hash, self.next));
            self.matched(piece.len, found);
        }
        if is_end {
            self.index = None;
        }
    }

    /// The next chunk whose recipe is ready, by its number.
    pub fn next_recipe(&mut self) -> Option<(u64, Recipe)> {
        self.ready.pop_front()
    }

    /// The next `len` bytes are a piece, which the old file has at `found`.
    fn matched(&mut self, mut len: u64, found: Option<u64>) {
        let mut source = found.map_or(RunSource::Sent, RunSource::Old);
        while len > 0 {
            let room = self.chunk_bytes - self.matched % self.chunk_bytes;
            let n = room.min(len);
            self.recipe.push(n, source);
            self.matched += n;
            len -= n;
            if let RunSource::Old(offset) = &mut source {
                *offset += n;
                self.next = *offset;
            }
            if n == room || self.matched == self.size {
                let chunk = (self.matched - 1) / self.chunk_bytes;
                self.ready.push_back((chunk, std::mem::take(&mut self.recipe)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::delta::pieces::{Signature, piece_log2};
    use crate::protocol::wire::limits::PIECES_MAX;

    const CHUNK_LOG2: u8 = 20;

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// A number below `max`.
    fn number(seed: u64, max: usize) -> usize {
        let bytes = *blake3::hash(&seed.to_le_bytes()).as_bytes();
        usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % max as u64).unwrap()
    }

    fn index(old: &[u8], piece_log2: u8) -> PieceIndex {
        let mut signature = Signature::new(old.len() as u64, piece_log2);
        let (mut hasher, mut pieces) = (PieceHasher::new(piece_log2), Vec::new());
        hasher.update(old, |piece| pieces.push(piece));
        pieces.extend(hasher.finish());
        signature.take(&pieces).unwrap();
        signature.complete().unwrap()
    }

    /// Matches `new` against `old` and follows the recipes. Returns the number of bytes that are sent.
    fn follow(old: &[u8], new: &[u8], portion: usize) -> u64 {
        let log2 = piece_log2(old.len() as u64, PIECES_MAX).unwrap();
        let mut matcher = Matcher::new(index(old, log2), log2, new.len() as u64, 1 << CHUNK_LOG2);
        let (mut made, mut sent) = (Vec::new(), 0);
        for bytes in new.chunks(portion) {
            matcher.update(bytes);
            while let Some((chunk, recipe)) = matcher.next_recipe() {
                assert_eq!(chunk << CHUNK_LOG2, made.len() as u64);
                sent += recipe.sent_bytes();
                for run in recipe.runs() {
                    let (at, len) = (made.len(), usize::try_from(run.len).unwrap());
                    match run.source {
                        RunSource::Sent => made.extend_from_slice(&new[at..at + len]),
                        RunSource::Hole => panic!("it knows no holes"),
                        RunSource::Old(from) => {
                            let from = usize::try_from(from).unwrap();
                            made.extend_from_slice(&old[from..from + len]);
                        }
                    }
                }
            }
        }
        assert!(made == new, "the recipes make another file");
        sent
    }

    #[test]
    fn recipes_make_the_new_file_whatever_was_done_to_the_old_one() {
        for seed in 0..12 {
            let old = random(seed, (5 << 20) + number(seed, 1 << 20));
            let mut new = old.clone();
            let mut changed = 0;
            for step in 0..4 {
                let draw = |n: u64, max| number(seed * 1000 + step * 10 + n, max);
                let (at, len) = (draw(0, new.len() - 300_000), draw(1, 100_000) + 1);
                match draw(2, 4) {
                    0 => new.splice(at..at, random(seed + 77, len)).for_each(drop),
                    1 => new.drain(at..at + len).for_each(drop),
                    2 => new[at..at + len].copy_from_slice(&random(seed + 78, len)),
                    _ => {
                        let moved: Vec<_> = new.drain(at..at + len).collect();
                        let to = draw(3, new.len());
                        new.splice(to..to, moved);
                    }
                }
                changed += len as u64;
            }
            let sent = follow(&old, &new, 262_144);
            assert_eq!(follow(&old, &new, 5000), sent, "seed {seed}");
            // Each of two places costs a few pieces of 10 KB.
            assert!(sent <= changed + 4 * 2 * 60_000, "seed {seed}: {sent} bytes for {changed} changed");
        }
    }

    #[test]
    fn a_file_that_did_not_change_costs_nothing() {
        let old = random(1, 3_500_000);
        assert_eq!(follow(&old, &old, 262_144), 0);
        assert_eq!(follow(&[7; 3_000_000], &[7; 4_000_000], 262_144) / 100_000, 0);
    }

    #[test]
    fn another_file_is_sent() {
        let (old, new) = (random(1, 1_500_000), random(2, 2_500_000));
        assert_eq!(follow(&old, &new, 262_144), 2_500_000);
    }

    /// Pieces of up to 256 KiB reach over the ends of chunks.
    #[test]
    fn a_piece_over_the_end_of_a_chunk_is_in_both_recipes() {
        let old = random(5, 4 << 20);
        let mut matcher = Matcher::new(index(&old, 16), 16, old.len() as u64, 1 << CHUNK_LOG2);
        matcher.update(&old[..1 << 20]);
        assert_eq!(matcher.next_recipe(), None, "the last piece has not ended");
        matcher.update(&old[1 << 20..]);
        for chunk in 0..4 {
            let (number, recipe) = matcher.next_recipe().unwrap();
            assert_eq!((number, recipe.runs().len()), (chunk, 1));
            assert_eq!(recipe.runs()[0].source, RunSource::Old(chunk << CHUNK_LOG2));
        }
    }
}
