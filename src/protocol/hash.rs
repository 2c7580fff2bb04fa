//! BLAKE3 in pieces: chaining values of chunks, and the root merged from them (BLAKE3 specification, section
//! 2.1; `blake3::hazmat`).

use std::collections::BTreeMap;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::protocol::wire::limits::CHUNKS_AHEAD_MAX;

/// The chaining value of one chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkValue {
    /// Which chunk.
    pub index: u64,
    /// Its chaining value.
    pub value: ChainingValue,
}

/// Hashes one record: a chunk of a larger file as a subtree, or a whole file as the root.
#[derive(Debug, Clone)]
pub struct RecordHasher {
    hasher: Hasher,
    is_root: bool,
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl RecordHasher {
    /// For a chunk at `offset` of a file whose size is not known yet; `finish` is told whether it is the whole file.
    pub fn open_ended(offset: u64) -> Self {
        Self::new(u64::MAX, offset, 0)
    }

    /// The bytes so far are the whole file.
    pub fn is_whole_file(&mut self) {
        self.is_root = true;
    }

    /// For the bytes of a file of `file_size` bytes from `offset`, which is a multiple of the chunk size, for `len`
    /// bytes: a whole chunk, or to the end of the file.
    pub fn new(file_size: u64, offset: u64, len: u64) -> Self {
        let mut hasher = Hasher::new();
        let is_root = offset == 0 && len == file_size;
        if offset != 0 {
            hasher.set_input_offset(offset);
        }
        Self { hasher, is_root }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The next `len` bytes are a hole.
    pub fn update_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let n = len.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..usize::try_from(n).unwrap_or(ZEROS.len())]);
            len -= n;
        }
    }

    /// The chaining value, or the root hash of a whole file.
    pub fn finish(&self) -> ChainingValue {
        if self.is_root { *self.hasher.finalize().as_bytes() } else { self.hasher.finalize_non_root() }
    }
}

/// Merges the chaining values of a file's chunks, in whatever order they come, into its root.
///
/// It holds one value a level of the tree, and those that came before their turn.
#[derive(Debug, Clone)]
pub struct RootBuilder {
    chunks: u64,
    merged: u64,
    stack: Vec<ChainingValue>,
    ahead: BTreeMap<u64, ChainingValue>,
}

/// Why a chaining value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The file has no such chunk.
    #[error("the file has no such chunk")]
    OutOfRange,
    /// It was given before.
    #[error("the chunk was given before")]
    Twice,
    /// More than [`CHUNKS_AHEAD_MAX`] before its turn.
    #[error("the chunk is too far ahead of the first missing one")]
    TooFarAhead,
}

impl RootBuilder {
    /// For a file of `chunks` chunks, at least one.
    pub fn new(chunks: u64) -> Self {
        Self { chunks: chunks.max(1), merged: 0, stack: Vec::new(), ahead: BTreeMap::new() }
    }

    /// For a file whose number of chunks is not known yet.
    pub fn open_ended() -> Self {
        Self::new(u64::MAX)
    }

    /// The file has `chunks` chunks, at least one. Fails when a chunk after the last one has been taken.
    pub fn end_at(&mut self, chunks: u64) -> Result<(), TreeError> {
        let chunks = chunks.max(1);
        let taken = self.ahead.last_key_value().map_or(self.merged, |(last, _)| last + 1);
        if taken > chunks || chunks > self.chunks {
            return Err(TreeError::OutOfRange);
        }
        self.chunks = chunks;
        Ok(())
    }

    /// The first chunk that has not been taken.
    pub fn first_missing(&self) -> u64 {
        self.merged
    }

    /// Whether chunk `index` could be taken now.
    pub fn admits(&self, index: u64) -> Result<(), TreeError> {
        if index >= self.chunks {
            return Err(TreeError::OutOfRange);
        }
        if index < self.merged || self.ahead.contains_key(&index) {
            return Err(TreeError::Twice);
        }
        if index - self.merged > CHUNKS_AHEAD_MAX as u64 {
            return Err(TreeError::TooFarAhead);
        }
        Ok(())
    }

    /// Takes the value of chunk `index`. A file of one chunk takes its root hash.
    pub fn insert(&mut self, index: u64, value: ChainingValue) -> Result<(), TreeError> {
        self.admits(index)?;
        self.ahead.insert(index, value);
        while let Some(value) = self.ahead.remove(&self.merged) {
            self.push(value);
        }
        Ok(())
    }

    fn push(&mut self, value: ChainingValue) {
        // Subtrees of equal size are merged only when something follows them, so that the last merge, which
        // makes the root, is left to `root`.
        while self.stack.len() > self.merged.count_ones() as usize {
            let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) else { break };
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.stack.push(value);
        self.merged += 1;
    }

    /// All chunks are there.
    pub fn is_complete(&self) -> bool {
        self.merged == self.chunks
    }

    /// The root, once complete.
    pub fn root(&self) -> Option<blake3::Hash> {
        if !self.is_complete() {
            return None;
        }
        let mut values = self.stack.iter().rev();
        let mut right = *values.next()?;
        let mut left = values.next();
        let Some(mut first) = left.take() else { return Some(blake3::Hash::from_bytes(right)) };
        for next in values {
            right = merge_subtrees_non_root(first, &right, Mode::Hash);
            first = next;
        }
        Some(merge_subtrees_root(first, &right, Mode::Hash))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: u64 = 4096;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn root_in_order(data: &[u8], order: &[u64]) -> blake3::Hash {
        let size = data.len() as u64;
        let mut builder = RootBuilder::new(size.div_ceil(CHUNK));
        for &index in order {
            let (start, end) = (index * CHUNK, ((index + 1) * CHUNK).min(size));
            let mut hasher = RecordHasher::new(size, start, end - start);
            let at = |offset| usize::try_from(offset).unwrap();
            hasher.update(&data[at(start)..at(end)]);
            builder.insert(index, hasher.finish()).unwrap();
        }
        builder.root().unwrap()
    }

    #[test]
    fn the_root_is_that_of_the_whole_for_every_number_of_chunks() {
        for size in (0..=20).flat_map(|n| [n * CHUNK + 1, (n + 1) * CHUNK - 1, (n + 1) * CHUNK]).chain([0]) {
            let data = bytes(size);
            let order: Vec<u64> = (0..size.div_ceil(CHUNK).max(1)).collect();
            assert_eq!(root_in_order(&data, &order), blake3::hash(&data), "{size} bytes");
        }
    }

    #[test]
    fn holes_hash_as_zeros() {
        let mut hasher = RecordHasher::new(300_000, 0, 300_000);
        hasher.update_zeros(300_000);
        assert_eq!(&hasher.finish(), blake3::hash(&vec![0; 300_000]).as_bytes());
    }

    #[test]
    fn foreign_chunks_are_refused() {
        let mut builder = RootBuilder::new(CHUNKS_AHEAD_MAX as u64 * 2);
        builder.insert(0, [0; 32]).unwrap();
        assert_eq!(builder.insert(0, [0; 32]), Err(TreeError::Twice));
        builder.insert(2, [0; 32]).unwrap();
        assert_eq!(builder.insert(2, [0; 32]), Err(TreeError::Twice));
        assert_eq!(builder.insert(u64::MAX, [0; 32]), Err(TreeError::OutOfRange));
        assert_eq!(builder.insert(CHUNKS_AHEAD_MAX as u64 + 2, [0; 32]), Err(TreeError::TooFarAhead));
        assert_eq!(builder.root(), None);
    }

    #[test]
    fn an_open_end_makes_the_same_root() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1] {
            let data = bytes(size);
            let chunks = size.div_ceil(CHUNK).max(1);
            let mut builder = RootBuilder::open_ended();
            for index in 0..chunks {
                assert_eq!(builder.root(), None);
                let (start, end) = (index * CHUNK, ((index + 1) * CHUNK).min(size));
                let mut hasher = RecordHasher::open_ended(start);
                hasher.update(&data[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]);
                if chunks == 1 {
                    hasher.is_whole_file();
                }
                builder.insert(index, hasher.finish()).unwrap();
            }
            assert_eq!(builder.end_at(chunks - 1).is_err(), chunks > 1, "a chunk lies behind that end");
            builder.end_at(chunks).unwrap();
            assert_eq!(builder.root(), Some(blake3::hash(&data)), "{size} bytes");
            assert_eq!(builder.admits(chunks), Err(TreeError::OutOfRange));
        }
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_root(size in 1u64..40 * CHUNK, seed in any::<u64>()) {
            let data = bytes(size);
            let mut order: Vec<u64> = (0..size.div_ceil(CHUNK)).collect();
            let mut state = seed | 1;
            for i in (1..order.len()).rev() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                order.swap(i, usize::try_from(state % (i as u64 + 1)).unwrap());
            }
            prop_assert_eq!(root_in_order(&data, &order), blake3::hash(&data));
        }
    }
}
