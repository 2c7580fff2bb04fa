//! Receives one parcel: splits it into records, gathers them in blocks, hashes, writes and acks.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Buf, BytesMut};
use tracing::debug;

use crate::protocol::engine::receiver::{Begin, Receiver};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{PieceHeader, RecordHeader, RecordKind, TRAILER_BYTES, is_open_chunk};
use crate::session::closing::{codec_failure, is_of_the_connection, transport_failure};
use crate::session::messages::write_message;
use crate::session::receive::shared::Receiving;
use crate::storage::block::Block;
use crate::storage::{Target, Write};
use crate::transport::{RecvStream, SendStream, TransportError};

/// Receives one parcel and answers it.
///
/// # Errors
///
/// Only a failure that ends the transfer. A parcel that the sender cut off, or that belongs to an entry which has
/// ended, is not an error.
pub(super) async fn receive_parcel<T: Target>(
    shared: Arc<Receiving<T>>,
    mut answer: impl SendStream,
    stream: impl RecvStream,
) -> Result<(), ParcelFailure> {
    let mut incoming = IncomingParcel {
        shared,
        stream,
        head: BytesMut::new(),
        gathered: Gathered::default(),
        open: None,
        records: 0,
        differs: false,
        unverified: Vec::new(),
    };
    let message = match incoming.receive(&mut answer).await {
        Ok(answer) => answer,
        Err(NotAcked::NotTaken(reason)) => Message::Nack(reason),
        Err(NotAcked::Cut) => return Ok(()),
        Err(NotAcked::Failed(failure)) => {
            return Err(ParcelFailure { failure, streams: Box::new((answer, incoming)) });
        }
    };
    debug!(message = message.name(), "answered");
    let written = match write_message(&mut answer, &message).await {
        Ok(()) => answer.finish().map_err(transport_failure),
        // The sender no longer needs the answer.
        Err(failure) if failure.reason == Reason::Protocol => Ok(()),
        Err(failure) => Err(failure),
    };
    written.map_err(|failure| ParcelFailure { failure, streams: Box::new((answer, incoming)) })
}

/// A failure that ends the transfer, with the streams of the parcel. They must not be dropped before the connection
/// is closed: a dropped stream tells the sender less than the close does.
pub(super) struct ParcelFailure {
    pub(super) failure: Failure,
    pub(super) streams: Box<dyn Any + Send>,
}

impl ParcelFailure {
    /// Whether the connection is gone, and nothing else is wrong.
    pub(super) fn is_of_the_connection(&self) -> bool {
        is_of_the_connection(&self.failure)
    }
}

pub(super) enum NotAcked {
    /// The sender reset the stream.
    Cut,
    /// A record concerns an entry that has ended.
    NotTaken(Reason),
    Failed(Failure),
}

impl From<Failure> for NotAcked {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<TransportError> for NotAcked {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::StreamEnded(_) => Self::Cut,
            other => Self::Failed(transport_failure(other)),
        }
    }
}

/// Bytes read at once for a header or a trailer. File data that is read along with it is copied twice.
const FILL_BYTES: usize = 16 * 1024;
/// Maximum pieces gathered before they are written. Their memory is not part of the blocks.
const PIECES_MAX: usize = 1024;
const _: () = assert!(size_of::<RecordPiece>() <= 48);

/// What a record covers.
#[derive(Clone, Copy)]
pub(super) struct IncomingRecord {
    pub(super) id: EntryId,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) file_size: u64,
    /// It may make other bytes than the sender has.
    pub(super) is_recipe: bool,
}

/// A record whose end has not been hashed yet.
pub(super) struct OpenRecord {
    pub(super) record: IncomingRecord,
    pub(super) hasher: RecordHasher,
}

/// Pieces gathered in a block, not yet hashed or written.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) block: Option<Block>,
    pub(super) used: usize,
    pub(super) pieces: Vec<RecordPiece>,
}

/// The source of a run's bytes.
#[derive(Clone, Copy)]
pub(super) enum Filling {
    /// The stream.
    Stream,
    /// Zeros: the run is a hole, but an earlier stream may have left bytes there.
    Zeros,
    /// The file that this entry replaces, from this offset on.
    Old(EntryId, u64),
}

pub(super) enum RecordPiece {
    Begin(IncomingRecord),
    Data { offset: u64, range: Range<usize> },
    Hole(u64),
    End([u8; TRAILER_BYTES], Option<OpenEnd>),
}

/// The end of a record of unknown length.
#[derive(Clone, Copy)]
pub(super) struct OpenEnd {
    pub(super) len: u64,
    /// The file ends too.
    pub(super) is_last: bool,
}

pub(super) struct IncomingParcel<T: Target, R: RecvStream> {
    pub(super) shared: Arc<Receiving<T>>,
    stream: R,
    /// Bytes read and not yet taken: headers, trailers, and data that was read with them.
    pub(super) head: BytesMut,
    pub(super) gathered: Gathered,
    pub(super) open: Option<OpenRecord>,
    pub(super) records: u64,
    /// The recipe made other bytes than the sender has.
    pub(super) differs: bool,
    /// Bytes of a chunk that is not verified yet, where that comes before the write.
    pub(super) unverified: Vec<(Vec<Write>, Block)>,
}

/// When a parcel ends early, its chunks may come again on another stream.
impl<T: Target, R: RecvStream> Drop for IncomingParcel<T, R> {
    fn drop(&mut self) {
        let begun = self.gathered.pieces.iter().filter_map(|piece| match piece {
            RecordPiece::Begin(record) => Some((record.id, record.offset)),
            _ => None,
        });
        let cut: Vec<_> =
            self.open.iter().map(|open| (open.record.id, open.record.offset)).chain(begun).collect();
        if !cut.is_empty() {
            let mut machine = self.shared.machine();
            for (id, offset) in cut {
                machine.record_cut(id, offset);
            }
        }
        // Also for an entry that has ended: streams that wait for its record must go on.
        self.shared.released.notify_waiters();
    }
}

impl<T: Target, R: RecvStream> IncomingParcel<T, R> {
    /// Receives all of it, and returns the end of the answer.
    async fn receive<S: SendStream>(&mut self, answer: &mut S) -> Result<Message, NotAcked> {
        while let Some(header) = self.header().await? {
            let (id, offset, len) = (header.id, header.offset, header.len);
            match header.kind {
                RecordKind::Claim => return self.claims(header).await,
                RecordKind::Recipe => return self.recipe(&header).await,
                RecordKind::Signature => return self.signature(&header, answer).await,
                RecordKind::Data | RecordKind::Grown | RecordKind::Packed => {}
            }
            let is_packed = header.kind == RecordKind::Packed;
            let (size, is_again) = match self.begin(&header).await? {
                Begin::TakeOpen(chunk_bytes) => {
                    self.open_record(&header, chunk_bytes).await?;
                    continue;
                }
                Begin::Take(size) => (size, false),
                Begin::TakeAgain(size) => (size, true),
                Begin::Pass | Begin::Wait => {
                    self.pass(&header).await?;
                    continue;
                }
            };
            self.gathered.pieces.push(RecordPiece::Begin(IncomingRecord {
                id,
                offset,
                len,
                file_size: size,
                is_recipe: false,
            }));
            let mut at = offset;
            for run in header.runs() {
                if self.gathered.pieces.len() >= PIECES_MAX {
                    self.flush().await?;
                }
                if !run.is_hole && is_packed {
                    self.packed_data(at, run.len).await?;
                } else if !run.is_hole {
                    self.data(at, run.len, Filling::Stream).await?;
                } else if is_again {
                    self.data(at, run.len, Filling::Zeros).await?;
                } else {
                    self.gathered.pieces.push(RecordPiece::Hole(run.len));
                    self.shared.came_bytes.fetch_add(run.len, Relaxed);
                }
                at += run.len;
            }
            let trailer = self.trailer().await?;
            self.gathered.pieces.push(RecordPiece::End(trailer, None));
        }
        self.flush().await?;
        Ok(Message::Ack(self.records))
    }

    /// Gathers a record whose length is known at its end.
    async fn open_record(&mut self, header: &RecordHeader, chunk_bytes: u64) -> Result<(), NotAcked> {
        let (id, offset) = (header.id, header.offset);
        self.gathered.pieces.push(RecordPiece::Begin(IncomingRecord {
            id,
            offset,
            len: 0,
            file_size: u64::MAX,
            is_recipe: false,
        }));
        let mut len = 0;
        loop {
            if self.gathered.pieces.len() >= PIECES_MAX {
                self.flush().await?;
            }
            match self.piece().await? {
                PieceHeader::Data(n) if n > chunk_bytes - len => {
                    return Err(Failure::protocol("a record has more bytes than a chunk").into());
                }
                PieceHeader::Data(n) => {
                    match header.kind {
                        RecordKind::Packed => self.packed_piece(offset + len, n).await?,
                        _ => self.data(offset + len, n, Filling::Stream).await?,
                    }
                    len += n;
                }
                // Checked before hashing: BLAKE3 has no value for an empty chunk.
                PieceHeader::End { is_last } if !is_open_chunk(chunk_bytes, offset, len, is_last) => {
                    let message = format!("{len} bytes at {offset} are no chunk of entry {}", id.0);
                    return Err(Failure::protocol(message).into());
                }
                PieceHeader::End { is_last } => {
                    let trailer = self.trailer().await?;
                    self.gathered.pieces.push(RecordPiece::End(trailer, Some(OpenEnd { len, is_last })));
                    return Ok(());
                }
            }
        }
    }

    async fn piece(&mut self) -> Result<PieceHeader, NotAcked> {
        loop {
            if let Some(header) = PieceHeader::decode(&mut self.head).map_err(codec_failure)? {
                return Ok(header);
            }
            if !self.fill().await? {
                return Err(cut_short().into());
            }
        }
    }

    /// What to do with a record: take it, or read it and drop it.
    async fn begin(&mut self, header: &RecordHeader) -> Result<Begin, NotAcked> {
        let begin = |machine: &mut Receiver| machine.begin_record(header.id, header.offset, header.len);
        let begun = self.begin_with(begin).await?;
        if header.kind == RecordKind::Grown && begun != Begin::Pass {
            self.shared.machine().grew(header.id);
        }
        Ok(begun)
    }

    /// The same, as the machine says in `begin`.
    pub(super) async fn begin_with(
        &mut self,
        begin: impl Fn(&mut Receiver) -> Result<Begin, Failure>,
    ) -> Result<Begin, NotAcked> {
        let shared = Arc::clone(&self.shared);
        loop {
            let released = shared.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let begun = begin(&mut shared.machine());
            match begun {
                Ok(Begin::Wait) => {
                    // The stream that holds the record may need the block that this one holds.
                    self.flush().await?;
                    released.await;
                }
                Ok(begun) => return Ok(begun),
                Err(Failure {
                    reason: reason @ (Reason::TransferEnded | Reason::TransferFailed), ..
                }) => {
                    return Err(NotAcked::NotTaken(reason));
                }
                Err(failure) => return Err(NotAcked::Failed(failure)),
            }
        }
    }

    /// Reads a record and drops it.
    async fn pass(&mut self, header: &RecordHeader) -> Result<(), NotAcked> {
        let is_packed = header.kind == RecordKind::Packed;
        for run in header.runs().filter(|run| !run.is_hole) {
            match is_packed {
                true => self.drop_packed(run.len).await?,
                false => self.drop_bytes(run.len).await?,
            }
        }
        if header.len == 0 {
            while let PieceHeader::Data(bytes) = self.piece().await? {
                match is_packed {
                    true => self.drop_packed_piece(bytes).await?,
                    false => self.drop_bytes(bytes).await?,
                }
            }
        }
        self.drop_bytes(TRAILER_BYTES as u64).await?;
        self.records += 1;
        Ok(())
    }

    pub(super) async fn drop_bytes(&mut self, mut left: u64) -> Result<(), NotAcked> {
        while left > 0 {
            if self.head.is_empty() && !self.fill().await? {
                return Err(cut_short().into());
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.head.len());
            self.head.advance(n);
            left -= n as u64;
        }
        Ok(())
    }

    /// Appends more bytes of the stream to `head`; false at its end.
    pub(super) async fn fill(&mut self) -> Result<bool, NotAcked> {
        let before = self.head.len();
        self.head.resize(before + FILL_BYTES, 0);
        let read = read(&self.shared, &mut self.stream, &mut self.head[before..]).await?;
        self.head.truncate(before + read.unwrap_or(0));
        Ok(read.is_some())
    }

    pub(super) async fn header(&mut self) -> Result<Option<RecordHeader>, NotAcked> {
        loop {
            if let Some(header) = RecordHeader::decode(&mut self.head).map_err(codec_failure)? {
                return Ok(Some(header));
            }
            if !self.fill().await? {
                return if self.head.is_empty() { Ok(None) } else { Err(cut_short().into()) };
            }
        }
    }

    pub(super) async fn trailer(&mut self) -> Result<[u8; TRAILER_BYTES], NotAcked> {
        while self.head.len() < TRAILER_BYTES {
            if !self.fill().await? {
                return Err(cut_short().into());
            }
        }
        let mut value = [0; TRAILER_BYTES];
        self.head.copy_to_slice(&mut value);
        Ok(value)
    }

    /// Gathers `len` bytes that belong at `offset`.
    pub(super) async fn data(
        &mut self,
        mut offset: u64,
        mut len: u64,
        mut filling: Filling,
    ) -> Result<(), NotAcked> {
        while len > 0 {
            if self.gathered.used == BLOCK_BYTES {
                self.flush().await?;
            }
            if self.gathered.block.is_none() {
                self.gathered.block = Some(self.shared.pool.acquire().await);
            }
            let start = self.gathered.used;
            let room = usize::try_from(len).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES - start);
            let n = match (&mut filling, self.gathered.block.as_mut()) {
                (Filling::Zeros, Some(block)) => {
                    block[start..start + room].fill(0);
                    room
                }
                (Filling::Old(id, from), _) => {
                    self.copy_old(*id, *from, start..start + room).await;
                    *from += room as u64;
                    room
                }
                _ => self.gather(start, room).await?,
            };
            self.note_gathered(offset, n);
            if !matches!(filling, Filling::Old(..)) {
                self.shared.came_bytes.fetch_add(n as u64, Relaxed);
            }
            offset += n as u64;
            len -= n as u64;
        }
        Ok(())
    }

    /// The next `n` bytes of the block belong at `offset`.
    pub(super) fn note_gathered(&mut self, offset: u64, n: usize) {
        let start = self.gathered.used;
        self.gathered.used += n;
        match self.gathered.pieces.last_mut() {
            Some(RecordPiece::Data { range, .. }) => range.end += n,
            _ => self.gathered.pieces.push(RecordPiece::Data { offset, range: start..start + n }),
        }
    }

    /// Copies at most `room` bytes into the block, from `head` first, else from the stream. One copy here makes
    /// the pieces of datagrams into runs that BLAKE3 hashes several lanes at a time and the disk takes in one
    /// write, and gives QUIC its memory back at once.
    pub(super) async fn gather(&mut self, start: usize, room: usize) -> Result<usize, NotAcked> {
        let Some(block) = self.gathered.block.as_mut() else { return Ok(0) };
        if !self.head.is_empty() {
            let n = room.min(self.head.len());
            block[start..start + n].copy_from_slice(&self.head[..n]);
            self.head.advance(n);
            return Ok(n);
        }
        let read = read(&self.shared, &mut self.stream, &mut block[start..start + room]).await?;
        Ok(read.ok_or_else(cut_short)?)
    }
}

/// Reads bytes that have arrived on the stream: at most as many as fit `buffer` and as the throttle allows.
async fn read<T, R: RecvStream>(
    shared: &Receiving<T>,
    stream: &mut R,
    buffer: &mut [u8],
) -> Result<Option<usize>, NotAcked> {
    let permit = shared.throttle.take(buffer.len()).await;
    let read = shared.starving.during(stream.read(&mut buffer[..permit.bytes])).await?;
    shared.throttle.give_back(permit, read.unwrap_or(0));
    shared.heard();
    Ok(read)
}

pub(super) fn cut_short() -> Failure {
    Failure::protocol("a parcel ends inside a record")
}
