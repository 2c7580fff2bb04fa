//! Flags about the data that `send` sends.

use clap::Args;

/// Flags about the data that `send` sends.
#[derive(Debug, Default, Args)]
pub struct DataArgs {
    /// Name that the receiver gives to standard input [default: stdin]
    ///
    /// Only with `-` as the only SOURCE: pg_dump db | towline send - --name db.sql --to backup. What arrives is complete
    /// when the exit code is 0, but towline cannot tell whether the program that writes has failed: use `set -o pipefail`.
    /// A connection that is lost while data is on its way ends the transfer, because standard input cannot be read again.
    #[arg(long, env = "TOWLINE_NAME", hide_env = true, hide_short_help = true, value_name = "NAME")]
    pub name: Option<std::ffi::OsString>,
}
