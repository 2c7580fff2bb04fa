//! The only slot of a listener that serves one session.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::extra::Sockets;
use crate::auth::handshake::{Authorizer, Visitor};
use crate::node::places::ticket_used;
use crate::protocol::failure::Failure;
use crate::session::handshake::Slot;
use crate::transport::Network;

/// A slot for one session, with any dialler that the authorizer lets in.
pub(super) struct OneSlot<N: Network> {
    pub(super) authorizer: Box<dyn Authorizer>,
    pub(super) taken: AtomicBool,
    pub(super) sockets: Sockets<N>,
}

impl<N: Network> Slot for OneSlot<N> {
    fn authorizer(&self) -> &dyn Authorizer {
        &*self.authorizer
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    fn take(&self, _: &Visitor) -> Result<(), Failure> {
        if self.taken.swap(true, Relaxed) {
            return Err(ticket_used());
        }
        Ok(())
    }

    fn give_back(&self, _: &Visitor) {
        self.sockets.close();
        self.taken.store(false, Relaxed);
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.sockets.open(connections)
    }
}
