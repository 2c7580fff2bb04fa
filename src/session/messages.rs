//! Messages on streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::{codec_failure, transport_failure};
use crate::protocol::failure::Failure;
use crate::protocol::wire::codec::Deframer;
use crate::protocol::wire::message::Message;
use crate::transport::{RecvStream, SendStream, TransportError};

/// Bytes read from a stream of messages at once.
const READ_BYTES: usize = 8 * 1024;
/// Bytes of messages gathered into one write.
const WRITE_BYTES: usize = 32 * 1024;
/// Bytes that wait in an outbox until its filler holds back. Above that come only messages about entries that are open
/// already, whose number is bounded.
const OUTBOX_BYTES: usize = 64 * 1024;

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
            match self.stream.read(&mut self.read).await.map_err(transport_failure)? {
                Some(n) => self.deframer.push(&self.read[..n]),
                None if self.deframer.is_empty() => return Ok(None),
                None => return Err(Failure::protocol("a stream ends inside a message")),
            }
        }
    }

    /// All messages that have come, at least one; none at the end of the stream.
    pub(super) async fn next_batch(&mut self) -> Result<Vec<Message>, Failure> {
        let mut batch: Vec<_> = self.next().await?.into_iter().collect();
        while !batch.is_empty()
            && let Some(message) = Message::next(&mut self.deframer).map_err(codec_failure)?
        {
            batch.push(message);
        }
        Ok(batch)
    }

    /// The next message, which must come.
    pub(super) async fn expect(&mut self) -> Result<Message, Failure> {
        self.next().await?.ok_or_else(|| Failure::protocol("a stream ends before its message"))
    }

    /// The one message of a stream, which must end behind it.
    pub(super) async fn only(mut self) -> Result<Message, Failure> {
        let message = self.expect().await?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Failure::protocol(format!("something stands behind {}", message.name()))),
        }
    }
}

/// Writes one message.
pub(super) async fn write_message<S: SendStream>(stream: &mut S, message: &Message) -> Result<(), Failure> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    stream.write_all(&mut [out.freeze()]).await.map_err(transport_failure)
}

/// Messages on their way to a stream. Sending never waits, so a driver goes on reading whatever its peer reads; who
/// fills an outbox looks first whether it [has room](Self::has_room).
#[derive(Clone)]
pub(super) struct Outbox(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or nothing more will come.
    filled: Notify,
    /// Something was written.
    drained: Notify,
}

#[derive(Default)]
struct Queue {
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
        let shared = Arc::new(Shared { queue: Mutex::default(), filled, drained });
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

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
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

async fn write_out<S: SendStream>(shared: Arc<Shared>, mut stream: S) -> Result<(), Failure> {
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
