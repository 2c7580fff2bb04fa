//! Gives the signature of an old file.

use crate::protocol::delta::pieces::{Piece, PieceHasher, SignatureState};
use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::{
    BLOCK_BYTES, MESSAGE_PIECES_MAX, PIECE_LOG2_MAX, PIECE_LOG2_MIN, PIECES_MAX,
};
use crate::protocol::wire::message::Message;
use crate::session::messages::write_message;
use crate::session::receive::shared::Receiving;
use crate::storage::Target;
use crate::transport::SendStream;

/// Reads the old file of `id`, and sends its pieces of about `piece_bytes` bytes. Returns the last message of the answer.
///
/// # Errors
///
/// As `Receiver::begin_signature`.
pub(super) async fn sign<T: Target, S: SendStream>(
    shared: &Receiving<T>,
    id: EntryId,
    piece_bytes: u64,
    answer: &mut S,
) -> Result<Message, Failure> {
    let piece_log2 = u8::try_from(piece_bytes.trailing_zeros()).unwrap_or(0);
    if !piece_bytes.is_power_of_two() || !(PIECE_LOG2_MIN..=PIECE_LOG2_MAX).contains(&piece_log2) {
        return Err(Failure::protocol(format!("{piece_bytes} bytes are no size of a piece")));
    }
    let (old_bytes, path) = {
        let mut machine = shared.machine();
        let old_bytes = machine.begin_signature(id)?;
        let path = machine.entry(id).map(|entry| entry.path.clone());
        (old_bytes, path)
    };
    let Some(path) = path else { return Ok(Message::Pieces(SignatureState::GivenUp, Vec::new())) };
    Signing { shared, id, path, answer, pieces: Vec::new(), sent: 0 }.run(old_bytes, piece_log2).await
}

struct Signing<'a, T, S> {
    shared: &'a Receiving<T>,
    id: EntryId,
    path: RelPath,
    answer: &'a mut S,
    pieces: Vec<Piece>,
    /// Pieces sent.
    sent: usize,
}

impl<T: Target, S: SendStream> Signing<'_, T, S> {
    async fn run(mut self, old_bytes: u64, piece_log2: u8) -> Result<Message, Failure> {
        let mut hasher = PieceHasher::new(piece_log2);
        let mut block = self.shared.pool.acquire().await;
        let mut at = 0;
        while at < old_bytes && !self.is_full() {
            let len = usize::try_from(old_bytes - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let target = &self.shared.target;
            let reading = target.read_old(self.id, self.path.clone(), at, 0..len, block);
            let (read, bytes) = self.shared.writing.during(reading).await;
            block = bytes;
            if read < len {
                return Ok(Message::Pieces(SignatureState::GivenUp, Vec::new()));
            }
            hasher.update(&block[..len], |piece| self.pieces.push(piece));
            at += len as u64;
            while self.pieces.len() > MESSAGE_PIECES_MAX {
                self.send().await?;
            }
        }
        self.pieces.extend(hasher.finish().filter(|_| at == old_bytes));
        self.pieces.truncate(PIECES_MAX - self.sent);
        while self.pieces.len() > MESSAGE_PIECES_MAX {
            self.send().await?;
        }
        Ok(Message::Pieces(SignatureState::Complete, self.pieces))
    }

    /// A signature has no more pieces.
    fn is_full(&self) -> bool {
        self.sent + self.pieces.len() >= PIECES_MAX
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let pieces: Vec<_> = self.pieces.drain(..MESSAGE_PIECES_MAX).collect();
        self.sent += pieces.len();
        write_message(self.answer, &Message::Pieces(SignatureState::More, pieces)).await
    }
}
