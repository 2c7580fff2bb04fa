//! Opening one name of an open directory, never through a link.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::descriptors::patiently;

/// Opens the directory `name` of `holder`; fails when it is a link.
pub(super) fn open_dir(holder: impl AsFd, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    patiently(|| try_open_dir(&holder, name, access), || ())
}

/// The same, but fails without a free descriptor.
pub(super) fn try_open_dir(holder: impl AsFd, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(holder, name, flags, Mode::empty())
}

/// Opens `name` of `holder` to read it; fails when it is a link.
pub(super) fn open_file(holder: impl AsFd, name: &[u8]) -> Result<File, Errno> {
    // If a FIFO has replaced the file, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(holder, name, flags, Mode::empty()).map(File::from)
}
