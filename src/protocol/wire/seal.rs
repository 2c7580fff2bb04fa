//! The part of a receipt that its sender does not know by itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::wire::codec::{CodecError, Fields, put_varint};

/// What the receiver adds to a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// When the transfer ended, seconds since 1970 by the receiver's clock.
    pub time: u64,
    /// Whether the receiver keeps its key.
    pub is_lasting: bool,
    /// The receiver's Ed25519 key.
    pub key: [u8; 32],
    /// Its signature.
    pub signature: [u8; 64],
}

/// Appends it to a message.
pub(super) fn put(out: &mut BytesMut, seal: &Seal) {
    put_varint(out, seal.time);
    out.put_u8(u8::from(seal.is_lasting));
    out.put_slice(&seal.key);
    out.put_slice(&seal.signature);
}

/// Takes it out of a message.
pub(super) fn get(fields: &mut Fields<Bytes>) -> Result<Seal, CodecError> {
    let time = fields.varint()?;
    let is_lasting = match fields.u8()? {
        0 => false,
        1 => true,
        _ => return Err(CodecError::BadValue("lasting")),
    };
    Ok(Seal { time, is_lasting, key: fields.array()?, signature: fields.array()? })
}
