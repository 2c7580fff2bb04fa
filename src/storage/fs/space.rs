//! Refuses files that surely do not fit, before any of their bytes are sent.

use std::io;
use std::path::{self, Path};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstatfs, openat, statat, statvfs};

use super::attributes::{allocated_of, size_of};
use super::dirs::Dirs;
use super::sys::volume::stores_bytes_as_they_are;
use super::target_disk::TargetDisk;
use super::volumes::Volume;
use crate::protocol::path::STAGING_DIR;
use crate::protocol::wire::entry::Entry;
use crate::storage::error::{StorageError, failed};

/// Bytes that this process may write in `dir`, or in the nearest directory above it that exists; none if the system does
/// not tell.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let whole = path::absolute(dir).ok()?;
    let found = whole.ancestors().find_map(|part| statvfs(part).ok()).filter(|found| found.f_blocks > 0)?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

impl TargetDisk {
    /// Why a large file surely does not fit on its volume. It may take the place of what has its name, and what earlier
    /// transfers left of it counts as well. Nothing is sure on a file system that may compress or that lies elsewhere.
    pub(super) fn lacks_space(
        &self,
        dirs: &mut Dirs,
        volume: &Volume,
        entry: &Entry,
    ) -> Option<StorageError> {
        if entry.is_small() || entry.size() == 0 || !stores_bytes_as_they_are(volume.top()) {
            return None;
        }
        // A tmpfs without a limit has no blocks.
        let found = fstatfs(volume.top()).ok().filter(|found| found.f_blocks > 0)?;
        let free = found.f_bfree.saturating_mul(u64::try_from(found.f_bsize).ok()?);
        let needed = entry.size() - entry.hole_bytes.min(entry.size());
        if needed <= free || needed <= free.saturating_add(self.reusable(dirs, volume, entry)) {
            return None;
        }
        let why = format!("it needs {needed} bytes, and {free} bytes are free");
        Some(failed("write", self.place(&entry.path), std::io::Error::other(why)))
    }

    /// Whether a file surely does not fit into the quota of its sender. What earlier transfers left of it counts already.
    pub(super) fn lacks_quota(&self, volume: &Volume, entry: &Entry) -> io::Result<()> {
        let Some(quota) = &self.incoming.quota else { return Ok(()) };
        let needed = entry.size() - entry.hole_bytes.min(entry.size());
        let staged = if entry.is_small() { 0 } else { staged(volume) };
        quota.lacks(needed, staged)
    }

    /// Bytes under the final name and in staging, an upper bound of what need not be written again.
    fn reusable(&self, dirs: &mut Dirs, volume: &Volume, entry: &Entry) -> u64 {
        let existing = dirs.parent(&self.root, &entry.path).ok().and_then(|(holder, name)| {
            let stat = statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(size_of(&stat).max(allocated_of(&stat)))
        });
        existing.unwrap_or(0).saturating_add(staged(volume))
    }
}

/// Bytes in staging.
fn staged(volume: &Volume) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let staging = openat(volume.top(), STAGING_DIR, flags, Mode::empty()).and_then(Dir::new);
    let Ok(mut staging) = staging else { return 0 };
    let mut bytes = 0_u64;
    while let Some(Ok(name)) = staging.read() {
        let stat = staging.fd().and_then(|dir| statat(dir, name.file_name(), AtFlags::SYMLINK_NOFOLLOW));
        bytes = bytes.saturating_add(stat.map_or(0, |stat| allocated_of(&stat)));
    }
    bytes
}
