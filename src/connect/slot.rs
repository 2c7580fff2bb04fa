//! The only slot of a listener that serves one session.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::extra::Sockets;
use crate::auth::handshake::Authorizer;
use crate::auth::methods::AnyOf;
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;
use crate::transport::Network;

/// The failure for a second dialler with the same ticket.
pub(super) fn ticket_used() -> Failure {
    let message = "this ticket has been used; a ticket is good for one transfer, so ask for a new one";
    Failure::new(Reason::TicketUsed, message)
}

/// A slot for one session, with any dialler that the authorizer lets in.
pub(super) struct OneSlot<N: Network> {
    pub(super) authorizer: AnyOf,
    pub(super) taken: AtomicBool,
    pub(super) sockets: Sockets<N>,
}

impl<N: Network> Slot for OneSlot<N> {
    fn authorizer(&self) -> &dyn Authorizer {
        &self.authorizer
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    fn take(&self) -> Result<(), Failure> {
        if self.taken.swap(true, Relaxed) {
            return Err(ticket_used());
        }
        Ok(())
    }

    fn give_back(&self) {
        self.sockets.close();
        self.taken.store(false, Relaxed);
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.sockets.open(connections)
    }
}
