//! What a journal says, as bytes. A journal lies beside a staged file of several chunks and tells the next attempt
//! which of them are safe.
//!
//! It has three parts: whose file it is, written once; the state of the attempt, in two copies that are written in
//! turn, so that one is whole whatever is torn; and one slot for each chunk. A slot has its place by the number of its
//! chunk, so that the journal never grows beyond one slot a chunk, a value is read without the others, and taking a
//! record back is one write. A slot that was torn, or that never got to the disk, counts as empty.

use bytes::{Buf, BufMut};

use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::Time;
use crate::protocol::wire::limits::{CHUNK_LOG2_MAX, FILE_BYTES_MAX, PATH_BYTES_MAX};

const MAGIC: &[u8; 8] = b"towlinej";
const VERSION: u32 = 1;
/// Bytes of a BLAKE3 hash that make a checksum.
const CHECK_BYTES: usize = 16;
const SLOT_CHECK_BYTES: usize = 12;
/// BLAKE3 has no chaining value for less than 1 KiB. The protocol has its own, higher minimum.
const CHUNK_LOG2_LEAST: u8 = 10;

/// Bytes that the identity takes at most. They are at the start.
pub(super) const IDENTITY_BYTES_MAX: usize = 8 * 1024;
/// Where the two copies of the state are: each in a block of its own.
pub(super) const STATE_AT: [u64; 2] = [8 * 1024, 12 * 1024];
/// Bytes of a state.
pub(super) const STATE_BYTES: usize = 8 + 8 + 8 + 4 + 16 + 8 + 8 + 1 + CHECK_BYTES;
/// Where the slots begin.
pub(super) const SLOTS_AT: u64 = 16 * 1024;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 32 + 4 + SLOT_CHECK_BYTES;

/// Whose file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalIdentity {
    /// Fingerprint of the sender.
    pub(super) sender: [u8; 32],
    /// The path of the file under the target.
    pub(super) path: RelPath,
    pub(super) chunk_log2: u8,
}

impl JournalIdentity {
    pub(super) fn encode(&self) -> Vec<u8> {
        let path = self.path.as_bytes();
        let mut bytes = Vec::with_capacity(64 + path.len());
        bytes.put_slice(MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u8(self.chunk_log2);
        bytes.put_slice(&self.sender);
        bytes.put_u16(u16::try_from(path.len()).unwrap_or(u16::MAX));
        bytes.put_slice(path);
        seal(&mut bytes);
        bytes
    }

    /// What is at the start of `bytes`, if that is the identity of a journal of this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        const FIXED_BYTES: usize = 8 + 4 + 1 + 32 + 2;
        let mut fixed = bytes.get(..FIXED_BYTES)?;
        let is_journal = fixed.copy_to_bytes(MAGIC.len()) == MAGIC[..] && fixed.get_u32() == VERSION;
        let chunk_log2 = fixed.get_u8();
        let mut sender = [0; 32];
        fixed.copy_to_slice(&mut sender);
        let path_bytes = usize::from(fixed.get_u16());
        let is_valid = is_journal
            && (CHUNK_LOG2_LEAST..=CHUNK_LOG2_MAX).contains(&chunk_log2)
            && path_bytes <= PATH_BYTES_MAX;
        let sealed = bytes.get(..FIXED_BYTES + path_bytes + CHECK_BYTES).filter(|_| is_valid)?;
        let path = RelPath::new(&unsealed(sealed)?[FIXED_BYTES..]).ok()?;
        Some(Self { sender, path, chunk_log2 })
    }
}

/// The state of the last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalState {
    /// Counts the states; the copy with the higher number is the latest.
    pub(super) sequence: u64,
    /// Size and time of the source, as they were announced.
    pub(super) size: u64,
    pub(super) mtime: Time,
    /// Since when this system runs.
    pub(super) boot: [u8; 16],
    /// The mount, by a number that no other mount gets before the next start of the system.
    pub(super) mount: u64,
    /// The staged file.
    pub(super) inode: u64,
    /// Each chunk was synced before its slot was written.
    pub(super) is_synced: bool,
}

impl JournalState {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        bytes.put_u64(self.sequence);
        bytes.put_u64(self.size);
        bytes.put_i64(self.mtime.seconds);
        bytes.put_u32(self.mtime.nanos);
        bytes.put_slice(&self.boot);
        bytes.put_u64(self.mount);
        bytes.put_u64(self.inode);
        bytes.put_u8(u8::from(self.is_synced));
        seal(&mut bytes);
        bytes
    }

    /// One copy; `None` if it is torn or was never written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = unsealed(bytes.get(..STATE_BYTES)?)?;
        let (sequence, size) = (bytes.get_u64(), bytes.get_u64());
        let mtime = Time { seconds: bytes.get_i64(), nanos: bytes.get_u32() };
        let mut boot = [0; 16];
        bytes.copy_to_slice(&mut boot);
        let (mount, inode) = (bytes.get_u64(), bytes.get_u64());
        let is_synced = bytes.get_u8() == 1;
        (size <= FILE_BYTES_MAX).then_some(Self { sequence, size, mtime, boot, mount, inode, is_synced })
    }
}

/// The chunks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunking {
    pub(super) size: u64,
    pub(super) log2: u8,
}

impl Chunking {
    /// Number of chunks.
    pub(super) fn count(self) -> u64 {
        self.size.div_ceil(1 << self.log2)
    }

    /// Bytes of chunk `index`; 0 behind the end.
    pub(super) fn len_of(self, index: u64) -> u64 {
        self.size.saturating_sub(index << self.log2).min(1 << self.log2)
    }

    /// Offset of chunk `index`.
    pub(super) fn start_of(self, index: u64) -> u64 {
        index << self.log2
    }

    /// Offset of the first byte behind chunk `index`.
    pub(super) fn end_of(self, index: u64) -> u64 {
        self.start_of(index) + self.len_of(index)
    }
}

/// Where the slot of a chunk is.
pub(super) fn slot_at(index: u64) -> u64 {
    SLOTS_AT + index * SLOT_BYTES as u64
}

/// The slot of chunk `index`, which has `len` bytes.
pub(super) fn encode_slot(index: u64, len: u64, value: &[u8; 32]) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let mut rest = &mut slot[..];
    rest.put_slice(value);
    rest.put_u32(u32::try_from(len).unwrap_or(0));
    let check = slot_check(index, &slot);
    slot[32 + 4..].copy_from_slice(&check);
    slot
}

/// The value in the slot of chunk `index`; `None` if it is empty, torn, or about another chunk or length.
pub(super) fn decode_slot(index: u64, len: u64, slot: &[u8; SLOT_BYTES]) -> Option<[u8; 32]> {
    let mut rest = &slot[..];
    let mut value = [0; 32];
    rest.copy_to_slice(&mut value);
    let is_this = u64::from(rest.get_u32()) == len && len > 0;
    (is_this && rest == slot_check(index, slot)).then_some(value)
}

fn slot_check(index: u64, slot: &[u8; SLOT_BYTES]) -> [u8; SLOT_CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_be_bytes());
    hasher.update(&slot[..32 + 4]);
    let mut check = [0; SLOT_CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..SLOT_CHECK_BYTES]);
    check
}

fn seal(bytes: &mut Vec<u8>) {
    let hash = blake3::hash(bytes);
    bytes.extend_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
}

fn unsealed(sealed: &[u8]) -> Option<&[u8]> {
    let (bytes, check) = sealed.split_at_checked(sealed.len().checked_sub(CHECK_BYTES)?)?;
    (blake3::hash(bytes).as_bytes()[..CHECK_BYTES] == *check).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(path: &[u8]) -> JournalIdentity {
        JournalIdentity { sender: [7; 32], path: RelPath::new(path).unwrap(), chunk_log2: 20 }
    }

    fn state() -> JournalState {
        JournalState {
            sequence: 3,
            size: 5 << 20,
            mtime: Time { seconds: -1, nanos: 999_999_999 },
            boot: [9; 16],
            mount: 1 << 40,
            inode: 12,
            is_synced: true,
        }
    }

    #[test]
    fn the_longest_path_fits() {
        let longest = [&[b'x'; 255][..]; 16].join(&b'/');
        for path in [&b"a"[..], b"\xff/ \n", &longest] {
            let bytes = identity(path).encode();
            assert!(bytes.len() <= IDENTITY_BYTES_MAX);
            let longer = [&bytes[..], &[1; 100]].concat();
            assert_eq!(JournalIdentity::decode(&longer), Some(identity(path)));
        }
        assert_eq!(state().encode().len(), STATE_BYTES);
        assert_eq!(JournalState::decode(&state().encode()), Some(state()));
    }

    #[test]
    fn what_is_torn_or_flipped_at_any_byte_does_not_count() {
        let (identity, state) = (identity(b"d/file").encode(), state().encode());
        let slot = encode_slot(4, 1 << 20, &[5; 32]);
        assert_eq!(decode_slot(4, 1 << 20, &slot), Some([5; 32]));
        for at in 0..identity.len() {
            let mut flipped = identity.clone();
            flipped[at] ^= 1;
            assert_eq!(JournalIdentity::decode(&flipped), None, "{at}");
            assert_eq!(JournalIdentity::decode(&identity[..at]), None, "{at}");
        }
        for at in 0..state.len() {
            let mut flipped = state.clone();
            flipped[at] ^= 1;
            assert_eq!(JournalState::decode(&flipped), None, "{at}");
            assert_eq!(JournalState::decode(&state[..at]), None, "{at}");
        }
        for at in 0..slot.len() {
            let mut flipped = slot;
            flipped[at] ^= 1;
            assert_eq!(decode_slot(4, 1 << 20, &flipped), None, "{at}");
            let mut torn = slot;
            torn[at..].fill(0);
            assert_eq!(decode_slot(4, 1 << 20, &torn), None, "{at}");
        }
    }

    #[test]
    fn a_slot_is_valid_for_its_chunk_and_length_alone() {
        let slot = encode_slot(4, 1 << 20, &[5; 32]);
        assert_eq!(decode_slot(5, 1 << 20, &slot), None);
        assert_eq!(decode_slot(4, 1 << 19, &slot), None);
        assert_eq!(decode_slot(0, 0, &[0; SLOT_BYTES]), None);
    }

    #[test]
    fn a_journal_of_the_largest_file_is_small() {
        let chunks = Chunking { size: 1 << 40, log2: 20 };
        assert_eq!(slot_at(chunks.count()), SLOTS_AT + (48 << 20));
        assert_eq!((chunks.len_of(0), chunks.len_of(1 << 20)), (1 << 20, 0));
    }
}
