//! The staged data of each entry: its file, whether it is complete, and whether it is durable.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use super::descriptors::{OpenFiles, share};
use super::incoming::Incoming;
use super::lacks::Lacks;
use super::partial::Partial;
use super::peer_quota::Room;
use super::sys::disk::write_all_at;
use crate::protocol::wire::entry::EntryId;

/// Maximum staged files kept open. Others are closed, and opened again when needed.
const OPEN_MAX: usize = 256;
/// Everything staged in one directory.
pub(super) struct StagedFiles {
    staged: HashMap<EntryId, StagedEntry>,
    open: OpenFiles<EntryId, StagedFile>,
}

#[derive(Default)]
struct StagedEntry {
    /// Set once the entry has its size, permission bits and time: the attributes that the file system does not keep.
    lacks: Option<Lacks>,
    durability: Arc<Durability>,
    room: Arc<Room>,
    /// The first error of a sync of its data. Kept because the kernel reports it only once.
    lost: Option<Errno>,
}

/// A staged entry that waits for its name.
pub(super) struct Complete {
    /// The file, if it is open.
    pub(super) file: Option<Arc<StagedFile>>,
    pub(super) lacks: Lacks,
    /// A checkpoint has made all of its data durable.
    pub(super) is_synced: bool,
}

/// A staged file that is open.
pub(super) struct StagedFile {
    file: File,
    /// Set if the next attempt can go on with it.
    partial: Option<Arc<Partial>>,
    durability: Arc<Durability>,
    room: Arc<Room>,
    /// Held while a piece is written. The kernel lets one thread write to a file at a time, and the others spin. On a
    /// host with few cores, that takes processor time from the network.
    turn: tokio::sync::Mutex<()>,
}

impl StagedFile {
    /// Waits until no other task writes pieces of this file. Only tasks wait here: if all blocking threads waited,
    /// none would be left for the writer whose turn it is.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes a piece, if there is room for it. The caller holds the [turn](Self::turn).
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64, incoming: &Incoming) -> io::Result<()> {
        let cleared = match &self.partial {
            Some(partial) => partial.before_write(&self.file, offset, bytes.len())?,
            None => Vec::new(),
        };
        if let Some(quota) = &incoming.quota {
            self.room.take(quota, &cleared, offset..offset + bytes.len() as u64)?;
        }
        let written = write_all_at(&self.file, bytes, offset);
        self.durability.written();
        written
    }

    /// Makes what was not written of it a hole.
    pub(super) fn complete(&self) -> io::Result<()> {
        self.partial.as_ref().map_or(Ok(()), |partial| partial.complete(&self.file))
    }

    /// The file, to read from it.
    pub(super) fn content(&self) -> &File {
        &self.file
    }

    /// Notes that the size of the file, or its holes, were changed.
    pub(super) fn resized(&self) {
        self.durability.written();
    }

    /// Whether everything written is durable.
    pub(super) fn is_synced(&self) -> bool {
        self.durability.is_synced()
    }
}

impl AsFd for StagedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Counts the writes to a file or directory, and how many of them are durable. A write is counted when it has ended.
/// A sync makes those writes durable that were counted before it began.
pub(super) struct Durability {
    writes: AtomicU64,
    synced: AtomicU64,
}

impl Default for Durability {
    fn default() -> Self {
        Self { writes: AtomicU64::new(1), synced: AtomicU64::new(0) }
    }
}

impl Durability {
    pub(super) fn written(&self) {
        self.writes.fetch_add(1, Relaxed);
    }

    fn is_synced(&self) -> bool {
        self.writes.load(Relaxed) == self.synced.load(Relaxed)
    }

    /// The writes that the next sync makes durable; `None` if everything is durable. `file` is the file, if it is
    /// open.
    pub(super) fn unsynced(self: &Arc<Self>, file: Option<Arc<StagedFile>>) -> Option<Unsynced> {
        let writes = self.writes.load(Relaxed);
        let is_synced = writes == self.synced.load(Relaxed);
        (!is_synced).then(|| Unsynced { file, writes, durability: Arc::clone(self) })
    }
}

/// Writes that are not durable.
pub(super) struct Unsynced {
    /// The file, if it is open.
    pub(super) file: Option<Arc<StagedFile>>,
    writes: u64,
    durability: Arc<Durability>,
}

impl Unsynced {
    /// Whether no earlier write is durable.
    pub(super) fn is_first(&self) -> bool {
        self.durability.synced.load(Relaxed) == 0
    }

    /// Notes that a sync has succeeded that began after this was made.
    pub(super) fn note_durable(self) {
        self.durability.synced.fetch_max(self.writes, Relaxed);
    }
}

impl Default for StagedFiles {
    fn default() -> Self {
        Self { staged: HashMap::new(), open: OpenFiles::new(share(OPEN_MAX)) }
    }
}

impl StagedFiles {
    /// Whether anything of the entry is staged.
    pub(super) fn is_staged(&self, id: EntryId) -> bool {
        self.staged.contains_key(&id)
    }

    /// Whether the entry has its size, permission bits and time.
    pub(super) fn is_complete(&self, id: EntryId) -> bool {
        self.staged.get(&id).is_some_and(|entry| entry.lacks.is_some())
    }

    /// Notes that the entry has its size, permission bits and time. `lacks` are the attributes that the file system
    /// does not keep.
    pub(super) fn completed(&mut self, id: EntryId, lacks: Lacks) {
        self.staged.entry(id).or_default().lacks = Some(lacks);
    }

    /// The entry, if it is complete, with its file if that is open. The file leaves the open files.
    pub(super) fn take_complete(&mut self, id: EntryId) -> Result<Option<Complete>, Errno> {
        let Some(entry) = self.staged.get(&id) else { return Ok(None) };
        if let Some(errno) = entry.lost {
            return Err(errno);
        }
        let Some(lacks) = entry.lacks.clone() else { return Ok(None) };
        let is_synced = entry.durability.is_synced();
        Ok(Some(Complete { file: self.open.remove(&id), lacks, is_synced }))
    }

    /// The writes of an entry that are not durable; `None` if all are, or nothing is staged. An error is that of an
    /// earlier sync.
    pub(super) fn unsynced(&mut self, id: EntryId) -> Result<Option<Unsynced>, Errno> {
        let Some(entry) = self.staged.get(&id) else { return Ok(None) };
        match entry.lost {
            Some(errno) => Err(errno),
            None => Ok(entry.durability.unsynced(self.open.get(&id))),
        }
    }

    /// The writes that are not durable, of all entries.
    pub(super) fn all_unsynced(&self) -> Vec<Unsynced> {
        self.staged.values().filter_map(|entry| entry.durability.unsynced(None)).collect()
    }

    /// Notes that a sync of the entry has failed.
    pub(super) fn lost(&mut self, id: EntryId, errno: Errno) {
        if let Some(entry) = self.staged.get_mut(&id) {
            entry.lost.get_or_insert(errno);
        }
    }

    /// The file of an entry, if it is open.
    pub(super) fn find_open(&mut self, id: EntryId) -> Option<Arc<StagedFile>> {
        self.open.get(&id)
    }

    /// Takes the file of an entry out of the open files, if it is there.
    pub(super) fn take_open(&mut self, id: EntryId) -> Option<Arc<StagedFile>> {
        self.open.remove(&id)
    }

    /// Takes the least recently used file out of the open files. Returned because closing it may be slow.
    pub(super) fn close_oldest(&mut self) -> Option<Arc<StagedFile>> {
        self.open.pop_oldest()
    }

    /// Keeps `file` open. Also returns the file that must be closed for it, if any.
    pub(super) fn keep_open(
        &mut self,
        id: EntryId,
        file: File,
        partial: Option<Arc<Partial>>,
    ) -> (Arc<StagedFile>, Option<Arc<StagedFile>>) {
        let entry = self.staged.entry(id).or_default();
        let (durability, room) = (Arc::clone(&entry.durability), Arc::clone(&entry.room));
        let turn = tokio::sync::Mutex::default();
        let file = Arc::new(StagedFile { file, partial, durability, room, turn });
        (Arc::clone(&file), self.open.insert(id, file))
    }

    /// Notes that nothing of the entry is staged any more. Returns its file, if that is open.
    pub(super) fn forget(&mut self, id: EntryId) -> Option<Arc<StagedFile>> {
        self.staged.remove(&id);
        self.open.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_during_a_sync_is_not_durable() {
        let durability = Arc::new(Durability::default());
        let sync = durability.unsynced(None).unwrap();
        assert!(sync.is_first() && !durability.is_synced());
        sync.note_durable();
        assert!(durability.is_synced() && durability.unsynced(None).is_none());

        durability.written();
        let sync = durability.unsynced(None).unwrap();
        durability.written();
        sync.note_durable();
        assert!(!durability.is_synced());
        durability.unsynced(None).unwrap().note_durable();
        assert!(durability.is_synced());
    }

    #[test]
    fn what_a_failed_sync_said_stays() {
        let mut files = StagedFiles::default();
        files.completed(EntryId(1), Lacks::new());
        assert!(files.unsynced(EntryId(1)).unwrap().is_some());
        files.lost(EntryId(1), Errno::IO);
        assert_eq!(files.unsynced(EntryId(1)).err(), Some(Errno::IO));
        assert_eq!(files.take_complete(EntryId(1)).err(), Some(Errno::IO));
        files.forget(EntryId(1));
        assert!(files.take_complete(EntryId(1)).unwrap().is_none());
    }
}
