//! The methods of one message: the dialler's key, and the secret of a ticket. And the listener's choice of a method.

use std::sync::Arc;

use super::by_code::{CODE, OpenCode};
use super::certificate::{CERTIFICATE, Certified};
use super::handshake::{Authorizer, Channel, DiallerMethod, DiallerState, Greeting, ListenerStep};
use super::{Expected, Fingerprint, FingerprintHead, Secret, TicketSecrets};
use crate::protocol::failure::{Failure, Reason};

/// Numbers of the methods on the wire.
const KEY: u8 = 0;
const TICKET: u8 = 1;

/// The dialler proves itself by its key alone. TLS has already shown the key, so the message is empty.
#[derive(Debug, Clone, Copy)]
pub struct ByKey {
    /// The key of the listener.
    pub listener: Fingerprint,
}

impl DiallerMethod for ByKey {
    fn number(&self) -> u8 {
        KEY
    }

    fn listener(&self) -> Expected {
        Expected::Key(self.listener)
    }

    fn begin(&self, _: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>) {
        (Vec::new(), None)
    }
}

/// The dialler holds a ticket: it knows the listener's key, and proves the secret.
#[derive(Debug, Clone)]
pub struct ByTicket {
    /// The key of the listener, as the ticket names it.
    pub listener: FingerprintHead,
    /// The secret in the ticket.
    pub secret: Secret,
}

impl DiallerMethod for ByTicket {
    fn number(&self) -> u8 {
        TICKET
    }

    fn listener(&self) -> Expected {
        Expected::Head(self.listener)
    }

    fn begin(&self, channel: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>) {
        (self.secret.proof(&channel.exporter).to_vec(), None)
    }
}

/// The listener's end of both methods: lets in a dialler that has one of these keys or secrets.
#[derive(Debug, Clone)]
pub struct AnyOf(pub Vec<Expected>);

impl Authorizer for AnyOf {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let Greeting { method, message, channel } = *greeting;
        let proof: Option<&[u8; 32]> = match (method, message) {
            (KEY, []) => None,
            (KEY, _) => return Err(Failure::protocol("a dialler that shows its key alone says more")),
            (TICKET, proof) => {
                Some(proof.try_into().map_err(|_| Failure::protocol("the proof of a ticket has 32 bytes"))?)
            }
            _ => {
                let message = format!("the dialler proves itself by method {method}, which is unknown here");
                return Err(Failure::new(Reason::Incompatible, message));
            }
        };
        let is_it = |expected: &Expected| match expected {
            Expected::Key(key) => *key == channel.peer,
            Expected::Secret(secret) => proof.is_some_and(|proof| secret.verify(&channel.exporter, proof)),
            // A listener is not asked for them.
            Expected::Head(_) => false,
            // It takes more messages.
            Expected::Code | Expected::Certificate => false,
        };
        if self.0.iter().any(is_it) {
            return Ok(ListenerStep::LetIn(None));
        }
        let message = match proof {
            Some(_) => "the ticket's secret is wrong; copy the ticket again from the waiting side".to_owned(),
            None => {
                let peer = channel.peer;
                format!("the waiting side does not know the fingerprint of the dialling one ({peer})")
            }
        };
        Err(Failure::new(Reason::NotAuthenticated, message))
    }
}

/// The listener's end of an introduction by others: lets in the dialler that has this key and knows this secret, which
/// it proves like that of a ticket.
#[derive(Debug, Clone)]
pub struct Introduced {
    /// The key of the dialler.
    pub dialler: Fingerprint,
    /// The secret of the introduction.
    pub secret: Secret,
}

impl Authorizer for Introduced {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        if greeting.channel.peer != self.dialler || greeting.method != TICKET {
            let message = "this side waits for the one that has started it, and for nobody else";
            return Err(Failure::new(Reason::NotAuthenticated, message));
        }
        AnyOf(vec![Expected::Secret(self.secret.clone())]).authorize(greeting)
    }
}

/// The listener's end of all methods: lets in a dialler that has one of these keys, the ticket or the code.
#[derive(Clone)]
pub struct Invited {
    /// The keys.
    pub keys: Vec<Fingerprint>,
    /// The ticket.
    pub ticket: Arc<TicketSecrets>,
    /// The code, if there is one.
    pub code: Option<Arc<OpenCode>>,
    /// Whose certificates are accepted, if any are.
    pub certified: Option<Arc<Certified>>,
}

impl Authorizer for Invited {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        if let Some(step) = by_certificate(self.certified.as_deref(), greeting) {
            return step;
        }
        match (greeting.method, &self.code) {
            (CODE, Some(code)) => code.begin(greeting),
            (CODE, None) => {
                let message = "the waiting side has no code; it needs a ticket, or a known peer";
                Err(Failure::new(Reason::NotAuthenticated, message))
            }
            (TICKET, _) if !self.keys.contains(&greeting.channel.peer) => self.ticket.authorize(greeting),
            _ => AnyOf(self.keys.iter().copied().map(Expected::Key).collect()).authorize(greeting),
        }
    }
}

/// The listener's end of the method of certificates; `None` for other methods.
///
/// # Errors
///
/// The dialler is refused.
pub fn by_certificate(
    certified: Option<&Certified>,
    greeting: &Greeting<'_>,
) -> Option<Result<ListenerStep, Failure>> {
    let is_it = greeting.method == CERTIFICATE;
    is_it.then(|| match certified {
        Some(certified) => certified.begin(greeting),
        None => {
            let message = "the waiting side takes no certificates; it needs a ticket, or a known peer";
            Err(Failure::new(Reason::NotAuthenticated, message))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [W-71]
    #[test]
    fn only_the_side_that_was_introduced_is_let_in() {
        let [dialler, listener] = [1, 2].map(|byte| Fingerprint::from_bytes([byte; 32]));
        let secret = Secret::from_bytes([3; 16]);
        let introduced = Introduced { dialler, secret: secret.clone() };
        let let_in = |peer, method: &dyn DiallerMethod| {
            let channel = Channel { exporter: [7; 32], peer };
            let (message, _) = method.begin(&channel);
            let greeting = Greeting { method: method.number(), message: &message, channel: &channel };
            introduced.authorize(&greeting).is_ok()
        };
        let ticket = ByTicket { listener: listener.head(), secret };
        assert!(let_in(dialler, &ticket));
        assert!(!let_in(listener, &ticket), "another key");
        assert!(!let_in(
            dialler,
            &ByTicket { listener: listener.head(), secret: Secret::from_bytes([4; 16]) }
        ));
        assert!(!let_in(dialler, &ByKey { listener }), "the key alone");
    }
}
