//! Finishing directories whose contents are complete.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use rustix::fs::{Mode, OFlags, fchmod, fstat, futimens};

use super::attributes::{MODE_BITS, SPECIAL_BITS, timestamps};
use super::dirs::Dirs;
use super::lacks::{Lacks, unless_lacking};
use super::open::open_dir;
use super::sys::handle::Handle;
use super::target_disk::TargetDisk;
use super::volumes::Synced;
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::Meta;
use crate::storage::error::{Result, failed};

impl TargetDisk {
    pub(super) fn finish_dir(&self, dirs: &mut Dirs, path: &RelPath, meta: Option<&Meta>) -> Result<()> {
        let before = self.opened().remove(path);
        if meta.is_none() && before.is_none() && !(self.sync && self.volumes.may_lack_syncfs()) {
            return Ok(());
        }
        let (holder, name) = dirs.parent(&self.root, path).map_err(|blocked| self.blocked(blocked))?;
        let fd = open_dir(&holder, name, OFlags::RDONLY)
            .map_err(|errno| failed("open", self.place(path), errno))?;
        let there = fstat(&fd).map_err(|errno| failed("look at", self.place(path), errno))?;
        // Set-id and sticky bits that are not sent stay as they are, or as they were inherited.
        let bits = Mode::from_raw_mode(there.st_mode & SPECIAL_BITS);
        let mode = meta.map(|meta| Mode::from_raw_mode(meta.mode & MODE_BITS)).or(before);
        let mut lacks = Lacks::new();
        // New directories often have them already, also where they cannot be set.
        let wanted = mode.map(|mode| mode | bits);
        if let Some((meta, attributes)) = meta.and_then(|meta| Some((meta, meta.attributes.as_ref()?))) {
            self.keeper
                .set(Handle::Open(fd.as_fd()), meta, attributes, false, &mut lacks)
                .map_err(|errno| failed("set the attributes of", self.place(path), errno))?;
        } else if let Some(mode) =
            wanted.filter(|mode| mode.as_raw_mode() != there.st_mode & (MODE_BITS | SPECIAL_BITS))
        {
            unless_lacking(fchmod(&fd, mode), Aspect::Mode, &mut lacks)
                .map_err(|errno| failed("set the mode of", self.place(path), errno))?;
        }
        if let Some(meta) = meta {
            unless_lacking(futimens(&fd, &timestamps(meta.mtime)), Aspect::Time, &mut lacks)
                .map_err(|errno| failed("set the time of", self.place(path), errno))?;
        }
        self.sync_dir(dirs, path, &fd, &mut lacks)?;
        lacks.into_iter().for_each(|(aspect, cause)| self.note(aspect, &path.to_string(), cause));
        Ok(())
    }

    /// Sets the attributes of the target directory itself, once nothing in it changes any more.
    pub(super) fn finish_top(&self) -> Result<()> {
        let Some(meta) = self.top.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let mut lacks = Lacks::new();
        if let Some(attributes) = &meta.attributes {
            self.keeper
                .set(Handle::Open(self.root.as_fd()), &meta, attributes, false, &mut lacks)
                .map_err(|errno| failed("set the attributes of", self.place_of_top(), errno))?;
        }
        unless_lacking(futimens(&*self.root, &timestamps(meta.mtime)), Aspect::Time, &mut lacks)
            .map_err(|errno| failed("set the time of", self.place_of_top(), errno))?;
        lacks.into_iter().for_each(|(aspect, cause)| self.note(aspect, ".", cause));
        if self.sync
            && let Synced::Lacking(errno) = self
                .volumes
                .root()
                .sync(&*self.root)
                .map_err(|errno| failed("sync", self.place_of_top(), errno))?
        {
            self.note(Aspect::Sync, ".", errno);
        }
        Ok(())
    }

    /// Syncs a directory by itself, unless the sync at the end includes it.
    fn sync_dir(&self, dirs: &mut Dirs, path: &RelPath, fd: &OwnedFd, lacks: &mut Lacks) -> Result<()> {
        if !self.sync {
            return Ok(());
        }
        let volume = dirs.volume(&self.root, &self.volumes, path).map_err(|blocked| self.blocked(blocked))?;
        if volume.lacks_syncfs()
            && let Synced::Lacking(errno) =
                volume.sync(fd).map_err(|errno| failed("sync", self.place(path), errno))?
        {
            lacks.push((Aspect::Sync, errno.into()));
        }
        Ok(())
    }

    /// Closes old files, and restores the permission bits of directories that were opened up and have not reached their end.
    pub(super) fn close_all(&self) {
        self.old_files.close_all();
        let opened = mem::take(&mut *self.opened());
        let mut dirs = Dirs::for_lookup();
        for (path, mode) in opened {
            if let Ok((holder, name)) = dirs.parent(&self.root, &path)
                && let Ok(dir) = open_dir(&holder, name, OFlags::RDONLY)
                && let Ok(stat) = fstat(&dir)
            {
                // Best effort: another process may have removed or replaced the directory.
                let _ = fchmod(&dir, mode | Mode::from_raw_mode(stat.st_mode & SPECIAL_BITS));
            }
        }
    }
}
