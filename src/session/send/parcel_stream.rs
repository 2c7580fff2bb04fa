//! The stream of a parcel: sends bytes at the throttle's rate and receives the answer.

use bytes::{Bytes, BytesMut};

use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::message::Message;
use crate::session::closing::transport_failure;
use crate::session::messages::MessageReader;
use crate::session::send::packing::Trials;
use crate::session::send::shared::Sending;
use crate::storage::Source;
use crate::storage::block::Block;
use crate::transport::{Connection, SendStream, TransportError};

/// The receiver's answer to a parcel.
#[derive(Debug)]
pub(super) enum Answer {
    /// All of it is written.
    Acked,
    /// These claims match.
    Claims(u64),
    /// The chunk is written, with so many bytes of the old file.
    Copied(u64),
    /// The recipe made other bytes.
    Differs,
    /// The signature of the old file has come, or the receiver cannot give it.
    Signed(bool),
}

/// Gives `chunks` to QUIC at the throttle's rate.
pub(super) async fn write<S, T: SendStream>(
    sending: &Sending<S>,
    stream: &mut T,
    chunks: &mut [Bytes],
) -> Result<(), Failure> {
    let mut rest = chunks;
    while !rest.is_empty() {
        let bytes = rest.iter().map(Bytes::len).sum();
        let granted = sending.throttle.take(bytes).await.bytes;
        let mut slice = Vec::new();
        let now = if granted == bytes {
            std::mem::take(&mut rest)
        } else {
            slice.extend(front(&mut rest, granted));
            &mut slice
        };
        sending.writing.during(stream.write_all(now)).await.map_err(write_failure)?;
    }
    Ok(())
}

/// Compresses the first `len` bytes of a block if that helps, and appends their number to `out`. Returns the bytes that
/// follow it.
pub(super) async fn put_packed<S>(
    sending: &Sending<S>,
    trials: &Trials,
    block: Block,
    len: usize,
    out: &mut BytesMut,
) -> Result<Bytes, Failure> {
    let (block, packed) = sending.packing.pack(block, len, trials).await?;
    put_varint(out, packed as u64);
    Ok(block.into_bytes().slice(..if packed > 0 { packed } else { len }))
}

/// A receiver that has given up an entry stops the streams of its chunks, perhaps before its status is here.
fn write_failure(error: TransportError) -> Failure {
    match error {
        TransportError::StreamEnded(_) => {
            Failure::new(Reason::TransferFailed, "the receiver stopped a parcel before its end")
        }
        other => transport_failure(other),
    }
}

/// Cuts the first `bytes` bytes off `chunks`.
fn front(chunks: &mut &mut [Bytes], mut bytes: usize) -> Vec<Bytes> {
    let mut front = Vec::with_capacity(chunks.len());
    while let Some(first) = chunks.first_mut() {
        if bytes < first.len() {
            if bytes > 0 {
                front.push(first.split_to(bytes));
            }
            break;
        }
        bytes -= first.len();
        front.push(std::mem::take(first));
        *chunks = &mut std::mem::take(chunks)[1..];
    }
    front
}

/// Finishes the stream and waits for the ack of its `records` records.
pub(super) async fn await_ack<C: Connection, S: Source>(
    sending: &Sending<S>,
    stream: C::Send,
    answer: C::Recv,
    records: usize,
) -> Result<(), Failure> {
    match await_answer::<C, S>(sending, stream, answer).await? {
        Message::Ack(count) if count == records as u64 => Ok(()),
        Message::Ack(count) => Err(Failure::protocol(format!("{count} records were acked of {records}"))),
        other => Err(unexpected(&other)),
    }
}

/// Finishes the stream and waits for the answer. A parcel that was not taken is a failure.
pub(super) async fn await_answer<C: Connection, S: Source>(
    sending: &Sending<S>,
    mut stream: C::Send,
    answer: C::Recv,
) -> Result<Message, Failure> {
    stream.finish().map_err(transport_failure)?;
    match sending.acking.during(MessageReader::new(answer).only()).await? {
        Message::Nack(reason) => Err(refused(reason)),
        answer => Ok(answer),
    }
}

/// The receiver did not take a parcel.
pub(super) fn refused(reason: Reason) -> Failure {
    Failure::new(reason, format!("the receiver did not take a parcel: {}", reason.as_str()))
}

/// The receiver answered a parcel with another message than it must.
pub(super) fn unexpected(answer: &Message) -> Failure {
    Failure::protocol(format!("{} is not an answer to this parcel", answer.name()))
}
