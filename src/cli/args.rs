//! The command line. Parser, help, man pages and completions all come from here; nothing is decided here.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use super::bwlimit::parse_bwlimit;
use super::help::{EXAMPLES_BENCH, EXAMPLES_ID, EXAMPLES_RECEIVE, EXAMPLES_SEND, EXIT_STATUS, VARIABLES};
use super::size::{Wait, parse_duration, parse_listen, parse_size, parse_wait};
use crate::app::settings::{Exists, IdAction};
use crate::session::schedule::Schedule;
use crate::transport::Congestion;
use crate::ui::Color;

/// The definition that everything is derived from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Hauls files between two machines over QUIC: acked after the write, verified with BLAKE3.
///
/// One side waits (without --to or --from) and prints how to reach it, the other dials. When the sending side
/// exits with 0, every byte is on the receiver's disk, synced, checked with BLAKE3, under its final name.
#[derive(Debug, Parser)]
#[command(name = "towline", version, arg_required_else_help = true)]
#[command(after_long_help = format!("Environment:\n{VARIABLES}\n\nExit status:\n{EXIT_STATUS}"))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Sends files and directories
    ///
    /// Without --to it waits for one receiver and prints how to reach it.
    #[command(after_long_help = format!("Environment:\n{VARIABLES}\n\nExit status:\n{EXIT_STATUS}\n\nExamples:\n{EXAMPLES_SEND}"))]
    Send(SendArgs),
    /// Receives files and directories
    ///
    /// Without --from it waits for one sender and prints how to reach it. A file that is already there with the
    /// same bytes is done, not a conflict.
    #[command(after_long_help = format!("Environment:\n{VARIABLES}\n\nExit status:\n{EXIT_STATUS}\n\nExamples:\n{EXAMPLES_RECEIVE}"))]
    Receive(ReceiveArgs),
    /// Measures the real protocol, without disks or with them, and says what limited it
    ///
    /// Alone it is both sides, over loopback. With --wait it is the receiving side for one `towline bench --to`
    /// of another machine. Files are made up; they come from memory and are dropped when they are verified, unless
    /// --disk is given. The result is a table on standard output, or with --json an event.
    #[command(after_long_help = format!("Environment:\n{VARIABLES}\n\nExit status:\n{EXIT_STATUS}\n\nExamples:\n{EXAMPLES_BENCH}"))]
    Bench(BenchArgs),
    /// Shows the identity of this machine, or makes a new one
    ///
    /// The identity is a key and a certificate, made at first use. Its fingerprint goes to standard output.
    #[command(after_long_help = format!("Environment:\n{VARIABLES}\n\nExit status:\n{EXIT_STATUS}\n\nExamples:\n{EXAMPLES_ID}"))]
    Id(IdArgs),
}

/// `towline send`.
#[derive(Debug, Default, Args)]
pub struct SendArgs {
    /// Files and directories to send; a ticket behind them is the peer
    #[arg(required = true, value_name = "SOURCE", value_hint = clap::ValueHint::AnyPath)]
    pub sources: Vec<PathBuf>,

    /// Taken and without effect: directories are always sent with all that is in them.
    #[arg(short, hide = true)]
    pub recursive: bool,

    /// Whom to send to; without it, waits for one receiver
    ///
    /// A ticket (tl1…) as the waiting side prints it; HOST[:PORT] or [ADDRESS]:PORT together with --fingerprint;
    /// or dir:PATH for a directory of this machine. `@FILE` reads the peer from a file and `-` from standard
    /// input: a ticket is a secret, and command lines can be seen by others.
    #[arg(long, env = "TOWLINE_TO", hide_env_values = true, value_name = "PEER")]
    pub to: Option<OsString>,

    /// Give up when nobody has come after this long, such as 5m [default: wait for ever]
    ///
    /// Only while this side waits for the other one to dial. The exit status is then 3.
    #[arg(long, env = "TOWLINE_WAIT", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Makes way for other traffic on the link
    ///
    /// Whoever sends bytes paces them, so the receiving side has no such flag. Only with --congestion auto.
    #[arg(long, env = "TOWLINE_BACKGROUND", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub background: Option<bool>,

    /// Writes a line for `b3sum --check` for each file that was sent
    #[arg(long, env = "TOWLINE_MANIFEST", hide_env_values = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,

    /// Flags of both sides.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// `towline receive`.
#[derive(Debug, Default, Args)]
pub struct ReceiveArgs {
    /// The ticket of a sender that waits, in place of --from
    #[arg(value_name = "TICKET")]
    pub ticket: Vec<OsString>,

    /// Whom to fetch from; without it, waits for one sender
    ///
    /// A ticket (tl1…) as the waiting side prints it, or HOST[:PORT] or [ADDRESS]:PORT together with
    /// --fingerprint. `@FILE` reads the peer from a file and `-` from standard input: a ticket is a secret, and
    /// command lines can be seen by others.
    #[arg(long, env = "TOWLINE_FROM", hide_env_values = true, value_name = "PEER")]
    pub from: Option<OsString>,

    /// Give up when nobody has come after this long, such as 5m [default: wait for ever]
    ///
    /// Only while this side waits for the other one to dial. The exit status is then 3.
    #[arg(long, env = "TOWLINE_WAIT", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Directory to put files into [default: .]
    #[arg(long, env = "TOWLINE_INTO", hide_env_values = true, value_name = "DIR")]
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub into: Option<PathBuf>,

    /// What to do when something else has the name already [default: refuse]
    #[arg(long, env = "TOWLINE_EXISTS", hide_env_values = true, value_name = "WHAT")]
    pub exists: Option<Exists>,

    /// Takes what is offered without asking
    #[arg(long, env = "TOWLINE_YES", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub yes: Option<bool>,

    /// Writes a line for `b3sum --check` for each file that was received
    #[arg(long, env = "TOWLINE_MANIFEST", hide_env_values = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,

    /// Flags of both sides.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// `towline bench`.
#[derive(Debug, Default, Args)]
pub struct BenchArgs {
    /// Whom to measure with: a machine where `towline bench --wait` waits
    ///
    /// A ticket (tl1…) as it prints it, or HOST[:PORT] or [ADDRESS]:PORT together with --fingerprint. `@FILE` reads
    /// the peer from a file and `-` from standard input.
    #[arg(long, env = "TOWLINE_TO", hide_env_values = true, value_name = "PEER")]
    pub to: Option<OsString>,

    /// Waits for one bench of another machine and is its receiving side; --listen says so too
    ///
    /// With a DURATION such as 5m it gives up when nobody has come after this long. The exit status is then 3.
    #[arg(long, env = "TOWLINE_WAIT", hide_env_values = true, value_name = "DURATION")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Bytes of the one file to send [default: 4G, or 512M with --to or --disk]
    #[arg(long, env = "TOWLINE_SIZE", hide_env_values = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub size: Option<u64>,

    /// Sends so many files of 4 KiB instead of one large one
    #[arg(long, env = "TOWLINE_FILES", hide_env_values = true, value_name = "N")]
    pub files: Option<u64>,

    /// Has the files of this side on the disk of DIR, in a directory that is removed at the end
    ///
    /// The sending side writes them there before it begins to measure, the receiving side writes what comes. A bench
    /// alone does both, so it needs twice the space; it refuses when that is not free.
    #[arg(long, env = "TOWLINE_DISK", hide_env_values = true, value_name = "DIR")]
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub disk: Option<PathBuf>,

    /// Flags of both sides.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// `towline id`.
#[derive(Debug, Default, Args)]
pub struct IdArgs {
    /// What to do with the identity
    #[arg(value_name = "ACTION", default_value = "show")]
    pub action: IdAction,

    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// Flags of both sides of a transfer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Transfer options")]
pub struct TransferArgs {
    /// Address to wait at [default: port 4750 of every address, or a free port]
    #[arg(long, env = "TOWLINE_LISTEN", hide_env_values = true, value_name = "ADDR:PORT")]
    #[arg(value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,

    /// Fingerprint of the other side
    ///
    /// When dialling: what the waiting side must have. When waiting: the only machine that is let in without the
    /// ticket. `towline id` prints it.
    #[arg(long, env = "TOWLINE_FINGERPRINT", hide_env_values = true, value_name = "FP")]
    pub fingerprint: Option<String>,

    /// Parcels on the way at once, at most [default: as memory allows]
    #[arg(long, env = "TOWLINE_STREAMS", hide_env_values = true, value_name = "N")]
    pub streams: Option<u32>,

    /// QUIC connections between the two machines [default: what the other side asks for, or 1]
    ///
    /// Each has a UDP port and a processor core of its own on both sides. More than one helps where a core is the
    /// limit; while the network is, all goes over the first. The smaller number counts when both sides ask. A
    /// firewall of the waiting side must let all of its ports through; what does not get through is done without.
    #[arg(long, env = "TOWLINE_CONNECTIONS", hide_env_values = true, value_name = "N")]
    pub connections: Option<u32>,

    /// Bytes of a chunk, a power of two from 1M to 64M [default: 1M]
    ///
    /// Sizes are numbers of bytes, or end with k, M, G or T (or KiB, MiB…), all powers of 1024.
    #[arg(long, env = "TOWLINE_CHUNK_SIZE", hide_env_values = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub chunk_size: Option<u64>,

    /// Bytes a second that may travel, perhaps by the time of the day [default: off]
    ///
    /// A size as for --chunk-size: 2M is 2 MiB a second; at least 1k; 0 or `off` is no limit. Windows of the local
    /// time have a rate of their own, 08:00-18:00=2M, and may go over midnight; several are separated by commas. A
    /// rate without a time holds outside of all windows: 08:00-18:00=2M,10M. Bytes of files count, not what packets
    /// add to them (about 4 % over Ethernet). Either side can have a limit; the lower one holds.
    #[arg(long, env = "TOWLINE_BWLIMIT", hide_env_values = true, value_name = "RATE")]
    #[arg(value_parser = parse_bwlimit)]
    pub bwlimit: Option<Schedule>,

    /// Memory that the transfer may use, at least 8M and eight chunks [default: 64M]
    #[arg(long, env = "TOWLINE_MEMORY", hide_env_values = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub memory: Option<u64>,

    /// Congestion control [default: auto]
    #[arg(long, env = "TOWLINE_CONGESTION", hide_env_values = true, value_name = "NAME")]
    pub congestion: Option<Congestion>,

    /// Gives up when nothing was acked for so long, such as 30s or 2m [default: 30s]
    #[arg(long, env = "TOWLINE_TIMEOUT", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]
    ///
    /// Limits a disk of this side that hangs, and a peer that only reports that it is busy. A slow disk is waited for.
    /// Both sides have this limit: raise it on both.
    #[arg(long, env = "TOWLINE_DISK_TIMEOUT", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = parse_duration)]
    pub disk_timeout: Option<Duration>,

    /// Does not sync to disk: faster, but what was called done can be lost when the machine stops
    #[arg(long, env = "TOWLINE_NO_FSYNC", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_fsync: Option<bool>,
}

/// Flags about what is shown.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct OutputArgs {
    /// Writes one JSON object per event to standard output, and nothing but errors to standard error
    #[arg(long, env = "TOWLINE_JSON", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub json: Option<bool>,

    /// Shows nothing but errors (and, when waiting, the command for the other machine)
    #[arg(short, long, env = "TOWLINE_QUIET", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub quiet: Option<bool>,

    /// Shows more on standard error: -v, -vv (credits and acks), -vvv (libraries too)
    #[arg(short, long, env = "TOWLINE_VERBOSE", hide_env_values = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Shows plain lines instead of bars
    #[arg(long, env = "TOWLINE_NO_PROGRESS", hide_env_values = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_progress: Option<bool>,

    /// When to use colours [default: auto]
    #[arg(long, env = "TOWLINE_COLOR", hide_env_values = true, value_name = "WHEN")]
    pub color: Option<Color>,
}

/// Flags of all commands.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "General options")]
pub struct GeneralArgs {
    /// Config file [default: towline/config.toml in the user's configuration directory]
    #[arg(long, env = "TOWLINE_CONFIG", hide_env_values = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Reason;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_documented() {
        for reason in Reason::ALL {
            let code = format!("{} ", reason.exit_code());
            assert!(EXIT_STATUS.lines().any(|l| l.starts_with(&code)), "{reason:?}");
        }
    }

    #[test]
    fn every_flag_has_a_variable_named_after_it_whose_value_help_does_not_show() {
        for sub in command().get_subcommands() {
            for arg in sub.get_arguments().filter(|a| !a.is_positional() && !a.is_hide_set()) {
                let long = arg.get_long().unwrap();
                let want = format!("TOWLINE_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().unwrap(), want.as_str());
                assert!(arg.is_hide_env_values_set(), "{long}: a secret would be in --help");
            }
        }
    }

    #[test]
    fn short_flags_can_stand_together() {
        let cli = Cli::try_parse_from(["towline", "send", "-qvv", "--json", "a", "--yes=no"]);
        assert!(cli.is_err(), "--yes belongs to receive");
        let cli = Cli::try_parse_from(["towline", "send", "-qvv", "--json", "a", "--no-fsync=no"]).unwrap();
        let CliCommand::Send(send) = cli.command else { panic!("{cli:?}") };
        assert_eq!((send.output.quiet, send.output.verbose), (Some(true), 2));
        assert_eq!((send.output.json, send.transfer.no_fsync), (Some(true), Some(false)));
        assert_eq!(send.sources, [PathBuf::from("a")]);
    }
}
