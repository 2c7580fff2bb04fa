//! A staged file that the next attempt can go on with, and its journal.
//!
//! A record vouches for the bytes of its chunk. So it is written after they are (and after they are synced), and it is
//! taken back before other bytes are written. Bytes that an earlier attempt left without a record, or that turned out
//! to be other ones, are made zeros before anything is written to their chunk: a hole of the source is not written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmod, fstat};
use rustix::io::Errno;

use super::attributes::size_of;
use super::descriptors::patiently;
use super::journal::{Chunking, JournalIdentity, JournalState};
use super::journal_file::{CHUNKS_MAX, Journal};
use super::lacks::is_lacking_sync;
use super::partial_names::PartialName;
use super::sys::disk::{fdatasync, ftruncate, openat, unlinkat, write_all_at};
use super::sys::holes::{self, Cleared};
use super::trust::Trust;
use crate::auth::Fingerprint;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::hash::ChunkValue;
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::{Entry, Time};

/// Bytes that are read at once to verify a chunk.
const READ_BYTES: usize = 256 * 1024;

/// The file that an attempt is about.
#[derive(Debug, Clone)]
pub(super) struct PartialFor {
    pub(super) name: PartialName,
    identity: JournalIdentity,
    size: u64,
    mtime: Time,
}

impl PartialFor {
    /// Of `entry`, from `sender`; `None` if it has more chunks than a journal takes.
    pub(super) fn new(sender: &Fingerprint, entry: &Entry, chunk_log2: u8) -> Option<Self> {
        let name = PartialName::new(sender, &entry.path);
        let identity = JournalIdentity { sender: *sender.as_bytes(), path: entry.path.clone(), chunk_log2 };
        let wanted = Self { name, identity, size: entry.size(), mtime: entry.meta.mtime };
        (wanted.chunks().count() <= CHUNKS_MAX).then_some(wanted)
    }

    fn chunks(&self) -> Chunking {
        Chunking { size: self.size, log2: self.identity.chunk_log2 }
    }
}

/// A partial file in use. The lock of its journal goes with it.
pub(super) struct Partial {
    pub(super) name: PartialName,
    chunks: Chunking,
    records: Mutex<Records>,
}

struct Records {
    journal: Journal,
    /// The state that the journal gets once all its records are known to hold.
    settled: Settled,
    /// Chunks that may have a record.
    recorded: ChunkSet,
    /// Chunks in which an earlier attempt may have left bytes, and which are not known to be right.
    stale: ChunkSet,
    /// Recorded chunks that must be read before they count.
    unverified: ChunkSet,
    /// Checkpoints under way, and what has been written meanwhile.
    checkpoints: u32,
    rewritten: ChunkSet,
}

/// What an attempt knows of the file.
#[derive(Clone, Copy)]
struct Settled {
    trust: Trust,
    inode: u64,
    /// What was there at the start is synced.
    is_synced: bool,
}

impl Partial {
    /// Opens what is left of a file, or begins it if there is nothing or `is_new`. Returns the staged file too. `None`
    /// if another receiver uses it.
    pub(super) fn open(
        hub: &OwnedFd,
        wanted: &PartialFor,
        trust: Trust,
        sync: bool,
        is_new: bool,
    ) -> io::Result<Option<(Self, File)>> {
        let Some(lock) = wanted.name.lock(hub, true)? else { return Ok(None) };
        let found = if is_new { None } else { Journal::read(&lock)? };
        let found = found.filter(|(identity, _)| *identity == wanted.identity);
        if let Some((_, state)) = found
            && let Some(data) = open_data(hub, &wanted.name)?
        {
            return Self::resume(lock, data, state, wanted, trust, sync).map(Some);
        }
        let begun = Self::begin(hub, &lock, wanted, trust, sync);
        if begun.is_err() {
            // What is left of it without this is no partial file, and the next receiver removes it.
            let _ = wanted.name.remove(hub);
        }
        begun.map(Some)
    }

    fn begin(
        hub: &OwnedFd,
        lock: &File,
        wanted: &PartialFor,
        trust: Trust,
        sync: bool,
    ) -> io::Result<(Self, File)> {
        // In this order: no record is ever beside another file.
        ftruncate(lock, 0)?;
        match unlinkat(hub, wanted.name.data(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(hub, wanted.name.data(), flags, Mode::RUSR | Mode::WUSR);
        let data = File::from(patiently(make, || ())?);
        let settled = Settled { trust, inode: fstat(&data)?.st_ino, is_synced: sync };
        let state = JournalState {
            sequence: 0,
            size: wanted.size,
            mtime: wanted.mtime,
            boot: trust.boot,
            mount: trust.mount,
            inode: settled.inode,
            is_synced: sync,
        };
        let journal = Journal::begin(lock.try_clone()?, &wanted.identity, state)?;
        Ok((Self::with(wanted, Records::new(journal, settled)), data))
    }

    fn resume(
        lock: File,
        data: File,
        state: JournalState,
        wanted: &PartialFor,
        trust: Trust,
        sync: bool,
    ) -> io::Result<(Self, File)> {
        let chunks = wanted.chunks();
        let there = fstat(&data)?;
        let journal = Journal::resume(lock, state);
        let recorded = journal.open_slots(chunks, size_of(&there))?;
        // After the records of what is cut off.
        if size_of(&there) > chunks.size {
            ftruncate(&data, chunks.size)?;
        }
        let left = Chunking { size: size_of(&there).min(chunks.size), ..chunks };
        let is_trusted = trust.covers(journal.state(), there.st_ino);
        // What a process that was killed has written may still wait for the disk.
        let is_synced = sync && (is_trusted || sync_data(&data)?);
        let size = JournalState { size: wanted.size, mtime: wanted.mtime, ..journal.state().clone() };
        let mut records = Records::new(journal, Settled { trust, inode: there.st_ino, is_synced });
        records.stale = ChunkSet::of(0..left.count());
        records.unverified = if is_trusted { ChunkSet::default() } else { recorded.clone() };
        records.recorded = recorded;
        records.set_state(size)?;
        if !is_trusted {
            records.settle()?;
        }
        if is_synced {
            fdatasync(&*records.journal.file())?;
        }
        Ok((Self::with(wanted, records), data))
    }

    fn with(wanted: &PartialFor, records: Records) -> Self {
        Self { name: wanted.name.clone(), chunks: wanted.chunks(), records: Mutex::new(records) }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks that have a record.
    pub(super) fn recorded(&self) -> ChunkSet {
        self.records().recorded.clone()
    }

    /// Whether the chunk on the disk has this value.
    pub(super) fn holds(&self, data: &File, claim: ChunkValue) -> io::Result<bool> {
        let ChunkValue { index, value } = claim;
        let must_read = {
            let records = self.records();
            if !records.recorded.contains(index) || records.journal.value(self.chunks, index)? != Some(value)
            {
                return Ok(false);
            }
            records.unverified.contains(index)
        };
        if must_read && self.read_value(data, index)? != value {
            return Ok(false);
        }
        let mut records = self.records();
        records.stale.remove(index..index + 1);
        if must_read {
            records.unverified.remove(index..index + 1);
            // If that fails, the next attempt reads these chunks again.
            let _ = records.settle();
        }
        Ok(true)
    }

    fn read_value(&self, data: &File, index: u64) -> io::Result<[u8; 32]> {
        let (mut at, end) = (self.chunks.start_of(index), self.chunks.end_of(index));
        let mut hasher = RecordHasher::new(self.chunks.size, at, end - at);
        let mut buffer = vec![0; READ_BYTES];
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            data.read_exact_at(&mut buffer[..len], at)?;
            hasher.update(&buffer[..len]);
            at += len as u64;
        }
        Ok(hasher.finish())
    }

    /// Before `len` bytes are written at `offset`. Returns what was cleared for that.
    pub(super) fn before_write(&self, data: &File, offset: u64, len: usize) -> io::Result<Vec<Cleared>> {
        let last = (offset + (len as u64).max(1) - 1) >> self.chunks.log2;
        let (mut records, mut cleared) = (self.records(), Vec::new());
        for index in offset >> self.chunks.log2..=last {
            if records.checkpoints > 0 {
                records.rewritten.insert(index..index + 1);
            }
            if records.stale.contains(index) || records.recorded.contains(index) {
                cleared.push(records.renew(self.chunks, data, index)?);
            }
        }
        Ok(cleared)
    }

    /// Before a checkpoint syncs the file: chunks without a write of this attempt are holes. Returns whether that
    /// changed the file. [`Partial::end_checkpoint`] follows.
    pub(super) fn begin_checkpoint(&self, data: &File, values: &[ChunkValue]) -> io::Result<bool> {
        let mut records = self.records();
        records.checkpoints += 1;
        if records.checkpoints == 1 {
            records.rewritten = ChunkSet::default();
        }
        let (mut has_changed, mut end) = (false, 0);
        for ChunkValue { index, value } in values.iter().filter(|v| v.index < self.chunks.count()) {
            let is_other = records.recorded.contains(*index)
                && records.journal.value(self.chunks, *index).ok().flatten() != Some(*value);
            if is_other || records.stale.contains(*index) {
                records.renew(self.chunks, data, *index)?;
                has_changed = true;
            }
            end = end.max(self.chunks.end_of(*index));
        }
        // The last chunk ends in a hole. Its last byte is written, because to set the length could cut off what another
        // stream writes behind it at the same time. If that fails, the record does not count.
        if size_of(&fstat(data)?) < end && write_all_at(data, &[0], end - 1).is_ok() {
            has_changed = true;
        }
        Ok(has_changed)
    }

    /// The sync has ended: records the chunks if `is_durable` says how; nothing if it failed.
    pub(super) fn end_checkpoint(&self, values: Vec<ChunkValue>, is_durable: Option<bool>) -> io::Result<()> {
        match self.record(values, is_durable)? {
            // Writes of the file go on meanwhile.
            Some(journal) => Ok(fdatasync(&*journal)?),
            None => Ok(()),
        }
    }

    /// Returns the journal if it is to be synced.
    fn record(&self, mut values: Vec<ChunkValue>, is_durable: Option<bool>) -> io::Result<Option<Arc<File>>> {
        let mut records = self.records();
        records.checkpoints -= 1;
        let Some(is_durable) = is_durable else { return Ok(None) };
        values.retain(|v| v.index < self.chunks.count() && !records.rewritten.contains(v.index));
        values.retain(|v| {
            !records.recorded.contains(v.index)
                || !matches!(records.journal.value(self.chunks, v.index), Ok(Some(value)) if value == v.value)
        });
        values.sort_by_key(|v| v.index);
        values.dedup_by_key(|v| v.index);
        if values.is_empty() {
            return Ok(None);
        }
        if !is_durable {
            records.settled.is_synced = false;
            let state = records.journal.state().clone();
            records.set_state(JournalState { is_synced: false, ..state })?;
        }
        // Before the write, of which a part may succeed.
        values.iter().for_each(|v| records.recorded.insert(v.index..v.index + 1));
        records.journal.record(self.chunks, &values)?;
        Ok(is_durable.then(|| records.journal.file()))
    }

    /// The file is complete: what an earlier attempt left and nothing has replaced is a hole.
    pub(super) fn complete(&self, data: &File) -> io::Result<()> {
        let mut records = self.records();
        while let Some(index) = records.stale.first() {
            records.renew(self.chunks, data, index)?;
        }
        Ok(())
    }

    /// The file has its final name: the journal goes.
    pub(super) fn named(&self, hub: &OwnedFd) {
        // One that stays is without a file, and the next receiver removes it.
        let _ = unlinkat(hub, self.name.journal(), AtFlags::empty());
    }

    /// Removes the file and its journal.
    pub(super) fn discard(&self, hub: &OwnedFd) {
        // What cannot be removed is resumed, or removed later.
        let _ = self.name.remove(hub);
    }

    /// The attempt is over. What has no record is removed.
    pub(super) fn leave(&self, hub: &OwnedFd) {
        if self.records().recorded.is_empty() {
            self.discard(hub);
        }
    }
}

impl Records {
    fn new(journal: Journal, settled: Settled) -> Self {
        Self {
            journal,
            settled,
            recorded: ChunkSet::default(),
            stale: ChunkSet::default(),
            unverified: ChunkSet::default(),
            checkpoints: 0,
            rewritten: ChunkSet::default(),
        }
    }

    /// Makes a chunk zeros that is about to get other bytes. Its record goes first.
    fn renew(&mut self, chunks: Chunking, data: &File, index: u64) -> io::Result<Cleared> {
        let chunk = index..index + 1;
        // Until it is done: it must not be forgotten if it fails.
        self.stale.insert(chunk.clone());
        if self.recorded.contains(index) && self.journal.clear(index).is_err() {
            self.journal.revoke()?;
            self.recorded = ChunkSet::default();
        }
        self.recorded.remove(chunk.clone());
        self.unverified.remove(chunk.clone());
        let cleared = holes::clear(data, chunks.start_of(index)..chunks.end_of(index))?;
        self.stale.remove(chunk);
        Ok(cleared)
    }

    /// Makes the state one of this boot, mount and file, if all records are known to hold.
    fn settle(&mut self) -> io::Result<()> {
        if !self.unverified.is_empty() {
            return Ok(());
        }
        let Settled { trust: Trust { boot, mount }, inode, is_synced } = self.settled;
        self.set_state(JournalState { boot, mount, inode, is_synced, ..self.journal.state().clone() })
    }

    fn set_state(&mut self, next: JournalState) -> io::Result<()> {
        if next == *self.journal.state() { Ok(()) } else { self.journal.set_state(next) }
    }
}

/// Syncs a file; whether there is such a sync.
fn sync_data(file: &File) -> io::Result<bool> {
    match fdatasync(file) {
        Ok(()) => Ok(true),
        Err(errno) if is_lacking_sync(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a staged file; `None` if there is none.
fn open_data(hub: &OwnedFd, name: &PartialName) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || patiently(|| openat(hub, name.data(), flags, Mode::empty()), || ());
    let opened = match open() {
        // It was complete but for its name, and has the permission bits of the source.
        Err(Errno::ACCESS) => make_writable(hub, name).and_then(|()| open()),
        opened => opened,
    };
    match opened {
        // With a second name it may be a final file, after a crash in the middle of a rename that was made of two steps.
        Ok(file) if is_regular(&file)? && fstat(&file)?.st_nlink != 1 => Ok(None),
        Ok(file) if is_regular(&file)? => Ok(Some(File::from(file))),
        Ok(_) => Err(Errno::INVAL.into()),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn make_writable(hub: &OwnedFd, name: &PartialName) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(hub, name.data(), flags, Mode::empty())?;
    if !is_regular(&file)? {
        return Err(Errno::INVAL);
    }
    chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::RUSR | Mode::WUSR)
}

fn is_regular(file: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::entry::{Kind, Meta};

    const CHUNK: u64 = 1 << 20;
    /// Three chunks and a half.
    const SIZE: u64 = 7 * CHUNK / 2;
    const TRUST: Trust = Trust { boot: [1; 16], mount: 1 };

    fn wanted() -> PartialFor {
        let path = RelPath::new(b"big").unwrap();
        let entry = Entry { path, meta: Meta::default(), kind: Kind::File { size: SIZE }, hole_bytes: 0 };
        PartialFor::new(&Fingerprint::from_bytes([1; 32]), &entry, 20).unwrap()
    }

    fn hub() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        let hub = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (temp, hub)
    }

    fn open(hub: &OwnedFd) -> (Partial, File) {
        Partial::open(hub, &wanted(), TRUST, true, false).unwrap().unwrap()
    }

    fn value(fill: u8, index: u64) -> ChunkValue {
        let chunks = wanted().chunks();
        let len = chunks.len_of(index);
        let mut hasher = RecordHasher::new(SIZE, chunks.start_of(index), len);
        hasher.update(&vec![fill; usize::try_from(len).unwrap()]);
        ChunkValue { index, value: hasher.finish() }
    }

    fn write(partial: &Partial, data: &File, fill: u8, index: u64) {
        let chunks = wanted().chunks();
        let bytes = vec![fill; usize::try_from(chunks.len_of(index)).unwrap()];
        partial.before_write(data, chunks.start_of(index), bytes.len()).unwrap();
        vouches_for_nothing_else(partial, data);
        data.write_all_at(&bytes, chunks.start_of(index)).unwrap();
    }

    /// A process that is killed now leaves only records that are true.
    fn vouches_for_nothing_else(partial: &Partial, data: &File) {
        let there = data.metadata().unwrap().len();
        for index in 0..partial.chunks.count() {
            let recorded = partial.records().journal.value(partial.chunks, index).unwrap();
            if let Some(value) = recorded.filter(|_| partial.chunks.end_of(index) <= there) {
                assert_eq!(partial.read_value(data, index).unwrap(), value, "chunk {index}");
            }
        }
    }

    #[test]
    fn a_record_is_taken_back_before_its_bytes_change() {
        let (_temp, hub) = hub();
        let (partial, data) = open(&hub);
        for fill in [1, 2] {
            write(&partial, &data, fill, 1);
            partial.begin_checkpoint(&data, &[value(fill, 1)]).unwrap();
            vouches_for_nothing_else(&partial, &data);
            partial.end_checkpoint(vec![value(fill, 1)], Some(true)).unwrap();
            assert!(partial.holds(&data, value(fill, 1)).unwrap());
        }
        partial.before_write(&data, CHUNK, 1).unwrap();
        assert!(!partial.holds(&data, value(2, 1)).unwrap());
    }

    #[test]
    fn a_chunk_that_is_written_during_its_checkpoint_gets_no_record() {
        let (_temp, hub) = hub();
        let (partial, data) = open(&hub);
        write(&partial, &data, 1, 0);
        write(&partial, &data, 1, 1);
        let values = vec![value(1, 0), value(1, 1)];
        partial.begin_checkpoint(&data, &values).unwrap();
        write(&partial, &data, 2, 1);
        partial.end_checkpoint(values, Some(true)).unwrap();
        vouches_for_nothing_else(&partial, &data);
        assert_eq!(partial.recorded(), ChunkSet::of(0..1));
        partial.begin_checkpoint(&data, &[value(2, 1)]).unwrap();
        partial.end_checkpoint(vec![value(2, 1)], None).unwrap();
        assert_eq!(partial.recorded(), ChunkSet::of(0..1), "its sync has failed");
    }

    #[test]
    fn a_chunk_that_has_become_a_hole_has_no_bytes_of_before() {
        let (_temp, hub) = hub();
        let (partial, data) = open(&hub);
        write(&partial, &data, 1, 0);
        partial.begin_checkpoint(&data, &[value(1, 0)]).unwrap();
        partial.end_checkpoint(vec![value(1, 0)], Some(true)).unwrap();
        write(&partial, &data, 1, 2); // without a checkpoint
        drop((partial, data));

        let (partial, data) = open(&hub);
        assert_eq!(partial.recorded(), ChunkSet::of(0..1));
        partial.begin_checkpoint(&data, &[value(0, 0), value(0, 1)]).unwrap();
        vouches_for_nothing_else(&partial, &data);
        partial.end_checkpoint(vec![value(0, 0), value(0, 1)], Some(true)).unwrap();
        vouches_for_nothing_else(&partial, &data);
        partial.complete(&data).unwrap();
        data.set_len(SIZE).unwrap();
        for index in 0..4 {
            assert_eq!(partial.read_value(&data, index).unwrap(), value(0, index).value);
        }
    }

    /// Writes, checkpoints, holes, claims and restarts in any order, with a look after each step.
    #[test]
    fn no_step_leaves_a_false_record() {
        let (_temp, hub) = hub();
        let (mut partial, mut data) = open(&hub);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        // What the chunks of this attempt hold, as far as it knows.
        let mut written: [Option<u8>; 4] = [None; 4];
        for step in 0..400 {
            let (index, fill) = (draw(4), u8::try_from(draw(3)).unwrap());
            let at = usize::try_from(index).unwrap();
            match draw(6) {
                0 | 1 => {
                    write(&partial, &data, fill, index);
                    written[at] = Some(fill);
                }
                2 | 3 => {
                    // What was not written is a hole.
                    let values = vec![value(written[at].unwrap_or(0), index)];
                    partial.begin_checkpoint(&data, &values).unwrap();
                    vouches_for_nothing_else(&partial, &data);
                    partial.end_checkpoint(values, Some(draw(2) == 0)).unwrap();
                    written[at].get_or_insert(0);
                }
                4 => {
                    if partial.holds(&data, value(fill, index)).unwrap() {
                        assert_eq!(partial.read_value(&data, index).unwrap(), value(fill, index).value);
                        written[at] = Some(fill);
                    }
                }
                _ => {
                    drop((partial, data));
                    (partial, data) = open(&hub);
                    written = [None; 4];
                }
            }
            vouches_for_nothing_else(&partial, &data);
            assert!(data.metadata().unwrap().len() <= SIZE, "step {step}");
        }
    }

    #[test]
    fn a_journal_that_takes_nothing_fails_checkpoints_alone() {
        let (temp, hub) = hub();
        let (partial, data) = open(&hub);
        write(&partial, &data, 1, 0);
        let closed = File::open(temp.path().join(partial.name.journal())).unwrap();
        let state = partial.records().journal.state().clone();
        partial.records().journal = Journal::resume(closed, state);
        partial.begin_checkpoint(&data, &[value(1, 0)]).unwrap();
        assert!(partial.end_checkpoint(vec![value(1, 0)], Some(true)).is_err());
        write(&partial, &data, 2, 1);
        partial.complete(&data).unwrap();
        assert!(!partial.holds(&data, value(1, 0)).unwrap());
    }

    #[test]
    fn the_next_attempt_waits_for_the_lock_to_go() {
        let (_temp, hub) = hub();
        let partial = Arc::new(open(&hub).0);
        assert!(Partial::open(&hub, &wanted(), TRUST, true, false).unwrap().is_none());
        drop(partial);
        assert!(Partial::open(&hub, &wanted(), TRUST, true, false).unwrap().is_some());
    }
}
