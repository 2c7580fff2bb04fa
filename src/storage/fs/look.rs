//! Look-ups of final names of announced entries. They change nothing.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::attributes::meta_of;
use super::dirs::{Blocked, Dirs};
use super::existing::{look_at_file, look_at_link};
use super::kept_time::has_time;
use super::names_made::Folding;
use super::numbered::last_taken;
use super::target_disk::TargetDisk;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::limits::RENAME_TRIES_MAX;
use crate::storage::error::{Result, StorageError, failed};

/// An existing directory.
pub(super) const THERE: Lookup = Lookup::Same { number: 0, is_current: true };

impl TargetDisk {
    pub(super) fn look(
        &self,
        dirs: &mut Dirs,
        folding: &mut Folding,
        entry: &Entry,
        exists: Exists,
    ) -> Result<Lookup> {
        if self.is_missing {
            return Ok(if entry.kind == Kind::DirEnd { THERE } else { Lookup::Free });
        }
        let (holder, name) = match dirs.parent(&self.root, &entry.path) {
            Ok(found) => found,
            // It does not exist yet.
            Err(Blocked { errno: Errno::NOENT, .. }) => return Ok(Lookup::Free),
            Err(blocked) => return obstacle(self.blocked(blocked)),
        };
        let looked = match &entry.kind {
            Kind::Dir => look_at_dir(&holder, name, entry),
            Kind::DirEnd => Ok(THERE),
            Kind::File { size } => look_at_file(&holder, name, entry, Some(*size), exists)
                .map(|found| self.unless_unsure(dirs, folding, &holder, entry, found)),
            Kind::OpenEnded => look_at_file(&holder, name, entry, None, exists),
            Kind::Symlink { target } => {
                let found = look_at_link(&holder, name, entry, target, exists);
                found.inspect(|_| drop(dirs.volume(&self.root, &self.volumes, &entry.path)))
            }
        };
        looked.or_else(|errno| obstacle(failed("look up", self.place(&entry.path), errno)))
    }

    /// Has a file compared that is not surely unchanged.
    fn unless_unsure(
        &self,
        dirs: &mut Dirs,
        folding: &mut Folding,
        holder: &OwnedFd,
        entry: &Entry,
        found: Lookup,
    ) -> Lookup {
        if !matches!(found, Lookup::SameSize { is_unchanged: true, .. }) {
            return found;
        }
        // The sync at the end includes the volumes that are known by then.
        let is_known = dirs.volume(&self.root, &self.volumes, &entry.path).is_ok();
        // What is read for the comparison is synced as well. And where two names are one, it may be the other file.
        if !is_known
            || self.volumes.syncs_one_by_one()
            || folding.concerns(&self.root, dirs, holder, &entry.path)
        {
            return found.to_be_compared();
        }
        found
    }
}

impl TargetDisk {
    /// The name that `--exists rename` would give.
    pub(super) fn free_name(&self, dirs: &mut Dirs, path: &RelPath) -> Result<Option<RelPath>> {
        let (holder, _) = dirs.parent(&self.root, path).map_err(|blocked| self.blocked(blocked))?;
        let last = last_taken(&holder, path).map_err(|errno| failed("look up", self.place(path), errno))?;
        Ok(Some(last + 1)
            .filter(|number| *number <= RENAME_TRIES_MAX)
            .and_then(|number| path.numbered(number).ok()))
    }
}

fn look_at_dir(holder: &OwnedFd, name: &[u8], entry: &Entry) -> std::result::Result<Lookup, Errno> {
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let Meta { mode, mtime, attributes } = &entry.meta;
            let has_rest = meta_of(&stat).mode == *mode && attributes.is_none();
            let is_current = has_rest && has_time(holder, &stat, *mtime);
            Ok(Lookup::Same { number: 0, is_current })
        }
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::protocol::wire::entry::{Meta, Time};
    use crate::testing::disk::{incoming, rel_path};
    use crate::testing::host::skip;

    fn write_old(path: &Path) {
        fs::write(path, b"12345").unwrap();
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(7))
            .unwrap();
    }

    fn is_unchanged(disk: &TargetDisk, path: &str) -> bool {
        let meta = Meta { mode: 0o644, mtime: Time { seconds: 7, nanos: 0 }, ..Meta::default() };
        let entry = Entry { path: rel_path(path), meta, kind: Kind::File { size: 5 }, hole_bytes: 0 };
        let found = disk.look(&mut Dirs::for_lookup(), &mut Folding::default(), &entry, Exists::Replace);
        matches!(found.unwrap(), Lookup::SameSize { is_unchanged: true, .. })
    }

    /// A second name stands in for a file system that takes both spellings for one: there, the file may be the other one.
    #[test]
    fn a_file_with_another_spelling_is_compared() {
        let temp = tempfile::tempdir().unwrap();
        let disk = TargetDisk::open(&temp.path().into(), incoming(1, true)).unwrap();
        write_old(&temp.path().join("old"));
        assert!(is_unchanged(&disk, "old"));
        fs::hard_link(temp.path().join("old"), temp.path().join("OLD")).unwrap();
        assert!(!is_unchanged(&disk, "old"));
    }

    /// Files that nobody writes to are on it, and exit 0 says that they are durable.
    #[test]
    fn the_volume_of_an_unchanged_file_is_synced_at_the_end() {
        let Ok(temp) = tempfile::tempdir_in("/dev/shm") else { return skip("/dev/shm cannot be written") };
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if device(Path::new("/")) == device(temp.path()) {
            return skip("/dev/shm is not a file system of its own");
        }
        let disk = TargetDisk::open(&Path::new("/").into(), incoming(1, true)).unwrap();
        write_old(&temp.path().join("old"));
        assert_eq!(disk.volumes.all().len(), 1);
        is_unchanged(&disk, temp.path().join("old").to_str().unwrap().trim_start_matches('/'));
        assert!(disk.volumes.all().len() > 1);
    }
}
