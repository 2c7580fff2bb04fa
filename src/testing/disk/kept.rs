//! Staged files in memory that outlive their transfer.

use std::collections::BTreeMap;

use super::Node;
use super::contents::{Disk, Kept, KeptKey};
use super::target::{MemoryTarget, Own};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::hash::{ChunkValue, RecordHasher};
use crate::protocol::wire::entry::{Entry, EntryId};

impl MemoryTarget {
    pub(super) fn take_held(&self, id: EntryId, entry: &Entry, chunk_log2: u8) -> ChunkSet {
        let (mut own, mut disk) = (self.own(), self.disk());
        let key = (entry.path.as_bytes().to_vec(), entry.size(), chunk_log2);
        disk.rename_kept(&key);
        let mut held = ChunkSet::default();
        if let Some(kept) = disk.kept.get_mut(&key) {
            if kept.is_taken {
                return held;
            }
            kept.is_taken = true;
            kept.values.keys().for_each(|index| held.insert(*index..*index + 1));
            let inode = kept.inode;
            own.staged.insert(id, inode);
            if let Node::File(bytes) = &mut disk.inodes[inode].node {
                clear_all_but(&held, bytes, chunk_log2);
            }
        }
        own.resumable.insert(id, key);
        held
    }

    /// Whether the bytes on the disk have this value.
    pub(super) fn has_value(&self, id: EntryId, chunk: ChunkValue) -> bool {
        let (own, disk) = (self.own(), self.disk());
        let Some(key) = own.resumable.get(&id) else { return false };
        let Some(kept) = disk.kept.get(key) else { return false };
        kept.values.contains_key(&chunk.index) && value_on_disk(&disk, kept, key, chunk.index) == chunk.value
    }

    /// Another program changes a byte of a chunk that an earlier transfer left of the file `path`.
    pub(crate) fn corrupt_held(&self, path: &str, index: u64) {
        let mut disk = self.disk();
        let kept = disk.kept.iter().find(|((name, ..), _)| name == path.as_bytes());
        let (inode, offset) = kept.map(|((.., log2), kept)| (kept.inode, index << log2)).unwrap();
        let Node::File(bytes) = &mut disk.inodes[inode].node else { panic!("{path} is not a file") };
        bytes[usize::try_from(offset).unwrap()] ^= 1;
    }

    /// Chunks that are recorded, by path.
    pub(crate) fn kept(&self) -> BTreeMap<String, ChunkSet> {
        let disk = self.disk();
        let set = |kept: &Kept| {
            let mut set = ChunkSet::default();
            kept.values.keys().for_each(|index| set.insert(*index..*index + 1));
            set
        };
        disk.kept
            .iter()
            .map(|((path, ..), kept)| (String::from_utf8_lossy(path).into_owned(), set(kept)))
            .collect()
    }
}

impl Own {
    /// Records chunks that are written, and synced if this transfer syncs.
    pub(super) fn record(&mut self, disk: &mut Disk, id: EntryId, chunks: Vec<ChunkValue>) {
        let Some(key) = self.resumable.get(&id).cloned().filter(|_| !chunks.is_empty()) else { return };
        let inode = self.staged_file(disk, id);
        let new = || Kept { inode, values: BTreeMap::new(), is_taken: true };
        let kept = disk.kept.entry(key).or_insert_with(new);
        if kept.inode == inode {
            kept.values.extend(chunks.into_iter().map(|chunk| (chunk.index, chunk.value)));
        }
    }

    /// An entry has its name or is dropped, so nothing can be resumed.
    pub(super) fn forget(&mut self, disk: &mut Disk, id: EntryId, inode: Option<usize>) {
        if let Some(key) = self.resumable.remove(&id)
            && disk.kept.get(&key).is_some_and(|kept| Some(kept.inode) == inode)
        {
            disk.kept.remove(&key);
        }
    }

    /// The transfer has ended; what is left belongs to the next one.
    pub(super) fn leave(&mut self, disk: &mut Disk) {
        let all: Vec<_> = self.resumable.keys().copied().collect();
        all.into_iter().for_each(|id| self.leave_one(disk, id));
    }

    /// What is left of an entry belongs to the next transfer.
    pub(super) fn leave_one(&mut self, disk: &mut Disk, id: EntryId) {
        if let Some(key) = self.resumable.remove(&id)
            && let Some(kept) = disk.kept.get_mut(&key)
            && self.staged.get(&id) == Some(&kept.inode)
        {
            kept.is_taken = false;
        }
    }
}

impl Disk {
    /// Gives what is left of a file of another size this key. Chunks of another length are not recorded any more.
    fn rename_kept(&mut self, key: &KeptKey) {
        let (path, size, chunk_log2) = key;
        let is_it = |other: &&KeptKey| other.0 == *path && other.2 == *chunk_log2 && other.1 != *size;
        let is_free = |other: &&KeptKey| is_it(other) && !self.kept[*other].is_taken;
        let Some(other) = self.kept.keys().find(is_free).cloned() else { return };
        if let Some(mut kept) = self.kept.remove(&other) {
            let len = |size: u64, index: u64| size.saturating_sub(index << chunk_log2).min(1 << chunk_log2);
            kept.values.retain(|index, _| len(other.1, *index) == len(*size, *index));
            self.kept.insert(key.clone(), kept);
        }
    }
}

/// Makes all bytes outside of `held` zeros.
fn clear_all_but(held: &ChunkSet, bytes: &mut Vec<u8>, chunk_log2: u8) {
    let at = |index: u64| usize::try_from(index << chunk_log2).unwrap();
    bytes.truncate(held.ranges().last().map_or(0, |last| at(last.end)));
    let mut end = 0;
    for range in held.ranges() {
        let start = at(range.start).min(bytes.len());
        bytes[end..start].fill(0);
        end = at(range.end).min(bytes.len());
    }
}

fn value_on_disk(disk: &Disk, kept: &Kept, (_, size, chunk_log2): &KeptKey, index: u64) -> [u8; 32] {
    let Node::File(bytes) = &disk.inodes[kept.inode].node else { return [0; 32] };
    let offset = index << chunk_log2;
    let len = (size - offset).min(1 << chunk_log2);
    let at = |offset: u64| usize::try_from(offset).unwrap().min(bytes.len());
    let there = &bytes[at(offset)..at(offset + len)];
    let mut hasher = RecordHasher::new(*size, offset, len);
    hasher.update(there);
    hasher.update_zeros(len - there.len() as u64);
    hasher.finish()
}
