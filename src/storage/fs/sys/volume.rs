//! Which file system, and which mount, a directory is on.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FsWord, StatxFlags, fstat, fstatfs, statx};
use rustix::io::Errno;

/// What `statfs` calls FUSE.
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// Which volume a directory is on: its device, and its mount, which a device can have several of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VolumeId {
    device: u64,
    mount: u64,
}

impl VolumeId {
    /// The volume of an open directory.
    pub(crate) fn of(dir: impl AsFd) -> Result<Self, Errno> {
        match statx(&dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
            Ok(found) => {
                let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
                Ok(Self { device, mount: found.stx_mnt_id })
            }
            // Old kernels and containers do not have it.
            Err(_) => fstat(&dir).map(|stat| Self { device: stat.st_dev, mount: 0 }),
        }
    }
}

/// Whether the file system of `dir` is a program's.
pub(crate) fn is_fuse(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| found.f_type == FUSE_MAGIC)
}
