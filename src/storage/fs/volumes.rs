//! The file systems that a target reaches into. A mount or a subvolume inside it is another one: nothing can be renamed
//! from one to the other, and each is synced by itself, so each has staging of its own.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, fdatasync, fsync, openat};
use rustix::io::Errno;

use super::lacks::is_lacking_sync;
use super::staging::Staging;
use super::sys::sync::{can_sync_all, sync_all};
use super::sys::volume::VolumeId;
use crate::protocol::wire::entry::EntryId;

/// How often the entries of one transfer may go from one volume to another: what is remembered of it.
const CHANGES_MAX: usize = 64 * 1024;

/// Up to so many files or directories are synced one by one, more of them by one sync of the file system.
pub(super) const FSYNC_MAX: usize = 4;

/// One of them.
pub(super) struct Volume {
    id: VolumeId,
    /// Its uppermost directory under the target.
    top: Arc<OwnedFd>,
    /// The path of that under the target: nothing, or ended by a slash. Safe to print.
    pub(super) path: String,
    staging: Mutex<StagingPlace>,
    /// There is no call that syncs all of it.
    lacks_syncfs: AtomicBool,
    /// What the first sync of all of it that failed said.
    sync_error: Mutex<Option<Errno>>,
}

/// Where entries of a volume are staged.
#[derive(Default)]
enum StagingPlace {
    /// Nothing has been staged yet.
    #[default]
    None,
    Made(Arc<Staging>),
    /// The transfer has ended.
    Gone,
}

/// How a sync went that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synced {
    /// It is durable.
    Yes,
    /// There is no such sync here.
    Lacking(Errno),
}

impl Volume {
    /// The volume that the directory `top` is on, when it is not that of the directory above. It is synced only if
    /// `sync`.
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

    /// The staging directory, made for `transfer` if need be.
    pub(super) fn staging(&self, transfer: &str) -> io::Result<Arc<Staging>> {
        let mut place = self.place();
        match &*place {
            StagingPlace::Made(staging) => Ok(Arc::clone(staging)),
            StagingPlace::Gone => Err(io::Error::other("the transfer has ended")),
            StagingPlace::None => {
                let made = Arc::new(Staging::create(&self.top, transfer)?);
                *place = StagingPlace::Made(Arc::clone(&made));
                Ok(made)
            }
        }
    }

    /// The staging directory, if there is one.
    pub(super) fn made_staging(&self) -> Option<Arc<Staging>> {
        match &*self.place() {
            StagingPlace::Made(staging) => Some(Arc::clone(staging)),
            StagingPlace::None | StagingPlace::Gone => None,
        }
    }

    /// The same, if that can be told without waiting: none is being made.
    pub(super) fn find_staging(&self) -> Option<Arc<Staging>> {
        match &*self.staging.try_lock().ok()? {
            StagingPlace::Made(staging) => Some(Arc::clone(staging)),
            StagingPlace::None | StagingPlace::Gone => None,
        }
    }

    fn place(&self) -> MutexGuard<'_, StagingPlace> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Directories are to be synced one by one.
    pub(super) fn lacks_syncfs(&self) -> bool {
        self.lacks_syncfs.load(Relaxed)
    }

    /// Everything on this volume, with one call. The kernel reports an error of writing back once, to whoever asks
    /// next, so one failure fails every sync after it: the bytes it was about may be anybody's.
    pub(super) fn sync_all(&self) -> Result<Synced, Errno> {
        let mut sync_error = self.sync_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(errno) = *sync_error {
            return Err(errno);
        }
        if self.lacks_syncfs() {
            return Ok(Synced::Lacking(Errno::NOSYS));
        }
        // The uppermost directory may be one that this process cannot read; its own one it can.
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

    /// An open file or directory; all of the volume where that cannot be synced by itself.
    pub(super) fn sync(&self, fd: impl AsFd) -> Result<Synced, Errno> {
        self.synced(fsync(fd))
    }

    /// The content of an open file, and of its attributes only the size.
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

    /// What is left at the end: all of it, or the uppermost directory where the others have been synced one by one.
    pub(super) fn sync_last(&self) -> Result<Synced, Errno> {
        match self.sync_all()? {
            Synced::Yes => Ok(Synced::Yes),
            Synced::Lacking(_) => self.sync(&self.top),
        }
    }
}

/// All of a target.
pub(super) struct Volumes {
    root: Arc<Volume>,
    sync: bool,
    inside: Mutex<Inside>,
    has_inside: AtomicBool,
}

/// Those inside of the target.
#[derive(Default)]
struct Inside {
    known: HashMap<VolumeId, Arc<Volume>>,
    /// The volume of each entry from this number on. A walk stays on one for long.
    entries: BTreeMap<EntryId, Arc<Volume>>,
}

impl Volumes {
    /// Of a target whose own one is `root`.
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

    /// The volume of the directory `dir`, which lies in one on `above`; `path` makes its path under the target.
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
        // Outside of the lock: its disk may hang.
        let found = Arc::new(Volume::new(id, Arc::clone(dir), path(), self.sync));
        Ok(Arc::clone(self.inside().known.entry(id).or_insert(found)))
    }

    /// What is written to `entry`, and to those behind it until another call, is for `volume`.
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

    /// The volume that `entry` is for.
    pub(super) fn of(&self, entry: EntryId) -> Arc<Volume> {
        if !self.has_inside.load(Relaxed) {
            return Arc::clone(&self.root);
        }
        let inside = self.inside();
        let found = inside.entries.range(..=entry).next_back();
        found.map_or_else(|| Arc::clone(&self.root), |(_, volume)| Arc::clone(volume))
    }

    /// Whether directories are to be synced one by one, on one of them.
    pub(super) fn may_lack_syncfs(&self) -> bool {
        self.root.lacks_syncfs() || self.has_inside.load(Relaxed)
    }

    /// Whether what is there already has to be synced by itself: no call at the end syncs all of it.
    pub(super) fn syncs_one_by_one(&self) -> bool {
        self.sync && self.may_lack_syncfs()
    }

    /// All that were come upon.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        let inside = self.inside();
        std::iter::once(&self.root).chain(inside.known.values()).cloned().collect()
    }

    /// Removes whatever is staged, everywhere.
    pub(super) fn remove_staging(&self) {
        for volume in self.all() {
            let place = mem::replace(&mut *volume.place(), StagingPlace::Gone);
            if let StagingPlace::Made(staging) = place {
                staging.remove();
            }
        }
    }
}
