//! A peer learns the paths of entries, and never where on the other machine they lie.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::support::Scratch;
use crate::support::host::bound_by_permissions;
use crate::support::link::{LinkOptions, UdpLink};
use crate::support::process::{Ended, Machine};
use crate::support::random::Random;
use crate::support::ticket::redirect;
use nix::libc;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;

/// So slow a link that a transfer of [`LARGE_BYTES`] is still on the way when the source shrinks.
const SLOW_BYTES_PER_S: u64 = 4 << 20;
const LARGE_BYTES: usize = 24 << 20;

/// Two machines that share no directory: what each keeps lies below a name that tells it.
struct Two {
    _scratches: [Scratch; 2],
    sender: Machine,
    receiver: Machine,
    /// Sent as `tree`; `sub/file` and `link` are in it.
    tree: PathBuf,
    inbox: PathBuf,
    /// What neither output may hold of the other machine: sender's, receiver's.
    secrets: [String; 2],
}

impl Two {
    fn new() -> Self {
        let scratches = [(); 2].map(|()| Scratch::new());
        let [sender, receiver] =
            [0, 1].map(|side: usize| Machine::new(scratches[side].path().join("machine")));
        let tree = scratches[0].dir("kept by the sender").join("tree");
        fs::create_dir_all(tree.join("sub")).expect("a directory");
        fs::write(tree.join("sub/file"), b"bytes").expect("a file");
        let inbox = scratches[1].dir("kept by the receiver").join("inbox");
        fs::create_dir(&inbox).expect("a directory");
        let secrets = [0, 1].map(|side: usize| {
            let name = scratches[side].path().file_name().expect("a name");
            name.to_str().expect("a plain path").to_owned()
        });
        Self { _scratches: scratches, sender, receiver, tree, inbox, secrets }
    }

    /// Sends the tree, with `more` sources. Both ends must exit with `code`.
    fn transfer(&self, more: &[&str], code: i32) -> [Ended; 2] {
        let (receiver, listening) = self.receiver.listen_receive(&self.inbox, &[]);
        let tree = self.tree.to_str().expect("a plain path");
        let sent = self.sender.send([&["--to", &listening.ticket, tree], more].concat()).expect(code);
        [sent, receiver.end().expect(code)]
    }

    /// The side `teller` (0 sends, 1 receives) names whole paths. The other one says each of `told`, and nothing of
    /// the teller's machine.
    #[track_caller]
    fn assert_told(&self, ended: &[Ended; 2], teller: usize, told: &[&str]) {
        let [own, other] = [teller, 1 - teller].map(|side| &ended[side]);
        assert!(own.said().contains(&self.secrets[teller]), "people need the whole path: {}", own.said());
        for text in told {
            assert!(other.said().contains(text), "{text}: {}", other.said());
        }
        for (side, ended) in ended.iter().enumerate() {
            let said = format!("{:?}{}", ended.events, ended.stderr);
            for secret in
                [self.secrets[1 - side].as_str(), ["kept by the receiver", "kept by the sender"][side]]
            {
                assert!(!said.contains(secret), "{secret}: {}", ended.said());
            }
        }
    }
}

/// [W-12]
#[test]
fn fault_15_no_absolute_path_of_one_side_reaches_the_other() {
    // What is there, and what leads through it.
    let two = Two::new();
    fs::create_dir_all(two.inbox.join("tree/sub")).expect("a directory");
    fs::write(two.inbox.join("tree/sub/file"), b"other bytes").expect("a file");
    let ended = two.transfer(&[], 5);
    two.assert_told(&ended, 1, &["\"tree/sub/file already exists"]);
    let two = Two::new();
    fs::create_dir(two.inbox.join("tree")).expect("a directory");
    symlink("/nowhere", two.inbox.join("tree/sub")).expect("a link");
    let ended = two.transfer(&[], 5);
    two.assert_told(&ended, 1, &["\"tree/sub exists and", "its directory tree/sub is not"]);

    // The receiver's disk: full, and not to be written to. Both end the transfer.
    let mut two = Two::new();
    two.receiver = two.receiver.denying(libc::SYS_pwrite64, Errno::NOSPC);
    fs::write(two.tree.join("sub/file"), Random::new(51).bytes(3 << 20)).expect("a file");
    let ended = two.transfer(&[], 6);
    two.assert_told(&ended, 1, &["\"cannot write tree/sub/file: No space left"]);
    let mut two = Two::new();
    two.receiver = two.receiver.denying(libc::SYS_mkdirat, Errno::ACCESS);
    let ended = two.transfer(&[], 6);
    two.assert_told(&ended, 1, &["\"cannot stage files in the target directory: Permission denied"]);
}

#[test]
fn fault_15_skipped_entries_are_named_by_their_path_in_the_transfer() {
    let two = Two::new();
    // Deeper than any path may be.
    fs::create_dir_all(two.tree.join("deep/".repeat(128))).expect("directories");
    fs::create_dir(two.tree.join("closed")).expect("a directory");
    fs::set_permissions(two.tree.join("closed"), Permissions::from_mode(0o000)).expect("a mode");
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, two.tree.join("fifo"), FileType::Fifo, mode, 0).expect("a FIFO");
    let missing = two.tree.with_file_name("missing");
    let missing = missing.to_str().expect("a plain path");
    let ended = bound_by_permissions(|| two.transfer(&[missing], 7));
    let told = [
        "\"cannot send tree/deep/deep/",
        "\"cannot open tree/closed: Permission denied",
        "\"skipping FIFO tree/fifo",
        "\"cannot open missing: No such file",
    ];
    two.assert_told(&ended, 0, &told);
}

#[test]
fn fault_15_a_source_that_is_given_up_is_told_by_the_entry() {
    let two = Two::new();
    let file = two.tree.join("sub/file");
    fs::write(&file, Random::new(52).bytes(LARGE_BYTES)).expect("a file");
    let (receiver, listening) = two.receiver.listen_receive(&two.inbox, &[]);
    let slow = LinkOptions { rate_bytes_per_s: Some(SLOW_BYTES_PER_S), ..Default::default() };
    let link = UdpLink::start(listening.address, &slow);
    let ticket = redirect(&listening.ticket, listening.address, link.addr);
    let mut sender = two.sender.start_send(["--to", &ticket, two.tree.to_str().expect("a plain path")]);
    sender.wait_until("bytes on the way", |event| {
        event["event"] == "progress" && event["sent_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    fs::File::options().write(true).open(&file).expect("the source").set_len(1 << 20).expect("shorter");
    link.set_rate(None);
    let ended = [sender.end().expect(7), receiver.end().expect(7)];
    two.assert_told(&ended, 0, &["\"tree/sub/file changed while being sent"]);
}
