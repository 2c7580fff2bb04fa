//! The first words: who wants what, and who is let in.

use super::closing::{close_with, transport_failure};
use super::joining::Joining;
use super::link::Link;
use crate::auth::{Fingerprint, JoinKey, Secret};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::session::messages::{MessageReader, write_message};
use crate::transport::{Connection, SendStream};

/// Label of the TLS exporter that a ticket's proof is bound to.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-towline-ticket";
/// Label of the TLS exporters, of the first connection and of a further one, that joining is bound to.
const JOIN_LABEL: &[u8] = b"EXPORTER-towline-join";
/// Control messages overtake parcels.
const CONTROL_PRIORITY: i32 = 2;

/// What this program calls itself.
pub fn agent() -> String {
    concat!("towline/", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The dialler's part: says what its `role` is, proves that it holds the ticket when it has one, and asks for so many
/// `connections`. The link is not [welcomed](Link::welcome) yet: a sender need not wait for that to offer what it has,
/// which saves a round trip.
pub async fn dial<C: Connection>(
    connection: C,
    role: Role,
    secret: Option<&Secret>,
    connections: Option<u32>,
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
        write_message(control_out, &Message::Hello { role, agent: agent(), proof, connections }).await?;
        Ok(None)
    })
    .await
    .map_err(|failure| failure.heard_by(role.side(), true))
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
            Ok((agent, ports)) => {
                self.agent = Some(agent);
                self.joining.offered(ports);
                Ok(())
            }
            Err(failure) => {
                close_with(&self.connection, &failure);
                Err(failure)
            }
        }
    }
}

/// What the listener says first: name and version of its program, escaped, and ports for extra connections.
pub(super) fn welcomed(first: Message) -> Result<(String, Vec<u16>), Failure> {
    match first {
        Message::Welcome { agent, ports } => Ok((printable(agent.as_bytes()), ports)),
        other => Err(Failure::protocol(format!("the listener began with {}", other.name()))),
    }
}

/// Runs `talk`, which gives the name of the peer's program if it is known then, over the control stream. When it
/// fails, the peer is told before the stream is dropped, which would tell it less.
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
            Ok(Link { connection, agent, joining: Joining::none(), control_out, control_in })
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
    /// Gives the seat back: the dialler that took it was not welcomed.
    fn leave_seat(&self);
    /// UDP ports for extra connections of the dialler that took the seat and asks for so many `connections`.
    fn ports(&self, connections: Option<u32>) -> Vec<u16>;
}

/// A seat that goes back to the door unless it is kept: the dialler may be gone before it is welcomed.
struct Seat<'a>(Option<&'a dyn Door>);

impl<'a> Seat<'a> {
    fn take(door: &'a dyn Door) -> Result<Self, Failure> {
        door.take_seat()?;
        Ok(Self(Some(door)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(door) = self.0 {
            door.leave_seat();
        }
    }
}

/// The listener's part. A dialler that `door` does not let in is told why, and nothing else.
pub async fn answer<C: Connection>(connection: C, own: Role, door: &dyn Door) -> Result<Link<C>, Failure> {
    let streams = connection.accept_bi().await.map_err(transport_failure)?;
    let (fingerprint, exporter) =
        (connection.peer_fingerprint(), connection.export_keying_material(EXPORTER_LABEL));
    let guest = connection.clone();
    converse(connection, streams, async |control_out, control_in| {
        let Message::Hello { role, agent: peer_agent, proof, connections } = control_in.expect().await?
        else {
            return Err(Failure::protocol("the dialler did not begin with Hello"));
        };
        let exporter = exporter.map_err(transport_failure)?;
        door.check(&Claim { fingerprint, proof, exporter })?;
        if role != own.counterpart() {
            return Err(mismatch(own, role));
        }
        let seat = Seat::take(door)?;
        guest.let_in();
        let ports = door.ports(connections);
        write_message(control_out, &Message::Welcome { agent: agent(), ports }).await?;
        seat.keep();
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

/// What lets extra connections into the session whose first one is `connection`.
///
/// # Errors
///
/// TLS gives no keying material.
pub fn join_key<C: Connection>(connection: &C) -> Result<JoinKey, Failure> {
    connection.export_keying_material(JOIN_LABEL).map(|key| JoinKey::new(&key)).map_err(transport_failure)
}

/// The dialler's part on the extra connection `lane`.
///
/// # Errors
///
/// The connection is gone.
pub async fn join<C: Connection>(connection: &C, key: &JoinKey, lane: u32) -> Result<(), Failure> {
    let exporter = connection.export_keying_material(JOIN_LABEL).map_err(transport_failure)?;
    let mut stream = connection.open_uni().await.map_err(transport_failure)?;
    write_message(&mut stream, &Message::Join { lane, proof: key.proof(&exporter) }).await?;
    stream.finish().map_err(transport_failure)
}

/// The listener's part on the extra connection `lane` of the session with `key` and the peer `fingerprint`. Each
/// number has a port of its own.
///
/// # Errors
///
/// It does not belong to the session; it has been told so. Or the connection is gone.
pub async fn admit<C: Connection>(
    connection: &C,
    key: &JoinKey,
    fingerprint: Fingerprint,
    lane: u32,
) -> Result<(), Failure> {
    let admitted = async {
        let stream = connection.accept_uni().await.map_err(transport_failure)?;
        let exporter = connection.export_keying_material(JOIN_LABEL).map_err(transport_failure)?;
        match MessageReader::new(stream).only().await? {
            Message::Join { proof, .. }
                if !key.verify(&exporter, &proof) || connection.peer_fingerprint() != fingerprint =>
            {
                Err(Failure::new(Reason::NotAuthenticated, "the connection is not of this session"))
            }
            Message::Join { lane: said, .. } if said != lane => {
                Err(Failure::protocol(format!("connection {lane} joins as number {said}")))
            }
            Message::Join { .. } => {
                connection.let_in();
                Ok(())
            }
            other => Err(Failure::protocol(format!("an extra connection began with {}", other.name()))),
        }
    };
    admitted.await.inspect_err(|failure| close_with(connection, failure))
}
