//! Parcels: the content of one bidirectional stream, and its records.
//!
//! ```text
//! parcel = (record | packed)* | claim* | recipe | request
//!                                       then the sender finishes; the receiver answers
//! record = entry, offset, length, flags, run count, run*, data, chaining value (32 bytes)
//! packed = a record whose data is compressed in pieces of a block
//! claim  = a record without runs and data
//! recipe = a record with other runs (`wire/recipe.rs`) between header and data
//! request = a header alone: the signature of the old file, in pieces of about `length` bytes
//! run    = length × 2 + 1 for a hole, length × 2 for data; no runs: all of it is data
//! ```

use bytes::{Buf, BytesMut};

use crate::protocol::wire::codec::{CodecError, Fields, put_varint};
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::{CHUNK_LOG2_MAX, FILE_BYTES_MAX, RUNS_MAX};

/// A run of bytes: data, or a hole, which reads as zeros and is neither stored nor sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Bytes, at least 1.
    pub len: u64,
    /// A hole.
    pub is_hole: bool,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// The bytes of a chunk.
    Data,
    /// The bytes of a small file whose source has grown since it was announced: those announced.
    Grown,
    /// No bytes, only the chaining value of a chunk that the receiver holds.
    Claim,
    /// A chunk that is made of the old file and bytes that are sent.
    Recipe,
    /// Nothing of a file: the sender asks for the signature of the old one.
    Signature,
    /// The bytes of a chunk or a small file, in pieces of which each may be compressed.
    Packed,
}

impl RecordKind {
    /// Its flags in a header.
    fn flags(self) -> u64 {
        match self {
            Self::Data => 0,
            Self::Grown => 1,
            Self::Claim => 2,
            Self::Recipe => 3,
            Self::Signature => 4,
            Self::Packed => 5,
        }
    }
}

/// The header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The entry.
    pub id: EntryId,
    /// First byte, a multiple of the chunk size.
    pub offset: u64,
    /// Bytes of the file in this record. 0 when that is known only at its end; then it has no runs, and its data
    /// comes in pieces.
    pub len: u64,
    /// What it is.
    pub kind: RecordKind,
    /// Their lengths add up to `len`; empty when all of it is data.
    pub runs: Vec<Run>,
}

/// Maximum bytes of a header.
pub const HEADER_BYTES_MAX: usize = 5 * 8 + RUNS_MAX * 8;
/// Bytes of the chaining value after the data.
pub const TRAILER_BYTES: usize = 32;

impl RecordHeader {
    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.id.0);
        put_varint(out, self.offset);
        put_varint(out, self.len);
        put_varint(out, self.kind.flags());
        put_varint(out, self.runs.len() as u64);
        for run in &self.runs {
            put_varint(out, run.len << 1 | u64::from(run.is_hole));
        }
    }

    /// Takes a header off the front of `buffer`. While it is incomplete, returns `None` and takes nothing.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, CodecError> {
        let mut fields = Fields(&buffer[..]);
        match Self::decode_fields(&mut fields) {
            Ok(header) => {
                let left = fields.0.len();
                buffer.advance(buffer.len() - left);
                Ok(Some(header))
            }
            Err(CodecError::Truncated) if buffer.len() < HEADER_BYTES_MAX => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn decode_fields(f: &mut Fields<&[u8]>) -> Result<Self, CodecError> {
        let id = EntryId(f.varint()?);
        let offset = f.varint_up_to(FILE_BYTES_MAX, "offset")?;
        let len = f.varint_up_to(FILE_BYTES_MAX, "record length")?;
        let kind = match f.varint_up_to(5, "flags")? {
            0 => RecordKind::Data,
            1 => RecordKind::Grown,
            2 => RecordKind::Claim,
            3 => RecordKind::Recipe,
            4 => RecordKind::Signature,
            _ => RecordKind::Packed,
        };
        let count = f.varint_up_to(RUNS_MAX as u64, "runs")?;
        if !matches!(kind, RecordKind::Data | RecordKind::Grown | RecordKind::Packed) && count > 0 {
            return Err(CodecError::BadValue("runs"));
        }
        let mut runs = Vec::new();
        let mut sum = 0u64;
        for _ in 0..count {
            let value = f.varint()?;
            let run = Run { len: value >> 1, is_hole: value & 1 == 1 };
            sum += run.len;
            if run.len == 0 || sum > len {
                return Err(CodecError::BadValue("run"));
            }
            runs.push(run);
        }
        if count > 0 && sum != len {
            return Err(CodecError::BadValue("run"));
        }
        Ok(Self { id, offset, len, kind, runs })
    }

    /// The runs, with the short form expanded.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let whole = (self.runs.is_empty() && self.len > 0).then_some(Run { len: self.len, is_hole: false });
        whole.into_iter().chain(self.runs.iter().copied())
    }
}

/// Maximum bytes of a number.
const NUMBER_BYTES_MAX: usize = 8;

/// Takes the number of compressed bytes off the front of `buffer`, which stand for `plain` bytes of a piece; 0 if those
/// follow as they are. While it is incomplete, returns `None` and takes nothing.
pub fn decode_packed_len(buffer: &mut BytesMut, plain: u64) -> Result<Option<u64>, CodecError> {
    let mut fields = Fields(&buffer[..]);
    match fields.varint_up_to(plain, "compressed piece") {
        Ok(len) => {
            let left = fields.0.len();
            buffer.advance(buffer.len() - left);
            Ok(Some(len))
        }
        Err(CodecError::Truncated) if buffer.len() < NUMBER_BYTES_MAX => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `len` bytes at `offset` are a valid chunk of a file of unknown size. A chunk has `chunk_bytes` bytes,
/// unless it is the last. Only an empty file has an empty chunk.
pub fn is_open_chunk(chunk_bytes: u64, offset: u64, len: u64, is_last: bool) -> bool {
    len == chunk_bytes || is_last && (len > 0 || offset == 0) && len < chunk_bytes
}

/// The header of each piece of a record of unknown length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceHeader {
    /// This many bytes follow.
    Data(u64),
    /// The chunk ends here, and maybe the file.
    End {
        /// The file ends.
        is_last: bool,
    },
}

/// Maximum bytes of a piece's header.
const PIECE_HEADER_BYTES_MAX: usize = 9;

impl PieceHeader {
    /// Appends the header.
    pub fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Data(len) => put_varint(out, len),
            Self::End { is_last } => {
                put_varint(out, 0);
                put_varint(out, u64::from(is_last));
            }
        }
    }

    /// Takes a header off the front of `buffer`. While it is incomplete, returns `None` and takes nothing.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, CodecError> {
        let mut fields = Fields(&buffer[..]);
        let header = fields.varint_up_to(1 << CHUNK_LOG2_MAX, "piece").and_then(|len| match len {
            0 => Ok(Self::End { is_last: fields.varint_up_to(1, "last")? == 1 }),
            len => Ok(Self::Data(len)),
        });
        match header {
            Ok(header) => {
                let left = fields.0.len();
                buffer.advance(buffer.len() - left);
                Ok(Some(header))
            }
            Err(CodecError::Truncated) if buffer.len() < PIECE_HEADER_BYTES_MAX => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        RecordHeader { id: EntryId(5), offset: 1 << 20, len: 4096, kind: RecordKind::Data, runs: vec![] }
            .encode(&mut out);
        assert_eq!(&out[..], [5, 0x80, 0x10, 0, 0, 0x50, 0, 0, 0]);
        out.clear();
        let runs = vec![Run { len: 10, is_hole: true }, Run { len: 20, is_hole: false }];
        RecordHeader { id: EntryId(5), offset: 0, len: 30, kind: RecordKind::Grown, runs }.encode(&mut out);
        assert_eq!(&out[..], [5, 0, 30, 1, 2, 21, 40]);
        out.clear();
        let (id, offset) = (EntryId(5), 1 << 20);
        let claim = RecordHeader { id, offset, len: 4096, kind: RecordKind::Claim, runs: vec![] };
        claim.encode(&mut out);
        assert_eq!(&out[..], [5, 0x80, 0x10, 0, 0, 0x50, 0, 2, 0]);
        out.clear();
        RecordHeader { id, offset, len: 4096, kind: RecordKind::Packed, runs: vec![] }.encode(&mut out);
        assert_eq!(&out[..], [5, 0x80, 0x10, 0, 0, 0x50, 0, 5, 0]);
    }

    /// [R-8]
    #[test]
    fn golden_bytes_of_pieces() {
        for (header, bytes) in [
            (PieceHeader::Data(300), &[0x41, 0x2c][..]),
            (PieceHeader::End { is_last: false }, &[0, 0]),
            (PieceHeader::End { is_last: true }, &[0, 1]),
        ] {
            let mut out = BytesMut::new();
            header.encode(&mut out);
            assert_eq!(&out[..], bytes);
            assert_eq!(PieceHeader::decode(&mut BytesMut::from(&bytes[..1])), Ok(None));
            assert_eq!(PieceHeader::decode(&mut out), Ok(Some(header)));
        }
        let mut long = BytesMut::from(&[0x84, 0, 0, 1][..]);
        assert_eq!(PieceHeader::decode(&mut long), Err(CodecError::TooLarge("piece")));
        assert_eq!(PieceHeader::decode(&mut BytesMut::from(&[0, 2][..])), Err(CodecError::TooLarge("last")));
    }

    #[test]
    fn a_compressed_piece_is_no_longer_than_a_plain_one() {
        let decode = |bytes: &[u8]| decode_packed_len(&mut BytesMut::from(bytes), 300);
        assert_eq!(decode(&[0]), Ok(Some(0)));
        assert_eq!(decode(&[0x41, 0x2c]), Ok(Some(300)));
        assert_eq!(decode(&[0x41]), Ok(None));
        assert_eq!(decode(&[0x41, 0x2d]), Err(CodecError::TooLarge("compressed piece")));
    }

    #[test]
    fn attack_14_runs_that_do_not_add_up() {
        let runs: [&[u8]; 4] =
            [&[5, 0, 30, 0, 1, 21], &[5, 0, 30, 0, 2, 21, 44], &[5, 0, 30, 0, 1, 0], &[5, 0, 0, 0, 1, 2]];
        for bytes in runs {
            assert_eq!(RecordHeader::decode(&mut BytesMut::from(bytes)), Err(CodecError::BadValue("run")));
        }
        let flags = RecordHeader::decode(&mut BytesMut::from(&[5, 0, 30, 6, 0][..]));
        assert_eq!(flags, Err(CodecError::TooLarge("flags")));
        for flags in 2..=4 {
            let bytes = [5, 0, 30, flags, 1, 60];
            let header = RecordHeader::decode(&mut BytesMut::from(&bytes[..]));
            assert_eq!(header, Err(CodecError::BadValue("runs")), "flags {flags} have no runs");
        }
    }

    proptest! {
        #[test]
        fn headers_come_back_whole_and_never_in_part(
            id in 0u64..1 << 40,
            offset in 0u64..1 << 50,
            runs in prop::collection::vec((1u64..1 << 30, any::<bool>()), 0..20),
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(len, is_hole)| Run { len, is_hole }).collect();
            let header = RecordHeader {
                id: EntryId(id),
                offset,
                len: runs.iter().map(|r| r.len).sum(),
                kind: if id % 2 == 1 { RecordKind::Grown } else { RecordKind::Data },
                runs,
            };
            let mut out = BytesMut::new();
            header.encode(&mut out);
            for cut in 0..out.len() {
                prop_assert_eq!(RecordHeader::decode(&mut BytesMut::from(&out[..cut])), Ok(None));
            }
            out.extend_from_slice(b"data");
            prop_assert_eq!(RecordHeader::decode(&mut out), Ok(Some(header)));
            prop_assert_eq!(&out[..], b"data");
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(header)) = RecordHeader::decode(&mut buffer) {
                prop_assert!(header.runs.is_empty() || header.runs.iter().map(|r| r.len).sum::<u64>() == header.len);
            }
        }
    }
}
