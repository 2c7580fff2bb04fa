//! Every line, as scripts see it.

use std::time::Duration;

use super::*;
use crate::event::PartialState;
use crate::protocol::failure::Side;
use crate::protocol::not_kept::Aspect;
use crate::protocol::wire::role::Role;

/// The line of an event without a transfer, whose last field says so.
fn line(event: Event) -> String {
    let line = String::from_utf8(super::line(&Report { transfer: None, peer: None, event })).unwrap();
    line.strip_suffix(",\"transfer\":null}\n").expect("the transfer comes last").to_owned() + "}\n"
}

fn settled(path: &[u8], outcome: Outcome) -> FileSettled {
    let path = RelPath::new(path).unwrap();
    let message = None;
    FileSettled { path, renamed: None, is_file: true, size: 1, blake3: None, outcome, message, removed: None }
}

#[test]
fn listening_has_what_a_script_needs() {
    let event = Event::Listening(Listening {
        role: Role::Send,
        what: vec!["a".into()],
        ticket: Some("tl1abc".into()),
        code: Some("7-octopus-lantern".into()),
        addresses: vec!["192.0.2.7:4750".parse().unwrap(), "[::1]:1".parse().unwrap()],
        fingerprint: "fp".into(),
    });
    assert_eq!(
        line(event),
        "{\"event\":\"listening\",\"side\":\"sender\",\"ticket\":\"tl1abc\",\"code\":\"7-octopus-lantern\",\
         \"addresses\":[\"192.0.2.7:4750\",\"[::1]:1\"],\"fingerprint\":\"fp\"}\n"
    );
}

#[test]
fn the_small_events() {
    let connected = Event::Connected {
        address: "192.0.2.7:4750".parse().unwrap(),
        fingerprint: "fp".into(),
        agent: "towline/0.1.0".into(),
    };
    assert_eq!(
        line(connected),
        "{\"event\":\"connected\",\"address\":\"192.0.2.7:4750\",\"fingerprint\":\"fp\",\
         \"agent\":\"towline/0.1.0\"}\n"
    );
    assert_eq!(
        line(Event::Started { side: Side::Receiver, transfer: [0xab; 16].into() }),
        "{\"event\":\"started\",\"side\":\"receiver\"}\n"
    );
    let resumed = Event::Resumed { path: RelPath::new(b"a").unwrap(), size: 100, held_bytes: 61 };
    assert_eq!(line(resumed), "{\"event\":\"resumed\",\"path\":\"a\",\"size\":100,\"held_bytes\":61}\n");
    assert_eq!(
        [Some(Duration::from_secs(60)), None]
            .map(|limit| line(Event::Reconnecting { limit, message: "m".into() })),
        [
            "{\"event\":\"reconnecting\",\"limit_seconds\":60.0,\"message\":\"m\"}\n",
            "{\"event\":\"reconnecting\",\"limit_seconds\":null,\"message\":\"m\"}\n"
        ]
    );
    assert_eq!(
        line(Event::Reconnected { after: Duration::from_millis(12_300) }),
        "{\"event\":\"reconnected\",\"seconds\":12.3}\n"
    );
    let warning = Event::Warning {
        path: Some("p".into()),
        reason: Some(Reason::SpecialFile),
        message: "skipping FIFO p".into(),
    };
    assert_eq!(
        line(warning),
        "{\"event\":\"warning\",\"path\":\"p\",\"reason\":\"special-file\",\
         \"message\":\"skipping FIFO p\"}\n"
    );
    let not_kept = NotKept { aspect: Aspect::Link, count: 2, path: "p".into(), cause: "c".into() };
    assert_eq!(
        line(Event::NotKept(not_kept)),
        "{\"event\":\"warning\",\"path\":\"p\",\"reason\":\"not-kept\",\"message\":\"the receiver could \
         not make 2 symbolic links, such as p: c\",\"not_kept\":\"link\",\"count\":2}\n"
    );
    let partial = PartialFile {
        sender: "fp".into(),
        path: RelPath::new(b"\xff").unwrap(),
        safe_bytes: 1,
        size: 2,
        age: Duration::from_millis(1500),
        state: PartialState::InUse,
    };
    assert_eq!(
        line(Event::Partial(partial)),
        "{\"event\":\"partial\",\"sender\":\"fp\",\"path\":\"\\\\xff\",\"path_bytes\":\"ff\",\"safe_bytes\":1,\
         \"size\":2,\"age_seconds\":1.5,\"state\":\"in-use\"}\n"
    );
    assert_eq!(
        line(Event::Identity { fingerprint: "fp".into(), path: "/k".into(), is_new: true }),
        "{\"event\":\"identity\",\"fingerprint\":\"fp\",\"path\":\"/k\",\"new\":true}\n"
    );
}

#[test]
fn progress_has_both_numbers() {
    let progress = Progress {
        elapsed: Duration::from_millis(1500),
        walked: true,
        total_files: 2,
        total_bytes: 30,
        sent_bytes: 20,
        written_bytes: 10,
        resumed_bytes: 4,
        done_files: 1,
        active: Vec::new(),
        waiting_for: Some("receiver's disk"),
    };
    assert_eq!(
        line(Event::Progress(progress)),
        "{\"event\":\"progress\",\"elapsed_seconds\":1.5,\"walked\":true,\"total_files\":2,\
         \"total_bytes\":30,\"sent_bytes\":20,\"written_bytes\":10,\"done_files\":1,\
         \"waiting_for\":\"receiver's disk\",\"resumed_bytes\":4}\n"
    );
}

#[test]
fn files_and_their_names() {
    let root = blake3::hash(b"x");
    let file = FileSettled { blake3: Some(root), ..settled(b"a\"b", Outcome::Written) };
    assert_eq!(
        line(Event::File(file)),
        format!(
            "{{\"event\":\"file\",\"path\":\"a\\\"b\",\"renamed\":null,\"is_file\":true,\"size\":1,\
             \"blake3\":\"{root}\",\"outcome\":\"written\",\"reason\":null,\"message\":null}}\n"
        )
    );
    let file = FileSettled {
        renamed: RelPath::new(b"b\xfe").ok(),
        message: Some("m".into()),
        ..settled(b"\xff\n", Outcome::Failed(Reason::TargetExists))
    };
    assert_eq!(
        line(Event::File(file)),
        "{\"event\":\"file\",\"path\":\"\\\\xff\\\\n\",\"path_bytes\":\"ff0a\",\"renamed\":\"b\\\\xfe\",\
         \"renamed_bytes\":\"62fe\",\"is_file\":true,\"size\":1,\"blake3\":null,\"outcome\":\"failed\",\
         \"reason\":\"target-exists\",\"message\":\"m\"}\n"
    );
}

#[test]
fn attack_4_json_on_a_terminal_is_plain_ascii_and_exact() {
    let name = "\u{1b}]0;\u{9b}\u{202e}grün🚢\u{7f}";
    let text = line(Event::File(settled(name.as_bytes(), Outcome::Skipped)));
    assert!(text.trim_end().bytes().all(|b| matches!(b, b' '..=b'~')), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["path"], name);
}

#[test]
fn success_and_failure() {
    let summary = Summary {
        side: Side::Sender,
        files: 1,
        dirs: 2,
        links: 3,
        identical: 4,
        unchanged: 5,
        updated: 7,
        skipped: 5,
        failed: 6,
        gravest: Some(Reason::Storage),
        bytes: 300,
        sent_bytes: 250,
        saved_bytes: 50,
        resumed_bytes: 100,
        copied_bytes: 50,
        elapsed: Duration::from_secs(2),
        blake3: None,
        limited_by: vec![(Bottleneck::Network, 82), (Bottleneck::ReceiverDisk, 18)],
        synced: true,
        piped: false,
        verified: None,
        program: None,
        receipt: None,
        not_kept: vec![NotKept { aspect: Aspect::Mode, count: 3, path: "p".into(), cause: "c".into() }],
        removed: None,
        left_out: 0,
        is_dry: false,
        deleted: None,
    };
    assert_eq!(
        line(Event::Finished(summary)),
        "{\"event\":\"finished\",\"side\":\"sender\",\"files\":1,\"dirs\":2,\"links\":3,\"identical\":4,\"updated\":7,\
         \"skipped\":5,\"failed\":6,\"gravest\":\"storage\",\"bytes\":300,\"seconds\":2.0,\"rate\":75,\
         \"blake3\":null,\"limited_by\":\"network\",\"synced\":true,\
         \"limited_by_shares\":{\"network\":82,\"receiver's disk\":18},\"not_kept\":{\"mode\":3},\
         \"sent_bytes\":250,\"saved_bytes\":50,\"compression_ratio\":1.25,\"resumed_bytes\":100,\"copied_bytes\":50,\"unchanged\":5}\n"
    );
    let error = error(None, &Failure::on(Side::Receiver, Reason::ConnectionLost, "gone"), 9);
    assert_eq!(
        String::from_utf8(error).unwrap(),
        "{\"event\":\"error\",\"reason\":\"connection-lost\",\"side\":\"receiver\",\"message\":\"gone\",\
         \"exit_code\":9,\"retryable\":true,\"transfer\":null}\n"
    );
}

#[test]
fn a_bench_has_its_figures_as_numbers() {
    let bench = crate::ui::bench::tests::bench(Side::Sender);
    assert_eq!(
        line(Event::Bench(bench)),
        "{\"event\":\"bench\",\"side\":\"sender\",\"with\":\"itself\",\"storage\":\"memory\",\"files\":1,\
         \"failed\":0,\"bytes\":3221225472,\"seconds\":2.0,\"rate\":1610612736,\"rtt_seconds\":0.0015,\
         \"mtu_bytes\":1452,\"sent_packets\":2000,\"lost_packets\":5,\"streams\":32,\"cpu_seconds\":6.0,\
         \"cpu_seconds_per_gib\":2.0,\"limited_by\":\"processor\",\
         \"limited_by_shares\":{\"processor\":75,\"network\":25}}\n"
    );
    let preparing = Event::Preparing { dir: "/d".into(), bytes: 1, space_bytes: 8192 };
    assert_eq!(
        line(preparing),
        "{\"event\":\"preparing\",\"dir\":\"/d\",\"bytes\":1,\"space_bytes\":8192}\n"
    );
}

#[test]
fn every_reason_is_documented() {
    let text = include_str!("../../../docs/json.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} |", reason.as_str(), reason.exit_code());
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn a_gap_says_how_many_lines() {
    assert_eq!(left_out(7), b"{\"event\":\"left_out\",\"lines\":7,\"transfer\":null}\n");
}

#[test]
fn an_event_of_a_transfer_names_it() {
    let transfer = Some(TransferId::from([0xab; 16]));
    let file = Event::File(settled(b"a", Outcome::Written));
    let lines = [
        super::line(&Report { transfer, peer: None, event: file }),
        error(transfer, &Failure::new(Reason::ConnectionLost, "gone"), 9),
    ];
    for line in lines {
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["transfer"], "ab".repeat(16));
    }
}
