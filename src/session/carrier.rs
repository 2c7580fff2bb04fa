//! The connection that carries the control and manifest streams, and how another one takes over.

use std::convert::identity;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::closing::{CLOSE_DONE, joined, transport_failure};
use super::link::CONTROL_PRIORITY;
use super::messages::{MessageReader, write_message};
use crate::protocol::failure::{Failure, Side};
use crate::protocol::wire::message::{Message, Received};
use crate::transport::{Connection, SendStream, TransportError};

/// The streams of the connection, or the wait for another.
pub(super) struct Carrier<C: Connection> {
    side: Side,
    connection: C,
    closed: Pin<Box<dyn Future<Output = TransportError> + Send>>,
    /// Read and write the streams.
    tasks: JoinSet<Result<(), Failure>>,
    attaching: JoinSet<Result<Attached<C>, Failure>>,
    lost: Option<Lost>,
}

/// Nothing carries the streams.
struct Lost {
    why: Failure,
    give_up: Instant,
}

/// A connection that has taken over.
pub(super) struct Attached<C: Connection> {
    pub(super) control_out: C::Send,
    pub(super) control_in: MessageReader<C::Recv>,
    /// What the peer has of this side's messages.
    pub(super) theirs: Received,
}

/// What has happened to the connection.
pub(super) enum CarrierEvent<C: Connection> {
    /// The streams travel again.
    Attached(Attached<C>),
    /// It is gone.
    Closed(TransportError),
    /// The peer did not keep to the protocol.
    Failed(Failure),
    /// No other has taken over in time.
    GivenUp(Failure),
}

impl<C: Connection> Carrier<C> {
    pub(super) fn new(side: Side, connection: C) -> Self {
        let closed = closed(connection.clone());
        Self { side, connection, closed, tasks: JoinSet::new(), attaching: JoinSet::new(), lost: None }
    }

    /// The connection, or the one that was lost.
    pub(super) fn connection(&self) -> &C {
        &self.connection
    }

    /// Does `work` as long as this connection carries the streams.
    pub(super) fn spawn(&mut self, work: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Nothing carries the streams.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The connection is gone because of `error`; another may take over for the time of `replaced_within`.
    ///
    /// # Errors
    ///
    /// The peer has ended the session, or no other will come.
    pub(super) fn lose(
        &mut self,
        error: TransportError,
        replaced_within: Option<Duration>,
    ) -> Result<(), Failure> {
        let is_loss = match &error {
            TransportError::Closed { code, .. } => *code == u64::from(CLOSE_DONE),
            TransportError::TimedOut(_) | TransportError::Lost(_) => true,
            _ => false,
        };
        let why = transport_failure(error);
        match replaced_within.filter(|_| is_loss) {
            Some(within) => {
                debug!(%why, ?within, "waiting for another connection");
                self.tasks = JoinSet::new();
                self.lost = Some(Lost { why, give_up: Instant::now() + within });
                Ok(())
            }
            None => Err(why),
        }
    }

    /// Lets `connection` take over, for the time of `replaced_within`. This side has `received` from the peer.
    pub(super) fn replace(&mut self, connection: C, received: Received, replaced_within: Duration) {
        debug!(peer = %connection.remote_address(), ?received, "another connection takes over");
        self.tasks = JoinSet::new();
        self.connection.close(CLOSE_DONE, b"");
        self.closed = Box::pin(pending());
        self.connection = connection.clone();
        self.lost.get_or_insert_with(|| Lost {
            why: transport_failure(TransportError::ClosedHere),
            give_up: Instant::now() + replaced_within,
        });
        self.attaching = JoinSet::new();
        self.attaching.spawn(attach(self.side, connection, received));
    }

    /// What happens next to the connection.
    pub(super) async fn next(&mut self) -> CarrierEvent<C> {
        loop {
            let give_up = self.lost.as_ref().map(|lost| lost.give_up);
            tokio::select! {
                biased;
                Some(end) = self.tasks.join_next() => match joined(end).and_then(identity) {
                    // Why a connection is gone is told below.
                    Err(failure) if !self.connection.is_closed() => return CarrierEvent::Failed(failure),
                    _ => {}
                },
                Some(attached) = self.attaching.join_next() => match joined(attached).and_then(identity) {
                    Ok(attached) => {
                        self.lost = None;
                        self.closed = closed(self.connection.clone());
                        return CarrierEvent::Attached(attached);
                    }
                    Err(failure) if !self.connection.is_closed() => return CarrierEvent::Failed(failure),
                    Err(failure) => debug!(%failure, "the other connection is gone, too"),
                },
                error = &mut self.closed, if self.lost.is_none() => {
                    self.closed = Box::pin(pending());
                    return CarrierEvent::Closed(error);
                }
                () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                    if let Some(lost) = &self.lost {
                        return CarrierEvent::GivenUp(lost.why.clone());
                    }
                }
            }
        }
    }
}

fn closed<C: Connection>(connection: C) -> Pin<Box<dyn Future<Output = TransportError> + Send>> {
    Box::pin(async move { connection.closed().await })
}

/// Opens the control stream of a connection that takes over, and exchanges what each side has. The sender opens it, as it
/// opens all other streams.
async fn attach<C: Connection>(
    side: Side,
    connection: C,
    received: Received,
) -> Result<Attached<C>, Failure> {
    let streams = match side {
        Side::Sender => connection.open_bi().await,
        Side::Receiver => connection.accept_bi().await,
    };
    let (mut control_out, control_in) = streams.map_err(transport_failure)?;
    control_out.set_priority(CONTROL_PRIORITY);
    write_message(&mut control_out, &Message::Attach(received)).await?;
    let mut control_in = MessageReader::new(control_in);
    match control_in.expect().await? {
        Message::Attach(theirs) => Ok(Attached { control_out, control_in, theirs }),
        other => Err(Failure::protocol(format!("a connection took over with {}", other.name()))),
    }
}
