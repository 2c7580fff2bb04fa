//! Messages of the control stream.

use std::ops::Range;
use std::time::Duration;

use crate::protocol::engine::sender::action::{ReceiverEnd, SenderAction};
use crate::protocol::engine::sender::machine::Sender;
use crate::protocol::engine::sender::state::{OutgoingEntry, OutgoingState};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::printable;
use crate::protocol::planned::Planned;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{EntryId, Kind, Outcome};
use crate::protocol::wire::limits::{ANSWER_SECONDS_MAX, PROGRAM_SECONDS_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

impl Sender {
    /// Handles a message of the control stream.
    pub fn on_control(&mut self, message: Message, now: Duration) -> Result<(), Failure> {
        match message {
            _ if self.finished.is_some() => {
                Err(Failure::protocol("the receiver goes on behind its last word"))
            }
            Message::Status(id, status) => {
                self.progress.step(now);
                self.on_status(id, status)
            }
            Message::Unchanged(first, count) => {
                self.progress.step(now);
                self.on_unchanged(first, count)
            }
            Message::Extras(extras) => {
                self.progress.step(now);
                self.on_extras(extras)
            }
            Message::Removed(removal) => self.on_removed(removal),
            Message::Unpacks(what) => {
                self.unpacks = what & 1 == 1;
                self.progress.idle_message(now)
            }
            Message::Heartbeat(activity) => {
                self.progress.idle_message(now)?;
                match activity {
                    Activity::Waiting => {}
                    Activity::Asking => self.is_asked(now),
                    Activity::Program => self.runs_program(now),
                    _ => self.progress.alive(now),
                }
                Ok(())
            }
            Message::Came(bytes) => {
                self.progress.idle_message(now)?;
                self.said_came = bytes;
                Ok(())
            }
            Message::Seal(seal) => {
                self.seal = Some(seal);
                Ok(())
            }
            Message::Ran(end) => {
                self.progress.step(now);
                self.program = Some(end);
                Ok(())
            }
            Message::Verified(files) => {
                self.verified = Some(files);
                Ok(())
            }
            Message::Old(id, bytes) => self.on_old(id, bytes),
            Message::Durable(id, ranges) => self.on_durable(id, ranges, now),
            Message::Finished { synced: true, .. } if self.is_durability_missing => Err(Failure::protocol(
                "the receiver never said that all of a file is durable, but has synced all",
            )),
            Message::Finished { synced, not_kept } => self.on_finished(synced, not_kept, now),
            other => Err(Failure::protocol(format!(
                "the receiver sent {}, which only a sender sends",
                other.name()
            ))),
        }
    }

    fn on_finished(&mut self, synced: bool, not_kept: Vec<NotKept>, now: Duration) -> Result<(), Failure> {
        // Acks have their own streams, so this message may overtake the last of them.
        let is_done =
            |open: &OutgoingEntry| matches!(&open.state, OutgoingState::Wanted(t) if t.done.is_some());
        let is_removed = !self.judging.is_asked || self.judging.ended.is_some();
        if !self.walked || !self.open.values().all(is_done) || !is_removed {
            return Err(Failure::protocol("the receiver says that it has finished before it has"));
        }
        self.progress.step(now);
        let not_kept = not_kept.into_iter().map(|one| NotKept {
            path: printable(one.path.as_bytes()),
            cause: printable(one.cause.as_bytes()),
            ..one
        });
        let (verified, seal, not_kept) = (self.verified, self.seal.take(), not_kept.collect());
        let (program, removal) = (self.program, self.judging.ended.take());
        self.finished = Some(ReceiverEnd { synced, verified, removal, seal, not_kept, program });
        Ok(())
    }

    /// A person takes longer than a disk, but not forever.
    fn is_asked(&mut self, now: Duration) {
        self.progress.alive(now);
        let since = *self.asked_at.get_or_insert(now);
        if now.saturating_sub(since) < Duration::from_secs(ANSWER_SECONDS_MAX) {
            self.progress.step(now);
        }
    }

    /// Everything is delivered, so nothing but the end is missing.
    fn runs_program(&mut self, now: Duration) {
        self.progress.alive(now);
        let since = *self.program_at.get_or_insert(now);
        if now.saturating_sub(since) < Duration::from_secs(PROGRAM_SECONDS_MAX) {
            self.progress.step(now);
        }
    }

    /// Chunks of a file are durable. Chunks not yet acked are ignored: a later message includes them.
    fn on_durable(&mut self, id: EntryId, ranges: Vec<Range<u64>>, now: Duration) -> Result<(), Failure> {
        self.check_id(id)?;
        let file = match self.open.get_mut(&id).map(|open| &mut open.state) {
            Some(OutgoingState::Wanted(file)) => file,
            // The receiver sent it before it knew.
            Some(OutgoingState::Abandoned(_)) => return self.progress.idle_message(now),
            _ => return Err(Failure::protocol(format!("nothing of entry {} has been sent", id.0))),
        };
        let before = file.plan.durable().len();
        if ranges.last().is_some_and(|last| last.end > file.plan.chunks()) {
            return Err(Failure::protocol(format!("entry {} has no such chunks", id.0)));
        }
        ranges.into_iter().for_each(|range| file.plan.sync_range(range));
        if file.plan.durable().len() == before {
            return self.progress.idle_message(now);
        }
        self.progress.step(now);
        Ok(())
    }

    /// An open entry.
    pub(super) fn check_id(&self, id: EntryId) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        if !self.open.contains_key(&id) {
            return Err(Failure::new(Reason::TransferEnded, format!("entry {} has ended already", id.0)));
        }
        Ok(())
    }

    fn on_status(&mut self, id: EntryId, status: Status) -> Result<(), Failure> {
        self.check_id(id)?;
        let Some(OutgoingEntry { state, entry, .. }) = self.open.get(&id) else { return Ok(()) };
        let (was, name) = (state.name(), status.name());
        if !self.may_follow(&entry.kind, &status) {
            let run = if self.is_dry { "a dry run" } else { "a transfer" };
            return Err(Failure::protocol(format!("the status {name} of entry {} is none of {run}", id.0)));
        }
        let follows = match (state, status) {
            (OutgoingState::Abandoned(_), status) => self.status_of_abandoned(id, &status),
            (_, Status::Failed(reason, message)) => {
                let message = printable(message.as_bytes());
                self.settle(id, None, None, Outcome::Failed(reason.of_failed()), Some(message));
                true
            }
            (OutgoingState::Announced | OutgoingState::Checking { .. }, Status::Planned(planned, name)) => {
                self.settle(id, name, None, Outcome::Planned(planned), None);
                true
            }
            (OutgoingState::Announced, status) => self.status_of_announced(id, status),
            (OutgoingState::Checking { root }, status) => {
                let root = *root;
                self.status_of_checked(id, root, status)
            }
            (OutgoingState::Wanted(_), status) => self.status_of_wanted(id, status)?,
        };
        if follows {
            return Ok(());
        }
        Err(Failure::protocol(format!(
            "the status {name} of entry {} does not follow: the entry is {was}",
            id.0
        )))
    }

    /// All of these entries were announced, and none has had a status.
    fn on_unchanged(&mut self, first: EntryId, count: u64) -> Result<(), Failure> {
        for id in (first.0..first.0.saturating_add(count)).map(EntryId) {
            self.check_id(id)?;
            let Some(OutgoingEntry { state, entry, .. }) = self.open.get(&id) else { continue };
            let (root, outcome) = match (state, &entry.kind) {
                (OutgoingState::Abandoned(_), _) => {
                    self.status_of_abandoned(id, &Status::Identical(None));
                    continue;
                }
                (OutgoingState::Announced, Kind::File { size: 0 }) => {
                    (Some(blake3::hash(b"")), Outcome::Identical)
                }
                (OutgoingState::Announced, Kind::Symlink { .. }) => (None, Outcome::Identical),
                (OutgoingState::Announced, Kind::File { .. }) if !self.compares => (None, Outcome::Unchanged),
                (OutgoingState::Announced, Kind::File { .. }) => {
                    let message = format!("{} is said to be unchanged, but was to be compared", entry.path);
                    return Err(Failure::protocol(message));
                }
                _ => {
                    let message = format!("entry {} cannot be unchanged: it is {}", id.0, state.name());
                    return Err(Failure::protocol(message));
                }
            };
            self.settle(id, None, root, outcome, None);
        }
        Ok(())
    }

    /// A dry run changes nothing at the receiver, and only a dry run tells what would be done.
    fn may_follow(&self, kind: &Kind, status: &Status) -> bool {
        match status {
            Status::Planned(Planned::Create, _) => self.is_dry && *kind != Kind::DirEnd,
            Status::Planned(Planned::Update, _) => {
                self.is_dry && !matches!(kind, Kind::DirEnd | Kind::OpenEnded)
            }
            Status::Planned(..) => self.is_dry && !matches!(kind, Kind::Dir | Kind::DirEnd),
            Status::Done(None) => !self.is_dry || *kind == Kind::DirEnd,
            Status::Want
            | Status::WantInOrder(_)
            | Status::Resume(_)
            | Status::Done(_)
            | Status::Staged(_)
            | Status::Updated => !self.is_dry,
            Status::Check | Status::Identical(_) | Status::Skipped | Status::Failed(..) | Status::NotKept => {
                true
            }
        }
    }

    fn status_of_abandoned(&mut self, id: EntryId, status: &Status) -> bool {
        // The receiver sent it before it knew.
        if matches!(status, Status::Want | Status::WantInOrder(_) | Status::Resume(_) | Status::Check) {
            return true;
        }
        // The entry may have been done before the receiver knew; the change of the source must still be reported.
        if let Some(OutgoingEntry { state: OutgoingState::Abandoned(failure), .. }) = self.open.get(&id) {
            let failure = failure.clone();
            self.settle(id, None, None, Outcome::Failed(failure.reason), Some(failure.message));
        }
        true
    }

    fn status_of_announced(&mut self, id: EntryId, status: Status) -> bool {
        // A receiver that takes a file in order has waited for the end of the manifest.
        let is_single = self.walked && self.next_id == 1;
        let Some(OutgoingEntry { entry, state, .. }) = self.open.get_mut(&id) else { return false };
        let (is_file, is_empty) = (entry.is_file(), entry.size() == 0 && entry.kind != Kind::OpenEnded);
        let is_known = entry.kind != Kind::OpenEnded;
        let root = is_empty.then(|| blake3::hash(b"")).filter(|_| is_file);
        match status {
            Status::Want if is_file => self.want(id),
            Status::WantInOrder(chunks) if is_file && is_single => self.want_in_order(id, chunks),
            Status::Resume(held) => return self.resume(id, &held),
            Status::Check if is_file && entry.kind != Kind::OpenEnded => {
                *state = OutgoingState::Checking { root: None };
                self.actions.push_back(SenderAction::Root(id));
            }
            // If it has bytes, the receiver must have seen the root.
            Status::Identical(renamed) if is_empty => {
                self.settle(id, renamed, root, Outcome::Identical, None);
            }
            // A file with bytes was not compared.
            Status::Updated if is_empty || (is_known && !self.compares) => {
                self.settle(id, None, root, Outcome::Updated, None);
            }
            Status::Done(renamed) if is_empty => {
                self.settle(id, renamed, root, Outcome::Written, None);
            }
            Status::Skipped => self.settle(id, None, None, Outcome::Skipped, None),
            Status::Staged(renamed) if is_empty => {
                self.settle(id, renamed, root, Outcome::Staged, None);
            }
            Status::NotKept if matches!(entry.kind, Kind::Symlink { .. }) => {
                self.settle(id, None, None, Outcome::NotKept, None);
            }
            _ => return false,
        }
        true
    }

    fn status_of_checked(&mut self, id: EntryId, root: Option<blake3::Hash>, status: Status) -> bool {
        match status {
            Status::Want => self.want(id),
            Status::Resume(held) => return self.resume(id, &held),
            Status::Identical(renamed) if root.is_some() => {
                self.settle(id, renamed, root, Outcome::Identical, None);
            }
            Status::Updated if root.is_some() => self.settle(id, None, root, Outcome::Updated, None),
            Status::Skipped => self.settle(id, None, None, Outcome::Skipped, None),
            _ => return false,
        }
        true
    }

    fn status_of_wanted(&mut self, id: EntryId, status: Status) -> Result<bool, Failure> {
        let (outcome, renamed) = match status {
            // Another process took the name while the bytes were in flight.
            Status::Skipped => (Outcome::Skipped, None),
            Status::Done(renamed) => (Outcome::Written, renamed),
            Status::Staged(renamed) => (Outcome::Staged, renamed),
            // Another transfer may have delivered the same while the bytes were in flight.
            Status::Identical(renamed) => (Outcome::Identical, renamed),
            _ => return Ok(false),
        };
        let Some(OutgoingEntry { state: OutgoingState::Wanted(file), entry, .. }) = self.open.get_mut(&id)
        else {
            return Ok(false);
        };
        if (file.is_open_ended || !entry.is_small()) && !file.closed {
            return Ok(false);
        }
        if outcome == Outcome::Skipped {
            self.settle(id, None, None, outcome, None);
            return Ok(true);
        }
        self.is_durability_missing |=
            outcome.is_delivered() && file.plan.chunks() > 1 && !file.plan.is_durable();
        match file.root.root() {
            Some(root) => self.settle(id, renamed, Some(root), outcome, None),
            None => {
                file.done = Some((outcome, renamed));
                self.take_final_word(id)?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::engine::bottleneck::Bottleneck;
    use crate::protocol::engine::patience::Patience;

    const PATIENCE: Patience =
        Patience { timeout: Duration::from_secs(30), disk_timeout: Duration::from_secs(600) };

    #[test]
    fn a_person_has_an_hour_and_then_as_long_as_a_disk() {
        let mut sender = Sender::new(20, PATIENCE, Duration::ZERO);
        let lasts = (1..).find(|seconds| {
            let now = Duration::from_secs(*seconds);
            sender.on_control(Message::Heartbeat(Activity::Asking), now).unwrap();
            sender.check_stall(Bottleneck::Network, now).is_err()
        });
        assert_eq!(lasts, Some(ANSWER_SECONDS_MAX + 631));
    }

    #[test]
    fn a_program_has_a_day() {
        let mut sender = Sender::new(20, PATIENCE, Duration::ZERO);
        let lasts = (1..).map(|minute| minute * 10).find(|seconds| {
            let now = Duration::from_secs(*seconds);
            sender.on_control(Message::Heartbeat(Activity::Program), now).unwrap();
            sender.check_stall(Bottleneck::Network, now).is_err()
        });
        assert!(
            lasts.is_some_and(|seconds| (PROGRAM_SECONDS_MAX..PROGRAM_SECONDS_MAX + 700).contains(&seconds))
        );
    }
}
