//! The connection that carries the control and manifest streams, and its replacement by another connection.

use std::convert::identity;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::closing::{CLOSE_DONE, is_of_the_connection, joined, transport_failure};
use super::joining::Replacers;
use super::lanes::LaneEnd;
use super::link::CONTROL_PRIORITY;
use super::messages::{MessageReader, write_message};
use super::retry::Retry;
use crate::event::{Event, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::message::{Message, Received};
use crate::transport::{Connection, SendStream, TransportError};

/// The connection of these streams, or the wait for a replacement.
pub(super) struct Carrier<C: Connection> {
    side: Side,
    connection: C,
    /// Tells who is outside which connection carries the session.
    carried: watch::Sender<Option<C>>,
    reporter: Arc<dyn Reporter>,
    closed: Pin<Box<dyn Future<Output = TransportError> + Send>>,
    /// Tasks that read and write the streams.
    tasks: JoinSet<Result<(), Failure>>,
    attaching: JoinSet<Result<Attached<C>, Failure>>,
    lost: Option<Lost>,
    replacers: Replacers,
}

/// Nothing carries the streams.
struct Lost {
    why: Failure,
    since: Instant,
    retry: Retry,
}

impl Lost {
    fn new(why: Failure, retry: Retry) -> Self {
        Self { why, since: Instant::now(), retry }
    }

    /// Waits until the time for another connection is over, or until none can be made any more; returns why there is
    /// none.
    async fn given_up(&self, replacers: Replacers) -> Failure {
        let because = tokio::select! {
            because = self.over() => because,
            () = replacers.gone() => "this side cannot be reached any more".to_owned(),
        };
        let mut failure = self.why.clone();
        failure.message += &format!(", and {because}");
        failure
    }

    async fn over(&self) -> String {
        let Retry::For(limit) = self.retry else { return pending().await };
        let Some(end) = self.since.checked_add(limit) else { return pending().await };
        sleep_until(end).await;
        format!("no other was made within {}", humantime::format_duration(limit))
    }
}

/// A connection that has taken over.
pub(super) struct Attached<C: Connection> {
    pub(super) control_out: C::Send,
    pub(super) control_in: MessageReader<C::Recv>,
    /// Numbers of the last messages that the peer has from this side.
    pub(super) theirs: Received,
}

/// An event of the connection.
pub(super) enum CarrierEvent<C: Connection> {
    /// A replacement carries the streams.
    Attached(Attached<C>),
    /// The connection is gone.
    Closed(TransportError),
    /// A task failed: the peer broke the protocol, or the transfer cannot go on.
    Failed(Failure),
    /// No replacement came in time. The failure says why the connection was lost.
    GivenUp(Failure),
}

impl<C: Connection> Carrier<C> {
    /// `connection` carries the streams. `carried` and `reporter` learn when another one does.
    pub(super) fn new(
        side: Side,
        connection: C,
        carried: watch::Sender<Option<C>>,
        reporter: Arc<dyn Reporter>,
        replacers: Replacers,
    ) -> Self {
        let closed = closed(connection.clone());
        let (tasks, attaching) = (JoinSet::new(), JoinSet::new());
        Self { side, connection, carried, reporter, closed, tasks, attaching, lost: None, replacers }
    }

    /// The current connection, or the last one while there is none.
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

    /// The connection is gone because of `error`. Another may take over for the time of `retry`.
    ///
    /// # Errors
    ///
    /// The peer has ended the session, or there will be no replacement.
    pub(super) fn lose(&mut self, error: TransportError, retry: Retry) -> Result<(), Failure> {
        let is_loss = match &error {
            TransportError::Closed { code, .. } => *code == u64::from(CLOSE_DONE),
            TransportError::TimedOut(_) | TransportError::Lost(_) => true,
            _ => false,
        };
        let why = transport_failure(error);
        if !is_loss || retry == Retry::Off {
            return Err(why);
        }
        self.tasks = JoinSet::new();
        self.begin_to_wait(why, retry);
        self.carried.send_replace(None);
        Ok(())
    }

    /// Lets `connection` take over; it has the time of `retry` to do so. `received` are the numbers of the last
    /// messages received from the peer. Nothing is sent on it before the end of the lane `before`.
    pub(super) fn replace(
        &mut self,
        connection: C,
        received: Received,
        retry: Retry,
        before: Option<LaneEnd>,
    ) {
        debug!(peer = %connection.remote_address(), ?received, "another connection takes over");
        // Closed before its streams are dropped, which the peer would take for a breach.
        self.connection.close(CLOSE_DONE, b"");
        self.tasks = JoinSet::new();
        self.attaching = JoinSet::new();
        self.closed = Box::pin(pending());
        self.connection = connection.clone();
        self.carried.send_replace(Some(connection.clone()));
        if self.lost.is_none() {
            let why = Failure::new(Reason::ConnectionLost, "the peer lost the connection");
            self.begin_to_wait(why, retry);
        }
        let side = self.side;
        self.attaching.spawn(async move {
            // So that the memory of the connection before is free when this one takes its own.
            if let Some(before) = before {
                before.reached().await;
            }
            attach(side, connection, received).await
        });
    }

    /// Nothing carries the streams from now on.
    fn begin_to_wait(&mut self, why: Failure, retry: Retry) {
        debug!(%why, ?retry, "waiting for another connection");
        let limit = if let Retry::For(limit) = retry { Some(limit) } else { None };
        self.reporter.report(Event::Reconnecting { limit, message: why.message.clone() });
        self.lost = Some(Lost::new(why, retry));
    }

    /// The next event of the connection.
    pub(super) async fn next(&mut self) -> CarrierEvent<C> {
        loop {
            let given_up = async {
                match &self.lost {
                    Some(lost) => lost.given_up(self.replacers.clone()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(end) = self.tasks.join_next() => match joined(end).and_then(identity) {
                    Err(failure) if !is_of_the_connection(&failure) => return CarrierEvent::Failed(failure),
                    // Otherwise the connection is gone, and `closed` says why.
                    _ => {}
                },
                Some(attached) = self.attaching.join_next() => match joined(attached).and_then(identity) {
                    Ok(attached) => {
                        if let Some(lost) = self.lost.take() {
                            self.reporter.report(Event::Reconnected { after: lost.since.elapsed() });
                        }
                        self.closed = closed(self.connection.clone());
                        return CarrierEvent::Attached(attached);
                    }
                    Err(failure) if failure.reason == Reason::ConnectionLost && !failure.from_peer => {
                        debug!(%failure, "the other connection is gone, too");
                        self.carried.send_replace(None);
                    }
                    Err(failure) => return CarrierEvent::Failed(failure),
                },
                error = &mut self.closed, if self.lost.is_none() => {
                    self.closed = Box::pin(pending());
                    return CarrierEvent::Closed(error);
                }
                failure = given_up => return CarrierEvent::GivenUp(failure),
            }
        }
    }
}

fn closed<C: Connection>(connection: C) -> Pin<Box<dyn Future<Output = TransportError> + Send>> {
    Box::pin(async move { connection.closed().await })
}

/// Opens the control stream of a replacement, and exchanges the numbers of the last messages received. The sender
/// opens it, like all other streams.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::yield_now;

    use super::*;
    use crate::session::joining::Joining;
    use crate::testing::connection::{MemoryConnection, MemoryLimits, pair};
    use crate::testing::session::Nobody;

    const RETRY: Retry = Retry::For(Duration::from_secs(60));

    fn carrier(side: Side, connection: MemoryConnection) -> Carrier<MemoryConnection> {
        let (joining, joiner) = Joining::<MemoryConnection>::new(0, true, RETRY);
        std::mem::forget(joiner);
        let carried = watch::Sender::new(Some(connection.clone()));
        Carrier::new(side, connection, carried, Arc::new(Nobody), joining.replacers())
    }

    /// The event of a carrier when a task ends with this result after the peer has closed the connection.
    async fn with_a_task(
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> CarrierEvent<MemoryConnection> {
        let (connection, peer, _link) = pair(1, MemoryLimits::default());
        let mut carrier = carrier(Side::Receiver, connection);
        carrier.spawn(work);
        peer.close(CLOSE_DONE, b"");
        yield_now().await;
        carrier.next().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_although_the_connection_is_gone_as_well() {
        let verification = Failure::on(Side::Receiver, Reason::Verification, "it does not match");
        for failure in [Failure::protocol("a breach"), verification] {
            let said = failure.clone();
            match with_a_task(async { Err(said) }).await {
                CarrierEvent::Failed(told) => assert_eq!(told.reason, failure.reason),
                _ => panic!("{failure} was dropped"),
            }
        }
        let CarrierEvent::Failed(told) = with_a_task(async { panic!("a bug") }).await else {
            panic!("a panic was dropped")
        };
        assert_eq!(told.reason, Reason::Internal);
        // The connection's own close reports these.
        for failure in [transport_failure(TransportError::ClosedHere), Failure::from_wire(12, b"its disk")] {
            let event = with_a_task(async { Err(failure) }).await;
            assert!(matches!(event, CarrierEvent::Closed(TransportError::Closed { code: 0, .. })));
        }
    }

    /// The next event of a carrier that has lost its connection and whose replacement is closed with `code`.
    async fn replaced_by_one_closed_with(code: u32) -> CarrierEvent<MemoryConnection> {
        let (first, _peer, _link) = pair(1, MemoryLimits::default());
        let mut carrier = carrier(Side::Sender, first);
        carrier.lose(TransportError::Lost("cut".to_owned()), RETRY).unwrap();
        let (second, peer, _other_link) = pair(2, MemoryLimits::default());
        carrier.replace(second, Received { control: 0, manifest: 0 }, RETRY, None);
        yield_now().await;
        peer.close(code, b"its disk");
        carrier.next().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_over_and_is_closed_ends_the_session_unless_it_is_a_loss() {
        for (code, reason) in [(12, Reason::Storage), (2, Reason::ConnectionLost)] {
            let CarrierEvent::Failed(failure) = replaced_by_one_closed_with(code).await else {
                panic!("a close with code {code} was taken for a loss")
            };
            assert_eq!((failure.reason, failure.from_peer), (reason, true));
        }
        let event = replaced_by_one_closed_with(CLOSE_DONE).await;
        assert!(matches!(event, CarrierEvent::GivenUp(_)), "another one was not waited for");
    }
}
