//! `towline peers`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::bounds::BoundArgs;
use super::output::{GeneralArgs, OutputArgs};
use crate::app::settings::PeerName;

/// What to do with the known peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PeersVerb {
    /// Print name, fingerprint, rights and addresses of each
    #[default]
    List,
    /// Add NAME with FINGERPRINT and the addresses at which it waits
    Add,
    /// Change what NAME may do
    Set,
    /// Forget NAME
    Remove,
    /// Give NAME the name NEW
    Rename,
}

/// `towline peers`.
#[derive(Debug, Default, Args)]
pub struct PeersArgs {
    /// list (default), add, set, remove or rename
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

    /// What it may do here, such as send, or none
    ///
    /// For add and set. `send` lets it send to this machine, `receive` lets it receive what this machine offers; both only
    /// while this machine waits and lets it in. With `archive`, files that it sends with `send -a` keep their owners, set-id
    /// bits and attributes of the system, and it can so make programs that run as root. `delete` allows it
    /// `send --delete` at a receiver that stays. A peer that may do neither can still be dialled.
    #[arg(long, env = "TOWLINE_MAY", hide_env = true, value_name = "RIGHTS")]
    pub may: Option<String>,

    /// Where its files go at a receiver that stays
    ///
    /// For add and set: `into` of the entry. Inside the directory of the receiver, unless it is absolute. `none` removes it.
    #[arg(long, env = "TOWLINE_DIR", hide_env = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// What it may do to existing files there, or none
    ///
    /// For add and set: `exists` of the entry, a list of refuse, skip, replace, rename. --exists of the receiver counts if it
    /// is in the list, else the first of the list. `none` removes the list: then the receiver decides alone.
    #[arg(long, env = "TOWLINE_POLICIES", hide_env = true, value_name = "LIST")]
    pub policies: Option<String>,

    /// Bytes that it may fill there, such as 100G, or none
    ///
    /// For add and set: `quota` of the entry, which needs a directory. All that is there counts when a transfer begins, each
    /// file and directory with 4 KiB more. What a transfer replaces counts until it has ended. A file that does not fit is
    /// refused with exit code 5, and a quota that is used up ends the transfer.
    #[arg(long, env = "TOWLINE_QUOTA", hide_env = true, value_name = "SIZE")]
    pub quota: Option<String>,

    /// What it may send in one transfer.
    #[command(flatten)]
    pub bounds: BoundArgs,

    /// Flags about what is shown.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Flags of all commands.
    #[command(flatten)]
    pub general: GeneralArgs,
}
