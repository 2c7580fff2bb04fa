//! Disk jobs about extras: what is in announced directories and was not announced.

use crate::protocol::engine::receiver::{Receiver, ReceiverAction};
use crate::protocol::removal::{Extra, Removed};
use crate::storage::{Result, Target};

/// What a job has done.
pub(super) enum ExtrasDone {
    /// These were found, and so many directories could not be read.
    Found(Vec<Extra>, u64),
    Noted,
    Removed(Removed),
}

/// Does what `action` asks for, if it is about extras.
pub(super) async fn extras_job<T: Target>(target: &T, action: ReceiverAction) -> Result<ExtrasDone> {
    match action {
        ReceiverAction::FindExtras(announced) => {
            target.extras(announced).await.map(|(found, unread)| ExtrasDone::Found(found, unread))
        }
        ReceiverAction::NoteExtras(extras) => target.note_extras(extras).await.map(|()| ExtrasDone::Noted),
        ReceiverAction::RemoveExtras(backup) => target.remove_extras(backup).await.map(ExtrasDone::Removed),
        _ => Ok(ExtrasDone::Noted),
    }
}

impl ExtrasDone {
    /// Tells the machine.
    pub(super) fn tell(self, machine: &mut Receiver) {
        match self {
            Self::Found(found, unread) => machine.extras_found(found, unread),
            Self::Noted => machine.extras_noted(),
            Self::Removed(removed) => machine.extras_removed(removed),
        }
    }
}
