//! The kernel's page cache.

use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

/// Asks the kernel to drop the cached pages of a file, so that the next read comes from the disk.
pub(crate) fn forget(file: impl AsFd) -> Result<(), Errno> {
    fadvise(file, 0, None, Advice::DontNeed)
}
