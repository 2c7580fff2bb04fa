//! Numbered messages sent and received by hand.

use bytes::BytesMut;

use crate::protocol::failure::Failure;
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::message::Message;
use crate::session::messages::MessageReader;
use crate::session::transport_failure;
use crate::testing::connection::{MemoryRecv, MemorySend};
use crate::transport::SendStream;

/// A stream for messages.
pub(super) struct HandOut {
    pub(super) stream: MemorySend,
    last: u64,
}

impl HandOut {
    pub(super) fn new(stream: MemorySend) -> Self {
        Self { stream, last: 0 }
    }

    /// Sends `message` with the next number.
    pub(super) async fn say(&mut self, message: &Message) -> Result<(), Failure> {
        self.last += u64::from(message.is_kept());
        self.say_as(if message.is_kept() { self.last } else { 0 }, message).await
    }

    /// Sends `message` with any number.
    pub(super) async fn say_as(&mut self, number: u64, message: &Message) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        put_varint(&mut out, number);
        message.encode(&mut out);
        self.stream.write_all(&mut [out.freeze()]).await.map_err(transport_failure)
    }

    pub(super) fn finish(&mut self) {
        self.stream.finish().unwrap();
    }
}

/// The next message, whatever its number; confirmations, and what the receiver can read, are skipped.
pub(super) async fn hear(from: &mut MessageReader<MemoryRecv>) -> Result<Message, Failure> {
    loop {
        match from.expect_numbered().await? {
            (_, None | Some(Message::Confirm(_) | Message::Unpacks(_))) => {}
            (_, Some(message)) => return Ok(message),
        }
    }
}
