//! Partial files that interrupted transfers have left: finding, listing and removing them.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::attributes::size_of;
use super::journal::{Chunking, JournalIdentity, JournalState};
use super::journal_file::{Journal, recorded_bytes};
use super::open::{open_dir, open_file};
use super::partial_names::{PartialName, find_partials};
use super::sys::disk::unlinkat;
use crate::auth::Fingerprint;
use crate::event::{PartialFile, PartialState};
use crate::protocol::path::{STAGING_DIR, printable};
use crate::protocol::place::Place;
use crate::storage::error::{Result, failed};

/// A partial file that nobody has gone on with for this long is removed by the next receiver.
const AGE_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The partial files in the target directory `dir`, the oldest first. Nothing is changed.
pub fn list_partials(dir: &Path) -> Result<Vec<PartialFile>> {
    let Some(hub) = open_hub(dir)? else { return Ok(Vec::new()) };
    let names = find_partials(&hub).map_err(|errno| failed("list", place(dir), errno))?;
    let mut found: Vec<_> = names.iter().filter_map(|name| look(&hub, name)).collect();
    found.sort_by(|one, other| other.age.cmp(&one.age).then_with(|| one.path.cmp(&other.path)));
    Ok(found)
}

/// Removes the partial files in the target directory `dir` that are at least `age` old, and the staging directory if
/// nothing else is in it. Returns what it removed, and what is in use.
pub fn discard_partials(dir: &Path, age: Duration) -> Result<Vec<PartialFile>> {
    let Some(hub) = open_hub(dir)? else { return Ok(Vec::new()) };
    let names = find_partials(&hub).map_err(|errno| failed("list", place(dir), errno))?;
    let mut found = Vec::new();
    for name in names {
        let Some(partial) = glance(&hub, &name).and_then(Found::partial) else { continue };
        if partial.age < age {
            continue;
        }
        let state = match name.lock(&hub, false) {
            Ok(Some(_lock)) => name.remove(&hub).map(|()| PartialState::Removed),
            Ok(None) => Ok(PartialState::InUse),
            Err(errno) => Err(errno),
        };
        let place = || Place::target_directory(shown(dir, &name.data()));
        let state = state.map_err(|errno| failed("remove", place(), errno))?;
        found.push(PartialFile { state, ..partial });
    }
    drop(hub);
    let _ = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|dir| unlinkat(dir, STAGING_DIR, AtFlags::REMOVEDIR));
    Ok(found)
}

/// Removes what is too old or not whole from `hub`; `warn` takes a line about each file that could have been resumed.
/// Returns the names of the others.
pub(super) fn clean(hub: &OwnedFd, warn: impl Fn(String)) -> HashSet<PartialName> {
    let names = find_partials(hub).unwrap_or_default();
    names.into_iter().filter(|name| !clean_one(hub, name, &warn)).collect()
}

/// Whether the file was removed.
fn clean_one(hub: &OwnedFd, name: &PartialName, warn: impl Fn(String)) -> bool {
    if glance(hub, name).is_some_and(|found| found.age <= AGE_MAX) {
        return false;
    }
    // A file without a journal gets an empty one, so that nobody begins to use it meanwhile.
    let Ok(Some(_lock)) = name.lock(hub, true) else { return false };
    // Another receiver may have used it before the lock was taken.
    let found = glance(hub, name);
    if found.as_ref().is_some_and(|found| found.age <= AGE_MAX) {
        return false;
    }
    let partial = found.and_then(Found::partial);
    if name.remove(hub).is_err() {
        return false;
    }
    if let Some(PartialFile { path, safe_bytes, age, .. }) = partial {
        let days = age.as_secs() / (24 * 60 * 60);
        warn(format!(
            "removed {safe_bytes} bytes of {path}, left {days} days ago by an interrupted transfer"
        ));
    }
    true
}

/// What is under a name, at first sight.
struct Found {
    identity: JournalIdentity,
    state: JournalState,
    journal: File,
    data_bytes: u64,
    age: Duration,
}

/// `None` if it cannot be resumed.
fn glance(hub: &OwnedFd, name: &PartialName) -> Option<Found> {
    let journal = open_file(hub, name.journal().as_bytes()).ok()?;
    let about = journal.metadata().ok().filter(Metadata::is_file)?;
    let data = statat(hub, name.data(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    // One with a second name has its final name already.
    let is_file = FileType::from_raw_mode(data.st_mode) == FileType::RegularFile && data.st_nlink == 1;
    let (identity, state) = Journal::read(&journal).ok().flatten().filter(|_| is_file)?;
    if *name != PartialName::new(&Fingerprint::from_bytes(identity.sender), &identity.path) {
        return None;
    }
    let age = about.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    Some(Found { identity, state, journal, data_bytes: size_of(&data), age: age.unwrap_or_default() })
}

impl Found {
    fn partial(self) -> Option<PartialFile> {
        let Self { identity, state, journal, data_bytes, age } = self;
        let chunks = Chunking { size: state.size, log2: identity.chunk_log2 };
        let safe_bytes = recorded_bytes(&journal, chunks, data_bytes).ok()?;
        let sender = Fingerprint::from_bytes(identity.sender).to_string();
        let (path, size) = (identity.path, state.size);
        Some(PartialFile { sender, path, safe_bytes, size, age, state: PartialState::Kept })
    }
}

fn look(hub: &OwnedFd, name: &PartialName) -> Option<PartialFile> {
    let partial = glance(hub, name)?.partial()?;
    let state = match name.lock(hub, false) {
        Ok(None) => PartialState::InUse,
        _ => PartialState::Kept,
    };
    Some(PartialFile { state, ..partial })
}

/// The staging directory of `dir`, if there is one.
fn open_hub(dir: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, dir, flags, Mode::empty()).map_err(|errno| {
        failed("open", Place::target_directory(printable(dir.as_os_str().as_bytes())), errno)
    })?;
    match open_dir(&top, STAGING_DIR.as_bytes(), OFlags::RDONLY) {
        Ok(hub) => Ok(Some(hub)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("open", place(dir), errno)),
    }
}

fn place(dir: &Path) -> Place {
    Place::target_directory(shown(dir, ""))
}

fn shown(dir: &Path, name: &str) -> String {
    let path = dir.join(STAGING_DIR).join(name);
    printable(path.as_os_str().as_bytes()).trim_end_matches('/').to_owned()
}
