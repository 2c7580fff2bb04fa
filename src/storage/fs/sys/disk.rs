//! The calls that change the disk of a receiver or sync it, and what tells one start of the system from another. Tests
//! of the crate replace this file by `simulated.rs`, a disk whose power can fail.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

pub(crate) use rustix::fs::{
    fallocate, fdatasync, fsync, ftruncate, linkat, mkdirat, openat, renameat, renameat_with, symlinkat,
    syncfs, unlinkat,
};

/// Changes with each start of the system.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Writes all `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// The text that identifies this start of the system.
pub(crate) fn boot_id() -> io::Result<String> {
    fs::read_to_string(BOOT_ID_FILE)
}

/// The mount that `dir` is on, by a number that no other mount gets before the next start of the system.
pub(crate) fn mount_of(dir: impl AsFd) -> Option<u64> {
    super::volume::unique_mount(dir)
}
