//! The names that a sender has announced, in little memory.

use crate::protocol::path::RelPath;

/// Hashes in one piece, so that the memory grows in steps and is never copied.
const PIECE_NAMES: usize = 64 * 1024;

/// Hashes of announced paths. Two paths with the same hash are taken for the same, so a name that was not announced may
/// count as announced, never the other way round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Announced {
    key: [u8; 32],
    names_max: usize,
    pieces: Vec<Vec<u64>>,
    is_incomplete: bool,
}

impl Announced {
    /// None yet, and at most `names_max`. The hashes depend on `key`.
    pub fn new(key: [u8; 32], names_max: usize) -> Self {
        Self { key, names_max, ..Self::default() }
    }

    /// Adds a path; a directory counts as two.
    pub fn add(&mut self, path: &RelPath, is_dir: bool) {
        self.push(self.hash(path, false));
        if is_dir {
            self.push(self.hash(path, true));
        }
    }

    fn push(&mut self, hash: u64) {
        if self.len() >= self.names_max {
            self.is_incomplete = true;
            return;
        }
        match self.pieces.last_mut().filter(|piece| piece.len() < PIECE_NAMES) {
            Some(piece) => piece.push(hash),
            None => self.pieces.push(vec![hash]),
        }
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// Whether there were more than it holds.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// All have been added; they can be looked up from now on.
    pub fn sorted(mut self) -> Self {
        self.pieces.iter_mut().for_each(|piece| piece.sort_unstable());
        self
    }

    /// Whether the path was announced.
    pub fn has(&self, path: &RelPath) -> bool {
        self.has_hash(self.hash(path, false))
    }

    /// Whether the path was announced as a directory.
    pub fn has_dir(&self, path: &RelPath) -> bool {
        self.has_hash(self.hash(path, true))
    }

    fn has_hash(&self, hash: u64) -> bool {
        self.pieces.iter().any(|piece| piece.binary_search(&hash).is_ok())
    }

    fn hash(&self, path: &RelPath, is_dir: bool) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(path.as_bytes());
        // No path ends with it.
        hasher.update(if is_dir { b"/" } else { b"" });
        let mut hash = [0; 8];
        hasher.finalize_xof().fill(&mut hash);
        u64::from_le_bytes(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> RelPath {
        RelPath::new(format!("d{}/f{number}", number % 7).as_bytes()).unwrap()
    }

    #[test]
    fn what_was_announced_is_found_and_nothing_else() {
        let count = PIECE_NAMES + 10;
        let mut announced = Announced::new([7; 32], count + 1);
        (0..count).for_each(|number| announced.add(&path(number), false));
        assert!(!announced.is_incomplete());
        let announced = announced.sorted();
        assert!((0..count).all(|number| announced.has(&path(number)) && !announced.has_dir(&path(number))));
        assert!(!(count..count + 1000).any(|number| announced.has(&path(number))));
    }

    #[test]
    fn a_directory_counts_as_one_and_more_than_fit_are_noticed() {
        let mut announced = Announced::new([7; 32], 3);
        announced.add(&path(1), true);
        announced.add(&path(2), false);
        assert!(!announced.is_incomplete());
        announced.add(&path(3), false);
        assert!(announced.is_incomplete());
        let announced = announced.sorted();
        assert!(announced.has(&path(1)) && announced.has_dir(&path(1)) && !announced.has(&path(3)));
    }
}
