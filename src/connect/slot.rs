//! Who may take the one session that there is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::extra::Sockets;
use crate::auth::{Fingerprint, Secret};
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::{Claim, Door};

/// What the second dialler with a ticket is told.
pub(super) fn ticket_used() -> Failure {
    let message = "this ticket has been used: it is good for one transfer; ask for a new one";
    Failure::new(Reason::TicketUsed, message)
}

/// One seat: whoever proves the ticket's secret, or holds the one key that was named.
pub(super) struct OneSeat {
    pub(super) secret: Secret,
    pub(super) allowed: Option<Fingerprint>,
    pub(super) taken: AtomicBool,
    pub(super) sockets: Sockets,
}

impl Door for OneSeat {
    fn check(&self, claim: &Claim) -> Result<(), Failure> {
        if claim.proves(&self.secret) || self.allowed == Some(claim.fingerprint) {
            return Ok(());
        }
        let message = if claim.has_proof() {
            "the ticket's secret is not the one that this side gave out; ask for the ticket once more"
                .to_owned()
        } else {
            format!(
                "the dialling machine ({}) is not known to the waiting one: dial with the ticket, or let the waiting side start with --fingerprint {}",
                claim.fingerprint, claim.fingerprint
            )
        };
        Err(Failure::new(Reason::NotAuthenticated, message))
    }

    fn take_seat(&self) -> Result<(), Failure> {
        if self.taken.swap(true, Relaxed) {
            return Err(ticket_used());
        }
        Ok(())
    }

    fn leave_seat(&self) {
        self.sockets.close();
        self.taken.store(false, Relaxed);
    }

    fn ports(&self, connections: Option<u32>) -> Vec<u16> {
        self.sockets.open(connections)
    }
}
