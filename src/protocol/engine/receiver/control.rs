//! Messages of the manifest and control streams.

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{Comparison, IncomingEntry, IncomingFile, IncomingState};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::RootBuilder;
use crate::protocol::path::printable;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::message::Message;

impl Receiver {
    /// Handles a message of the manifest stream, received when the sender was last [heard](Self::heard).
    pub fn on_manifest(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Entry(_) | Message::Omitted(..) | Message::End(_) if self.ended => {
                Err(Failure::protocol("the manifest goes on behind its end"))
            }
            Message::Entry(entry) => {
                let id = EntryId(self.next_id);
                self.next_id += 1;
                self.step();
                self.totals.files += u64::from(entry.is_file());
                self.totals.bytes = self.totals.bytes.saturating_add(entry.size());
                self.open_path_bytes += entry.path_bytes();
                let state = match entry.kind {
                    Kind::DirEnd => IncomingState::Leaving(self.dirs.leave(&entry.path)),
                    _ => {
                        if entry.kind == Kind::Dir {
                            self.dirs.enter(id, &entry.path);
                        }
                        self.actions.push_back(ReceiverAction::Admit(id, entry.clone()));
                        IncomingState::Admitting { staged: None }
                    }
                };
                self.open.insert(id, IncomingEntry { entry, state, is_grown: false, old: None });
                self.advance();
                Ok(())
            }
            Message::Omitted(reason, message) => {
                let message = printable(message.as_bytes());
                self.came(message.len() as u64, self.progress.alive_at());
                let reason = reason.of_omitted();
                self.lacks_one(Failure::on(Side::Sender, reason, message.clone()));
                self.actions.push_back(ReceiverAction::Omitted(reason, message));
                Ok(())
            }
            Message::End(count) if count == self.next_id => {
                self.ended = true;
                self.step();
                self.advance();
                Ok(())
            }
            Message::End(count) => Err(Failure::protocol(format!(
                "the manifest ends with {count} entries, but {} have come",
                self.next_id
            ))),
            other => {
                Err(Failure::protocol(format!("{} does not belong on the manifest stream", other.name())))
            }
        }
    }

    /// Handles a message of the control stream, received when the sender was last [heard](Self::heard).
    pub fn on_control(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Digest(id, digest) => {
                self.check_id(id)?;
                match self.open.get_mut(&id) {
                    Some(IncomingEntry {
                        state: IncomingState::Comparing(Comparison { theirs, is_staged: false, .. }),
                        ..
                    }) => {
                        *theirs = Some(blake3::Hash::from_bytes(digest));
                        self.step();
                        self.compare(id);
                        Ok(())
                    }
                    _ => Err(Failure::protocol(format!("the root of entry {} was not asked for", id.0))),
                }
            }
            Message::Close(id, digest, is_grown, size) => {
                self.on_close(id, blake3::Hash::from_bytes(digest), size)?;
                if is_grown {
                    self.grew(id);
                }
                Ok(())
            }
            Message::Abandon(id, reason, message) => self.on_abandon(id, reason, &message),
            Message::Left(lane) => {
                self.progress.idle_message(self.progress.alive_at())?;
                self.actions.push_back(ReceiverAction::Leave(lane));
                Ok(())
            }
            Message::Heartbeat(_) => self.progress.idle_message(self.progress.alive_at()),
            other => Err(Failure::protocol(format!(
                "the sender sent {}, which only a receiver sends",
                other.name()
            ))),
        }
    }

    pub(super) fn check_id(&self, id: EntryId) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        if !self.open.contains_key(&id) {
            return Err(self.ended_failure(id));
        }
        Ok(())
    }

    /// The answer to a message about an entry that is no longer open.
    pub(super) fn ended_failure(&self, id: EntryId) -> Failure {
        let (reason, how) = match self.failed.contains(&id) {
            true => (Reason::TransferFailed, "failed"),
            false => (Reason::TransferEnded, "ended"),
        };
        Failure::new(reason, format!("entry {} has {how} already", id.0))
    }

    fn on_close(&mut self, id: EntryId, theirs: blake3::Hash, size: Option<u64>) -> Result<(), Failure> {
        self.check_id(id)?;
        let Some(IncomingEntry { state, entry, .. }) = self.open.get_mut(&id) else { return Ok(()) };
        let IncomingState::Receiving(file) = state else {
            return Err(Failure::protocol(format!("entry {} is not being received", id.0)));
        };
        if entry.kind == Kind::OpenEnded && file.root.is_complete() {
            if file.end != size {
                return Err(Failure::protocol(format!(
                    "{} was closed with another size than it has",
                    entry.path
                )));
            }
            entry.kind = Kind::File { size: size.unwrap_or(0) };
        }
        match file.root.root() {
            None => Err(Failure::protocol(format!("{} was closed before all of it was acked", entry.path))),
            Some(mine) if mine != theirs => Err(Failure::on(
                Side::Receiver,
                Reason::Verification,
                format!("{}: the BLAKE3 root is {mine} here and {theirs} at the sender", entry.path),
            )),
            Some(mine) if file.plan.chunks() > 1 => {
                let empty = IncomingFile::new(RootBuilder::new(0), Plan::new(0));
                let file = std::mem::replace(file, empty);
                *state = IncomingState::Syncing { root: mine, file };
                self.step();
                self.go_on_syncing(id);
                Ok(())
            }
            // For a file of one chunk, `Done` implies it.
            Some(mine) => {
                self.step();
                self.commit(id, Some(mine), false);
                Ok(())
            }
        }
    }

    pub(super) fn on_abandon(&mut self, id: EntryId, reason: Reason, message: &str) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        // The entry may have ended here while the sender gave it up, or may be about to get its final name.
        if self.open.get(&id).is_some_and(|open| !open.state.is_complete()) {
            self.step();
            self.actions.push_back(ReceiverAction::GiveUp(id));
            let message = printable(message.as_bytes());
            self.fail(id, Failure::on(Side::Sender, reason.of_abandoned(), message));
        }
        Ok(())
    }
}
