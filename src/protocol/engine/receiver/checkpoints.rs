//! When written chunks are made durable, and which ones.

use std::time::Duration;

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingState};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::CHUNK_RANGES_MAX;
use crate::protocol::wire::message::Message;

/// A file gets a checkpoint when this many bytes have been written since its last one.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// A file with written bytes gets a checkpoint this often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Chaining values that wait for a checkpoint. At the limit, records wait too.
pub(super) const UNRECORDED_MAX: usize = 4096;

impl Receiver {
    /// A chunk is written and verified.
    pub(super) fn note_written(&mut self, id: EntryId, chunk: ChunkValue) {
        let chunk_log2 = self.chunk_log2;
        let Some(IncomingEntry { entry, state: IncomingState::Receiving(file), .. }) = self.open.get_mut(&id)
        else {
            return;
        };
        let is_resumable = entry.is_resumable(chunk_log2);
        file.checkpoints.written(chunk, is_resumable);
        if !is_resumable {
            return;
        }
        self.unrecorded += 1;
        if file.checkpoints.waiting() << chunk_log2 >= CHECKPOINT_BYTES {
            self.ask_for_checkpoint(id);
        }
    }

    /// Asks for the checkpoint of an entry, unless one is on its way.
    pub(super) fn ask_for_checkpoint(&mut self, id: EntryId) {
        if let Some(IncomingEntry {
            state: IncomingState::Receiving(file) | IncomingState::Syncing { file, .. },
            ..
        }) = self.open.get_mut(&id)
            && file.checkpoints.ask()
        {
            self.actions.push_back(ReceiverAction::Checkpoint(id));
        }
    }

    /// Asks for the checkpoints that are due by now.
    pub fn checkpoint_due(&mut self, now: Duration) {
        if self.unrecorded == 0 || now < self.checkpoints_at + CHECKPOINT_EVERY {
            return;
        }
        self.checkpoints_at = now;
        let due: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| match &open.state {
                IncomingState::Receiving(file) => file.checkpoints.has_values(),
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        due.into_iter().for_each(|id| self.ask_for_checkpoint(id));
    }

    /// Begins the checkpoint that was asked for: the chunks written since the last one, with their chaining values.
    /// `None` when the entry has ended. Call [`Receiver::checkpointed`] afterwards.
    pub fn begin_checkpoint(&mut self, id: EntryId) -> Option<Vec<ChunkValue>> {
        match &mut self.open.get_mut(&id)?.state {
            IncomingState::Receiving(file) | IncomingState::Syncing { file, .. } => {
                Some(file.checkpoints.begin())
            }
            _ => None,
        }
    }

    /// Whether the entry waits for its checkpoint, having been received.
    pub fn awaits_checkpoint(&self, id: EntryId) -> bool {
        self.open.get(&id).is_some_and(|open| matches!(open.state, IncomingState::Syncing { .. }))
    }

    /// The checkpoint of `id` has ended: its chunks are durable, or the disk cannot make them so.
    pub fn checkpointed(&mut self, id: EntryId, is_durable: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let is_complete = open.state.is_complete();
        let (IncomingState::Receiving(file) | IncomingState::Syncing { file, .. }) = &mut open.state else {
            return;
        };
        let Some((chunks, values)) = file.checkpoints.end() else { return };
        self.unrecorded -= values;
        if is_durable {
            chunks.ranges().for_each(|range| file.plan.sync_range(range));
            // Of a complete file it is said once all of it is durable.
            if !is_complete {
                let durable = durable(id, &file.plan);
                self.actions.push_back(durable);
            }
        }
        self.go_on_syncing(id);
    }

    /// Commits a complete file, once all of it has been in a checkpoint. By now the sender has every ack, so it counts
    /// all chunks that are said to be durable.
    pub(super) fn go_on_syncing(&mut self, id: EntryId) {
        let Some(IncomingEntry { state: IncomingState::Syncing { root, file }, .. }) = self.open.get(&id)
        else {
            return;
        };
        if file.checkpoints.is_behind() {
            self.ask_for_checkpoint(id);
            return;
        }
        let root = *root;
        if file.plan.is_durable() {
            let durable = durable(id, &file.plan);
            self.actions.push_back(durable);
        }
        self.commit(id, Some(root), false);
    }
}

fn durable(id: EntryId, plan: &Plan) -> ReceiverAction {
    let ranges = plan.durable().ranges().take(CHUNK_RANGES_MAX).collect();
    ReceiverAction::Control(Message::Durable(id, ranges))
}
