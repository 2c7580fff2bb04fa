//! ssh as a program that runs beside this one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::info;

use super::install::Install;
use super::shell;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;
use crate::transport::BytePipe;

/// What a towline that this one can talk to says with its version.
pub const SPEAKS: &str = "speaks towline/1, introduction 1.";

/// How long ssh and the other side may take to end.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// After its end, what it has said on standard error is there, or another process holds that.
const LAST_WORDS_TIME: Duration = Duration::from_millis(200);
/// Lines of standard error that are kept: the last ones.
const LINES_MAX: usize = 20;
/// Bytes of a line.
const LINE_BYTES_MAX: usize = 1000;
/// How long `ssh -G` may take.
const CONFIG_TIME_MAX: Duration = Duration::from_secs(5);

/// For OpenSSH: no terminal and no command of the user's configuration, nothing forwarded.
const OPTIONS: [&str; 5] = [
    "-ax",
    "-oRequestTTY=no",
    "-oRemoteCommand=none",
    "-oClearAllForwardings=yes",
    "-oPermitLocalCommand=no",
];

/// A machine that ssh reaches, and what is to be started there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// ssh: its program and arguments.
    pub ssh: Vec<OsString>,
    /// `[USER@]HOST`, as ssh takes it.
    pub destination: String,
    /// The host in it.
    pub host: String,
    /// Arguments of towline there.
    pub args: Vec<OsString>,
    /// What is done if there is no towline there.
    pub install: Install,
}

impl Remote {
    /// Whether the program is OpenSSH's, by its name.
    fn is_openssh(&self) -> bool {
        self.ssh.first().is_some_and(|program| Path::new(program).file_name() == Some("ssh".as_ref()))
    }

    fn command(&self) -> Command {
        let mut words = self.ssh.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_else(|| "ssh".into()));
        command.args(words);
        command
    }

    /// The name or address of the host after ssh's configuration is applied. `None` if ssh does not tell.
    pub(super) async fn configured_host(&self) -> Option<String> {
        if !self.is_openssh() {
            return None;
        }
        let mut command = self.command();
        command.args(["-G", &self.destination]);
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = timeout(CONFIG_TIME_MAX, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().find_map(|line| line.strip_prefix("hostname ")).map(str::to_owned)
    }
}

/// A running ssh. It is killed when this is dropped.
pub(in crate::connect) struct SshProgram {
    child: Child,
    host: String,
    pipe: Arc<BytePipe>,
    said: Lines,
    reading: JoinHandle<()>,
}

/// The end of an ssh.
#[derive(Debug)]
pub(in crate::connect) struct Ended {
    /// None if it had to be killed.
    pub(super) status: Option<ExitStatus>,
    /// The last lines of its standard error and of the other side's, each with the host before it.
    pub(in crate::connect) said: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, host: &str, line: &[u8]) {
        let line = printable(line.trim_ascii_end());
        if line.is_empty() {
            return;
        }
        info!("{host}: {line}");
        let mut lines = self.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl fmt::Debug for SshProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshProgram({})", self.host)
    }
}

impl SshProgram {
    /// Starts ssh, which starts towline on the other machine. A copy of this one is in the directory `dir` of the cache there.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub(super) fn start(remote: &Remote, dir: &str) -> Result<Self, Failure> {
        let mut command = remote.command();
        if remote.is_openssh() {
            command.args(OPTIONS);
        }
        let there = shell::command(SPEAKS, dir, &remote.args);
        command.arg(&remote.destination).arg(there);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| cannot_start(remote, &error))?;
        let (pipe, stderr) = pipes(&mut child).map_err(|error| {
            Failure::new(Reason::Internal, format!("cannot use the pipes of ssh: {error}"))
        })?;
        let (said, host) = (Lines::default(), remote.host.clone());
        let reading = tokio::spawn(gather(stderr, host.clone(), said.clone()));
        Ok(Self { child, host, pipe: Arc::new(pipe), said, reading })
    }

    /// Standard output and input of the other side.
    pub(super) fn pipe(&self) -> &Arc<BytePipe> {
        &self.pipe
    }

    /// Hangs up, and waits for the end of ssh and of the other side.
    pub(in crate::connect) async fn end(self) -> Ended {
        let Self { mut child, host, pipe, said, reading } = self;
        drop(pipe);
        let status = timeout(END_TIME_MAX, child.wait()).await.ok().and_then(Result::ok);
        // A master connection of ssh that stays keeps this open.
        let _ = timeout(LAST_WORDS_TIME, reading).await;
        let said = said.lock().iter().map(|line| format!("{host}: {line}")).collect();
        Ended { status, said }
    }
}

fn pipes(child: &mut Child) -> io::Result<(BytePipe, ChildStderr)> {
    let absent = || io::Error::other("one is missing");
    let input = child.stdout.take().ok_or_else(absent)?.into_owned_fd()?;
    let output = child.stdin.take().ok_or_else(absent)?.into_owned_fd()?;
    Ok((BytePipe::new(input, output)?, child.stderr.take().ok_or_else(absent)?))
}

fn cannot_start(remote: &Remote, error: &io::Error) -> Failure {
    let program = remote.ssh.first().map(|program| printable(program.as_encoded_bytes())).unwrap_or_default();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no program `{program}` on this machine: install the client of OpenSSH, or name another program with \
             --ssh"
        ),
        _ => format!("cannot start `{program}`: {error}"),
    };
    Failure::new(Reason::Setup, message)
}

/// Reads lines until nobody can write any more.
async fn gather(mut from: impl AsyncRead + Unpin, host: String, said: Lines) {
    let (mut room, mut line) = ([0; 1024], Vec::new());
    loop {
        match from.read(&mut room).await {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                for byte in &room[..len] {
                    match byte {
                        b'\n' => said.add(&host, &std::mem::take(&mut line)),
                        byte if line.len() < LINE_BYTES_MAX => line.push(*byte),
                        _ => {}
                    }
                }
            }
        }
    }
    said.add(&host, &line);
}
