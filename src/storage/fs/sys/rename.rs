//! Renaming to a name that must be free.

use std::os::fd::OwnedFd;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::disk::renameat_with;

/// Renames `from` in `old` to `to` in `new`. Fails with `EXIST` if that name is taken.
pub(crate) fn rename_new(old: &OwnedFd, from: &str, new: &OwnedFd, to: &[u8]) -> Result<(), Errno> {
    renameat_with(old, from, new, to, RenameFlags::NOREPLACE)
}
