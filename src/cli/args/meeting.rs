//! Flags about the peer of a transfer.

use clap::Args;

use crate::app::settings::PeerName;

/// Flags about the peer of a transfer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Peer options")]
pub struct MeetingArgs {
    /// Let in this known peer without a ticket; may be repeated
    ///
    /// Applies while this side waits. The peer is authenticated by its key. Its entry must allow what this side asks for:
    /// `may = ["send"]` lets it send to this machine, `may = ["receive"]` lets it receive from it.
    #[arg(long, env = "TOWLINE_ALLOW", hide_env = true, hide_short_help = true, value_name = "NAME")]
    #[arg(value_delimiter = ',')]
    pub allow: Vec<PeerName>,

    /// Words of the one-time code that this side prints [default: 2]
    ///
    /// A code is good for one guess. Two words make one guess in 1.6 million right, and each further word 1,288 times as
    /// many.
    #[arg(long, env = "TOWLINE_WORDS", hide_env = true, hide_short_help = true, value_name = "N")]
    pub words: Option<usize>,

    /// Keep the peer as a known peer under this name
    ///
    /// Its key and address go to the file of known peers, with the right to do the same again: a peer that received may
    /// receive, a peer that sent may send. If the name is known already, the peer must have the key of that entry.
    #[arg(long, env = "TOWLINE_REMEMBER", hide_env = true, hide_short_help = true, value_name = "NAME")]
    pub remember: Option<PeerName>,
}
