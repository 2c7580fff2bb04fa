//! The file systems of a target. A mount or a subvolume inside the target is a separate volume: no rename crosses
//! from one volume to another, and each is synced separately. So each has its own staging directory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::incoming::Incoming;
use super::lacks::is_lacking_sync;
use super::staging::Staging;
use super::sys::disk::{fdatasync, fsync};
use super::sys::sync::{can_sync_all, sync_all};
use super::sys::volume::VolumeId;
use crate::protocol::wire::entry::EntryId;

/// Maximum changes of volume in the order of a transfer's entries, each of which is remembered. After that many, an
/// entry on a different volume fails.
const CHANGES_MAX: usize = 64 * 1024;

/// Up to this many files or directories are synced one by one. More are synced with one sync of the file system.
pub(super) const FSYNC_MAX: usize = 4;

/// A file system of the target.
pub(super) struct Volume {
    id: VolumeId,
    /// Its uppermost directory in the target.
    top: Arc<OwnedFd>,
    /// The path of `top` under the target: empty, or with a slash at the end. Safe to print.
    pub(super) path: String,
    staging: Mutex<StagingPlace>,
    /// No call syncs the whole volume.
    lacks_syncfs: AtomicBool,
    /// The first error of a sync of the whole volume.
    sync_error: Mutex<Option<Errno>>,
}

/// The state of a volume's staging directory.
#[derive(Default)]
enum StagingPlace {
    /// Nothing has been staged yet.
    #[default]
    None,
    Made(Arc<Staging>),
    /// The transfer has ended.
    Gone,
}

/// The result of a sync that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synced {
    /// The data is durable.
    Yes,
    /// The file system does not support this sync.
    Lacking(Errno),
}

impl Volume {
    /// The volume with this `id`, whose uppermost directory in the target is `top`, at `path`. Without `sync` it is
    /// never synced.
    pub(super) fn new(id: VolumeId, top: Arc<OwnedFd>, path: String, sync: bool) -> Self {
        let has_syncfs = !sync || can_sync_all(&top);
        Self {
            id,
            top,
            path,
            staging: Mutex::default(),
            lacks_syncfs: AtomicBool::new(!has_syncfs),
            sync_error: Mutex::default(),
        }
    }

    /// The staging directory. The first call makes it, for the transfer `incoming`.
    pub(super) fn staging(&self, incoming: &Incoming) -> io::Result<Arc<Staging>> {
        let mut place = self.place();
        match &*place {
            StagingPlace::Made(staging) => Ok(Arc::clone(staging)),
            StagingPlace::Gone => Err(io::Error::other("the transfer has ended")),
            StagingPlace::None => {
                let made = Arc::new(Staging::create(&self.top, incoming)?);
                *place = StagingPlace::Made(Arc::clone(&made));
                Ok(made)
            }
        }
    }

    /// Its uppermost directory in the target.
    pub(super) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// The staging directory, if there is one.
    pub(super) fn made_staging(&self) -> Option<Arc<Staging>> {
        match &*self.place() {
            StagingPlace::Made(staging) => Some(Arc::clone(staging)),
            StagingPlace::None | StagingPlace::Gone => None,
        }
    }

    /// The same without waiting: `None` also while the staging directory is being made.
    pub(super) fn find_staging(&self) -> Option<Arc<Staging>> {
        match &*self.staging.try_lock().ok()? {
            StagingPlace::Made(staging) => Some(Arc::clone(staging)),
            StagingPlace::None | StagingPlace::Gone => None,
        }
    }

    fn place(&self) -> MutexGuard<'_, StagingPlace> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no call syncs the whole volume, so that files and directories are synced one by one.
    pub(super) fn lacks_syncfs(&self) -> bool {
        self.lacks_syncfs.load(Relaxed)
    }

    /// Syncs everything on this volume with one call. The kernel reports a failed write only once, to the next sync,
    /// and the lost bytes may belong to any file. So after one failure every later call fails too.
    pub(super) fn sync_all(&self) -> Result<Synced, Errno> {
        let mut sync_error = self.sync_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(errno) = *sync_error {
            return Err(errno);
        }
        if self.lacks_syncfs() {
            return Ok(Synced::Lacking(Errno::NOSYS));
        }
        // This process may not be able to read the uppermost directory. It can read its own staging directory.
        let synced = match self.made_staging() {
            Some(staging) => sync_all(staging.dir()),
            None => match openat(&self.top, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(top) => sync_all(top),
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Ok(Synced::Lacking(errno)),
                Err(errno) => Err(errno),
            },
        };
        match synced {
            Ok(()) => Ok(Synced::Yes),
            Err(errno) if is_lacking_sync(errno) => {
                self.lacks_syncfs.store(true, Relaxed);
                Ok(Synced::Lacking(errno))
            }
            Err(errno) => {
                *sync_error = Some(errno);
                Err(errno)
            }
        }
    }

    /// Syncs an open file or directory. If it cannot be synced by itself, syncs the whole volume.
    pub(super) fn sync(&self, fd: impl AsFd) -> Result<Synced, Errno> {
        self.synced(fsync(fd))
    }

    /// Syncs the content and size of an open file, and no other attributes.
    pub(super) fn sync_data(&self, fd: impl AsFd) -> Result<Synced, Errno> {
        self.synced(fdatasync(fd))
    }

    fn synced(&self, synced: Result<(), Errno>) -> Result<Synced, Errno> {
        match synced {
            Ok(()) => Ok(Synced::Yes),
            Err(errno) if is_lacking_sync(errno) => match self.sync_all()? {
                Synced::Yes => Ok(Synced::Yes),
                Synced::Lacking(_) => Ok(Synced::Lacking(errno)),
            },
            Err(errno) => Err(errno),
        }
    }

    /// The last sync of a transfer: the whole volume. If no call does that, files and directories have been synced
    /// one by one, and only the uppermost directory is left.
    pub(super) fn sync_last(&self) -> Result<Synced, Errno> {
        match self.sync_all()? {
            Synced::Yes => Ok(Synced::Yes),
            Synced::Lacking(_) => self.sync(&self.top),
        }
    }
}

/// All volumes of a target.
pub(super) struct Volumes {
    root: Arc<Volume>,
    sync: bool,
    inside: Mutex<Inside>,
    has_inside: AtomicBool,
}

/// Volumes inside the target, besides the one of its own directory.
#[derive(Default)]
struct Inside {
    known: HashMap<VolumeId, Arc<Volume>>,
    /// The volume of all entries from this number on, up to the next number in the map. A walk rarely changes
    /// volumes.
    entries: BTreeMap<EntryId, Arc<Volume>>,
}

impl Volumes {
    /// The volumes of a target whose own directory is on `root`.
    pub(super) fn new(root: Volume, sync: bool) -> Self {
        let inside = Mutex::default();
        Self { root: Arc::new(root), sync, inside, has_inside: AtomicBool::new(false) }
    }

    pub(super) fn root(&self) -> &Arc<Volume> {
        &self.root
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume of the directory `dir`. The directory above it is on `above`; `path` returns the path of `dir`
    /// under the target.
    pub(super) fn find(
        &self,
        dir: &Arc<OwnedFd>,
        above: &Arc<Volume>,
        path: impl FnOnce() -> String,
    ) -> Result<Arc<Volume>, Errno> {
        let id = VolumeId::of(dir)?;
        if id == above.id {
            return Ok(Arc::clone(above));
        }
        if id == self.root.id {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(known) = self.inside().known.get(&id) {
            return Ok(Arc::clone(known));
        }
        // Made without the lock, because its disk may hang.
        let found = Arc::new(Volume::new(id, Arc::clone(dir), path(), self.sync));
        Ok(Arc::clone(self.inside().known.entry(id).or_insert(found)))
    }

    /// Notes that `entry` is written to `volume`, and so are all entries after it until the next call.
    pub(super) fn enter(&self, entry: EntryId, volume: &Arc<Volume>) -> Result<(), Errno> {
        if !self.has_inside.load(Relaxed) {
            if volume.id == self.root.id {
                return Ok(());
            }
            self.has_inside.store(true, Relaxed);
        }
        let mut inside = self.inside();
        let before = inside.entries.range(..=entry).next_back().map_or(&self.root, |(_, before)| before);
        if before.id == volume.id {
            return Ok(());
        }
        if inside.entries.len() >= CHANGES_MAX {
            return Err(Errno::XDEV);
        }
        inside.entries.insert(entry, Arc::clone(volume));
        Ok(())
    }

    /// The volume that `entry` is written to.
    pub(super) fn of(&self, entry: EntryId) -> Arc<Volume> {
        if !self.has_inside.load(Relaxed) {
            return Arc::clone(&self.root);
        }
        let inside = self.inside();
        let found = inside.entries.range(..=entry).next_back();
        found.map_or_else(|| Arc::clone(&self.root), |(_, volume)| Arc::clone(volume))
    }

    /// Whether directories may have to be synced one by one: no call syncs the target's own volume, or there are
    /// other volumes.
    pub(super) fn may_lack_syncfs(&self) -> bool {
        self.root.lacks_syncfs() || self.has_inside.load(Relaxed)
    }

    /// Whether existing files must be synced by themselves, because the sync at the end may not include them.
    pub(super) fn syncs_one_by_one(&self) -> bool {
        self.sync && self.may_lack_syncfs()
    }

    /// All volumes found so far.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        let inside = self.inside();
        std::iter::once(&self.root).chain(inside.known.values()).cloned().collect()
    }

    /// Removes the staging directories of all volumes.
    pub(super) fn remove_staging(&self) {
        self.end_staging(Staging::remove);
    }

    /// Leaves the staging directories of all volumes to the next receiver.
    pub(super) fn leave_staging(&self) {
        self.end_staging(Staging::leave);
    }

    /// The one of the target's own volume comes last: it has the log of a set, by which the others are found.
    fn end_staging(&self, end: impl Fn(&Staging)) {
        for volume in self.all().iter().rev() {
            let place = mem::replace(&mut *volume.place(), StagingPlace::Gone);
            if let StagingPlace::Made(staging) = place {
                end(&staging);
            }
        }
    }
}
