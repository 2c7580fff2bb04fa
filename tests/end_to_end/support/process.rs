//! The program as a child process: its events as they come, its end, and no process left behind.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::raw::c_long;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::faults::Faults;

/// Longest wait for anything; generous, because a busy machine is not a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// One machine: an identity and a configuration of its own.
pub(crate) struct Machine {
    home: PathBuf,
    faults: Faults,
}

impl Machine {
    /// A machine that keeps its own things in `home`, which need not exist.
    pub(crate) fn new(home: PathBuf) -> Self {
        std::fs::create_dir_all(&home).expect("a home directory");
        Self { home, faults: Faults::default() }
    }

    /// The same machine, on which a system call (`nix::libc::SYS_…`) fails with `errno` every time.
    pub(crate) fn denying(mut self, call: c_long, errno: Errno) -> Self {
        self.faults.deny(call, errno);
        self
    }

    /// The same machine under strace with an option `-e`: [`Faults::inject`] has examples. Needs strace.
    pub(crate) fn injecting(mut self, expression: &str) -> Self {
        self.faults.inject(expression);
        self
    }

    /// The same machine with so many file descriptors for each process.
    pub(crate) fn with_descriptors(mut self, descriptors: u32) -> Self {
        self.faults.limit_descriptors(descriptors);
        self
    }

    /// `towline ARGS` on this machine, with no `TOWLINE_…` variable of the caller's.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TOWLINE_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("TOWLINE_IDENTITY", self.home.join("identity.pem"))
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env("HOME", &self.home);
        piped(&mut command);
        command
    }

    /// Starts `towline ARGS`, which have `--json` among them.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Towline {
        let args: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        Towline::spawn(self.command(&args), args, &self.faults)
    }

    /// Starts `towline send --json ARGS`.
    pub(crate) fn start_send<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Towline {
        self.start(before(&["send", "--json"], args))
    }

    /// Runs `towline send --json ARGS` to its end.
    pub(crate) fn send<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        self.start_send(args).end()
    }

    /// Starts `towline receive --json ARGS`.
    pub(crate) fn start_receive<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Towline {
        self.start(before(&["receive", "--json", "--yes"], args))
    }

    /// Runs `towline receive --json ARGS` to its end.
    pub(crate) fn receive<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        self.start_receive(args).end()
    }

    /// A receiver that waits on loopback and writes into `into`, and how to reach it.
    pub(crate) fn listen_receive(&self, into: &Path, args: &[&str]) -> (Towline, Listening) {
        let mut all: Vec<&OsStr> = vec!["--listen".as_ref(), "127.0.0.1:0".as_ref(), "--into".as_ref()];
        all.push(into.as_ref());
        all.extend(args.iter().map(AsRef::<OsStr>::as_ref));
        let mut child = self.start_receive(all);
        let listening = Listening::from_event(&child.wait_for("listening"));
        (child, listening)
    }

    /// A sender of `source` that waits on loopback, and how to reach it.
    pub(crate) fn listen_send(&self, source: &Path, args: &[&str]) -> (Towline, Listening) {
        let mut all: Vec<&OsStr> = vec!["--listen".as_ref(), "127.0.0.1:0".as_ref(), source.as_ref()];
        all.extend(args.iter().map(AsRef::<OsStr>::as_ref));
        let mut child = self.start_send(all);
        let listening = Listening::from_event(&child.wait_for("listening"));
        (child, listening)
    }

    /// Runs `towline bench --json ARGS` to its end.
    pub(crate) fn bench<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        self.start(before(&["bench", "--json"], args)).end()
    }

    /// The receiving side of a bench that waits on loopback, and how to reach it.
    pub(crate) fn listen_bench(&self, args: &[&str]) -> (Towline, Listening) {
        let mut child = self.start(before(&["bench", "--json", "--wait", "--listen", "127.0.0.1:0"], args));
        let listening = Listening::from_event(&child.wait_for("listening"));
        (child, listening)
    }
}

/// Standard input is empty, standard output and error are read by the test.
pub(super) fn piped(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

fn before<A: AsRef<OsStr>>(first: &[&str], args: impl IntoIterator<Item = A>) -> Vec<OsString> {
    let first = first.iter().map(OsString::from);
    first.chain(args.into_iter().map(|a| a.as_ref().to_owned())).collect()
}

/// How to reach a waiting side.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    /// The ticket.
    pub(crate) ticket: String,
    /// The address on loopback.
    pub(crate) address: SocketAddr,
    /// Fingerprint of the waiting side.
    pub(crate) fingerprint: String,
}

impl Listening {
    fn from_event(event: &Value) -> Self {
        let addresses = event["addresses"].as_array().expect("a list of addresses");
        let mut addresses = addresses.iter().map(|a| {
            a.as_str().and_then(|a| a.parse::<SocketAddr>().ok()).expect("addresses are ADDRESS:PORT")
        });
        let address = addresses.find(|a| a.ip().is_loopback()).expect("it listens on loopback");
        let text =
            |key: &str| event[key].as_str().unwrap_or_else(|| panic!("{key} is text: {event}")).to_owned();
        Self { ticket: text("ticket"), address, fingerprint: text("fingerprint") }
    }
}

/// A running `towline`. Dropping it kills it and, in a failing test, prints its output.
pub(crate) struct Towline {
    args: Vec<OsString>,
    child: Child,
    lines: Receiver<String>,
    events: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
    is_ended: bool,
}

impl Towline {
    /// Starts a command that a test has changed; it has `--json` among its arguments.
    pub(crate) fn of(command: Command) -> Self {
        let args = command.get_args().map(OsStr::to_owned).collect();
        Self::spawn(command, args, &Faults::default())
    }

    fn spawn(mut command: Command, args: Vec<OsString>, faults: &Faults) -> Self {
        let mut child = faults.spawn(&mut command).expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is still worth showing.
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { args, child, lines, events: Vec::new(), stderr: Some(stderr), is_ended: false }
    }

    /// The next event called `name`, the ones already seen not counted.
    pub(crate) fn wait_for(&mut self, name: &str) -> Value {
        self.wait_until(name, |event| event["event"] == name)
    }

    /// The next event that fulfils `condition`. Panics when the process ends before, or after [`DEADLINE`].
    pub(crate) fn wait_until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            let Some(event) = self.next_event(end) else { panic!("the process ended before {what}") };
            if condition(&event) {
                return event;
            }
        }
    }

    /// Waits until an event fulfils `condition`, the process has ended, or the time is over.
    pub(crate) fn reaches(&mut self, time: Duration, condition: impl Fn(&Value) -> bool) {
        let end = Instant::now() + time;
        while self.poll(end).is_ok_and(|event| event.is_some_and(|event| !condition(&event))) {}
    }

    /// `None` when standard output has ended.
    fn next_event(&mut self, end: Instant) -> Option<Value> {
        self.poll(end).unwrap_or_else(|_| panic!("nothing on standard output for {DEADLINE:?}"))
    }

    /// The same, or an error when there is no event by `end`.
    fn poll(&mut self, end: Instant) -> Result<Option<Value>, RecvTimeoutError> {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|e| panic!("standard output holds JSON Lines alone ({e}): {line}"));
                self.events.push(event.clone());
                Ok(Some(event))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        // The child has not been waited for: the id is its own.
        kill_process(self.pid(), signal).expect("a signal to a child");
    }

    /// Waits for the end, which comes when it closes its standard output.
    pub(crate) fn end(mut self) -> Ended {
        let end = Instant::now() + DEADLINE;
        while self.next_event(end).is_some() {}
        let status = self.child.wait().expect("a child can be waited for");
        self.is_ended = true;
        let stderr = self.take_stderr();
        if std::env::var_os("TOWLINE_TEST_VERBOSE").is_some() {
            eprintln!("{:?} -> {status}\n{stderr}", self.args);
        }
        Ended {
            args: self.args.clone(),
            code: status.code(),
            events: std::mem::take(&mut self.events),
            stderr,
        }
    }

    fn take_stderr(&mut self) -> String {
        self.stderr.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Drop for Towline {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        // It may have ended by itself just now; both calls are then without effect.
        let _ = self.child.kill();
        let status = self.child.wait();
        let stderr = self.take_stderr();
        if std::thread::panicking() {
            eprintln!("towline {:?}: {status:?}\n{}{stderr}", self.args, shown(&self.events));
        }
    }
}

fn shown(events: &[Value]) -> String {
    let kept = events.iter().filter(|e| e["event"] != "progress");
    kept.map(|e| format!("  {e}\n")).collect()
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    args: Vec<OsString>,
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// All that it said on standard output.
    pub(crate) events: Vec<Value>,
    /// All that it said on standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// Panics with the output of the process if the exit code is not `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let said = shown(&self.events);
        assert_eq!(self.code, Some(code), "towline {:?}\n{said}{}", self.args, self.stderr);
        self
    }

    /// The last event called `name`.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> &Value {
        let found = self.events.iter().rev().find(|e| e["event"] == name);
        found.unwrap_or_else(|| panic!("no {name}:\n{}{}", shown(&self.events), self.stderr))
    }

    /// All events called `name`.
    pub(crate) fn events(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |e| e["event"] == name)
    }

    /// The `file` event of `path`.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> &Value {
        let found = self.events("file").find(|e| e["path"] == path);
        found.unwrap_or_else(|| panic!("no file {path}:\n{}{}", shown(&self.events), self.stderr))
    }

    /// All that it said, to look for words in.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", shown(&self.events), self.stderr)
    }
}
