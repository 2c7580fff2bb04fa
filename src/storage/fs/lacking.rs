//! What the sources have nothing under, so that it may be removed at the receiver.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, OFlags, fstat, statat};
use rustix::io::Errno;

use super::dirs::Dirs;
use super::open::open_dir;
use super::origin::{Origin, Origins};
use super::selection::{IgnoreFiles, Listed, Selection};
use crate::protocol::path::RelPath;

/// Whether nothing has this path in the sources, and it would be sent if there were. Whatever goes wrong, the answer is no.
pub(super) fn lacks(origins: &Origins, selection: &Selection, path: &RelPath, is_dir: bool) -> bool {
    let Ok(origin) = origins.of(path) else { return false };
    let start = origin.start();
    let Some(below) = path.as_bytes().get(start..).filter(|below| !below.is_empty()) else { return false };
    let is_listed = selection.listed(below) == Listed::Whole;
    is_listed
        && is_missing(origin, selection, path)
        && !is_left_out(origin, selection, path, is_dir).unwrap_or(true)
}

fn is_missing(origin: &Origin, selection: &Selection, path: &RelPath) -> bool {
    let Ok((base, name)) = origin.place() else { return false };
    let (holder, name) = match Dirs::for_lookup().parent_below(origin.top(&base, name), path) {
        Ok(found) => found,
        Err(blocked) => {
            // Something that is no directory may have the name of one: then there is nothing below it.
            let is_away = matches!(blocked.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
            return is_away && !selection.is_of_one_file_system();
        }
    };
    if selection.is_of_one_file_system() {
        // What is on another file system was not looked at.
        let devices = (fstat(&holder), origin.device());
        if !matches!(devices, (Ok(stat), Some(device)) if stat.st_dev == device) {
            return false;
        }
    }
    statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|errno| errno == Errno::NOENT)
}

/// Whether a filter leaves the path out, or a directory above it.
fn is_left_out(origin: &Origin, selection: &Selection, path: &RelPath, is_dir: bool) -> Result<bool, Errno> {
    let (bytes, start) = (path.as_bytes(), origin.start());
    let mut files: Vec<IgnoreFiles> = Vec::new();
    let mut dir = None;
    if selection.has_ignore_files() {
        let (base, name) = origin.place()?;
        let top = open_dir(&base, name, OFlags::RDONLY)?;
        files.push(IgnoreFiles::read(top.as_fd(), start).map_err(|_| Errno::IO)?);
        dir = Some(top);
    }
    let ends = (start..=bytes.len()).filter(|at| *at == bytes.len() || bytes[*at] == b'/');
    for end in ends {
        let is_last = end == bytes.len();
        let prefix = &bytes[..end];
        if selection.leaves_out(prefix, start, is_dir || !is_last, files.iter().rev()) {
            return Ok(true);
        }
        if let Some(holder) = dir.take().filter(|_| !is_last) {
            let name = prefix.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            match open_dir(&holder, name, OFlags::RDONLY) {
                Ok(below) => {
                    files.push(IgnoreFiles::read(below.as_fd(), end + 1).map_err(|_| Errno::IO)?);
                    dir = Some(below);
                }
                // It has no files with patterns.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(false)
}
