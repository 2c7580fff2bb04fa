//! Hashes and writes what a parcel has gathered.

use std::mem;

use tokio::task::yield_now;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::RecordHasher;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::{BLOCK_BYTES, SMALL_FILE_BYTES_MAX};
use crate::protocol::wire::record::TRAILER_BYTES;
use crate::session::receive::parcel::{
    Gathered, IncomingParcel, IncomingRecord, NotAcked, OpenEnd, OpenRecord, RecordPiece,
};
use crate::session::receive::shared::storage_failure;
use crate::storage::block::Block;
use crate::storage::{StorageError, Target, Write};
use crate::transport::RecvStream;

impl<T: Target, R: RecvStream> IncomingParcel<T, R> {
    /// Hashes and writes the gathered pieces, and tells the machine which records have ended.
    pub(super) async fn flush(&mut self) -> Result<(), NotAcked> {
        let Gathered { block, pieces, .. } = mem::take(&mut self.gathered);
        let (mut writes, mut ended, mut differing, mut whole) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // All records of a parcel are of small files, or of one large file.
        let mut is_small = false;
        for piece in pieces {
            match piece {
                RecordPiece::Begin(record) => {
                    let hasher = RecordHasher::new(record.file_size, record.offset, record.len);
                    self.open = Some(OpenRecord { record, hasher });
                }
                RecordPiece::Hole(len) => {
                    if let Some(open) = &mut self.open {
                        open.hasher.update_zeros(len);
                    }
                    if len > BLOCK_BYTES as u64 {
                        // A peer can send many holes at no cost, and other streams must not wait for their hashing.
                        yield_now().await;
                    }
                }
                RecordPiece::Data { offset, range } => {
                    if let (Some(open), Some(block)) = (&mut self.open, &block) {
                        open.hasher.update(&block[range.clone()]);
                        let OpenRecord { record, .. } = open;
                        is_small = record.file_size <= SMALL_FILE_BYTES_MAX;
                        if offset == 0 && range.len() as u64 == record.file_size {
                            whole.push(writes.len());
                        }
                        writes.push(Write { id: record.id, offset, range, whole: None });
                    }
                }
                RecordPiece::End(theirs, open_end) => {
                    if let Some(OpenRecord { mut record, mut hasher }) = self.open.take() {
                        record.len = open_end.map_or(record.len, |end| end.len);
                        let mine = value(&mut hasher, &record, open_end);
                        match mine == theirs {
                            true => ended.push((record, mine, open_end)),
                            false if record.is_recipe => differing.push(record),
                            false => return Err(self.mismatch(record).into()),
                        }
                    }
                }
            }
        }
        self.complete(&mut writes, whole);
        if let Some(block) = block {
            self.unverified.push((writes, block));
        }
        if !self.shared.verifies_first || self.open.is_none() {
            for (writes, block) in mem::take(&mut self.unverified) {
                self.write(writes, block, is_small).await?;
            }
        }
        self.records += ended.len() as u64;
        self.differs |= !differing.is_empty();
        let has_ended = !ended.is_empty() || self.differs;
        self.shared.with_machine(|machine| {
            differing.iter().for_each(|record| machine.recipe_differs(record.id, record.offset));
            ended.iter().try_for_each(|(IncomingRecord { id, offset, len, .. }, value, open_end)| {
                match open_end {
                    None => machine.record_written(*id, *offset, *len, *value),
                    Some(end) => machine.open_record_written(*id, *offset, *len, *value, end.is_last),
                }
            })
        })?;
        if has_ended {
            self.shared.released.notify_waiters();
        }
        Ok(())
    }

    /// Files that cannot be written fail alone. The records of other small files go on.
    async fn write(&mut self, writes: Vec<Write>, block: Block, is_small: bool) -> Result<(), NotAcked> {
        let Some(id) = writes.first().map(|write| write.id) else { return Ok(()) };
        let written = self.shared.writing.during(self.shared.target.write(writes, block)).await;
        for error in written.map_err(|error| NotAcked::Failed(self.final_failure(error, id)))? {
            self.write_failed(error, id);
            if !is_small {
                return Err(NotAcked::NotTaken(Reason::TransferFailed));
            }
        }
        Ok(())
    }

    /// Writes of whole files complete them.
    fn complete(&self, writes: &mut [Write], whole: Vec<usize>) {
        if whole.is_empty() {
            return;
        }
        let machine = self.shared.machine();
        for at in whole {
            let write = &mut writes[at];
            write.whole = machine.entry(write.id).map(|entry| entry.meta.clone());
        }
    }

    /// The failure of a write for entry `id`. It names the final path, which users know.
    fn final_failure(&self, mut error: StorageError, id: EntryId) -> Failure {
        if let Some(entry) = self.shared.machine().entry(error.entry.unwrap_or(id)) {
            error.place = self.shared.target.place(&entry.path);
        }
        storage_failure(&error)
    }

    /// One file cannot be written, and fails alone. It may have been given up during the write, and then its staging may
    /// be gone.
    fn write_failed(&self, error: StorageError, id: EntryId) {
        let about = error.entry.unwrap_or(id);
        let failure = self.final_failure(error, id);
        self.shared.with_machine(|machine| machine.write_failed(about, failure));
    }

    fn mismatch(&self, record: IncomingRecord) -> Failure {
        let machine = self.shared.machine();
        let name = machine.entry(record.id).map(|entry| entry.path.to_string()).unwrap_or_default();
        Failure::on(
            Side::Receiver,
            Reason::Verification,
            format!(
                "{name}: the {} bytes at {} do not match the sender's BLAKE3 hash",
                record.len, record.offset
            ),
        )
    }
}

/// The chaining value of a record that has ended.
fn value(
    hasher: &mut RecordHasher,
    record: &IncomingRecord,
    open_end: Option<OpenEnd>,
) -> [u8; TRAILER_BYTES] {
    if record.offset == 0 && open_end.is_some_and(|end| end.is_last) {
        hasher.is_whole_file();
    }
    hasher.finish()
}
