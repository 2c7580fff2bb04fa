//! What `towline peers` is asked to do.

use anyhow::{Context, Result, anyhow, ensure};

use super::common::is_variable;
use crate::app::settings::{KnownPeer, PeersAction, PeersFile, PeersSettings};
use crate::cli::args::{PeersArgs, PeersVerb};

pub(super) fn resolve(given: PeersArgs, file: PeersFile) -> Result<PeersSettings> {
    let PeersArgs { action: verb, name, value, addresses, may, .. } = given;
    let is_for_it = may.is_empty() || verb == PeersVerb::Add || is_variable("--may");
    ensure!(is_for_it, "--may is only for `towline peers add`");
    let no_name = || anyhow!("name the peer: `towline peers` lists those that are known");
    let action = match verb {
        PeersVerb::List => {
            ensure!(name.is_none(), "`towline peers list` takes no name: it lists all known peers");
            PeersAction::List
        }
        PeersVerb::Add => {
            let value =
                value.context("the fingerprint is missing; `towline id` on the other machine prints it")?;
            let fingerprint =
                value.parse().context("the fingerprint; `towline id` on the other machine prints it")?;
            let addresses = addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
            PeersAction::Add(
                name.ok_or_else(no_name)?,
                KnownPeer { fingerprint, addresses, may, into: None, exists: Vec::new() },
            )
        }
        PeersVerb::Remove => {
            ensure!(value.is_none(), "`towline peers remove` takes one name");
            PeersAction::Remove(name.ok_or_else(no_name)?)
        }
        PeersVerb::Rename => {
            ensure!(addresses.is_empty(), "`towline peers rename` takes two names");
            let to = value.context("the new name is missing")?.parse()?;
            PeersAction::Rename(name.ok_or_else(no_name)?, to)
        }
    };
    Ok(PeersSettings { file, action })
}
