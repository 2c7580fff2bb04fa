//! Flags about what is kept of each entry beside its content, permission bits and time.

use clap::Args;
use clap::builder::BoolishValueParser;

/// Flags about what is kept of each entry.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Archive options")]
pub struct ArchiveArgs {
    /// Keep everything: --owner --special-bits --acls --xattrs
    ///
    /// For backups: `towline send -a /srv/ --to dir:/backup/srv`. A flag of its own takes one of them out again:
    /// -a --xattrs=false. A receiver keeps owners, set-id bits, and attributes of the system only with `--to dir:` and `--to
    /// ssh:`, or if it knows the sender by a name that may `archive` (see towline-peers(1)). What is not kept is counted and
    /// named (exit code 10); the content arrives all the same.
    #[arg(
        short,
        long,
        env = "TOWLINE_ARCHIVE",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub archive: Option<bool>,

    /// Keep owner and group, by name where the receiver has one of that name
    ///
    /// Setting an owner takes root; a group may also be one of those of the receiving user. Example: towline send --owner
    /// /home/ --to dir:/backup/home
    #[arg(short, long, env = "TOWLINE_OWNER", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub owner: Option<bool>,

    /// Keep owners by number, whatever their names are at the receiver
    ///
    /// For the root directory of another system, for example: towline send -a --numeric-ids / --one-file-system --to
    /// dir:/mnt/disk
    #[arg(long, env = "TOWLINE_NUMERIC_IDS", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub numeric_ids: Option<bool>,

    /// Keep set-user-id, set-group-id and sticky bits
    ///
    /// A set-id bit is kept only together with its owner or group, so give --owner too.
    ///
    /// Example: towline send --special-bits --owner bin/ --to ssh:root@host:/usr/local/bin
    #[arg(long, env = "TOWLINE_SPECIAL_BITS", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub special_bits: Option<bool>,

    /// Keep POSIX ACLs
    ///
    /// Users and groups in them are found by name, as with --owner. Example: towline send --acls shared/ --to dir:/srv/shared
    #[arg(
        short = 'A',
        long,
        env = "TOWLINE_ACLS",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub acls: Option<bool>,

    /// Keep extended attributes: user.*, security.* and trusted.*
    ///
    /// Others are of one file system. An entry with more than 1 MiB of them goes without. Example: towline send --xattrs
    /// photos/ --to nas
    #[arg(
        short = 'X',
        long,
        env = "TOWLINE_XATTRS",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub xattrs: Option<bool>,
}
