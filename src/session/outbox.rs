//! Messages that wait for a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::closing::transport_failure;
use crate::protocol::failure::Failure;
use crate::protocol::wire::message::Message;
use crate::transport::{SendStream, TransportError};

/// Bytes of messages gathered into one write.
const WRITE_BYTES: usize = 32 * 1024;
/// Bytes that wait in an outbox until its filler holds back. Above that come only messages about entries that are open
/// already, whose number is bounded.
const OUTBOX_BYTES: usize = 64 * 1024;

/// Messages on their way to a stream. Sending never waits, so a driver goes on reading whatever its peer reads; who
/// fills an outbox looks first whether it [has room](Self::has_room).
#[derive(Clone)]
pub(super) struct Outbox(Arc<OutboxShared>);

struct OutboxShared {
    queue: Mutex<Unsent>,
    /// There is something to write, or nothing more will come.
    filled: Notify,
    /// Something was written.
    drained: Notify,
}

#[derive(Default)]
struct Unsent {
    bytes: BytesMut,
    /// The last heart-beat that has not left; a newer one takes its place.
    beat: BytesMut,
    writing: usize,
    is_ended: bool,
}

impl Outbox {
    /// An outbox, and the work that writes to `stream` what is put into it, gathered. It finishes the stream at the
    /// [end](Self::end). It fails when the peer does not let the stream be.
    pub(super) fn new<S: SendStream>(
        stream: S,
    ) -> (Self, impl Future<Output = Result<(), Failure>> + Send + use<S>) {
        let (filled, drained) = (Notify::new(), Notify::new());
        let shared = Arc::new(OutboxShared { queue: Mutex::default(), filled, drained });
        (Self(Arc::clone(&shared)), write_out(shared, stream))
    }

    /// Puts `message` behind the others.
    pub(super) fn send(&self, message: &Message) {
        message.encode(&mut self.0.queue().bytes);
        self.0.filled.notify_one();
    }

    /// Sends these when nothing else waits, in the place of earlier ones that have not left.
    pub(super) fn beat(&self, messages: &[Message]) {
        let mut queue = self.0.queue();
        queue.beat.clear();
        messages.iter().for_each(|message| message.encode(&mut queue.beat));
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Whether more may be made that has to be sent.
    pub(super) fn has_room(&self) -> bool {
        let queue = self.0.queue();
        queue.bytes.len() + queue.writing < OUTBOX_BYTES
    }

    /// Waits until something has been written.
    pub(super) async fn drained(&self) {
        self.0.drained.notified().await;
    }

    /// Nothing more will be sent.
    pub(super) fn end(&self) {
        let mut queue = self.0.queue();
        queue.beat.clear();
        queue.is_ended = true;
        drop(queue);
        self.0.filled.notify_one();
    }
}

impl OutboxShared {
    fn queue(&self) -> MutexGuard<'_, Unsent> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next; nothing at the end.
    async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut queue = self.queue();
                let n = queue.bytes.len().min(WRITE_BYTES);
                let mut next = queue.bytes.split_to(n);
                if queue.bytes.is_empty() {
                    next.unsplit(queue.beat.split());
                }
                if !next.is_empty() {
                    queue.writing = next.len();
                    return Some(next.freeze());
                }
                if queue.is_ended {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

async fn write_out<S: SendStream>(shared: Arc<OutboxShared>, mut stream: S) -> Result<(), Failure> {
    let failure = |error| match error {
        TransportError::StreamEnded(_) => {
            Failure::protocol("the peer refuses to read a stream that a transfer cannot do without")
        }
        other => transport_failure(other),
    };
    while let Some(bytes) = shared.next().await {
        stream.write_all(&mut [bytes]).await.map_err(failure)?;
        shared.queue().writing = 0;
        shared.drained.notify_one();
    }
    stream.finish().map_err(failure)
}
