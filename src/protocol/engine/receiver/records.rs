//! Records of parcels.

use crate::protocol::engine::plan::ChunkState;
use crate::protocol::engine::receiver::action::Begin;
use crate::protocol::engine::receiver::checkpoints::UNRECORDED_MAX;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingState};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::{ChunkValue, TreeError};
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;
use crate::protocol::wire::record::is_open_chunk;

impl Receiver {
    /// Begins a record on a parcel's stream: `len` bytes of `id` at `offset`. A sender may reset a parcel and send it
    /// again, on the same connection or on another, and the new stream may overtake the reset. So a repeated chunk is
    /// not a breach: one stream at a time writes it, and only once.
    ///
    /// # Errors
    ///
    /// `TransferEnded` and `TransferFailed` concern the one parcel, which is answered by a Nack; everything else
    /// ends the session.
    pub fn begin_record(&mut self, id: EntryId, offset: u64, len: u64) -> Result<Begin, Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        let may_be_written = offset == 0 && (1..=SMALL_FILE_BYTES_MAX).contains(&len);
        let Some(open) = self.open.get_mut(&id) else {
            return if may_be_written { Ok(Begin::Pass) } else { Err(self.ended_failure(id)) };
        };
        let size = open.entry.size();
        let IncomingState::Receiving(file) = &mut open.state else {
            if open.state.is_complete() {
                return Ok(Begin::Pass);
            }
            return Err(Failure::protocol(format!("entry {} was not asked for", id.0)));
        };
        let (chunk, is_open_ended) = (1 << self.chunk_log2, open.entry.kind == Kind::OpenEnded);
        let expected = if is_open_ended {
            0
        } else if offset < size {
            (size - offset).min(chunk)
        } else {
            0
        };
        if !offset.is_multiple_of(chunk) || len != expected || (len == 0) != is_open_ended {
            return Err(Failure::protocol(format!(
                "{len} bytes at {offset} are not a chunk of {} ({size} bytes)",
                open.entry.path
            )));
        }
        let index = offset >> self.chunk_log2;
        match file.root.admits(index) {
            Err(TreeError::Twice) => return Ok(Begin::Pass),
            other => other.map_err(|e| tree_failure(&open.entry, e))?,
        }
        let first = file.root.first_missing();
        match self.in_order {
            Some(at_a_time) if index >= first + at_a_time => {
                return Err(Failure::protocol(format!(
                    "{} takes at most {at_a_time} chunks at a time",
                    self.target
                )));
            }
            Some(_) if index > first => return Ok(Begin::Wait),
            _ => {}
        }
        if open.entry.is_resumable(self.chunk_log2) && self.unrecorded >= UNRECORDED_MAX {
            return Ok(Begin::Wait);
        }
        // A sender may send what it need only claim.
        if file.plan.claim(index) {
            let len = len.min(file.unresolved);
            file.unresolved -= len;
            self.totals.held_bytes -= len;
            return Ok(Begin::TakeAgain(size));
        }
        // Two streams must not write the same chunk: one could change what the other has verified.
        Ok(match file.plan.begin(index) {
            true if is_open_ended => Begin::TakeOpen(chunk),
            // What takes bytes in order has no holes.
            true if file.cut.contains(index) || self.in_order.is_some() => Begin::TakeAgain(size),
            true => Begin::Take(size),
            false => Begin::Wait,
        })
    }

    /// The source of `id` has grown since it was announced; the record has the bytes announced.
    pub fn grew(&mut self, id: EntryId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_grown = true;
        }
    }

    /// A record is written and its chaining value matches.
    pub fn record_written(
        &mut self,
        id: EntryId,
        offset: u64,
        len: u64,
        value: [u8; 32],
    ) -> Result<(), Failure> {
        let index = offset >> self.chunk_log2;
        let Some(IncomingEntry { entry, state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        if file.plan.state(index) != Some(ChunkState::InFlight) {
            return Err(tree_failure(entry, TreeError::Twice));
        }
        file.plan.write(index);
        file.cut.remove(index..index + 1);
        file.root.insert(index, value).map_err(|e| tree_failure(entry, e))?;
        self.totals.settled_bytes += len;
        if entry.is_small() {
            let root = file.root.root();
            self.commit(id, root, false);
        } else {
            self.note_written(id, ChunkValue { index, value });
        }
        Ok(())
    }

    /// The same for a record of unknown length, which had `len` bytes; `is_last` if it ends the file.
    pub fn open_record_written(
        &mut self,
        id: EntryId,
        offset: u64,
        len: u64,
        value: [u8; 32],
        is_last: bool,
    ) -> Result<(), Failure> {
        let index = offset >> self.chunk_log2;
        let Some(IncomingEntry { entry, state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        if !is_open_chunk(1 << self.chunk_log2, offset, len, is_last) {
            let message = format!("{}: {len} bytes at {offset} are no chunk", entry.path);
            return Err(Failure::protocol(message));
        }
        if is_last {
            if file.end.is_some() || !file.plan.end_at(index + 1) {
                return Err(tree_failure(entry, TreeError::OutOfRange));
            }
            file.root.end_at(index + 1).map_err(|e| tree_failure(entry, e))?;
            file.end = Some(offset + len);
        }
        self.totals.bytes = self.totals.bytes.saturating_add(len);
        self.record_written(id, offset, len, value)
    }

    /// A parcel's stream ended inside a record; the chunk may be sent again.
    pub fn record_cut(&mut self, id: EntryId, offset: u64) {
        let index = offset >> self.chunk_log2;
        if let Some(IncomingEntry { state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id)
            && file.plan.state(index) == Some(ChunkState::InFlight)
        {
            file.plan.lose(index);
            file.cut.insert(index..index + 1);
        }
    }
}

pub(super) fn tree_failure(entry: &Entry, error: TreeError) -> Failure {
    Failure::protocol(format!("{}: {error}", entry.path))
}
