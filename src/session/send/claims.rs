//! Sends a parcel of claims: the source is read and hashed, and only the chaining values travel.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tracing::debug;

use crate::protocol::failure::Failure;
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::session::send::file_handle::FileHandle;
use crate::session::send::parcel_stream::{await_answer, unexpected, write};
use crate::session::send::shared::Sending;
use crate::storage::Source;
use crate::transport::Connection;

/// Claims `chunks` of a file, and waits for the answer. Returns which of them match, and appends their chaining values.
pub(super) async fn send_claims<C: Connection, S: Source>(
    (mut stream, answer): (C::Send, C::Recv),
    sending: &Sending<S>,
    id: EntryId,
    handle: &FileHandle<S::File>,
    chunks: &[Range<u64>],
    values: &mut Vec<(EntryId, [u8; 32])>,
    abandoned: &mut Vec<(EntryId, Failure)>,
) -> Result<u64, Failure> {
    for range in chunks {
        // A turn for each chunk, so that data goes on between them.
        let turn = sending.turns.acquire().await;
        let value = chunk_value(sending, handle, range.clone()).await;
        let value = value.inspect_err(|failure| abandoned.push((id, failure.clone())))?;
        drop(turn);
        let (offset, len) = (range.start, range.end - range.start);
        let mut out = BytesMut::new();
        RecordHeader { id, offset, len, kind: RecordKind::Claim, runs: Vec::new() }.encode(&mut out);
        write(sending, &mut stream, &mut [out.freeze(), Bytes::copy_from_slice(&value)]).await?;
        values.push((id, value));
    }
    let claims = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    match await_answer::<C, S>(sending, stream, answer).await? {
        Message::Matched(matched) if matched.checked_shr(claims).unwrap_or(0) == 0 => {
            debug!(entry = id.0, claims, matched = matched.count_ones(), "claims are answered");
            Ok(matched)
        }
        Message::Matched(_) => Err(Failure::protocol("more claims were answered than made")),
        other => Err(unexpected(&other)),
    }
}

/// Reads and hashes a chunk.
async fn chunk_value<S: Source>(
    sending: &Sending<S>,
    handle: &FileHandle<S::File>,
    range: Range<u64>,
) -> Result<[u8; 32], Failure> {
    let file = sending.reading.during(handle.open(sending)).await?;
    let runs = sending.reading.during(sending.source.runs(file, range.clone())).await?;
    let mut hasher = RecordHasher::new(handle.entry.size(), range.start, range.end - range.start);
    let mut offset = range.start;
    for run in runs {
        let end = offset + run.len;
        if run.is_hole {
            hasher.update_zeros(run.len);
            offset = end;
        }
        while offset < end {
            let n = usize::try_from(end - offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let block = sending.allocating.during(sending.pool.acquire()).await;
            let block = sending.reading.during(sending.source.read_at(file, offset, n, block)).await?;
            hasher.update(&block[..n]);
            offset += n as u64;
        }
    }
    Ok(hasher.finish())
}
