//! The directory that a transfer is received into, with the state that all calls on it share.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode};

use super::bounds::Bounded;
use super::dirs::Blocked;
use super::extras::ExtrasState;
use super::incoming::Incoming;
use super::known_roots::KnownRoots;
use super::names_made::NamesMade;
use super::old_files::OldFiles;
use super::open::open_dir;
use super::pending_set::PendingSet;
use super::set_attributes::Keeper;
use super::staging::Staging;
use super::sys::open::LOOKUP;
use super::sys::volume::VolumeId;
use super::target_dir::TargetDir;
use super::volumes::{Synced, Volume, Volumes};
use super::watch::DiskWatch;
use crate::protocol::not_kept::{self, Aspect, NotKept};
use crate::protocol::path::{RelPath, STAGING_DIR, printable};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{EntryId, Meta};
use crate::storage::error::{Result, StorageError, failed};

pub(super) struct TargetDisk {
    /// The target directory as an absolute path, safe to print, without a slash at the end.
    dir: String,
    pub(super) root: Arc<OwnedFd>,
    /// The target directory is missing, and stays so; `root` stands for nothing.
    pub(super) is_missing: bool,
    pub(super) incoming: Incoming,
    pub(super) bounded: Bounded,
    pub(super) watch: DiskWatch,
    pub(super) volumes: Volumes,
    pub(super) sync: bool,
    pub(super) old_files: OldFiles,
    pub(super) known_roots: KnownRoots,
    /// Set if all entries get their names together.
    pub(super) set: Option<PendingSet>,
    pub(super) names_made: NamesMade,
    pub(super) keeper: Keeper,
    /// Attributes for the directory itself, set when everything else is done.
    pub(super) top: Mutex<Option<Meta>>,
    /// The search for extras, and those that are to be removed.
    pub(super) extras: Mutex<ExtrasState>,
    /// Attributes that the disks do not keep.
    not_kept: Mutex<Vec<NotKept>>,
    /// Existing directories that were opened up, with the permission bits to restore.
    opened: Mutex<HashMap<RelPath, Mode>>,
}

impl TargetDisk {
    /// Opens `dir`. When it is missing, it is made with its parents, unless this only looks.
    pub(super) fn open(dir: &TargetDir, incoming: Incoming) -> Result<Self> {
        let (sync, keeper) = (incoming.sync, Keeper::new(&incoming));
        let named = dir.path();
        let whole = path::absolute(&named).unwrap_or(named);
        let shown = printable(whole.as_os_str().as_bytes());
        let failed = |op, error: io::Error| failed(op, Place::target_directory(shown.clone()), error);
        let mut is_missing = false;
        let opened = match incoming.only_looks {
            false => dir.make(),
            true => dir.open().or_else(|(op, error)| match error.kind() {
                io::ErrorKind::NotFound => {
                    is_missing = true;
                    open_dir(CWD, b"/", LOOKUP).map_err(|errno| ("open", errno.into()))
                }
                _ => Err((op, error)),
            }),
        };
        let root = Arc::new(opened.map_err(|(op, error)| failed(op, error))?);
        let id = VolumeId::of(&root).map_err(|errno| failed("look at", errno.into()))?;
        let bounded = Bounded::new(incoming.bounds.clone(), Arc::clone(&root));
        Ok(Self {
            bounded: bounded.map_err(|error| failed("bound", error))?,
            dir: shown.trim_end_matches('/').to_owned(),
            volumes: Volumes::new(Volume::new(id, Arc::clone(&root), String::new(), sync), sync),
            root,
            is_missing,
            set: incoming.atomic.then(PendingSet::default),
            incoming,
            watch: DiskWatch::default(),
            sync,
            old_files: OldFiles::new(),
            known_roots: KnownRoots::default(),
            names_made: NamesMade::default(),
            keeper,
            top: Mutex::default(),
            extras: Mutex::default(),
            not_kept: Mutex::default(),
            opened: Mutex::default(),
        })
    }

    /// Takes room for `bytes` that will be written to the file of this number.
    pub(super) fn take_room(&self, id: EntryId, bytes: usize) -> io::Result<()> {
        self.bounded.take(Some(id), bytes)?;
        self.incoming.take_room(bytes)
    }

    /// Makes the staging directory of the target itself.
    pub(super) fn make_staging(&self) -> Result<()> {
        let made = self.volumes.root().staging(&self.incoming);
        let place = || Place::target_directory(format!("{}/{STAGING_DIR}", self.dir));
        made.map(drop).map_err(|error| failed("stage files in", place(), error))
    }

    /// The target directory itself.
    pub(super) fn place_of_top(&self) -> Place {
        Place::target_directory(self.dir.clone())
    }

    pub(super) fn place(&self, path: &RelPath) -> Place {
        Place::below(&self.dir, path)
    }

    pub(super) fn place_staged(&self, id: EntryId) -> Place {
        let volume = self.volumes.of(id);
        let partial = volume.find_staging().and_then(|staging| staging.partials.name_of(id));
        let name = partial.map_or_else(|| format!("{}/{}", self.incoming.transfer, id.0), |name| name.data());
        let own = format!("{}/{}{STAGING_DIR}/{name}", self.dir, volume.path);
        Place::new(own, "a staged file")
    }

    /// A directory under the target, by its path there. An empty path is the target itself.
    fn place_of_dir(&self, path: &str) -> Place {
        if path.is_empty() {
            return self.place_of_top();
        }
        Place::new(format!("{}/{path}", self.dir), path)
    }

    /// Where `id` is staged.
    pub(super) fn staging(&self, id: EntryId) -> io::Result<Arc<Staging>> {
        self.volumes.of(id).staging(&self.incoming)
    }

    /// Drops what is staged of `id`, if anything is.
    pub(super) fn discard(&self, id: EntryId) {
        self.old_files.close(id);
        if let Some(staging) = self.volumes.of(id).made_staging() {
            staging.discard(id);
        }
    }

    /// Drops what is staged of `id` and cannot be resumed.
    pub(super) fn give_up(&self, id: EntryId) {
        self.old_files.close(id);
        if let Some(staging) = self.volumes.of(id).made_staging() {
            staging.give_up(id);
        }
    }

    /// An entry has its final name, which is for `path`.
    pub(super) fn named(&self, id: EntryId, path: &RelPath) {
        self.old_files.close(id);
        if let Some(staging) = self.volumes.of(id).made_staging() {
            staging.named(id, path);
        }
    }

    /// Something about `path` is not kept.
    pub(super) fn note(&self, aspect: Aspect, path: &str, cause: impl Display) {
        not_kept::note(&mut self.not_kept(), aspect, path, cause);
    }

    pub(super) fn not_kept(&self) -> MutexGuard<'_, Vec<NotKept>> {
        self.not_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blocked(&self, blocked: Blocked) -> StorageError {
        failed("open", self.place_of_dir(&printable(&blocked.dir)), blocked.errno)
    }

    /// Removes staging. If the transfer `is_done` or not: what a set that has to get its names still needs stays.
    pub(super) fn end_staging(&self, is_done: bool) {
        match &self.set {
            Some(set) if !is_done && !set.give_up() => self.volumes.leave_staging(),
            _ => self.volumes.remove_staging(),
        }
    }

    /// Syncs everything that the commits have not synced.
    pub(super) fn sync_last(&self) -> Result<()> {
        for volume in self.volumes.all() {
            let path = volume.path.trim_end_matches('/');
            match volume.sync_last() {
                Ok(Synced::Yes) => {}
                Ok(Synced::Lacking(errno)) => {
                    self.note(Aspect::Sync, if path.is_empty() { "." } else { path }, errno)
                }
                Err(errno) => return Err(failed("sync", self.place_of_dir(path), errno)),
            }
        }
        Ok(())
    }

    pub(super) fn opened(&self) -> MutexGuard<'_, HashMap<RelPath, Mode>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
