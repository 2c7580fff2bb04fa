//! Why a connection or stream ended.

use std::time::Duration;

use bytes::Bytes;

/// Why a connection or stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer closed the connection with its own code and text.
    #[error("closed by the peer with code {code}")]
    Closed {
        /// Application error code.
        code: u64,
        /// At most [`crate::protocol::wire::limits::REASON_BYTES_MAX`] bytes, not checked.
        reason: Bytes,
    },
    /// This side closed it.
    #[error("closed here")]
    ClosedHere,
    /// Nothing was received for the idle time-out.
    #[error("nothing was heard from the peer for {0:?}")]
    TimedOut(Duration),
    /// No answer at all while connecting.
    #[error("nothing answered on UDP at {0}")]
    NoAnswer(String),
    /// The remote system, or one on the path, reports that nothing listens.
    #[error("nothing listens on UDP at {0}")]
    NobodyThere(String),
    /// The peer accepts no extra connection at the moment.
    #[error("the peer takes no extra connection just now")]
    Busy,
    /// TLS: certificate, fingerprint, ALPN.
    #[error("{0}")]
    NotAuthenticated(String),
    /// The peer speaks a different protocol or version.
    #[error("{0}")]
    Incompatible(String),
    /// The peer ended this stream only.
    #[error("the peer ended the stream with code {0}")]
    StreamEnded(u64),
    /// Anything else: the socket, a transport error of the peer, a reset.
    #[error("{0}")]
    Lost(String),
}
