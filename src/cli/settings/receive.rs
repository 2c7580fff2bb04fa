//! What `towline receive` is asked to do.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::common::{resolve_common, resolve_peer};
use crate::app::settings::{Peer, ReceiveSettings};
use crate::cli::args::ReceiveArgs;
use crate::cli::config::Config;
use crate::cli::peer;
use crate::protocol::path::printable;

pub(super) fn resolve(given: ReceiveArgs, config: Config, stdin: &mut dyn Read) -> Result<ReceiveSettings> {
    let ticket = joined_ticket(&given.ticket)?;
    ensure!(
        ticket.is_none() || given.from.is_none(),
        "there is a ticket, and --from (or TOWLINE_FROM) names a peer too: give one of them"
    );
    let from = ticket.or(given.from).or_else(|| config.from.as_deref().map(OsString::from));
    let manifest = given.manifest.or_else(|| config.manifest.clone());
    let common = resolve_common(given.transfer, given.wait, &config)?;
    let peer = resolve_peer(from.as_deref(), "--from", &common, stdin)?;
    if let Some(Peer::Dir(path)) = &peer {
        let path = printable(path.as_os_str().as_encoded_bytes());
        bail!(
            "--from does not accept `dir:`; to copy from a directory, use `towline send {path} --to dir:…`"
        );
    }
    let into = given.into.or(config.into).unwrap_or_else(|| PathBuf::from("."));
    ensure!(!into.as_os_str().is_empty(), "--into is empty: expected the path of a directory");
    ensure!(
        into.as_os_str() != "-",
        "this version of towline cannot write to standard output; for a directory named `-` write `./-`"
    );
    let exists = given.exists.or(config.exists).unwrap_or_default();
    let yes = given.yes.or(config.yes).unwrap_or(false);
    Ok(ReceiveSettings { peer, into, exists, yes, manifest, common })
}

/// The ticket of `towline receive TICKET`. A shell splits a folded ticket into several words.
fn joined_ticket(words: &[OsString]) -> Result<Option<OsString>> {
    let Some(first) = words.first() else { return Ok(None) };
    let shown = printable(first.as_encoded_bytes());
    let is_ticket = first.to_str().is_some_and(peer::may_be_ticket);
    ensure!(
        is_ticket,
        "`{shown}` is not a ticket (tl1…); use --from PEER for the peer and --into DIR for the directory"
    );
    Ok(Some(words.join(OsStr::new(" "))))
}
