//! The pieces of an old file: its receiver's signature, and the sender's index of it.

use crate::protocol::delta::cutter::{Cutter, piece_bytes_max};
use crate::protocol::failure::Failure;
use crate::protocol::wire::limits::{PIECE_LOG2_MAX, PIECE_LOG2_MIN, PIECES_MAX};

/// The first 16 bytes of the BLAKE3 hash of a piece. A match only makes a recipe: the chaining value of the chunk
/// decides.
pub type PieceHash = [u8; 16];

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes, at least 1.
    pub len: u64,
    /// Its hash.
    pub hash: PieceHash,
}

/// How far a signature has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureState {
    /// More pieces follow.
    More,
    /// These are the last ones.
    Complete,
    /// The old file could not be read, or is not what it was.
    GivenUp,
}

/// The average size of pieces for an old file of `old_bytes`, as a power of two, when at most `pieces_max` of them fit
/// memory. `None` if the file would have too many.
pub fn piece_log2(old_bytes: u64, pieces_max: usize) -> Option<u8> {
    let max = pieces_max.min(PIECES_MAX) as u64;
    (PIECE_LOG2_MIN..=PIECE_LOG2_MAX).find(|log2| pieces_of(old_bytes, *log2) as u64 <= max)
}

/// Pieces of an old file of `old_bytes` to expect at most, cut at an average of 2^`piece_log2`.
pub fn pieces_of(old_bytes: u64, piece_log2: u8) -> usize {
    usize::try_from(old_bytes.div_ceil(1 << piece_log2)).unwrap_or(usize::MAX)
}

/// Cuts and hashes a file that comes in portions.
#[derive(Debug)]
pub struct PieceHasher {
    cutter: Cutter,
    hasher: blake3::Hasher,
    len: u64,
}

impl PieceHasher {
    /// Cuts pieces of about 2^`piece_log2` bytes.
    pub fn new(piece_log2: u8) -> Self {
        Self { cutter: Cutter::new(piece_log2), hasher: blake3::Hasher::new(), len: 0 }
    }

    /// Takes the next bytes, and calls `ended` with each piece that ends in them.
    pub fn update(&mut self, mut bytes: &[u8], mut ended: impl FnMut(Piece)) {
        while !bytes.is_empty() {
            let (n, is_end) = self.cutter.take(bytes);
            self.hasher.update(&bytes[..n]);
            self.len += n as u64;
            bytes = &bytes[n..];
            if is_end {
                ended(self.piece());
            }
        }
    }

    /// The last piece, at the end of the file.
    pub fn finish(&mut self) -> Option<Piece> {
        (self.len > 0).then(|| self.piece())
    }

    fn piece(&mut self) -> Piece {
        let root = self.hasher.finalize();
        let mut hash = PieceHash::default();
        hash.copy_from_slice(&root.as_bytes()[..16]);
        self.hasher.reset();
        Piece { len: std::mem::take(&mut self.len), hash }
    }
}

/// Where the pieces of an old file are. 24 bytes for each.
#[derive(Debug, Default)]
pub struct PieceIndex(Vec<(PieceHash, u64)>);

impl PieceIndex {
    /// Where the old file has a piece: at `next` if it is there too, so that copies continue.
    pub fn find(&self, hash: PieceHash, next: u64) -> Option<u64> {
        if self.0.binary_search(&(hash, next)).is_ok() {
            return Some(next);
        }
        let first = self.0.partition_point(|piece| *piece < (hash, 0));
        self.0.get(first).filter(|piece| piece.0 == hash).map(|piece| piece.1)
    }
}

/// A signature as it arrives.
#[derive(Debug)]
pub struct Signature {
    piece_bytes_max: u64,
    old_bytes: u64,
    end: u64,
    pieces: Vec<(PieceHash, u64)>,
}

impl Signature {
    /// The signature of an old file of `old_bytes`, cut at an average of 2^`piece_log2`.
    pub fn new(old_bytes: u64, piece_log2: u8) -> Self {
        Self { piece_bytes_max: piece_bytes_max(piece_log2), old_bytes, end: 0, pieces: Vec::new() }
    }

    /// Takes the next pieces.
    ///
    /// # Errors
    ///
    /// The pieces are not those of such a file.
    pub fn take(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        if self.pieces.len() + pieces.len() > PIECES_MAX {
            return Err(Failure::protocol("a signature has too many pieces"));
        }
        for Piece { len, hash } in pieces {
            if *len > self.piece_bytes_max || *len > self.old_bytes - self.end {
                return Err(Failure::protocol("a piece of a signature is too long"));
            }
            self.pieces.push((*hash, self.end));
            self.end += len;
        }
        Ok(())
    }

    /// The index of the complete signature.
    ///
    /// # Errors
    ///
    /// The pieces do not add up to the old file, although there could be more of them.
    pub fn complete(self) -> Result<PieceIndex, Failure> {
        let Self { old_bytes, end, mut pieces, .. } = self;
        if end != old_bytes && pieces.len() < PIECES_MAX {
            return Err(Failure::protocol(format!("a signature has {end} bytes, and the file {old_bytes}")));
        }
        pieces.shrink_to_fit();
        pieces.sort_unstable();
        Ok(PieceIndex(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(n: u8, len: u64) -> Piece {
        Piece { len, hash: [n; 16] }
    }

    #[test]
    fn pieces_grow_with_the_file_and_with_little_memory() {
        let log2 = |bytes, max| piece_log2(bytes, max);
        assert_eq!(log2(2 << 20, PIECES_MAX), Some(13));
        assert_eq!(log2(4 << 30, PIECES_MAX), Some(16));
        assert_eq!(log2(256 << 30, usize::MAX), Some(22));
        assert_eq!(log2((256 << 30) + 1, PIECES_MAX), None);
        assert_eq!(log2(256 << 20, 4096), Some(16));
    }

    #[test]
    fn a_piece_is_found_where_a_copy_continues() {
        let mut signature = Signature::new(50, 13);
        signature.take(&[piece(1, 10), piece(2, 10), piece(1, 10), piece(3, 20)]).unwrap();
        let index = signature.complete().unwrap();
        assert_eq!(index.find([1; 16], 0), Some(0));
        assert_eq!(index.find([1; 16], 20), Some(20));
        assert_eq!(index.find([1; 16], 7), Some(0));
        assert_eq!(index.find([3; 16], 0), Some(30));
        assert_eq!(index.find([4; 16], 0), None);
    }

    /// [S-8]
    #[test]
    fn attack_34_signatures_that_are_none() {
        let signature = || Signature::new(50_000, 13);
        assert!(signature().take(&[piece(1, 32_769)]).is_err());
        assert!(signature().take(&[piece(1, 32_000), piece(1, 18_001)]).is_err());
        let mut short = signature();
        short.take(&[piece(1, 32_000), piece(1, 17_999)]).unwrap();
        assert!(short.complete().is_err());
        let mut many = Signature::new(1 << 20, 13);
        assert!(many.take(&vec![piece(1, 1); PIECES_MAX]).is_ok());
        assert!(many.take(&[piece(1, 1)]).is_err());
        assert!(many.complete().is_ok(), "a file of very short pieces is signed in part");
    }
}
