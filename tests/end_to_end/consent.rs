//! Questions to the person at a terminal: whether to receive, and whether both sides show the same words.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::support::process::{Machine, Towline};
use crate::support::setting::Setting;
use crate::support::terminal::OnTerminal;

/// A name that would clear the screen.
const NAME: &[u8] = b"a\x1b[2Jb";

impl Setting {
    /// A directory with one file that has a bad name.
    fn photos(&self) -> String {
        let source = self.scratch.dir("photos");
        fs::write(source.join("one"), [1; 2048]).expect("a file");
        let bad = self.path("").join(std::ffi::OsStr::from_bytes(NAME));
        fs::write(bad, b"").expect("a file");
        source.to_str().expect("a plain path").to_owned()
    }

    fn bad_source(&self) -> PathBuf {
        self.path("").join(std::ffi::OsStr::from_bytes(NAME))
    }

    /// A receiver on a terminal that waits, and its ticket.
    fn receiver_on_terminal(&self, args: &[&str]) -> (OnTerminal, String) {
        let into = self.path("new");
        let listen = ["receive", "--listen", "127.0.0.1:0", "--into", into.to_str().expect("a plain path")];
        let mut receiver = OnTerminal::start(&self.receiver.command([&listen[..], args].concat()));
        let ticket = receiver.word("tl1");
        (receiver, ticket)
    }

    fn sender(&self, ticket: &str, source: &str) -> Towline {
        let bad = self.bad_source();
        self.sender.start_send([source.as_ref(), bad.as_os_str(), "--to".as_ref(), ticket.as_ref()])
    }
}

/// Its fingerprint.
fn key(machine: &Machine) -> String {
    let ended = machine.start(["id", "--json"]).end().expect(0);
    ended.event("identity")["fingerprint"].as_str().expect("text").to_owned()
}

#[test]
fn a_receiver_sees_who_offers_what_and_a_yes_begins_the_transfer() {
    let setting = Setting::new();
    let source = setting.photos();
    let (mut receiver, ticket) = setting.receiver_on_terminal(&[]);
    let mut sender = setting.sender(&ticket, &source);
    sender.wait_for("asked");
    receiver.wait_for("[y/N] ");
    let screen = receiver.screen();
    let key = &key(&setting.sender)[..8];
    for part in [
        &format!("(key {key}…) offers"),
        "  photos/\r\n",
        "  a\\u{1b}[2Jb\r\n",
        "Receive 2 files, 2.00 KiB into ",
    ] {
        assert!(screen.contains(part), "no {part}:\n{screen}");
    }
    assert!(!screen.contains("\x1b[2J") && !setting.path("new/photos").exists(), "{screen}");
    receiver.types("y\n");
    sender.end().expect(0);
    let (code, screen) = receiver.end();
    assert_eq!((code, screen.matches("[y/N]").count()), (Some(0), 1), "{screen}");
    assert_eq!(fs::read(setting.path("new/photos/one")).expect("it came"), [1; 2048]);
}

#[test]
fn a_no_is_exit_code_5_on_both_sides_and_nothing_is_left() {
    for answer in ["n\n", "\n"] {
        let setting = Setting::new();
        let source = setting.photos();
        let (mut receiver, ticket) = setting.receiver_on_terminal(&[]);
        let sender = setting.sender(&ticket, &source);
        receiver.wait_for("[y/N] ");
        receiver.types(answer);
        let sent = sender.end().expect(5);
        let message = sent.event("error")["message"].as_str().expect("text").to_owned();
        assert!(message.contains("the person there declined"), "{message}");
        let (code, screen) = receiver.end();
        assert_eq!(code, Some(5), "{screen}");
        assert!(screen.contains("declined; nothing was received"), "{screen}");
        assert!(!setting.path("new").exists());
    }
}

#[test]
fn ctrl_c_at_the_question_is_130_here_and_9_there() {
    let setting = Setting::new();
    let source = setting.photos();
    let (mut receiver, ticket) = setting.receiver_on_terminal(&[]);
    let sender = setting.sender(&ticket, &source);
    receiver.wait_for("[y/N] ");
    receiver.types("\x03");
    sender.end().expect(9);
    let (code, screen) = receiver.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("\r\ntowline:"), "the line of the question is ended: {screen}");
}

#[test]
fn with_yes_and_from_a_known_peer_nothing_is_asked() {
    let setting = Setting::new();
    let source = setting.photos();
    let (receiver, ticket) = setting.receiver_on_terminal(&["--yes"]);
    setting.sender(&ticket, &source).end().expect(0);
    let (code, screen) = receiver.end();
    assert_eq!((code, screen.contains("[y/N]")), (Some(0), false), "{screen}");
    // By the ticket, but with a key that is known and may send.
    let key = key(&setting.sender);
    let add = setting.receiver.command(["peers", "add", "ann", &key, "--may", "send"]).output();
    assert!(add.expect("it starts").status.success());
    let (receiver, ticket) = setting.receiver_on_terminal(&[]);
    setting.sender(&ticket, &source).end().expect(0);
    let (code, screen) = receiver.end();
    assert_eq!((code, screen.contains("[y/N]")), (Some(0), false), "{screen}");
}

#[test]
fn with_verify_both_sides_show_the_same_words_and_a_no_is_exit_code_4() {
    for agree in [true, false] {
        let setting = Setting::new();
        let source = setting.photos();
        let (mut receiver, ticket) = setting.receiver_on_terminal(&["--verify", "--yes"]);
        let mut sender =
            OnTerminal::start(&setting.sender.command(["send", &source, "--to", &ticket, "--verify"]));
        let mut words = Vec::new();
        for side in [&mut receiver, &mut sender] {
            side.wait_for("[y/N] ");
            let screen = side.screen();
            let (_, after) = screen.split_once("compare with the other side: ").expect("words");
            words.push(after.split_whitespace().next().expect("words").to_owned());
        }
        assert_eq!(words[0], words[1]);
        assert_eq!(words[0].split('-').count(), 4, "{words:?}");
        assert!(!setting.path("new/photos").exists());
        sender.types("y\n");
        receiver.types(if agree { "y\n" } else { "n\n" });
        let code = Some(if agree { 0 } else { 4 });
        for side in [sender, receiver] {
            let (ended, screen) = side.end();
            assert_eq!(ended, code, "{screen}");
        }
        assert_eq!(setting.path("new/photos/one").exists(), agree);
    }
    let setting = Setting::new();
    let refused = setting.sender.command(["send", "/dev/null", "--verify"]).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(2), "without a terminal nobody can be asked");
}
