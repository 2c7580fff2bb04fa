//! A transfer from the first message to the last: drivers that join the protocol's machines to transport and
//! storage.
//!
//! A failure of either side travels as the code and reason of QUIC's connection close, so that it reaches a peer
//! whose streams are blocked.

mod budget;
mod clock;
pub mod handshake;
mod lanes;
mod messages;
mod observe;
pub mod receive;
pub mod schedule;
pub mod send;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

pub use self::budget::Budget;
pub use self::lanes::{Joiner, Joining};
pub use self::observe::observer::{ProcessorUse, Ticks};
pub use self::throttle::Throttle;
use crate::event::{Event, Reporter};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::patience::Patience;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::wire::limits::{BLOCK_BYTES, REASON_BYTES_MAX};
use crate::transport::{Connection, TransportError};

/// Application code of a close after everything is done.
const CLOSE_DONE: u32 = 0;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Items by which a queue grows at least before stale ones are dropped.
const PRUNE_ITEMS: usize = 256;
/// How often a side says at least that it is alive.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// Jobs that hash files for comparison, at the same time. Each has a block.
const ROOTS_AT_ONCE: usize = 4;
/// Small files that one of them hashes.
const ROOTS_BATCH: usize = 256;

/// What both drivers need besides the connection and the disk.
#[derive(Clone)]
pub struct Context {
    /// Memory, streams.
    pub budget: Budget,
    /// How long the peer is waited for; a disk of this side gets its `disk_timeout`, too.
    pub patience: Patience,
    /// What may travel, and when.
    pub throttle: Arc<Throttle>,
    /// What has been used of the processor so far.
    pub processor_use: fn() -> ProcessorUse,
    /// Whether the receiver syncs; the summary says so.
    pub synced: bool,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
    /// Turns to a failure when this process is asked to stop.
    pub stop: watch::Receiver<Option<Failure>>,
}

impl Context {
    /// Waits until this process is asked to stop.
    async fn stopped(&mut self) -> Failure {
        let stopped = self.stop.wait_for(Option::is_some).await.map(|failure| failure.clone());
        match stopped {
            Ok(Some(failure)) => failure,
            // Nobody is left who could ask.
            _ => std::future::pending().await,
        }
    }
}

/// A connection with its control stream. The listener has let the dialler in; the dialler knows it once it has
/// been welcomed.
pub struct Link<C: Connection> {
    /// The connection.
    pub connection: C,
    /// Name and version of the peer's program, escaped; none while a dialler has not been welcomed.
    pub agent: Option<String>,
    /// Extra connections.
    pub joining: Joining<C>,
    control_out: C::Send,
    control_in: messages::MessageReader<C::Recv>,
}

/// The event that tells of the authenticated peer of `connection`, whose program is called `agent`.
pub fn connected<C: Connection>(connection: &C, agent: String) -> Event {
    Event::Connected {
        address: connection.remote_address(),
        fingerprint: connection.peer_fingerprint().to_string(),
        agent,
    }
}

/// What a transfer, and its staging directory, is called.
pub fn name_of(transfer: [u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(&transfer)
}

/// Drops what has become stale of a queue, each time that it would have to grow: a peer can make entries end whose turn
/// has not come, and announce others.
fn prune<I>(queue: &mut VecDeque<I>, is_alive: impl FnMut(&I) -> bool) {
    if queue.len() == queue.capacity() {
        queue.retain(is_alive);
        // As much again, so that this is done seldom.
        queue.reserve(queue.len() + PRUNE_ITEMS);
    }
}

/// The event that tells that entries begin to flow.
fn started(side: Side, transfer: [u8; 16]) -> Event {
    Event::Started { side, transfer: name_of(transfer) }
}

/// Closes `connection` so that the peer learns of `failure`.
pub fn close_with<C: Connection>(connection: &C, failure: &Failure) {
    connection.close(failure.reason.code(), &close_reason(failure));
}

/// What a close says of `failure`, beside its code.
pub fn close_reason(failure: &Failure) -> Vec<u8> {
    let text = failure.for_peer().as_bytes();
    text[..text.len().min(REASON_BYTES_MAX)].to_vec()
}

/// The failure that a transport error means to a person.
pub fn transport_failure(error: TransportError) -> Failure {
    let message = error.to_string();
    match error {
        TransportError::Closed { code, reason } => closed_failure(code, &reason),
        TransportError::ClosedHere => Failure::new(Reason::ConnectionLost, "the connection was closed"),
        TransportError::TimedOut(_) | TransportError::Lost(_) => {
            Failure::new(Reason::ConnectionLost, format!("the connection was lost: {message}"))
        }
        TransportError::NoAnswer(_) | TransportError::NobodyThere(_) | TransportError::Busy => {
            Failure::new(Reason::Unreachable, message)
        }
        TransportError::NotAuthenticated(_) => Failure::new(Reason::NotAuthenticated, message),
        TransportError::Incompatible(_) => Failure::new(Reason::Incompatible, message),
        TransportError::StreamEnded(_) => Failure::new(Reason::Protocol, message),
    }
}

fn closed_failure(code: u64, reason: &Bytes) -> Failure {
    if code == u64::from(CLOSE_DONE) {
        return Failure::new(Reason::ConnectionLost, "the peer closed the connection before the end");
    }
    Failure::from_wire(code, reason)
}

/// Takes the files off `waiting`, each with its size, that one job hashes: those that fit one block, or one large file.
fn next_roots<T>(waiting: &mut VecDeque<(T, u64)>) -> Vec<T> {
    let (mut batch, mut bytes) = (Vec::new(), 0u64);
    while batch.len() < ROOTS_BATCH
        && let Some((_, size)) = waiting.front()
    {
        bytes = bytes.saturating_add(*size);
        if !batch.is_empty() && bytes > BLOCK_BYTES as u64 {
            break;
        }
        batch.extend(waiting.pop_front().map(|(file, _)| file));
    }
    batch
}

/// Nothing happened for `waited`, before there was a machine to say so.
fn stalled(what: &str, waited: Duration, bottleneck: Bottleneck) -> Failure {
    Failure::new(Reason::AckTimeout, format!("{what} for {waited:?}; what held it: {}", bottleneck.as_str()))
}

/// A peer that did not keep to the codec.
fn codec_failure(error: crate::protocol::wire::codec::CodecError) -> Failure {
    Failure::protocol(printable(error.to_string().as_bytes()))
}
