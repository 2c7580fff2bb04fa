//! Cuts parcels and tracks them.

use std::time::Duration;

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::sender::action::{Parcel, SenderAction};
use crate::protocol::engine::sender::machine::Sender;
use crate::protocol::engine::sender::state::{Delta, OutgoingEntry, OutgoingFile, OutgoingState};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::RootBuilder;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::protocol::wire::limits::{OPEN_ENTRIES_MAX, PARCEL_FILES_MAX, SMALL_FILE_BYTES_MAX};

impl Sender {
    /// Cuts the next parcel. Small files go first, then a few claims and requests for signatures; chunks
    /// use the remaining capacity.
    pub fn next_parcel(&mut self) -> Option<Parcel> {
        let parcel = self
            .next_files()
            .or_else(|| self.next_claims())
            .or_else(|| self.next_signature())
            .or_else(|| self.next_chunk())?;
        self.parcels += 1;
        Some(parcel)
    }

    fn next_files(&mut self) -> Option<Parcel> {
        let mut ids = Vec::new();
        let mut bytes = 0;
        while let Some(&id) = self.small.front() {
            let Some(open) = self.open.get(&id).filter(|open| matches!(open.state, OutgoingState::Wanted(_)))
            else {
                self.small.pop_front();
                continue;
            };
            bytes += open.entry.size();
            if ids.len() == PARCEL_FILES_MAX || (!ids.is_empty() && bytes > 1 << self.chunk_log2) {
                break;
            }
            ids.push(id);
            self.small.pop_front();
        }
        (!ids.is_empty()).then_some(Parcel::Files(ids))
    }

    /// The first wanted chunk of the first file that has one.
    fn next_chunk(&mut self) -> Option<Parcel> {
        let mut at = 0;
        while let Some(&id) = self.large.get(at) {
            if self.awaits_signature(id) {
                at += 1;
                continue;
            }
            let wanted = self.open.get_mut(&id).and_then(|open| match &mut open.state {
                OutgoingState::Wanted(file) => Some((open.entry.size(), file)),
                _ => None,
            });
            let Some((size, file)) = wanted else {
                self.large.remove(at);
                continue;
            };
            let Some(index) = file.plan.next_wanted() else {
                self.large.remove(at);
                continue;
            };
            if file.is_open_ended && self.open_end.is_some() {
                at += 1;
                continue;
            }
            // The receiver takes chunks only up to a limit ahead of the first missing one.
            if file.root.admits(index).is_err() || index >= file.root.first_missing() + file.at_a_time {
                at += 1;
                continue;
            }
            file.plan.begin(index);
            let offset = index << self.chunk_log2;
            if file.is_open_ended {
                self.open_end = Some(id);
                return Some(Parcel::OpenChunk { id, offset });
            }
            return Some(Parcel::Chunk { id, offset, len: (size - offset).min(1 << self.chunk_log2) });
        }
        None
    }

    /// The source of `id` was read up to `end`, the end of a chunk and, if `is_last`, of the file. The length so far
    /// is now known, and the next chunk may be read.
    pub fn chunk_read(&mut self, id: EntryId, end: u64, is_last: bool) -> Result<(), Failure> {
        let Some(OutgoingEntry { entry, state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        let offset = end.saturating_sub(1) >> self.chunk_log2 << self.chunk_log2;
        self.totals.bytes += end - offset;
        if !is_last {
            self.open_end = None;
            return Ok(());
        }
        let chunks = end.div_ceil(1 << self.chunk_log2).max(1);
        entry.kind = Kind::File { size: end };
        file.plan.end_at(chunks);
        self.open_end = None;
        file.root.end_at(chunks).map_err(|e| Failure::new(Reason::Internal, format!("{}: {e}", entry.path)))
    }

    /// A parcel was acked; `values` are the chaining values of its records, in order.
    pub fn parcel_acked(
        &mut self,
        parcel: &Parcel,
        values: &[(EntryId, [u8; 32])],
        now: Duration,
    ) -> Result<(), Failure> {
        self.parcels -= 1;
        self.progress.step(now);
        for (id, value) in values {
            let (index, len) = match parcel {
                Parcel::Chunk { offset, len, .. } => (offset >> self.chunk_log2, *len),
                Parcel::OpenChunk { offset, .. } => {
                    (offset >> self.chunk_log2, self.open_chunk_bytes(*id, *offset))
                }
                // Claims and signatures have answers of their own.
                Parcel::Files(_) | Parcel::Claims { .. } | Parcel::Signature { .. } => {
                    (0, self.entry(*id).map_or(0, Entry::size))
                }
            };
            self.record_acked(*id, index, len, *value)?;
        }
        Ok(())
    }

    pub(super) fn record_acked(
        &mut self,
        id: EntryId,
        index: u64,
        len: u64,
        value: [u8; 32],
    ) -> Result<(), Failure> {
        let Some(OutgoingEntry { state: OutgoingState::Wanted(file), entry, .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        file.root
            .insert(index, value)
            .map_err(|e| Failure::new(Reason::Internal, format!("{}: {e}", entry.path)))?;
        self.totals.settled_bytes += len;
        file.plan.write(index);
        if !file.plan.is_written() {
            return Ok(());
        }
        let delta = std::mem::replace(&mut file.delta, Delta::None);
        self.pieces_free += delta.pieces();
        self.signed -= usize::from(delta.pieces() > 0);
        if let Some((outcome, renamed)) = file.done.take() {
            let root = file.root.root();
            self.settle(id, renamed, root, outcome, None);
        } else if file.is_open_ended || !entry.is_small() {
            let root = file.root.root();
            self.actions.extend(root.map(|root| SenderAction::Verify(id, root)));
        }
        Ok(())
    }

    /// A parcel did not arrive whole. That is not a fault when either side has given up its entry.
    pub fn parcel_failed(&mut self, parcel: &Parcel, failure: Failure) -> Result<(), Failure> {
        self.parcels -= 1;
        self.claim_parcels -= u64::from(matches!(parcel, Parcel::Claims { .. }));
        match (parcel, failure.reason) {
            (
                Parcel::Chunk { .. }
                | Parcel::OpenChunk { .. }
                | Parcel::Claims { .. }
                | Parcel::Signature { .. },
                Reason::TransferFailed | Reason::TransferEnded,
            ) => Ok(()),
            (
                Parcel::Chunk { id, .. }
                | Parcel::OpenChunk { id, .. }
                | Parcel::Claims { id, .. }
                | Parcel::Signature { id, .. },
                _,
            ) if !matches!(self.state(*id), Some(OutgoingState::Wanted(_))) => Ok(()),
            _ => Err(failure),
        }
    }

    /// The connection of a parcel is gone and others are left: its wanted data is sent again. `values` are the
    /// chaining values of the records sent, in order. `was_read` says whether reading of its sources began.
    ///
    /// # Errors
    ///
    /// As [`Sender::parcel_acked`].
    pub fn parcel_lost(
        &mut self,
        parcel: Parcel,
        values: &[(EntryId, [u8; 32])],
        was_read: bool,
    ) -> Result<(), Failure> {
        self.parcels -= 1;
        for (id, value) in values {
            if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), entry, .. }) =
                self.open.get_mut(id)
                && entry.size() <= SMALL_FILE_BYTES_MAX
            {
                file.unacked = Some(*value);
                self.take_final_word(*id)?;
            }
        }
        match parcel {
            Parcel::Chunk { id, offset, .. } => self.want_again(id, offset),
            Parcel::OpenChunk { id, offset } if !was_read => {
                self.open_end.take_if(|reading| *reading == id);
                self.want_again(id, offset);
            }
            // The data read is gone with it.
            Parcel::OpenChunk { id, .. } => {
                if let Some(path) = self.entry(id).map(|entry| entry.path.clone()) {
                    let sentence = |path: &str| {
                        format!(
                            "{path} cannot be resumed after a lost connection, because it can be read only once; send all of it again"
                        )
                    };
                    let failure =
                        Failure::about(Side::Sender, Reason::SourceUnreadable, &Place::from(&path), sentence);
                    self.abandon(id, failure);
                }
            }
            Parcel::Claims { id, chunks } => self.claims_lost(id, &chunks),
            Parcel::Signature { id, .. } => self.signature_lost(id),
            Parcel::Files(ids) => ids.into_iter().rev().for_each(|id| self.small.push_front(id)),
        }
        Ok(())
    }

    /// The chunk at `offset` was lost, or differs from what the receiver holds.
    pub(super) fn want_again(&mut self, id: EntryId, offset: u64) {
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id) {
            file.plan.lose(offset >> self.chunk_log2);
            if !self.large.contains(&id) {
                self.large.push_front(id);
            }
        }
    }

    /// A small file under its final name needs no ack.
    pub(super) fn take_final_word(&mut self, id: EntryId) -> Result<(), Failure> {
        let Some(OutgoingEntry { state: OutgoingState::Wanted(file), entry, .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        let (Some(value), Some(_)) = (file.unacked, &file.done) else { return Ok(()) };
        let len = entry.size();
        self.record_acked(id, 0, len, value)
    }

    pub(super) fn state(&self, id: EntryId) -> Option<&OutgoingState> {
        self.open.get(&id).map(|open| &open.state)
    }

    pub(super) fn want(&mut self, id: EntryId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (is_small, is_open_ended) = (open.entry.is_small(), open.entry.kind == Kind::OpenEnded);
        let chunks = open.entry.size().div_ceil(1 << self.chunk_log2);
        let (root, plan) = match is_open_ended {
            true => (RootBuilder::open_ended(), Plan::open_ended()),
            false => (RootBuilder::new(chunks), Plan::new(chunks)),
        };
        open.state = OutgoingState::Wanted(Box::new(OutgoingFile {
            root,
            plan,
            unresolved: 0,
            delta: open.old_bytes.map_or(Delta::None, |old_bytes| Delta::Possible { old_bytes, lost: 0 }),
            is_open_ended,
            at_a_time: u64::MAX >> 1,
            closed: false,
            done: None,
            unacked: None,
        }));
        // The receiver may keep giving up entries that it wanted, without accepting a parcel.
        if self.small.len() + self.large.len() + self.held.len() >= 2 * OPEN_ENTRIES_MAX {
            self.small.retain(|id| self.open.contains_key(id));
            self.large.retain(|id| self.open.contains_key(id));
            self.held.retain(|id| self.open.contains_key(id));
        }
        if is_small {
            self.small.push_back(id);
        } else {
            self.large.push_back(id);
        }
    }

    /// The receiver wants at most `chunks` chunks of `id` at a time.
    pub(super) fn want_in_order(&mut self, id: EntryId, chunks: u64) {
        self.want(id);
        self.is_in_order = true;
        if let Some(OutgoingEntry { state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id) {
            file.at_a_time = chunks;
        }
    }

    fn open_chunk_bytes(&self, id: EntryId, offset: u64) -> u64 {
        match self.entry(id).map(|entry| &entry.kind) {
            Some(Kind::File { size }) => size.saturating_sub(offset).min(1 << self.chunk_log2),
            _ => 1 << self.chunk_log2,
        }
    }
}
