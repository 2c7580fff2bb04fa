//! Sends one parcel: stream credit, reading, hashing, byte credit, ack.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use tracing::debug;

use crate::protocol::engine::sender::{Parcel, Sender};
use crate::protocol::failure::Failure;
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::session::closing::transport_failure;
use crate::session::lanes::{Lane, open_any};
use crate::session::send::chunk::send_chunk;
use crate::session::send::claims::send_claims;
use crate::session::send::file_handle::FileHandle;
use crate::session::send::old_file::OldFile;
use crate::session::send::open_chunk::send_open_record;
use crate::session::send::parcel_stream::{Answer, await_ack, write};
use crate::session::send::shared::Sending;
use crate::storage::Source;
use crate::transport::{Connection, SendStream, TransportError};

/// How a parcel ended.
pub(super) struct ParcelEnd {
    pub(super) parcel: Parcel,
    /// Its connection is gone.
    pub(super) is_lost: bool,
    /// It had a stream, so reading of its sources began.
    pub(super) was_read: bool,
    /// Chaining values of the records sent; of a chunk, only once acked.
    pub(super) values: Vec<(EntryId, [u8; 32])>,
    /// Entries whose source has grown.
    pub(super) grown: Vec<EntryId>,
    /// Entries whose source failed.
    pub(super) abandoned: Vec<(EntryId, Failure)>,
    /// The answer, or the failure.
    pub(super) result: Result<Answer, Failure>,
}

impl ParcelEnd {
    /// Tells the machine how it ended, when its connection is not gone.
    pub(super) fn tell(self, machine: &mut Sender, now: Duration) -> Result<(), Failure> {
        let answer = match self.result {
            Ok(answer) => answer,
            Err(failure) => return machine.parcel_failed(&self.parcel, failure),
        };
        match (answer, &self.parcel) {
            (Answer::Claims(matched), Parcel::Claims { id, chunks }) => {
                return machine.claims_answered(*id, chunks, &self.values, matched, now);
            }
            (Answer::Signed(has_come), Parcel::Signature { id, .. }) => {
                machine.signature_answered(*id, has_come, now);
                return Ok(());
            }
            (Answer::Differs, Parcel::Chunk { id, offset, .. }) => {
                machine.recipe_differed(*id, *offset, now);
                return Ok(());
            }
            (Answer::Copied(bytes), _) => machine.note_copied(bytes),
            _ => {}
        }
        machine.parcel_acked(&self.parcel, &self.values, now)
    }
}

/// Sends one parcel over one of `lanes` and waits for its ack.
pub(super) async fn send_parcel<C: Connection, S: Source>(
    lanes: Vec<Lane<C>>,
    sending: Arc<Sending<S>>,
    parcel: Parcel,
    chunk_bytes: u64,
    entries: Vec<(EntryId, Entry)>,
    handle: Option<Arc<FileHandle<S::File>>>,
) -> ParcelEnd {
    let (mut values, mut abandoned, mut grown) = (Vec::new(), Vec::new(), Vec::new());
    let Some((lane, _counted, send, recv)) = sending.opening.during(open_any(lanes)).await else {
        let result = Err(transport_failure(TransportError::ClosedHere));
        return ParcelEnd { parcel, is_lost: true, was_read: false, values, grown, abandoned, result };
    };
    debug!(lane = lane.number, "stream credit taken");
    // The oldest parcel goes first. Otherwise its lost packets would wait for all data of other parcels that QUIC
    // already has, and hold blocks, the receiver's window and stream credit meanwhile.
    let less = |priority: i32| Some(priority.saturating_sub(1));
    let (Ok(priority) | Err(priority)) = sending.next_priority.fetch_update(Relaxed, Relaxed, less);
    send.set_priority(priority);
    let streams = (send, recv);
    let mut give_up = |id: EntryId, failure: Failure| {
        abandoned.push((id, failure.clone()));
        failure
    };
    let mut recipe = None;
    let result = match (&parcel, &handle) {
        (Parcel::Chunk { id, offset, len }, Some(handle)) => {
            let range = *offset..*offset + *len;
            match handle.recipe(&sending, offset / chunk_bytes).await {
                Ok(found) => {
                    recipe = found;
                    let give_up = |failure| give_up(*id, failure);
                    let (id, recipe) = (*id, recipe.as_ref());
                    let sent = send_chunk::<C, S>(streams, &sending, id, handle, range, recipe, give_up);
                    sent.await.map(|(answer, value)| {
                        values.push((id, value));
                        answer
                    })
                }
                Err(failure) => Err(give_up(*id, failure)),
            }
        }
        (Parcel::OpenChunk { id, offset }, Some(handle)) => {
            let range = *offset..*offset + chunk_bytes;
            send_open_chunk::<C, S>(streams, &sending, *id, handle, range, &mut values, &mut abandoned).await
        }
        (Parcel::Claims { id, chunks }, Some(handle)) => {
            let size = handle.entry.size();
            let range = |index: &u64| index * chunk_bytes..size.min((index + 1) * chunk_bytes);
            let chunks: Vec<_> = chunks.iter().map(range).collect();
            send_claims::<C, S>(streams, &sending, *id, handle, &chunks, &mut values, &mut abandoned)
                .await
                .map(Answer::Claims)
        }
        (Parcel::Signature { id, old_bytes, piece_log2 }, Some(handle)) => {
            let old = OldFile { bytes: *old_bytes, piece_log2: *piece_log2 };
            handle.sign::<C, S>(streams, &sending, *id, old, chunk_bytes).await.map(Answer::Signed)
        }
        _ => send_files::<C, S>(streams, &sending, entries, &mut values, &mut grown, &mut abandoned).await,
    };
    let is_lost = result.is_err() && lane.is_lost();
    if let (true, Parcel::Chunk { offset, .. }, Some(handle), Some(recipe)) =
        (is_lost, &parcel, handle, recipe)
    {
        handle.keep_recipe(offset / chunk_bytes, recipe).await;
    }
    ParcelEnd { parcel, is_lost, was_read: true, values, grown, abandoned, result }
}

async fn send_open_chunk<C: Connection, S: Source>(
    (mut stream, answer): (C::Send, C::Recv),
    sending: &Sending<S>,
    id: EntryId,
    handle: &FileHandle<S::File>,
    range: Range<u64>,
    values: &mut Vec<(EntryId, [u8; 32])>,
    abandoned: &mut Vec<(EntryId, Failure)>,
) -> Result<Answer, Failure> {
    let turn = sending.turns.acquire().await;
    let give_up = |failure: Failure| {
        abandoned.push((id, failure.clone()));
        failure
    };
    let (at, bytes) = (range.start, range.end - range.start);
    let (value, len) = send_open_record(&mut stream, sending, id, handle, at, bytes, give_up).await?;
    drop(turn);
    await_ack::<C, S>(sending, stream, answer, 1).await?;
    debug!(entry = id.0, offset = range.start, bytes = len, "acked");
    values.push((id, value));
    Ok(Answer::Acked)
}

async fn send_files<C: Connection, S: Source>(
    (mut stream, answer): (C::Send, C::Recv),
    sending: &Sending<S>,
    entries: Vec<(EntryId, Entry)>,
    values: &mut Vec<(EntryId, [u8; 32])>,
    grown: &mut Vec<EntryId>,
    abandoned: &mut Vec<(EntryId, Failure)>,
) -> Result<Answer, Failure> {
    let mut rest = entries.into_iter().peekable();
    while rest.peek().is_some() {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((id, entry)) = rest.next_if(|(_, entry)| bytes + entry.size() <= BLOCK_BYTES as u64) {
            bytes += entry.size();
            batch.push((id, entry));
        }
        send_block(sending, &mut stream, batch, values, grown, abandoned).await?;
    }
    await_ack::<C, S>(sending, stream, answer, values.len()).await?;
    debug!(files = values.len(), "acked");
    Ok(Answer::Acked)
}

/// Sends the records of files that fit one block.
async fn send_block<S: Source, T: SendStream>(
    sending: &Sending<S>,
    stream: &mut T,
    batch: Vec<(EntryId, Entry)>,
    values: &mut Vec<(EntryId, [u8; 32])>,
    grown: &mut Vec<EntryId>,
    abandoned: &mut Vec<(EntryId, Failure)>,
) -> Result<(), Failure> {
    let block = sending.allocating.during(sending.pool.acquire()).await;
    let entries = batch.iter().map(|(_, entry)| entry.clone()).collect();
    let read = sending.reading.during(sending.source.read_small(entries, block)).await;
    let (plain, grown_ones) = (read.block, read.grown);
    let hashed = |range: &Range<usize>| {
        let mut hasher = RecordHasher::new(range.len() as u64, 0, range.len() as u64);
        hasher.update(&plain[range.clone()]);
        hasher.finish()
    };
    let hashes: Vec<_> = read.files.iter().map(|file| file.as_ref().map(hashed).ok()).collect();
    // One that has grown needs its own flag.
    let packs = |(place, file): (usize, &Result<Range<usize>, Failure>)| match file {
        Ok(range) if !grown_ones.contains(&place) => range.clone(),
        _ => 0..0,
    };
    let packs = read.files.iter().enumerate().map(packs).collect();
    let (packed_block, packed) = sending.packing.pack_files(plain, packs).await?;
    let data = packed_block.into_bytes();
    let mut chunks = Vec::with_capacity(batch.len() * 2 + 1);
    let mut between = BytesMut::new();
    let mut sent = 0;
    for (place, ((id, _), file)) in batch.into_iter().zip(read.files).enumerate() {
        let range = match file {
            Ok(range) => range,
            Err(failure) => {
                abandoned.push((id, failure));
                continue;
            }
        };
        let (len, packed) = (range.len() as u64, packed[place]);
        let Some(value) = hashes[place] else { continue };
        let is_grown = grown_ones.contains(&place);
        grown.extend(is_grown.then_some(id));
        let kind = match is_grown {
            true => RecordKind::Grown,
            false if packed > 0 => RecordKind::Packed,
            false => RecordKind::Data,
        };
        RecordHeader { id, offset: 0, len, kind, runs: Vec::new() }.encode(&mut between);
        let mut sent_range = range;
        if packed > 0 {
            put_varint(&mut between, packed as u64);
            sent_range.end = sent_range.start + packed;
        }
        chunks.push(between.split().freeze());
        chunks.push(data.slice(sent_range));
        between.extend_from_slice(&value);
        values.push((id, value));
        sent += len;
    }
    chunks.push(between.freeze());
    drop(data);
    sending.offered_bytes.fetch_add(sent, Relaxed);
    write(sending, stream, &mut chunks).await?;
    sending.sent_bytes.fetch_add(sent, Relaxed);
    Ok(())
}
