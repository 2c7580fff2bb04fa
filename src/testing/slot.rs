//! A slot of a listener that needs nothing beside it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::auth::handshake::{Authorizer, Visitor};
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;

/// One slot for any dialler that is let in.
pub(crate) struct TestSlot<A> {
    authorizer: A,
    taken: AtomicBool,
}

impl<A> TestSlot<A> {
    pub(crate) fn new(authorizer: A) -> Self {
        Self { authorizer, taken: AtomicBool::new(false) }
    }
}

impl<A: Authorizer> Slot for TestSlot<A> {
    fn authorizer(&self) -> &dyn Authorizer {
        &self.authorizer
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    fn take(&self, _: &Visitor) -> Result<(), Failure> {
        match self.taken.swap(true, Relaxed) {
            false => Ok(()),
            true => Err(Failure::new(Reason::TicketUsed, "the ticket has been used")),
        }
    }

    fn give_back(&self, _: &Visitor) {
        self.taken.store(false, Relaxed);
    }

    fn ports(&self, _: Option<u32>) -> Vec<u16> {
        Vec::new()
    }
}
