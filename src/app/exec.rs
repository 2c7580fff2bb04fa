//! `receive --exec`: a program that runs after each transfer that is complete.

use std::env;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::info;

use super::manifest::WithManifest;
use super::settings::ExecSettings;
use crate::auth::Fingerprint;
use crate::event::{Event, Outcome, Report, Reporter, Summary, TransferId};
use crate::protocol::path::{RelPath, printable};
use crate::protocol::program_end::ProgramEnd;
use crate::session::{AfterTransfer, Delivered, Running};

/// Variables that begin like this are settings of towline, and may hold secrets.
const OWN_VARIABLES: &[u8] = b"TOWLINE_";
/// Variables of the service manager, which are for this process only.
const VARIABLES_OF_SERVICE: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"];
/// Between SIGTERM and SIGKILL, and after SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Whose files arrive.
pub(super) struct FromPeer {
    /// The name of a known peer.
    pub(super) name: Option<String>,
    pub(super) fingerprint: Fingerprint,
    pub(super) address: SocketAddr,
}

/// Notes the names of the files of one transfer that arrive, runs the program with them, and passes every event on.
pub(super) struct WithProgram {
    settings: ExecSettings,
    /// The target directory.
    dir: PathBuf,
    from: FromPeer,
    manifest: Option<Arc<WithManifest>>,
    inner: Arc<dyn Reporter>,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    transfer: Option<TransferId>,
    /// The names, each with a NUL byte after it, in a file without a name: there may be millions.
    names: Option<BufWriter<File>>,
    error: Option<io::Error>,
}

impl WithProgram {
    /// For a transfer into `dir`. A complete `manifest` is there when the program runs.
    pub(super) fn new(
        settings: ExecSettings,
        dir: &Path,
        from: FromPeer,
        manifest: Option<Arc<WithManifest>>,
        inner: Arc<dyn Reporter>,
    ) -> Arc<Self> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Arc::new(Self { settings, dir, from, manifest, inner, noted: Mutex::default() })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> String {
        printable(self.settings.program.as_os_str().as_bytes())
    }

    /// Warns if the program did not run.
    pub(super) fn note_end(&self, summary: &Summary) {
        if summary.program.is_some() || summary.is_dry {
            return;
        }
        let message = format!("{} was not run, because not everything arrived", self.shown());
        self.inner.report(Event::Warning { path: None, reason: None, message });
    }

    async fn start_and_wait(&self, delivered: Delivered) -> io::Result<ProgramEnd> {
        let mut command = self.command(delivered)?;
        info!("runs {}", self.shown());
        let mut child = command.spawn()?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        drop(command);
        let Ok(ended) = timeout(self.settings.limit, child.wait()).await else {
            return group.end(&mut child).await.map(|()| ProgramEnd::TimedOut);
        };
        // What it has left in the background is its own affair.
        group.0 = None;
        ended.map(program_end)
    }

    fn command(&self, delivered: Delivered) -> io::Result<Command> {
        let names = self.noted().names()?;
        if let Some(manifest) = &self.manifest {
            manifest.flush()?;
        }
        let ExecSettings { program, args, .. } = &self.settings;
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir).stdin(names).process_group(0);
        // Standard output is for data and JSON.
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        let is_own = |name: &std::ffi::OsString| name.as_bytes().starts_with(OWN_VARIABLES);
        env::vars_os().map(|(name, _)| name).filter(is_own).for_each(|name| {
            command.env_remove(name);
        });
        VARIABLES_OF_SERVICE.iter().for_each(|name| {
            command.env_remove(name);
        });
        let FromPeer { name, fingerprint, address } = &self.from;
        let key = fingerprint.to_string();
        command
            .env("TOWLINE_HOOK_DIR", &self.dir)
            .env("TOWLINE_HOOK_PEER", name.as_ref().unwrap_or(&key))
            .env("TOWLINE_HOOK_FINGERPRINT", &key)
            .env("TOWLINE_HOOK_ADDRESS", address.to_string())
            .env("TOWLINE_HOOK_FILES", delivered.files.to_string())
            .env("TOWLINE_HOOK_BYTES", delivered.bytes.to_string())
            .env("TOWLINE_HOOK_IDENTICAL", delivered.identical.to_string())
            .env("TOWLINE_HOOK_SKIPPED", delivered.skipped.to_string());
        if let Some(transfer) = self.noted().transfer {
            command.env("TOWLINE_HOOK_TRANSFER", transfer.to_string());
        }
        if let Some(manifest) = &self.manifest {
            command.env("TOWLINE_HOOK_MANIFEST", std::path::absolute(manifest.path())?);
        }
        Ok(command)
    }
}

/// What takes the events of a transfer after which `program` runs, if there is one.
pub(super) fn reporter_of(
    program: Option<&Arc<WithProgram>>,
    other: &Arc<dyn Reporter>,
) -> Arc<dyn Reporter> {
    program.map_or_else(|| Arc::clone(other), |program| Arc::clone(program) as _)
}

impl Noted {
    fn add(&mut self, dir: &Path, path: &RelPath) {
        if self.error.is_none() {
            self.error = self.write(dir, path).err();
        }
    }

    fn write(&mut self, dir: &Path, path: &RelPath) -> io::Result<()> {
        let names = match &mut self.names {
            Some(names) => names,
            none => none.insert(BufWriter::new(nameless(dir)?)),
        };
        names.write_all(path.as_bytes())?;
        names.write_all(&[0])
    }

    /// The file, to be read from its start; nothing, if there are no names.
    fn names(&mut self) -> io::Result<Stdio> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some(names) = self.names.take() else { return Ok(Stdio::null()) };
        let mut file = names.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file.into())
    }
}

/// A file without a name on the disk of `dir`, or else where temporary files are.
fn nameless(dir: &Path) -> io::Result<File> {
    tempfile::tempfile_in(dir).or_else(|_| tempfile::tempfile())
}

impl Reporter for WithProgram {
    fn take(&self, report: Report) {
        if report.transfer.is_some() {
            self.noted().transfer = report.transfer;
        }
        if let Event::File(file) = &report.event
            && file.is_file
            && matches!(file.outcome, Outcome::Written | Outcome::Staged)
        {
            self.noted().add(&self.dir, file.renamed.as_ref().unwrap_or(&file.path));
        }
        self.inner.take(report);
    }
}

impl AfterTransfer for WithProgram {
    fn run(self: Arc<Self>, delivered: Delivered) -> Running {
        Box::pin(async move {
            self.start_and_wait(delivered).await.unwrap_or_else(|error| {
                let message = format!("cannot run {}: {error}", self.shown());
                self.inner.report(Event::Warning { path: None, reason: None, message });
                ProgramEnd::NotStarted
            })
        })
    }
}

fn program_end(status: ExitStatus) -> ProgramEnd {
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => ProgramEnd::Exited(number(code)),
        (None, signal) => ProgramEnd::Killed(signal.map_or(0, number)),
    }
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Ends it, and waits for its first process.
    async fn end(&mut self, child: &mut Child) -> io::Result<()> {
        self.signal(Signal::TERM);
        let was_asked = timeout(GRACE, child.wait()).await;
        // Others of the group may be there still.
        self.signal(Signal::KILL);
        if was_asked.is_err() {
            let _ = timeout(GRACE, child.wait()).await;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
