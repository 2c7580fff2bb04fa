//! The first words: who wants what, and who is let in.

use super::messages::{MessageReader, write_message};
use super::{Link, close_with, transport_failure};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::message::{Message, Role};
use crate::protocol::path::printable;
use crate::transport::{Connection, SendStream};
use crate::trust::{Fingerprint, Secret};

/// Label of the TLS exporter that a ticket's proof is bound to.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-towline-ticket";
/// Control messages overtake parcels.
const CONTROL_PRIORITY: i32 = 2;

/// What this program calls itself.
pub fn agent() -> String {
    concat!("towline/", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The dialler's part: says what its `role` is, and proves that it holds the ticket when it has one. The link is not
/// [welcomed](Link::welcome) yet: a sender need not wait for that to offer what it has, which saves a round trip.
pub async fn dial<C: Connection>(
    connection: C,
    role: Role,
    secret: Option<&Secret>,
) -> Result<Link<C>, Failure> {
    let proof = match secret {
        None => None,
        Some(secret) => {
            let exporter = connection.export_keying_material(EXPORTER_LABEL).map_err(transport_failure)?;
            Some(secret.proof(&exporter))
        }
    };
    let streams = connection.open_bi().await.map_err(transport_failure)?;
    converse(connection, streams, async |control_out, _| {
        write_message(control_out, &Message::Hello { role, agent: agent(), proof }).await?;
        Ok(None)
    })
    .await
}

impl<C: Connection> Link<C> {
    /// Waits until the listener has let this dialler in.
    ///
    /// # Errors
    ///
    /// Why it did not. The listener has been told when it is to blame.
    pub async fn welcome(&mut self) -> Result<(), Failure> {
        if self.agent.is_some() {
            return Ok(());
        }
        match self.control_in.expect().await.and_then(welcomed) {
            Ok(agent) => {
                self.agent = Some(agent);
                Ok(())
            }
            Err(failure) => {
                close_with(&self.connection, &failure);
                Err(failure)
            }
        }
    }
}

/// Name and version of the listener's program, escaped, from its first message.
pub(super) fn welcomed(first: Message) -> Result<String, Failure> {
    match first {
        Message::Welcome { agent } => Ok(printable(agent.as_bytes())),
        other => Err(Failure::protocol(format!("the listener began with {other:?}"))),
    }
}

/// Runs `talk`, which gives the name of the peer's program if it is known then, over the control stream. When it fails, the peer is told
/// before the stream is dropped, which would tell it less.
async fn converse<C: Connection>(
    connection: C,
    (mut control_out, control_in): (C::Send, C::Recv),
    talk: impl AsyncFnOnce(&mut C::Send, &mut MessageReader<C::Recv>) -> Result<Option<String>, Failure>,
) -> Result<Link<C>, Failure> {
    control_out.set_priority(CONTROL_PRIORITY);
    let mut control_in = MessageReader::new(control_in);
    match talk(&mut control_out, &mut control_in).await {
        Ok(agent) => {
            let agent = agent.map(|agent| printable(agent.as_bytes()));
            Ok(Link { connection, agent, control_out, control_in })
        }
        Err(failure) => {
            close_with(&connection, &failure);
            Err(failure)
        }
    }
}

/// What a dialler has shown of itself.
pub struct Claim {
    /// The key that it holds.
    pub fingerprint: Fingerprint,
    proof: Option<[u8; 32]>,
    exporter: [u8; 32],
}

impl Claim {
    /// It holds the ticket with this secret.
    pub fn proves(&self, secret: &Secret) -> bool {
        self.proof.is_some_and(|proof| secret.verify(&self.exporter, &proof))
    }

    /// It claims to hold a ticket.
    pub fn has_proof(&self) -> bool {
        self.proof.is_some()
    }
}

/// Who decides whom a listener lets in.
pub trait Door: Send + Sync {
    /// Whether the dialler may come in at all.
    fn check(&self, claim: &Claim) -> Result<(), Failure>;
    /// Takes the one seat that there is; fails when another dialler has it.
    fn take_seat(&self) -> Result<(), Failure>;
}

/// The listener's part. A dialler that `door` does not let in is told why, and nothing else.
pub async fn answer<C: Connection>(connection: C, own: Role, door: &dyn Door) -> Result<Link<C>, Failure> {
    let streams = connection.accept_bi().await.map_err(transport_failure)?;
    let (fingerprint, exporter) =
        (connection.peer_fingerprint(), connection.export_keying_material(EXPORTER_LABEL));
    converse(connection, streams, async |control_out, control_in| {
        let Message::Hello { role, agent: peer_agent, proof } = control_in.expect().await? else {
            return Err(Failure::protocol("the dialler did not begin with Hello"));
        };
        let exporter = exporter.map_err(transport_failure)?;
        door.check(&Claim { fingerprint, proof, exporter })?;
        if role != own.counterpart() {
            return Err(mismatch(own, role));
        }
        door.take_seat()?;
        write_message(control_out, &Message::Welcome { agent: agent() }).await?;
        Ok(Some(peer_agent))
    })
    .await
}

/// The dialler is not there for what the listener is.
fn mismatch(listener: Role, dialler: Role) -> Failure {
    let message = if listener == dialler {
        let both = if listener.side() == Side::Sender { "send" } else { "receive" };
        format!("both sides want to {both}; one of them must do the other")
    } else {
        let (waits, dials) = (listener.command(), dialler.command());
        format!("the waiting side runs `{waits}` and the dialling one `{dials}`, which do not go together")
    };
    Failure::new(Reason::Incompatible, message)
}
