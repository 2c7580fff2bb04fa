//! Standard input as a source, standard output as a target: what a program writes comes out whole, and whoever is slow
//! holds up the others.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

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

/// A `receive --into -` that waits.
struct Piped {
    child: Child,
    said: BufReader<ChildStderr>,
    ticket: String,
}

impl Piped {
    fn start(machine: &Machine, args: &[&str]) -> Self {
        let all = ["receive", "--into", "-", "--json", "--listen", "127.0.0.1:0"];
        let mut child = start(machine, &[&all, args].concat());
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let ticket = event(&mut said, "listening")["ticket"].as_str().expect("a ticket").to_owned();
        Self { child, said, ticket }
    }

    /// Waits for the end, and returns the event of this name.
    #[track_caller]
    fn end(mut self, name: &str, code: i32) -> Value {
        let event = event(&mut self.said, name);
        assert_eq!(self.child.wait().expect("it ends").code(), Some(code), "{event}");
        event
    }
}

/// The next event of this name on standard error, where JSON stands alone.
fn event(from: &mut impl BufRead, name: &str) -> Value {
    for line in from.lines() {
        let line = line.expect("text");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        if event["event"] == name {
            return event;
        }
    }
    panic!("it ended before {name}");
}

/// The most memory that a process has taken, without the pages of its program.
fn peak_bytes(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let of = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    of("VmHWM:") - of("RssFile:")
}

#[test]
fn a_stream_comes_out_at_the_other_side_and_nothing_else_does() {
    let setting = Setting::new();
    let data = bytes(1, 5 * MIB + 3);
    fs::write(setting.path("file"), &data).expect("a file");
    let file = setting.path("file");
    for source in ["-", file.to_str().expect("a plain path")] {
        let mut receive = Piped::start(&setting.receiver, &[]);
        let mut send = start(&setting.sender, &["send", source, "--to", &receive.ticket]);
        feed(send.stdin.take().expect("piped"), data.clone());
        let mut read = Vec::new();
        receive.child.stdout.take().expect("piped").read_to_end(&mut read).expect("it can be read");
        assert!(read == data, "{source}");
        let finished = receive.end("finished", 0);
        assert_eq!(finished["blake3"], blake3::hash(&data).to_string());
        assert_eq!((&finished["piped"], &finished["synced"]), (&true.into(), &false.into()));
        let said = String::from_utf8(end(send, 0).stderr).expect("text");
        assert!(said.contains("verified and handed to a pipe"), "{said}");
    }
}

/// A consumer that takes its time: neither side buffers what it cannot hand on.
#[test]
fn a_slow_consumer_costs_no_memory() {
    let setting = Setting::new();
    let memory = ["--memory", "16M"];
    let mut receive = Piped::start(&setting.receiver, &memory);
    let args = [&["send", "-", "--to", &receive.ticket][..], &memory].concat();
    let mut send = start(&setting.sender, &args);
    let data = bytes(2, 48 * MIB);
    let fed = feed(send.stdin.take().expect("piped"), data.clone());
    let mut output = receive.child.stdout.take().expect("piped");
    let (mut hasher, mut peaks, mut block) = (blake3::Hasher::new(), [0, 0], vec![0; MIB]);
    let mut at = 0;
    while at < data.len() {
        let n = output.read(&mut block).expect("it can be read");
        assert!(n > 0, "it ends after {at} bytes");
        hasher.update(&block[..n]);
        // Before the end, after which a process has no memory.
        if at / (8 * MIB) != (at + n) / (8 * MIB) && at < 36 * MIB {
            thread::sleep(Duration::from_millis(20));
            peaks = [peak_bytes(&send), peak_bytes(&receive.child)];
        }
        at += n;
    }
    assert_eq!(hasher.finalize(), blake3::hash(&data));
    receive.end("finished", 0);
    end(send, 0);
    fed.join().expect("a thread").expect("all of it is taken");
    for peak in peaks {
        assert!(peak < 24 << 20, "{peaks:?}");
    }
}

/// The producer is alive and silent, so that nobody writes to the pipe when it breaks.
#[test]
fn a_consumer_that_dies_ends_both_sides() {
    let setting = Setting::new();
    for is_read in [true, false] {
        let mut receive = Piped::start(&setting.receiver, &[]);
        let mut send = start(&setting.sender, &["send", "-", "--to", &receive.ticket]);
        let mut input = send.stdin.take().expect("piped");
        input.write_all(&bytes(1, 2 * MIB)).expect("it is taken");
        let mut output = receive.child.stdout.take().expect("piped");
        if is_read {
            output.read_exact(&mut [0; 1000]).expect("a chunk came");
        }
        drop(output);
        let error = receive.end("error", 6);
        let message = error["message"].as_str().expect("text");
        assert!(message.starts_with("cannot write to standard output: Broken pipe"), "{message}");
        let said = String::from_utf8(end(send, 6).stderr).expect("text");
        assert!(said.contains("the receiver says: cannot write to standard output: Broken pipe"), "{said}");
        drop(input);
    }
}

#[test]
fn a_directory_is_not_written_to_a_pipe() {
    let setting = Setting::new();
    let mut receive = Piped::start(&setting.receiver, &[]);
    let send = start(&setting.sender, &["send", setting.inbox(), "--to", &receive.ticket]);
    let mut read = Vec::new();
    receive.child.stdout.take().expect("piped").read_to_end(&mut read).expect("it can be read");
    assert!(read.is_empty());
    receive.end("error", 5);
    let said = String::from_utf8(end(send, 5).stderr).expect("text");
    assert!(
        said.contains("standard output takes a single file, and the sender offers a directory"),
        "{said}"
    );
}

/// A terminal is neither read nor written without being asked for.
#[test]
fn what_a_terminal_cannot_do_is_a_usage_error() {
    let setting = Setting::new();
    let pty = || {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let pty = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::grantpt(&pty).and_then(|()| rustix::pty::unlockpt(&pty)).expect("a terminal");
        let name = rustix::pty::ptsname(&pty, Vec::new()).expect("its name");
        let path = Path::new(name.to_str().expect("a plain path"));
        let open = fs::OpenOptions::new().read(true).write(true).open(path).expect("its other end");
        (pty, open)
    };
    let (_master, terminal) = pty();
    let mut send = setting.sender.command(["send", "-", "--to", &to_dir(&setting.inbox)]);
    let said = send.stdin(terminal).output().expect("it runs");
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("standard input is a terminal"));
    let (_master, terminal) = pty();
    let receive = setting.receiver.command(["receive", "--into", "-"]).stdout(terminal).spawn();
    let said = receive.expect("it runs").wait_with_output().expect("it ends");
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("standard output is a terminal"));
}
