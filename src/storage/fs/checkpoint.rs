//! Makes the written data of incomplete entries durable.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::partial::Partial;
use super::staged_files::Unsynced;
use super::staging::Staging;
use super::target_disk::TargetDisk;
use super::volumes::{FSYNC_MAX, Synced, Volume};
use super::watch::{Call, Subject};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::EntryId;
use crate::storage::error::{Result, failed};

/// Syncs the data of staged entries, then their names in staging, then records the chunks of those that can be
/// resumed. One answer for each: whether the data is durable now.
pub(super) fn checkpoint(disk: &TargetDisk, entries: Vec<(EntryId, Vec<ChunkValue>)>) -> Vec<Result<bool>> {
    let call = disk.watch.begin("sync", Subject::Top);
    let mut ids = Vec::with_capacity(entries.len());
    let mut begun = Vec::with_capacity(entries.len());
    for (id, values) in entries {
        call.step("prepare a checkpoint of", Subject::Staged(id));
        ids.push(id);
        begun.push(begin_records(disk, id, values));
    }
    let lost = if disk.sync { sync_volumes(disk, &call, &ids) } else { Vec::new() };
    let end = |(id, begun)| {
        let error_of_all = lost.iter().find(|(lost, _)| *lost == id).map(|(_, errno)| *errno);
        end_records(disk, &call, id, begun, error_of_all)
    };
    ids.into_iter().zip(begun).map(end).collect()
}

fn end_records(
    disk: &TargetDisk,
    call: &Call<'_>,
    id: EntryId,
    begun: io::Result<Option<Recording>>,
    error_of_all: Option<Errno>,
) -> Result<bool> {
    let recording = begun.map_err(|error| failed("write", disk.place_staged(id), error).about(id))?;
    call.step("sync", Subject::Staged(id));
    let synced = match error_of_all {
        Some(errno) => Err(NotSynced::All(errno)),
        None if disk.sync => sync_entry(disk, id).map(|s| s == Synced::Yes),
        None => Ok(false),
    };
    if let Some(recording) = recording {
        call.step("write the journal of", Subject::Staged(id));
        // Nothing is synced of an entry that was given up meanwhile, and of no entry after an abort.
        let is_staged = recording.is_staged(disk, id);
        recording.end(synced.as_ref().ok().copied().filter(|_| is_staged));
    }
    synced.map_err(|error| match error {
        NotSynced::Entry(errno) => failed("sync", disk.place_staged(id), errno).about(id),
        NotSynced::All(errno) => failed("sync", disk.place_staged(id), errno),
    })
}

/// The error of a sync.
enum NotSynced {
    /// Of one staged file.
    Entry(Errno),
    /// Of more than one: a file system, or the directories of staging.
    All(Errno),
}

/// Chunks of an entry that get a record when they are durable.
struct Recording {
    staging: Arc<Staging>,
    partial: Arc<Partial>,
    values: Vec<ChunkValue>,
}

impl Recording {
    /// Whether the entry is still staged here.
    fn is_staged(&self, disk: &TargetDisk, id: EntryId) -> bool {
        let is_it = |partial| Arc::ptr_eq(&partial, &self.partial);
        disk.volumes.of(id).made_staging().and_then(|staging| staging.partials.of(id)).is_some_and(is_it)
    }

    /// Records the chunks, unless their sync failed. Without syncs too: the data outlives this process.
    fn end(self, is_durable: Option<bool>) {
        if let Err(error) = self.partial.end_checkpoint(self.values, is_durable) {
            self.staging.partials.cannot("keep a journal", &error);
        }
    }
}

fn begin_records(disk: &TargetDisk, id: EntryId, values: Vec<ChunkValue>) -> io::Result<Option<Recording>> {
    let Some(staging) = disk.volumes.of(id).made_staging() else { return Ok(None) };
    if values.is_empty() || !staging.partials.is_for(id) {
        return Ok(None);
    }
    let file = staging.open(id)?;
    // It may have been discarded meanwhile, or its journal could not be made.
    let Some(partial) = staging.partials.of(id) else { return Ok(None) };
    if partial.begin_checkpoint(file.content(), &values)? {
        file.resized();
    }
    Ok(Some(Recording { staging, partial, values }))
}

/// Syncs a whole volume with one call if more than [`FSYNC_MAX`] of the entries on it are not durable. The call
/// includes everything else staged there, so later checkpoints have less to do. Volumes without such a call are left
/// out. Returns the entries whose volume could not be synced.
fn sync_volumes(disk: &TargetDisk, call: &Call<'_>, ids: &[EntryId]) -> Vec<(EntryId, Errno)> {
    let mut lost = Vec::new();
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
            Err(errno) => {
                ids.iter().for_each(|id| staging.lost(*id, errno));
                lost.extend(ids.iter().map(|id| (*id, errno)));
            }
        }
    }
    lost
}

fn sync_entry(disk: &TargetDisk, id: EntryId) -> std::result::Result<Synced, NotSynced> {
    let volume = disk.volumes.of(id);
    // Nothing has been written.
    let Some(staging) = volume.made_staging() else { return Ok(Synced::Yes) };
    if let Some(mut unsynced) = staging.unsynced(id).map_err(NotSynced::Entry)? {
        let synced = match unsynced.file.take() {
            Some(file) => volume.sync_data(&file),
            None => staging.reopen(id).and_then(|file| volume.sync_data(file)),
        };
        match synced {
            Ok(Synced::Yes) => unsynced.note_durable(),
            Ok(Synced::Lacking(errno)) => return Ok(Synced::Lacking(errno)),
            Err(errno) => {
                staging.lost(id, errno);
                return Err(NotSynced::Entry(errno));
            }
        }
    }
    sync_names(&staging, &volume).map_err(NotSynced::All)
}

/// Syncs the directories of staging, if names in them are not durable.
pub(super) fn sync_names(staging: &Staging, volume: &Volume) -> std::result::Result<Synced, Errno> {
    if let Some((dirs, unsynced)) = staging.unsynced_names() {
        for dir in dirs {
            if let Synced::Lacking(errno) = volume.sync(dir)? {
                return Ok(Synced::Lacking(errno));
            }
        }
        unsynced.into_iter().for_each(Unsynced::note_durable);
    }
    Ok(Synced::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fingerprint;
    use crate::protocol::engine::plan::ChunkSet;
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::entry::{Entry, Kind, Meta};
    use crate::storage::fs::partial::PartialFor;
    use crate::storage::fs::sys::sync::can_sync_all;
    use crate::testing::disk::incoming;
    use crate::testing::host::skip;

    #[test]
    fn an_entry_that_is_given_up_during_its_checkpoint_gets_no_record() {
        let (temp, id) = (tempfile::tempdir().unwrap(), EntryId(0));
        let kind = Kind::File { size: 3 << 20 };
        let path = RelPath::new(b"big").unwrap();
        let entry = Entry { path, meta: Meta::default(), kind, hole_bytes: 0 };
        let wanted = PartialFor::new(&Fingerprint::from_bytes([1; 32]), &entry, 20).unwrap();
        let held = |disk: &TargetDisk| disk.staging(id).unwrap().resume(id, wanted.clone()).unwrap();
        let value = |index| ChunkValue { index, value: [7; 32] };

        let disk = TargetDisk::open(&temp.path().into(), incoming(1, true)).unwrap();
        assert!(held(&disk).is_empty());
        let write = |index: u64| {
            disk.staging(id).unwrap().open(id).unwrap().write_at(&[7; 1 << 20], index << 20, &disk.incoming)
        };
        write(0).unwrap();
        assert!(checkpoint(&disk, vec![(id, vec![value(0)])]).remove(0).unwrap());
        write(1).unwrap();
        let begun = begin_records(&disk, id, vec![value(1)]);
        disk.give_up(id);
        let call = disk.watch.begin("sync", Subject::Top);
        end_records(&disk, &call, id, begun, None).unwrap();
        drop(call);
        let later = TargetDisk::open(&temp.path().into(), incoming(2, true)).unwrap();
        assert_eq!(held(&later), ChunkSet::of(0..1));
    }

    #[test]
    fn one_sync_of_the_volume_makes_many_files_durable() {
        let temp = tempfile::tempdir().unwrap();
        let disk = TargetDisk::open(&temp.path().into(), incoming(1, true)).unwrap();
        if !can_sync_all(&disk.root) {
            return skip("no call syncs all of the file system");
        }
        let many: Vec<_> = (0..=FSYNC_MAX as u64).map(EntryId).collect();
        let other = EntryId(1000);
        let staging = disk.staging(other).unwrap();
        for id in many.iter().chain([&other]) {
            staging.open(*id).unwrap().write_at(b"bytes", 0, &disk.incoming).unwrap();
        }
        let entries = |ids: &[EntryId]| ids.iter().map(|id| (*id, Vec::new())).collect::<Vec<_>>();
        let is_durable = |id| staging.unsynced(id).unwrap().is_none();
        let few = &many[..FSYNC_MAX];
        assert!(checkpoint(&disk, entries(few)).into_iter().all(|durable| durable.unwrap()));
        assert!(few.iter().all(|id| is_durable(*id)));
        assert!(!is_durable(many[FSYNC_MAX]) && !is_durable(other), "few are synced one by one");

        for id in few {
            staging.open(*id).unwrap().write_at(b"again", 0, &disk.incoming).unwrap();
        }
        assert!(checkpoint(&disk, entries(&many)).into_iter().all(|durable| durable.unwrap()));
        assert!(many.iter().all(|id| is_durable(*id)));
        assert!(is_durable(other), "many are synced with all that is staged");
        assert!(staging.unsynced_names().is_none());
    }
}
