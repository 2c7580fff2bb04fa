//! Look-ups of final names of announced entries. They change nothing.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::dirs::{Blocked, Dirs};
use super::existing::{look_at_file, look_at_link};
use super::target_disk::TargetDisk;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::wire::entry::{Entry, Kind};
use crate::storage::error::{Result, StorageError, failed};

/// An existing directory.
pub(super) const THERE: Lookup = Lookup::Same { number: 0, is_current: true };

impl TargetDisk {
    pub(super) fn look(&self, dirs: &mut Dirs, entry: &Entry, exists: Exists) -> Result<Lookup> {
        let (holder, name) = match dirs.parent(&self.root, &entry.path) {
            Ok(found) => found,
            // It does not exist yet.
            Err(Blocked { errno: Errno::NOENT, .. }) => return Ok(Lookup::Free),
            Err(blocked) => return obstacle(self.blocked(blocked)),
        };
        let looked = match &entry.kind {
            Kind::Dir => look_at_dir(&holder, name),
            Kind::DirEnd => Ok(THERE),
            Kind::File { size } => look_at_file(&holder, name, entry, Some(*size), exists).map(|found| {
                // What is read for the comparison is synced as well.
                if self.volumes.syncs_one_by_one() { found.to_be_compared() } else { found }
            }),
            Kind::OpenEnded => look_at_file(&holder, name, entry, None, exists),
            Kind::Symlink { target } => look_at_link(&holder, name, entry, target, exists),
        };
        looked.or_else(|errno| obstacle(failed("look up", self.place(&entry.path), errno)))
    }
}

fn look_at_dir(holder: &OwnedFd, name: &[u8]) -> std::result::Result<Lookup, Errno> {
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(THERE),
        Ok(_) => Ok(Lookup::Conflict),
        Err(Errno::NOENT) => Ok(Lookup::Free),
        Err(errno) => Err(errno),
    }
}

/// The outcome of `error` for an entry, unless the disk has failed.
pub(super) fn obstacle(error: StorageError) -> Result<Lookup> {
    match &error {
        _ if error.is_refusal() => Ok(Lookup::Refused(error.refusal())),
        _ if error.is_denial() => Ok(Lookup::Denied(error.of_target())),
        _ => Err(error),
    }
}
