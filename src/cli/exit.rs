//! Ends that come before there is any work: help, version, and usage errors.

use std::process::ExitCode;

use crate::ui;

/// The exit code of a usage error.
const USAGE: u8 = 2;

/// Help and version go to standard output with 0, what clap does not understand to standard error with 2.
pub(super) fn parse_error(error: &clap::Error) -> ExitCode {
    // Nothing can be said when standard output is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The threads that write to the terminal could not be started.
pub(super) fn no_threads(error: &std::io::Error) -> ExitCode {
    ui::complain(&format!("cannot start threads: {error}"), None);
    ExitCode::FAILURE
}

/// Something that parses and cannot be meant, with its causes.
pub(super) fn usage(error: &anyhow::Error) -> ExitCode {
    ui::complain(&format!("{error:#}"), Some("`towline --help` and the man pages say what can be given"));
    ExitCode::from(USAGE)
}
