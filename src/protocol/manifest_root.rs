//! One hash over all files of a transfer, whatever their order: a sum of hashes (LtHash16 with BLAKE3, by Lewi, Kim,
//! Maykov and Weis, 2019). It needs no list, so its memory does not depend on the number of files.

use crate::protocol::path::RelPath;

/// Numbers of 16 bits in the sum. Fewer would let an attacker find other files with the same sum.
const NUMBERS: usize = 1024;
/// What the hash of one file begins with.
const OF_FILE: &[u8] = b"towline manifest file 1\n";
/// What the hash of the sum begins with.
const OF_SUM: &[u8] = b"towline manifest root 1\n";

/// The files of a transfer so far.
#[derive(Clone)]
pub struct ManifestRoot {
    sum: Box<[u16; NUMBERS]>,
    files: u64,
}

impl Default for ManifestRoot {
    fn default() -> Self {
        Self { sum: Box::new([0; NUMBERS]), files: 0 }
    }
}

impl ManifestRoot {
    /// Adds a file: its BLAKE3 root, and its path under the target.
    pub fn add(&mut self, root: &blake3::Hash, path: &RelPath) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(OF_FILE).update(root.as_bytes()).update(path.as_bytes());
        let mut bytes = [0; 2 * NUMBERS];
        hasher.finalize_xof().fill(&mut bytes);
        for (number, bytes) in self.sum.iter_mut().zip(bytes.as_chunks().0) {
            *number = number.wrapping_add(u16::from_le_bytes(*bytes));
        }
        self.files += 1;
    }

    /// How many files it has.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The hash.
    pub fn root(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(OF_SUM);
        self.sum.iter().for_each(|number| {
            hasher.update(&number.to_le_bytes());
        });
        hasher.finalize()
    }
}

impl std::fmt::Debug for ManifestRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManifestRoot({} of {} files)", self.root(), self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path and a content.
    type TestFile<'a> = (&'a [u8], &'a [u8]);

    fn root_of(files: &[TestFile<'_>]) -> String {
        let mut root = ManifestRoot::default();
        for (path, content) in files {
            root.add(&blake3::hash(content), &RelPath::new(path).unwrap());
        }
        assert_eq!(root.files(), files.len() as u64);
        root.root().to_hex().to_string()
    }

    #[test]
    fn the_order_does_not_count_and_everything_else_does() {
        let (a, b): (TestFile<'_>, TestFile<'_>) = ((b"a", b"1"), (b"d/b\xff", b"2"));
        let both = root_of(&[a, b]);
        assert_eq!(both, root_of(&[b, a]));
        let others: [&[TestFile<'_>]; 6] =
            [&[], &[a], &[b], &[a, a], &[(b"a", b"2"), (b"d/b\xff", b"1")], &[a, (b"d/b", b"2")]];
        for other in others {
            assert_ne!(root_of(other), both);
        }
    }
}
