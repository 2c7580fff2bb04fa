//! Numbered messages, which let a session move from one connection to another. Sent messages are kept until the peer
//! confirms them, and received ones are handled once.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::protocol::failure::Failure;
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::message::Message;

/// Outgoing messages of one stream, numbered from 1 and kept until confirmed.
#[derive(Debug, Default)]
pub struct OutgoingLog {
    /// Encoded messages not yet confirmed.
    bytes: BytesMut,
    /// Length of each message.
    frames: VecDeque<usize>,
    /// Number of the last confirmed message.
    confirmed: u64,
    /// Messages, and their bytes, given to the current connection.
    given_frames: usize,
    given_bytes: usize,
}

impl OutgoingLog {
    /// Queues `message`.
    pub fn push(&mut self, message: &Message) {
        debug_assert!(message.is_kept());
        let (number, before) = (self.last() + 1, self.bytes.len());
        put_varint(&mut self.bytes, number);
        message.encode(&mut self.bytes);
        self.frames.push_back(self.bytes.len() - before);
    }

    /// Number of the last message.
    fn last(&self) -> u64 {
        self.confirmed + self.frames.len() as u64
    }

    /// Bytes not yet given to the connection.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.given_bytes
    }

    /// Bytes not yet confirmed.
    pub fn kept_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The next messages for the connection, about `max_bytes` of them. Messages are given whole, so a confirmed
    /// message is never half sent.
    pub fn give(&mut self, max_bytes: usize) -> Option<Bytes> {
        let start = self.given_bytes;
        while let Some(len) = self.frames.get(self.given_frames)
            && (self.given_bytes == start || self.given_bytes - start + len <= max_bytes)
        {
            self.given_bytes += len;
            self.given_frames += 1;
        }
        (self.given_bytes > start).then(|| Bytes::copy_from_slice(&self.bytes[start..self.given_bytes]))
    }

    /// The peer has all messages up to `number`.
    ///
    /// # Errors
    ///
    /// The peer confirmed more before, or confirms messages that were never sent.
    pub fn confirm(&mut self, number: u64) -> Result<(), Failure> {
        if number < self.confirmed || number > self.last() {
            return Err(Failure::protocol(format!(
                "message {number} is confirmed, out of {} to {}",
                self.confirmed,
                self.last()
            )));
        }
        let frames = usize::try_from(number - self.confirmed).unwrap_or(usize::MAX).min(self.frames.len());
        let bytes = self.frames.drain(..frames).sum();
        self.bytes.advance(bytes);
        self.confirmed = number;
        self.given_frames = self.given_frames.saturating_sub(frames);
        self.given_bytes = self.given_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Another connection takes over from a peer that has all messages up to `received`. The later ones are given
    /// again.
    ///
    /// # Errors
    ///
    /// As [`OutgoingLog::confirm`].
    pub fn replay_after(&mut self, received: u64) -> Result<(), Failure> {
        self.confirm(received)?;
        (self.given_frames, self.given_bytes) = (0, 0);
        Ok(())
    }
}

/// Incoming messages of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IncomingLog {
    /// Number of the last handled message.
    received: u64,
}

impl IncomingLog {
    /// Number of the last handled message.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether to handle the message with this number: true for the next one, false for a repeated one. `is_kept`
    /// tells whether messages of its type are kept; others have the number 0.
    ///
    /// # Errors
    ///
    /// A number is missing, or there is one on a message that has none.
    pub fn take(&mut self, number: u64, is_kept: bool) -> Result<bool, Failure> {
        if !is_kept || number == 0 {
            return match (is_kept, number) {
                (false, 0) => Ok(true),
                _ => Err(Failure::protocol(format!("a message has the wrong number {number}"))),
            };
        }
        if number > self.received + 1 {
            let expected = self.received + 1;
            return Err(Failure::protocol(format!("message {number} came where {expected} was expected")));
        }
        let is_next = number == self.received + 1;
        self.received += u64::from(is_next);
        Ok(is_next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::wire::codec::Deframer;

    const FRAME: usize = 4;

    /// A message that contains its own number.
    fn message(number: u64) -> Message {
        Message::End(number)
    }

    /// Two ends and the connection between them.
    #[derive(Default)]
    struct LogEnds {
        out: OutgoingLog,
        pushed: u64,
        on_the_way: VecDeque<Bytes>,
        deframer: Deframer,
        came: IncomingLog,
        taken: Vec<u64>,
    }

    impl LogEnds {
        fn push(&mut self) {
            self.pushed += 1;
            self.out.push(&message(self.pushed));
        }

        fn deliver(&mut self) {
            let Some(bytes) = self.on_the_way.pop_front() else { return };
            self.deframer.push(&bytes);
            while let Some((number, message)) = Message::next_numbered(&mut self.deframer).unwrap() {
                if self.came.take(number, true).unwrap() {
                    let Some(Message::End(said)) = message else { panic!("another message") };
                    self.taken.push(said);
                }
            }
        }

        /// Loses the data in flight; another connection takes over.
        fn replace(&mut self) {
            self.on_the_way.clear();
            self.deframer = Deframer::default();
            self.out.replay_after(self.came.received()).unwrap();
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Push,
        Give(usize),
        Deliver,
        Confirm,
        Replace,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => Just(Operation::Push),
            4 => (1usize..40).prop_map(Operation::Give),
            4 => Just(Operation::Deliver),
            1 => Just(Operation::Confirm),
            1 => Just(Operation::Replace),
        ]
    }

    proptest! {
        #[test]
        fn every_message_is_taken_once_and_in_order_whatever_is_cut(
            operations in prop::collection::vec(operation(), 0..200),
        ) {
            let mut ends = LogEnds::default();
            for operation in operations {
                match operation {
                    Operation::Push => ends.push(),
                    Operation::Give(max) => ends.on_the_way.extend(ends.out.give(max)),
                    Operation::Deliver => ends.deliver(),
                    Operation::Confirm => {
                        ends.out.confirm(ends.came.received()).unwrap();
                        prop_assert_eq!(ends.out.frames.len() as u64, ends.pushed - ends.came.received());
                    }
                    Operation::Replace => ends.replace(),
                }
                prop_assert!(ends.out.waiting_bytes() <= ends.out.kept_bytes());
            }
            ends.replace();
            while let Some(bytes) = ends.out.give(10) {
                ends.on_the_way.push_back(bytes);
                ends.deliver();
            }
            prop_assert_eq!(ends.taken, (1..=ends.pushed).collect::<Vec<_>>());
            ends.out.confirm(ends.pushed).unwrap();
            prop_assert_eq!((ends.out.kept_bytes(), ends.out.waiting_bytes()), (0, 0));
        }
    }

    /// [W-33]
    #[test]
    fn attack_26_a_peer_confirms_only_what_was_sent_and_takes_nothing_back() {
        let mut out = OutgoingLog::default();
        (1..=3).for_each(|number| out.push(&message(number)));
        assert!(out.confirm(4).is_err());
        out.confirm(2).unwrap();
        assert_eq!(out.kept_bytes(), FRAME);
        assert!(out.confirm(1).is_err() && out.replay_after(1).is_err());
        out.confirm(2).unwrap();
    }

    /// [W-31]
    #[test]
    fn attack_26_a_gap_in_the_numbers_is_a_breach() {
        let mut came = IncomingLog::default();
        assert_eq!(
            (came.take(1, true), came.take(1, true), came.take(2, true)),
            (Ok(true), Ok(false), Ok(true))
        );
        assert!(came.take(4, true).is_err());
        assert_eq!(came.take(0, false), Ok(true));
        assert!(came.take(0, true).is_err() && came.take(3, false).is_err());
        assert_eq!(came.received(), 2);
    }

    #[test]
    fn golden_bytes_of_a_numbered_frame() {
        let mut out = OutgoingLog::default();
        (1..=64).for_each(|number| out.push(&message(number)));
        out.confirm(62).unwrap();
        assert_eq!(&out.give(100).unwrap()[..], [0x3f, 0x21, 1, 0x3f, 0x40, 0x40, 0x21, 2, 0x40, 0x40]);
    }
}
