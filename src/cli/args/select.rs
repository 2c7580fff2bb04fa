//! Flags about which of the sources is sent.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::node::size::parse_size;

/// Flags about which of the sources is sent.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filter options")]
pub struct SelectArgs {
    /// Leave out what matches; may be repeated
    ///
    /// A PATTERN is a line of a .gitignore file, relative to each SOURCE: `*.o` matches at any depth, `/build/` only the
    /// directory build at the top, and nothing in a directory that is left out is looked at. Patterns of --exclude-from come
    /// first, then --exclude, then --include, and the last one that matches counts. A SOURCE that is a directory is
    /// always sent. The summary says how many entries were left out; a directory counts as one.
    #[arg(long, env = "TOWLINE_EXCLUDE", hide_env = true, hide_short_help = true, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Send what matches, although --exclude matches too; may be repeated
    ///
    /// For only the files of one kind: --exclude '*' --include '*/' --include '*.rs'.
    #[arg(long, env = "TOWLINE_INCLUDE", hide_env = true, hide_short_help = true, value_name = "PATTERN")]
    pub include: Vec<String>,

    /// Leave out what the lines of FILE match, as in a .gitignore; may be repeated
    #[arg(long, env = "TOWLINE_EXCLUDE_FROM", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub exclude_from: Vec<PathBuf>,

    /// Honour the .gitignore and .towlineignore of each directory
    ///
    /// The deepest one that matches counts, .towlineignore before .gitignore, and the flags before both. Files above a SOURCE
    /// are not read. A directory whose file cannot be read is not sent (exit code 7).
    #[arg(long, env = "TOWLINE_IGNORE_FILES", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub ignore_files: Option<bool>,

    /// Send only the paths in FILE, a line each, relative to the one SOURCE
    ///
    /// A directory in the list is sent with all that is in it. `-` is standard input. A path that is not there is
    /// an error (exit code 7), and the others are sent.
    #[arg(long, env = "TOWLINE_FILES_FROM", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub files_from: Option<PathBuf>,

    /// Paths of --files-from end with NUL instead of a line feed
    #[arg(
        short = '0',
        long,
        env = "TOWLINE_NULL",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub null: Option<bool>,

    /// Leave out what is on other file systems than SOURCE
    ///
    /// A directory on which one is mounted arrives empty.
    #[arg(
        long,
        env = "TOWLINE_ONE_FILE_SYSTEM",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub one_file_system: Option<bool>,

    /// Leave out smaller files
    #[arg(long, env = "TOWLINE_MIN_SIZE", hide_env = true, hide_short_help = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub min_size: Option<u64>,

    /// Leave out larger files
    #[arg(long, env = "TOWLINE_MAX_SIZE", hide_env = true, hide_short_help = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Send what is in the directory SOURCE, instead of the directory
    ///
    /// A SOURCE that ends with `/` means the same, as with rsync. It works for one SOURCE, whose own mode and time are
    /// not kept.
    #[arg(long, env = "TOWLINE_CONTENTS", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub contents: Option<bool>,
}
