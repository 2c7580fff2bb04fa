//! Old files at the receiver: their signatures, and the recipes of the chunks that replace them.

use std::collections::BTreeMap;

use bytes::BytesMut;
use tracing::debug;

use crate::protocol::delta::matcher::Matcher;
use crate::protocol::delta::pieces::{PieceIndex, Signature, SignatureState};
use crate::protocol::delta::recipe::Recipe;
use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::session::closing::transport_failure;
use crate::session::messages::MessageReader;
use crate::session::send::parcel_stream::{refused, unexpected, write};
use crate::session::send::shared::Sending;
use crate::storage::Source;
use crate::transport::{Connection, SendStream};

/// Runs of recipes that are kept for chunks that are sent out of order. The chunks of further recipes are sent whole.
const KEPT_RUNS_MAX: usize = 4096;
/// What a hole reads as.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// An old file at the receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldFile {
    pub(super) bytes: u64,
    /// Average size of its pieces, as a power of two.
    pub(super) piece_log2: u8,
}

/// Asks for the signature of an old file. `None` when the receiver cannot give it.
pub(super) async fn fetch_signature<C: Connection, S: Source>(
    (mut stream, answer): (C::Send, C::Recv),
    sending: &Sending<S>,
    id: EntryId,
    old: OldFile,
) -> Result<Option<PieceIndex>, Failure> {
    let mut out = BytesMut::new();
    let len = 1 << old.piece_log2;
    RecordHeader { id, offset: 0, len, kind: RecordKind::Signature, runs: Vec::new() }.encode(&mut out);
    write(sending, &mut stream, &mut [out.freeze()]).await?;
    stream.finish().map_err(transport_failure)?;
    let mut answer = MessageReader::new(answer);
    let mut signature = Signature::new(old.bytes, old.piece_log2);
    let has_come = loop {
        match sending.acking.during(answer.expect()).await? {
            Message::Pieces(state, pieces) => {
                sending.note_signed();
                signature.take(&pieces)?;
                match state {
                    SignatureState::More => {}
                    SignatureState::Complete => break true,
                    SignatureState::GivenUp => break false,
                }
            }
            Message::Nack(reason) => return Err(refused(reason)),
            other => return Err(unexpected(&other)),
        }
    };
    if answer.next().await?.is_some() {
        return Err(Failure::protocol("something follows a signature"));
    }
    debug!(entry = id.0, ?old, has_come, "the signature of an old file");
    if has_come { signature.complete().map(Some) } else { Ok(None) }
}

/// The recipes of a file. The chunks that need them read the file ahead, one after the other.
pub(super) struct Recipes {
    matcher: Matcher,
    chunk_bytes: u64,
    size: u64,
    /// The first chunk that has had no recipe yet.
    next: u64,
    kept: BTreeMap<u64, Recipe>,
    kept_runs: usize,
}

impl Recipes {
    /// The recipes of a file of `size` bytes, by the index of the old one.
    pub(super) fn new(index: PieceIndex, piece_log2: u8, size: u64, chunk_bytes: u64) -> Self {
        Self {
            matcher: Matcher::new(index, piece_log2, size, chunk_bytes),
            chunk_bytes,
            size,
            next: 0,
            kept: BTreeMap::new(),
            kept_runs: 0,
        }
    }

    /// The recipe of a chunk; `None` if it was taken before, or could not be kept.
    pub(super) async fn take<S: Source>(
        &mut self,
        sending: &Sending<S>,
        file: &S::File,
        chunk: u64,
    ) -> Result<Option<Recipe>, Failure> {
        while self.next <= chunk && self.matcher.taken() < self.size {
            self.read_on(sending, file).await?;
            while let Some((number, recipe)) = self.matcher.next_recipe() {
                self.next = number + 1;
                self.keep(number, recipe);
            }
        }
        let recipe = self.kept.remove(&chunk);
        self.kept_runs -= recipe.as_ref().map_or(0, |recipe| recipe.runs().len());
        Ok(recipe)
    }

    /// Keeps the recipe of a chunk, if there is room.
    pub(super) fn keep(&mut self, chunk: u64, recipe: Recipe) {
        let runs = recipe.runs().len();
        if self.kept_runs + runs <= KEPT_RUNS_MAX {
            self.kept_runs += runs;
            self.kept.insert(chunk, recipe);
        }
    }

    /// Matches the file up to the end of a chunk.
    async fn read_on<S: Source>(&mut self, sending: &Sending<S>, file: &S::File) -> Result<(), Failure> {
        let start = self.matcher.taken();
        let end = (start + self.chunk_bytes).min(self.size);
        let runs = sending.reading.during(sending.source.runs(file, start..end)).await?;
        let mut offset = start;
        for run in runs {
            let end = offset + run.len;
            while offset < end {
                let left = usize::try_from(end - offset).unwrap_or(BLOCK_BYTES);
                let n = if run.is_hole {
                    let n = left.min(ZEROS.len());
                    self.matcher.update(&ZEROS[..n]);
                    n
                } else {
                    let n = left.min(BLOCK_BYTES);
                    let block = sending.allocating.during(sending.pool.acquire()).await;
                    let block =
                        sending.reading.during(sending.source.read_at(file, offset, n, block)).await?;
                    self.matcher.update(&block[..n]);
                    n
                };
                offset += n as u64;
            }
        }
        Ok(())
    }
}
