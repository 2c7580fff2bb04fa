//! Making durable what has been written of entries that are not complete yet.

use rustix::io::Errno;

use super::target_disk::TargetDisk;
use super::volumes::Synced;
use super::watch::Subject;
use crate::protocol::wire::entry::EntryId;
use crate::storage::error::{Result, failed};

/// Syncs the data of staged entries, then their names in staging. One answer for each: whether it is durable now.
pub(super) fn checkpoint(disk: &TargetDisk, ids: &[EntryId]) -> Vec<Result<bool>> {
    if !disk.sync {
        return ids.iter().map(|_| Ok(false)).collect();
    }
    let call = disk.watch.begin("sync", Subject::Top);
    let checkpoint = |id: &EntryId| {
        call.step("sync", Subject::Staged(*id));
        match sync_entry(disk, *id) {
            Ok(Synced::Yes) => Ok(true),
            Ok(Synced::Lacking(_)) => Ok(false),
            Err(errno) => Err(failed("sync", disk.place_staged(*id), errno)),
        }
    };
    ids.iter().map(checkpoint).collect()
}

fn sync_entry(disk: &TargetDisk, id: EntryId) -> std::result::Result<Synced, Errno> {
    let volume = disk.volumes.of(id);
    // Nothing has been written.
    let Some(staging) = volume.made_staging() else { return Ok(Synced::Yes) };
    if let Some(mut unsynced) = staging.unsynced(id)? {
        let synced = match unsynced.file.take() {
            Some(file) => volume.sync_data(&file),
            None => staging.reopen(id).and_then(|file| volume.sync_data(file)),
        };
        match synced {
            Ok(Synced::Yes) => unsynced.note_durable(),
            Ok(Synced::Lacking(errno)) => return Ok(Synced::Lacking(errno)),
            Err(errno) => {
                staging.lost(id, errno);
                return Err(errno);
            }
        }
    }
    if let Some((dirs, unsynced)) = staging.unsynced_names() {
        for dir in dirs {
            if let Synced::Lacking(errno) = volume.sync(dir)? {
                return Ok(Synced::Lacking(errno));
            }
        }
        unsynced.note_durable();
    }
    Ok(Synced::Yes)
}
