//! Flags about the data that `send` sends.

use clap::Args;

use crate::cli::size::parse_compression;
use crate::session::Compression;

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

    /// Compress what is sent: auto, off, or a level from 1 to 12 [default: off]
    ///
    /// By zstd, in blocks of 256 KiB, of which those that do not shrink are sent as they are. `auto` compresses while the network
    /// (or --bwlimit) is the bottleneck, and gives way when the processor of either side is. A level compresses always; 1 is
    /// the fastest. The receiving side needs no flag. With dir:, nothing is compressed. For a slow link and text:
    /// towline send logs/ --compress 6 --to backup
    #[arg(long, env = "TOWLINE_COMPRESS", hide_env = true, hide_short_help = true, value_name = "WHEN")]
    #[arg(value_parser = parse_compression)]
    pub compress: Option<Compression>,
}
