//! The memory that the kernel keeps of files.

use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

/// Asks the kernel to forget what it keeps of a file, so that the next reading is of the disk.
pub(crate) fn forget(file: impl AsFd) -> Result<(), Errno> {
    fadvise(file, 0, None, Advice::DontNeed)
}
