//! A journal on the disk. It is open and locked while an attempt uses it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::journal::{
    Chunking, IDENTITY_BYTES_MAX, JournalIdentity, JournalState, SLOT_BYTES, SLOTS_AT, STATE_AT, STATE_BYTES,
    decode_slot, encode_slot, slot_at,
};
use super::sys::disk;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::hash::ChunkValue;

/// Chunks of a file that has a journal: 16 TiB in chunks of 1 MiB. A larger file with so small chunks starts over.
pub(super) const CHUNKS_MAX: u64 = 1 << 24;
/// Ranges of recorded chunks that are remembered. What is behind them is given up.
const RANGES_MAX: usize = 64 * 1024;
/// Slots that are read, or written, with one call.
const SLOTS_AT_ONCE: usize = 1024;

/// An open journal. Its file is locked by whoever opened it.
pub(super) struct Journal {
    file: Arc<File>,
    state: JournalState,
}

impl Journal {
    /// Whose journal `file` is, and the state of the last attempt; `None` if it is none, or not whole.
    pub(super) fn read(file: &File) -> io::Result<Option<(JournalIdentity, JournalState)>> {
        let mut bytes = vec![0; IDENTITY_BYTES_MAX];
        let read = read_at_most(file, &mut bytes, 0)?;
        let Some(identity) = JournalIdentity::decode(&bytes[..read]) else { return Ok(None) };
        let mut latest: Option<JournalState> = None;
        for at in STATE_AT {
            let mut copy = [0; STATE_BYTES];
            let read = read_at_most(file, &mut copy, at)?;
            let state = JournalState::decode(&copy[..read]);
            latest = latest.into_iter().chain(state).max_by_key(|state| state.sequence);
        }
        Ok(latest.map(|state| (identity, state)))
    }

    /// Goes on with the journal in `file`.
    pub(super) fn resume(file: File, state: JournalState) -> Self {
        Self { file: Arc::new(file), state }
    }

    /// Begins a journal in `file`, whatever it holds.
    pub(super) fn begin(file: File, identity: &JournalIdentity, state: JournalState) -> io::Result<Self> {
        disk::ftruncate(&file, 0)?;
        disk::write_all_at(&file, &identity.encode(), 0)?;
        let mut journal = Self { file: Arc::new(file), state: state.clone() };
        journal.set_state(state)?;
        Ok(journal)
    }

    pub(super) fn state(&self) -> &JournalState {
        &self.state
    }

    /// Writes another state over the older one of the two copies.
    pub(super) fn set_state(&mut self, state: JournalState) -> io::Result<()> {
        let state = JournalState { sequence: self.state.sequence + 1, ..state };
        let at = STATE_AT[usize::from(state.sequence % 2 == 1)];
        disk::write_all_at(&self.file, &state.encode(), at)?;
        self.state = state;
        Ok(())
    }

    /// The chunks that have a record, of a file that has `present` bytes on the disk. What is no record of one of
    /// them is removed, so that it never becomes one.
    pub(super) fn open_slots(&self, chunks: Chunking, present: u64) -> io::Result<ChunkSet> {
        let mut recorded = ChunkSet::default();
        let mut end = chunks.count();
        for_each_slot(&self.file, chunks, |index, slot| {
            if recorded.ranges().len() > RANGES_MAX {
                end = end.min(index);
            }
            let is_there = chunks.end_of(index) <= present && index < end;
            match decode_slot(index, chunks.len_of(index), slot).filter(|_| is_there) {
                Some(_) => recorded.insert(index..index + 1),
                None if index < end => self.clear(index)?,
                None => {}
            }
            Ok(())
        })?;
        self.cut(end)?;
        Ok(recorded)
    }

    /// The value in the record of a chunk.
    pub(super) fn value(&self, chunks: Chunking, index: u64) -> io::Result<Option<[u8; 32]>> {
        let mut slot = [0; SLOT_BYTES];
        read_at_most(&self.file, &mut slot, slot_at(index))?;
        Ok(decode_slot(index, chunks.len_of(index), &slot))
    }

    /// Takes the record of a chunk back.
    pub(super) fn clear(&self, index: u64) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        if slot_at(index) >= end {
            return Ok(());
        }
        disk::write_all_at(&self.file, &[0; SLOT_BYTES], slot_at(index))
    }

    /// Takes all records back. What is left is no journal.
    pub(super) fn revoke(&self) -> io::Result<()> {
        Ok(disk::ftruncate(&self.file, 0)?)
    }

    /// Records chunks, whose indexes ascend.
    pub(super) fn record(&self, chunks: Chunking, values: &[ChunkValue]) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for ChunkValue { index, value } in values {
            let is_next = slot_at(*index) == slot_at(start) + run.len() as u64;
            if !is_next || run.len() >= SLOTS_AT_ONCE * SLOT_BYTES {
                disk::write_all_at(&self.file, &run, slot_at(start))?;
                run.clear();
            }
            if run.is_empty() {
                start = *index;
            }
            run.extend_from_slice(&encode_slot(*index, chunks.len_of(*index), value));
        }
        disk::write_all_at(&self.file, &run, slot_at(start))
    }

    /// Its file, to sync it.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Removes the slots from `count` on.
    fn cut(&self, count: u64) -> io::Result<()> {
        if self.file.metadata()?.len() > slot_at(count) {
            disk::ftruncate(&self.file, slot_at(count))?;
        }
        Ok(())
    }
}

/// Bytes of the chunks that have a record in the journal `file`, of a file that has `present` bytes.
pub(super) fn recorded_bytes(file: &File, chunks: Chunking, present: u64) -> io::Result<u64> {
    let mut bytes = 0;
    for_each_slot(file, chunks, |index, slot| {
        let len = chunks.len_of(index);
        if chunks.end_of(index) <= present && decode_slot(index, len, slot).is_some() {
            bytes += len;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Passes on each slot that is not empty. One that the file ends in counts as if zeros followed.
fn for_each_slot(
    file: &File,
    chunks: Chunking,
    mut take: impl FnMut(u64, &[u8; SLOT_BYTES]) -> io::Result<()>,
) -> io::Result<()> {
    let len = file.metadata()?.len();
    let count = len.saturating_sub(SLOTS_AT).div_ceil(SLOT_BYTES as u64).min(chunks.count());
    let mut bytes = vec![0; SLOTS_AT_ONCE * SLOT_BYTES];
    for first in (0..count).step_by(SLOTS_AT_ONCE) {
        let read = read_at_most(file, &mut bytes, slot_at(first))?;
        bytes[read..].fill(0);
        for (index, slot) in (first..count).zip(bytes.as_chunks::<SLOT_BYTES>().0) {
            if slot.iter().any(|byte| *byte != 0) {
                take(index, slot)?;
            }
        }
    }
    Ok(())
}

/// Reads until `bytes` are full or the file ends.
fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::entry::Time;

    const CHUNKS: Chunking = Chunking { size: (5 << 20) - 7, log2: 20 };

    fn identity() -> JournalIdentity {
        JournalIdentity { sender: [1; 32], path: RelPath::new(b"d/file").unwrap(), chunk_log2: 20 }
    }

    fn state(size: u64) -> JournalState {
        let mtime = Time { seconds: 1, nanos: 2 };
        JournalState { sequence: 0, size, mtime, boot: [3; 16], mount: 4, inode: 5, is_synced: true }
    }

    fn values(indexes: impl IntoIterator<Item = u64>) -> Vec<ChunkValue> {
        let fill = |index| u8::try_from(index % 251 + 1).unwrap();
        indexes.into_iter().map(|index| ChunkValue { index, value: [fill(index); 32] }).collect()
    }

    fn begin(values: &[ChunkValue]) -> (Journal, File) {
        let file = tempfile::tempfile().unwrap();
        let again = file.try_clone().unwrap();
        let journal = Journal::begin(file, &identity(), state(CHUNKS.size)).unwrap();
        journal.record(CHUNKS, values).unwrap();
        (journal, again)
    }

    fn recorded(file: &File) -> Option<Vec<u64>> {
        let (_, state) = Journal::read(file).unwrap()?;
        let journal = Journal::resume(file.try_clone().unwrap(), state);
        let set = journal.open_slots(CHUNKS, CHUNKS.size).unwrap();
        let indexes = set.ranges().flatten();
        Some(indexes.inspect(|index| assert!(journal.value(CHUNKS, *index).unwrap().is_some())).collect())
    }

    #[test]
    fn records_are_found_again() {
        for indexes in [vec![], vec![0], vec![4], vec![0, 1, 2, 3, 4], vec![1, 3, 4]] {
            let (journal, file) = begin(&values(indexes.clone()));
            assert_eq!(recorded(&file), Some(indexes.clone()));
            assert_eq!(Journal::read(&file).unwrap().unwrap(), (identity(), journal.state().clone()));
            for ChunkValue { index, value } in values(indexes) {
                assert_eq!(journal.value(CHUNKS, index).unwrap(), Some(value));
                journal.clear(index).unwrap();
                assert_eq!(journal.value(CHUNKS, index).unwrap(), None);
            }
            assert_eq!(recorded(&file), Some(vec![]));
        }
    }

    #[test]
    fn a_journal_that_ends_at_any_byte_keeps_the_records_before() {
        let (_, whole) = begin(&values(0..5));
        let mut bytes = vec![0; usize::try_from(slot_at(5)).unwrap()];
        whole.read_exact_at(&mut bytes, 0).unwrap();
        let state_ends = usize::try_from(STATE_AT[1]).unwrap() + STATE_BYTES;
        for end in (0..200).chain(STATE_AT[1].try_into().unwrap()..bytes.len()) {
            let torn = tempfile::tempfile().unwrap();
            torn.write_all_at(&bytes[..end], 0).unwrap();
            let kept = end.saturating_sub(usize::try_from(SLOTS_AT).unwrap()) / SLOT_BYTES;
            let want = (end >= state_ends).then(|| (0..kept as u64).collect());
            assert_eq!(recorded(&torn), want, "cut at {end}");
        }
    }

    #[test]
    fn a_torn_state_leaves_the_one_before() {
        let (mut journal, file) = begin(&values([2]));
        for size in [CHUNKS.size, CHUNKS.size + 1, CHUNKS.size + 2] {
            let before = journal.state().clone();
            journal.set_state(state(size)).unwrap();
            let now = Journal::read(&file).unwrap().unwrap().1;
            assert_eq!((now.size, now.sequence), (size, before.sequence + 1));
            let at = STATE_AT[usize::from(now.sequence % 2 == 1)];
            let mut torn = file.try_clone().unwrap();
            torn.write_all_at(&[0xff; 9], at + 20).unwrap();
            assert_eq!(Journal::read(&torn).unwrap().unwrap().1, before);
            torn = file.try_clone().unwrap();
            torn.write_all_at(&now.encode(), at).unwrap();
        }
    }

    #[test]
    fn what_is_no_record_of_this_file_never_becomes_one() {
        let longer = Chunking { size: 9 << 20, log2: 20 };
        let (journal, file) = begin(&values(0..5));
        journal.record(longer, &values(5..9)).unwrap();
        // Chunk 1 got torn, and of chunk 3 not all is on the disk.
        file.write_all_at(&[0xee; 5], slot_at(1)).unwrap();
        let there = journal.open_slots(CHUNKS, CHUNKS.end_of(2)).unwrap();
        assert_eq!(there.ranges().flatten().collect::<Vec<_>>(), [0, 2]);
        for chunks in [CHUNKS, longer] {
            let set = journal.open_slots(chunks, chunks.size).unwrap();
            assert_eq!(set.ranges().flatten().collect::<Vec<_>>(), [0, 2]);
        }
    }

    #[test]
    fn a_terabyte_is_recorded_and_read_within_memory() {
        let chunks = Chunking { size: 1 << 40, log2: 20 };
        let (journal, file) = begin(&[]);
        let last = chunks.count() - 1;
        for first in (0..=last).step_by(4096) {
            journal.record(chunks, &values(first..(first + 4096).min(last + 1))).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), SLOTS_AT + (48 << 20));
        let all = journal.open_slots(chunks, chunks.size).unwrap();
        assert_eq!((all.len(), all.ranges().count()), (chunks.count(), 1));
        assert_eq!(journal.value(chunks, last).unwrap(), Some(values([last])[0].value));
    }
}
