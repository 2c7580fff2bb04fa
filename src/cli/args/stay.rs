//! Flags of a side that stays.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::cli::size::parse_duration;

/// Flags of a side that stays.
#[derive(Debug, Default, Args)]
pub struct StayArgs {
    /// Stay, and serve known peers, several at once
    ///
    /// A receiver lets in known peers that may `send`, a sender those that may `receive`; with --allow, only those that it
    /// names. They are authenticated by their key. A sender offers the sources as they are at that moment, and changes
    /// nothing. At a receiver, existing files, the directory and a quota can be set for each peer in its entry (`exists`,
    /// `into`, `quota`). SIGHUP reads the file of known peers and the certificates again. After SIGTERM or SIGINT nobody is
    /// let in any more, and running transfers have --grace to end.
    #[arg(long, env = "TOWLINE_FOREVER", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub forever: Option<bool>,

    /// With --forever: also let in whoever has the ticket
    ///
    /// A ticket is good for one transfer. When it has been used, a new one is printed.
    #[arg(long, env = "TOWLINE_TICKETS", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub tickets: Option<bool>,

    /// With --forever: maximum transfers at once [default: 4]
    ///
    /// Each gets an equal share of --memory, which should be at least 2M. Further peers are told to try again later (exit
    /// code 3).
    #[arg(long, env = "TOWLINE_TRANSFERS", hide_env = true, hide_short_help = true, value_name = "N")]
    pub transfers: Option<u32>,

    /// With --forever: time for running transfers to end after a signal [default: 30s]
    ///
    /// What is not done by then is kept, and the sender continues by the same command.
    #[arg(long, env = "TOWLINE_GRACE", hide_env = true, hide_short_help = true, value_name = "DURATION")]
    #[arg(value_parser = parse_duration)]
    pub grace: Option<Duration>,
}
