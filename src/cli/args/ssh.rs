//! Flags about a machine that ssh reaches.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::app::settings::Exists;

/// Flags about ssh.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of ssh:")]
pub struct SshArgs {
    /// Program that connects, with its arguments [default: ssh]
    ///
    /// It is split into words; quotes keep words together, as in --ssh 'ssh -p 2222 -i "my key"'. It gets [USER@]HOST and
    /// a command for the shell there as further arguments. ssh reads its own configuration and asks for passwords as usual.
    #[arg(long, env = "TOWLINE_SSH", hide_env = true, hide_short_help = true, value_name = "COMMAND")]
    pub ssh: Option<String>,

    /// Copy nothing to a machine that has no towline
    ///
    /// Without this flag, this towline is copied to
    /// ~/.cache/towline/VERSION-HASH/ of a machine with the same system and architecture that has none, or one of another
    /// version that does not fit, after a question on the terminal, or with --yes. It is checked there and used from then on.
    /// For a script that must change nothing there: send DIR --to ssh:HOST --no-install.
    #[arg(long, env = "TOWLINE_NO_INSTALL", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_install: Option<bool>,
}

/// Flags about what happens at the receiving side.
#[derive(Debug, Default, Args)]
pub struct TargetArgs {
    /// Existing files: refuse, skip, rename, replace [default: as the receiving side has it]
    ///
    /// The words mean the same as for `towline receive`. With dir: and ssh: what is given here holds, and `refuse` without it.
    /// Any other receiver has the last word: in the order refuse, skip, rename, replace, it allows what its own --exists says
    /// and what comes before; for a known peer of a side that stays, the entry of the peer says what it may. If more is asked
    /// for, nothing is changed, and the exit code is 5. For example: towline send photos --to nas --exists skip
    #[arg(long, env = "TOWLINE_EXISTS", hide_env = true, hide_short_help = true, value_name = "WHAT")]
    #[arg(hide_possible_values = true)]
    pub exists: Option<Exists>,

    /// Compare contents by BLAKE3, although size and time agree
    ///
    /// Without it, a file of the same size and modification time counts as unchanged, and neither side reads it. With
    /// --remove-source, --receipt, --manifest and --verify-disk, contents are always compared.
    /// For example: towline send photos --to nas --checksum
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

    /// Give all files their names together at the end, or none; only with dir: and ssh:
    #[arg(long, env = "TOWLINE_ATOMIC", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub atomic: Option<bool>,

    /// Copy towline by ssh: to a machine that has none, without asking
    #[arg(long, env = "TOWLINE_YES", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub yes: Option<bool>,
}
