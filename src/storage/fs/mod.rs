//! The file system.
//!
//! Every access is relative to an open directory and goes down one component at a time without following links,
//! so that nothing outside the source or the target is reached, whatever is swapped meanwhile. Calls into the
//! kernel that may block run on tokio's blocking threads, one hop for a batch; those for blocks of large files where
//! [`calls`] says.

mod calls;
mod commit;
mod descriptors;
mod dirs;
mod existing;
mod numbered;
mod origin;
pub mod sample;
mod source;
mod staging;
mod target;
#[cfg(test)]
mod tests;
mod volumes;
mod walk;
mod watch;

use std::io;

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

pub use self::source::{FsFile, FsSource};
pub use self::target::{FsTarget, check_target};
use super::StorageError;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Meta, Time};

/// Permission bits that travel.
const MODE_BITS: u32 = 0o777;
/// Set-user-id, set-group-id and sticky, which do not.
const SPECIAL_BITS: u32 = 0o7000;

fn failed(op: &'static str, place: Place, source: impl Into<io::Error>) -> StorageError {
    StorageError { op, place, source: source.into() }
}

/// Whether an error says that a file system cannot keep something, rather than that it has failed: the content is
/// what counts, so that is only told.
fn is_lacking(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY
    )
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Device and inode.
fn identity_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn meta_of(stat: &Stat) -> Meta {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Meta { mode: stat.st_mode & MODE_BITS, mtime: Time { seconds: stat.st_mtime, nanos } }
}

/// Sets the modification time and leaves the other alone.
fn timestamps(mtime: Time) -> Timestamps {
    // Above 999,999,999 lie numbers with a meaning of their own, "now" among them.
    let tv_nsec = i64::from(mtime.nanos.min(999_999_999));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec },
    }
}
