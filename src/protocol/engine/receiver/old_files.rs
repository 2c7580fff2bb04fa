//! Files that entries replace: their signatures, and the recipes that take bytes from them.

use crate::protocol::delta::recipe::{Recipe, RunSource};
use crate::protocol::engine::receiver::action::Begin;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingState, OldFile};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::{SIGNATURES_MAX, SIGNED_ENTRIES_MAX};

impl Receiver {
    /// A regular file of `bytes` is under the name of `id`. Call it before [`Receiver::held`]. The sender hears of it
    /// only when the file will be replaced.
    pub fn has_old(&mut self, id: EntryId, bytes: u64) {
        if self.exists == Exists::Replace
            && bytes > 0
            && let Some(open) = self.open.get_mut(&id)
            && matches!(open.state, IncomingState::Recalling)
        {
            open.old = Some(OldFile { bytes, asked: 0 });
        }
    }

    /// The sender asks for the signature of the old file of `id`. Returns the size of that file.
    ///
    /// # Errors
    ///
    /// As [`Receiver::begin_record`].
    pub fn begin_signature(&mut self, id: EntryId) -> Result<u64, Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        let is_signed = |open: &&IncomingEntry| open.old.is_some_and(|old| old.asked > 0);
        let signed = self.open.values().filter(is_signed).count();
        let Some(open) = self.open.get_mut(&id) else { return Err(self.ended_failure(id)) };
        let path = &open.entry.path;
        let Some(old) = &mut open.old else {
            return Err(Failure::protocol(format!("{path}: there is no old file that will be replaced")));
        };
        if !matches!(open.state, IncomingState::Receiving(_)) {
            // It was asked for on a connection that is lost.
            return Err(Failure::new(Reason::TransferEnded, format!("{path} has arrived already")));
        }
        if old.asked == SIGNATURES_MAX {
            return Err(Failure::protocol(format!(
                "{path}: the signature of the old file is asked for too often"
            )));
        }
        if old.asked == 0 && signed >= SIGNED_ENTRIES_MAX {
            return Err(Failure::protocol("too many signatures are in use"));
        }
        old.asked += 1;
        Ok(old.bytes)
    }

    /// Begins a recipe, as [`Receiver::begin_record`] begins a record.
    ///
    /// # Errors
    ///
    /// As [`Receiver::begin_record`].
    pub fn begin_recipe(
        &mut self,
        id: EntryId,
        offset: u64,
        len: u64,
        recipe: &Recipe,
    ) -> Result<Begin, Failure> {
        if let Some(open) = self.open.get(&id) {
            let path = &open.entry.path;
            let old_bytes = open.old.filter(|old| old.asked > 0).map(|old| old.bytes);
            let Some(old_bytes) = old_bytes else {
                return Err(Failure::protocol(format!("{path}: a recipe comes without a signature")));
            };
            let is_within = recipe.runs().iter().all(|run| match run.source {
                RunSource::Old(from) => from.checked_add(run.len).is_some_and(|end| end <= old_bytes),
                RunSource::Sent | RunSource::Hole => true,
            });
            if !is_within {
                return Err(Failure::protocol(format!(
                    "{path}: a recipe takes bytes after the end of the old file"
                )));
            }
            let index = offset >> self.chunk_log2;
            if let IncomingState::Receiving(file) = &open.state
                && file.unmade.contains(index)
            {
                return Err(Failure::protocol(format!(
                    "{path}: a second recipe comes for a chunk at {offset}"
                )));
            }
        }
        self.begin_record(id, offset, len)
    }

    /// The recipe of the chunk at `offset` made other bytes than the sender has: the old file has changed. The chunk
    /// must be sent.
    pub fn recipe_differs(&mut self, id: EntryId, offset: u64) {
        self.record_cut(id, offset);
        if let Some(IncomingEntry { state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id) {
            let index = offset >> self.chunk_log2;
            file.unmade.insert(index..index + 1);
        }
    }

    /// A chunk that was made by a recipe is written: so many bytes of it are from the old file.
    pub fn note_copied(&mut self, bytes: u64) {
        self.totals.copied_bytes += bytes;
    }
}
