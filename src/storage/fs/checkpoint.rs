//! Makes the written data of incomplete entries durable.

use std::sync::Arc;

use rustix::io::Errno;

use super::staged_files::Unsynced;
use super::target_disk::TargetDisk;
use super::volumes::{FSYNC_MAX, Synced, Volume};
use super::watch::{Call, Subject};
use crate::protocol::wire::entry::EntryId;
use crate::storage::error::{Result, failed};

/// Syncs the data of staged entries, then their names in staging. One answer for each: whether it is durable now.
pub(super) fn checkpoint(disk: &TargetDisk, ids: &[EntryId]) -> Vec<Result<bool>> {
    if !disk.sync {
        return ids.iter().map(|_| Ok(false)).collect();
    }
    let call = disk.watch.begin("sync", Subject::Top);
    sync_volumes(disk, &call, ids);
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

/// Syncs a whole volume with one call if more than [`FSYNC_MAX`] of the entries on it are not durable. The call
/// includes everything else staged there, so later checkpoints have less to do. Volumes without such a call are left
/// out.
fn sync_volumes(disk: &TargetDisk, call: &Call<'_>, ids: &[EntryId]) {
    let mut volumes: Vec<(Arc<Volume>, Vec<EntryId>)> = Vec::new();
    for id in ids {
        let volume = disk.volumes.of(*id);
        let Some(staging) = volume.made_staging().filter(|_| !volume.lacks_syncfs()) else { continue };
        if let Ok(Some(_)) = staging.unsynced(*id) {
            match volumes.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &volume)) {
                Some((_, ids)) => ids.push(*id),
                None => volumes.push((volume, vec![*id])),
            }
        }
    }
    for (volume, ids) in volumes.iter().filter(|(_, ids)| ids.len() > FSYNC_MAX) {
        let Some(staging) = volume.made_staging() else { continue };
        call.step("sync", Subject::Staged(ids[0]));
        let unsynced = staging.all_unsynced();
        match volume.sync_all() {
            Ok(Synced::Yes) => unsynced.into_iter().for_each(Unsynced::note_durable),
            // The caller syncs the entries one by one.
            Ok(Synced::Lacking(_)) => {}
            Err(errno) => ids.iter().for_each(|id| staging.lost(*id, errno)),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::sys::sync::can_sync_all;
    use crate::testing::host::skip;

    const TRANSFER: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn one_sync_of_the_volume_makes_many_files_durable() {
        let temp = tempfile::tempdir().unwrap();
        let disk = TargetDisk::open(temp.path(), TRANSFER, true).unwrap();
        if !can_sync_all(&disk.root) {
            return skip("no call syncs all of the file system");
        }
        let many: Vec<_> = (0..=FSYNC_MAX as u64).map(EntryId).collect();
        let other = EntryId(1000);
        let staging = disk.staging(other).unwrap();
        for id in many.iter().chain([&other]) {
            staging.open(*id).unwrap().write_at(b"bytes", 0).unwrap();
        }
        let is_durable = |id| staging.unsynced(id).unwrap().is_none();
        let few = &many[..FSYNC_MAX];
        assert!(checkpoint(&disk, few).into_iter().all(|durable| durable.unwrap()));
        assert!(few.iter().all(|id| is_durable(*id)));
        assert!(!is_durable(many[FSYNC_MAX]) && !is_durable(other), "few are synced one by one");

        for id in few {
            staging.open(*id).unwrap().write_at(b"again", 0).unwrap();
        }
        assert!(checkpoint(&disk, &many).into_iter().all(|durable| durable.unwrap()));
        assert!(many.iter().all(|id| is_durable(*id)));
        assert!(is_durable(other), "many are synced with all that is staged");
        assert!(staging.unsynced_names().is_none());
    }
}
