//! The staging directory of one transfer, `.towline/<transfer>/` under the target, and the files in it. Files that the
//! next attempt can resume lie beside it (`partial_names.rs`).
//!
//! A lock file, held while the receiver lives, distinguishes a directory in use from one left by a killed receiver;
//! the next receiver removes the latter. Making and removing are not locked against each other, so each allows for
//! the other at every step:
//!
//! - The maker makes the directory, makes the lock file, takes the lock, and only then looks whether the lock
//!   file still has its name. If not, or if any of its steps found the directory gone, it starts again.
//! - The remover takes the lock before it touches anything, and unlinks the lock file last. A maker that gets
//!   the lock first is left alone; one that gets it later sees that the file has no name.
//! - A directory without a lock file is about to be used, or about to go: `rmdir` takes it only when it is empty. If it
//!   is not, a power failure has taken the lock file. The remover makes it again, which fails if the maker was faster.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, futimens, statat, utimensat,
};
use rustix::io::Errno;

use super::attributes::{MODE_BITS, size_of, timestamps};
use super::descriptors::patiently;
use super::incoming::Incoming;
use super::lacks::{Lacks, unless_lacking};
use super::open::open_dir;
use super::partial::PartialFor;
use super::partials::Partials;
use super::read_attributes::Opened;
use super::set_attributes::Keeper;
use super::set_log::{SET_LOG, SetState, set_state};
use super::staged_files::{Complete, Durability, StagedFile, StagedFiles, Unsynced};
use super::sys::disk::{fsync, ftruncate, mkdirat, openat, symlinkat, unlinkat, write_all_at};
use super::sys::handle::Handle;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::{RelPath, STAGING_DIR};
use crate::protocol::wire::entry::{EntryId, Meta, Time};

/// Name of the lock file; the staged files have numbers for names.
pub(super) const LOCK: &str = "lock";
/// Digits in a transfer's id.
const TRANSFER_DIGITS: usize = 32;
/// Attempts to make the directory while others remove it, a millisecond apart.
const ATTEMPTS_MAX: u32 = 100;

/// The staging directory of one transfer. Removed when dropped.
pub(super) struct Staging {
    root: Arc<OwnedFd>,
    /// `.towline`.
    hub: OwnedFd,
    name: String,
    dir: OwnedFd,
    /// Held until everything is removed.
    lock: Mutex<Option<OwnedFd>>,
    /// Permission bits of a new file here, made with all of them requested.
    granted_bits: u32,
    /// Held for reading while a file is made, so that none is made after everything has been removed.
    has_ended: RwLock<bool>,
    files: Mutex<StagedFiles>,
    /// Files that outlive the attempt. They lie in `.towline` itself.
    pub(super) partials: Partials,
    keeper: Keeper,
    /// Number of names made in the directory, and of those durable.
    names: Arc<Durability>,
    /// The same of `.towline`.
    hub_names: Arc<Durability>,
}

/// The result of [`make_and_lock`].
struct Made {
    hub: OwnedFd,
    dir: OwnedFd,
    lock: OwnedFd,
    granted_bits: u32,
}

impl Staging {
    /// Makes the staging directory of a transfer, and removes unused ones.
    pub(super) fn create(root: &Arc<OwnedFd>, incoming: &Incoming) -> io::Result<Self> {
        let transfer = incoming.transfer.as_str();
        if !is_transfer(transfer.as_bytes()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a transfer"));
        }
        for _ in 0..ATTEMPTS_MAX {
            if let Some(Made { hub, dir, lock, granted_bits }) = try_create(root, transfer)? {
                return Ok(Self {
                    root: Arc::clone(root),
                    partials: Partials::find(&hub, incoming),
                    keeper: Keeper::new(incoming),
                    hub,
                    name: transfer.to_owned(),
                    dir,
                    lock: Mutex::new(Some(lock)),
                    granted_bits,
                    has_ended: RwLock::default(),
                    files: Mutex::default(),
                    names: Arc::default(),
                    hub_names: Arc::default(),
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(Errno::EXIST.into())
    }

    /// The directory itself, which this process can always open.
    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The directory and the name in it under which `id` is staged.
    pub(super) fn place(&self, id: EntryId) -> (&OwnedFd, String) {
        match self.partials.name_of(id) {
            Some(name) => (&self.hub, name.data()),
            None => (&self.dir, id.0.to_string()),
        }
    }

    /// Makes a file of `bytes` with the permission bits and time of `meta`, complete except for its final name, in as
    /// few calls as possible: this dominates the cost of ten thousand small files. `keep_open` is for a later sync.
    pub(super) fn write_whole(
        &self,
        id: EntryId,
        bytes: &[u8],
        meta: &Meta,
        keep_open: bool,
    ) -> io::Result<()> {
        // A record that was cut off has left bytes.
        let is_there = self.files().is_staged(id);
        if is_there {
            self.discard(id);
        }
        let ended = self.not_ended()?;
        let mode = Mode::from_raw_mode(meta.mode & MODE_BITS);
        let at_first = if meta.attributes.is_some() { Mode::RUSR | Mode::WUSR } else { mode };
        let file = self.make(id, at_first, || self.close_oldest())?;
        write_all_at(&file, bytes, 0)?;
        // FAT and similar file systems store a read-only flag, but ignore it when the file is made.
        let mut lacks = Lacks::new();
        if at_first != mode || mode.as_raw_mode() & !self.granted_bits != 0 || !mode.contains(Mode::WUSR) {
            self.set_mode(&file, meta, &mut lacks)?;
        }
        set_time(&file, meta.mtime, &mut lacks)?;
        let mut files = self.files();
        let closed = if keep_open {
            files.keep_open(id, file, None).1
        } else {
            drop(file);
            None
        };
        files.completed(id, lacks);
        drop(files);
        drop(ended);
        drop(closed);
        Ok(())
    }

    /// Sets size, permission bits and time of a staged file, unless they are set. Unwritten parts are holes.
    /// `keep_open` is for files without any written bytes.
    pub(super) fn complete(
        &self,
        id: EntryId,
        size: u64,
        meta: &Meta,
        keep_open: bool,
    ) -> io::Result<Complete> {
        let is_complete = self.files().is_complete(id);
        if size == 0 && !is_complete {
            self.write_whole(id, b"", meta, keep_open)?;
        }
        if let Some(complete) = self.files().take_complete(id)? {
            return Ok(complete);
        }
        let file = self.open(id)?;
        self.files().take_open(id);
        file.complete()?;
        if size_of(&fstat(&file)?) != size {
            ftruncate(&file, size)?;
            file.resized();
        }
        let mut lacks = Lacks::new();
        self.set_mode(&file, meta, &mut lacks)?;
        set_time(&file, meta.mtime, &mut lacks)?;
        self.files().completed(id, lacks.clone());
        let is_synced = file.is_synced();
        Ok(Complete { file: Some(file), lacks, is_synced })
    }

    /// Stages a link, unless it is staged already.
    pub(super) fn link(&self, id: EntryId, target: &Bytes, meta: &Meta) -> io::Result<Complete> {
        if let Some(complete) = self.files().take_complete(id)? {
            return Ok(complete);
        }
        let (dir, name) = self.place(id);
        symlinkat(target.as_ref(), dir, &name)?;
        let mut lacks = Lacks::new();
        if let Some(attributes) = &meta.attributes {
            let link = Opened::open(dir, name.as_bytes(), FileType::Symlink)?;
            self.keeper.set(link.handle(), meta, attributes, true, &mut lacks)?;
        }
        let set = utimensat(dir, &name, &timestamps(meta.mtime), AtFlags::SYMLINK_NOFOLLOW);
        unless_lacking(set, Aspect::Time, &mut lacks)?;
        self.files().completed(id, lacks.clone());
        Ok(Complete { file: None, lacks, is_synced: false })
    }

    /// The data of an entry that is not durable; `None` if all of it is, or none has arrived. An error is that of an
    /// earlier sync.
    pub(super) fn unsynced(&self, id: EntryId) -> Result<Option<Unsynced>, Errno> {
        self.files().unsynced(id)
    }

    /// All writes here that are not durable, names included: a sync of the whole volume makes them durable.
    pub(super) fn all_unsynced(&self) -> Vec<Unsynced> {
        let mut unsynced = self.files().all_unsynced();
        unsynced.extend(self.names.unsynced(None));
        unsynced.extend(self.hub_names.unsynced(None));
        unsynced
    }

    /// A sync of an entry has failed, so its data may be lost even if a later sync succeeds.
    pub(super) fn lost(&self, id: EntryId, errno: Errno) {
        self.files().lost(id, errno);
    }

    /// The directories to sync so that names made here become durable, and the counts to report then. `None` if they
    /// are durable.
    pub(super) fn unsynced_names(&self) -> Option<(Vec<BorrowedFd<'_>>, Vec<Unsynced>)> {
        let (names, hub_names) = (self.names.unsynced(None), self.hub_names.unsynced(None));
        let mut dirs = Vec::new();
        dirs.extend(names.as_ref().map(|_| self.dir.as_fd()));
        dirs.extend(hub_names.as_ref().map(|_| self.hub.as_fd()));
        dirs.extend(hub_names.as_ref().filter(|names| names.is_first()).map(|_| self.root.as_fd()));
        let unsynced: Vec<_> = names.into_iter().chain(hub_names).collect();
        (!unsynced.is_empty()).then_some((dirs, unsynced))
    }

    /// An entry has its final name, which is for `path`.
    pub(super) fn named(&self, id: EntryId, path: &RelPath) {
        let file = self.files().forget(id);
        drop(file);
        self.partials.named(&self.hub, id, path);
    }

    /// Opens a complete file again, to sync it.
    pub(super) fn reopen(&self, id: EntryId) -> Result<OwnedFd, Errno> {
        let (dir, name) = self.place(id);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open =
            |access| patiently(|| openat(dir, &name, access | flags, Mode::empty()), || self.close_oldest());
        open(OFlags::RDONLY).or_else(|_| open(OFlags::WRONLY))
    }

    /// Removes a staged entry, if it exists.
    pub(super) fn discard(&self, id: EntryId) {
        let file = self.files().forget(id);
        drop(file);
        if !self.partials.discard(&self.hub, id) {
            let (dir, name) = self.place(id);
            let _ = unlinkat(dir, &name, AtFlags::empty());
        }
    }

    /// Removes a staged entry, unless it can be resumed.
    pub(super) fn give_up(&self, id: EntryId) {
        let file = self.files().forget(id);
        drop(file);
        if !self.partials.give_up(&self.hub, id) {
            let (dir, name) = self.place(id);
            let _ = unlinkat(dir, &name, AtFlags::empty());
        }
    }

    /// Removes everything staged but partial files, the directory, and `.towline` when nothing else is there. Nothing
    /// can be staged afterwards. Files that cannot be removed are left to the next receiver.
    pub(super) fn remove(&self) {
        let had_ended = {
            let mut has_ended = self.has_ended.write().unwrap_or_else(PoisonError::into_inner);
            mem::replace(&mut *has_ended, true)
        };
        if had_ended {
            return;
        }
        drop(mem::take(&mut *self.files()));
        self.partials.leave(&self.hub);
        remove_staged(&self.dir);
        // Durable before the directory goes: a set that has its names must not be completed once more.
        if unlinkat(&self.dir, SET_LOG, AtFlags::empty()).is_ok() {
            let _ = fsync(&self.dir);
        }
        // Closed first: FUSE and NFS keep an unlinked file while it is open, and its directory too. A process that
        // takes the lock now finds only files that are removed here anyway.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = unlinkat(&self.dir, LOCK, AtFlags::empty());
        let _ = unlinkat(&self.hub, self.name.as_str(), AtFlags::REMOVEDIR);
        let _ = unlinkat(&*self.root, STAGING_DIR, AtFlags::REMOVEDIR);
    }

    /// Leaves everything to the next receiver, which completes the set that is staged.
    pub(super) fn leave(&self) {
        *self.has_ended.write().unwrap_or_else(PoisonError::into_inner) = true;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Forgets a complete entry for `path`, which is under its number from now on. Returns whether there may also be a
    /// partial file of it: the next attempt goes on with that one if the set gets no names.
    pub(super) fn set_aside(&self, id: EntryId, path: &RelPath) -> io::Result<bool> {
        let file = self.files().forget(id);
        drop(file);
        let has_partial = self.partials.set_aside(&self.hub, &self.dir, id, path)?;
        self.names.written();
        Ok(has_partial)
    }

    /// Whether the directory says that its files belong to a set.
    pub(super) fn is_marked(&self) -> bool {
        statat(&self.dir, SET_LOG, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The directories that hold its names: its own, `.towline`, and the one above.
    pub(super) fn dirs(&self) -> [&OwnedFd; 3] {
        [&self.dir, &self.hub, &self.root]
    }

    fn files(&self) -> MutexGuard<'_, StagedFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The staged file, if it is available without waiting: it is open, and none is being made.
    pub(super) fn find_open(&self, id: EntryId) -> Option<Arc<StagedFile>> {
        let mut files = self.files.try_lock().ok()?;
        if files.is_complete(id) { None } else { files.find_open(id) }
    }

    /// The staged file, made on first use under a lock, so that of two concurrent pieces one makes the file and the
    /// other finds it.
    pub(super) fn open(&self, id: EntryId) -> io::Result<Arc<StagedFile>> {
        let _ended = self.not_ended()?;
        let mut files = self.files();
        if files.is_complete(id) {
            // It belongs to a record that was cut off; its mode may prevent opening it again.
            drop(files.forget(id));
            if !self.partials.discard(&self.hub, id) {
                let (dir, name) = self.place(id);
                unlinkat(dir, &name, AtFlags::empty())?;
            }
        }
        if let Some(file) = files.find_open(id) {
            return Ok(file);
        }
        let (file, partial) = if files.is_staged(id) {
            let (dir, name) = self.place(id);
            let partial = self.partials.of(id);
            let access = if partial.is_some() { OFlags::RDWR } else { OFlags::WRONLY };
            let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = || openat(dir, &name, flags, Mode::empty());
            (File::from(patiently(open, || drop(files.close_oldest()))?), partial)
        } else if let Some((partial, file)) = self.partials.begin(&self.hub, id) {
            self.hub_names.written();
            (file, Some(partial))
        } else {
            (self.make(id, Mode::RUSR | Mode::WUSR, || drop(files.close_oldest()))?, None)
        };
        let (file, closed) = files.keep_open(id, file, partial);
        drop(files);
        drop(closed); // outside of the lock: closing may take its time
        Ok(file)
    }

    /// Opens what an earlier attempt has left of a file; returns the recorded chunks.
    pub(super) fn resume(&self, id: EntryId, wanted: PartialFor) -> io::Result<ChunkSet> {
        let _ended = self.not_ended()?;
        let Some((partial, file)) = self.partials.resume(&self.hub, id, wanted)? else {
            return Ok(ChunkSet::default());
        };
        self.hub_names.written();
        let recorded = partial.recorded();
        let closed = self.files().keep_open(id, file, Some(partial)).1;
        drop(closed);
        Ok(recorded)
    }

    /// Makes a file; `release` closes others while no descriptor is free.
    fn make(&self, id: EntryId, mode: Mode, release: impl FnMut()) -> io::Result<File> {
        let (dir, name) = self.place(id);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = patiently(|| openat(dir, &name, flags, mode), release)?;
        self.names.written();
        Ok(File::from(file))
    }

    /// Sets the permission bits, or all attributes if the sender keeps more.
    fn set_mode(&self, file: impl AsFd, meta: &Meta, lacks: &mut Lacks) -> Result<(), Errno> {
        match &meta.attributes {
            Some(attributes) => {
                self.keeper.set(Handle::Open(file.as_fd()), meta, attributes, true, lacks).map(drop)
            }
            None => {
                let mode = Mode::from_raw_mode(meta.mode & MODE_BITS);
                unless_lacking(fchmod(file, mode), Aspect::Mode, lacks)
            }
        }
    }

    fn close_oldest(&self) {
        let closed = self.files().close_oldest();
        drop(closed);
    }

    fn not_ended(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let has_ended = self.has_ended.read().unwrap_or_else(PoisonError::into_inner);
        if *has_ended { Err(io::Error::other("the transfer has ended")) } else { Ok(has_ended) }
    }
}

fn set_time(file: impl AsFd, mtime: Time, lacks: &mut Lacks) -> Result<(), Errno> {
    unless_lacking(futimens(file, &timestamps(mtime)), Aspect::Time, lacks)
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.remove();
    }
}

/// One attempt; `None` when another process has removed the new directory.
fn try_create(root: &OwnedFd, transfer: &str) -> io::Result<Option<Made>> {
    match make_and_lock(root, transfer) {
        Ok(Some(made)) => Ok(Some(made)),
        Ok(None) | Err(Errno::NOENT | Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn make_and_lock(root: &OwnedFd, transfer: &str) -> Result<Option<Made>, Errno> {
    match mkdirat(root, STAGING_DIR, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let hub = open_dir(root, STAGING_DIR.as_bytes(), OFlags::RDONLY)?;
    remove_stale(&hub);
    mkdirat(&hub, transfer, Mode::RWXU)?;
    let dir = open_dir(&hub, transfer.as_bytes(), OFlags::RDONLY)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // With all bits, to see which ones the umask or a default ACL leaves; other users cannot enter the directory.
    let lock = openat(&dir, LOCK, flags, Mode::from_raw_mode(MODE_BITS))?;
    // Any other error means that locks are not supported here. Then no other process can take one either, and a
    // directory that cannot be locked is never removed.
    if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(None);
    }
    // By its name: FUSE and NFS rename an unlinked file that is open, and count the new name as a link.
    match statat(&dir, LOCK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Made { hub, dir, lock, granted_bits: stat.st_mode & MODE_BITS })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes the staging directories of receivers that are gone. Anything that does not look like one stays.
fn remove_stale(hub: &OwnedFd) {
    let Ok(names) = patiently(|| Dir::read_from(hub), || ()) else { return };
    for entry in names.flatten() {
        let name = entry.file_name().to_bytes();
        if is_transfer(name) {
            remove_if_stale(hub, name);
        }
    }
}

fn remove_if_stale(hub: &OwnedFd, name: &[u8]) {
    let Ok(dir) = open_dir(hub, name, OFlags::RDONLY) else { return };
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = match openat(&dir, LOCK, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            let removed = unlinkat(hub, name, AtFlags::REMOVEDIR);
            if !matches!(removed, Err(Errno::NOTEMPTY | Errno::EXIST)) || !holds_only_staged(&dir) {
                return;
            }
            openat(&dir, LOCK, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
        }
        opened => opened,
    };
    let Ok(lock) = lock else { return };
    let is_free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    // A set that has to be completed is not ours to remove, nor one whose log is elsewhere.
    let is_needed = || !matches!(set_state(&dir), Ok(SetState::None | SetState::Incomplete));
    if !is_free || !holds_only_staged(&dir) || is_needed() {
        return;
    }
    remove_staged(&dir);
    let _ = unlinkat(&dir, SET_LOG, AtFlags::empty());
    let _ = unlinkat(&dir, LOCK, AtFlags::empty());
    // Before the directory: FUSE and NFS keep open files in it.
    drop(lock);
    let _ = unlinkat(hub, name, AtFlags::REMOVEDIR);
}

fn holds_only_staged(dir: &OwnedFd) -> bool {
    let Ok(mut names) = patiently(|| Dir::read_from(dir), || ()) else { return false };
    names.all(|entry| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name().to_bytes();
            is_staged(name)
                || matches!(name, b"." | b"..")
                || name == LOCK.as_bytes()
                || name == SET_LOG.as_bytes()
        })
    })
}

/// Unlinks files with numbers for names. Directories stay: `unlinkat` does not remove them.
pub(super) fn remove_staged(dir: &OwnedFd) {
    // Removing while reading may make a file system skip names, so this repeats until nothing is removed.
    loop {
        let mut removed = 0;
        let Ok(names) = patiently(|| Dir::read_from(dir), || ()) else { return };
        for entry in names.flatten() {
            let name = entry.file_name();
            if is_staged(name.to_bytes()) && unlinkat(dir, name, AtFlags::empty()).is_ok() {
                removed += 1;
            }
        }
        if removed == 0 {
            return;
        }
    }
}

pub(super) fn is_transfer(name: &[u8]) -> bool {
    name.len() == TRANSFER_DIGITS && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_staged(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}
