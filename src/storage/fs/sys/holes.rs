//! Finds the data and the holes of a file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, SeekFrom, fstat, seek};
use rustix::io::Errno;

use super::disk::{fallocate, write_all_at};
use crate::protocol::wire::record::Run;
use crate::storage::fs::attributes::allocated_of;

/// A run of data, unless it would be empty.
pub(crate) fn data(range: Range<u64>) -> Option<Run> {
    (!range.is_empty()).then_some(Run { len: range.end - range.start, is_hole: false })
}

/// Asks the file system where data lies. After `runs_max` runs, the rest counts as data: more bytes are sent, but
/// none are wrong.
pub(crate) fn find_runs(file: impl AsFd, range: Range<u64>, runs_max: usize) -> Result<Vec<Run>, Errno> {
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if runs.len() + 1 >= runs_max {
            runs.extend(data(at..range.end));
            break;
        }
        let data_start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start.clamp(at, range.end),
            Err(Errno::NXIO) => range.end, // no data from here to the end of the file
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at, // this file system does not tell
            Err(errno) => return Err(errno),
        };
        if data_start > at {
            runs.push(Run { len: data_start - at, is_hole: true });
            at = data_start;
            continue;
        }
        let data_end = match seek(&file, SeekFrom::Hole(at)) {
            Ok(end) if end > at => end.min(range.end),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => range.end,
            Err(errno) => return Err(errno),
        };
        runs.extend(data(at..data_end));
        at = data_end;
    }
    Ok(runs)
}

/// Bytes of a file that were made zeros, and how many the disk has free again by that.
pub(crate) struct Cleared {
    pub(crate) range: Range<u64>,
    pub(crate) freed_bytes: u64,
}

/// Makes the bytes of `range` zeros, as far as the file has them.
pub(crate) fn clear(file: &File, range: Range<u64>) -> io::Result<Cleared> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let before = allocated_of(&fstat(file)?);
    match fallocate(file, flags, range.start, range.end - range.start) {
        Ok(()) => {
            let freed_bytes = before.saturating_sub(allocated_of(&fstat(file)?));
            return Ok(Cleared { freed_bytes: freed_bytes.min(range.end - range.start), range });
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let zeros = [0; 16 * 1024];
    let (mut at, end) = (range.start, range.end.min(file.metadata()?.len()));
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
        write_all_at(file, &zeros[..len], at)?;
        at += len as u64;
    }
    Ok(Cleared { range, freed_bytes: 0 })
}
