//! Messages to bytes. Numbers are part of the protocol; golden bytes in the tests pin them.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use crate::protocol::delta::pieces::{Piece, SignatureState};
use crate::protocol::failure::Reason;
use crate::protocol::not_kept;
use crate::protocol::path::RelPath;
use crate::protocol::planned::Planned;
use crate::protocol::removal::Removal;
use crate::protocol::request::{Delete, Request};
use crate::protocol::wire::codec::{put_bytes, put_extension, put_frame, put_text, put_varint};
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::limits::{CHUNK_RANGES_MAX, EXTRAS_MAX, MESSAGE_PIECES_MAX};
use crate::protocol::wire::message::{Message, Received};
use crate::protocol::wire::seal;
use crate::protocol::wire::status::Status;

/// Extension of [`Message::Offer`], without content: the sender wants a receipt.
pub(super) const EXTENSION_RECEIPT: u64 = 1;
/// Extension of [`Message::Offer`]: what to do with existing files.
pub(super) const EXTENSION_EXISTS: u64 = 2;
/// Extension of [`Message::Offer`], without content: contents are to be compared.
pub(super) const EXTENSION_COMPARE: u64 = 3;
/// Extension of [`Message::Offer`], without content: a dry run.
pub(super) const EXTENSION_DRY: u64 = 4;
/// Extension of [`Message::Offer`]: extras are to be removed.
pub(super) const EXTENSION_DELETE: u64 = 5;
/// Extension of [`Message::Hello`]: the number of connections that the dialler asks for.
pub(super) const EXTENSION_CONNECTIONS: u64 = 1;
/// Extension of [`Message::Welcome`]: ports for extra connections.
pub(super) const EXTENSION_PORTS: u64 = 1;

/// Extension of [`Message::Entry`]: bytes of a file that need no space.
pub(super) const EXTENSION_HOLES: u64 = 1;
/// Extension of [`Message::Entry`] and [`Message::Top`]: attributes, if the sender keeps any and they fit.
pub(super) const EXTENSION_ATTRIBUTES: u64 = 2;
/// Extension of [`Status::Want`]: the receiver takes chunks in order, and at most so many at a time.
pub(super) const EXTENSION_IN_ORDER: u64 = 1;
/// Extension of [`Message::Close`]: the size of a file whose entry did not tell it.
pub(super) const EXTENSION_SIZE: u64 = 1;

/// Appends an extension that holds one number, if given.
fn put_number_extension(out: &mut BytesMut, extension: u64, number: Option<u64>) {
    if let Some(number) = number {
        let mut content = BytesMut::new();
        put_varint(&mut content, number);
        put_extension(out, extension, &content);
    }
}

impl Message {
    fn type_number(&self) -> u64 {
        match self {
            Self::Hello { .. } => 0x01,
            Self::Welcome { .. } => 0x02,
            Self::Offer { .. } => 0x03,
            Self::Status(..) => 0x04,
            Self::Unchanged(..) => 0x14,
            Self::Extras(_) => 0x15,
            Self::Verdict(_) => 0x16,
            Self::Removed(_) => 0x17,
            Self::Digest(..) => 0x05,
            Self::Close(..) => 0x06,
            Self::Abandon(..) => 0x07,
            Self::Heartbeat(_) => 0x08,
            Self::Finished { .. } => 0x09,
            Self::Verified(_) => 0x12,
            Self::Seal(_) => 0x13,
            Self::Ran(_) => 0x1d,
            Self::Join { .. } => 0x0a,
            Self::Left(_) => 0x0b,
            Self::Came(_) => 0x0c,
            Self::Durable(..) => 0x0d,
            Self::Auth(_) => 0x0e,
            Self::Attach(_) => 0x10,
            Self::Confirm(_) => 0x11,
            Self::Entry(_) => 0x20,
            Self::End(_) => 0x21,
            Self::Omitted(..) => 0x22,
            Self::Attributes(_) => 0x24,
            Self::Top(_) => 0x25,
            Self::Ack(_) => 0x30,
            Self::Nack(_) => 0x31,
            Self::Matched(_) => 0x32,
            Self::Old(..) => 0x0f,
            Self::Pieces(..) => 0x33,
            Self::Unpacks(_) => 0x40,
        }
    }

    /// Appends the frame of this message.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, self.type_number(), |p| self.encode_fields(p));
    }

    fn encode_fields(&self, p: &mut BytesMut) {
        match self {
            Self::Hello { role, agent, method, auth, connections } => {
                p.put_u8(role.code());
                put_text(p, agent);
                p.put_u8(*method);
                put_bytes(p, auth);
                put_number_extension(p, EXTENSION_CONNECTIONS, connections.map(u64::from));
            }
            Self::Auth(bytes) | Self::Attributes(bytes) => put_bytes(p, bytes),
            Self::Welcome { agent, ports } => {
                put_text(p, agent);
                put_ports(p, ports);
            }
            Self::Join { lane, proof } => {
                put_varint(p, u64::from(*lane));
                p.put_slice(proof);
            }
            Self::Seal(seal) => seal::put(p, seal),
            Self::Ran(end) => p.put_slice(&end.code()),
            Self::Left(lane) => put_varint(p, u64::from(*lane)),
            Self::Attach(Received { control, manifest }) | Self::Confirm(Received { control, manifest }) => {
                put_pair(p, *control, *manifest);
            }
            Self::Extras(extras) => put_extras(p, extras),
            Self::Removed(removal) => put_removal(p, removal),
            Self::Offer { transfer, chunk_log2, wants_receipt, request } => {
                p.put_slice(transfer);
                p.put_u8(*chunk_log2);
                put_wishes(p, *wants_receipt, request);
            }
            Self::Status(id, status) => {
                put_varint(p, id.0);
                put_status(p, status);
            }
            Self::Digest(id, root) => {
                put_varint(p, id.0);
                p.put_slice(root);
            }
            Self::Close(id, root, is_grown, size) => {
                put_varint(p, id.0);
                p.put_slice(root);
                p.put_u8(u8::from(*is_grown));
                put_number_extension(p, EXTENSION_SIZE, *size);
            }
            Self::Abandon(id, reason, message) => {
                put_varint(p, id.0);
                put_reason(p, *reason, message);
            }
            Self::Heartbeat(activity) => p.put_u8(activity.code()),
            Self::Finished { synced, not_kept } => {
                p.put_u8(u8::from(*synced));
                not_kept::put(p, not_kept);
            }
            Self::Durable(id, ranges) => {
                put_varint(p, id.0);
                put_ranges(p, ranges);
            }
            Self::Entry(entry) => put_entry(p, entry),
            Self::Top(meta) => put_top(p, meta),
            Self::End(count)
            | Self::Ack(count)
            | Self::Came(count)
            | Self::Verified(count)
            | Self::Unpacks(count) => put_varint(p, *count),
            Self::Omitted(reason, message) => put_reason(p, *reason, message),
            Self::Nack(reason) => put_varint(p, u64::from(reason.code())),
            Self::Matched(bits) | Self::Verdict(bits) => p.put_u64(*bits),
            Self::Old(id, number) | Self::Unchanged(id, number) => put_pair(p, id.0, *number),
            Self::Pieces(state, pieces) => put_pieces(p, *state, pieces),
        }
    }
}

fn put_wishes(out: &mut BytesMut, wants_receipt: bool, request: &Request) {
    let Request { exists, compares, is_dry, delete } = request;
    if wants_receipt {
        put_extension(out, EXTENSION_RECEIPT, &[]);
    }
    if let Some(exists) = exists {
        put_extension(out, EXTENSION_EXISTS, &[exists.code()]);
    }
    if *compares {
        put_extension(out, EXTENSION_COMPARE, &[]);
    }
    if *is_dry {
        put_extension(out, EXTENSION_DRY, &[]);
    }
    if let Some(Delete { names_max, backup }) = delete {
        let mut content = BytesMut::new();
        put_varint(&mut content, names_max.map_or(0, |max| max.saturating_add(1)));
        put_bytes(&mut content, backup.as_ref().map_or(&[][..], RelPath::as_bytes));
        put_extension(out, EXTENSION_DELETE, &content);
    }
}

fn put_extras(out: &mut BytesMut, extras: &[(RelPath, bool)]) {
    let extras = &extras[..extras.len().min(EXTRAS_MAX)];
    put_varint(out, extras.len() as u64);
    for (path, is_dir) in extras {
        out.put_u8(u8::from(*is_dir));
        put_bytes(out, path.as_bytes());
    }
}

fn put_removal(out: &mut BytesMut, removal: &Removal) {
    match removal {
        Removal::Done { removed, remaining, example } => {
            out.put_u8(0);
            put_varint(out, *removed);
            put_varint(out, *remaining);
            put_text(out, example);
        }
        Removal::TooMany(count) => {
            out.put_u8(1);
            put_varint(out, *count);
        }
        Removal::TooLittleMemory => out.put_u8(2),
        Removal::SourceIncomplete => out.put_u8(3),
    }
}

fn put_reason(out: &mut BytesMut, reason: Reason, message: &str) {
    put_varint(out, u64::from(reason.code()));
    put_text(out, message);
}

fn put_pair(out: &mut BytesMut, first: u64, second: u64) {
    put_varint(out, first);
    put_varint(out, second);
}

fn put_ports(out: &mut BytesMut, ports: &[u16]) {
    if !ports.is_empty() {
        let content: Vec<_> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        put_extension(out, EXTENSION_PORTS, &content);
    }
}

fn put_pieces(out: &mut BytesMut, state: SignatureState, pieces: &[Piece]) {
    let pieces = &pieces[..pieces.len().min(MESSAGE_PIECES_MAX)];
    out.put_u8(match state {
        SignatureState::More => 0,
        SignatureState::Complete => 1,
        SignatureState::GivenUp => 2,
    });
    put_varint(out, pieces.len() as u64);
    for piece in pieces {
        put_varint(out, piece.len);
        out.put_slice(&piece.hash);
    }
}

fn put_status(out: &mut BytesMut, status: &Status) {
    match status {
        Status::Want => out.put_u8(0),
        Status::WantInOrder(chunks) => {
            out.put_u8(0);
            put_number_extension(out, EXTENSION_IN_ORDER, Some(*chunks));
        }
        Status::Resume(ranges) => {
            out.put_u8(10);
            put_ranges(out, ranges);
        }
        Status::Check => out.put_u8(1),
        Status::Done(None) => out.put_u8(2),
        Status::Done(Some(path)) => {
            out.put_u8(3);
            put_bytes(out, path.as_bytes());
        }
        Status::Staged(None) => out.put_u8(11),
        Status::Staged(Some(path)) => {
            out.put_u8(12);
            put_bytes(out, path.as_bytes());
        }
        Status::Identical(None) => out.put_u8(4),
        Status::Identical(Some(path)) => {
            out.put_u8(8);
            put_bytes(out, path.as_bytes());
        }
        Status::Updated => out.put_u8(9),
        Status::Planned(planned, other_name) => match (planned, other_name) {
            (Planned::Rename, Some(path)) => {
                out.put_u8(14);
                put_bytes(out, path.as_bytes());
            }
            (planned, _) => {
                out.put_u8(13);
                out.put_u8(*planned as u8);
            }
        },
        Status::Skipped => out.put_u8(5),
        Status::Failed(reason, message) => {
            out.put_u8(6);
            put_varint(out, u64::from(reason.code()));
            put_text(out, message);
        }
        Status::NotKept => out.put_u8(7),
    }
}

fn put_ranges(out: &mut BytesMut, ranges: &[Range<u64>]) {
    let ranges = &ranges[..ranges.len().min(CHUNK_RANGES_MAX)];
    put_varint(out, ranges.len() as u64);
    for range in ranges {
        put_varint(out, range.start);
        put_varint(out, range.end - range.start);
    }
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    let (kind, size) = match &entry.kind {
        Kind::File { size } => (0, *size),
        Kind::OpenEnded => (4, 0),
        Kind::Dir => (1, 0),
        Kind::DirEnd => (2, 0),
        Kind::Symlink { .. } => (3, 0),
    };
    out.put_u8(kind);
    put_bytes(out, entry.path.as_bytes());
    put_meta(out, &entry.meta);
    match &entry.kind {
        Kind::File { .. } => put_varint(out, size),
        Kind::Symlink { target } => put_bytes(out, target),
        Kind::OpenEnded | Kind::Dir | Kind::DirEnd => {}
    }
    put_number_extension(out, EXTENSION_HOLES, (entry.hole_bytes > 0).then_some(entry.hole_bytes));
    put_attributes(out, &entry.meta);
}

fn put_top(out: &mut BytesMut, meta: &Meta) {
    put_meta(out, meta);
    put_attributes(out, meta);
}

fn put_meta(out: &mut BytesMut, meta: &Meta) {
    put_varint(out, u64::from(meta.mode));
    out.put_i64(meta.mtime.seconds);
    put_varint(out, u64::from(meta.mtime.nanos));
}

fn put_attributes(out: &mut BytesMut, meta: &Meta) {
    if let Some(bytes) = meta.attributes.as_ref().and_then(|attributes| attributes.inline()) {
        put_extension(out, EXTENSION_ATTRIBUTES, &bytes);
    }
}
