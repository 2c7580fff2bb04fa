//! Claims of chunks that an earlier transfer left at the receiver.

use std::ops::Range;
use std::time::Duration;

use crate::protocol::engine::sender::action::{Parcel, SenderAction};
use crate::protocol::engine::sender::machine::Sender;
use crate::protocol::engine::sender::state::{OutgoingEntry, OutgoingState};
use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::CLAIMS_MAX;

/// Parcels of claims in flight. They need the source's disk and no bandwidth, so most parcels carry data meanwhile.
const CLAIM_PARCELS_MAX: u64 = 2;
/// Bytes of the source that one parcel of claims covers, unless one chunk has more. They are hashed before the receiver
/// hears anything of the parcel.
const CLAIM_PARCEL_BYTES: u64 = 256 * 1024 * 1024;

impl Sender {
    /// The receiver wants `id` and has these chunks of an earlier transfer. Returns false when it cannot have them.
    pub(super) fn resume(&mut self, id: EntryId, held: &[Range<u64>]) -> bool {
        let chunk_log2 = self.chunk_log2;
        let Some(entry) = self.entry(id) else { return false };
        let size = entry.size();
        let chunks = size.div_ceil(1 << chunk_log2);
        if !entry.is_resumable(chunk_log2) || held.last().is_none_or(|last| last.end > chunks) {
            return false;
        }
        self.want(id);
        if let Some(OutgoingEntry { entry, state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id)
        {
            held.iter().for_each(|range| file.plan.hold(range.clone()));
            file.unresolved = file.plan.held_bytes(size, chunk_log2);
            self.totals.held_bytes += file.unresolved;
            self.actions.push_back(SenderAction::Resumed(entry.clone(), file.unresolved));
            self.held.push_back(id);
        }
        true
    }

    /// Bytes of a file in transfer that the receiver has written or holds.
    pub fn written_bytes(&self, id: EntryId) -> u64 {
        match self.open.get(&id) {
            Some(OutgoingEntry { entry, state: OutgoingState::Wanted(file), .. }) => {
                file.plan.written_bytes(entry.size(), self.chunk_log2) + file.unresolved
            }
            _ => 0,
        }
    }

    /// The next claims, all of one file.
    pub(super) fn next_claims(&mut self) -> Option<Parcel> {
        if self.claim_parcels == CLAIM_PARCELS_MAX {
            return None;
        }
        let max = usize::try_from(CLAIM_PARCEL_BYTES >> self.chunk_log2).unwrap_or(CLAIMS_MAX);
        let mut at = 0;
        while let Some(&id) = self.held.get(at) {
            let wanted = self.open.get_mut(&id).and_then(|open| match &mut open.state {
                OutgoingState::Wanted(file) if !file.plan.held().is_empty() => Some(file),
                _ => None,
            });
            let Some(file) = wanted else {
                self.held.remove(at);
                continue;
            };
            let held = file.plan.held().ranges().flatten();
            let near = held.take_while(|index| file.root.admits(*index).is_ok());
            let chunks: Vec<_> = near.take(max.clamp(1, CLAIMS_MAX)).collect();
            if chunks.is_empty() {
                at += 1;
                continue;
            }
            for index in &chunks {
                file.plan.claim(*index);
            }
            self.claim_parcels += 1;
            return Some(Parcel::Claims { id, chunks });
        }
        None
    }

    /// The receiver has compared the claims of `chunks`: bit `n` of `matched` says whether chunk `n` of them has its
    /// value. Those that have not are sent.
    ///
    /// # Errors
    ///
    /// As [`Sender::parcel_acked`].
    pub fn claims_answered(
        &mut self,
        id: EntryId,
        chunks: &[u64],
        values: &[(EntryId, [u8; 32])],
        matched: u64,
        now: Duration,
    ) -> Result<(), Failure> {
        self.parcels -= 1;
        self.claim_parcels -= 1;
        self.progress.step(now);
        for (place, (index, (_, value))) in chunks.iter().zip(values).enumerate() {
            let len = self.chunk_len(id, *index);
            let Some(OutgoingState::Wanted(file)) = self.open.get_mut(&id).map(|open| &mut open.state) else {
                return Ok(());
            };
            file.unresolved -= len;
            self.totals.held_bytes -= len;
            if matched >> place & 1 == 1 {
                self.totals.resumed_bytes += len;
                self.record_acked(id, *index, len, *value)?;
            } else {
                self.want_again(id, *index << self.chunk_log2);
            }
        }
        Ok(())
    }

    /// The connection of a parcel of claims is gone.
    pub(super) fn claims_lost(&mut self, id: EntryId, chunks: &[u64]) {
        self.claim_parcels -= 1;
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id) {
            chunks.iter().for_each(|index| file.plan.lose_claim(*index));
            if !self.held.contains(&id) {
                self.held.push_front(id);
            }
        }
    }

    /// An entry that ends or is given up has no held bytes.
    pub(super) fn forget_held(&mut self, state: &OutgoingState) {
        if let OutgoingState::Wanted(file) = state {
            self.totals.held_bytes -= file.unresolved;
        }
    }

    /// Bytes of a chunk.
    fn chunk_len(&self, id: EntryId, index: u64) -> u64 {
        let size = self.entry(id).map_or(0, |entry| entry.size());
        size.saturating_sub(index << self.chunk_log2).min(1 << self.chunk_log2)
    }
}
