//! Flags of all commands.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::ui::Color;

/// Flags about what is shown.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct OutputArgs {
    /// Write events to standard output, one JSON object a line
    ///
    /// Standard error then has only errors, and what -v adds.
    #[arg(long, env = "TOWLINE_JSON", hide_env = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub json: Option<bool>,

    /// Show only errors (and the command for the peer)
    #[arg(short, long, env = "TOWLINE_QUIET", hide_env = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub quiet: Option<bool>,

    /// List each file; -vv and -vvv show more
    ///
    /// -v also shows decisions, -vv the steps of the protocol, -vvv the messages of libraries.
    #[arg(short, long, env = "TOWLINE_VERBOSE", hide_env = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Show plain lines instead of bars
    #[arg(long, env = "TOWLINE_NO_PROGRESS", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_progress: Option<bool>,

    /// When to use colours [default: auto]
    #[arg(long, env = "TOWLINE_COLOR", hide_env = true, hide_short_help = true, value_name = "WHEN")]
    pub color: Option<Color>,
}

/// Flags of all commands.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "General options")]
pub struct GeneralArgs {
    /// Config file [default: ~/.config/towline/config.toml]
    #[arg(long, env = "TOWLINE_CONFIG", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// The profile of a transfer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "General options")]
pub struct ProfileArgs {
    /// Take settings from [profile.NAME] in the config file
    ///
    /// The table has the same keys as the file, and for `send` the key `sources`. Flags override variables, which override
    /// the profile, which overrides the rest of the file; `towline config --profile NAME` shows the result. Example: towline
    /// send --profile nightly
    #[arg(long, env = "TOWLINE_PROFILE", hide_env = true, hide_short_help = true, value_name = "NAME")]
    pub profile: Option<String>,
}
