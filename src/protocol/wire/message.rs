//! The messages of the control stream and the manifest stream. Numbers are part of the protocol; golden bytes in
//! the tests pin them.

// Long because it is one table: what a message holds, how it is written, and how it is read.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::failure::{Reason, Side};
use crate::protocol::not_kept::{self, NotKept};
use crate::protocol::path::RelPath;
use crate::protocol::wire::codec::{
    CodecError, Deframer, Fields, put_bytes, put_extension, put_frame, put_varint,
};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::{
    CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, CONNECTIONS_MAX, FILE_BYTES_MAX, LINK_TARGET_BYTES_MAX, PATH_BYTES_MAX,
    TEXT_BYTES_MAX,
};

/// Types from here on are skipped by a peer that does not know them; below, they are an error.
pub const FIRST_OPTIONAL_TYPE: u64 = 0x40;
/// Extension of [`Message::Hello`]: the number of connections that the dialler asks for.
const EXTENSION_CONNECTIONS: u64 = 1;
/// Extension of [`Message::Welcome`]: where extra connections may be dialled.
const EXTENSION_PORTS: u64 = 1;

/// What a side is there to do. The dialler says it, and the listener must be there for the counterpart: a bench is
/// no transfer, and nobody's disk is written to by one unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has files to send.
    Send,
    /// It wants to receive.
    Receive,
    /// It measures, and sends.
    BenchSend,
    /// It measures, and receives.
    BenchReceive,
}

impl Role {
    /// Which side it is.
    pub fn side(self) -> Side {
        match self {
            Self::Send | Self::BenchSend => Side::Sender,
            Self::Receive | Self::BenchReceive => Side::Receiver,
        }
    }

    /// What the other side must be there to do.
    pub fn counterpart(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::BenchSend => Self::BenchReceive,
            Self::BenchReceive => Self::BenchSend,
        }
    }

    /// The command that a person gave for it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Send => "towline send",
            Self::Receive => "towline receive",
            Self::BenchSend | Self::BenchReceive => "towline bench",
        }
    }
}

/// What is going on at a side and what holds it, for a peer that hears no acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waits for the peer.
    Waiting,
    /// Its disk is at work: slow, not dead.
    Disk,
    /// Bytes have come since it last said something.
    Receiving,
    /// Takes no more than it was told to.
    Limited,
    /// Its processor is busy.
    Processor,
    /// A sender: all its memory waits to be acknowledged.
    Memory,
    /// A sender: the congestion window is full.
    Network,
    /// A sender: it has no stream or byte credit.
    Credits,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Send it.
    Want,
    /// A file of this size is here; tell its root.
    Check,
    /// Under its final name: another one than asked for if there is one here.
    Done(Option<RelPath>),
    /// The same was here: under another name if there is one here.
    Identical(Option<RelPath>),
    /// The same content was here, and has got mode and time.
    Updated,
    /// Something was here and stays.
    Skipped,
    /// It will not be there.
    Failed(Reason, String),
    /// It is a link, and the file system holds none. [`Message::Finished`] says why.
    NotKept,
}

impl Status {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Want => "Want",
            Self::Check => "Check",
            Self::Done(_) => "Done",
            Self::Identical(_) => "Identical",
            Self::Updated => "Updated",
            Self::Skipped => "Skipped",
            Self::Failed(..) => "Failed",
            Self::NotKept => "NotKept",
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Dialler to listener, first of all: what it wants, and the proof that it holds the ticket.
    Hello {
        /// What the dialler wants to do.
        role: Role,
        /// Name and version of the program.
        agent: String,
        /// Proof of the ticket's secret bound to this connection; none when it is known by its fingerprint.
        proof: Option<[u8; 32]>,
        /// Connections that it asks for, 1 to [`CONNECTIONS_MAX`]; none leaves it to the listener.
        connections: Option<u32>,
    },
    /// Listener to dialler: let in.
    Welcome {
        /// Name and version of the program.
        agent: String,
        /// UDP ports beside the first, one for each extra connection; fewer than [`CONNECTIONS_MAX`].
        ports: Vec<u16>,
    },
    /// Dialler to listener, first and only on an extra connection: it belongs to the session.
    Join {
        /// Its number, 1 to [`CONNECTIONS_MAX`] - 1; the first one has 0.
        lane: u32,
        /// Proof of the session's secret bound to this connection.
        proof: [u8; 32],
    },
    /// Sender to receiver: it has lost the extra connection of that number, and sends again what was on it.
    Left(u32),
    /// Sender to receiver: a transfer begins.
    Offer {
        /// Its random name.
        transfer: [u8; 16],
        /// Chunk size as a power of two.
        chunk_log2: u8,
    },
    /// Receiver to sender: what became of an entry.
    Status(EntryId, Status),
    /// Sender to receiver, the answer to [`Status::Check`]: root of the source.
    Digest(EntryId, [u8; 32]),
    /// Sender to receiver: all chunks of a large file are acked, this is the root, and the source has not changed, or
    /// only grown (true).
    Close(EntryId, [u8; 32], bool),
    /// Sender to receiver: the source failed. Answered by [`Status::Failed`].
    Abandon(EntryId, Reason, String),
    /// Both ways, at least once a second and when it changes.
    Heartbeat(Activity),
    /// Receiver to sender, with a heart-beat: bytes of files that have come so far, holes counted.
    Came(u64),
    /// Receiver to sender: everything that is done is durable.
    Finished {
        /// What it has is durable: every sync was made.
        synced: bool,
        /// What its file system does not keep; at most [`crate::protocol::wire::limits::NOT_KEPT_MAX`].
        not_kept: Vec<NotKept>,
    },
    /// Manifest: the next entry. Its number is its place.
    Entry(Entry),
    /// Manifest: there are no more; the count of entries, for a check.
    End(u64),
    /// Manifest: something that the walk came upon and cannot send. It has no number.
    Omitted(Reason, String),
    /// On a parcel's stream: all records are written and verified; how many.
    Ack(u64),
    /// On a parcel's stream: a record was not taken.
    Nack(Reason),
}

pub(in crate::protocol) fn put_text(out: &mut BytesMut, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_bytes(out, &text.as_bytes()[..end]);
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    let (kind, size) = match &entry.kind {
        Kind::File { size } => (0, *size),
        Kind::Dir => (1, 0),
        Kind::DirEnd => (2, 0),
        Kind::Symlink { .. } => (3, 0),
    };
    out.put_u8(kind);
    put_bytes(out, entry.path.as_bytes());
    put_varint(out, u64::from(entry.meta.mode));
    out.put_i64(entry.meta.mtime.seconds);
    put_varint(out, u64::from(entry.meta.mtime.nanos));
    match &entry.kind {
        Kind::File { .. } => put_varint(out, size),
        Kind::Symlink { target } => put_bytes(out, target),
        Kind::Dir | Kind::DirEnd => {}
    }
}

pub(in crate::protocol) fn text<B: bytes::Buf>(fields: &mut Fields<B>) -> Result<String, CodecError> {
    let bytes = fields.bytes(TEXT_BYTES_MAX, "text")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

fn connections(content: Bytes) -> Result<u32, CodecError> {
    let number = Fields(content).varint_up_to(u64::from(CONNECTIONS_MAX), "connections")?;
    u32::try_from(number).ok().filter(|number| *number > 0).ok_or(CodecError::BadValue("connections"))
}

fn lane(fields: &mut Fields<Bytes>) -> Result<u32, CodecError> {
    let number = fields.varint_up_to(u64::from(CONNECTIONS_MAX) - 1, "connection")?;
    u32::try_from(number).ok().filter(|number| *number > 0).ok_or(CodecError::BadValue("connection"))
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

fn entry(fields: &mut Fields<Bytes>) -> Result<Entry, CodecError> {
    let kind = fields.u8()?;
    let path = path(fields)?;
    let mode = fields.varint_up_to(0o777, "mode")?;
    let seconds = i64::from_be_bytes(fields.array()?);
    let nanos = fields.varint_up_to(999_999_999, "nanoseconds")?;
    let kind = match kind {
        0 => Kind::File { size: fields.varint_up_to(FILE_BYTES_MAX, "size")? },
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
    let (mode, nanos) = (u32::try_from(mode), u32::try_from(nanos));
    let (Ok(mode), Ok(nanos)) = (mode, nanos) else { return Err(CodecError::TooLarge("mode or time")) };
    Ok(Entry { path, meta: Meta { mode, mtime: Time { seconds, nanos } }, kind })
}

impl Message {
    fn type_number(&self) -> u64 {
        match self {
            Self::Hello { .. } => 0x01,
            Self::Welcome { .. } => 0x02,
            Self::Offer { .. } => 0x03,
            Self::Status(..) => 0x04,
            Self::Digest(..) => 0x05,
            Self::Close(..) => 0x06,
            Self::Abandon(..) => 0x07,
            Self::Heartbeat(_) => 0x08,
            Self::Finished { .. } => 0x09,
            Self::Join { .. } => 0x0a,
            Self::Left(_) => 0x0b,
            Self::Came(_) => 0x0c,
            Self::Entry(_) => 0x20,
            Self::End(_) => 0x21,
            Self::Omitted(..) => 0x22,
            Self::Ack(_) => 0x30,
            Self::Nack(_) => 0x31,
        }
    }

    /// What it is called, for the words of a breach: its fields are the peer's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Welcome { .. } => "Welcome",
            Self::Offer { .. } => "Offer",
            Self::Status(_, status) => status.name(),
            Self::Digest(..) => "Digest",
            Self::Close(..) => "Close",
            Self::Abandon(..) => "Abandon",
            Self::Heartbeat(_) => "Heartbeat",
            Self::Finished { .. } => "Finished",
            Self::Join { .. } => "Join",
            Self::Left(_) => "Left",
            Self::Came(_) => "Came",
            Self::Entry(_) => "Entry",
            Self::End(_) => "End",
            Self::Omitted(..) => "Omitted",
            Self::Ack(_) => "Ack",
            Self::Nack(_) => "Nack",
        }
    }

    /// Appends the frame of this message.
    pub fn encode(&self, out: &mut BytesMut) {
        put_frame(out, self.type_number(), |p| self.encode_fields(p));
    }

    fn encode_fields(&self, p: &mut BytesMut) {
        match self {
            Self::Hello { role, agent, proof, connections } => {
                p.put_u8(match role {
                    Role::Send => 0,
                    Role::Receive => 1,
                    Role::BenchSend => 2,
                    Role::BenchReceive => 3,
                });
                put_text(p, agent);
                put_bytes(p, proof.as_ref().map_or(&[], |proof| &proof[..]));
                if let Some(connections) = connections {
                    let mut content = BytesMut::new();
                    put_varint(&mut content, u64::from(*connections));
                    put_extension(p, EXTENSION_CONNECTIONS, &content);
                }
            }
            Self::Welcome { agent, ports } => {
                put_text(p, agent);
                if !ports.is_empty() {
                    let content: Vec<_> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
                    put_extension(p, EXTENSION_PORTS, &content);
                }
            }
            Self::Join { lane, proof } => {
                put_varint(p, u64::from(*lane));
                p.put_slice(proof);
            }
            Self::Left(lane) => put_varint(p, u64::from(*lane)),
            Self::Offer { transfer, chunk_log2 } => {
                p.put_slice(transfer);
                p.put_u8(*chunk_log2);
            }
            Self::Status(id, status) => {
                put_varint(p, id.0);
                match status {
                    Status::Want => p.put_u8(0),
                    Status::Check => p.put_u8(1),
                    Status::Done(None) => p.put_u8(2),
                    Status::Done(Some(path)) => {
                        p.put_u8(3);
                        put_bytes(p, path.as_bytes());
                    }
                    Status::Identical(None) => p.put_u8(4),
                    Status::Identical(Some(path)) => {
                        p.put_u8(8);
                        put_bytes(p, path.as_bytes());
                    }
                    Status::Updated => p.put_u8(9),
                    Status::Skipped => p.put_u8(5),
                    Status::Failed(reason, message) => {
                        p.put_u8(6);
                        put_varint(p, u64::from(reason.code()));
                        put_text(p, message);
                    }
                    Status::NotKept => p.put_u8(7),
                }
            }
            Self::Digest(id, root) => {
                put_varint(p, id.0);
                p.put_slice(root);
            }
            Self::Close(id, root, is_grown) => {
                put_varint(p, id.0);
                p.put_slice(root);
                p.put_u8(u8::from(*is_grown));
            }
            Self::Abandon(id, reason, message) => {
                put_varint(p, id.0);
                put_varint(p, u64::from(reason.code()));
                put_text(p, message);
            }
            Self::Heartbeat(activity) => p.put_u8(match activity {
                Activity::Waiting => 0,
                Activity::Disk => 1,
                Activity::Receiving => 2,
                Activity::Limited => 3,
                Activity::Processor => 4,
                Activity::Memory => 5,
                Activity::Network => 6,
                Activity::Credits => 7,
            }),
            Self::Finished { synced, not_kept } => {
                p.put_u8(u8::from(*synced));
                not_kept::put(p, not_kept);
            }
            Self::Entry(entry) => put_entry(p, entry),
            Self::End(count) | Self::Ack(count) | Self::Came(count) => put_varint(p, *count),
            Self::Omitted(reason, message) => {
                put_varint(p, u64::from(reason.code()));
                put_text(p, message);
            }
            Self::Nack(reason) => put_varint(p, u64::from(reason.code())),
        }
    }

    /// The message of a frame; `None` when it is of an optional type that this version does not know.
    pub fn decode(kind: u64, payload: Bytes) -> Result<Option<Self>, CodecError> {
        let mut f = Fields(payload);
        let message = match kind {
            0x01 => return Self::decode_hello(f).map(Some),
            0x02 => return Self::decode_welcome(f).map(Some),
            0x03 => {
                let transfer = f.array()?;
                let chunk_log2 = f.u8()?;
                if !(CHUNK_LOG2_MIN..=CHUNK_LOG2_MAX).contains(&chunk_log2) {
                    return Err(CodecError::BadValue("chunk size"));
                }
                Self::Offer { transfer, chunk_log2 }
            }
            0x04 => Self::Status(EntryId(f.varint()?), Self::decode_status(&mut f)?),
            0x05 => Self::Digest(EntryId(f.varint()?), f.array()?),
            0x06 => Self::Close(EntryId(f.varint()?), f.array()?, flag(&mut f, "grown")?),
            0x07 => Self::Abandon(EntryId(f.varint()?), reason(&mut f)?, text(&mut f)?),
            0x08 => match f.u8()? {
                0 => Self::Heartbeat(Activity::Waiting),
                1 => Self::Heartbeat(Activity::Disk),
                2 => Self::Heartbeat(Activity::Receiving),
                3 => Self::Heartbeat(Activity::Limited),
                4 => Self::Heartbeat(Activity::Processor),
                5 => Self::Heartbeat(Activity::Memory),
                6 => Self::Heartbeat(Activity::Network),
                7 => Self::Heartbeat(Activity::Credits),
                _ => return Err(CodecError::BadValue("activity")),
            },
            0x09 => Self::Finished { synced: flag(&mut f, "synced")?, not_kept: not_kept::get(&mut f)? },
            0x0a => Self::Join { lane: lane(&mut f)?, proof: f.array()? },
            0x0b => Self::Left(lane(&mut f)?),
            0x0c => Self::Came(f.varint()?),
            0x20 => Self::Entry(entry(&mut f)?),
            0x21 => Self::End(f.varint()?),
            0x22 => Self::Omitted(reason(&mut f)?, text(&mut f)?),
            0x30 => Self::Ack(f.varint()?),
            0x31 => match reason(&mut f)? {
                reason @ (Reason::TransferFailed | Reason::TransferEnded) => Self::Nack(reason),
                _ => return Err(CodecError::BadValue("reason")),
            },
            kind if kind >= FIRST_OPTIONAL_TYPE => return Ok(None),
            kind => return Err(CodecError::UnknownType(kind)),
        };
        f.skip_extensions()?;
        Ok(Some(message))
    }

    fn decode_hello(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let role = match f.u8()? {
            0 => Role::Send,
            1 => Role::Receive,
            2 => Role::BenchSend,
            3 => Role::BenchReceive,
            _ => return Err(CodecError::BadValue("role")),
        };
        let agent = text(&mut f)?;
        let proof = f.bytes(32, "proof")?;
        let proof = match proof.len() {
            0 => None,
            32 => Some(proof[..].try_into().map_err(|_| CodecError::BadValue("proof"))?),
            _ => return Err(CodecError::BadValue("proof")),
        };
        let connections = f.extension(EXTENSION_CONNECTIONS)?.map(connections).transpose()?;
        Ok(Self::Hello { role, agent, proof, connections })
    }

    fn decode_welcome(mut f: Fields<Bytes>) -> Result<Self, CodecError> {
        let agent = text(&mut f)?;
        let ports = f.extension(EXTENSION_PORTS)?.map_or_else(|| Ok(Vec::new()), ports)?;
        Ok(Self::Welcome { agent, ports })
    }

    fn decode_status(f: &mut Fields<Bytes>) -> Result<Status, CodecError> {
        Ok(match f.u8()? {
            0 => Status::Want,
            1 => Status::Check,
            2 => Status::Done(None),
            3 => Status::Done(Some(path(f)?)),
            4 => Status::Identical(None),
            5 => Status::Skipped,
            6 => Status::Failed(reason(f)?, text(f)?),
            7 => Status::NotKept,
            8 => Status::Identical(Some(path(f)?)),
            9 => Status::Updated,
            _ => return Err(CodecError::BadValue("status")),
        })
    }

    /// The next message out of `deframer`, optional ones that are not known skipped.
    pub fn next(deframer: &mut Deframer) -> Result<Option<Self>, CodecError> {
        while let Some((kind, payload)) = deframer.next_frame()? {
            if let Some(message) = Self::decode(kind, payload)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::not_kept::Aspect;

    fn hex(message: &Message) -> String {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        let path = RelPath::new(b"a/b").unwrap();
        let meta = Meta { mode: 0o644, mtime: Time { seconds: -2, nanos: 5 } };
        let entry = |kind| Message::Entry(Entry { path: path.clone(), meta, kind });
        let zeros = "00".repeat(32);
        for (message, want) in [
            (
                Message::Hello { role: Role::Send, agent: "t/1".into(), proof: None, connections: None },
                "010600 03742f31 00".into(),
            ),
            (
                Message::Hello { role: Role::Send, agent: "t/1".into(), proof: None, connections: Some(3) },
                "010900 03742f31 00 010103".into(),
            ),
            (
                Message::Hello {
                    role: Role::Receive,
                    agent: String::new(),
                    proof: Some([0; 32]),
                    connections: None,
                },
                format!("01230100 20{zeros}"),
            ),
            (
                Message::Hello { role: Role::BenchSend, agent: "t/1".into(), proof: None, connections: None },
                "010602 03742f31 00".into(),
            ),
            (
                Message::Hello {
                    role: Role::BenchReceive,
                    agent: "t/1".into(),
                    proof: None,
                    connections: None,
                },
                "010603 03742f31 00".into(),
            ),
            (Message::Welcome { agent: "t/1".into(), ports: vec![] }, "020403742f31".into()),
            (
                Message::Welcome { agent: "t/1".into(), ports: vec![4750, 65535] },
                "020a03742f31 0104128effff".into(),
            ),
            (Message::Join { lane: 2, proof: [0; 32] }, format!("0a2102{zeros}")),
            (Message::Left(2), "0b0102".into()),
            (Message::Came(16384), "0c0480004000".into()),
            (Message::Offer { transfer: [7; 16], chunk_log2: 20 }, format!("0311{}14", "07".repeat(16))),
            (Message::Status(EntryId(300), Status::Want), "0403412c00".into()),
            (Message::Status(EntryId(1), Status::Check), "04020101".into()),
            (Message::Status(EntryId(1), Status::Done(None)), "04020102".into()),
            (Message::Status(EntryId(1), Status::Done(Some(path.clone()))), "0406010303612f62".into()),
            (Message::Status(EntryId(1), Status::Identical(None)), "04020104".into()),
            (Message::Status(EntryId(1), Status::Identical(Some(path.clone()))), "0406010803612f62".into()),
            (Message::Status(EntryId(1), Status::Updated), "04020109".into()),
            (Message::Status(EntryId(1), Status::Skipped), "04020105".into()),
            (
                Message::Status(EntryId(1), Status::Failed(Reason::TargetExists, "x".into())),
                "04050106 0a0178".into(),
            ),
            (Message::Digest(EntryId(2), [0; 32]), format!("052102{zeros}")),
            (Message::Close(EntryId(2), [0; 32], false), format!("062202{zeros}00")),
            (Message::Close(EntryId(2), [0; 32], true), format!("062202{zeros}01")),
            (Message::Abandon(EntryId(2), Reason::SourceChanged, "x".into()), "0704020e0178".into()),
            (Message::Heartbeat(Activity::Waiting), "080100".into()),
            (Message::Heartbeat(Activity::Disk), "080101".into()),
            (Message::Heartbeat(Activity::Receiving), "080102".into()),
            (Message::Heartbeat(Activity::Limited), "080103".into()),
            (Message::Heartbeat(Activity::Processor), "080104".into()),
            (Message::Heartbeat(Activity::Memory), "080105".into()),
            (Message::Heartbeat(Activity::Network), "080106".into()),
            (Message::Heartbeat(Activity::Credits), "080107".into()),
            (Message::Status(EntryId(1), Status::NotKept), "04020107".into()),
            (Message::Finished { synced: true, not_kept: vec![] }, "09020100".into()),
            (
                Message::Finished {
                    synced: false,
                    not_kept: vec![NotKept {
                        aspect: Aspect::Sync,
                        count: 300,
                        path: "a".into(),
                        cause: "x".into(),
                    }],
                },
                "0909 00 01 04412c 0161 0178".into(),
            ),
            (
                entry(Kind::File { size: 1 << 60 }),
                "2018 00 03612f62 41a4 fffffffffffffffe 05 d000000000000000".into(),
            ),
            (entry(Kind::Dir), "2010 01 03612f62 41a4 fffffffffffffffe 05".into()),
            (entry(Kind::DirEnd), "2010 02 03612f62 41a4 fffffffffffffffe 05".into()),
            (
                entry(Kind::Symlink { target: Bytes::from_static(b"..") }),
                "2013 03 03612f62 41a4 fffffffffffffffe 05 022e2e".into(),
            ),
            (Message::End(3), "210103".into()),
            (Message::Omitted(Reason::SpecialFile, "x".into()), "2203130178".into()),
            (Message::Ack(1), "300101".into()),
            (Message::Nack(Reason::TransferFailed), "310108".into()),
        ] {
            assert_eq!(hex(&message), want.replace(' ', ""), "{message:?}");
            let mut deframer = Deframer::default();
            let mut out = BytesMut::new();
            message.encode(&mut out);
            deframer.push(&out);
            assert_eq!(Message::next(&mut deframer), Ok(Some(message)));
        }
    }

    #[test]
    fn a_newer_peer_is_understood_as_far_as_it_says_that_it_may_be() {
        let payload = Bytes::from_static(&[1, 0x40, 0x60, 1, 9]);
        assert_eq!(Message::decode(0x08, payload), Ok(Some(Message::Heartbeat(Activity::Disk))));
        assert_eq!(Message::decode(0x40, Bytes::from_static(b"any")), Ok(None));
        assert_eq!(Message::decode(0x3f, Bytes::new()), Err(CodecError::UnknownType(0x3f)));
        assert_eq!(Message::decode(0x08, Bytes::from_static(&[1, 1])), Err(CodecError::Truncated));
    }

    #[test]
    fn attack_14_connections_beyond_the_limit_are_refused() {
        let hello = |content: &[u8]| {
            let mut payload = BytesMut::from(&[0, 0, 0][..]);
            put_extension(&mut payload, EXTENSION_CONNECTIONS, content);
            Message::decode(0x01, payload.freeze())
        };
        assert!(hello(&[16]).is_ok());
        assert_eq!(hello(&[17]), Err(CodecError::TooLarge("connections")));
        assert_eq!(hello(&[0]), Err(CodecError::BadValue("connections")));
        assert_eq!(hello(&[]), Err(CodecError::Truncated));
        let welcome = |ports: &[u8]| {
            let mut payload = BytesMut::from(&[0][..]);
            put_extension(&mut payload, EXTENSION_PORTS, ports);
            Message::decode(0x02, payload.freeze())
        };
        assert!(welcome(&[1; 30]).is_ok());
        assert_eq!(welcome(&[1; 32]), Err(CodecError::TooLarge("ports")));
        assert_eq!(welcome(&[1; 3]), Err(CodecError::BadValue("ports")));
        assert_eq!(welcome(&[0, 0]), Err(CodecError::BadValue("ports")));
    }

    #[test]
    fn attack_25_a_size_that_no_file_has_is_refused() {
        let mut out = BytesMut::new();
        out.put_slice(&[0, 1, b'a', 0]);
        out.put_i64(0);
        out.put_u8(0);
        put_varint(&mut out, (1 << 60) + 1);
        assert_eq!(Message::decode(0x20, out.freeze()), Err(CodecError::TooLarge("size")));
    }

    #[test]
    fn attack_22_set_id_bits_do_not_travel() {
        let mut out = BytesMut::new();
        out.put_slice(&[1, 1, b'a']);
        put_varint(&mut out, 0o4755);
        out.put_i64(0);
        out.put_u8(0);
        assert_eq!(Message::decode(0x20, out.freeze()), Err(CodecError::TooLarge("mode")));
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            (0..=FILE_BYTES_MAX).prop_map(|size| Kind::File { size }),
            Just(Kind::Dir),
            Just(Kind::DirEnd),
            prop::collection::vec(1u8.., 1..100).prop_map(|t| Kind::Symlink { target: t.into() }),
        ];
        let path = prop::collection::vec(prop::collection::vec(1u8.., 1..20), 1..5)
            .prop_filter_map("a path that is not allowed", |c| RelPath::new(&c.join(&b'/')).ok());
        (path, 0u32..=0o777, any::<i64>(), 0u32..1_000_000_000, kind).prop_map(
            |(path, mode, seconds, nanos, kind)| Entry {
                path,
                meta: Meta { mode, mtime: Time { seconds, nanos } },
                kind,
            },
        )
    }

    proptest! {
        #[test]
        fn entries_come_back(entry in any_entry()) {
            let message = Message::Entry(entry);
            let mut out = BytesMut::new();
            message.encode(&mut out);
            let mut deframer = Deframer::default();
            deframer.push(&out);
            prop_assert_eq!(Message::next(&mut deframer), Ok(Some(message)));
        }

        #[test]
        fn any_bytes_never_panic(kind in 0u64..0x50, payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let payload = Bytes::from(payload);
            if let Ok(Some(message)) = Message::decode(kind, payload) {
                let mut out = BytesMut::new();
                message.encode(&mut out);
                let mut deframer = Deframer::default();
                deframer.push(&out);
                prop_assert_eq!(Message::next(&mut deframer), Ok(Some(message)));
            }
        }
    }
}
