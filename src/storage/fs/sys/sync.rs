//! Syncing a whole file system with one call.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat, syncfs};
use rustix::io::Errno;

use super::disk;
use super::open::LOOKUP;
use super::volume::is_fuse;

/// Syncs everything on the file system of an open file or directory.
pub(crate) fn sync_all(fd: impl AsFd) -> Result<(), Errno> {
    disk::syncfs(fd)
}

/// Whether that works for the file system of the directory `dir`.
pub(crate) fn can_sync_all(dir: impl AsFd) -> bool {
    // For FUSE, the kernel reports success without asking the daemon, so nothing has been written.
    if is_fuse(&dir) {
        return false;
    }
    // A kernel that has the call answers EBADF to an `O_PATH` descriptor.
    let flags = LOOKUP | OFlags::CLOEXEC;
    openat(&dir, ".", flags, Mode::empty()).and_then(syncfs) == Err(Errno::BADF)
}
