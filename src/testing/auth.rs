//! A method of four messages: the dialler proves the secret with the third, the listener with the fourth.

use crate::auth::Expected;
use crate::auth::Secret;
use crate::auth::handshake::{
    Authorizer, Channel, DiallerMethod, DiallerState, DiallerStep, Greeting, ListenerState, ListenerStep,
};
use crate::protocol::failure::{Failure, Reason};

/// Its number, which no real method has.
pub(crate) const FOUR_MESSAGES: u8 = 250;

/// Either end of the method.
#[derive(Debug, Clone)]
pub(crate) struct FourMessages(pub(crate) Secret);

impl FourMessages {
    /// What the dialler says third.
    pub(crate) fn dialler_proof(&self, channel: &Channel) -> [u8; 32] {
        self.0.proof(&channel.exporter)
    }

    /// What the listener says fourth.
    pub(crate) fn listener_proof(&self, channel: &Channel) -> [u8; 32] {
        self.0.proof(&channel.exporter.map(|byte| !byte))
    }
}

fn wrong() -> Failure {
    Failure::new(Reason::NotAuthenticated, "the wrong secret")
}

impl DiallerMethod for FourMessages {
    fn number(&self) -> u8 {
        FOUR_MESSAGES
    }

    fn listener(&self) -> Expected {
        Expected::Secret(self.0.clone())
    }

    fn begin(&self, channel: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>) {
        (b"first".to_vec(), Some(Box::new(AwaitsSecond(self.clone(), *channel))))
    }
}

struct AwaitsSecond(FourMessages, Channel);

impl DiallerState for AwaitsSecond {
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure> {
        let Self(method, channel) = *self;
        match message {
            b"second" => {
                let proof = method.dialler_proof(&channel).to_vec();
                Ok(DiallerStep::Ask(proof, Box::new(AwaitsFourth(method, channel))))
            }
            _ => Err(wrong()),
        }
    }
}

struct AwaitsFourth(FourMessages, Channel);

impl DiallerState for AwaitsFourth {
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure> {
        let Self(method, channel) = *self;
        if message == method.listener_proof(&channel) { Ok(DiallerStep::Proved(None)) } else { Err(wrong()) }
    }
}

impl Authorizer for FourMessages {
    fn authorize(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        if (greeting.method, greeting.message) != (FOUR_MESSAGES, b"first") {
            return Err(wrong());
        }
        Ok(ListenerStep::Ask(b"second".to_vec(), Box::new(AwaitsThird(self.clone(), *greeting.channel))))
    }
}

struct AwaitsThird(FourMessages, Channel);

impl ListenerState for AwaitsThird {
    fn read(self: Box<Self>, message: &[u8]) -> Result<ListenerStep, Failure> {
        let Self(method, channel) = *self;
        if message == method.dialler_proof(&channel) {
            Ok(ListenerStep::LetIn(Some(method.listener_proof(&channel).to_vec())))
        } else {
            Err(wrong())
        }
    }
}
