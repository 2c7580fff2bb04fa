//! Completing sets whose receiver was stopped between their names.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::bounds::Bounds;
use super::descriptors::patiently;
use super::dirs::Dirs;
use super::incoming::Incoming;
use super::open::{open_dir, open_file};
use super::reveal::{SetPlace, reveal, stuck};
use super::set_log::{SET_LOG, SetReader, SetState, SetStep, set_state};
use super::staging::{LOCK, is_transfer, remove_staged};
use super::sys::disk::{fsync, unlinkat};
use super::target_dir::TargetDir;
use super::target_disk::TargetDisk;
use super::volumes::Volume;
use super::watch::Subject;
use crate::auth::Fingerprint;
use crate::event::Reporter;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::STAGING_DIR;
use crate::storage::error::{Result, failed};

/// Gives their names to the sets in `dir` whose receiver was stopped while it did so; removes what is left of sets that
/// get none. Nothing happens to a set whose receiver is alive. Tells of each set, and returns what is not as announced.
pub fn roll_forward(dir: &TargetDir, reporter: &Arc<dyn Reporter>) -> Result<Vec<NotKept>> {
    // What cannot be opened is reported by the transfer itself, or has never been a target.
    let Ok(top) = dir.open() else { return Ok(Vec::new()) };
    let Ok(hub) = open_dir(&top, STAGING_DIR.as_bytes(), OFlags::RDONLY) else { return Ok(Vec::new()) };
    let Ok(names) = patiently(|| Dir::read_from(&hub), || ()) else { return Ok(Vec::new()) };
    let mut not_kept = Vec::new();
    for entry in names.flatten() {
        let name = entry.file_name().to_bytes();
        let Some(transfer) = std::str::from_utf8(name).ok().filter(|name| is_transfer(name.as_bytes()))
        else {
            continue;
        };
        let Ok(Some((staged, lock))) = lock_staging(&hub, name) else { continue };
        match (set_state(&staged), beginning(&staged)) {
            (Ok(state @ (SetState::Complete | SetState::Incomplete)), Some((sender, sync, privileged))) => {
                let incoming = Incoming {
                    transfer: transfer.to_owned(),
                    sender: Fingerprint::from_bytes(sender),
                    sync,
                    atomic: true,
                    verify: false,
                    privileged,
                    only_looks: false,
                    quota: None,
                    bounds: Bounds::default(),
                    reporter: Arc::clone(reporter),
                };
                let disk = TargetDisk::open(dir, incoming)?;
                if state == SetState::Complete {
                    complete(&disk, &staged).map_err(stuck)?;
                    not_kept.append(&mut disk.not_kept());
                } else {
                    drop_inside(&disk, &staged);
                }
            }
            (Ok(SetState::Incomplete), None) => {}
            _ => continue,
        }
        clear(&hub, name, &staged, lock);
    }
    drop(hub);
    let _ = unlinkat(&top, STAGING_DIR, AtFlags::REMOVEDIR);
    Ok(not_kept)
}

fn complete(disk: &TargetDisk, staged: &OwnedFd) -> Result<()> {
    let call = disk.watch.begin("complete", Subject::Top);
    let log =
        SetReader::open(staged).map_err(|errno| failed("read the log of", disk.place_of_top(), errno))?;
    let inside = reveal(disk, &call, log)?;
    disk.close_all();
    if disk.sync {
        disk.sync_last()?;
    }
    for place in inside {
        clear_inside(disk, &place);
    }
    let dir = disk.place_of_top();
    disk.incoming.warn(format!(
        "completed an earlier transfer in {}: all of its files have their names now",
        dir.own()
    ));
    Ok(())
}

/// Who sent the set of a log, whether it was synced, and whether the sender may set privileged attributes.
fn beginning(staged: &OwnedFd) -> Option<([u8; 32], bool, bool)> {
    let mut log = SetReader::open(staged).ok()?;
    // Whoever may write into the target could make a log.
    let is_own = log.is_own();
    match log.next().ok()?? {
        SetStep::Begin { sender, sync, privileged, .. } => Some((sender, sync, privileged && is_own)),
        _ => None,
    }
}

/// Removes what a set that gets no names has staged on other file systems of the target.
fn drop_inside(disk: &TargetDisk, staged: &OwnedFd) {
    let Ok(mut log) = SetReader::open(staged) else { return };
    let mut dirs = Dirs::for_lookup();
    let mut known: Vec<Arc<Volume>> = Vec::new();
    while let Ok(Some(step)) = log.next() {
        let SetStep::Name { path, is_inside: true, .. } = step else { continue };
        let Ok(volume) = dirs.nearest_volume(&disk.root, &disk.volumes, &path) else { continue };
        let is_new = !known.iter().any(|known| Arc::ptr_eq(known, &volume));
        if !is_new || Arc::ptr_eq(&volume, disk.volumes.root()) {
            continue;
        }
        let name = disk.incoming.transfer.as_bytes();
        if let Ok(hub) = open_dir(volume.top(), STAGING_DIR.as_bytes(), OFlags::RDONLY)
            && let Ok(Some((staged, lock))) = lock_staging(&hub, name)
        {
            clear(&hub, name, &staged, lock);
            let _ = unlinkat(volume.top(), STAGING_DIR, AtFlags::REMOVEDIR);
        }
        known.push(volume);
    }
}

fn clear_inside(disk: &TargetDisk, place: &SetPlace) {
    let name = disk.incoming.transfer.as_bytes();
    if let Ok(lock) = open_file(&place.dir, LOCK.as_bytes()) {
        clear(&place.hub, name, &place.dir, lock);
        let _ = unlinkat(place.volume.top(), STAGING_DIR, AtFlags::REMOVEDIR);
    }
}

/// Opens the staging directory `name` and takes its lock; `None` if its receiver is alive.
fn lock_staging(hub: &OwnedFd, name: &[u8]) -> std::result::Result<Option<(OwnedFd, File)>, Errno> {
    let staged = open_dir(hub, name, OFlags::RDONLY)?;
    let lock = open_file(&staged, LOCK.as_bytes())?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some((staged, lock))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes a staging directory that nobody uses. The log goes before the directory, so that it is never done again.
fn clear(hub: &OwnedFd, name: &[u8], staged: &OwnedFd, lock: File) {
    remove_staged(staged);
    if unlinkat(staged, SET_LOG, AtFlags::empty()).is_ok() {
        let _ = fsync(staged.as_fd());
    }
    let _ = unlinkat(staged, LOCK, AtFlags::empty());
    drop(lock);
    let _ = unlinkat(hub, name, AtFlags::REMOVEDIR);
}
