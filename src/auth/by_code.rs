//! The method of a one-time code: four messages, of which the last two prove the code in turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handshake::{
    Channel, DiallerMethod, DiallerState, DiallerStep, Greeting, ListenerState, ListenerStep,
};
use super::pake::{Confirmations, Pake};
use super::{Code, Expected};
use crate::protocol::failure::{Failure, Reason};

/// Number of the method on the wire.
pub(super) const CODE: u8 = 2;

/// The dialler has typed this code.
#[derive(Debug, Clone)]
pub struct ByCode(pub Code);

impl DiallerMethod for ByCode {
    fn number(&self) -> u8 {
        CODE
    }

    fn listener(&self) -> Expected {
        Expected::Code
    }

    fn begin(&self, channel: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>) {
        let (pake, message) = Pake::dialler(&self.0, &channel.exporter);
        (message, Some(Box::new(AwaitsKey(pake))))
    }
}

/// The dialler waits for the listener's half of the key.
struct AwaitsKey(Pake);

impl DiallerState for AwaitsKey {
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure> {
        let confirmations = self.0.finish(message).ok_or_else(malformed)?;
        let own = confirmations.dialler.as_bytes().to_vec();
        Ok(DiallerStep::Ask(own, Box::new(AwaitsConfirmation(confirmations))))
    }
}

/// The dialler waits for the proof that the listener has the key.
struct AwaitsConfirmation(Confirmations);

impl DiallerState for AwaitsConfirmation {
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure> {
        if !is_it(self.0.listener, message) {
            let message =
                "the other side does not have this code: it is wrong or used up, or somebody is in between";
            return Err(Failure::new(Reason::NotAuthenticated, message));
        }
        Ok(DiallerStep::Proved(None))
    }
}

/// The code of a waiting side. A wrong guess burns it, and until it is renewed nobody is let in by a code.
pub struct OpenCode {
    state: Mutex<State>,
    /// Called when the code is burnt, perhaps many times before it is renewed.
    on_burnt: Box<dyn Fn() + Send + Sync>,
}

struct State {
    code: Code,
    is_burnt: bool,
    /// Counts the codes.
    generation: u64,
}

impl OpenCode {
    /// Opens `code`; `on_burnt` is called when a wrong guess has burnt it.
    pub fn new(code: Code, on_burnt: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let state = Mutex::new(State { code, is_burnt: false, generation: 0 });
        Arc::new(Self { state, on_burnt: Box::new(on_burnt) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The code, unless it is burnt.
    pub fn code(&self) -> Option<Code> {
        let state = self.state();
        (!state.is_burnt).then(|| state.code.clone())
    }

    /// Replaces the code by one with the same number; returns it.
    pub fn renew(&self) -> Code {
        let mut state = self.state();
        state.code = state.code.renewed();
        state.is_burnt = false;
        state.generation += 1;
        state.code.clone()
    }

    /// The listener's end of the method. `self` is given once more to be kept.
    ///
    /// # Errors
    ///
    /// The code is burnt.
    pub(super) fn begin(self: &Arc<Self>, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let state = self.state();
        if state.is_burnt {
            return Err(burnt());
        }
        let (pake, answer) = Pake::listener(&state.code, &greeting.channel.exporter);
        let waiting = AwaitsProof {
            open: Arc::clone(self),
            generation: state.generation,
            pake,
            theirs: greeting.message.to_vec(),
        };
        Ok(ListenerStep::Ask(answer, Box::new(waiting)))
    }
}

/// The listener waits for the proof that the dialler has the key.
struct AwaitsProof {
    open: Arc<OpenCode>,
    generation: u64,
    pake: Pake,
    theirs: Vec<u8>,
}

impl ListenerState for AwaitsProof {
    fn read(self: Box<Self>, message: &[u8]) -> Result<ListenerStep, Failure> {
        let Self { open, generation, pake, theirs } = *self;
        let mut state = open.state();
        // Others may have guessed meanwhile: each code takes one guess, however many are under way.
        if state.is_burnt {
            return Err(burnt());
        }
        if state.generation != generation {
            let message = "there is another code now; take it from the waiting side";
            return Err(Failure::new(Reason::NotAuthenticated, message));
        }
        match pake.finish(&theirs).filter(|confirmations| is_it(confirmations.dialler, message)) {
            Some(confirmations) => Ok(ListenerStep::LetIn(Some(confirmations.listener.as_bytes().to_vec()))),
            None => {
                state.is_burnt = true;
                drop(state);
                (open.on_burnt)();
                let message =
                    "the code is wrong, and has been used up by that; take the new one from the waiting side";
                Err(Failure::new(Reason::NotAuthenticated, message))
            }
        }
    }
}

/// Compares in constant time, as `blake3::Hash` does.
fn is_it(expected: blake3::Hash, message: &[u8]) -> bool {
    <[u8; 32]>::try_from(message).is_ok_and(|message| expected == blake3::Hash::from_bytes(message))
}

fn malformed() -> Failure {
    Failure::protocol("the answer to a code is not a SPAKE2 message of a listener")
}

fn burnt() -> Failure {
    let message = "somebody has tried a wrong code; take the new one from the waiting side";
    Failure::new(Reason::NotAuthenticated, message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::auth::handshake::{Authorizer, DiallerHandshake, ListenerHandshake};
    use crate::auth::methods::{ByTicket, Invited};
    use crate::auth::{Fingerprint, TicketSecrets};

    /// The two ends of one TLS session.
    const SESSION: [u8; 32] = [7; 32];
    const PEER: Fingerprint = Fingerprint::from_bytes([1; 32]);

    fn channel(exporter: [u8; 32]) -> Channel {
        Channel { exporter, peer: PEER }
    }

    fn code() -> Code {
        "7-octopus-lantern".parse().unwrap()
    }

    fn invited(open: &Arc<OpenCode>) -> Invited {
        Invited {
            keys: Vec::new(),
            ticket: TicketSecrets::generate(),
            code: Some(Arc::clone(open)),
            certified: None,
        }
    }

    /// A dialler that has sent its first message, and a listener that has answered.
    fn begin(
        typed: &Code,
        open: &Arc<OpenCode>,
    ) -> Result<(DiallerHandshake, ListenerHandshake, Vec<u8>), Failure> {
        let (dialler, first) = DiallerHandshake::new(&ByCode(typed.clone()), &channel(SESSION));
        let channel = channel(SESSION);
        let greeting = Greeting { method: CODE, message: &first, channel: &channel };
        let (listener, answer) = ListenerHandshake::new(invited(open).authorize(&greeting)?);
        Ok((dialler, listener, answer.unwrap()))
    }

    /// Runs all four messages; returns whether the dialler may offer.
    fn run(typed: &Code, open: &Arc<OpenCode>) -> Result<bool, Failure> {
        let (mut dialler, mut listener, second) = begin(typed, open)?;
        let third = dialler.read(&second)?.unwrap();
        assert!(!dialler.may_offer() && !listener.is_done());
        let fourth = listener.read(&third)?.unwrap();
        assert!(listener.is_done());
        dialler.read(&fourth)?;
        Ok(dialler.may_offer())
    }

    fn reason(result: Result<impl Sized, Failure>) -> Option<Reason> {
        result.err().map(|failure| failure.reason)
    }

    /// [W-50]
    #[test]
    fn the_fourth_message_proves_the_listener_and_the_third_the_dialler() {
        let open = OpenCode::new(code(), || panic!("nobody guessed wrong"));
        assert_eq!(run(&code(), &open), Ok(true));
    }

    /// [W-51]
    #[test]
    fn attack_11_a_thousand_guesses_burn_a_thousand_codes() {
        let burnt = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&burnt);
        let open = OpenCode::new(code(), move || {
            counted.fetch_add(1, Relaxed);
        });
        let mut current = code();
        for guesses in 1..=1000 {
            let guess = current.renewed();
            if guess == current {
                continue;
            }
            assert_eq!(reason(run(&guess, &open)), Some(Reason::NotAuthenticated));
            assert_eq!(burnt.load(Relaxed), guesses);
            // The right one comes too late.
            assert_eq!(reason(run(&current, &open)), Some(Reason::NotAuthenticated));
            let renewed = open.renew();
            assert!(renewed != current && renewed.number() == current.number());
            current = renewed;
        }
        assert_eq!(run(&current, &open), Ok(true));
    }

    /// [W-51]
    #[test]
    fn attack_11_guesses_at_the_same_time_count_as_one() {
        let open = OpenCode::new(code(), || {});
        let guess = code().renewed();
        let mut under_way: Vec<_> = (0..20).map(|_| begin(&guess, &open).unwrap()).collect();
        let mut honest = begin(&code(), &open).unwrap();
        let messages = under_way.iter_mut().map(|(dialler, listener, second)| {
            let third = dialler.read(second).unwrap().unwrap();
            listener.read(&third).unwrap_err().message
        });
        let messages: Vec<_> = messages.collect();
        assert!(messages[0].contains("the code is wrong"), "{}", messages[0]);
        assert!(messages[1..].iter().all(|message| message.contains("somebody has tried")), "{messages:?}");
        let third = honest.0.read(&honest.2).unwrap().unwrap();
        assert_eq!(reason(honest.1.read(&third)), Some(Reason::NotAuthenticated));
        open.renew();
        let current = open.renew();
        let mut of_before = begin(&current, &open).unwrap();
        open.renew();
        let third = of_before.0.read(&of_before.2).unwrap().unwrap();
        assert_eq!(reason(of_before.1.read(&third)), Some(Reason::NotAuthenticated));
    }

    /// He ends both TLS sessions, so their exporters differ, and can only pass messages on.
    #[test]
    fn attack_10_a_man_in_the_middle_is_refused_on_both_sides() {
        let open = OpenCode::new(code(), || {});
        let (mut dialler, first) = DiallerHandshake::new(&ByCode(code()), &channel([1; 32]));
        let far = channel([2; 32]);
        let greeting = Greeting { method: CODE, message: &first, channel: &far };
        let (mut listener, second) = ListenerHandshake::new(invited(&open).authorize(&greeting).unwrap());
        let third = dialler.read(&second.unwrap()).unwrap().unwrap();
        assert_eq!(reason(listener.read(&third)), Some(Reason::NotAuthenticated));
        // Nor does anything else that he has convince the dialler.
        let (mut dialler, _) = DiallerHandshake::new(&ByCode(code()), &channel([1; 32]));
        let (_, _, second) = begin(&code(), &OpenCode::new(code(), || {})).unwrap();
        dialler.read(&second).unwrap();
        assert_eq!(reason(dialler.read(&third)), Some(Reason::NotAuthenticated));
        assert!(!dialler.may_offer());
    }

    #[test]
    fn attack_10_reflected_replayed_and_swapped_messages_are_refused() {
        let open = OpenCode::new(code(), || {});
        // The dialler's own messages come back.
        let (mut dialler, first) = DiallerHandshake::new(&ByCode(code()), &channel(SESSION));
        assert_eq!(reason(dialler.read(&first)), Some(Reason::Protocol));
        let (mut dialler, mut listener, second) = begin(&code(), &open).unwrap();
        let third = dialler.read(&second).unwrap().unwrap();
        assert_eq!(reason(dialler.read(&third)), Some(Reason::NotAuthenticated));
        let fourth = listener.read(&third).unwrap().unwrap();
        // The messages of one transfer in the next, and a listener's message in the place of a dialler's.
        for replayed in [&third, &fourth, &second] {
            let open = OpenCode::new(code(), || {});
            let (_, mut listener, _) = begin(&code(), &open).unwrap();
            assert_eq!(reason(listener.read(replayed)), Some(Reason::NotAuthenticated));
        }
        let session = channel(SESSION);
        let swapped = Greeting { method: CODE, message: &second, channel: &session };
        let (mut listener, _) = ListenerHandshake::new(invited(&open).authorize(&swapped).unwrap());
        assert_eq!(reason(listener.read(&third)), Some(Reason::NotAuthenticated));
    }

    #[test]
    fn a_side_without_a_code_or_with_a_ticket_only_lets_nobody_in_by_a_code() {
        let (_, first) = DiallerHandshake::new(&ByCode(code()), &channel(SESSION));
        let session = channel(SESSION);
        let greeting = Greeting { method: CODE, message: &first, channel: &session };
        let none = Invited { code: None, ..invited(&OpenCode::new(code(), || {})) };
        assert_eq!(reason(none.authorize(&greeting)), Some(Reason::NotAuthenticated));
        let open = OpenCode::new(code(), || {});
        let ticket = ByTicket { listener: PEER.head(), secret: crate::auth::Secret::from_bytes([1; 16]) };
        let (_, proof) = DiallerHandshake::new(&ticket, &session);
        let greeting = Greeting { method: 1, message: &proof, channel: &session };
        assert_eq!(reason(invited(&open).authorize(&greeting)), Some(Reason::NotAuthenticated));
    }
}
