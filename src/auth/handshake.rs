//! How two peers prove who they are after TLS: a machine for each end, without IO and without a clock.
//!
//! The dialler names a method and sends its first message with it. Then the two ends take turns until the listener
//! lets the dialler in. A method is a chain of states; each state reads one message and becomes the next.

use super::{Expected, Fingerprint};
use crate::protocol::failure::Failure;
use crate::protocol::wire::limits::{AUTH_BYTES_MAX, AUTH_MESSAGES_MAX};

/// The TLS connection that authentication is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// Keying material known only to the two ends of this TLS session.
    pub exporter: [u8; 32],
    /// The peer's key, as shown by TLS.
    pub peer: Fingerprint,
}

/// The dialler's end of a method.
pub trait DiallerMethod: Send + Sync {
    /// Its number on the wire.
    fn number(&self) -> u8;
    /// The identity expected of the listener. Unless TLS proves it, the dialler says nothing about files before the
    /// method does.
    fn listener(&self) -> Expected;
    /// The first message, and the state that waits for the answer; no state when the method ends with this message.
    fn begin(&self, channel: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>);
}

/// A dialler that waits for a message of the listener.
pub trait DiallerState: Send {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// The listener is not the expected one, or breaks the method.
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure>;
}

/// The dialler's reaction to a message.
pub enum DiallerStep {
    /// Sends this and waits again.
    Ask(Vec<u8>, Box<dyn DiallerState>),
    /// The listener has proved itself. Sends this, if anything, and waits to be let in.
    Proved(Option<Vec<u8>>),
}

/// A listener that waits for a message of the dialler.
pub trait ListenerState: Send {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// The dialler is not an expected one, or breaks the method.
    fn read(self: Box<Self>, message: &[u8]) -> Result<ListenerStep, Failure>;
}

/// The listener's reaction to a message.
pub enum ListenerStep {
    /// Sends this and waits again.
    Ask(Vec<u8>, Box<dyn ListenerState>),
    /// The dialler has proved itself. Sends this, if anything, and lets it in.
    LetIn(Option<Vec<u8>>),
    /// The dialler has proved itself by this certificate. Lets it in.
    Certified(PeerCertificate),
}

/// The certificate that a dialler was accepted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// A name in it, if it has one.
    pub name: Option<String>,
}

/// A dialler that has proved itself, on one connection.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The connection.
    pub channel: Channel,
    /// Set if it came by a certificate.
    pub certificate: Option<PeerCertificate>,
}

/// Decides which diallers a listener lets in.
pub trait Authorizer: Send + Sync {
    /// Begins the listener's end of the method in a dialler's greeting.
    ///
    /// # Errors
    ///
    /// The dialler is refused.
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure>;
}

/// The dialler's first message.
#[derive(Debug, Clone, Copy)]
pub struct Greeting<'a> {
    /// Number of the method.
    pub method: u8,
    /// Its first message.
    pub message: &'a [u8],
    /// The connection it arrived on.
    pub channel: &'a Channel,
}

/// The dialler's end of the handshake.
pub struct DiallerHandshake {
    waiting: Option<Box<dyn DiallerState>>,
    /// The listener is proved, by TLS or by the last message of the method.
    is_listener_proved: bool,
    count: Count,
}

impl DiallerHandshake {
    /// Begins `method`; also returns its first message.
    pub fn new(method: &dyn DiallerMethod, channel: &Channel) -> (Self, Vec<u8>) {
        let (first, waiting) = method.begin(channel);
        let is_listener_proved = method.listener().is_proved_by_tls();
        (Self { waiting, is_listener_proved, count: Count(0) }, first)
    }

    /// Whether the dialler may name files: the listener has proved itself, and the dialler has nothing more to prove.
    pub fn may_offer(&self) -> bool {
        self.is_listener_proved && self.waiting.is_none()
    }

    /// Reads a message of the listener; returns the answer, if any.
    ///
    /// # Errors
    ///
    /// The listener is not the expected one, or breaks the method.
    pub fn read(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.count.add(message)?;
        match waits(self.waiting.take())?.read(message)? {
            DiallerStep::Ask(answer, next) => {
                self.waiting = Some(next);
                Ok(Some(answer))
            }
            DiallerStep::Proved(answer) => {
                self.is_listener_proved = true;
                Ok(answer)
            }
        }
    }
}

/// The listener's end of the handshake.
pub struct ListenerHandshake {
    waiting: Option<Box<dyn ListenerState>>,
    certificate: Option<PeerCertificate>,
    count: Count,
}

impl ListenerHandshake {
    /// Begins with the decision on the greeting; also returns the first message, if any.
    pub fn new(step: ListenerStep) -> (Self, Option<Vec<u8>>) {
        let mut listener = Self { waiting: None, certificate: None, count: Count(1) };
        let message = listener.take(step);
        (listener, message)
    }

    /// Whether the dialler has proved itself.
    pub fn is_done(&self) -> bool {
        self.waiting.is_none()
    }

    /// Reads a message of the dialler; returns the answer, if any.
    ///
    /// # Errors
    ///
    /// The dialler is not an expected one, or breaks the method.
    pub fn read(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.count.add(message)?;
        let step = waits(self.waiting.take())?.read(message)?;
        Ok(self.take(step))
    }

    fn take(&mut self, step: ListenerStep) -> Option<Vec<u8>> {
        match step {
            ListenerStep::Ask(message, next) => {
                self.waiting = Some(next);
                Some(message)
            }
            ListenerStep::LetIn(message) => message,
            ListenerStep::Certified(certificate) => {
                self.certificate = Some(certificate);
                None
            }
        }
    }

    /// The certificate that has proved the dialler, if one has.
    pub fn into_certificate(self) -> Option<PeerCertificate> {
        self.certificate
    }
}

/// Number of messages read, including the one in the greeting.
struct Count(usize);

impl Count {
    fn add(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.0 += 1;
        if self.0 > AUTH_MESSAGES_MAX || message.len() > AUTH_BYTES_MAX {
            return Err(Failure::protocol("the handshake is too long"));
        }
        Ok(())
    }
}

fn waits<S>(state: Option<S>) -> Result<S, Failure> {
    state.ok_or_else(|| Failure::protocol("the handshake goes on after its end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;
    use crate::auth::methods::{AnyOf, ByKey, ByTicket};
    use crate::protocol::failure::Reason;
    use crate::testing::auth::{FOUR_MESSAGES, FourMessages};

    const SECRET: Secret = Secret::from_bytes([1; 16]);
    const DIALLER: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const LISTENER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    fn channel(peer: Fingerprint) -> Channel {
        Channel { exporter: [7; 32], peer }
    }

    /// Runs both ends until the dialler is let in. Returns the number of messages, and the message after which the
    /// dialler could make its offer.
    fn run(method: &dyn DiallerMethod, authorizer: &dyn Authorizer) -> Result<(usize, usize), Failure> {
        let (mut dialler, first) = DiallerHandshake::new(method, &channel(LISTENER));
        let mut offers_after = dialler.may_offer().then_some(1);
        let greeting = Greeting { method: method.number(), message: &first, channel: &channel(DIALLER) };
        let (mut listener, mut said) = ListenerHandshake::new(authorizer.authorize(&greeting)?);
        let mut messages = 1;
        while let Some(message) = said.take() {
            messages += 1;
            let answer = dialler.read(&message)?;
            if dialler.may_offer() {
                offers_after.get_or_insert(messages);
            }
            if let Some(answer) = answer {
                messages += 1;
                said = listener.read(&answer)?;
            }
        }
        assert!(listener.is_done());
        Ok((messages, offers_after.expect("it never may offer")))
    }

    #[test]
    fn ticket_and_key_take_one_message_and_offer_at_once() {
        let takes = |expected: &[&Expected]| AnyOf(expected.iter().copied().cloned().collect());
        let ticket = ByTicket { listener: LISTENER.head(), secret: SECRET };
        let key = ByKey { listener: LISTENER };
        let (by_secret, by_key) = (Expected::Secret(SECRET), Expected::Key(DIALLER));
        assert_eq!(run(&ticket, &takes(&[&by_secret])), Ok((1, 1)));
        assert_eq!(run(&key, &takes(&[&by_key])), Ok((1, 1)));
        assert_eq!(run(&key, &takes(&[&by_secret, &by_key])), Ok((1, 1)));
        for (method, expected) in [
            (&ticket as &dyn DiallerMethod, Expected::Secret(Secret::from_bytes([2; 16]))),
            (&key, Expected::Key(LISTENER)),
            (&key, by_secret),
        ] {
            let refused = run(method, &takes(&[&expected])).unwrap_err();
            assert_eq!(refused.reason, Reason::NotAuthenticated, "{expected:?}");
        }
    }

    #[test]
    fn a_dialler_may_offer_when_the_fourth_message_has_proved_the_listener() {
        assert_eq!(run(&FourMessages(SECRET), &FourMessages(SECRET)), Ok((4, 4)));
    }

    #[test]
    fn a_listener_that_does_not_know_the_secret_is_refused_before_an_offer() {
        let (mut dialler, first) = DiallerHandshake::new(&FourMessages(SECRET), &channel(LISTENER));
        let greeting = Greeting { method: FOUR_MESSAGES, message: &first, channel: &channel(DIALLER) };
        let step = FourMessages(SECRET).authorize(&greeting).unwrap();
        let (_listener, said) = ListenerHandshake::new(step);
        dialler.read(&said.unwrap()).unwrap();
        assert_eq!(dialler.read(&[0; 32]).unwrap_err().reason, Reason::NotAuthenticated);
        assert!(!dialler.may_offer());
    }

    #[test]
    fn an_unknown_method_is_refused() {
        let greeting = Greeting { method: 200, message: &[], channel: &channel(DIALLER) };
        let refused = AnyOf(vec![Expected::Secret(SECRET)]).authorize(&greeting).err().unwrap();
        assert_eq!(refused.reason, Reason::Incompatible);
    }

    /// A state that never ends.
    struct Endless;

    impl DiallerState for Endless {
        fn read(self: Box<Self>, _: &[u8]) -> Result<DiallerStep, Failure> {
            Ok(DiallerStep::Ask(Vec::new(), self))
        }
    }

    impl ListenerState for Endless {
        fn read(self: Box<Self>, _: &[u8]) -> Result<ListenerStep, Failure> {
            Ok(ListenerStep::Ask(Vec::new(), self))
        }
    }

    #[test]
    fn attack_14_number_and_size_of_messages_are_bounded() {
        let waiting = || Some(Box::new(Endless) as Box<dyn DiallerState>);
        let dialler = || DiallerHandshake { waiting: waiting(), is_listener_proved: false, count: Count(1) };
        let (mut endless, mut listener) =
            (dialler(), ListenerHandshake::new(ListenerStep::Ask(vec![], Box::new(Endless))).0);
        for _ in 1..AUTH_MESSAGES_MAX {
            endless.read(&[0; AUTH_BYTES_MAX]).unwrap();
            listener.read(&[0; AUTH_BYTES_MAX]).unwrap();
        }
        assert_eq!(endless.read(&[]).unwrap_err().reason, Reason::Protocol);
        assert_eq!(listener.read(&[]).unwrap_err().reason, Reason::Protocol);
        assert_eq!(dialler().read(&[0; AUTH_BYTES_MAX + 1]).unwrap_err().reason, Reason::Protocol);
    }

    #[test]
    fn nothing_is_read_after_the_end() {
        let (mut dialler, _) = DiallerHandshake::new(&ByKey { listener: LISTENER }, &channel(LISTENER));
        assert_eq!(dialler.read(&[]).unwrap_err().reason, Reason::Protocol);
        let (mut listener, _) = ListenerHandshake::new(ListenerStep::LetIn(None));
        assert_eq!(listener.read(&[]).unwrap_err().reason, Reason::Protocol);
    }
}
