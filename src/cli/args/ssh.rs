//! Flags about a machine that ssh reaches.

use std::path::PathBuf;

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

    /// Delete at the receiver what is not in the source
    ///
    /// Only in the directories that are sent, after everything has arrived, and only if all of the source could be read. What a
    /// filter leaves out stays, and so does another mount, and with --contents what is at the top of the target. Without dir: and ssh:, the receiver must have allowed it
    /// (`towline receive --allow-delete`, or the right `delete` of a known peer); else nothing is changed, and the exit code is
    /// 5. If something stays that should not, the exit code is 10. --dry-run lists what would be deleted.
    /// For example: towline send photos --to dir:/backup --delete --dry-run
    #[arg(long, env = "TOWLINE_DELETE", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub delete: Option<bool>,

    /// With --delete: delete nothing if there is more than this to delete
    ///
    /// The exit code is then 10. Directories count too.
    /// For example: towline send photos --to nas --delete --max-delete 100
    #[arg(long, env = "TOWLINE_MAX_DELETE", hide_env = true, hide_short_help = true, value_name = "N")]
    pub max_delete: Option<u64>,

    /// With --delete: move it to this directory under the target instead
    ///
    /// Each file keeps its path in there. What is in this directory is never deleted.
    /// For example: towline send photos --to dir:/backup --delete --backup-dir old/2026-11-26
    #[arg(long, env = "TOWLINE_BACKUP_DIR", hide_env = true, hide_short_help = true, value_name = "DIR")]
    pub backup_dir: Option<PathBuf>,

    /// Change nothing, and list what would happen
    ///
    /// The receiving side only looks. Standard output has a line for each change, a word, a tab and the path under the target:
    /// `create`, `replace`, `update` (mode or time), `delete`, `skip`, `refuse` (it would fail), and `rename` with the other path
    /// after another tab. A slash follows a directory. With --json, these are events (`change`). Nothing is sent, removed or
    /// remembered, and no manifest or receipt is written. The exit code is that of the real run, as far as it can be known.
    /// For example: towline send photos --to nas --dry-run
    #[arg(
        short = 'n',
        long,
        env = "TOWLINE_DRY_RUN",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub dry_run: Option<bool>,

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
