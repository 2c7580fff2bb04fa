//! The ends of entries and of the transfer.

use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingState};
use crate::protocol::failure::Failure;
use crate::protocol::final_name::Exists;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::wire::entry::{Entry, EntryId, Outcome, Settled};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::seal::Seal;
use crate::protocol::wire::status::Status;

impl Receiver {
    /// Nothing more is known of the chunks of an entry that ends or is committed.
    pub(super) fn forget_file(&mut self, state: &IncomingState) {
        if let IncomingState::Receiving(file) | IncomingState::Syncing { file, .. } = state {
            self.unrecorded -= file.checkpoints.unrecorded();
            self.totals.held_bytes -= file.unresolved;
        }
    }

    /// The staged file of a complete entry that ends goes as `drop` says.
    fn drop_staged(&mut self, state: &IncomingState, drop: ReceiverAction) {
        if state.staged().is_some() {
            self.actions.push_back(drop);
        }
    }

    /// The attributes of a directory are set, or cannot be.
    pub fn dir_finished(&mut self, id: EntryId, result: Result<(), Failure>) {
        let Some(entry) = self.leaving.remove(&id) else { return };
        let (status, outcome, message) = match result {
            Ok(()) => {
                let (status, outcome) = self.delivered(None);
                (status, outcome, None)
            }
            Err(failure) => {
                self.lacks_one(failure.clone());
                (failed(&failure), Outcome::Failed(failure.reason), Some(failure.message))
            }
        };
        self.report(id, entry, status, None, outcome, message);
    }

    /// Everything is under its final name, and durable if `synced`. Tells the sender, including what was not kept.
    pub fn finished(&mut self, synced: bool, not_kept: Vec<NotKept>) {
        self.actions.push_back(ReceiverAction::Control(Message::Finished { synced, not_kept }));
        self.done = true;
    }

    /// A program has run after the transfer. Tells the sender.
    pub fn ran(&mut self, end: ProgramEnd) {
        self.actions.push_back(ReceiverAction::Control(Message::Ran(end)));
    }

    /// The sender gets its receipt.
    pub fn seal(&mut self, seal: Seal) {
        self.actions.push_back(ReceiverAction::Control(Message::Seal(seal)));
    }

    /// All files that were received have been read back from the disk. Tells the sender how many; returns it.
    pub fn verified(&mut self) -> u64 {
        self.actions.push_back(ReceiverAction::Control(Message::Verified(self.written_files)));
        self.written_files
    }

    /// The disk cannot take the bytes of `id`, or cannot make them durable.
    pub fn write_failed(&mut self, id: EntryId, failure: Failure) {
        let may_fail =
            |state: &IncomingState| !state.is_complete() || matches!(state, IncomingState::Syncing { .. });
        if self.open.get(&id).is_some_and(|open| may_fail(&open.state)) {
            self.actions.push_back(ReceiverAction::GiveUp(id));
            self.fail(id, failure);
        }
    }

    /// What an entry has become that was received.
    pub(super) fn delivered(&self, renamed: Option<RelPath>) -> (Status, Outcome) {
        match self.is_atomic {
            true => (Status::Staged(renamed), Outcome::Staged),
            false => (Status::Done(renamed), Outcome::Written),
        }
    }

    pub(super) fn fail(&mut self, id: EntryId, failure: Failure) {
        let Some(IncomingEntry { entry, state, .. }) = self.open.remove(&id) else { return };
        self.lacks_one(failure.clone());
        self.forget_file(&state);
        self.drop_staged(&state, ReceiverAction::GiveUp(id));
        self.failed.insert(id);
        if self.failed.len() > self.open_entries_max {
            self.failed.pop_first();
        }
        let outcome = Outcome::Failed(failure.reason);
        self.report(id, entry, failed(&failure), None, outcome, Some(failure.message));
    }

    pub(super) fn settle(
        &mut self,
        id: EntryId,
        status: Status,
        root: Option<blake3::Hash>,
        outcome: Outcome,
    ) {
        let Some(IncomingEntry { entry, state, is_grown, .. }) = self.open.remove(&id) else { return };
        self.forget_file(&state);
        self.drop_staged(&state, ReceiverAction::Discard(id));
        if is_grown && outcome.is_delivered() {
            self.actions.push_back(ReceiverAction::Grew(entry.clone()));
        }
        // Bytes that were sent are counted when written.
        if !state.is_complete() {
            self.totals.settled_bytes = self.totals.settled_bytes.saturating_add(entry.size());
        }
        self.report(id, entry, status, root, outcome, None);
    }

    /// An entry ends that was here when it was looked up first. Consecutive ones are told together.
    pub(super) fn settle_in_place(&mut self, id: EntryId, root: Option<blake3::Hash>, outcome: Outcome) {
        let Some(IncomingEntry { entry, .. }) = self.open.remove(&id) else { return };
        self.open_path_bytes -= entry.path_bytes();
        if entry.is_file() {
            self.totals.settled_files += 1;
            self.totals.settled_bytes = self.totals.settled_bytes.saturating_add(entry.size());
        }
        let settled = Settled { id, entry, renamed: None, root, outcome, message: None };
        match self.actions.back_mut() {
            Some(ReceiverAction::Unchanged(before))
                if before.last().is_some_and(|last| last.id.0 + 1 == id.0) =>
            {
                before.push(settled);
            }
            _ => self.actions.push_back(ReceiverAction::Unchanged(vec![settled])),
        }
        self.advance();
    }

    pub(super) fn report(
        &mut self,
        id: EntryId,
        entry: Entry,
        status: Status,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        self.tell_end(id, entry, status, root, outcome, message);
        self.advance();
    }

    pub(super) fn tell_end(
        &mut self,
        id: EntryId,
        entry: Entry,
        status: Status,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        self.open_path_bytes -= entry.path_bytes();
        if entry.is_file() {
            self.totals.settled_files += 1;
        }
        let renamed = match &status {
            Status::Done(renamed)
            | Status::Staged(renamed)
            | Status::Identical(renamed)
            | Status::Planned(_, renamed) => renamed.clone(),
            _ => None,
        };
        if let Some(name) = &renamed {
            self.note_name(name, false);
        }
        self.actions.push_back(ReceiverAction::Control(Message::Status(id, status)));
        self.actions.push_back(ReceiverAction::Settled(Settled {
            id,
            entry,
            renamed,
            root,
            outcome,
            message,
        }));
    }

    /// Ends directories whose contents are all settled, and the transfer when nothing is left.
    pub(super) fn advance(&mut self) {
        while let Some(first) = self.open.first_entry() {
            let IncomingState::Leaving(dir) = first.get().state else { break };
            let (id, IncomingEntry { entry, .. }) = first.remove_entry();
            if self.is_dry || self.dirs.blocks(&entry.path).is_some() {
                let (status, outcome) = self.delivered(None);
                self.tell_end(id, entry, status, None, outcome, None);
                continue;
            }
            let is_new = dir.and_then(|dir| self.dirs.end(dir)).is_some_and(|was_there| !was_there);
            let meta = (is_new || self.exists == Exists::Replace).then_some(entry.meta.clone());
            self.actions.push_back(ReceiverAction::FinishDir(id, entry.path.clone(), meta));
            self.leaving.insert(id, entry);
        }
        let is_settled = self.ended && self.open.is_empty() && self.leaving.is_empty() && !self.finishing;
        if is_settled && !self.removes() {
            self.finishing = true;
            self.actions.push_back(ReceiverAction::Finish);
        }
    }
}

/// The text about a failed entry for the sender.
fn failed(failure: &Failure) -> Status {
    Status::Failed(failure.reason, failure.for_peer().to_owned())
}
