//! What `towline peers` is asked to do.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;

use super::common::is_variable;
use crate::app::settings::{Bounds, KnownPeer, PeerChange, PeersAction, PeersFile, PeersSettings};
use crate::cli::args::{PeersArgs, PeersVerb};
use crate::node::bounds::bounds_of;
use crate::node::size::parse_size;

/// Takes away what an entry has.
const NONE: &str = "none";

pub(super) fn resolve(given: PeersArgs, file: PeersFile) -> Result<PeersSettings> {
    let PeersArgs { action: verb, name, value, addresses, may, dir, policies, quota, bounds, .. } = given;
    let is_about_rights = matches!(verb, PeersVerb::Add | PeersVerb::Set);
    for (is_given, flag) in [
        (may.is_some(), "--may"),
        (dir.is_some(), "--dir"),
        (policies.is_some(), "--policies"),
        (quota.is_some(), "--quota"),
        (!bounds.limit.is_empty(), "--limit"),
    ] {
        ensure!(
            is_about_rights || !is_given || is_variable(flag),
            "{flag} is only for `towline peers add` and `set`"
        );
    }
    let change = || {
        let limits = limits(&bounds.limit)?;
        let change = change(may.as_deref(), dir.clone(), policies.as_deref(), quota.as_deref())?;
        anyhow::Ok(PeerChange { limits, ..change })
    };
    let name =
        || name.clone().ok_or_else(|| anyhow!("name the peer: `towline peers` lists those that are known"));
    let action = match verb {
        PeersVerb::List => {
            ensure!(name().is_err(), "`towline peers list` takes no name: it lists all known peers");
            PeersAction::List
        }
        PeersVerb::Add => {
            let value =
                value.context("the fingerprint is missing; `towline id` on the other machine prints it")?;
            let fingerprint =
                value.parse().context("the fingerprint; `towline id` on the other machine prints it")?;
            let addresses = addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
            let mut peer = KnownPeer::new(fingerprint, addresses);
            change()?.apply(&mut peer);
            PeersAction::Add(name()?, peer)
        }
        PeersVerb::Set => {
            ensure!(value.is_none(), "`towline peers set` takes one name, and flags");
            let change = change()?;
            ensure!(!change.is_empty(), "say what to change: --may, --dir, --policies, --quota or --limit");
            PeersAction::Set(name()?, change)
        }
        PeersVerb::Remove => {
            ensure!(value.is_none(), "`towline peers remove` takes one name");
            PeersAction::Remove(name()?)
        }
        PeersVerb::Rename => {
            ensure!(addresses.is_empty(), "`towline peers rename` takes two names");
            let to = value.context("the new name is missing")?.parse()?;
            PeersAction::Rename(name()?, to)
        }
    };
    Ok(PeersSettings { file, action })
}

/// What the flags change of an entry.
fn change(
    may: Option<&str>,
    dir: Option<PathBuf>,
    policies: Option<&str>,
    quota: Option<&str>,
) -> Result<PeerChange> {
    if let Some(dir) = &dir {
        ensure!(dir.to_str().is_some_and(|dir| !dir.is_empty()), "--dir: expected a path of UTF-8, or none");
    }
    let size = |text: &str| parse_size(text).map_err(|error| anyhow!("--quota {text}: {error}, or none"));
    Ok(PeerChange {
        may: may.map(|text| list(text, "--may")).transpose()?,
        into: dir.map(|dir| Some(dir).filter(|dir| dir.as_os_str() != NONE)),
        exists: policies.map(|text| list(text, "--policies")).transpose()?,
        quota: quota.map(|text| (text != NONE).then(|| size(text)).transpose()).transpose()?,
        limits: None,
    })
}

/// The bounds that --limit gives, if it is given.
fn limits(given: &[String]) -> Result<Option<Bounds>> {
    match given {
        [] => Ok(None),
        [none] if none == NONE => Ok(Some(Bounds::default())),
        given => bounds_of(given).map(Some).map_err(|error| anyhow!("--limit {error}")),
    }
}

/// The words in `text`, with commas between them, or none.
fn list<T: ValueEnum>(text: &str, flag: &str) -> Result<Vec<T>> {
    if text == NONE {
        return Ok(Vec::new());
    }
    let read = |word: &str| {
        T::from_str(word.trim(), false).map_err(|_| {
            let known = T::value_variants().iter().filter_map(T::to_possible_value);
            let known: Vec<_> = known.map(|known| known.get_name().to_owned()).collect();
            anyhow!("{flag} {text}: expected a list of {}, or none", known.join(", "))
        })
    };
    text.split(',').map(read).collect()
}
