//! Renaming to a name that must be free.

use std::os::fd::OwnedFd;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

/// Renames `from` of `old` to `to` of `new`, where nothing may be; `EXIST` if something is.
pub(crate) fn rename_new(old: &OwnedFd, from: &str, new: &OwnedFd, to: &[u8]) -> Result<(), Errno> {
    renameat_with(old, from, new, to, RenameFlags::NOREPLACE)
}
