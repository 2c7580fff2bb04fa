//! Fault 2 of the trials: a reader that is slow or reads nothing changes nothing about a transfer and does not keep
//! the process from ending.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::host::cases;
use crate::support::process::DEADLINE;
use crate::support::setting::Setting;
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, Winsize, tcflow, tcsetwinsize};
use serde_json::Value;

/// `--timeout` of the transfers here: a side that is held up longer would be taken for dead.
const TIMEOUT: &str = "3s";
/// Longer than that.
const UNREAD: Duration = Duration::from_secs(5);
/// A signal ends a process within this time on a busy machine, whoever reads. One that waits for its reader never ends.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Small files in the source: their lines are more than a pipe holds.
const FILES: usize = 400;

impl Setting {
    /// With files to send.
    fn with_many_files() -> Self {
        let setting = Self::new();
        let source = setting.scratch.dir("source");
        for n in 0..FILES {
            fs::write(source.join(format!("file {n}")), n.to_string()).expect("a file");
        }
        fs::write(source.join("large"), vec![7; 2 << 20]).expect("a file");
        setting
    }

    fn many_files(&self) -> String {
        self.path("source").to_str().expect("a plain path").to_owned()
    }

    #[track_caller]
    fn assert_all_arrived(&self) {
        let there = self.inbox.join("source");
        assert_eq!(fs::read_dir(&there).expect("it came").count(), FILES + 1);
        assert_eq!(fs::read(there.join("large")).expect("it came").len(), 2 << 20);
    }
}

/// Ends with the test.
struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("a signal to a child");
    }

    /// Its end, which must come within `max`.
    #[track_caller]
    fn end_within(&mut self, max: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < max, "it has not ended within {max:?}");
            sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM ends it in time. Its exit code.
    #[track_caller]
    fn stop(&mut self) -> Option<i32> {
        assert!(self.0.try_wait().expect("a child").is_none(), "it waits for its reader");
        self.signal(Signal::TERM);
        self.end_within(STOP_MAX).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe that takes nothing until somebody reads: it is full of new lines.
fn full_pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (reader, mut writer) = (OwnedFd::from(reader), File::from(OwnedFd::from(writer)));
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("flags");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl_setfl(&writer, flags).expect("flags");
    (reader.into(), writer.into())
}

/// The events, one on each line.
fn events(mut reader: impl Read) -> Vec<Value> {
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A terminal of 80 columns that has been stopped, as by Ctrl-S.
struct StoppedTerminal {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl StoppedTerminal {
    fn new() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let theirs =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("a terminal");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).expect("a size");
        tcflow(&theirs, Action::OOff).expect("it stops");
        Self { ours, theirs }
    }

    fn stdio(&self) -> Stdio {
        self.theirs.try_clone().expect("a descriptor").into()
    }

    /// Ctrl-Q; what the process then writes until it ends.
    fn read_on(self) -> String {
        let Self { ours, theirs } = self;
        tcflow(&theirs, Action::OOn).expect("it goes on");
        drop(theirs);
        let mut bytes = Vec::new();
        // A terminal that nobody has open any more gives an error at its end.
        let _ = File::from(ours).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// `receive ARGS` on loopback with what it says going to `stdout` and `stderr`; its ticket is read off `ticket`.
fn receive_ticket(lines: impl Read) -> String {
    let mut lines = BufReader::new(lines).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("tl1")));
    let line = line.expect("a ticket");
    let ticket = line.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| word.starts_with("tl1"));
    ticket.expect("a ticket").to_owned()
}

/// The receiver's standard output is read up to the ticket and then no more.
#[test]
fn fault_2_a_receiver_whose_events_nobody_reads_receives_and_ends() {
    let setting = Setting::with_many_files();
    let mut command = setting.receiver.command(["receive", "--json", "--timeout", TIMEOUT, "--into"]);
    command.arg(&setting.inbox).args(["--listen", "127.0.0.1:0"]);
    let mut receiver = Running::spawn(&mut command);
    let mut stdout = receiver.0.stdout.take().expect("piped");
    let ticket = receive_ticket(&mut stdout);
    setting.sender.send(["--timeout", TIMEOUT, "--to", &ticket, &setting.many_files()]).expect(0);
    setting.assert_all_arrived();
    sleep(UNREAD);
    // What a late reader still gets is all there is.
    let events = events(stdout);
    assert_eq!(events.last().expect("events")["event"], "finished");
    assert_eq!(receiver.end_within(DEADLINE).code(), Some(0));
    let files = events.iter().filter(|e| e["event"] == "file").count();
    // The first few were buffered with the ticket.
    assert!((FILES / 2..=FILES + 1).contains(&files), "{files}");
}

#[test]
fn fault_2_a_sender_whose_events_nobody_reads_sends_and_a_signal_ends_it() {
    let setting = Setting::with_many_files();
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--timeout", TIMEOUT]);
    let (reader, writer) = full_pipe();
    let mut command = setting.sender.command(["send", "--json", "--timeout", TIMEOUT, "--to"]);
    command.args([&listening.ticket, &setting.many_files()]).stdout(writer);
    let mut sender = Running::spawn(&mut command);
    drop(command);
    receiver.end().expect(0);
    setting.assert_all_arrived();
    // The transfer is complete, whoever knows of it.
    assert_eq!(sender.stop(), Some(0));
    drop(reader);
}

#[test]
fn fault_2_events_are_kept_for_a_slow_reader() {
    let setting = Setting::with_many_files();
    let to = format!("dir:{}", setting.inbox());
    let (reader, writer) = full_pipe();
    let mut command = setting.sender.command(["send", "--json", "--timeout", TIMEOUT, "--to"]);
    command.args([&to, &setting.many_files()]).stdout(writer);
    let mut sender = Running::spawn(&mut command);
    drop(command);
    sleep(UNREAD);
    setting.assert_all_arrived();
    let events = events(reader);
    assert_eq!(sender.end_within(DEADLINE).code(), Some(0));
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(events.last().expect("events")["event"], "finished");
    assert_eq!((count("file"), count("left_out"), count("finished")), (FILES + 1, 0, 1));
    assert!(count("progress") <= 3, "progress is merged: {}", count("progress"));
}

#[test]
fn fault_2_a_failure_is_kept_for_a_slow_reader() {
    let setting = Setting::with_many_files();
    let into = setting.scratch.path().join("a file");
    fs::write(&into, b"in the way").expect("a file");
    let (reader, writer) = full_pipe();
    let mut command = setting.receiver.command(["receive", "--json", "--into"]);
    command.arg(&into).stdout(writer);
    let mut receiver = Running::spawn(&mut command);
    drop(command);
    sleep(Duration::from_millis(500));
    let events = events(reader);
    assert_eq!(receiver.end_within(DEADLINE).code(), Some(6));
    let last = events.last().expect("events");
    assert_eq!((&last["event"], &last["exit_code"]), (&"error".into(), &6.into()));
}

#[test]
fn fault_2_plain_lines_that_nobody_reads_hold_nothing_up() {
    let setting = Setting::with_many_files();
    let to = format!("dir:{}", setting.inbox());
    for verbose in ["-q", "-v", "-vvv"] {
        let (_reader, writer) = full_pipe();
        let mut command = setting.sender.command(["send", verbose, "--timeout", TIMEOUT, "--to"]);
        command.args([&to, &setting.many_files()]).stderr(writer);
        let mut sender = Running::spawn(&mut command);
        drop(command);
        if verbose == "-q" {
            // There is nothing to say.
            assert_eq!(sender.end_within(DEADLINE).code(), Some(0));
        } else {
            sleep(UNREAD);
            setting.assert_all_arrived();
            assert_eq!(sender.stop(), Some(0), "{verbose}");
        }
    }
}

#[test]
fn fault_2_a_stopped_terminal_holds_nothing_up() {
    for progress in [&[][..], &["--no-progress"]].into_iter().take(cases(2)) {
        let setting = Setting::with_many_files();
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--timeout", TIMEOUT]);
        let terminal = StoppedTerminal::new();
        let mut command = setting.sender.command(["send", "--timeout", TIMEOUT, "--to"]);
        command.args([&listening.ticket, &setting.many_files()]).args(progress).env("TERM", "xterm");
        command.stdout(terminal.stdio()).stderr(terminal.stdio());
        let mut sender = Running::spawn(&mut command);
        drop(command);
        receiver.end().expect(0);
        setting.assert_all_arrived();
        sleep(UNREAD);
        assert!(sender.0.try_wait().expect("a child").is_none(), "it waits for its reader");
        let text = terminal.read_on();
        assert!(text.contains(&format!("sent {} files", FILES + 1)), "{text}");
        assert_eq!(sender.end_within(DEADLINE).code(), Some(0));
    }
}

#[test]
fn fault_2_a_signal_ends_a_transfer_on_a_stopped_terminal() {
    let setting = Setting::with_many_files();
    let terminal = StoppedTerminal::new();
    let mut command = setting.sender.command(["send", "--listen", "127.0.0.1:0", &setting.many_files()]);
    command.env("TERM", "xterm").stdout(terminal.stdio()).stderr(terminal.stdio());
    let mut sender = Running::spawn(&mut command);
    // Enough time to start listening: the process must watch for signals before the signal comes.
    sleep(Duration::from_secs(1));
    assert_eq!(sender.stop(), Some(143));
}

#[test]
fn fault_2_an_unread_result_is_a_failure() {
    let setting = Setting::with_many_files();
    for args in [
        &["id"][..],
        &["id", "--json"],
        &["bench", "--size", "1M"],
        &["bench", "--size", "1M", "--json"],
        &["bench", "--size", "1M", "--no-progress"],
    ] {
        let (_reader, writer) = full_pipe();
        let mut command = setting.sender.command(args);
        command.stdout(writer);
        let mut child = Running::spawn(&mut command);
        drop(command);
        // Enough time to reach the result: the process must watch for signals before the signal comes.
        sleep(Duration::from_secs(1));
        assert_eq!(child.stop(), Some(143), "{args:?}");
        let mut said = String::new();
        child.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(said.contains("cannot write the result to standard output: nobody reads it"), "{said}");
    }
}

fn fifo(at: &Path) {
    mkfifoat(CWD, at, Mode::from_raw_mode(0o600)).expect("a FIFO");
}

#[test]
fn fault_2_a_manifest_that_nobody_reads_holds_nothing_up() {
    let setting = Setting::with_many_files();
    let manifest = setting.scratch.path().join("manifest");
    fifo(&manifest);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--timeout", TIMEOUT]);
    let mut command = setting.sender.command(["send", "--json", "--timeout", TIMEOUT, "--manifest"]);
    command.arg(&manifest).args(["--to", &listening.ticket, &setting.many_files()]);
    let mut sender = Running::spawn(&mut command);
    receiver.end().expect(0);
    setting.assert_all_arrived();
    assert_eq!(sender.stop(), Some(143));
    let mut said = String::new();
    sender.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("cannot write the manifest") && said.contains("nobody reads it"), "{said}");
}

#[test]
fn fault_2_a_manifest_that_is_read_late_is_whole() {
    let setting = Setting::with_many_files();
    let manifest = setting.scratch.path().join("manifest");
    fifo(&manifest);
    let to = format!("dir:{}", setting.inbox());
    let mut command = setting.sender.command(["send", "--quiet", "--timeout", TIMEOUT, "--manifest"]);
    command.arg(&manifest).args(["--to", &to, &setting.many_files()]);
    let mut sender = Running::spawn(&mut command);
    sleep(UNREAD);
    setting.assert_all_arrived();
    let lines = fs::read_to_string(&manifest).expect("lines");
    assert_eq!(sender.end_within(DEADLINE).code(), Some(0));
    assert_eq!(lines.lines().count(), FILES + 1);
}
