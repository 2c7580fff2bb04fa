//! Which file system, and which mount, a directory is on.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FsWord, StatxFlags, fstat, fstatfs, statx};
use rustix::io::Errno;

/// The type that `statfs` reports for FUSE.
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// The types of ext2 to ext4, XFS, tmpfs and FAT.
const PLAIN_MAGICS: [FsWord; 4] = [0xef53, 0x5846_5342, 0x0102_1994, 0x4d44];

/// The volume that a directory is on: its device and its mount. A device can be mounted several times.
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
            // Old kernels and containers do not report the mount.
            Err(_) => fstat(&dir).map(|stat| Self { device: stat.st_dev, mount: 0 }),
        }
    }
}

/// Whether the file system of `dir` is FUSE, so that a program implements it.
pub(crate) fn is_fuse(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| found.f_type == FUSE_MAGIC)
}

/// Whether a file takes at least the space of its bytes on the file system of `dir`: ext2 to ext4, XFS, tmpfs, FAT.
/// Others may compress, or are not on this machine.
pub(crate) fn stores_bytes_as_they_are(dir: impl AsFd) -> bool {
    fstatfs(dir).is_ok_and(|found| PLAIN_MAGICS.contains(&found.f_type))
}

/// The mount that `dir` is on, by a number that no other mount gets before the next start of the system (Linux 6.8).
pub(crate) fn unique_mount(dir: impl AsFd) -> Option<u64> {
    // `STATX_MNT_ID_UNIQUE`; rustix does not name it.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let found = statx(&dir, "", AtFlags::EMPTY_PATH, unique).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask).contains(unique).then_some(found.stx_mnt_id)
}
