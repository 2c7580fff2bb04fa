//! Bad ends: what a peer is told of a failure, and which failure an error means.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinError;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;
use crate::protocol::wire::codec::CodecError;
use crate::protocol::wire::limits::REASON_BYTES_MAX;
use crate::transport::{Connection, TransportError};

/// Application code of the close after a complete transfer.
pub(super) const CLOSE_DONE: u32 = 0;

/// Closes `connection` so that the peer learns of `failure`.
pub fn close_with<C: Connection>(connection: &C, failure: &Failure) {
    connection.close(failure.reason.code(), &close_reason(failure));
}

/// The text of a close for `failure`.
pub fn close_reason(failure: &Failure) -> Vec<u8> {
    let text = failure.for_peer().as_bytes();
    text[..text.len().min(REASON_BYTES_MAX)].to_vec()
}

/// The failure that a transport error means to the user.
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

/// Nothing happened for `waited`, before a machine existed to report it.
pub(super) fn stalled(what: &str, waited: Duration, bottleneck: Bottleneck) -> Failure {
    Failure::new(
        Reason::AckTimeout,
        format!("{what} for {waited:?}; last waiting for: {}", bottleneck.as_str()),
    )
}

/// The peer broke the codec.
pub(super) fn codec_failure(error: CodecError) -> Failure {
    Failure::protocol(printable(error.to_string().as_bytes()))
}

/// Whether `failure` only says that the connection is gone, by itself or by the peer.
pub(super) fn is_of_the_connection(failure: &Failure) -> bool {
    failure.reason == Reason::ConnectionLost || failure.from_peer
}

/// The result of a task; its panic becomes a failure.
pub(super) fn joined<T>(result: Result<T, JoinError>) -> Result<T, Failure> {
    result.map_err(|e| Failure::new(Reason::Internal, format!("a task of the transfer ended early: {e}")))
}
