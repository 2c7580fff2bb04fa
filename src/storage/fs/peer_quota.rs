//! The room that a peer has in a directory of its own.

use std::fs::{self, Permissions, ReadDir};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::sys::holes::Cleared;
use crate::event::{Event, Reporter};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::path::printable;
use crate::storage::error::OverQuota;

/// What a file or directory counts at least, beside its content: very many empty ones fill a disk too.
const ENTRY_BYTES: u64 = 4096;
/// Runs of a file that are remembered. What is beyond them counts again when it is sent again.
const RUNS_MAX: usize = 16 * 1024;
/// Bytes of a block in `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// What the owner of a directory needs to look at everything in it.
const READ_AND_SEARCH: u32 = 0o500;

/// The bytes in a directory, counted when they are first asked for. Transfers at the same time share it.
pub struct Usage {
    dir: PathBuf,
    bytes: Mutex<Option<u64>>,
    reporter: Arc<dyn Reporter>,
}

/// The room that a peer has in a directory. Cheap to clone.
#[derive(Clone)]
pub struct PeerQuota {
    usage: Arc<Usage>,
    limit_bytes: u64,
}

impl Usage {
    /// Of `dir`, which need not exist yet. `reporter` learns what cannot be counted.
    pub fn of(dir: &Path, reporter: &Arc<dyn Reporter>) -> Arc<Self> {
        Arc::new(Self { dir: dir.to_owned(), bytes: Mutex::new(None), reporter: Arc::clone(reporter) })
    }

    /// Works with the number of bytes.
    fn with<T>(&self, work: impl FnOnce(&mut u64) -> T) -> io::Result<T> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = match *bytes {
            Some(counted) => counted,
            None => self.count()?,
        };
        Ok(work(bytes.insert(counted)))
    }

    fn count(&self) -> io::Result<u64> {
        let mut opened = OpenedUp::default();
        let counted = count(&self.dir, &mut opened)?;
        if let Some(unreadable) = counted.unreadable.first() {
            let (dir, number) =
                (printable(unreadable.as_os_str().as_encoded_bytes()), counted.unreadable.len());
            let message = format!(
                "the quota does not count what is in {dir}, which cannot be read (such directories: {number})"
            );
            self.reporter.report(Event::Warning { path: None, reason: None, message });
        }
        Ok(counted.bytes)
    }
}

impl PeerQuota {
    /// At most `limit_bytes` in the directory of `usage`.
    pub fn new(usage: Arc<Usage>, limit_bytes: u64) -> Self {
        Self { usage, limit_bytes }
    }

    /// Takes room for `bytes` that will be written.
    ///
    /// # Errors
    ///
    /// There is not so much room, or what is there cannot be counted.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let limit_bytes = self.limit_bytes;
        self.usage.with(|used| match used.checked_add(bytes).filter(|used| *used <= limit_bytes) {
            Some(now) => {
                *used = now;
                Ok(())
            }
            None => {
                let why = format!("the quota of {limit_bytes} bytes is used up");
                Err(io::Error::other(OverQuota(why)))
            }
        })?
    }

    fn give_back(&self, bytes: u64) -> io::Result<()> {
        self.usage.with(|used| *used = used.saturating_sub(bytes))
    }

    /// Takes room for a new entry without its content.
    ///
    /// # Errors
    ///
    /// As [`PeerQuota::take`].
    pub(super) fn take_entry(&self) -> io::Result<()> {
        self.take(ENTRY_BYTES)
    }

    /// Why `needed` bytes surely do not fit, when up to `staged` of them are there already.
    pub(super) fn lacks(&self, needed: u64, staged: u64) -> io::Result<()> {
        let left = self.usage.with(|used| self.limit_bytes.saturating_sub(*used))?;
        if needed <= left.saturating_add(staged) {
            return Ok(());
        }
        let all = self.limit_bytes;
        let why = format!("it needs {needed} bytes, and {left} of the quota of {all} bytes are left");
        Err(io::Error::other(OverQuota(why)))
    }
}

/// The blocks of a staged file that have room. What is sent again, as after a lost connection, needs none.
#[derive(Default)]
pub(super) struct Room(Mutex<ChunkSet>);

impl Room {
    /// Takes room in `quota` for those blocks of `range`, in bytes, that have none, after those of `cleared` were made zeros.
    ///
    /// # Errors
    ///
    /// As [`PeerQuota::take`].
    pub(super) fn take(&self, quota: &PeerQuota, cleared: &[Cleared], range: Range<u64>) -> io::Result<()> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Cleared { range, freed_bytes } in cleared {
            let cleared = blocks(range);
            let is_of_this = |own: Range<u64>| own.start < cleared.end && cleared.start < own.end;
            // An earlier transfer left it, so it counts as what is there. What this one wrote keeps its room.
            if !counted.ranges().any(is_of_this) {
                quota.give_back(*freed_bytes)?;
            }
        }
        let new = blocks(&range);
        let new = if counted.ranges().len() < RUNS_MAX {
            let before = counted.len();
            counted.insert(new);
            counted.len() - before
        } else {
            new.end - new.start
        };
        quota.take(new.saturating_mul(ENTRY_BYTES))
    }
}

/// The blocks that hold the bytes of `range`. A block counts whole, as on a disk.
fn blocks(range: &Range<u64>) -> Range<u64> {
    range.start / ENTRY_BYTES..range.end.div_ceil(ENTRY_BYTES)
}

/// What is in a directory.
#[derive(Default)]
struct DirUsage {
    bytes: u64,
    /// Directories that were not looked into.
    unreadable: Vec<PathBuf>,
}

/// The bytes that everything below `dir` takes on its disk. Links are not followed, and what vanishes meanwhile takes
/// none.
fn count(dir: &Path, opened: &mut OpenedUp) -> io::Result<DirUsage> {
    let mut counted = DirUsage::default();
    let mut dirs = vec![dir.to_owned()];
    while let Some(inner) = dirs.pop() {
        let entries = match opened.read_dir(&inner) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && inner != dir => {
                counted.unreadable.push(inner);
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
            let content = if metadata.is_dir() { 0 } else { metadata.blocks().saturating_mul(BLOCK_BYTES) };
            counted.bytes = counted.bytes.saturating_add(content).saturating_add(ENTRY_BYTES);
        }
    }
    Ok(counted)
}

/// Directories that were opened up for a while, since a peer may hide files in one that nobody may read.
#[derive(Default)]
struct OpenedUp(Vec<(PathBuf, Permissions)>);

impl OpenedUp {
    fn read_dir(&mut self, dir: &Path) -> io::Result<ReadDir> {
        let metadata = fs::symlink_metadata(dir)?;
        let mode = metadata.mode();
        // Whoever is not the owner gets an error here, or may read it anyway.
        if metadata.is_dir()
            && mode & READ_AND_SEARCH != READ_AND_SEARCH
            && fs::set_permissions(dir, Permissions::from_mode(mode | READ_AND_SEARCH)).is_ok()
        {
            self.0.push((dir.to_owned(), metadata.permissions()));
        }
        fs::read_dir(dir)
    }
}

impl Drop for OpenedUp {
    fn drop(&mut self) {
        while let Some((dir, permissions)) = self.0.pop() {
            let _ = fs::set_permissions(dir, permissions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::final_name::{Exists, Lookup};
    use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
    use crate::storage::block::{BlockCount, BlockPool};
    use crate::storage::fs::{FsTarget, Incoming, NetworkThreads};
    use crate::storage::{Target, Write, look_and_prepare};
    use crate::testing::disk::{incoming, rel_path};
    use crate::testing::session::Nobody;

    fn usage(dir: &Path) -> Arc<Usage> {
        Usage::of(dir, &(Arc::new(Nobody) as Arc<dyn Reporter>))
    }

    #[test]
    fn what_is_there_counts_and_transfers_at_the_same_time_share_the_room() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("ann");
        assert!(PeerQuota::new(usage(&own), 1 << 20).take(1 << 20).is_ok(), "nothing is there");
        fs::create_dir_all(own.join("sub")).unwrap();
        fs::write(own.join("sub/file"), vec![1; 100 << 10]).unwrap();
        std::os::unix::fs::symlink("/usr", own.join("link")).unwrap();
        let used = usage(&own).count().unwrap();
        assert!((112 << 10..160 << 10).contains(&used), "{used}");
        let one = PeerQuota::new(usage(&own), 300 << 10);
        let other = one.clone();
        one.take(100 << 10).unwrap();
        let refused = other.take(100 << 10).unwrap_err();
        assert_eq!(refused.to_string(), "the quota of 307200 bytes is used up");
        assert!(other.lacks(100 << 10, 0).is_err() && other.lacks(100 << 10, 100 << 10).is_ok());
        other.take_entry().unwrap();
        assert!(PeerQuota::new(usage(&own.join("sub/file")), 1).take_entry().is_err(), "not a directory");
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        const BLOCK: u64 = ENTRY_BYTES;
        let dir = tempfile::tempdir().unwrap();
        let quota = PeerQuota::new(usage(dir.path()), 10 * BLOCK);
        let room = Room::default();
        quota.take(3 * BLOCK).unwrap();
        let left = || quota.usage.with(|used| 10 - *used / BLOCK).unwrap();
        room.take(&quota, &[], 0..4 * BLOCK).unwrap();
        room.take(&quota, &[], 2 * BLOCK..5 * BLOCK - 1).unwrap();
        room.take(&quota, &[], 0..5 * BLOCK).unwrap();
        assert_eq!(left(), 2);
        assert!(room.take(&quota, &[], 4 * BLOCK..8 * BLOCK).is_err());
        assert_eq!(left(), 2, "what was refused takes none");
    }

    #[test]
    fn what_an_earlier_transfer_left_gives_its_room_back_once() {
        const BLOCK: u64 = ENTRY_BYTES;
        let dir = tempfile::tempdir().unwrap();
        let quota = PeerQuota::new(usage(dir.path()), 10 * BLOCK);
        let room = Room::default();
        quota.take(3 * BLOCK).unwrap();
        let left = || quota.usage.with(|used| 10 - *used / BLOCK).unwrap();
        room.take(&quota, &[], 0..5 * BLOCK).unwrap();
        assert_eq!(left(), 2);
        let cleared = |range| [Cleared { range, freed_bytes: BLOCK }];
        room.take(&quota, &cleared(0..5 * BLOCK), 0..BLOCK).unwrap();
        assert_eq!(left(), 2, "it was written by this transfer and is written again");
        room.take(&quota, &cleared(5 * BLOCK..9 * BLOCK), 5 * BLOCK..5 * BLOCK + 1).unwrap();
        assert_eq!(left(), 2, "an earlier transfer wrote it");
    }

    #[test]
    fn many_runs_cost_no_memory_and_count() {
        let dir = tempfile::tempdir().unwrap();
        let quota = PeerQuota::new(usage(dir.path()), u64::MAX);
        quota.take(0).unwrap();
        let room = Room::default();
        let before = quota.usage.with(|used| *used).unwrap();
        let runs = RUNS_MAX as u64 + 10;
        for run in 0..runs {
            room.take(&quota, &[], 2 * run * ENTRY_BYTES..2 * run * ENTRY_BYTES + 1).unwrap();
        }
        assert_eq!(room.0.lock().unwrap().ranges().len(), RUNS_MAX);
        assert_eq!(quota.usage.with(|used| *used).unwrap() - before, runs * ENTRY_BYTES);
    }

    #[tokio::test]
    async fn a_chunk_that_comes_again_takes_no_more_of_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let quota = PeerQuota::new(usage(dir.path()), 3 << 20);
        let incoming = Incoming { quota: Some(quota.clone()), ..incoming(1, true) };
        let target = FsTarget::new(dir.path(), incoming, NetworkThreads::new(2)).unwrap();
        let meta = Meta { mode: 0o644, ..Meta::default() };
        let file = Entry { path: rel_path("large"), meta, kind: Kind::File { size: 2 << 20 }, hole_bytes: 0 };
        look_and_prepare(&target, vec![(EntryId(1), file)], Exists::Refuse).await;
        let write = async |offset| {
            let block = BlockPool::new(1, BlockCount::default()).acquire().await;
            let range = 0..block.len();
            target.write(vec![Write { id: EntryId(1), offset, range, whole: None }], block).await.unwrap()
        };
        for _ in 0..20 {
            assert!(write(0).await.is_empty());
        }
        assert!(write(1 << 20).await.is_empty());
        assert!(quota.lacks(2 << 20, 0).is_ok() && quota.lacks(3 << 20, 0).is_err());
    }

    #[test]
    fn a_directory_that_nobody_may_read_counts_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("ann");
        fs::create_dir_all(own.join("closed/inner")).unwrap();
        fs::write(own.join("closed/inner/file"), vec![1; 100 << 10]).unwrap();
        let mode = |name: &str| fs::symlink_metadata(own.join(name)).unwrap().mode() & 0o7777;
        let close = |name: &str| fs::set_permissions(own.join(name), Permissions::from_mode(0o000)).unwrap();
        close("closed/inner");
        close("closed");
        assert!(usage(&own).count().unwrap() >= 100 << 10);
        assert_eq!(mode("closed"), 0);
        fs::set_permissions(own.join("closed"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(mode("closed/inner"), 0);
        fs::set_permissions(own.join("closed/inner"), Permissions::from_mode(0o700)).unwrap();
    }

    #[tokio::test]
    async fn new_directories_take_room_and_what_is_refused_takes_none() {
        for atomic in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("there")).unwrap();
            let quota = PeerQuota::new(usage(dir.path()), 3 * ENTRY_BYTES);
            quota.take(0).unwrap();
            let incoming = Incoming { atomic, quota: Some(quota), ..incoming(1, true) };
            let target = FsTarget::new(dir.path(), incoming, NetworkThreads::new(2)).unwrap();
            let meta = Meta { mode: 0o755, mtime: Time::default(), attributes: None };
            let entry = |path, kind| Entry { path: rel_path(path), meta: meta.clone(), kind, hole_bytes: 0 };
            let entries = [
                entry("there", Kind::Dir),
                entry("large", Kind::File { size: 1 << 30 }),
                entry("a", Kind::Dir),
                entry("b", Kind::Dir),
                entry("c", Kind::Dir),
            ];
            let numbered = (0..).map(EntryId).zip(entries).collect();
            let found = look_and_prepare(&target, numbered, Exists::Refuse).await;
            let denied: Vec<_> = found.iter().map(|found| matches!(found, Ok(Lookup::Denied(_)))).collect();
            assert_eq!(denied, [false, true, false, false, true], "{found:?}");
            assert!(!dir.path().join("c").exists());
        }
    }
}
