//! A chunk of a file whose size is known only at its end: it is read once, piece by piece.

use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};

use crate::protocol::failure::Failure;
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::record::{PieceHeader, RecordHeader, RecordKind};
use crate::session::send::file_handle::FileHandle;
use crate::session::send::parcel_stream::{put_packed, write};
use crate::session::send::shared::{ChunkEnd, Sending};
use crate::storage::Source;
use crate::transport::SendStream;

/// Sends the record of the chunk at `offset`, of at most `chunk_bytes` bytes, and tells the driver how far it has
/// read. Returns the chaining value and the number of bytes. It reads a block at a time. A read that does not fill
/// its block ends the file, even if the file has grown by then: only the last chunk may end inside a block.
pub(super) async fn send_open_record<S: Source, T: SendStream>(
    stream: &mut T,
    sending: &Sending<S>,
    id: EntryId,
    handle: &FileHandle<S::File>,
    offset: u64,
    chunk_bytes: u64,
    mut give_up: impl FnMut(Failure) -> Failure,
) -> Result<([u8; 32], u64), Failure> {
    let file = sending.reading.during(handle.open(sending)).await.map_err(&mut give_up)?;
    let mut out = BytesMut::new();
    let packs = sending.packing.is_on();
    let kind = if packs { RecordKind::Packed } else { RecordKind::Data };
    RecordHeader { id, offset, len: 0, kind, runs: Vec::new() }.encode(&mut out);
    let mut hasher = RecordHasher::open_ended(offset);
    // After a whole chunk, only one more read shows whether the file ends there.
    let mut ahead = handle.ahead.lock().await;
    let mut at = offset;
    let is_last = loop {
        let (block, len) = match ahead.take() {
            Some(piece) => piece,
            None => {
                let block = sending.allocating.during(sending.pool.acquire()).await;
                let read = sending.source.read_on(file, at, block);
                let (block, n) = sending.reading.during(read).await.map_err(&mut give_up)?;
                (block, n.min(BLOCK_BYTES))
            }
        };
        if len == 0 {
            break true;
        }
        if at == offset + chunk_bytes {
            *ahead = Some((block, len));
            break false;
        }
        let n = len as u64;
        hasher.update(&block[..len]);
        sending.offered_bytes.fetch_add(n, Relaxed);
        PieceHeader::Data(n).encode(&mut out);
        let piece = match packs {
            true => put_packed(sending, &handle.trials, block, len, &mut out).await?,
            false => block.into_bytes().slice(..len),
        };
        write(sending, stream, &mut [out.split().freeze(), piece]).await?;
        sending.sent_bytes.fetch_add(n, Relaxed);
        handle.sent_bytes.fetch_add(n, Relaxed);
        at += n;
        if n < BLOCK_BYTES as u64 {
            break true;
        }
    };
    drop(ahead);
    if is_last && offset == 0 {
        hasher.is_whole_file();
    }
    let value = hasher.finish();
    PieceHeader::End { is_last }.encode(&mut out);
    // The driver receives this before the ack. If the driver is gone, the transfer has ended.
    let _ = sending.chunk_ends.send(ChunkEnd { id, end: at, is_last }).await;
    write(sending, stream, &mut [out.freeze(), Bytes::copy_from_slice(&value)]).await?;
    Ok((value, at - offset))
}
