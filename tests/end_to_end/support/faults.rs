//! System calls that fail: a stand-in for file systems, containers and kernels that lack something.
//!
//! Two ways, because neither does all: a seccomp filter costs nothing and fails a call from the start to the end;
//! strace slows the process down, and can fail or delay a call from the N-th on, or for one path only.

use std::ffi::OsStr;
use std::io;
use std::os::raw::c_long;
use std::process::{Child, Command};
use std::thread;

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// What is to fail in a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    denied: Vec<(c_long, Errno)>,
    injected: Vec<String>,
    descriptors: Option<u32>,
}

impl Faults {
    /// Fails a system call (`nix::libc::SYS_…`) with `errno` every time.
    pub(crate) fn deny(&mut self, call: c_long, errno: Errno) {
        self.denied.push((call, errno));
    }

    /// An option `-e` of strace, such as `inject=recvmmsg:error=ENOSYS:when=50+` or
    /// `inject=fsync:delay_enter=5000000` (microseconds). strace counts `when` for each thread by itself.
    pub(crate) fn inject(&mut self, expression: &str) {
        self.injected.push(expression.to_owned());
    }

    /// Leaves the process this many file descriptors.
    pub(crate) fn limit_descriptors(&mut self, descriptors: u32) {
        self.descriptors = Some(descriptors);
    }

    /// Starts `command` with these faults.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let filters: Vec<BpfProgram> = self.denied.iter().map(|denied| filter(*denied)).collect();
        let mut limited = self.descriptors.map(|descriptors| limited(command, descriptors));
        let command = limited.as_mut().unwrap_or(command);
        let mut traced = (!self.injected.is_empty()).then(|| self.traced(command));
        let command = traced.as_mut().unwrap_or(command);
        // A filter belongs to a thread and to the processes that it starts, so it needs a thread of its own.
        thread::scope(|scope| {
            let spawned = scope.spawn(|| {
                for filter in &filters {
                    apply_filter(filter).expect("the kernel takes seccomp filters");
                }
                command.spawn()
            });
            spawned.join().expect("the filters can be set")
        })
    }

    /// `command` under strace.
    fn traced(&self, command: &Command) -> Command {
        let mut traced = Command::new("strace");
        // `-D`: the process under test is the child, so that its id, signals and exit code are its own.
        traced.args(["-D", "-f", "-qq", "-e", "signal=none", "-o", "/dev/null"]);
        let calls = self.injected.iter().filter_map(|e| e.strip_prefix("inject=")?.split(':').next());
        let calls: Vec<_> = calls.collect();
        traced.args(["-e", &format!("trace={}", calls.join(","))]);
        // Only these stop the process, which goes on at nearly its own speed. strace 6.1 sends no signals then.
        if !self.injected.iter().any(|expression| expression.contains(":signal=")) {
            traced.arg("--seccomp-bpf");
        }
        for expression in &self.injected {
            traced.args(["-e", expression]);
        }
        traced.arg("--");
        run(traced, command)
    }
}

/// `command` under a limit of file descriptors.
fn limited(command: &Command, descriptors: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
    run(shell, command)
}

/// `command` started by `wrapper`, with its variables; standard input, output and error are pipes as in
/// [`super::process::Machine::command`].
fn run(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove::<&OsStr>(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapper.current_dir(dir);
    }
    super::process::piped(&mut wrapper);
    wrapper
}

fn filter((call, errno): (c_long, Errno)) -> BpfProgram {
    let errno = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().expect("seccompiler knows this processor");
    let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, errno, arch);
    filter.and_then(BpfProgram::try_from).expect("a filter of one call")
}
