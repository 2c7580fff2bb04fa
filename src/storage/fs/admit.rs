//! What is under the final names of announced entries; directories are made.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, mkdirat, statat};
use rustix::io::Errno;

use super::attributes::{MODE_BITS, SPECIAL_BITS};
use super::dirs::{Blocked, Dirs};
use super::existing::{look_at_file, look_at_link};
use super::open::open_dir;
use super::target_disk::TargetDisk;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::storage::error::{StorageError, failed};
use crate::storage::target::{Admission, OnConflict};

/// Directories that are opened up at the same time; more of them stay as they are.
const OPENED_MAX: usize = 16 * 1024;
/// A directory that is there.
const THERE: Admission = Admission::Same { number: 0, is_current: true };

impl TargetDisk {
    pub(super) fn admit(
        &self,
        dirs: &mut Dirs,
        id: EntryId,
        entry: &Entry,
        on_conflict: OnConflict,
    ) -> Admission {
        // Also of directories: what is made on a volume is synced at the end.
        let entered = dirs.volume(&self.root, &self.volumes, &entry.path).and_then(|volume| {
            let far = |errno| Blocked { dir: entry.path.as_bytes().to_vec(), errno };
            self.volumes.enter(id, &volume).map_err(far)
        });
        if let Err(blocked) = entered {
            return admission(self.blocked(blocked));
        }
        let (holder, name) = match dirs.parent(&self.root, &entry.path) {
            Ok(found) => found,
            Err(blocked) => return admission(self.blocked(blocked)),
        };
        let admitted = match &entry.kind {
            Kind::Dir => self.admit_dir(&holder, name, entry),
            Kind::DirEnd => Ok(THERE),
            Kind::File { size } => look_at_file(&holder, name, entry, *size, on_conflict),
            Kind::Symlink { target } => look_at_link(&holder, name, entry, target, on_conflict),
        };
        admitted.unwrap_or_else(|errno| {
            let op = if entry.kind == Kind::Dir { "create" } else { "look up" };
            admission(failed(op, self.place(&entry.path), errno))
        })
    }

    fn admit_dir(
        &self,
        holder: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> std::result::Result<Admission, Errno> {
        let mode = Mode::from_raw_mode(entry.meta.mode & MODE_BITS) | Mode::RWXU;
        match mkdirat(holder, name, mode) {
            Ok(()) => return Ok(Admission::Free),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let stat = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Admission::Conflict);
        }
        let there = Mode::from_raw_mode(stat.st_mode & MODE_BITS);
        if !there.contains(Mode::WUSR | Mode::XUSR) {
            self.open_up(holder, name, &entry.path);
        }
        Ok(THERE)
    }

    /// Makes a directory that is there, and may be read-only as the one sent is, writable until its end. If that does
    /// not work, what goes into it will say so.
    fn open_up(&self, holder: &OwnedFd, name: &[u8], path: &RelPath) {
        let mut opened = self.opened();
        if opened.len() >= OPENED_MAX || opened.contains_key(path) {
            return;
        }
        let Ok(dir) = open_dir(holder, name, OFlags::RDONLY) else { return };
        let Ok(stat) = fstat(&dir) else { return };
        let there = Mode::from_raw_mode(stat.st_mode & (MODE_BITS | SPECIAL_BITS));
        // Before the call, so that a receiver that is told to stop meanwhile gives it back.
        opened.insert(path.clone(), Mode::from_raw_mode(stat.st_mode & MODE_BITS));
        if fchmod(&dir, there | Mode::RWXU).is_err() {
            opened.remove(path);
        }
    }
}

fn admission(error: StorageError) -> Admission {
    match &error {
        _ if error.is_refusal() => Admission::Refused(error),
        _ if error.is_denial() => Admission::Denied(error),
        _ => Admission::Failed(error),
    }
}
