//! Bytes to messages, checked against their limits.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::delta::pieces::{Piece, SignatureState};
use crate::protocol::failure::Reason;
use crate::protocol::final_name::Exists;
use crate::protocol::not_kept;
use crate::protocol::path::RelPath;
use crate::protocol::planned::Planned;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::removal::Removal;
use crate::protocol::request::{Delete, Request};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::attributes::Attributes;
use crate::protocol::wire::codec::{CodecError, Deframer, Fields};
use crate::protocol::wire::encode::{
    EXTENSION_ATTRIBUTES, EXTENSION_COMPARE, EXTENSION_CONNECTIONS, EXTENSION_DELETE, EXTENSION_DRY,
    EXTENSION_EXISTS, EXTENSION_HOLES, EXTENSION_IN_ORDER, EXTENSION_PORTS, EXTENSION_RECEIPT,
    EXTENSION_SIZE,
};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::{
    ATTRIBUTES_INLINE_BYTES_MAX, AUTH_BYTES_MAX, CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, CHUNK_RANGES_MAX,
    CHUNKS_AHEAD_MAX, CONNECTIONS_MAX, EXTRAS_MAX, FILE_BYTES_MAX, LINK_TARGET_BYTES_MAX, MESSAGE_BYTES_MAX,
    MESSAGE_PIECES_MAX, OPEN_ENTRIES_MAX, PATH_BYTES_MAX,
};
use crate::protocol::wire::message::{Message, Received};
use crate::protocol::wire::role::Role;
use crate::protocol::wire::seal;
use crate::protocol::wire::status::Status;

/// Unknown types from here on are skipped; lower ones are an error.
const FIRST_OPTIONAL_TYPE: u64 = 0x40;

impl Message {
    /// The message of a frame; `None` for an unknown optional type.
    pub fn decode(kind: u64, payload: Bytes) -> Result<Option<Self>, CodecError> {
        let mut f = Fields(payload);
        let message = match kind {
            0x01 => return Self::decode_hello(f).map(Some),
            0x02 => return Self::decode_welcome(f).map(Some),
            0x03 => return Self::decode_offer(f).map(Some),
            0x04 => match (EntryId(f.varint()?), Self::decode_status(&mut f)?) {
                (id, Status::Want) => return want(f).map(|status| Some(Self::Status(id, status))),
                (id, status) => Self::Status(id, status),
            },
            0x05 => Self::Digest(EntryId(f.varint()?), f.array()?),
            0x06 => return Self::decode_close(f).map(Some),
            0x07 => Self::Abandon(EntryId(f.varint()?), reason(&mut f)?, f.text()?),
            0x08 => Self::Heartbeat(Activity::from_code(f.u8()?).ok_or(CodecError::BadValue("activity"))?),
            0x12 => Self::Verified(f.varint()?),
            0x13 => Self::Seal(seal::get(&mut f)?),
            0x15 => extras(&mut f)?,
            0x16 => Self::Verdict(u64::from_be_bytes(f.array()?)),
            0x17 => Self::Removed(removal(&mut f)?),
            0x14 => match (EntryId(f.varint()?), f.varint_up_to(OPEN_ENTRIES_MAX as u64, "entries")?) {
                (_, 0) => return Err(CodecError::BadValue("entries")),
                (first, count) => Self::Unchanged(first, count),
            },
            0x1d => {
                Self::Ran(ProgramEnd::from_code(f.array()?).ok_or(CodecError::BadValue("end of a program"))?)
            }
            0x09 => Self::Finished { synced: flag(&mut f, "synced")?, not_kept: not_kept::get(&mut f)? },
            0x0a => Self::Join { lane: lane(&mut f)?, proof: f.array()? },
            0x0b => match lane(&mut f)? {
                0 => return Err(CodecError::BadValue("connection")),
                lane => Self::Left(lane),
            },
            0x0c => Self::Came(f.varint()?),
            0x0d => Self::Durable(EntryId(f.varint()?), ranges(&mut f)?),
            0x0f => match (EntryId(f.varint()?), f.varint_up_to(FILE_BYTES_MAX, "size of the old file")?) {
                (_, 0) => return Err(CodecError::BadValue("size of the old file")),
                (id, bytes) => Self::Old(id, bytes),
            },
            0x0e => Self::Auth(f.bytes(AUTH_BYTES_MAX, "message of the handshake")?),
            0x10 => Self::Attach(received(&mut f)?),
            0x11 => Self::Confirm(received(&mut f)?),
            0x20 => return entry(f).map(|entry| Some(Self::Entry(entry))),
            0x21 => Self::End(f.varint()?),
            0x22 => Self::Omitted(reason(&mut f)?, f.text()?),
            0x25 => {
                let meta = meta(&mut f)?;
                let attributes = f.extension(EXTENSION_ATTRIBUTES)?.map(attributes).transpose()?;
                return Ok(Some(Self::Top(Meta { attributes, ..meta })));
            }
            0x24 => match f.bytes(MESSAGE_BYTES_MAX, "attributes")? {
                bytes if bytes.is_empty() => return Err(CodecError::BadValue("attributes")),
                bytes => Self::Attributes(bytes),
            },
            0x30 => Self::Ack(f.varint()?),
            0x31 => match reason(&mut f)? {
                reason @ (Reason::TransferFailed | Reason::TransferEnded) => Self::Nack(reason),
                _ => return Err(CodecError::BadValue("reason")),
            },
            0x32 => Self::Matched(u64::from_be_bytes(f.array()?)),
            0x33 => pieces(&mut f)?,
            0x40 => Self::Unpacks(f.varint()?),
            kind if kind >= FIRST_OPTIONAL_TYPE => return Ok(None),
            kind => return Err(CodecError::UnknownType(kind)),
        };
        f.skip_extensions()?;
        Ok(Some(message))
    }

    fn decode_hello(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let role = Role::from_code(f.u8()?).ok_or(CodecError::BadValue("role"))?;
        let agent = f.text()?;
        let method = f.u8()?;
        let auth = f.bytes(AUTH_BYTES_MAX, "message of the handshake")?;
        let connections = f.extension(EXTENSION_CONNECTIONS)?.map(connections).transpose()?;
        Ok(Self::Hello { role, agent, method, auth, connections })
    }

    fn decode_welcome(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let agent = f.text()?;
        let ports = f.extension(EXTENSION_PORTS)?.map_or_else(|| Ok(Vec::new()), ports)?;
        Ok(Self::Welcome { agent, ports })
    }

    fn decode_offer(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let (transfer, chunk_log2) = (f.array()?, f.u8()?);
        if !(CHUNK_LOG2_MIN..=CHUNK_LOG2_MAX).contains(&chunk_log2) {
            return Err(CodecError::BadValue("chunk size"));
        }
        let extension = |id| Fields(f.0.clone()).extension(id);
        let wants_receipt = extension(EXTENSION_RECEIPT)?.is_some();
        let exists = extension(EXTENSION_EXISTS)?.map(|content| Fields(content).u8()).transpose()?;
        let known = |code| Exists::from_code(code).ok_or(CodecError::BadValue("rule for existing files"));
        let exists = exists.map(known).transpose()?;
        let compares = extension(EXTENSION_COMPARE)?.is_some();
        let is_dry = extension(EXTENSION_DRY)?.is_some();
        let delete = extension(EXTENSION_DELETE)?.map(delete).transpose()?;
        let request = Request { exists, compares, is_dry, delete };
        Ok(Self::Offer { transfer, chunk_log2, wants_receipt, request })
    }

    fn decode_close(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let (id, root, is_grown) = (EntryId(f.varint()?), f.array()?, flag(&mut f, "grown")?);
        let size = f.extension(EXTENSION_SIZE)?;
        let size = size.map(|size| Fields(size).varint_up_to(FILE_BYTES_MAX, "size")).transpose()?;
        Ok(Self::Close(id, root, is_grown, size))
    }

    fn decode_status(f: &mut Fields<Bytes>) -> Result<Status, CodecError> {
        Ok(match f.u8()? {
            0 => Status::Want,
            1 => Status::Check,
            2 => Status::Done(None),
            3 => Status::Done(Some(path(f)?)),
            4 => Status::Identical(None),
            5 => Status::Skipped,
            6 => Status::Failed(reason(f)?, f.text()?),
            7 => Status::NotKept,
            8 => Status::Identical(Some(path(f)?)),
            10 => match ranges(f)? {
                ranges if ranges.is_empty() => return Err(CodecError::BadValue("ranges")),
                ranges => Status::Resume(ranges),
            },
            11 => Status::Staged(None),
            12 => Status::Staged(Some(path(f)?)),
            13 => match f.u8()? {
                0 => Status::Planned(Planned::Create, None),
                1 => Status::Planned(Planned::Replace, None),
                2 => Status::Planned(Planned::Update, None),
                _ => return Err(CodecError::BadValue("what is planned")),
            },
            14 => Status::Planned(Planned::Rename, Some(path(f)?)),
            9 => Status::Updated,
            _ => return Err(CodecError::BadValue("status")),
        })
    }

    /// The next message of `deframer`. Unknown optional ones are skipped.
    pub fn next(deframer: &mut Deframer) -> Result<Option<Self>, CodecError> {
        while let Some((kind, payload)) = deframer.next_frame()? {
            if let Some(message) = Self::decode(kind, payload)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message of `deframer` with its number. An unknown optional type gives no message, but still has a
    /// number.
    pub fn next_numbered(deframer: &mut Deframer) -> Result<Option<(u64, Option<Self>)>, CodecError> {
        let Some((number, (kind, payload))) = deframer.next_numbered()? else { return Ok(None) };
        Ok(Some((number, Self::decode(kind, payload)?)))
    }
}

fn reason<B: bytes::Buf>(fields: &mut Fields<B>) -> Result<Reason, CodecError> {
    Ok(Reason::from_code(fields.varint()?))
}

fn path<B: bytes::Buf>(fields: &mut Fields<B>) -> Result<RelPath, CodecError> {
    let bytes = fields.bytes(PATH_BYTES_MAX, "path")?;
    RelPath::new(&bytes).map_err(|_| CodecError::BadValue("path"))
}

fn flag<B: bytes::Buf>(fields: &mut Fields<B>, name: &'static str) -> Result<bool, CodecError> {
    match fields.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::BadValue(name)),
    }
}

/// What follows [`Status::Want`].
fn want(fields: Fields<Bytes>) -> Result<Status, CodecError> {
    let Some(content) = fields.extension(EXTENSION_IN_ORDER)? else { return Ok(Status::Want) };
    match Fields(content).varint_up_to(CHUNKS_AHEAD_MAX as u64, "chunks at a time")? {
        0 => Err(CodecError::BadValue("chunks at a time")),
        chunks => Ok(Status::WantInOrder(chunks)),
    }
}

fn delete(content: Bytes) -> Result<Delete, CodecError> {
    let mut fields = Fields(content);
    let names_max = fields.varint()?.checked_sub(1);
    let backup = fields.bytes(PATH_BYTES_MAX, "path")?;
    let backup =
        (!backup.is_empty()).then(|| RelPath::new(&backup).map_err(|_| CodecError::BadValue("path")));
    Ok(Delete { names_max, backup: backup.transpose()? })
}

fn extras(fields: &mut Fields<Bytes>) -> Result<Message, CodecError> {
    let count = fields.varint_up_to(EXTRAS_MAX as u64, "extras")?;
    if count == 0 {
        return Err(CodecError::BadValue("extras"));
    }
    let mut extras = Vec::new();
    for _ in 0..count {
        let is_dir = flag(fields, "kind")?;
        extras.push((path(fields)?, is_dir));
    }
    Ok(Message::Extras(extras))
}

fn removal(fields: &mut Fields<Bytes>) -> Result<Removal, CodecError> {
    Ok(match fields.u8()? {
        0 => {
            let (removed, remaining) = (fields.varint()?, fields.varint()?);
            Removal::Done { removed, remaining, example: fields.text()? }
        }
        1 => Removal::TooMany(fields.varint()?),
        2 => Removal::TooLittleMemory,
        3 => Removal::SourceIncomplete,
        _ => return Err(CodecError::BadValue("how the removal ended")),
    })
}

fn connections(content: Bytes) -> Result<u32, CodecError> {
    let number = Fields(content).varint_up_to(u64::from(CONNECTIONS_MAX), "connections")?;
    u32::try_from(number).ok().filter(|number| *number > 0).ok_or(CodecError::BadValue("connections"))
}

fn lane(fields: &mut Fields<Bytes>) -> Result<u32, CodecError> {
    let number = fields.varint_up_to(u64::from(CONNECTIONS_MAX) - 1, "connection")?;
    u32::try_from(number).map_err(|_| CodecError::BadValue("connection"))
}

fn received(fields: &mut Fields<Bytes>) -> Result<Received, CodecError> {
    Ok(Received { control: fields.varint()?, manifest: fields.varint()? })
}

fn ports(content: Bytes) -> Result<Vec<u16>, CodecError> {
    if content.len() / 2 >= CONNECTIONS_MAX as usize {
        return Err(CodecError::TooLarge("ports"));
    }
    let ports: Vec<_> = content.chunks_exact(2).map(|port| u16::from_be_bytes([port[0], port[1]])).collect();
    if !content.len().is_multiple_of(2) || ports.contains(&0) {
        return Err(CodecError::BadValue("ports"));
    }
    Ok(ports)
}

fn pieces(fields: &mut Fields<Bytes>) -> Result<Message, CodecError> {
    let state = match fields.u8()? {
        0 => SignatureState::More,
        1 => SignatureState::Complete,
        2 => SignatureState::GivenUp,
        _ => return Err(CodecError::BadValue("state of a signature")),
    };
    let count = fields.varint_up_to(MESSAGE_PIECES_MAX as u64, "pieces")?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        match fields.varint_up_to(FILE_BYTES_MAX, "piece")? {
            0 => return Err(CodecError::BadValue("piece")),
            len => pieces.push(Piece { len, hash: fields.array()? }),
        }
    }
    Ok(Message::Pieces(state, pieces))
}

/// Ranges of chunks: not empty, in order, and with a gap between two.
fn ranges(fields: &mut Fields<Bytes>) -> Result<Vec<Range<u64>>, CodecError> {
    let count = fields.varint_up_to(CHUNK_RANGES_MAX as u64, "ranges")?;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for _ in 0..count {
        let start = fields.varint_up_to(FILE_BYTES_MAX, "first chunk")?;
        let len = fields.varint_up_to(FILE_BYTES_MAX, "chunks")?;
        if len == 0 || ranges.last().is_some_and(|last| start <= last.end) {
            return Err(CodecError::BadValue("ranges"));
        }
        ranges.push(start..start + len);
    }
    Ok(ranges)
}

fn entry(mut fields: Fields<Bytes>) -> Result<Entry, CodecError> {
    let kind = fields.u8()?;
    let path = path(&mut fields)?;
    let meta = meta(&mut fields)?;
    let kind = match kind {
        0 => Kind::File { size: fields.varint_up_to(FILE_BYTES_MAX, "size")? },
        4 => Kind::OpenEnded,
        1 => Kind::Dir,
        2 => Kind::DirEnd,
        3 => {
            let target = fields.bytes(LINK_TARGET_BYTES_MAX, "link target")?;
            if target.is_empty() || target.contains(&0) {
                return Err(CodecError::BadValue("link target"));
            }
            Kind::Symlink { target }
        }
        _ => return Err(CodecError::BadValue("entry kind")),
    };
    let size = if let Kind::File { size } = kind { size } else { 0 };
    let [holes, content] = fields.extensions([EXTENSION_HOLES, EXTENSION_ATTRIBUTES])?;
    let hole_bytes = holes.map_or(Ok(0), |content| Fields(content).varint_up_to(size, "holes"))?;
    let attributes = content.map(attributes).transpose()?;
    Ok(Entry { path, meta: Meta { attributes, ..meta }, kind, hole_bytes })
}

fn meta(fields: &mut Fields<Bytes>) -> Result<Meta, CodecError> {
    let mode = fields.varint_up_to(0o777, "mode")?;
    let seconds = i64::from_be_bytes(fields.array()?);
    let nanos = fields.varint_up_to(999_999_999, "nanoseconds")?;
    let (mode, nanos) = (u32::try_from(mode), u32::try_from(nanos));
    let (Ok(mode), Ok(nanos)) = (mode, nanos) else { return Err(CodecError::TooLarge("mode or time")) };
    Ok(Meta { mode, mtime: Time { seconds, nanos }, attributes: None })
}

fn attributes(content: Bytes) -> Result<Arc<Attributes>, CodecError> {
    if content.len() > ATTRIBUTES_INLINE_BYTES_MAX {
        return Err(CodecError::TooLarge("attributes"));
    }
    Attributes::decode(content).map(Arc::new)
}
