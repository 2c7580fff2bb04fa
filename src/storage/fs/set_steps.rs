//! What is noted for a set while it is received, and giving it its names.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::dirs::{Blocked, Dirs};
use super::look::THERE;
use super::names_made::Spellings;
use super::numbered::last_taken;
use super::pending_set::PendingSet;
use super::reveal::reveal;
use super::set_log::{LoggedMeta, SetLog, SetReader, SetStep, mark_elsewhere};
use super::target_disk::TargetDisk;
use super::volumes::{Synced, Volume};
use super::watch::{Call, Subject};
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::limits::RENAME_TRIES_MAX;
use crate::storage::error::{Result, failed};
use crate::storage::target::Commit;

impl TargetDisk {
    /// Notes a directory that will be made.
    pub(super) fn add_dir(&self, set: &PendingSet, dirs: &mut Dirs, entry: &Entry) -> Result<Lookup> {
        let found = match dirs.parent(&self.root, &entry.path) {
            Ok((holder, name)) => match statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => THERE,
                Ok(_) => return Ok(Lookup::Conflict),
                Err(Errno::NOENT) => Lookup::Free,
                Err(errno) => return Err(failed("create", self.place(&entry.path), errno)),
            },
            Err(Blocked { errno: Errno::NOENT, .. }) => Lookup::Free,
            Err(blocked) => return Err(self.blocked(blocked)),
        };
        if matches!(found, Lookup::Free)
            && let Some(denied) = self.no_room(entry)
        {
            return Ok(denied);
        }
        self.add_step(set, &entry.path, &SetStep::Dir { path: entry.path.clone(), mode: entry.meta.mode })?;
        Ok(found)
    }

    /// Notes the end of a directory.
    pub(super) fn add_dir_end(&self, set: &PendingSet, path: &RelPath, meta: Option<&Meta>) -> Result<()> {
        let meta = meta.cloned().map(LoggedMeta);
        self.add_step(set, path, &SetStep::DirEnd { path: path.clone(), meta })
    }

    /// Notes the new mode and time of what exists.
    pub(super) fn add_update(&self, set: &PendingSet, entry: &Entry) -> Result<()> {
        let is_link = matches!(entry.kind, Kind::Symlink { .. });
        let (path, meta) = (entry.path.clone(), LoggedMeta(entry.meta.clone()));
        self.add_step(set, &entry.path, &SetStep::Update { path, meta, is_link })
    }

    fn add_step(&self, set: &PendingSet, path: &RelPath, step: &SetStep) -> Result<()> {
        set.add(|| self.begin_log(), step, false)
            .map_err(|error| failed("write the log of", self.place(path), error))
    }

    fn begin_log(&self) -> io::Result<SetLog> {
        let staging = self.volumes.root().staging(&self.incoming)?;
        SetLog::begin(staging.dir(), &self.incoming)
    }

    /// Notes the name of an entry that is complete in staging.
    pub(super) fn add_name(
        &self,
        set: &PendingSet,
        volume: &Arc<Volume>,
        commit: &Commit,
        other: Option<u32>,
    ) -> io::Result<()> {
        let staging = volume.made_staging().ok_or(Errno::NOENT)?;
        let is_inside = !Arc::ptr_eq(volume, self.volumes.root());
        let step = SetStep::Name {
            id: commit.id.0,
            path: commit.path.clone(),
            number: other.unwrap_or(0),
            replaces: commit.exists == Exists::Replace,
            has_partial: staging.set_aside(commit.id, &commit.path)?,
            is_inside,
        };
        // Whoever clears up after this process finds the other file system by the log.
        let is_first = is_inside && !staging.is_marked();
        set.add(|| self.begin_log(), &step, is_first && self.sync)?;
        if is_inside { mark_elsewhere(staging.dir()) } else { Ok(()) }
    }

    /// Gives the whole set its names, or none of it.
    pub(super) fn finish_set(&self, set: &PendingSet, call: &Call<'_>) -> Result<()> {
        let log_failed = |error: io::Error| failed("write the log of", self.place_of_top(), error);
        if !set.can_be_read().map_err(log_failed)? {
            return Ok(());
        }
        if self.sync {
            sync_staging(self)?;
        }
        check(self, call, read_log(self)?)?;
        set.decide(self.sync).map_err(log_failed)?;
        reveal(self, call, read_log(self)?).map(drop)
    }
}

fn read_log(disk: &TargetDisk) -> Result<SetReader> {
    let staging = disk.volumes.root().made_staging().ok_or(Errno::NOENT);
    let log = staging.and_then(|staging| SetReader::open(staging.dir()));
    log.map_err(|errno| failed("read the log of", disk.place_of_top(), errno))
}

/// Makes all names in staging durable.
fn sync_staging(disk: &TargetDisk) -> Result<()> {
    for volume in disk.volumes.all() {
        let Some(staging) = volume.made_staging() else { continue };
        for dir in staging.dirs() {
            match volume.sync(dir) {
                Ok(Synced::Yes) => {}
                Ok(Synced::Lacking(errno)) => disk.note(Aspect::Sync, ".", errno),
                Err(errno) => return Err(failed("sync", disk.place_of_top(), errno)),
            }
        }
    }
    Ok(())
}

/// The number of another name for an entry whose own is taken; `None` if it can have its own.
pub(super) fn free_number(
    holder: &OwnedFd,
    commit: &Commit,
) -> std::result::Result<std::result::Result<Option<u32>, Taken>, Errno> {
    if !is_taken(holder, commit.path.name(), commit.exists == Exists::Replace)? {
        return Ok(Ok(None));
    }
    if commit.exists != Exists::Rename {
        return Ok(Err(Taken));
    }
    for number in last_taken(holder, &commit.path)? + 1..=RENAME_TRIES_MAX {
        let other = commit.path.numbered(number).map_err(|_| Errno::NAMETOOLONG)?;
        if !is_taken(holder, other.name(), false)? {
            return Ok(Ok(Some(number)));
        }
    }
    Ok(Err(Taken))
}

/// The name is taken.
pub(super) struct Taken;

/// Whether something has the name that would have to stay.
fn is_taken(holder: &OwnedFd, name: &[u8], replaces: bool) -> std::result::Result<bool, Errno> {
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(!replaces || FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Looks once more whether all names can be given, before the first one is.
fn check(disk: &TargetDisk, call: &Call<'_>, mut log: SetReader) -> Result<()> {
    let (mut dirs, mut spellings) = (Dirs::for_lookup(), Spellings::of(&disk.root));
    let appeared = || io::Error::new(io::ErrorKind::AlreadyExists, APPEARED);
    let read = |error| failed("read the log of", disk.place_of_top(), error);
    while let Some(step) = log.next().map_err(read)? {
        let (path, replaces, id) = match &step {
            SetStep::Dir { path, .. } => (path.clone(), false, None),
            SetStep::Name { path, number: 0, replaces, id, .. } => (path.clone(), *replaces, Some(*id)),
            SetStep::Name { path, number, replaces, id, .. } => {
                let Ok(other) = path.numbered(*number) else { continue };
                (other, *replaces, Some(*id))
            }
            _ => continue,
        };
        call.step("look up", Subject::Path(path.clone()));
        let fails = |error: io::Error| failed("complete", disk.place(&path), error);
        if replaces && spellings.is_again(&path) {
            return Err(fails(io::Error::new(io::ErrorKind::AlreadyExists, ONE_NAME)));
        }
        if let Some(id) = id {
            let staging = disk.volumes.of(EntryId(id)).made_staging();
            let staged = staging.ok_or(Errno::NOENT).and_then(|staging| {
                statat(staging.dir(), id.to_string(), AtFlags::SYMLINK_NOFOLLOW).map(drop)
            });
            staged.map_err(|errno| fails(errno.into()))?;
        }
        let holder = match dirs.parent(&disk.root, &path) {
            Ok((holder, _)) => holder,
            Err(Blocked { errno: Errno::NOENT, .. }) => continue,
            Err(blocked) => return Err(disk.blocked(blocked)),
        };
        let is_taken = match id {
            Some(_) => is_taken(&holder, path.name(), replaces),
            None => match statat(&holder, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) != FileType::Directory),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(errno),
            },
        };
        if is_taken.map_err(|errno| fails(errno.into()))? {
            return Err(fails(appeared()));
        }
    }
    Ok(())
}

/// Why a set is not shown: one file of it would replace another one.
const ONE_NAME: &str =
    "another file of the set has this name in another spelling, and this file system takes both for one";

/// Why none of the set gets its name.
const APPEARED: &str = "something has taken the name while the set was received, so nothing was changed";
