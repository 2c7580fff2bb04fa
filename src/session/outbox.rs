//! Outgoing messages: those waiting for a stream, and those the peer has not confirmed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::closing::transport_failure;
use crate::protocol::engine::log::OutgoingLog;
use crate::protocol::failure::Failure;
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::limits::LOG_BYTES_MAX;
use crate::protocol::wire::message::{Message, Received};
use crate::transport::{SendStream, TransportError};

/// Bytes of messages gathered into one write.
const WRITE_BYTES: usize = 32 * 1024;
/// Bytes waiting in an outbox above which its filler pauses.
const WAITING_BYTES: usize = 64 * 1024;

/// Messages on their way to the stream of the current connection. Sending never waits, so a driver keeps reading even
/// when its peer does not. The filler of an outbox first checks whether it [has room](Self::has_room).
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<OutboxShared>);

#[derive(Default)]
struct OutboxShared {
    state: Mutex<OutboxState>,
    /// There is something to write, or the outbox has ended.
    filled: Notify,
    /// Something was written or confirmed.
    drained: Notify,
}

#[derive(Default)]
struct OutboxState {
    log: OutgoingLog,
    /// The last heart-beat that has not left; a newer one takes its place.
    beat: BytesMut,
    /// The last confirmation that has not left; a newer one takes its place.
    confirm: BytesMut,
    writing: usize,
    /// Counts the streams this outbox was written to; only the last one is still written.
    stream: u64,
    is_ended: bool,
    is_delivered: bool,
}

/// What a writer does next.
enum WriterStep {
    Write(Bytes),
    Finish,
    /// Another stream has taken over.
    Stop,
}

impl Outbox {
    /// Writes the messages of this outbox to `stream`, gathered, and finishes the stream at the [end](Self::end).
    /// Earlier streams get nothing more. Fails when the peer stops the stream.
    pub(super) fn write_to<S: SendStream>(
        &self,
        stream: S,
    ) -> impl Future<Output = Result<(), Failure>> + Send + use<S> {
        let number = self.0.state().next_stream();
        write_out(Arc::clone(&self.0), number, stream)
    }

    /// Queues `message`.
    pub(super) fn send(&self, message: &Message) {
        self.0.state().log.push(message);
        self.0.filled.notify_one();
    }

    /// Sends these bytes when nothing else waits. They replace earlier ones that have not left.
    pub(super) fn beat(&self, messages: &[Message]) {
        let mut state = self.0.state();
        state.beat.clear();
        messages.iter().for_each(|message| put_unnumbered(&mut state.beat, message));
        drop(state);
        self.0.filled.notify_one();
    }

    /// Confirms received messages to the peer, in the same way.
    pub(super) fn confirm(&self, received: Received) {
        let mut state = self.0.state();
        state.confirm.clear();
        put_unnumbered(&mut state.confirm, &Message::Confirm(received));
        drop(state);
        self.0.filled.notify_one();
    }

    /// The peer has all messages up to `number`. Returns whether that is news.
    pub(super) fn confirmed(&self, number: u64) -> Result<bool, Failure> {
        let mut state = self.0.state();
        let before = state.log.kept_bytes();
        state.log.confirm(number)?;
        let is_news = state.log.kept_bytes() < before;
        drop(state);
        self.0.drained.notify_one();
        Ok(is_news)
    }

    /// The stream is gone. The next one begins after message `received`, the last one the peer has.
    pub(super) fn replay_after(&self, received: u64) -> Result<(), Failure> {
        let mut state = self.0.state();
        state.next_stream();
        state.beat.clear();
        state.confirm.clear();
        state.log.replay_after(received)
    }

    /// Whether the outbox takes more messages.
    pub(super) fn has_room(&self) -> bool {
        let state = self.0.state();
        state.log.waiting_bytes() + state.writing < WAITING_BYTES && state.log.kept_bytes() < LOG_BYTES_MAX
    }

    /// Waits until something has been written or confirmed.
    pub(super) async fn drained(&self) {
        self.0.drained.notified().await;
    }

    /// Whether the peer has everything up to the end, and can read it whatever becomes of the connection.
    pub(super) fn is_delivered(&self) -> bool {
        self.0.state().is_delivered
    }

    /// Ends the outbox; nothing more will be sent.
    pub(super) fn end(&self) {
        let mut state = self.0.state();
        state.beat.clear();
        state.confirm.clear();
        state.is_ended = true;
        drop(state);
        self.0.filled.notify_one();
    }
}

impl OutboxState {
    fn next_stream(&mut self) -> u64 {
        self.stream += 1;
        self.writing = 0;
        self.stream
    }

    fn step(&mut self, stream: u64) -> Option<WriterStep> {
        if stream != self.stream {
            return Some(WriterStep::Stop);
        }
        let mut next = self.log.give(WRITE_BYTES);
        if self.log.waiting_bytes() == 0 && self.beat.len() + self.confirm.len() > 0 {
            let mut bytes = BytesMut::from(next.unwrap_or_default());
            bytes.unsplit(self.beat.split());
            bytes.unsplit(self.confirm.split());
            next = Some(bytes.freeze());
        }
        match next {
            Some(bytes) => {
                self.writing = bytes.len();
                Some(WriterStep::Write(bytes))
            }
            None => self.is_ended.then_some(WriterStep::Finish),
        }
    }
}

impl OutboxShared {
    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self, stream: u64) -> WriterStep {
        loop {
            let step = self.state().step(stream);
            match step {
                Some(step) => return step,
                None => self.filled.notified().await,
            }
        }
    }
}

pub(super) fn put_unnumbered(out: &mut BytesMut, message: &Message) {
    put_varint(out, 0);
    message.encode(out);
}

async fn write_out<S: SendStream>(
    shared: Arc<OutboxShared>,
    number: u64,
    mut stream: S,
) -> Result<(), Failure> {
    let failure = |error| match error {
        TransportError::StreamEnded(_) => {
            Failure::protocol("the peer refuses to read a stream that a transfer cannot do without")
        }
        other => transport_failure(other),
    };
    loop {
        match shared.next(number).await {
            WriterStep::Write(bytes) => {
                stream.write_all(&mut [bytes]).await.map_err(failure)?;
                let mut state = shared.state();
                if state.stream == number {
                    state.writing = 0;
                }
                drop(state);
                shared.drained.notify_one();
            }
            WriterStep::Finish => {
                stream.finish().map_err(failure)?;
                if stream.is_delivered().await {
                    shared.state().is_delivered = true;
                }
                return Ok(());
            }
            WriterStep::Stop => {
                // Passes the wake-up on to the next writer.
                shared.filled.notify_one();
                return Ok(());
            }
        }
    }
}
