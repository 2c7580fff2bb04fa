//! Messages of the manifest and control streams.

use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{Comparison, IncomingEntry, IncomingFile, IncomingState};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::RootBuilder;
use crate::protocol::path::printable;
use crate::protocol::wire::attributes::Attributes;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::limits::ATTRIBUTE_BYTES_MAX;
use crate::protocol::wire::message::Message;

impl Receiver {
    /// Handles a message of the manifest stream, received when the sender was last [heard](Self::heard).
    pub fn on_manifest(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Entry(_)
            | Message::Attributes(_)
            | Message::Top(_)
            | Message::Omitted(..)
            | Message::End(_)
                if self.ended =>
            {
                Err(Failure::protocol("the manifest goes on behind its end"))
            }
            Message::Attributes(bytes) => self.gather(&bytes),
            Message::Top(mut meta) => {
                self.take_gathered(&mut meta)?;
                self.actions.push_back(ReceiverAction::Top(meta));
                Ok(())
            }
            Message::Entry(mut entry) => {
                self.check_single(&entry)?;
                self.take_gathered(&mut entry.meta)?;
                let id = EntryId(self.next_id);
                self.next_id += 1;
                self.step();
                if entry.kind != Kind::DirEnd {
                    self.note_name(&entry.path, entry.kind == Kind::Dir);
                }
                self.totals.files += u64::from(entry.is_file());
                self.totals.bytes = self.totals.bytes.saturating_add(entry.size());
                self.open_path_bytes += entry.path_bytes();
                let state = match entry.kind {
                    Kind::DirEnd => IncomingState::Leaving(self.dirs.leave(&entry.path)),
                    _ => {
                        if entry.kind == Kind::Dir {
                            self.dirs.enter(id, &entry.path);
                        }
                        // A single file is wanted once it is known to be one.
                        if self.in_order.is_none() {
                            self.actions.push_back(ReceiverAction::Admit(id, entry.clone()));
                        }
                        IncomingState::Admitting { staged: None }
                    }
                };
                self.open.insert(id, IncomingEntry { entry, state, is_grown: false, old: None });
                self.advance();
                Ok(())
            }
            Message::Omitted(reason, message) => {
                self.omitted(reason.of_omitted(), printable(message.as_bytes()));
                Ok(())
            }
            Message::End(_) if !self.gathered.is_empty() => {
                Err(Failure::protocol("attributes come without an entry"))
            }
            Message::End(count) if count == self.next_id => {
                self.ended = true;
                if let (Some(_), Some((id, open))) = (self.in_order, self.open.first_key_value()) {
                    self.actions.push_back(ReceiverAction::Admit(*id, open.entry.clone()));
                }
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

    /// The sender has left something out.
    fn omitted(&mut self, reason: Reason, message: String) {
        self.came(message.len() as u64, self.progress.alive_at());
        self.is_source_incomplete |= reason.exit_code() != 10;
        self.lacks_one(Failure::on(Side::Sender, reason, message.clone()));
        self.actions.push_back(ReceiverAction::Omitted(reason, message));
    }

    /// Keeps bytes of the attributes of the next entry.
    fn gather(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.gathered.len() + bytes.len() > ATTRIBUTE_BYTES_MAX {
            return Err(Failure::protocol("an entry has too many attributes"));
        }
        self.gathered.extend_from_slice(bytes);
        self.step();
        Ok(())
    }

    /// The attributes that have come before an entry are its own.
    fn take_gathered(&mut self, meta: &mut Meta) -> Result<(), Failure> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        if meta.attributes.is_some() {
            return Err(Failure::protocol("an entry has attributes twice"));
        }
        // Not the buffer itself: it may be larger.
        let bytes = Bytes::copy_from_slice(&std::mem::take(&mut self.gathered));
        let attributes = Attributes::decode(bytes).map_err(|error| Failure::protocol(error.to_string()))?;
        meta.attributes = Some(Arc::new(attributes));
        Ok(())
    }

    /// Whether `entry` is the only one, where only a single file is taken.
    fn check_single(&self, entry: &Entry) -> Result<(), Failure> {
        let what = match entry.kind {
            _ if self.in_order.is_none() => return Ok(()),
            _ if self.next_id > 0 => "several files",
            Kind::File { .. } | Kind::OpenEnded => return Ok(()),
            Kind::Dir | Kind::DirEnd => "a directory",
            Kind::Symlink { .. } => "a symbolic link",
        };
        let message = format!("{} takes a single file, and the sender offers {what}", self.target);
        Err(Failure::on(Side::Receiver, Reason::Refused, message.clone()).telling(message))
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
            Message::Verdict(bits) => self.on_verdict(bits),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::engine::patience::Patience;
    use crate::protocol::final_name::Exists;
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::attributes::{Xattr, XattrName, Xattrs};
    use crate::protocol::wire::entry::Entry;

    fn receiver() -> Receiver {
        let patience = Patience { timeout: Duration::from_secs(30), disk_timeout: Duration::from_secs(600) };
        Receiver::new(20, Exists::Refuse, "to".into(), patience, Duration::ZERO)
    }

    fn entry(attributes: Option<Attributes>) -> Message {
        let path = RelPath::new(b"f").unwrap();
        let meta = Meta { attributes: attributes.map(Arc::new), ..Meta::default() };
        Message::Entry(Entry { path, meta, kind: Kind::Dir, hole_bytes: 0 })
    }

    fn large() -> Attributes {
        let one = |number: u8| Xattr {
            name: XattrName::new(format!("user.{number}").as_bytes()).unwrap(),
            value: vec![number; 60_000].into(),
        };
        Attributes { xattrs: Xattrs::new((0..9).map(one).collect()), ..Attributes::default() }
    }

    /// [W-73]
    #[test]
    fn attributes_that_come_before_an_entry_are_its_own_and_count_as_open() {
        let mut receiver = receiver();
        for piece in large().pieces() {
            receiver.on_manifest(Message::Attributes(piece)).unwrap();
        }
        receiver.on_manifest(entry(None)).unwrap();
        receiver.on_manifest(entry(None)).unwrap();
        let attributes = |id| receiver.entry(EntryId(id)).unwrap().meta.attributes.as_deref().cloned();
        assert_eq!((attributes(0), attributes(1)), (Some(large()), None));
        assert!(receiver.open_path_bytes > 9 * 60_000 && receiver.gathered.capacity() == 0);
    }

    /// [W-73]
    #[test]
    fn attack_14_attributes_without_an_end_or_an_entry_are_refused() {
        let piece = |bytes: usize| Message::Attributes(vec![0; bytes].into());
        let mut endless = receiver();
        let result = (0..1000).try_for_each(|_| endless.on_manifest(piece(12_000)));
        assert!(result.unwrap_err().message.contains("too many attributes"));
        assert!(endless.gathered.len() <= ATTRIBUTE_BYTES_MAX);
        let mut twice = receiver();
        large().pieces().for_each(|piece| twice.on_manifest(Message::Attributes(piece)).unwrap());
        let inline = Attributes { special_bits: Some(1), ..Attributes::default() };
        assert!(twice.on_manifest(entry(Some(inline))).is_err());
        let mut senseless = receiver();
        senseless.on_manifest(piece(10)).unwrap();
        assert!(senseless.on_manifest(entry(None)).is_err());
        let mut alone = receiver();
        alone.on_manifest(piece(10)).unwrap();
        assert!(alone.on_manifest(Message::End(0)).is_err());
    }
}
