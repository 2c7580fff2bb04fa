//! Chunks that an earlier transfer left, and the sender's claims of them.

use crate::protocol::engine::plan::{ChunkSet, ChunkState, Plan};
use crate::protocol::engine::receiver::action::{BeginClaim, ReceiverAction};
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::records::tree_failure;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingFile, IncomingState};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::{ChunkValue, RootBuilder, TreeError};
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::CHUNK_RANGES_MAX;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

impl Receiver {
    /// The chunks that an earlier transfer left of `id`.
    pub fn held(&mut self, id: EntryId, mut held: ChunkSet) {
        let open = self.open.get_mut(&id).filter(|open| matches!(open.state, IncomingState::Recalling));
        let Some(open) = open else {
            // The sender gave it up meanwhile.
            self.actions.push_back(ReceiverAction::GiveUp(id));
            return;
        };
        let size = open.entry.size();
        let chunks = size.div_ceil(1 << self.chunk_log2);
        held.remove(chunks..u64::MAX);
        let mut file = IncomingFile::new(RootBuilder::new(chunks), Plan::new(chunks));
        // The sender hears only of so many ranges. The others are written again.
        let told: Vec<_> = held.ranges().take(CHUNK_RANGES_MAX).collect();
        for range in &told {
            held.remove(range.clone());
            file.held.insert(range.clone());
            file.plan.hold(range.clone());
        }
        file.cut = held;
        file.unresolved = file.plan.held_bytes(size, self.chunk_log2);
        self.totals.held_bytes += file.unresolved;
        let status = match told.is_empty() {
            true => Status::Want,
            false => {
                self.actions.push_back(ReceiverAction::Resumed(open.entry.clone(), file.unresolved));
                Status::Resume(told)
            }
        };
        if let Some(old) = open.old {
            self.actions.push_back(ReceiverAction::Control(Message::Old(id, old.bytes)));
        }
        open.state = IncomingState::Receiving(file);
        self.actions.push_back(ReceiverAction::Control(Message::Status(id, status)));
    }

    /// Begins a claim: `len` bytes of `id` at `offset` are said to be here. What was claimed on a stream that is cut
    /// may be claimed again, as with a record.
    ///
    /// # Errors
    ///
    /// As [`Receiver::begin_record`].
    pub fn begin_claim(&mut self, id: EntryId, offset: u64, len: u64) -> Result<BeginClaim, Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        let Some(open) = self.open.get_mut(&id) else { return Err(self.ended_failure(id)) };
        let (size, chunk) = (open.entry.size(), 1 << self.chunk_log2);
        let IncomingState::Receiving(file) = &mut open.state else {
            if open.state.is_complete() {
                return Ok(BeginClaim::Matches);
            }
            return Err(Failure::protocol(format!("entry {} was not asked for", id.0)));
        };
        let index = offset >> self.chunk_log2;
        let is_chunk = offset.is_multiple_of(chunk) && offset < size && len == (size - offset).min(chunk);
        if !is_chunk || !file.held.contains(index) {
            return Err(Failure::protocol(format!(
                "{len} bytes at {offset} of {} are claimed and not held",
                open.entry.path
            )));
        }
        match file.root.admits(index) {
            Err(TreeError::Twice) => return Ok(BeginClaim::Matches),
            other => other.map_err(|e| tree_failure(&open.entry, e))?,
        }
        Ok(match file.plan.state(index) {
            Some(ChunkState::Held) => {
                file.plan.claim(index);
                BeginClaim::Compare(index)
            }
            Some(ChunkState::InFlight) => BeginClaim::Wait,
            // It was compared before, and the answer was lost.
            _ => BeginClaim::Differs,
        })
    }

    /// Whether the chunk on the disk has the claimed value. One that has it is written; any other one is wanted.
    pub fn claimed(&mut self, id: EntryId, claim: ChunkValue, matches: bool) -> Result<(), Failure> {
        self.step();
        let ChunkValue { index, value } = claim;
        let Some(IncomingEntry { entry, state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        if file.plan.state(index) != Some(ChunkState::InFlight) {
            return Err(tree_failure(entry, TreeError::Twice));
        }
        let offset = index << self.chunk_log2;
        let len = entry.size().saturating_sub(offset).min(1 << self.chunk_log2);
        file.unresolved -= len;
        self.totals.held_bytes -= len;
        if !matches {
            file.plan.lose(index);
            file.cut.insert(index..index + 1);
            return Ok(());
        }
        file.plan.write(index);
        file.root.insert(index, value).map_err(|e| tree_failure(entry, e))?;
        file.checkpoints.claimed(index);
        self.totals.settled_bytes += len;
        self.totals.resumed_bytes += len;
        Ok(())
    }
}
