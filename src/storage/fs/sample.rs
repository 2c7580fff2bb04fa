//! Sample files of a bench, written to be read again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::sys::cache::forget;
use super::sys::sync::sync_all;
use crate::protocol::path::printable;
use crate::protocol::place::Place;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::storage::error::{Result, StorageError, failed};
use crate::storage::void::{DIR, Noise, Workload, name};

/// The disk space of the smallest file on most file systems.
const CLUSTER_BYTES: u64 = 4096;

/// Bytes that an unprivileged user can still write to the file system of `dir`.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = statvfs(dir).map_err(|errno| failed("look at the space of", shown(dir), errno))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Disk space of one copy of the files of `workload`.
pub fn disk_bytes(workload: &Workload) -> u64 {
    let file_bytes = workload.file_bytes.next_multiple_of(CLUSTER_BYTES);
    workload.files.saturating_mul(file_bytes)
}

/// Writes the files of `workload` below `dir` and returns their directory. The files are then on the disk and, if the
/// system cooperates, no longer in memory, so reading them measures the disk. Stops with `ErrorKind::Interrupted`
/// when `is_stopped` says so.
pub fn write_sample(dir: &Path, workload: &Workload, is_stopped: impl Fn() -> bool) -> Result<PathBuf> {
    let into = dir.join(DIR);
    fs::create_dir(&into).map_err(|error| failed("create", shown(&into), error))?;
    let mut block = vec![0; BLOCK_BYTES];
    Noise::new().fill(0, &mut block);
    for number in 0..workload.files {
        let path = into.join(name(number));
        write_file(&path, workload.file_bytes, &block, &is_stopped).map_err(|source| StorageError {
            op: "write",
            place: shown(&path),
            source,
            entry: None,
        })?;
    }
    let synced = File::open(&into).and_then(|dir| Ok(sync_all(dir)?));
    synced.map_err(|error| failed("sync", shown(&into), error))?;
    for number in 0..workload.files {
        // If this is unsupported, the disk only seems as fast as memory.
        let _ = File::open(into.join(name(number))).map(forget);
    }
    Ok(into)
}

fn write_file(path: &Path, bytes: u64, block: &[u8], is_stopped: impl Fn() -> bool) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let mut left = bytes;
    while left > 0 {
        if is_stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..len])?;
        left -= len as u64;
    }
    Ok(())
}

fn shown(path: &Path) -> Place {
    Place::new(printable(path.as_os_str().as_bytes()), "the files of a bench")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_sample_is_what_it_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let workload = Workload { files: 3, file_bytes: BLOCK_BYTES as u64 + 1 };
        let into = write_sample(dir.path(), &workload, || false).unwrap();
        let mut sizes = Vec::new();
        for entry in fs::read_dir(into).unwrap() {
            sizes.push(entry.unwrap().metadata().unwrap().len());
        }
        assert_eq!(sizes, [workload.file_bytes; 3]);
        assert_eq!(disk_bytes(&workload), 3 * (BLOCK_BYTES as u64 + 4096));
    }

    #[test]
    fn a_sample_stops_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Cell::new(0);
        let stopped = write_sample(dir.path(), &Workload { files: 9, file_bytes: 1 }, || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        });
        assert_eq!(stopped.unwrap_err().source.kind(), io::ErrorKind::Interrupted);
        assert_eq!(fs::read_dir(dir.path().join(DIR)).unwrap().count(), 3);
    }

    #[test]
    fn free_space_is_known_where_there_is_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        let error = free_bytes(&dir.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
