//! The command line. Parser, help, man pages and completions all come from here; nothing is decided here.

mod archive;
mod bounds;
mod data;
mod exec;
mod meeting;
mod output;
mod peers;
mod select;
mod ssh;
mod stay;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

pub use self::archive::ArchiveArgs;
pub use self::bounds::BoundArgs;
pub use self::data::DataArgs;
pub use self::exec::ExecArgs;
pub use self::meeting::MeetingArgs;
pub use self::output::{GeneralArgs, OutputArgs, ProfileArgs};
pub use self::peers::{PeersArgs, PeersVerb};
pub use self::select::SelectArgs;
pub use self::ssh::{SshArgs, TargetArgs};
pub use self::stay::StayArgs;
pub use self::transfer::TransferArgs;
use super::help;
use super::size::{Wait, parse_duration, parse_wait};
use crate::app::settings::{Delta, Exists, IdAction};
use crate::node::size::parse_size;

/// The definition that everything is derived from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Copy files between two machines over QUIC
///
/// One side waits for the other and prints the command to run there. When the sending side exits with 0, every byte
/// is on the receiver's disk, synced, verified with BLAKE3, under its final name. What was there already with the same size and
/// time is not read again, unless --checksum is given.
#[derive(Debug, Parser)]
#[command(name = "towline", version, arg_required_else_help = true)]
#[command(long_version = concat!(env!("CARGO_PKG_VERSION"), "\nspeaks towline/1, introduction 1."))]
#[command(after_help = help::EXAMPLE, after_long_help = help::after(&help::EXAMPLES))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Send files and directories
    ///
    /// Without --to, wait for one receiver and print the command to run there.
    #[command(after_help = help::EXAMPLE_SEND, after_long_help = help::after(&[help::EXAMPLES_SEND]))]
    Send(SendArgs),
    /// Receive files and directories
    ///
    /// Without --from, wait for one sender and print the command to run there. A file that already exists with the
    /// same content counts as received.
    #[command(after_help = help::EXAMPLE_RECEIVE, after_long_help = help::after(&[help::EXAMPLES_RECEIVE]))]
    Receive(ReceiveArgs),
    /// Measure speed with test data, and show what limited it
    ///
    /// The data goes through the whole protocol. Without --to and --wait, this process is both sides, over loopback.
    /// With --wait, it is the receiving side for one `towline bench --to` on another machine. Data comes from memory
    /// and is dropped once it is verified, unless --disk is given. The result is a table on standard output, or an
    /// event with --json.
    #[command(after_help = help::EXAMPLE_BENCH, after_long_help = help::after(&[help::EXAMPLES_BENCH]))]
    Bench(BenchArgs),
    /// Show this machine's identity, or make a new one
    ///
    /// The identity is a key and a certificate, made when it is first needed. Its fingerprint goes to standard output.
    #[command(after_help = help::EXAMPLE_ID, after_long_help = help::after(&[help::EXAMPLES_ID]))]
    Id(IdArgs),
    /// List, add, change or remove the machines that this one knows
    ///
    /// A known peer needs no ticket: `send --to NAME` and `receive --from NAME` dial it, and --allow NAME lets it in. The
    /// file of known peers may also be edited by hand.
    #[command(after_help = help::EXAMPLE_PEERS, after_long_help = help::after(&[help::EXAMPLES_PEERS]))]
    Peers(PeersArgs),
    /// Show each setting, its value and where it comes from
    ///
    /// For each long flag: the value that a command would use without it, from a variable, a profile, the config file or by
    /// default. Tickets and codes are not shown. The exit code is 2 if the config file has an error.
    #[command(after_help = help::EXAMPLE_CONFIG, after_long_help = help::after(&[help::EXAMPLES_CONFIG]))]
    Config(ConfigArgs),
    /// Check a receipt of `send --receipt`
    ///
    /// Prints the receipt if it was signed by the receiver that it names. With --manifest, the files must also be the ones
    /// that the receiver has signed for. Works offline. A receipt holds the key that signed it, so compare the receiver's
    /// fingerprint with one that you know, or give it with --fingerprint. The exit code is 8 if the signature is not
    /// valid, if somebody else has signed, or if the files differ.
    #[command(after_help = help::EXAMPLE_RECEIPT, after_long_help = help::after(&[help::EXAMPLES_RECEIPT]))]
    Receipt(ReceiptArgs),
}

/// `towline send`.
#[derive(Debug, Default, Args)]
pub struct SendArgs {
    /// Files, directories, or - for standard input; a ticket may be last
    #[arg(required_unless_present = "profile", value_name = "SOURCE", value_hint = clap::ValueHint::AnyPath)]
    pub sources: Vec<PathBuf>,

    /// Accepted and ignored: directories are always sent with everything in them.
    #[arg(short, hide = true)]
    pub recursive: bool,

    /// Peer to send to [default: wait for one receiver]
    ///
    /// A ticket (tl1…) or one-time code (N-word-word) that the waiting side printed, on another network
    /// HOST[:PORT]/N-word-word; the NAME or HOST[:PORT] of a known peer (see towline-peers(1));
    /// HOST[:PORT] or [ADDRESS]:PORT together with --fingerprint; ssh:[USER@]HOST[:DIR] to start towline on HOST by ssh;
    /// or dir:PATH for a directory on this machine. `@FILE` reads the peer from a file, `-` reads it from standard input.
    /// Both keep a ticket off the command line, where other users could see it.
    #[arg(long, env = "TOWLINE_TO", hide_env = true, value_name = "PEER")]
    pub to: Option<OsString>,

    /// Give up after this long without a peer [default: never]
    ///
    /// Only while this side waits. If the time runs out, the exit code is 3. Durations are written like 30s or 5m.
    #[arg(long, env = "TOWLINE_WAIT", hide_env = true, value_name = "DURATION")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Give way to other traffic on the link
    ///
    /// The sending side paces the data, so the receiving side has no such flag. It works only with --congestion auto.
    #[arg(long, env = "TOWLINE_BACKGROUND", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub background: Option<bool>,

    /// Remove each source once it is on the receiver's disk
    ///
    /// Nothing is removed before everything is synced and verified there. A file stays if it has changed since, if the
    /// receiver had it already (both sides may see the same file), if the receiver skipped it, or if the source was
    /// named by a symbolic link. Directories are removed when they are empty. If anything stays, the exit code is 10;
    /// if the receiver does not sync (--no-fsync, or a file system that cannot), everything stays.
    #[arg(long, env = "TOWLINE_REMOVE_SOURCE", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub remove_source: Option<bool>,

    /// Send only what the file to be replaced does not have [default: auto]
    ///
    /// The receiving side takes the rest from that file, when it runs with --exists replace. That costs what changed,
    /// also when bytes were inserted or removed. `auto` does it where sending the whole file would take longer, so not in
    /// a fast network.
    #[arg(long, env = "TOWLINE_DELTA", hide_env = true, hide_short_help = true, value_name = "WHEN")]
    pub delta: Option<Delta>,

    /// Read each file back from the disk before it gets its name
    ///
    /// After the sync, the receiving side reads the file from the device, past the page cache, and compares its BLAKE3 hash
    /// with the one of the sender. A file that differs is not saved (exit code 8). This costs a second pass over the disk. It
    /// cannot see what the device itself still holds in a cache of its own. Works only with `--to
    /// dir:` and `--to ssh:`; for another peer, give it to `receive` there.
    #[arg(long, env = "TOWLINE_VERIFY_DISK", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub verify_disk: Option<bool>,

    /// Keep a receipt, signed by the receiver
    ///
    /// The receipt names the transfer, the time, both machines, the number of files and bytes, a hash over all paths and
    /// contents, and whether everything is synced and read back from the disk. It is checked before it is written. Without a
    /// valid receipt the exit code is 8, although the files have arrived. `towline receipt FILE` checks it later.
    #[arg(long, env = "TOWLINE_RECEIPT", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub receipt: Option<PathBuf>,

    /// Write a line for `b3sum --check` for each file sent
    #[arg(long, env = "TOWLINE_MANIFEST", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,

    /// Flags about the data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Flags of a side that stays.
    #[command(flatten)]
    pub stay: StayArgs,
    /// Flags about the target.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Flags about which of the sources is sent.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Flags about what is kept of each entry.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Flags about the peer.
    #[command(flatten)]
    pub meeting: MeetingArgs,
    /// Flags about ssh.
    #[command(flatten)]
    pub ssh: SshArgs,
    /// Flags of both sides.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// `towline config`.
#[derive(Debug, Default, Args)]
pub struct ConfigArgs {
    /// The profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
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
    /// Ticket or code of a waiting sender, or more paths of ssh:
    #[arg(value_name = "TICKET")]
    pub ticket: Vec<OsString>,

    /// Peer to receive from [default: wait for one sender]
    ///
    /// A ticket (tl1…) or one-time code (N-word-word) that the waiting side printed, on another network
    /// HOST[:PORT]/N-word-word; the NAME or HOST[:PORT] of a known peer (see towline-peers(1));
    /// HOST[:PORT] or [ADDRESS]:PORT together with --fingerprint; or ssh:[USER@]HOST:PATH to start towline on HOST by ssh,
    /// with further PATHs of that host after the flags. `@FILE` reads the peer from a file, `-` reads it from standard input. Both keep a ticket off the command line,
    /// where other users could see it.
    #[arg(long, env = "TOWLINE_FROM", hide_env = true, value_name = "PEER")]
    pub from: Option<OsString>,

    /// Give up after this long without a peer [default: never]
    ///
    /// Only while this side waits. If the time runs out, the exit code is 3. Durations are written like 30s or 5m.
    #[arg(long, env = "TOWLINE_WAIT", hide_env = true, value_name = "DURATION")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Directory, or - for standard output [default: .]
    ///
    /// `-` writes the one file of the transfer to standard output, in order, each chunk when it is verified. Several files or
    /// a directory are refused (exit code 5). Exit code 0 then means that all bytes were verified and taken by the pipe, not
    /// that they are on a disk. When the program that reads is gone, both sides end with exit code 6. A program that reads
    /// cannot tell an incomplete stream from a complete one, so use `set -o pipefail`, or --into DIR. Messages and
    /// JSON go to standard error.
    #[arg(long, env = "TOWLINE_INTO", hide_env = true, value_name = "DIR")]
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub into: Option<PathBuf>,

    /// Existing files: refuse (default), skip, replace, rename
    ///
    /// A file with the same content counts as received, whatever is given here. If the content differs: `refuse` fails
    /// the file (exit code 5), `skip` keeps the existing file and is not an error, `replace` replaces it, `rename` saves
    /// the new file under another name. A sender may ask for less than what is given here, in the order refuse, skip, rename,
    /// replace.
    #[arg(long, env = "TOWLINE_EXISTS", hide_env = true, value_name = "WHAT", hide_possible_values = true)]
    pub exists: Option<Exists>,

    /// Compare contents by BLAKE3, although size and time agree
    ///
    /// Without it, a file of the same size and modification time counts as unchanged, and neither side reads it. With
    /// --manifest and --verify-disk, contents are always compared. For example: towline receive --into photos --checksum
    #[arg(
        short = 'c',
        long,
        env = "TOWLINE_CHECKSUM",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub checksum: Option<bool>,

    /// Let the sender delete what it does not send (send --delete)
    ///
    /// Only in the directories that it sends. With --forever, the right `delete` allows it to one known peer.
    /// For example: towline receive --into backup --exists replace --allow-delete
    #[arg(long, env = "TOWLINE_ALLOW_DELETE", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub allow_delete: Option<bool>,

    /// Give all files their names together at the end, or none
    ///
    /// What arrives stays in staging until everything is complete, so DIR needs space for all of it beside what it replaces.
    /// If one file fails, none appears and nothing is replaced. If the receiver is stopped while it gives the names, the next
    /// `towline receive` into DIR gives the rest before it does anything else. What had arrived of large files is kept for the
    /// next attempt; small files are sent again.
    #[arg(long, env = "TOWLINE_ATOMIC", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub atomic: Option<bool>,

    /// Read each file back from the disk before it gets its name
    ///
    /// After the sync, the receiving side reads the file from the device, past the page cache, and compares its BLAKE3 hash
    /// with the one of the sender. A file that differs is not saved (exit code 8). This costs a second pass over the disk. It
    /// cannot see what the device itself still holds in a cache of its own.
    #[arg(long, env = "TOWLINE_VERIFY_DISK", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub verify_disk: Option<bool>,

    /// Receive without asking
    ///
    /// On a terminal, a receiver that was met by ticket or code shows who offers what and asks once. Known peers that may
    /// `send` are not asked about. Without a terminal, or with --json, nothing is asked: the ticket was the consent.
    #[arg(long, env = "TOWLINE_YES", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub yes: Option<bool>,

    /// Write a line for `b3sum --check` for each file received
    #[arg(long, env = "TOWLINE_MANIFEST", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,

    /// What is taken.
    #[command(flatten)]
    pub bounds: BoundArgs,

    /// List what interrupted transfers left in DIR
    ///
    /// Nothing is received. For each file: the start of the sender's fingerprint, the bytes that do not have to be sent
    /// again, the size, the age and the path.
    #[arg(long, env = "TOWLINE_LIST_PARTIAL", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub list_partial: Option<bool>,

    /// Remove what interrupted transfers left in DIR
    ///
    /// Nothing is received. With an AGE such as 7d, only files whose last bytes are at least this old are removed. A
    /// receiver removes by itself what is older than 14 days.
    #[arg(
        long,
        env = "TOWLINE_DISCARD_PARTIAL",
        hide_env = true,
        hide_short_help = true,
        value_name = "AGE"
    )]
    #[arg(num_args = 0..=1, default_missing_value = "0s", value_parser = parse_duration)]
    pub discard_partial: Option<Duration>,

    /// Flags about a program that runs after a transfer.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Flags of a side that stays.
    #[command(flatten)]
    pub stay: StayArgs,
    /// Flags about the peer.
    #[command(flatten)]
    pub meeting: MeetingArgs,
    /// Flags about ssh.
    #[command(flatten)]
    pub ssh: SshArgs,
    /// Flags of both sides.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

/// `towline bench`.
#[derive(Debug, Default, Args)]
pub struct BenchArgs {
    /// Peer to measure with; it runs `towline bench --wait`
    ///
    /// A ticket (tl1…) that the peer printed, or HOST[:PORT] or [ADDRESS]:PORT together with --fingerprint. @FILE
    /// reads the peer from a file and - from standard input.
    #[arg(long, env = "TOWLINE_TO", hide_env = true, value_name = "PEER")]
    pub to: Option<OsString>,

    /// Wait for another machine to run one benchmark
    ///
    /// With a DURATION such as 5m, give up when nobody connects for this long; the exit code is then 3. --listen implies
    /// --wait.
    #[arg(long, env = "TOWLINE_WAIT", hide_env = true, value_name = "DURATION")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    #[arg(value_parser = parse_wait)]
    pub wait: Option<Wait>,

    /// Bytes to send [default: 4G; 512M with --to, --disk]
    #[arg(long, env = "TOWLINE_SIZE", hide_env = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub size: Option<u64>,

    /// Send N files of 4 KiB instead of one large file
    #[arg(long, env = "TOWLINE_FILES", hide_env = true, value_name = "N")]
    pub files: Option<u64>,

    /// Use the disk of DIR, and remove the files at the end
    ///
    /// The sending side writes its files there before the measurement starts. The receiving side writes what arrives.
    /// Without --to and --wait, bench writes both copies and needs twice the space. It refuses to start without that space.
    #[arg(long, env = "TOWLINE_DISK", hide_env = true, value_name = "DIR")]
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

/// `towline receipt`.
#[derive(Debug, Default, Args)]
pub struct ReceiptArgs {
    /// Receipt to check
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,

    /// Lines of b3sum, with paths under the target directory
    ///
    /// The file that `send --manifest` or `receive --manifest` wrote, or the output of b3sum for all files of the transfer,
    /// run in the target directory. The order of the lines does not matter.
    #[arg(long, env = "TOWLINE_MANIFEST", hide_env = true, value_name = "SUMS")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub manifest: Option<PathBuf>,

    /// Fingerprint of the receiver that must have signed
    #[arg(long, env = "TOWLINE_FINGERPRINT", hide_env = true, value_name = "FP")]
    pub fingerprint: Option<String>,

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
    /// What to do
    #[arg(value_name = "ACTION", default_value = "show")]
    pub action: IdAction,

    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Reason;

    /// Lines of `-h`, for each command.
    const SHORT_HELP_LINES_MAX: usize = 25;
    /// Columns of `-h`: no line is folded on a narrow terminal.
    const SHORT_HELP_COLUMNS_MAX: usize = 80;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_terminal_and_has_an_example() {
        let mut command = command();
        command.build();
        let commands = command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned();
        let commands: Vec<_> = commands.chain([command.clone()]).collect();
        assert_eq!(commands.len(), 8);
        for mut command in commands {
            let (name, help) = (command.get_name().to_owned(), command.render_help().to_string());
            let lines = help.lines().count();
            assert!(lines <= SHORT_HELP_LINES_MAX, "{name} -h has {lines} lines:\n{help}");
            let wide = help.lines().find(|line| line.chars().count() > SHORT_HELP_COLUMNS_MAX);
            assert_eq!(wide, None, "{name} -h");
            assert_eq!(help.matches("Example:").count(), 1, "{help}");
        }
    }

    #[test]
    fn long_help_names_variables_in_one_section_only() {
        let mut command = command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let help = sub.clone().render_long_help().to_string();
            assert_eq!(help.matches("Environment:").count(), 1, "{help}");
            assert!(!help.contains("[env:"), "{help}");
        }
    }

    #[test]
    fn every_exit_code_is_documented() {
        for reason in Reason::ALL {
            let code = format!("{} ", reason.exit_code());
            assert!(help::EXIT_STATUS.lines().any(|l| l.starts_with(&code)), "{reason:?}");
        }
    }

    #[test]
    fn every_flag_has_a_variable_named_after_it_whose_value_help_does_not_show() {
        for sub in command().get_subcommands() {
            for arg in sub.get_arguments().filter(|a| !a.is_positional() && !a.is_hide_set()) {
                let long = arg.get_long().unwrap();
                let want = format!("TOWLINE_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().unwrap(), want.as_str());
                assert!(arg.is_hide_env_set(), "{long}: a secret would be in --help");
            }
        }
    }

    /// The side that ssh starts is found by this.
    #[test]
    fn the_version_says_what_it_speaks() {
        assert!(command().render_long_version().ends_with(&format!("\n{}\n", crate::connect::SPEAKS)));
    }

    #[test]
    fn short_flags_can_be_combined() {
        let cli = Cli::try_parse_from(["towline", "send", "-qvv", "--json", "a", "--list-partial=no"]);
        assert!(cli.is_err(), "--list-partial belongs to receive");
        let cli = Cli::try_parse_from(["towline", "send", "-qvv", "--json", "a", "--no-fsync=no"]).unwrap();
        let CliCommand::Send(send) = cli.command else { panic!("{cli:?}") };
        assert_eq!((send.output.quiet, send.output.verbose), (Some(true), 2));
        assert_eq!((send.output.json, send.transfer.no_fsync), (Some(true), Some(false)));
        assert_eq!(send.sources, [PathBuf::from("a")]);
    }
}
