use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::protocol::final_name::Exists;
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::planned::Planned;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::request::Delete;
use crate::protocol::wire::attributes::Attributes;
use crate::protocol::wire::codec::{CodecError, Deframer, put_extension, put_varint};
use crate::protocol::wire::encode::{EXTENSION_CONNECTIONS, EXTENSION_PORTS};
use crate::protocol::wire::entry::{Kind, Meta, Time};
use crate::protocol::wire::limits::{AUTH_BYTES_MAX, FILE_BYTES_MAX};
use crate::protocol::wire::seal::Seal;

fn hex(message: &Message) -> String {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of each message, and back.
#[track_caller]
fn check_golden(golden: impl IntoIterator<Item = (Message, String)>) {
    for (message, want) in golden {
        assert_eq!(hex(&message), want.replace(' ', ""), "{message:?}");
        let mut deframer = Deframer::default();
        let mut out = BytesMut::new();
        message.encode(&mut out);
        deframer.push(&out);
        assert_eq!(Message::next(&mut deframer), Ok(Some(message)));
    }
}

#[test]
fn golden_bytes_of_greetings() {
    let zeros = "00".repeat(32);
    check_golden([
        (
            Message::Hello {
                role: Role::Send,
                agent: "t/1".into(),
                method: 0,
                auth: Bytes::new(),
                connections: None,
            },
            "010700 03742f31 00 00".into(),
        ),
        (
            Message::Hello {
                role: Role::Send,
                agent: "t/1".into(),
                method: 0,
                auth: Bytes::new(),
                connections: Some(3),
            },
            "010a00 03742f31 00 00 010103".into(),
        ),
        (
            Message::Hello {
                role: Role::Receive,
                agent: String::new(),
                method: 1,
                auth: Bytes::from_static(&[0; 32]),
                connections: None,
            },
            format!("01240100 01 20{zeros}"),
        ),
        (
            Message::Hello {
                role: Role::BenchSend,
                agent: "t/1".into(),
                method: 0,
                auth: Bytes::new(),
                connections: None,
            },
            "010702 03742f31 00 00".into(),
        ),
        (
            Message::Hello {
                role: Role::BenchReceive,
                agent: "t/1".into(),
                method: 0,
                auth: Bytes::new(),
                connections: None,
            },
            "010703 03742f31 00 00".into(),
        ),
        (Message::Auth(Bytes::from_static(b"pake")), "0e0504 70616b65".into()),
        (Message::Welcome { agent: "t/1".into(), ports: vec![] }, "020403742f31".into()),
        (
            Message::Welcome { agent: "t/1".into(), ports: vec![4750, 65535] },
            "020a03742f31 0104128effff".into(),
        ),
        (Message::Join { lane: 2, proof: [0; 32] }, format!("0a2102{zeros}")),
    ]);
}

#[test]
fn golden_bytes_of_what_was_asked() {
    let path = RelPath::new(b"a/b").unwrap();
    let done = |example: &str| Removal::Done { removed: 300, remaining: 1, example: example.into() };
    check_golden([
        (Message::Unchanged(EntryId(5), 300), "140305412c".into()),
        (
            Message::Extras(vec![(path.clone(), true), (path.clone(), false)]),
            "150b 02 01 03612f62 00 03612f62".into(),
        ),
        (
            Message::Offer {
                transfer: [7; 16],
                chunk_log2: 20,
                wants_receipt: true,
                request: Request {
                    exists: Some(Exists::Replace),
                    compares: true,
                    is_dry: true,
                    delete: Some(Delete { names_max: Some(10), backup: Some(path.clone()) }),
                },
            },
            format!("0321{}14 0100 020103 0300 0400 0505 0b 03612f62", "07".repeat(16)),
        ),
        (Message::Verdict(0b101), "1608 0000000000000005".into()),
        (Message::Removed(done("x")), "1706 00 412c 01 0178".into()),
        (Message::Removed(Removal::TooMany(300)), "1703 01 412c".into()),
        (Message::Removed(Removal::TooLittleMemory), "170102".into()),
        (Message::Removed(Removal::SourceIncomplete), "170103".into()),
        (Message::Status(EntryId(1), Status::Planned(Planned::Create, None)), "0403010d00".into()),
        (Message::Status(EntryId(1), Status::Planned(Planned::Replace, None)), "0403010d01".into()),
        (Message::Status(EntryId(1), Status::Planned(Planned::Update, None)), "0403010d02".into()),
        (
            Message::Status(EntryId(1), Status::Planned(Planned::Rename, Some(path.clone()))),
            "0406010e03612f62".into(),
        ),
    ]);
}

#[test]
fn golden_bytes_of_programs() {
    check_golden([
        (Message::Heartbeat(Activity::Program), "080109".into()),
        (Message::Ran(ProgramEnd::Exited(3)), "1d020003".into()),
        (Message::Ran(ProgramEnd::Killed(9)), "1d020109".into()),
        (Message::Ran(ProgramEnd::TimedOut), "1d020200".into()),
        (Message::Ran(ProgramEnd::NotStarted), "1d020300".into()),
    ]);
}

#[test]
fn golden_bytes_of_control() {
    let path = RelPath::new(b"a/b").unwrap();
    let zeros = "00".repeat(32);
    check_golden([
        (Message::Left(2), "0b0102".into()),
        (Message::Durable(EntryId(5), vec![0..3, 300..301]), "0d070502 0003 412c01".into()),
        (Message::Came(16384), "0c0480004000".into()),
        (Message::Join { lane: 0, proof: [0; 32] }, format!("0a2100{zeros}")),
        (Message::Attach(Received { control: 300, manifest: 2 }), "1003412c02".into()),
        (Message::Confirm(Received { control: 7, manifest: 0 }), "11020700".into()),
        (
            Message::Offer {
                transfer: [7; 16],
                chunk_log2: 20,
                wants_receipt: false,
                request: Request::default(),
            },
            format!("0311{}14", "07".repeat(16)),
        ),
        (Message::Status(EntryId(300), Status::Want), "0403412c00".into()),
        (Message::Status(EntryId(0), Status::WantInOrder(16)), "04050000010110".into()),
        (Message::Unpacks(1), "40400101".into()),
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
        (Message::Close(EntryId(2), [0; 32], false, None), format!("062202{zeros}00")),
        (Message::Close(EntryId(2), [0; 32], true, None), format!("062202{zeros}01")),
        (Message::Close(EntryId(2), [0; 32], false, Some(300)), format!("062602{zeros}00 0102412c")),
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
        (Message::Status(EntryId(1), Status::Staged(None)), "0402010b".into()),
        (Message::Status(EntryId(1), Status::Staged(Some(path.clone()))), "0406010c03612f62".into()),
        (
            Message::Seal(Seal { time: 300, is_lasting: true, key: [1; 32], signature: [2; 64] }),
            format!("13 4063 412c 01 {} {}", "01".repeat(32), "02".repeat(64)),
        ),
        (Message::Verified(300), "1202412c".into()),
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
    ]);
}

#[test]
fn golden_bytes_of_the_manifest_and_of_answers() {
    let path = RelPath::new(b"a/b").unwrap();
    let meta = Meta { mode: 0o644, mtime: Time { seconds: -2, nanos: 5 }, attributes: None };
    let bits = Attributes { special_bits: Some(6), ..Attributes::default() };
    let entry = |kind| Message::Entry(Entry { path: path.clone(), meta: meta.clone(), kind, hole_bytes: 0 });
    check_golden([
        (
            entry(Kind::File { size: 1 << 60 }),
            "2018 00 03612f62 41a4 fffffffffffffffe 05 d000000000000000".into(),
        ),
        (
            Message::Entry(Entry {
                path: path.clone(),
                meta: meta.clone(),
                kind: Kind::File { size: 9 },
                hole_bytes: 7,
            }),
            "2014 00 03612f62 41a4 fffffffffffffffe 05 09 01 01 07".into(),
        ),
        (entry(Kind::OpenEnded), "2010 04 03612f62 41a4 fffffffffffffffe 05".into()),
        (entry(Kind::Dir), "2010 01 03612f62 41a4 fffffffffffffffe 05".into()),
        (entry(Kind::DirEnd), "2010 02 03612f62 41a4 fffffffffffffffe 05".into()),
        (
            entry(Kind::Symlink { target: Bytes::from_static(b"..") }),
            "2013 03 03612f62 41a4 fffffffffffffffe 05 022e2e".into(),
        ),
        (
            Message::Entry(Entry {
                path: path.clone(),
                meta: Meta { attributes: Some(Arc::new(bits)), ..meta.clone() },
                kind: Kind::Dir,
                hole_bytes: 0,
            }),
            "2014 01 03612f62 41a4 fffffffffffffffe 05 02 02 0206".into(),
        ),
        (Message::Attributes(Bytes::from_static(b"xy")), "24 03 02 7879".into()),
        (Message::Top(meta.clone()), "25 0b 41a4 fffffffffffffffe 05".into()),
        (Message::End(3), "210103".into()),
        (Message::Omitted(Reason::SpecialFile, "x".into()), "2203130178".into()),
        (Message::Ack(1), "300101".into()),
        (Message::Nack(Reason::TransferFailed), "310108".into()),
        (Message::Matched(1 << 63 | 5), "32088000000000000005".into()),
        (Message::Old(EntryId(5), 300), "0f0305412c".into()),
        (
            Message::Pieces(SignatureState::Complete, vec![Piece { len: 300, hash: [7; 16] }]),
            format!("33140101412c{}", "07".repeat(16)),
        ),
        (Message::Pieces(SignatureState::GivenUp, vec![]), "33020200".into()),
        (Message::Status(EntryId(5), Status::Resume(vec![0..3, 300..301])), "0408050a020003412c01".into()),
    ]);
}

#[test]
fn a_newer_peer_is_understood_as_far_as_it_says_that_it_may_be() {
    let payload = Bytes::from_static(&[1, 0x40, 0x60, 1, 9]);
    assert_eq!(Message::decode(0x08, payload), Ok(Some(Message::Heartbeat(Activity::Disk))));
    assert_eq!(Message::decode(0x41, Bytes::from_static(b"any")), Ok(None));
    assert_eq!(Message::decode(0x3f, Bytes::new()), Err(CodecError::UnknownType(0x3f)));
    assert_eq!(Message::decode(0x08, Bytes::from_static(&[1, 1])), Err(CodecError::Truncated));
}

#[test]
fn attack_14_connections_beyond_the_limit_are_refused() {
    let hello = |content: &[u8]| {
        let mut payload = BytesMut::from(&[0, 0, 0, 0][..]);
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
fn attack_14_ranges_that_are_none() {
    for ranges in [&[1, 3, 0][..], &[2, 0, 1, 1, 1], &[2, 5, 1, 3, 1], &[2, 0, 4, 2, 1]] {
        let payload = [&[5], ranges].concat().into();
        assert_eq!(Message::decode(0x0d, payload), Err(CodecError::BadValue("ranges")), "{ranges:?}");
    }
    assert_eq!(Message::decode(0x0d, vec![5, 0x41, 1].into()), Err(CodecError::TooLarge("ranges")));
}

///
#[test]
fn attack_34_pieces_and_old_files_that_are_none() {
    let hash = [7; 16];
    let piece = |len: &[u8]| [&[0, 1], len, &hash].concat();
    for (payload, error) in [
        (vec![3, 0], CodecError::BadValue("state of a signature")),
        (vec![0, 0x42, 1], CodecError::TooLarge("pieces")),
        (piece(&[0]), CodecError::BadValue("piece")),
        (piece(&[0xff; 8]), CodecError::TooLarge("piece")),
        (piece(&[5])[..10].to_vec(), CodecError::Truncated),
    ] {
        assert_eq!(Message::decode(0x33, payload.into()), Err(error));
    }
    assert_eq!(Message::decode(0x0f, vec![5, 0].into()), Err(CodecError::BadValue("size of the old file")));
}

#[test]
fn attack_14_a_message_of_the_handshake_is_bounded() {
    let encoded = |bytes: usize| {
        let mut payload = BytesMut::new();
        put_varint(&mut payload, bytes as u64);
        payload.extend(std::iter::repeat_n(0, bytes));
        payload
    };
    let auth = |bytes| Message::decode(0x0e, encoded(bytes).freeze());
    let hello = |bytes| {
        let payload = [&[0, 0, 0][..], &encoded(bytes)].concat();
        Message::decode(0x01, payload.into())
    };
    assert!(auth(AUTH_BYTES_MAX).is_ok() && hello(AUTH_BYTES_MAX).is_ok());
    let too_large = Err(CodecError::TooLarge("message of the handshake"));
    assert_eq!((auth(AUTH_BYTES_MAX + 1), hello(AUTH_BYTES_MAX + 1)), (too_large.clone(), too_large));
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

///
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
        Just(Kind::OpenEnded),
        Just(Kind::Dir),
        Just(Kind::DirEnd),
        prop::collection::vec(1u8.., 1..100).prop_map(|t| Kind::Symlink { target: t.into() }),
    ];
    let path = prop::collection::vec(prop::collection::vec(1u8.., 1..20), 1..5)
        .prop_filter_map("a path that is not allowed", |c| RelPath::new(&c.join(&b'/')).ok());
    (path, 0u32..=0o777, any::<i64>(), 0u32..1_000_000_000, kind, any::<u64>()).prop_map(
        |(path, mode, seconds, nanos, kind, holes)| {
            let meta = Meta { mode, mtime: Time { seconds, nanos }, attributes: None };
            let hole_bytes =
                if let Kind::File { size } = kind { holes.checked_rem(size).unwrap_or(0) } else { 0 };
            Entry { path, meta, kind, hole_bytes }
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
