//! Messages on streams.

use bytes::BytesMut;

use super::closing::{codec_failure, transport_failure};
use crate::protocol::failure::Failure;
use crate::protocol::wire::codec::Deframer;
use crate::protocol::wire::message::Message;
use crate::transport::{RecvStream, SendStream};

/// Bytes to read from a stream of messages at once.
const READ_BYTES: usize = 8 * 1024;

/// A message with its number; no message for an unknown optional type.
pub(super) type Numbered = (u64, Option<Message>);

/// Reads messages off a stream.
pub(super) struct MessageReader<R> {
    stream: R,
    deframer: Deframer,
    read: Box<[u8]>,
}

impl<R: RecvStream> MessageReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, deframer: Deframer::default(), read: vec![0; READ_BYTES].into() }
    }

    /// The next message; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some(message) = Message::next(&mut self.deframer).map_err(codec_failure)? {
                return Ok(Some(message));
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// The next message, if it is already buffered.
    pub(super) fn buffered(&mut self) -> Result<Option<Message>, Failure> {
        Message::next(&mut self.deframer).map_err(codec_failure)
    }

    /// False at the end of the stream.
    async fn read_more(&mut self) -> Result<bool, Failure> {
        match self.stream.read(&mut self.read).await.map_err(transport_failure)? {
            Some(n) => {
                self.deframer.push(&self.read[..n]);
                Ok(true)
            }
            None if self.deframer.is_empty() => Ok(false),
            None => Err(Failure::protocol("a stream ends inside a message")),
        }
    }

    /// All complete numbered messages, at least one; none at the end of the stream.
    pub(super) async fn next_numbered(&mut self) -> Result<Vec<Numbered>, Failure> {
        loop {
            let mut batch = Vec::new();
            while let Some(message) = Message::next_numbered(&mut self.deframer).map_err(codec_failure)? {
                batch.push(message);
            }
            if !batch.is_empty() || !self.read_more().await? {
                return Ok(batch);
            }
        }
    }

    /// The next message. The end of the stream is an error.
    pub(super) async fn expect(&mut self) -> Result<Message, Failure> {
        self.next().await?.ok_or_else(|| Failure::protocol("a stream ends before its message"))
    }

    /// The next numbered message. The end of the stream is an error.
    pub(super) async fn expect_numbered(&mut self) -> Result<Numbered, Failure> {
        loop {
            if let Some(message) = Message::next_numbered(&mut self.deframer).map_err(codec_failure)? {
                return Ok(message);
            }
            if !self.read_more().await? {
                return Err(Failure::protocol("a stream ends before its message"));
            }
        }
    }

    /// The only message of a stream, which must end after it.
    pub(super) async fn only(mut self) -> Result<Message, Failure> {
        let message = self.expect().await?;
        self.ends_after(&message).await?;
        Ok(message)
    }

    /// `last` must be the last message of the stream.
    pub(super) async fn ends_after(mut self, last: &Message) -> Result<(), Failure> {
        match self.next().await? {
            None => Ok(()),
            Some(_) => Err(Failure::protocol(format!("something stands behind {}", last.name()))),
        }
    }
}

/// Writes one message.
pub(super) async fn write_message<S: SendStream>(stream: &mut S, message: &Message) -> Result<(), Failure> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    stream.write_all(&mut [out.freeze()]).await.map_err(transport_failure)
}
