//! Bytes on the wire: variable-length integers (RFC 9000, section 16), length-prefixed bytes, frames.
//!
//! A frame is `type, length, payload`, where `length` counts the payload; a payload is fields, then extensions
//! (`id, length, bytes`) to its end. Limits are checked before anything is allocated, and bytes that no field
//! or extension accounts for are an error.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::protocol::wire::limits::{MESSAGE_BYTES_MAX, TEXT_BYTES_MAX};

/// Why bytes are not a valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The payload ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A length, count or number is over its limit.
    #[error("{0} is over its limit")]
    TooLarge(&'static str),
    /// A field has an invalid value.
    #[error("{0} has a value that is not allowed")]
    BadValue(&'static str),
    /// An unknown message type that is not optional.
    #[error("message type {0:#x} is not known here")]
    UnknownType(u64),
}

/// The largest variable-length integer.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Appends `value` in the fewest of 1, 2, 4 or 8 bytes. Values above [`VARINT_MAX`] are a bug of the caller and
/// are clamped.
pub fn put_varint(out: &mut BytesMut, value: u64) {
    debug_assert!(value <= VARINT_MAX);
    let value = value.min(VARINT_MAX);
    match value {
        0..=0x3f => out.put_uint(value, 1),
        0x40..=0x3fff => out.put_uint(value | 0x4000, 2),
        0x4000..=0x3fff_ffff => out.put_uint(value | 0x8000_0000, 4),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// Appends the length and the bytes.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends a text, cut off at [`TEXT_BYTES_MAX`].
pub fn put_text(out: &mut BytesMut, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_bytes(out, &text.as_bytes()[..end]);
}

/// Fields of a payload, one after the other.
pub struct Fields<B>(pub B);

impl<B: Buf> Fields<B> {
    /// A variable-length integer; longer forms than needed are accepted, as in RFC 9000.
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        if !self.0.has_remaining() {
            return Err(CodecError::Truncated);
        }
        let first = self.0.chunk()[0];
        let len = 1usize << (first >> 6);
        if self.0.remaining() < len {
            return Err(CodecError::Truncated);
        }
        Ok(self.0.get_uint(len) & (VARINT_MAX >> (64 - 8 * len)))
    }

    /// An integer of at most `max`.
    pub fn varint_up_to(&mut self, max: u64, name: &'static str) -> Result<u64, CodecError> {
        let value = self.varint()?;
        if value > max { Err(CodecError::TooLarge(name)) } else { Ok(value) }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.0.try_get_u8().map_err(|_| CodecError::Truncated)
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut out = [0; N];
        self.0.try_copy_to_slice(&mut out).map_err(|_| CodecError::Truncated)?;
        Ok(out)
    }

    /// A length of at most `max` and that many bytes, copied: a slice would keep the whole receive buffer.
    pub fn bytes(&mut self, max: usize, name: &'static str) -> Result<Bytes, CodecError> {
        let len = self.varint_up_to(max as u64, name)?;
        let len = usize::try_from(len).map_err(|_| CodecError::TooLarge(name))?;
        if self.0.remaining() < len {
            return Err(CodecError::Truncated);
        }
        let mut bytes = vec![0; len];
        self.0.copy_to_slice(&mut bytes);
        Ok(bytes.into())
    }

    /// A text; invalid UTF-8 is replaced.
    pub fn text(&mut self) -> Result<String, CodecError> {
        let bytes = self.bytes(TEXT_BYTES_MAX, "text")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads and skips all extensions: this version knows none.
    pub fn skip_extensions(self) -> Result<(), CodecError> {
        self.extensions([]).map(|[]| ())
    }

    /// Reads extensions to the end. Returns the content of the last one with this `id`, and skips all others.
    pub fn extension(self, id: u64) -> Result<Option<Bytes>, CodecError> {
        self.extensions([id]).map(|[found]| found)
    }

    /// The same for several ids.
    pub fn extensions<const N: usize>(mut self, ids: [u64; N]) -> Result<[Option<Bytes>; N], CodecError> {
        let mut found = [const { None }; N];
        while self.0.has_remaining() {
            let this = self.varint()?;
            let content = self.bytes(MESSAGE_BYTES_MAX, "extension")?;
            if let Some(at) = ids.iter().position(|id| *id == this) {
                found[at] = Some(content);
            }
        }
        Ok(found)
    }
}

/// Splits a stream into frames.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

/// A frame: its type and payload.
pub type Frame = (u64, Bytes);

impl Deframer {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CodecError> {
        Ok(self.next(false)?.map(|(_, frame)| frame))
    }

    /// The next whole frame that has a number before it, and that number; `None` when more bytes are needed.
    pub fn next_numbered(&mut self) -> Result<Option<(u64, Frame)>, CodecError> {
        self.next(true)
    }

    fn next(&mut self, is_numbered: bool) -> Result<Option<(u64, Frame)>, CodecError> {
        let mut fields = Fields(&self.buffer[..]);
        let mut header = || {
            let number = if is_numbered { fields.varint()? } else { 0 };
            Ok((number, fields.varint()?, fields.varint()?))
        };
        let (number, kind, len) = match header() {
            Ok(header) => header,
            Err(CodecError::Truncated) => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = self.buffer.len() - fields.0.remaining();
        let len = usize::try_from(len).map_err(|_| CodecError::TooLarge("message"))?;
        if len > MESSAGE_BYTES_MAX {
            return Err(CodecError::TooLarge("message"));
        }
        if self.buffer.len() < header + len {
            return Ok(None);
        }
        self.buffer.advance(header);
        Ok(Some((number, (kind, self.buffer.split_to(len).freeze()))))
    }

    /// Whether no bytes are left over.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Appends an extension.
pub fn put_extension(out: &mut BytesMut, id: u64, content: &[u8]) {
    put_varint(out, id);
    put_bytes(out, content);
}

/// Appends a frame of type `kind` whose payload is written by `fill`.
pub fn put_frame(out: &mut BytesMut, kind: u64, fill: impl FnOnce(&mut BytesMut)) {
    let mut payload = BytesMut::with_capacity(64);
    fill(&mut payload);
    debug_assert!(payload.len() <= MESSAGE_BYTES_MAX);
    put_varint(out, kind);
    put_varint(out, payload.len() as u64);
    out.put_slice(&payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_are_those_of_rfc_9000_appendix_a_1() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(Fields(bytes).varint(), Ok(value));
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(&out[..], bytes);
        }
        assert_eq!(Fields(&[0x40, 0x25][..]).varint(), Ok(37));
        assert_eq!(Fields(&[0x40][..]).varint(), Err(CodecError::Truncated));
    }

    /// [W-13], [R-2]
    #[test]
    fn attack_14_a_length_over_the_limit_is_refused_before_it_is_buffered() {
        let mut out = BytesMut::new();
        put_varint(&mut out, 1);
        put_varint(&mut out, VARINT_MAX);
        let mut deframer = Deframer::default();
        deframer.push(&out);
        assert_eq!(deframer.next_frame(), Err(CodecError::TooLarge("message")));
        assert_eq!(Fields(&out[1..]).bytes(10, "x"), Err(CodecError::TooLarge("x")));
    }

    ///
    #[test]
    fn extensions_are_skipped_and_leftovers_refused() {
        assert_eq!(Fields(&[9, 2, 1, 1, 0x40, 0x50, 0][..]).skip_extensions(), Ok(()));
        assert_eq!(Fields(&[9, 2, 1][..]).skip_extensions(), Err(CodecError::Truncated));
        assert_eq!(Fields(&[9][..]).skip_extensions(), Err(CodecError::Truncated));
    }

    proptest! {
        #[test]
        fn varint_round_trip(value in 0..=VARINT_MAX) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut fields = Fields(&out[..]);
            prop_assert_eq!(fields.varint(), Ok(value));
            prop_assert!(fields.0.is_empty());
        }

        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec((0u64..1000, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            cut in 1usize..50,
        ) {
            let mut out = BytesMut::new();
            for (kind, payload) in &frames {
                put_frame(&mut out, *kind, |p| p.put_slice(payload));
            }
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            for piece in out.chunks(cut) {
                deframer.push(piece);
                while let Some((kind, payload)) = deframer.next_frame().unwrap() {
                    got.push((kind, payload.to_vec()));
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(deframer.is_empty());
        }
    }
}
