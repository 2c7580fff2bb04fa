//! Flags about a program that runs after a transfer.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use crate::cli::size::parse_duration;

/// Flags about a program that runs after a transfer.
#[derive(Debug, Default, Args)]
pub struct ExecArgs {
    /// Run PROGRAM after each transfer that is complete
    ///
    /// Everything up to the end of the line, or to a word `;`, is the program and its arguments: put --exec last, or end
    /// it as find does, with \';\'. No shell is involved. It starts in the target directory when everything is on the disk,
    /// before the sender is told so, with the names of the received files on its standard input, each followed by a NUL
    /// byte. Its standard output goes to standard error. These variables tell more: TOWLINE_HOOK_TRANSFER,
    /// TOWLINE_HOOK_DIR, TOWLINE_HOOK_PEER (name of a known peer, or fingerprint), TOWLINE_HOOK_FINGERPRINT,
    /// TOWLINE_HOOK_ADDRESS, TOWLINE_HOOK_MANIFEST (with --manifest), TOWLINE_HOOK_FILES, TOWLINE_HOOK_BYTES,
    /// TOWLINE_HOOK_IDENTICAL, TOWLINE_HOOK_SKIPPED. It sees no other variable that begins with TOWLINE_. If it fails, the
    /// files have arrived all the same, and both sides say so with exit code 10. It does not run if something is missing.
    /// A transfer that is interrupted while it runs and started again runs it again.
    /// Example: towline receive --into inbox --exec xargs -0 gzip --keep
    #[arg(long, env = "TOWLINE_EXEC", hide_env = true, hide_short_help = true, value_name = "PROGRAM")]
    #[arg(num_args = 1.., value_terminator = ";", allow_hyphen_values = true)]
    #[arg(value_hint = clap::ValueHint::CommandName)]
    pub exec: Vec<OsString>,

    /// Kill the program of --exec after this long [default: 1h]
    ///
    /// It gets SIGTERM, and 5 s later SIGKILL, as do the programs that it has started. Example: receive --exec-timeout 10m
    /// --exec ./import
    #[arg(
        long,
        env = "TOWLINE_EXEC_TIMEOUT",
        hide_env = true,
        hide_short_help = true,
        value_name = "DURATION"
    )]
    #[arg(value_parser = parse_duration)]
    pub exec_timeout: Option<Duration>,
}
