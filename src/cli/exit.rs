//! Runs that end before any work: help, version and usage errors.

use std::borrow::Cow;
use std::process::ExitCode;

use crate::auth::without_parts_of_tickets;
use crate::ui;

/// The exit code of a usage error.
const USAGE: u8 = 2;

/// Help and version go to standard output with 0, parse errors to standard error with 2.
pub(super) fn parse_error(error: &clap::Error) -> ExitCode {
    // The message quotes the argument, which may be a ticket in the wrong place.
    let text = error.render().to_string();
    if let Cow::Owned(text) = without_parts_of_tickets(&text)
        && error.use_stderr()
    {
        ui::complain_as_it_stands(&text);
        return ExitCode::from(USAGE);
    }
    // Nothing can be said when standard output is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The threads that write to the terminal could not be started.
pub(super) fn no_threads(error: &std::io::Error) -> ExitCode {
    ui::complain(&format!("cannot start threads: {error}"), None);
    ExitCode::FAILURE
}

/// A usage error that the parser does not find, with its causes.
pub(super) fn usage(error: &anyhow::Error) -> ExitCode {
    // Such as a line of the config file.
    let text = format!("{error:#}");
    ui::complain(&without_parts_of_tickets(&text), Some("see `towline --help`"));
    ExitCode::from(USAGE)
}
