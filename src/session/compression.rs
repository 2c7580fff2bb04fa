//! Compression of the data of records: blocks to frames of zstd, and back.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

use crate::protocol::failure::Failure;
use crate::storage::block::Block;

/// What a sender compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// What shrinks, while the network is the bottleneck.
    Auto,
    /// Nothing.
    #[default]
    Off,
    /// What shrinks, at this level.
    Level(i32),
}

impl Compression {
    /// The levels. Higher ones take much more memory for a few percent.
    pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=12;
}

/// A frame refers back this far, as a power of two: a whole block.
const WINDOW_LOG: u32 = 18;
/// Bytes of a block that show whether the rest may shrink.
const SAMPLE_BYTES: usize = 16 * 1024;

/// Compresses blocks.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    level: i32,
    /// Takes the compressed bytes until they replace the plain ones.
    scratch: Block,
}

impl Packer {
    /// `scratch` is part of the memory budget.
    pub(super) fn new(scratch: Block) -> std::io::Result<Self> {
        let level = *Compression::LEVELS.start();
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self { compressor, level, scratch })
    }

    /// Compresses `bytes` in their place. Returns how many there are now, or 0 if they do not shrink by a sixteenth and
    /// are left as they are. `is_trial` tries a part first.
    pub(super) fn pack(&mut self, level: i32, bytes: &mut [u8], is_trial: bool) -> usize {
        if level != self.level && self.compressor.set_compression_level(level).is_ok() {
            self.level = level;
        }
        if is_trial && bytes.len() > SAMPLE_BYTES && self.shrunk(&bytes[..SAMPLE_BYTES]).is_none() {
            return 0;
        }
        let Some(packed) = self.shrunk(bytes) else { return 0 };
        bytes[..packed].copy_from_slice(&self.scratch[..packed]);
        packed
    }

    fn shrunk(&mut self, bytes: &[u8]) -> Option<usize> {
        let room = &mut self.scratch[..bytes.len() - bytes.len() / 16];
        self.compressor.compress_to_buffer(bytes, room).ok().filter(|packed| *packed > 0)
    }
}

/// Decompresses blocks.
pub(super) struct Unpacker {
    decompressor: Decompressor<'static>,
    scratch: Block,
}

impl Unpacker {
    /// `scratch` is part of the memory budget.
    pub(super) fn new(scratch: Block) -> std::io::Result<Self> {
        Ok(Self { decompressor: Decompressor::new()?, scratch })
    }

    /// Replaces the first `packed` bytes of `bytes` by the ones that they stand for, which must be exactly as many as
    /// `bytes` has. They are written to the scratch block, and no more of them than that.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(super) fn unpack(&mut self, bytes: &mut [u8], packed: usize) -> Result<(), Failure> {
        let breach = |why: &str| Failure::protocol(format!("compressed data {why}"));
        let frame = bytes.get(..packed).ok_or_else(|| breach("is longer than the plain data"))?;
        match find_frame_compressed_size(frame) {
            Ok(len) if len == packed => {}
            Ok(_) => return Err(breach("goes on behind its frame")),
            Err(_) => return Err(breach("is no whole frame")),
        }
        let room = self.scratch.get_mut(..bytes.len()).ok_or_else(|| breach("is too long"))?;
        match self.decompressor.decompress_to_buffer(frame, room) {
            Ok(plain) if plain == room.len() => {}
            Ok(_) => return Err(breach("has fewer bytes than its record")),
            Err(_) => return Err(breach("has more bytes than its record, or is damaged")),
        }
        bytes.copy_from_slice(room);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Reason;
    use crate::protocol::wire::limits::BLOCK_BYTES;
    use crate::storage::block::{BlockCount, BlockPool};

    async fn tools() -> (Packer, Unpacker) {
        let pool = BlockPool::new(2, BlockCount::default());
        (Packer::new(pool.acquire().await).unwrap(), Unpacker::new(pool.acquire().await).unwrap())
    }

    fn text(len: usize) -> Vec<u8> {
        (0..).flat_map(|n| format!("line {n} of a log\n").into_bytes()).take(len).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut noise = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    #[tokio::test]
    async fn what_shrinks_comes_back_and_what_does_not_stays() {
        let (mut packer, mut unpacker) = tools().await;
        for level in [1, 3, 12] {
            for len in [1000, SAMPLE_BYTES, SAMPLE_BYTES + 1, BLOCK_BYTES] {
                let (plain, random) = (text(len), noise(len));
                let mut bytes = plain.clone();
                let packed = packer.pack(level, &mut bytes, len % 2 == 0);
                assert!(packed > 0 && packed < len / 2, "level {level}: {packed} of {len}");
                unpacker.unpack(&mut bytes, packed).unwrap();
                assert!(bytes == plain, "level {level}, {len} bytes");
                for is_trial in [true, false] {
                    let mut bytes = random.clone();
                    assert_eq!(packer.pack(level, &mut bytes, is_trial), 0);
                    assert!(bytes == random);
                }
            }
        }
    }

    /// [W-93]
    #[tokio::test]
    async fn attack_14_frames_that_lie() {
        let (mut packer, mut unpacker) = tools().await;
        let plain = text(BLOCK_BYTES);
        let mut packed = plain.clone();
        let len = packer.pack(3, &mut packed, false);
        packed.truncate(len);
        let small = {
            let mut small = text(1000);
            let len = packer.pack(3, &mut small, false);
            small.truncate(len);
            small
        };
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
        let bomb = {
            // Many zeros in a few kilobytes.
            zstd::bulk::compress(&vec![0; 1 << 26], 3).unwrap()
        };
        let damaged = |at: usize| {
            let mut damaged = packed.clone();
            damaged[at] ^= 0xff;
            damaged
        };
        for (frame, what) in [
            (packed[..len - 1].to_vec(), "is no whole frame"),
            ([&packed[..], b"x"].concat(), "goes on behind its frame"),
            ([&packed[..], &packed[..]].concat(), "goes on behind its frame"),
            ([&packed[..], &skippable].concat(), "goes on behind its frame"),
            ([&skippable[..], &packed].concat(), "goes on behind its frame"),
            (skippable.to_vec(), "has fewer bytes"),
            (small, "has fewer bytes"),
            (bomb, "has more bytes"),
            (damaged(0), "is no whole frame"),
            (vec![0; 100], "is no whole frame"),
        ] {
            let mut bytes = vec![0; BLOCK_BYTES];
            bytes[..frame.len()].copy_from_slice(&frame);
            let failure = unpacker.unpack(&mut bytes, frame.len()).unwrap_err();
            assert_eq!(failure.reason, Reason::Protocol);
            assert!(failure.message.contains(what), "{failure}, not: {what}");
        }
        // Whatever the bytes are, the room is that of the record, and the chaining value tells the rest.
        for at in (0..len).step_by(977) {
            let mut bytes = vec![0; BLOCK_BYTES];
            bytes[..len].copy_from_slice(&damaged(at));
            let _ = unpacker.unpack(&mut bytes, len);
        }
        assert!(unpacker.unpack(&mut [0; 10], 11).is_err());
    }
}
