//! Data that comes compressed, in pieces that fit a block.

use std::sync::atomic::Ordering::Relaxed;

use crate::protocol::failure::Failure;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::record::decode_packed_len;
use crate::session::closing::codec_failure;
use crate::session::receive::parcel::{Filling, IncomingParcel, NotAcked, cut_short};
use crate::storage::Target;
use crate::transport::RecvStream;

impl<T: Target, R: RecvStream> IncomingParcel<T, R> {
    /// Gathers `len` bytes of a run of a packed record, which belong at `offset`.
    pub(super) async fn packed_data(&mut self, offset: u64, len: u64) -> Result<(), NotAcked> {
        let mut at = 0;
        while at < len {
            let plain = (len - at).min(BLOCK_BYTES as u64);
            self.packed_piece(offset + at, plain).await?;
            at += plain;
        }
        Ok(())
    }

    /// Gathers a piece of `plain` bytes, which may be compressed.
    pub(super) async fn packed_piece(&mut self, offset: u64, plain: u64) -> Result<(), NotAcked> {
        let Some(plain_bytes) = usize::try_from(plain).ok().filter(|bytes| *bytes <= BLOCK_BYTES) else {
            return Err(Failure::protocol("a compressed piece is larger than a block").into());
        };
        let packed = self.packed_len(plain).await?;
        if packed == 0 {
            return self.data(offset, plain, Filling::Stream).await;
        }
        // It is decompressed in its place, in one block.
        if self.gathered.used + plain_bytes > BLOCK_BYTES {
            self.flush().await?;
        }
        if !self.shared.can_unpack() {
            // Others may need the block that this one holds.
            self.flush().await?;
            let scratch = self.shared.pool.acquire().await;
            self.shared.give_scratch(scratch)?;
        }
        if self.gathered.block.is_none() {
            self.gathered.block = Some(self.shared.pool.acquire().await);
        }
        let start = self.gathered.used;
        let mut read = 0;
        while read < packed {
            let n = self.gather(start + read, packed - read).await?;
            self.shared.came_bytes.fetch_add(n as u64, Relaxed);
            read += n;
        }
        let Some(block) = self.gathered.block.as_mut() else { return Ok(()) };
        self.shared.unpack(&mut block[start..start + plain_bytes], packed)?;
        self.shared.note_saved((plain_bytes - packed) as u64);
        self.note_gathered(offset, plain_bytes);
        Ok(())
    }

    /// Reads `len` bytes of a run of a packed record and drops them.
    pub(super) async fn drop_packed(&mut self, len: u64) -> Result<(), NotAcked> {
        let mut at = 0;
        while at < len {
            let plain = (len - at).min(BLOCK_BYTES as u64);
            self.drop_packed_piece(plain).await?;
            at += plain;
        }
        Ok(())
    }

    /// The same for a piece.
    pub(super) async fn drop_packed_piece(&mut self, plain: u64) -> Result<(), NotAcked> {
        match self.packed_len(plain).await? {
            0 => self.drop_bytes(plain).await,
            packed => self.drop_bytes(packed as u64).await,
        }
    }

    /// The number of compressed bytes of a piece of `plain` bytes.
    async fn packed_len(&mut self, plain: u64) -> Result<usize, NotAcked> {
        loop {
            if let Some(len) = decode_packed_len(&mut self.head, plain).map_err(codec_failure)? {
                return Ok(usize::try_from(len).unwrap_or(usize::MAX));
            }
            if !self.fill().await? {
                return Err(cut_short().into());
            }
        }
    }
}
