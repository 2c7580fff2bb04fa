//! Transfers that are killed in the middle, and started again.

mod support;

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use support::process::{Machine, Towline};
use support::random::Random;
use support::{Scratch, Seed};

const MIB: usize = 1 << 20;
const SIZE: usize = 64 * MIB;
/// Four seconds for the whole file, so that there are checkpoints on the way.
const RATE: &str = "16M";

/// Which processes are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Receiver,
    Sender,
    Both,
}

fn source(scratch: &Scratch, seed: &Seed) -> std::path::PathBuf {
    let path = scratch.dir("source").join("file");
    let mut random = Random::new(seed.value);
    let bytes: Vec<u8> = (0..SIZE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    fs::write(&path, bytes).expect("a file");
    path
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).expect("a directory").map(|e| name(e).into_string().expect("text")).collect();
    names.sort();
    names
}

fn is_written(bytes: usize) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "progress" && event["written_bytes"].as_u64() >= Some(bytes as u64)
}

fn kill(process: Towline) {
    process.signal(Signal::KILL);
    assert_eq!(process.end().code, None);
}

/// Runs the same two commands until the file is there; kills as `killed` says when three and then six eighths are
/// written.
fn goes_on(killed: Killed, sender_waits: bool) {
    let (scratch, seed) = (Scratch::new(), Seed::new(17));
    let (source, inbox) = (source(&scratch, &seed), scratch.path().join("inbox"));
    let from = Machine::new(scratch.path().join("sender"));
    let to = Machine::new(scratch.path().join("receiver"));
    let start = || {
        if sender_waits {
            let (send, listening) =
                from.listen_send(&source, &["--bwlimit", RATE, "--timeout", "2s", "--retry", "0"]);
            let receive = to.start_receive([
                "--from".as_ref(),
                listening.ticket.as_ref(),
                "--into".as_ref(),
                inbox.as_os_str(),
                "--timeout".as_ref(),
                "2s".as_ref(),
                "--retry".as_ref(),
                "0".as_ref(),
            ]);
            (send, receive)
        } else {
            let (receive, listening) = to.listen_receive(&inbox, &["--timeout", "2s", "--retry", "0"]);
            let to: [&std::ffi::OsStr; 9] = [
                source.as_ref(),
                "--to".as_ref(),
                listening.ticket.as_ref(),
                "--bwlimit".as_ref(),
                RATE.as_ref(),
                "--timeout".as_ref(),
                "2s".as_ref(),
                "--retry".as_ref(),
                "0".as_ref(),
            ];
            (from.start_send(to), receive)
        }
    };
    for eighths in [3, 6] {
        let (send, mut receive) = start();
        receive.wait_until("the bytes to be written", is_written(eighths * SIZE / 8));
        match killed {
            Killed::Receiver => {
                kill(receive);
                assert_ne!(send.end().code, Some(0));
            }
            Killed::Sender => {
                kill(send);
                assert_ne!(receive.end().code, Some(0));
            }
            Killed::Both => {
                kill(receive);
                kill(send);
            }
        }
        assert_eq!(names(&inbox), [".towline"], "a final name holds part of a file");
    }
    let listed = to.start(["receive", "--json", "--list-partial", "--into", inbox.to_str().expect("text")]);
    let listed = listed.end().expect(0);
    let partial = listed.event("partial");
    assert_eq!((&partial["path"], &partial["state"]), (&"file".into(), &"kept".into()));
    let safe = partial["safe_bytes"].as_u64().expect("a number");
    assert!(safe >= 32 << 20, "{partial}");

    let (send, receive) = start();
    let (sent, received) = (send.end().expect(0), receive.end().expect(0));
    for finished in [sent.event("finished"), received.event("finished")] {
        assert_eq!(finished["resumed_bytes"], safe, "{killed:?}");
        assert_eq!(finished["synced"], true);
    }
    assert_eq!(names(&inbox), ["file"]);
    assert!(fs::read(inbox.join("file")).expect("it is there") == fs::read(&source).expect("a file"));
}

#[test]
fn a_killed_receiver_goes_on() {
    goes_on(Killed::Receiver, false);
}

#[test]
fn a_killed_sender_goes_on() {
    goes_on(Killed::Sender, true);
}

#[test]
fn both_are_killed_and_go_on() {
    goes_on(Killed::Both, false);
}
