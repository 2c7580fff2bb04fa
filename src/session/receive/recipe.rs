//! Parcels about old files: recipes, and requests for signatures.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::protocol::delta::recipe::{Recipe, RunSource};
use crate::protocol::engine::receiver::Begin;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, TRAILER_BYTES};
use crate::session::closing::codec_failure;
use crate::session::receive::parcel::{
    Filling, IncomingParcel, IncomingRecord, NotAcked, RecordPiece, cut_short,
};
use crate::session::receive::signature::sign;
use crate::storage::Target;
use crate::transport::{RecvStream, SendStream};

impl<T: Target, R: RecvStream> IncomingParcel<T, R> {
    /// Receives a parcel with one recipe, which begins with `header`.
    pub(super) async fn recipe(&mut self, header: &RecordHeader) -> Result<Message, NotAcked> {
        let (id, offset, len) = (header.id, header.offset, header.len);
        if self.records > 0 || !self.gathered.pieces.is_empty() {
            return Err(Failure::protocol("a parcel has a recipe after records").into());
        }
        let recipe = loop {
            match Recipe::decode(&mut self.head, len).map_err(codec_failure)? {
                Some(recipe) => break recipe,
                None if self.fill().await? => {}
                None => return Err(cut_short().into()),
            }
        };
        let begin = self.begin_with(|machine| machine.begin_recipe(id, offset, len, &recipe)).await?;
        let (file_size, is_again) = match begin {
            Begin::Take(size) => (size, false),
            Begin::TakeAgain(size) => (size, true),
            // A file of unknown size has no old one.
            Begin::Pass | Begin::Wait | Begin::TakeOpen(_) => {
                self.drop_bytes(recipe.sent_bytes() + TRAILER_BYTES as u64).await?;
                self.expect_end("a recipe").await?;
                return Ok(Message::Matched(1));
            }
        };
        let record = IncomingRecord { id, offset, len, file_size, is_recipe: true };
        self.gathered.pieces.push(RecordPiece::Begin(record));
        let mut at = offset;
        for run in recipe.runs() {
            match run.source {
                RunSource::Sent => self.data(at, run.len, Filling::Stream).await?,
                RunSource::Old(from) => self.data(at, run.len, Filling::Old(id, from)).await?,
                RunSource::Hole if is_again => self.data(at, run.len, Filling::Zeros).await?,
                RunSource::Hole => {
                    self.gathered.pieces.push(RecordPiece::Hole(run.len));
                    self.shared.came_bytes.fetch_add(run.len, Relaxed);
                }
            }
            at += run.len;
        }
        let trailer = self.trailer().await?;
        self.gathered.pieces.push(RecordPiece::End(trailer, None));
        self.expect_end("a recipe").await?;
        self.flush().await?;
        if !self.differs {
            self.shared.machine().note_copied(recipe.copied_bytes());
        }
        Ok(Message::Matched(u64::from(!self.differs)))
    }

    /// Receives a request for the signature of an old file, and answers it.
    pub(super) async fn signature<S: SendStream>(
        &mut self,
        header: &RecordHeader,
        answer: &mut S,
    ) -> Result<Message, NotAcked> {
        if self.records > 0 || !self.gathered.pieces.is_empty() || header.offset > 0 {
            return Err(Failure::protocol("a request for a signature has something else in it").into());
        }
        self.expect_end("a request for a signature").await?;
        let signed = sign(&self.shared, header.id, header.len, answer).await;
        signed.map_err(|failure| match failure.reason {
            reason @ (Reason::TransferEnded | Reason::TransferFailed) => NotAcked::NotTaken(reason),
            _ => NotAcked::Failed(failure),
        })
    }

    /// The parcel ends here, after `what`.
    async fn expect_end(&mut self, what: &str) -> Result<(), NotAcked> {
        if !self.head.is_empty() || self.fill().await? {
            return Err(Failure::protocol(format!("something follows {what}")).into());
        }
        Ok(())
    }

    /// Copies bytes of the file that `id` replaces into `range` of the block. Bytes that it does not have are zeros: the
    /// chaining value of the chunk then differs, and the sender sends the chunk.
    pub(super) async fn copy_old(&mut self, id: EntryId, from: u64, range: Range<usize>) {
        let Some(mut block) = self.gathered.block.take() else { return };
        let path = self.shared.machine().entry(id).map(|entry| entry.path.clone());
        let mut read = 0;
        if let Some(path) = path {
            let reading = self.shared.target.read_old(id, path, from, range.clone(), block);
            (read, block) = self.shared.writing.during(reading).await;
        }
        block[range][read..].fill(0);
        self.gathered.block = Some(block);
    }
}
