//! The removal of extras, when everything else has ended: what is in announced directories and was not announced.

use std::sync::Arc;

use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::removing::Stage;
use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;
use crate::protocol::removal::{Extra, Removal, Removed};
use crate::protocol::wire::limits::{EXTRAS_MAX, EXTRAS_OPEN_MAX};
use crate::protocol::wire::message::Message;

impl Receiver {
    /// The sender has announced this path, or an entry gets it as its other name.
    pub(super) fn note_name(&mut self, path: &RelPath, is_dir: bool) {
        if let Some(removing) = &mut self.removing {
            removing.announced.add(path, is_dir);
        }
    }

    /// Everything else has ended. Returns whether extras are still to be found or removed.
    pub(super) fn removes(&mut self) -> bool {
        let Some(removing) = &mut self.removing else { return false };
        match removing.stage {
            Stage::Announcing if self.is_source_incomplete => self.end_removal(Removal::SourceIncomplete),
            Stage::Announcing if removing.announced.is_incomplete() => {
                self.end_removal(Removal::TooLittleMemory);
            }
            Stage::Announcing => {
                removing.stage = Stage::Asking;
                removing.is_finding = true;
                let announced = Arc::new(std::mem::take(&mut removing.announced).sorted());
                self.actions.push_back(ReceiverAction::FindExtras(Some(announced)));
            }
            Stage::Asking | Stage::Removing | Stage::Ended => {}
        }
        self.removing.as_ref().is_some_and(|removing| removing.stage != Stage::Ended)
    }

    /// More extras, what is in a directory before the directory; none at the end. `unread` directories could not be read.
    pub fn extras_found(&mut self, found: Vec<Extra>, unread: u64) {
        let Some(removing) = &mut self.removing else { return };
        removing.is_finding = false;
        removing.unread = unread;
        removing.is_swept = found.is_empty();
        if !found.is_empty() {
            let names = found.iter().map(|extra| (extra.path.clone(), extra.is_dir)).collect();
            removing.asked.push_back(found);
            self.actions.push_back(ReceiverAction::Control(Message::Extras(names)));
        }
        self.go_on_removing();
    }

    /// The sender says which of the oldest extras are to be removed.
    pub(super) fn on_verdict(&mut self, bits: u64) -> Result<(), Failure> {
        let asked = self.removing.as_mut().and_then(|removing| removing.asked.pop_front());
        let is_about = |asked: &Vec<Extra>| asked.len() >= EXTRAS_MAX || bits >> asked.len() == 0;
        let Some(asked) = asked.filter(is_about) else {
            return Err(Failure::protocol("a verdict comes about something that was not asked"));
        };
        self.step();
        let is_approved = |place: usize| bits >> place & 1 == 1;
        let approved: Vec<_> = asked
            .into_iter()
            .enumerate()
            .filter(|(place, _)| is_approved(*place))
            .map(|(_, extra)| extra)
            .collect();
        if let Some(removing) = &mut self.removing {
            removing.approved += approved.len() as u64;
            if !approved.is_empty() && !self.is_dry {
                removing.noting += 1;
                self.actions.push_back(ReceiverAction::NoteExtras(approved));
            }
        }
        self.go_on_removing();
        Ok(())
    }

    /// Extras are noted.
    pub fn extras_noted(&mut self) {
        if let Some(removing) = &mut self.removing {
            removing.noting -= 1;
        }
        self.go_on_removing();
    }

    fn go_on_removing(&mut self) {
        let Some(removing) = &mut self.removing else { return };
        if !removing.is_swept {
            if !removing.is_finding && removing.asked.len() < EXTRAS_OPEN_MAX {
                removing.is_finding = true;
                self.actions.push_back(ReceiverAction::FindExtras(None));
            }
            return;
        }
        if removing.stage != Stage::Asking || !removing.asked.is_empty() || removing.noting > 0 {
            return;
        }
        let approved = removing.approved;
        if removing.request.names_max.is_some_and(|max| approved > max) {
            self.end_removal(Removal::TooMany(approved));
            self.advance();
        } else if self.is_dry || approved == 0 {
            self.extras_removed(Removed { count: approved, ..Removed::default() });
        } else {
            removing.stage = Stage::Removing;
            let backup = removing.request.backup.clone();
            self.actions.push_back(ReceiverAction::RemoveExtras(backup));
        }
    }

    /// The extras are removed, as far as they can be.
    pub fn extras_removed(&mut self, removed: Removed) {
        let unread = self.removing.as_ref().map_or(0, |removing| removing.unread);
        let Removed { count, remaining, example } = removed;
        let unreadable =
            || if unread > 0 { "a directory could not be read".to_owned() } else { String::new() };
        let example = example.unwrap_or_else(unreadable);
        self.end_removal(Removal::Done { removed: count, remaining: remaining + unread, example });
        self.advance();
    }

    fn end_removal(&mut self, removal: Removal) {
        if let Some(removing) = &mut self.removing {
            removing.stage = Stage::Ended;
        }
        self.actions.push_back(ReceiverAction::Control(Message::Removed(removal.clone())));
        self.actions.push_back(ReceiverAction::Removal(removal));
    }
}
