//! Prepares the target for announced entries: staging, volumes, directories.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, statat};
use rustix::io::Errno;

use super::attributes::{MODE_BITS, SPECIAL_BITS};
use super::dirs::{Blocked, Dirs};
use super::look::{THERE, obstacle};
use super::open::open_dir;
use super::sys::disk::mkdirat;
use super::target_disk::TargetDisk;
use super::volumes::Volume;
use crate::protocol::final_name::Lookup;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::storage::error::{Result, failed};

/// Maximum directories opened up at the same time. Further ones keep their permission bits.
const OPENED_MAX: usize = 16 * 1024;

impl TargetDisk {
    /// Prepares for one entry. Returns the result for a directory, or why the entry cannot be received. `None` for
    /// any other entry.
    pub(super) fn prepare(&self, dirs: &mut Dirs, id: EntryId, entry: &Entry) -> Result<Option<Lookup>> {
        // At the first entry, so that an unusable target is reported before any bytes are sent.
        self.make_staging()?;
        // For directories too: their volume must be known to be synced at the end.
        let volume = match self.set {
            // The directories of a set are made with its names.
            Some(_) => dirs.nearest_volume(&self.root, &self.volumes, &entry.path),
            None => dirs.volume(&self.root, &self.volumes, &entry.path),
        };
        let entered = volume.and_then(|volume| {
            let far = |errno| Blocked { dir: entry.path.as_bytes().to_vec(), errno };
            self.volumes.enter(id, &volume).map_err(far)?;
            Ok(volume)
        });
        let volume = match entered {
            Ok(volume) => volume,
            Err(blocked) => return obstacle(self.blocked(blocked)).map(Some),
        };
        if entry.kind != Kind::Dir {
            return self.prepare_file(dirs, id, &volume, entry);
        }
        if let Some(set) = &self.set {
            return self.add_dir(set, dirs, entry).or_else(obstacle).map(Some);
        }
        let (holder, name) = match dirs.parent(&self.root, &entry.path) {
            Ok(found) => found,
            Err(blocked) => return obstacle(self.blocked(blocked)).map(Some),
        };
        let is_new = || statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT);
        if self.incoming.quota.is_some()
            && is_new()
            && let Some(denied) = self.no_room(entry)
        {
            return Ok(Some(denied));
        }
        self.make_dir(&holder, name, entry)
            .or_else(|errno| obstacle(failed("create", self.place(&entry.path), errno)).map(Some))
    }

    /// A volume that cannot be written, or a file too large for it, costs the files concerned only.
    fn prepare_file(
        &self,
        dirs: &mut Dirs,
        id: EntryId,
        volume: &Volume,
        entry: &Entry,
    ) -> Result<Option<Lookup>> {
        if let Err(error) = self.staging(id) {
            let error = failed("write", self.place(&entry.path), error);
            return if error.is_read_only() {
                Ok(Some(Lookup::Denied(error.of_target())))
            } else {
                Err(error)
            };
        }
        if let Err(error) = self.lacks_quota(volume, entry) {
            return Ok(Some(Lookup::Denied(failed("write", self.place(&entry.path), error).of_target())));
        }
        if let Some(error) = self.lacks_space(dirs, volume, entry) {
            return Ok(Some(Lookup::Denied(error.of_target())));
        }
        // Last, so that what is refused takes no room.
        Ok(self.no_room(entry))
    }

    /// Takes room for a new entry without its content; why there is none.
    pub(super) fn no_room(&self, entry: &Entry) -> Option<Lookup> {
        let attributes = entry.meta.attributes.as_ref().map_or(0, |attributes| attributes.memory_bytes());
        let taken = self.incoming.take_entry().and_then(|()| self.incoming.take_room(attributes));
        let error = taken.err()?;
        Some(Lookup::Denied(failed("write", self.place(&entry.path), error).of_target()))
    }

    pub(super) fn make_dir(
        &self,
        holder: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> std::result::Result<Option<Lookup>, Errno> {
        let mode = Mode::from_raw_mode(entry.meta.mode & MODE_BITS) | Mode::RWXU;
        match mkdirat(holder, name, mode) {
            Ok(()) => return Ok(Some(Lookup::Free)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let stat = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Some(Lookup::Conflict));
        }
        let there = Mode::from_raw_mode(stat.st_mode & MODE_BITS);
        if !there.contains(Mode::WUSR | Mode::XUSR) {
            self.open_up(holder, name, &entry.path);
        }
        // Even if the directory was missing at the look-up.
        Ok(Some(THERE))
    }

    /// Gives an existing directory `u+rwx` until its end. It may be read-only because the source is, and an earlier
    /// transfer copied that. A failure is ignored here: the entries inside report it when they cannot be made.
    fn open_up(&self, holder: &OwnedFd, name: &[u8], path: &RelPath) {
        let mut opened = self.opened();
        if opened.len() >= OPENED_MAX || opened.contains_key(path) {
            return;
        }
        let Ok(dir) = open_dir(holder, name, OFlags::RDONLY) else { return };
        let Ok(stat) = fstat(&dir) else { return };
        let there = Mode::from_raw_mode(stat.st_mode & (MODE_BITS | SPECIAL_BITS));
        // Noted before the call, so that a receiver that is stopped in between restores the bits.
        opened.insert(path.clone(), Mode::from_raw_mode(stat.st_mode & MODE_BITS));
        if fchmod(&dir, there | Mode::RWXU).is_err() {
            opened.remove(path);
        }
    }
}
