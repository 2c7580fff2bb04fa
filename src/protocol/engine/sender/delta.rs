//! Old files at the receiver: whether to use one, its signature, and recipes that fail.

use std::time::Duration;

use crate::protocol::delta::pieces::{piece_log2, pieces_of};
use crate::protocol::engine::sender::action::Parcel;
use crate::protocol::engine::sender::machine::Sender;
use crate::protocol::engine::sender::path::{PathFacts, pays};
use crate::protocol::engine::sender::state::{Delta, OutgoingEntry, OutgoingState};
use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::{SIGNATURES_MAX, SIGNED_ENTRIES_MAX};

/// Signatures on their way: each keeps the receiver's disk busy.
const SIGNATURES_AT_ONCE: usize = 2;
impl Sender {
    /// Uses old files, with memory for so many of their pieces.
    pub fn with_pieces(mut self, max: usize) -> Self {
        (self.pieces_free, self.pieces_max) = (max, max);
        self
    }

    /// Bytes of files that the receiver has had so far.
    pub fn came_bytes(&self) -> u64 {
        self.came
    }

    /// What is known of the path now.
    pub fn note_path(&mut self, path: PathFacts) {
        self.path = path;
    }

    /// The receiver will replace a file of `bytes` by this entry.
    pub(super) fn on_old(&mut self, id: EntryId, bytes: u64) -> Result<(), Failure> {
        self.check_id(id)?;
        let chunk_log2 = self.chunk_log2;
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        match open.state {
            // The receiver sent it before it knew.
            OutgoingState::Abandoned(_) => Ok(()),
            OutgoingState::Announced | OutgoingState::Checking { .. }
                if open.old_bytes.is_none() && open.entry.is_resumable(chunk_log2) =>
            {
                open.old_bytes = Some(bytes);
                Ok(())
            }
            _ => Err(Failure::protocol(format!(
                "the receiver has an old file of entry {} at a wrong time",
                id.0
            ))),
        }
    }

    /// The next request for a signature. Those of the next files are asked for while the first one is sent.
    pub(super) fn next_signature(&mut self) -> Option<Parcel> {
        if self.pieces_max == 0 || self.signed >= SIGNED_ENTRIES_MAX {
            return None;
        }
        let (mut asked, mut found) = (0, None);
        for id in self.large.iter().take(SIGNED_ENTRIES_MAX) {
            match self.state(*id) {
                Some(OutgoingState::Wanted(file)) if matches!(file.delta, Delta::Asked { .. }) => asked += 1,
                _ => found = found.or_else(|| self.wanted_signature(*id)),
            }
        }
        let (id, old_bytes, lost, piece_log2) = found.filter(|_| asked < SIGNATURES_AT_ONCE)?;
        let pieces = pieces_of(old_bytes, piece_log2);
        let Some(OutgoingState::Wanted(file)) = self.open.get_mut(&id).map(|open| &mut open.state) else {
            return None;
        };
        self.pieces_free = self.pieces_free.checked_sub(pieces)?;
        self.signed += 1;
        file.delta = Delta::Asked { old_bytes, lost, pieces };
        Some(Parcel::Signature { id, old_bytes, piece_log2 })
    }

    /// Whether the chunks of `id` wait for the signature of its old file.
    pub(super) fn awaits_signature(&self, id: EntryId) -> bool {
        let is_asked = |state: &OutgoingState| matches!(state, OutgoingState::Wanted(file) if matches!(file.delta, Delta::Asked { .. }));
        self.state(id).is_some_and(is_asked) || self.wanted_signature(id).is_some()
    }

    /// The old file of `id`, if it is worth a signature now: its size, how often that was lost, the size of its pieces.
    fn wanted_signature(&self, id: EntryId) -> Option<(EntryId, u64, u32, u8)> {
        let OutgoingEntry { entry, state: OutgoingState::Wanted(file), .. } = self.open.get(&id)? else {
            return None;
        };
        let Delta::Possible { old_bytes, lost } = file.delta else { return None };
        let there = file.plan.written_bytes(entry.size(), self.chunk_log2) + file.unresolved;
        let left = entry.size().saturating_sub(there);
        // Half of the memory at most, so that the next file can be signed while this one is sent.
        let piece_log2 = piece_log2(old_bytes, self.pieces_max / 2)?;
        pays(left, old_bytes, self.path).then_some((id, old_bytes, lost, piece_log2))
    }

    /// The signature of the old file of `id` has come, or the receiver cannot give it.
    pub fn signature_answered(&mut self, id: EntryId, has_come: bool, now: Duration) {
        self.parcels -= 1;
        self.progress.step(now);
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id)
            && let Delta::Asked { pieces, .. } = file.delta
        {
            match has_come {
                true => file.delta = Delta::Matching { pieces },
                false => self.give_up_delta(id, Delta::None),
            }
        }
    }

    /// The connection of a request is gone.
    pub(super) fn signature_lost(&mut self, id: EntryId) {
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id)
            && let Delta::Asked { old_bytes, lost, .. } = file.delta
        {
            let lost = lost + 1;
            let next = if lost < SIGNATURES_MAX { Delta::Possible { old_bytes, lost } } else { Delta::None };
            self.give_up_delta(id, next);
        }
    }

    fn give_up_delta(&mut self, id: EntryId, next: Delta) {
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id) {
            self.pieces_free += file.delta.pieces();
            self.signed -= 1;
            file.delta = next;
        }
    }

    /// An entry that ends needs no index.
    pub(super) fn free_pieces(&mut self, state: &OutgoingState) {
        if let OutgoingState::Wanted(file) = state {
            self.pieces_free += file.delta.pieces();
            self.signed -= usize::from(file.delta.pieces() > 0);
        }
    }

    /// A chunk was made by its recipe, with so many bytes of the old file.
    pub fn note_copied(&mut self, bytes: u64) {
        self.totals.copied_bytes += bytes;
    }

    /// The recipe of a chunk made other bytes at the receiver, because the old file has changed. The chunk is sent.
    pub fn recipe_differed(&mut self, id: EntryId, offset: u64, now: Duration) {
        self.parcels -= 1;
        self.progress.step(now);
        self.want_again(id, offset);
    }
}
