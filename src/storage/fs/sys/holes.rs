//! Finds the data and the holes of a file.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::protocol::wire::record::Run;

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
