//! The secret of a waiting side's ticket. It can be replaced; holders of an earlier one learn why theirs is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Secret;
use super::handshake::{Greeting, ListenerStep};
use crate::protocol::failure::{Failure, Reason};

/// Earlier secrets that are recognized, the latest ones. Each costs a wrong dialler two hashes.
const EARLIER_MAX: usize = 1024;

/// The secret that lets a dialler in now, and earlier ones that do not any more.
pub struct TicketSecrets(Mutex<Secrets>);

struct Secrets {
    current: Secret,
    /// With the reason for refusing them.
    earlier: VecDeque<(Secret, Reason)>,
}

impl TicketSecrets {
    /// With a new secret.
    pub fn generate() -> Arc<Self> {
        // A secret that is moved to a larger place would stay behind.
        let earlier = VecDeque::with_capacity(EARLIER_MAX);
        Arc::new(Self(Mutex::new(Secrets { current: Secret::generate(), earlier })))
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret for the ticket.
    pub fn secret(&self) -> Secret {
        self.secrets().current.clone()
    }

    /// From now on another secret counts, which is returned. The one of before is refused for the reason `why`.
    pub fn renew(&self, why: Reason) -> Secret {
        let mut secrets = self.secrets();
        let earlier = std::mem::replace(&mut secrets.current, Secret::generate());
        secrets.earlier.truncate(EARLIER_MAX - 1);
        secrets.earlier.push_front((earlier, why));
        secrets.current.clone()
    }

    /// Decides on a dialler that has sent the proof of a secret.
    ///
    /// # Errors
    ///
    /// The secret counts no more, or never was one of this ticket. Only who held it learns the former.
    pub(super) fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let proof: &[u8; 32] = greeting
            .message
            .try_into()
            .map_err(|_| Failure::protocol("the proof of a ticket has 32 bytes"))?;
        let proves = |secret: &Secret| secret.verify(&greeting.channel.exporter, proof);
        let secrets = self.secrets();
        if proves(&secrets.current) {
            return Ok(ListenerStep::LetIn(None));
        }
        if let Some((_, why)) = secrets.earlier.iter().find(|(secret, _)| proves(secret)) {
            let message = match why {
                Reason::TicketExpired => "this ticket has expired; ask for a new one",
                _ => "this ticket has been used; ask for a new one",
            };
            return Err(Failure::new(*why, message));
        }
        let message = "the ticket is wrong, or was used long ago; copy it again from the waiting side";
        Err(Failure::new(Reason::NotAuthenticated, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fingerprint;
    use crate::auth::handshake::Channel;

    /// [W-53]
    #[test]
    fn an_expired_ticket_lets_nobody_in_and_only_its_holder_learns_why() {
        let ticket = TicketSecrets::generate();
        let channel = Channel { exporter: [7; 32], peer: Fingerprint::from_bytes([1; 32]) };
        let come = |secret: &Secret| {
            let proof = secret.proof(&channel.exporter);
            let greeting = Greeting { method: 1, message: &proof, channel: &channel };
            ticket.authorize(&greeting).err().map(|failure| failure.reason)
        };
        let first = ticket.secret();
        assert_eq!(come(&first), None);
        let second = ticket.renew(Reason::TicketExpired);
        assert_eq!((come(&first), come(&second)), (Some(Reason::TicketExpired), None));
        assert_eq!(come(&Secret::from_bytes([1; 16])), Some(Reason::NotAuthenticated));
        for _ in 0..EARLIER_MAX {
            ticket.renew(Reason::TicketUsed);
        }
        assert_eq!((come(&first), come(&second)), (Some(Reason::NotAuthenticated), Some(Reason::TicketUsed)));
        assert_eq!(ticket.secrets().earlier.len(), EARLIER_MAX);
    }
}
