//! `towline peers`.

use clap::{Args, ValueEnum};

use super::output::{GeneralArgs, OutputArgs};
use crate::app::settings::{PeerName, Right};

/// What to do with the known peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PeersVerb {
    /// Print name, fingerprint, rights and addresses of each
    #[default]
    List,
    /// Add NAME with FINGERPRINT and the addresses at which it waits
    Add,
    /// Forget NAME
    Remove,
    /// Give NAME the name NEW
    Rename,
}

/// `towline peers`.
#[derive(Debug, Default, Args)]
pub struct PeersArgs {
    /// list (default), add, remove or rename
    #[arg(
        value_name = "ACTION",
        default_value = "list",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub action: PeersVerb,

    /// Name of the peer
    ///
    /// A name begins with a letter and has up to 64 letters, digits, `-`, `_` and `.`.
    #[arg(value_name = "NAME")]
    pub name: Option<PeerName>,

    /// Its fingerprint, or its new name
    #[arg(value_name = "FINGERPRINT|NEW")]
    pub value: Option<String>,

    /// Where it waits, HOST[:PORT], best first
    #[arg(value_name = "ADDRESS")]
    pub addresses: Vec<String>,

    /// What the added peer may do here: send, receive
    ///
    /// `send` lets it send to this machine, `receive` lets it receive what this machine offers; both only while this
    /// machine waits and lets it in. Without this flag it may do neither, and this machine can dial it.
    #[arg(long, env = "TOWLINE_MAY", hide_env = true, value_name = "RIGHTS", value_delimiter = ',')]
    #[arg(hide_possible_values = true)]
    pub may: Vec<Right>,

    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}
