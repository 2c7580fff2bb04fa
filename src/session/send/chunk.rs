//! Sends one chunk of a large file: as data, or as a recipe that takes bytes from an old file.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tracing::debug;

use crate::protocol::delta::recipe::{Recipe, RunSource};
use crate::protocol::failure::Failure;
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind, Run};
use crate::session::send::file_handle::FileHandle;
use crate::session::send::parcel_stream::{Answer, await_ack, await_answer, put_packed, unexpected, write};
use crate::session::send::shared::Sending;
use crate::storage::Source;
use crate::transport::{Connection, SendStream};

/// Sends the chunk `range` and waits for its answer. Returns that, and the chaining value. The chunk follows `recipe`,
/// unless it needs no byte of the old file.
pub(super) async fn send_chunk<C: Connection, S: Source>(
    (mut stream, answer): (C::Send, C::Recv),
    sending: &Sending<S>,
    id: EntryId,
    handle: &FileHandle<S::File>,
    range: Range<u64>,
    recipe: Option<&Recipe>,
    mut give_up: impl FnMut(Failure) -> Failure,
) -> Result<(Answer, [u8; 32]), Failure> {
    let turn = sending.turns.acquire().await;
    let file = sending.reading.during(handle.open(sending)).await.map_err(&mut give_up)?;
    let (start, len) = (range.start, range.end - range.start);
    let runs = sending.reading.during(sending.source.runs(file, range)).await.map_err(&mut give_up)?;
    let recipe = recipe.map(|recipe| recipe.with_holes(&runs)).filter(|recipe| recipe.copied_bytes() > 0);
    let mut out = BytesMut::new();
    // Bytes beside a recipe are few.
    let packs = recipe.is_none() && sending.packing.is_on();
    let (recipe, copied) = match recipe {
        Some(recipe) => {
            let kind = RecordKind::Recipe;
            RecordHeader { id, offset: start, len, kind, runs: Vec::new() }.encode(&mut out);
            recipe.encode(&mut out);
            let copied = recipe.copied_bytes();
            (recipe, copied)
        }
        None => {
            let kind = if packs { RecordKind::Packed } else { RecordKind::Data };
            let runs_of_header = runs_of_header(&runs);
            RecordHeader { id, offset: start, len, kind, runs: runs_of_header }.encode(&mut out);
            (recipe_of(&runs), 0)
        }
    };
    write(sending, &mut stream, &mut [out.freeze()]).await?;
    let parts = (&recipe, packs);
    let value = send_runs(&mut stream, sending, handle, file, start, parts, &mut give_up).await?;
    drop(turn);
    write(sending, &mut stream, &mut [Bytes::copy_from_slice(&value)]).await?;
    if copied == 0 {
        await_ack::<C, S>(sending, stream, answer, 1).await?;
        debug!(entry = id.0, offset = start, bytes = len, "acked");
        return Ok((Answer::Acked, value));
    }
    let answer = match await_answer::<C, S>(sending, stream, answer).await? {
        Message::Matched(1) => Answer::Copied(copied),
        Message::Matched(0) => Answer::Differs,
        other => return Err(unexpected(&other)),
    };
    debug!(entry = id.0, offset = start, bytes = len, copied, ?answer, "a recipe is answered");
    Ok((answer, value))
}

/// Reads and hashes all of a chunk, and sends what the receiver cannot make itself.
async fn send_runs<S: Source, T: SendStream>(
    stream: &mut T,
    sending: &Sending<S>,
    handle: &FileHandle<S::File>,
    file: &S::File,
    mut offset: u64,
    (recipe, packs): (&Recipe, bool),
    mut give_up: impl FnMut(Failure) -> Failure,
) -> Result<[u8; 32], Failure> {
    let len = recipe.runs().iter().map(|run| run.len).sum();
    let mut hasher = RecordHasher::new(handle.entry.size(), offset, len);
    for run in recipe.runs() {
        let end = offset + run.len;
        if run.source == RunSource::Hole {
            hasher.update_zeros(run.len);
            sending.offered_bytes.fetch_add(run.len, Relaxed);
            count_sent(sending, handle, run.len);
            offset = end;
        }
        while offset < end {
            let n = usize::try_from(end - offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let block = sending.allocating.during(sending.pool.acquire()).await;
            let read = sending.reading.during(sending.source.read_at(file, offset, n, block)).await;
            let block = read.map_err(&mut give_up)?;
            hasher.update(&block[..n]);
            if run.source == RunSource::Sent {
                sending.offered_bytes.fetch_add(n as u64, Relaxed);
                match packs {
                    true => {
                        let mut out = BytesMut::new();
                        let piece = put_packed(sending, &handle.trials, block, n, &mut out).await?;
                        write(sending, stream, &mut [out.freeze(), piece]).await?;
                    }
                    false => write(sending, stream, &mut [block.into_bytes().slice(..n)]).await?,
                }
                count_sent(sending, handle, n as u64);
            }
            offset += n as u64;
        }
    }
    Ok(hasher.finish())
}

fn count_sent<S, F>(sending: &Sending<S>, handle: &FileHandle<F>, bytes: u64) {
    sending.sent_bytes.fetch_add(bytes, Relaxed);
    handle.sent_bytes.fetch_add(bytes, Relaxed);
}

/// The runs of a header: none when all of it is data.
fn runs_of_header(runs: &[Run]) -> Vec<Run> {
    if runs.iter().any(|run| run.is_hole) { runs.to_vec() } else { Vec::new() }
}

/// How a chunk with these runs is sent without an old file.
fn recipe_of(runs: &[Run]) -> Recipe {
    let mut recipe = Recipe::default();
    for run in runs {
        recipe.push(run.len, if run.is_hole { RunSource::Hole } else { RunSource::Sent });
    }
    recipe
}
