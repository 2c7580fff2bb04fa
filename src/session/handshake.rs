//! The greeting: which side wants what, and who is let in.

use tokio::sync::watch;

use super::closing::{close_with, transport_failure};
use super::joining::Joining;
use super::link::{CONTROL_PRIORITY, Link};
use crate::auth::handshake::{
    Authorizer, Channel, DiallerHandshake, DiallerMethod, Greeting, ListenerHandshake, ListenerStep,
    PeerCertificate, Visitor,
};
use crate::auth::{Fingerprint, JoinKey};
use crate::protocol::engine::log::IncomingLog;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::session::messages::{MessageReader, write_message};
use crate::transport::{Connection, RecvStream, SendStream};

/// Label of the TLS exporter that binds authentication to the connection.
const AUTH_LABEL: &[u8] = b"EXPORTER-towline-auth";
/// Label of the TLS exporter that gives the session's secret on the first connection, and binds a join to its own
/// connection on every other.
const JOIN_LABEL: &[u8] = b"EXPORTER-towline-join";

/// Label of the TLS exporter for the words that two people compare.
const VERIFY_LABEL: &[u8] = b"EXPORTER-towline-verify";

/// Name and version of this program.
pub fn agent() -> String {
    concat!("towline/", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The dialler's part: tells its `role`, asks for `connections` connections, and authenticates by `method`, until the
/// listener has proved itself too. The link is not [welcomed](Link::welcome) yet: a sender may make its offer before
/// that, which saves a round trip.
///
/// # Errors
///
/// The listener fails to prove itself, and has been told so. Or it refuses this side.
pub async fn dial<C: Connection>(
    connection: C,
    role: Role,
    method: &dyn DiallerMethod,
    connections: Option<u32>,
) -> Result<Link<C>, Failure> {
    let channel = channel(&connection)?;
    let (control_out, control_in) = connection.open_bi().await.map_err(transport_failure)?;
    let streams = (control_out, MessageReader::new(control_in));
    converse(connection, streams, async |control_out, control_in| {
        let (mut machine, first) = DiallerHandshake::new(method, &channel);
        let (method, auth) = (method.number(), first.into());
        write_message(control_out, &Message::Hello { role, agent: agent(), method, auth, connections })
            .await?;
        // Before that, nothing about files is sent.
        while !machine.may_offer() {
            let message = match control_in.expect().await? {
                Message::Auth(message) => message,
                other => {
                    let name = other.name();
                    return Err(Failure::protocol(format!(
                        "the listener said {name} before it proved itself"
                    )));
                }
            };
            if let Some(answer) = machine.read(&message)? {
                write_message(control_out, &Message::Auth(answer.into())).await?;
            }
        }
        Ok(None)
    })
    .await
    .map_err(|failure| failure.heard_by(role.side(), true))
}

/// The channel that authentication on `connection` is bound to.
fn channel<C: Connection>(connection: &C) -> Result<Channel, Failure> {
    let exporter = connection.export_keying_material(AUTH_LABEL).map_err(transport_failure)?;
    Ok(Channel { exporter, peer: connection.peer_fingerprint() })
}

/// What the words that two people compare depend on.
///
/// # Errors
///
/// TLS gives no keying material.
pub fn verification_exporter<C: Connection>(connection: &C) -> Result<[u8; 32], Failure> {
    connection.export_keying_material(VERIFY_LABEL).map_err(transport_failure)
}

impl<C: Connection> Link<C> {
    /// Waits until the listener has let this dialler in.
    ///
    /// # Errors
    ///
    /// The reason for refusing. If the listener is to blame, it has been told.
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

/// The listener's welcome: name and version of its program, escaped, and ports for extra connections.
pub(super) fn welcomed(first: Message) -> Result<(String, Vec<u16>), Failure> {
    match first {
        Message::Welcome { agent, ports } => Ok((printable(agent.as_bytes()), ports)),
        other => Err(Failure::protocol(format!("the listener began with {}", other.name()))),
    }
}

/// Runs `talk` over the control stream; `talk` returns the name of the peer's program, if known. A failure is told to
/// the peer before the stream is dropped, which would say less.
async fn converse<C: Connection>(
    connection: C,
    (mut control_out, mut control_in): (C::Send, MessageReader<C::Recv>),
    talk: impl AsyncFnOnce(&mut C::Send, &mut MessageReader<C::Recv>) -> Result<Option<String>, Failure>,
) -> Result<Link<C>, Failure> {
    control_out.set_priority(CONTROL_PRIORITY);
    match talk(&mut control_out, &mut control_in).await {
        Ok(agent) => {
            let agent = agent.map(|agent| printable(agent.as_bytes()));
            let control_log = IncomingLog::default();
            let (carried, joining) = (watch::Sender::new(Some(connection.clone())), Joining::none());
            Ok(Link { connection, agent, joining, carried, control_out, control_in, control_log })
        }
        Err(failure) => {
            close_with(&connection, &failure);
            Err(failure)
        }
    }
}

/// A place for one session at a listener.
pub trait Slot: Send + Sync {
    /// Decides which diallers may have it.
    fn authorizer(&self) -> &dyn Authorizer;
    /// Whether another dialler has it.
    fn is_taken(&self) -> bool;
    /// Takes it for `visitor`.
    ///
    /// # Errors
    ///
    /// Another dialler has taken it.
    fn take(&self, visitor: &Visitor) -> Result<(), Failure>;
    /// Releases the slot: its dialler was not welcomed.
    fn give_back(&self, visitor: &Visitor);
    /// UDP ports for extra connections of the dialler in this slot, which asks for `connections`.
    fn ports(&self, connections: Option<u32>) -> Vec<u16>;
}

/// A taken slot, released unless kept: the dialler may disappear before it is welcomed.
struct Taken<'a>(Option<&'a dyn Slot>, Visitor);

impl<'a> Taken<'a> {
    fn take(slot: &'a dyn Slot, visitor: Visitor) -> Result<Self, Failure> {
        slot.take(&visitor)?;
        Ok(Self(Some(slot), visitor))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.give_back(&self.1);
        }
    }
}

/// What a dialler begins with.
pub struct Opening<C: Connection> {
    streams: (C::Send, MessageReader<C::Recv>),
    first: Message,
}

impl<C: Connection> Opening<C> {
    /// The dialler says that `connection` belongs to a session.
    pub fn is_join(&self) -> bool {
        matches!(self.first, Message::Join { .. })
    }
}

/// Waits for the dialler's first message on `connection`.
///
/// # Errors
///
/// It is no message, and the dialler has been told so. Or the connection is gone.
pub async fn opening<C: Connection>(connection: &C) -> Result<Opening<C>, Failure> {
    let (out, stream) = connection.accept_bi().await.map_err(transport_failure)?;
    let mut streams = (out, MessageReader::new(stream));
    let first = streams.1.expect().await.inspect_err(|failure| close_with(connection, failure))?;
    Ok(Opening { streams, first })
}

/// The listener's part. A refused dialler learns the reason and nothing else.
///
/// # Errors
///
/// The reason for refusing.
pub async fn answer<C: Connection>(
    connection: C,
    opening: Opening<C>,
    own: Role,
    slot: &dyn Slot,
) -> Result<Link<C>, Failure> {
    let Opening { streams, first } = opening;
    let channel = channel(&connection)?;
    let guest = connection.clone();
    converse(connection, streams, async |control_out, control_in| {
        let Message::Hello { role, agent: peer_agent, method, auth, connections } = first else {
            return Err(Failure::protocol("the dialler did not begin with Hello"));
        };
        let step = slot.authorizer().authorize(&Greeting { method, message: &auth, channel: &channel })?;
        let certificate = prove(step, control_out, control_in).await?;
        if role != own.counterpart() {
            return Err(mismatch(own, role));
        }
        let taken = Taken::take(slot, Visitor { channel, certificate })?;
        guest.let_in();
        let ports = slot.ports(connections);
        write_message(control_out, &Message::Welcome { agent: agent(), ports }).await?;
        taken.keep();
        Ok(Some(peer_agent))
    })
    .await
}

/// The listener's end of a method, from its first `step` until the dialler may be let in; returns the certificate that
/// the dialler came by, if any. Any other message that the
/// dialler sends before it has heard the last one is refused: the listener has not proved itself yet.
async fn prove<S: SendStream, R: RecvStream>(
    step: ListenerStep,
    control_out: &mut S,
    control_in: &mut MessageReader<R>,
) -> Result<Option<PeerCertificate>, Failure> {
    let (mut machine, mut next) = ListenerHandshake::new(step);
    loop {
        if let Some(message) = next {
            if let Some(early) = control_in.buffered()? {
                return Err(said_early(&early));
            }
            write_message(control_out, &Message::Auth(message.into())).await?;
        }
        if machine.is_done() {
            return Ok(machine.into_certificate());
        }
        next = match control_in.expect().await? {
            Message::Auth(message) => machine.read(&message)?,
            other => return Err(said_early(&other)),
        };
    }
}

fn said_early(message: &Message) -> Failure {
    Failure::protocol(format!("the dialler said {} before the listener proved itself", message.name()))
}

/// The roles of dialler and listener do not match.
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

/// The key for extra connections of the session whose first one is `connection`.
///
/// # Errors
///
/// TLS gives no keying material.
pub fn join_key<C: Connection>(connection: &C) -> Result<JoinKey, Failure> {
    connection.export_keying_material(JOIN_LABEL).map(|key| JoinKey::new(&key)).map_err(transport_failure)
}

/// The dialler's part on a further connection: it has the number `lane`, which is 0 when it takes over.
///
/// # Errors
///
/// The connection is gone.
pub async fn join<C: Connection>(connection: &C, key: &JoinKey, lane: u32) -> Result<(), Failure> {
    let exporter = connection.export_keying_material(JOIN_LABEL).map_err(transport_failure)?;
    // The listener answers nothing.
    let (mut stream, _) = connection.open_bi().await.map_err(transport_failure)?;
    write_message(&mut stream, &Message::Join { lane, proof: key.proof(&exporter) }).await?;
    stream.finish().map_err(transport_failure)
}

/// A session that further connections may join.
#[derive(Debug, Clone, Copy)]
pub struct Membership {
    /// What they prove.
    pub key: JoinKey,
    /// The dialler's.
    pub fingerprint: Fingerprint,
}

impl Membership {
    /// Of the session whose first connection is `connection`.
    ///
    /// # Errors
    ///
    /// TLS gives no keying material.
    pub fn of<C: Connection>(connection: &C) -> Result<Self, Failure> {
        Ok(Self { key: join_key(connection)?, fingerprint: connection.peer_fingerprint() })
    }
}

/// The listener's part on a further connection with the number `lane`. Each extra one has its own port. Returns which
/// of `sessions` it belongs to.
///
/// # Errors
///
/// The connection belongs to none, and has been told so. Or it is gone.
pub async fn admit<C: Connection>(
    connection: &C,
    opening: Opening<C>,
    sessions: &[Membership],
    lane: u32,
) -> Result<usize, Failure> {
    let Opening { streams: (_out, control_in), first } = opening;
    let admitted = async {
        let exporter = connection.export_keying_material(JOIN_LABEL).map_err(transport_failure)?;
        control_in.ends_after(&first).await?;
        let Message::Join { lane: said, proof } = first else {
            return Err(Failure::protocol(format!("a further connection began with {}", first.name())));
        };
        let is_of = |session: &Membership| {
            session.key.verify(&exporter, &proof) && connection.peer_fingerprint() == session.fingerprint
        };
        let Some(session) = sessions.iter().position(is_of) else {
            return Err(Failure::new(Reason::NotAuthenticated, "the connection is not of this session"));
        };
        if said != lane {
            return Err(Failure::protocol(format!("connection {lane} joins as number {said}")));
        }
        connection.let_in();
        Ok(session)
    };
    admitted.await.inspect_err(|failure| close_with(connection, failure))
}
