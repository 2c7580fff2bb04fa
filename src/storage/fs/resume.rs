//! Going on with what an earlier attempt has left of a file.

use std::io;

use super::checkpoint::sync_names;
use super::partial::PartialFor;
use super::target_disk::TargetDisk;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::{Entry, EntryId};

impl TargetDisk {
    /// The chunks that an earlier attempt has recorded of a file.
    pub(super) fn held(&self, id: EntryId, entry: &Entry, chunk_log2: u8) -> ChunkSet {
        let Some(wanted) = PartialFor::new(&self.incoming.sender, entry, chunk_log2) else {
            return ChunkSet::default();
        };
        let Ok(staging) = self.staging(id) else { return ChunkSet::default() };
        let held = staging.resume(id, wanted).unwrap_or_else(|error| {
            staging.partials.cannot("resume what an earlier attempt left", &error);
            ChunkSet::default()
        });
        if self.sync && !held.is_empty() {
            // The names of what is held count as durable from now on. Where that fails, a checkpoint says so.
            let _ = sync_names(&staging, &self.volumes.of(id));
        }
        held
    }

    /// Whether a held chunk has this value.
    pub(super) fn holds(&self, id: EntryId, claim: ChunkValue) -> bool {
        let holds = || -> io::Result<bool> {
            let staging = self.staging(id)?;
            match staging.partials.of(id) {
                Some(partial) => partial.holds(staging.open(id)?.content(), claim),
                None => Ok(false),
            }
        };
        // A chunk that cannot be read is sent again.
        holds().unwrap_or(false)
    }
}
