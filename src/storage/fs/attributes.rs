//! Conversions between the system's metadata of a file and the attributes of an entry.

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};

use crate::protocol::wire::entry::{Meta, Time};

/// Permission bits that are sent.
pub(super) const MODE_BITS: u32 = 0o777;
/// Set-user-id, set-group-id and sticky bits, which are sent on request only.
pub(super) const SPECIAL_BITS: u32 = 0o7000;
/// The size that files of /sys claim.
const PAGE_BYTES: u64 = 4096;

pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Bytes that a file takes on its disk.
pub(super) fn allocated_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// Device and inode.
pub(super) fn identity_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

pub(super) fn meta_of(stat: &Stat) -> Meta {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Meta { mode: stat.st_mode & MODE_BITS, mtime: Time { seconds: stat.st_mtime, nanos }, attributes: None }
}

/// Sets the modification time and keeps the access time.
pub(super) fn timestamps(mtime: Time) -> Timestamps {
    // Numbers above 999,999,999 have special meanings, such as "now".
    let tv_nsec = i64::from(mtime.nanos.min(999_999_999));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec },
    }
}

/// Whether the size may be unrelated to the content: files of /proc have size 0, those of /sys the size of a page.
pub(super) fn may_be_wrong(stat: &Stat) -> bool {
    let size = size_of(stat);
    size == 0 || (stat.st_blocks == 0 && size == PAGE_BYTES)
}
