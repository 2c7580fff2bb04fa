//! Tickets as people hand them over: folded, mistyped, at the wrong place, on machines without a home.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::host::bound_by_permissions;
use crate::support::process::{Listening, Towline};
use crate::support::setting::Setting;

impl Setting {
    fn waiting_receiver(&self) -> (Towline, Listening) {
        self.receiver.listen_receive(&self.inbox, &[])
    }

    fn waiting_sender(&self) -> (Towline, Listening) {
        self.receiver.listen_send(self.source().as_ref(), &[])
    }

    /// `towline ARGS`, with plain lines.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sender.command(args);
        command.current_dir(self.scratch.path());
        command
    }
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("text"))
}

#[track_caller]
fn expect(command: &mut Command, code: i32) -> String {
    let (ended, said) = run(command);
    assert_eq!(ended, Some(code), "{command:?}\n{said}");
    said
}

/// Homes that keep nothing: what would be made in them cannot be.
const NO_HOMES: [&str; 2] = ["/dev/null", "/proc/no-such-home"];

#[test]
fn t17_without_a_home_a_ticket_works_with_a_key_for_this_run() {
    let setting = Setting::new();
    for home in NO_HOMES {
        let homeless = |args: &[&str]| {
            let mut command = setting.command(args);
            command.env_remove("TOWLINE_IDENTITY").env_remove("XDG_CONFIG_HOME").env("HOME", home);
            command
        };
        let (receiver, listening) = setting.waiting_receiver();
        let said = expect(&mut homeless(&["send", &setting.source(), "--to", &listening.ticket, "-v"]), 0);
        assert!(said.contains("using a key for this run"), "{said}");
        receiver.end().expect(0);
        setting.assert_arrived();

        let (sender, listening) = setting.waiting_sender();
        let said = expect(&mut homeless(&["receive", "--from", &listening.ticket, "--into", "inbox"]), 0);
        assert!(!said.contains("key for this run"), "only with -v: {said}");
        sender.end().expect(0);
        setting.assert_arrived();

        // Who is known by a key has to have one that stays; so has `towline id`.
        let fingerprint = "a".repeat(52);
        let to_a_host = ["send", &setting.source(), "--to", "127.0.0.1:1", "--fingerprint", &fingerprint];
        for args in [&to_a_host[..], &["id"]] {
            let said = expect(&mut homeless(args), 1);
            assert!(said.contains("identity"), "{said}");
        }
    }
}

#[test]
fn t17_a_waiting_side_without_a_home_gives_out_a_ticket() {
    let setting = Setting::new();
    let mut command = setting.receiver.command(["receive", "--json", "--listen", "127.0.0.1:0", "--into"]);
    command.arg(&setting.inbox).env_remove("TOWLINE_IDENTITY").env_remove("XDG_CONFIG_HOME");
    command.env("HOME", NO_HOMES[0]);
    let mut receiver = Towline::of(command);
    let ticket = receiver.wait_for("listening")["ticket"].as_str().expect("a ticket").to_owned();
    expect(&mut setting.command(&["send", &setting.source(), "--to", &ticket]), 0);
    receiver.end().expect(0);
    setting.assert_arrived();
}

#[test]
fn t17_a_home_that_is_read_only_or_of_another_user() {
    use std::os::unix::fs::PermissionsExt;
    let setting = Setting::new();
    for mode in [0o555, 0o000] {
        let home = setting.scratch.dir(&format!("home {mode:o}"));
        fs::set_permissions(&home, fs::Permissions::from_mode(mode)).expect("a mode");
        let (receiver, listening) = setting.waiting_receiver();
        let mut command = setting.command(&["send", &setting.source(), "--to", &listening.ticket]);
        command.env_remove("TOWLINE_IDENTITY").env_remove("XDG_CONFIG_HOME").env("HOME", &home);
        bound_by_permissions(|| expect(&mut command, 0));
        receiver.end().expect(0);
        setting.assert_arrived();
    }
}

/// Whoever names a place for the key wants it there.
#[test]
fn t17_an_identity_that_was_named_must_be_there() {
    let setting = Setting::new();
    let (_receiver, listening) = setting.waiting_receiver();
    let mut command = setting.command(&["send", &setting.source(), "--to", &listening.ticket]);
    let said = expect(command.env("TOWLINE_IDENTITY", "/dev/null/identity.pem"), 1);
    assert!(said.contains("/dev/null/identity.pem"), "{said}");
    for page in [&["--help"][..], &["send", "--help"], &["receive", "--help"]] {
        assert!(expect(&mut setting.command(page), 0).contains("TOWLINE_IDENTITY"), "{page:?}");
    }
    let pages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("man");
    for page in ["towline.1", "towline-send.1", "towline-receive.1"] {
        assert!(fs::read_to_string(pages.join(page)).expect("a page").contains("TOWLINE_IDENTITY"), "{page}");
    }
}

#[test]
fn t18_white_space_in_a_ticket_does_not_matter() {
    let setting = Setting::new();
    for fold in [
        |ticket: &str| format!("{}\n{}\n", &ticket[..60], &ticket[60..]),
        |ticket: &str| format!(" {}\r\n  {}\r\n", &ticket[..40], &ticket[40..]),
        |ticket: &str| ticket.as_bytes().chunks(5).map(|c| String::from_utf8_lossy(c) + " ").collect(),
        |ticket: &str| format!("{ticket}\r"),
    ] {
        let (sender, listening) = setting.waiting_sender();
        let folded = fold(&listening.ticket);
        expect(setting.command(&["receive", "--into", "inbox"]).env("TOWLINE_FROM", &folded), 0);
        sender.end().expect(0);
        setting.assert_arrived();

        let (receiver, listening) = setting.waiting_receiver();
        let folded = fold(&listening.ticket);
        expect(&mut setting.command(&["send", &setting.source(), "--to", &folded]), 0);
        receiver.end().expect(0);
        setting.assert_arrived();
    }
}

#[test]
fn a_ticket_for_two_serves_two_in_both_directions() {
    let setting = Setting::new();
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--uses", "2"]);
    for _ in 0..2 {
        setting.sender.send(["--to", &listening.ticket, &setting.source()]).expect(0);
        setting.assert_arrived();
    }
    let received = receiver.end().expect(0);
    assert_eq!(received.events("finished").count(), 2, "{}", received.said());
    let (sender, listening) = setting.receiver.listen_send(setting.source().as_ref(), &["--uses", "2"]);
    let receive = || setting.sender.receive(["--from", &listening.ticket, "--into", setting.inbox()]);
    receive().expect(0);
    setting.assert_arrived();
    // A use is used up, whatever became of it.
    fs::write(setting.inbox.join("file"), b"other").expect("a file");
    receive().expect(5);
    sender.end().expect(5);
    let refused = setting.sender.send(["--uses", "2", "--receipt", "r", &setting.source()]).expect(2);
    assert!(refused.said().contains("--receipt"), "{}", refused.said());
}

#[test]
fn an_expired_ticket_is_refused_and_the_next_one_works() {
    let setting = Setting::new();
    let (mut receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--expires", "1s"]);
    let mut next = receiver.wait_for("listening");
    assert_ne!(next["ticket"], listening.ticket);
    assert_ne!(next["code"], serde_json::Value::Null);
    let ended = setting.sender.send(["--to", &listening.ticket, &setting.source()]).expect(4);
    assert_eq!(ended.event("error")["reason"], "ticket-expired", "{}", ended.said());
    // On a busy machine it may expire before it is used.
    loop {
        let ticket = next["ticket"].as_str().expect("a ticket");
        match setting.sender.send(["--to", ticket, &setting.source()]) {
            ended if ended.code == Some(4) => next = receiver.wait_for("listening"),
            ended => break drop(ended.expect(0)),
        }
    }
    receiver.end().expect(0);
    setting.assert_arrived();
}

#[test]
fn t18_no_message_holds_a_ticket() {
    let setting = Setting::new();
    let (_receiver, listening) = setting.waiting_receiver();
    let ticket = listening.ticket.as_str();
    let other_version = ticket.replacen("tl1", "tl2", 1);
    let (cut, dashed) = (&ticket[..60], format!("{}-{}", &ticket[..50], &ticket[50..]));
    let (headless, dotted) = (&ticket[1..], format!("{ticket}."));
    // One of the digits that base32 does not have.
    let mistyped = format!("{}0{}", &ticket[..50], &ticket[51..]);
    fs::write(setting.scratch.path().join("c.toml"), format!("from = \"{ticket}\nmemory = 1\n"))
        .expect("a file");
    fs::write(setting.scratch.path().join("@file"), &mistyped).expect("a file");
    let source = setting.source();
    let (source, peers) = (source.as_str(), [&*other_version, cut, &dashed, headless, &dotted, &mistyped]);
    let mut lines: Vec<Vec<&str>> = vec![
        vec![ticket],
        vec!["send", ticket],
        vec!["send", ticket, source],
        vec!["send", source, "--timeout", ticket],
        vec!["send", source, "--fingerprint", ticket, "--to", "localhost"],
        vec!["send", source, "--exists", ticket],
        vec!["send", source, "--to"],
        vec!["receive", "--form", ticket],
        vec!["receive", "--exists", ticket],
        vec!["receive", "--listen", ticket],
        vec!["receive", "--config", "c.toml"],
        vec!["receive", "--from", "@@file"],
        vec!["id", ticket],
        vec!["bench", ticket],
    ];
    for peer in peers {
        lines.push(vec!["send", source, "--to", peer]);
        lines.push(vec!["send", source, peer]);
        lines.push(vec!["receive", "--from", peer]);
        lines.push(vec!["receive", peer]);
    }
    for line in lines {
        let (code, said) = run(&mut setting.command(&line));
        assert_eq!(code, Some(2), "{line:?}\n{said}");
        let parts = (0..ticket.len() - 20).step_by(5).map(|at| &ticket[at..at + 20]);
        for part in parts {
            assert!(!said.contains(part), "{line:?}: {said}");
        }
    }
}

#[test]
fn t21_a_ticket_stands_where_other_programs_have_it() {
    let setting = Setting::new();
    let (receiver, listening) = setting.waiting_receiver();
    expect(&mut setting.command(&["send", "-r", &setting.source(), &listening.ticket]), 0);
    receiver.end().expect(0);
    setting.assert_arrived();

    let (sender, listening) = setting.waiting_sender();
    expect(&mut setting.command(&["receive", "--into", "inbox", &listening.ticket]), 0);
    sender.end().expect(0);
    setting.assert_arrived();

    // A file of that name is a file.
    fs::write(setting.scratch.path().join(&listening.ticket), b"a file").expect("a file");
    let to = format!("dir:{}", setting.inbox.display());
    expect(&mut setting.command(&["send", &listening.ticket, "--to", &to]), 0);
    assert_eq!(fs::read(setting.inbox.join(&listening.ticket)).expect("it came"), b"a file");
}
