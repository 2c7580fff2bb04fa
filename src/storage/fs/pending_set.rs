//! A set that gets its names all at once, while it is received: its log, and whether that counts.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::set_log::{SetLog, SetStep};

/// The set of one transfer.
#[derive(Default)]
pub(super) struct PendingSet {
    stage: Mutex<SetStage>,
}

#[derive(Default)]
enum SetStage {
    /// Nothing is in the set yet.
    #[default]
    Empty,
    Receiving(SetLog),
    /// The log counts, or may count. What is staged belongs to it.
    Decided,
    /// The transfer has failed.
    GivenUp,
}

impl PendingSet {
    fn stage(&self) -> MutexGuard<'_, SetStage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transfer ends without the set, if that is still possible: whether it is.
    pub(super) fn give_up(&self) -> bool {
        let mut stage = self.stage();
        let is_decided = matches!(*stage, SetStage::Decided);
        if !is_decided {
            *stage = SetStage::GivenUp;
        }
        !is_decided
    }

    /// Adds a step to the log, which `begin` makes for the first one. With `flush`, the step is on the disk afterwards.
    pub(super) fn add(
        &self,
        begin: impl FnOnce() -> io::Result<SetLog>,
        step: &SetStep,
        flush: bool,
    ) -> io::Result<()> {
        let mut stage = self.stage();
        if let SetStage::Empty = *stage {
            *stage = SetStage::Receiving(begin()?);
        }
        let SetStage::Receiving(log) = &mut *stage else { return Err(ended()) };
        log.add(step)?;
        if flush { log.flush(true) } else { Ok(()) }
    }

    /// Lets the steps so far be read; false if there are none.
    pub(super) fn can_be_read(&self) -> io::Result<bool> {
        match &mut *self.stage() {
            SetStage::Receiving(log) => log.flush(false).map(|()| true),
            _ => Ok(false),
        }
    }

    /// From here on the set counts.
    pub(super) fn decide(&self, sync: bool) -> io::Result<()> {
        let mut stage = self.stage();
        // Already with the first byte of its end, the log may count.
        match std::mem::replace(&mut *stage, SetStage::Decided) {
            SetStage::Receiving(mut log) => log.end(sync),
            other => {
                *stage = other;
                Err(ended())
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the transfer has ended")
}
