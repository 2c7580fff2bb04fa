//! Extras at the receiver: the sender says which of them may be removed.

use crate::protocol::engine::sender::action::SenderAction;
use crate::protocol::engine::sender::machine::Sender;
use crate::protocol::engine::sender::state::{OutgoingEntry, OutgoingState};
use crate::protocol::failure::Failure;
use crate::protocol::path::{RelPath, printable};
use crate::protocol::removal::Removal;
use crate::protocol::wire::limits::EXTRAS_OPEN_MAX;
use crate::protocol::wire::message::Message;

impl Sender {
    /// The receiver is asked to remove extras.
    pub fn removing(mut self, is_asked: bool) -> Self {
        self.judging.is_asked = is_asked;
        self
    }

    pub(super) fn on_extras(&mut self, extras: Vec<(RelPath, bool)>) -> Result<(), Failure> {
        let is_done =
            |open: &OutgoingEntry| matches!(&open.state, OutgoingState::Wanted(t) if t.done.is_some());
        let may_come = self.judging.is_asked
            && self.judging.ended.is_none()
            && self.walked
            && self.open.values().all(is_done)
            && self.judging.waiting.len() < EXTRAS_OPEN_MAX;
        if !may_come {
            return Err(Failure::protocol("the receiver asks what to remove when it may not"));
        }
        self.judging.waiting.push_back(extras.clone());
        self.actions.push_back(SenderAction::Judge(extras));
        Ok(())
    }

    /// Whether the source has nothing under each of the oldest names. Returns those that the receiver is told to remove,
    /// and whether each is a directory.
    pub fn judged(&mut self, are_extra: &[bool]) -> Vec<(RelPath, bool)> {
        let names = self.judging.waiting.pop_front().unwrap_or_default();
        let (mut bits, mut removed) = (0, Vec::new());
        for (place, ((path, is_dir), is_extra)) in names.into_iter().zip(are_extra).enumerate() {
            if self.judging.may_go(&path, *is_extra) {
                bits |= 1_u64 << place;
                removed.push((path, is_dir));
            }
        }
        self.actions.push_back(SenderAction::Control(Message::Verdict(bits)));
        removed
    }

    pub(super) fn on_removed(&mut self, removal: Removal) -> Result<(), Failure> {
        if !self.judging.is_asked || self.judging.ended.is_some() || !self.judging.waiting.is_empty() {
            return Err(Failure::protocol("the receiver says what it has removed when it may not"));
        }
        self.judging.ended = Some(match removal {
            Removal::Done { removed, remaining, example } => {
                Removal::Done { removed, remaining, example: printable(example.as_bytes()) }
            }
            other => other,
        });
        Ok(())
    }
}
