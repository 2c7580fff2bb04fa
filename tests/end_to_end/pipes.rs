//! Standard input as a source: what a program writes arrives whole, and its producer feels the back pressure.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Output, Stdio};
use std::thread::{self, JoinHandle};

use crate::support::process::Machine;
use crate::support::setting::Setting;

const MIB: usize = 1 << 20;

/// Bytes that differ at every place.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Starts `towline ARGS` with pipes for standard input, output and error.
fn start(machine: &Machine, args: &[&str]) -> Child {
    machine.command(args).stdin(Stdio::piped()).spawn().expect("the program starts")
}

/// Writes `bytes` to the program, as far as it takes them, and closes its standard input.
fn feed(mut input: ChildStdin, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
    thread::spawn(move || input.write_all(&bytes))
}

#[track_caller]
fn end(child: Child, code: i32) -> Output {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    output
}

fn to_dir(dir: &Path) -> String {
    format!("dir:{}", dir.display())
}

#[test]
fn what_a_program_writes_arrives_as_a_file() {
    let setting = Setting::new();
    let to = to_dir(&setting.inbox);
    for (n, size) in [0, 1, 3 * MIB, 3 * MIB + 5].into_iter().enumerate() {
        let (name, data) = (format!("f{n}"), bytes(1, size));
        let mut send = start(&setting.sender, &["send", "-", "--name", &name, "--to", &to]);
        let fed = feed(send.stdin.take().expect("piped"), data.clone());
        let said = String::from_utf8(end(send, 0).stderr).expect("text");
        fed.join().expect("a thread").expect("all of it is taken");
        assert!(said.contains(&blake3::hash(&data).to_string()), "{said}");
        assert!(fs::read(setting.inbox.join(name)).expect("it came") == data);
    }
    // Without a name.
    let mut send = start(&setting.sender, &["send", "-", "--to", &to]);
    feed(send.stdin.take().expect("piped"), b"x".to_vec());
    end(send, 0);
    assert_eq!(fs::read(setting.inbox.join("stdin")).expect("it came"), b"x");
}

/// The receiver sees the end of a shorter file. `set -o pipefail` tells, and the documents say so.
#[test]
fn a_producer_that_is_killed_ends_the_transfer() {
    let setting = Setting::new();
    let mut send = start(&setting.sender, &["send", "-", "--to", &to_dir(&setting.inbox)]);
    let mut input = send.stdin.take().expect("piped");
    input.write_all(&bytes(1, MIB + 3)).expect("it is taken");
    drop(input);
    end(send, 0);
    assert_eq!(fs::read(setting.inbox.join("stdin")).expect("it came").len(), MIB + 3);
}
