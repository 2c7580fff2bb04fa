//! What `towline receive` is asked to do.

use std::ffi::{OsStr, OsString};
use std::io::Read;

use anyhow::{Result, bail, ensure};

use super::common::{resolve_bounds, resolve_common, verify_disk};
use super::exec::exec_of;
use super::into::resolve_into;
use super::meeting::{check_uses, resolve_meeting, resolve_peer};
use super::pki::resolve_pki;
use super::stdio::{check_stdout, is_stdout};
use super::{ssh, stay};
use crate::app::settings::{
    Bounds, Command, PartialAction, PartialSettings, Peer, PeersFile, ReceiveSettings, Right, Rules,
};
use crate::cli::args::{BoundArgs, ReceiveArgs};
use crate::cli::config::Config;
use crate::cli::peer;
use crate::protocol::path::printable;

pub(super) fn resolve(
    mut given: ReceiveArgs,
    config: Config,
    peers: &PeersFile,
    stdin: &mut dyn Read,
) -> Result<Command> {
    if let Some(action) = partial_action(&given)? {
        ensure!(
            given.ticket.is_empty(),
            "--list-partial and --discard-partial only look at the directory of --into: leave out the ticket"
        );
        return Ok(Command::Partial(PartialSettings {
            into: resolve_into(given.into, config.into)?,
            action,
        }));
    }
    if stay::stays(&given.stay, &config)? {
        return stay::resolve_inbox(given, &config, peers).map(Command::Stay);
    }
    let stdout = is_stdout(&given, &config)?;
    let from = given.from.clone().or_else(|| config.from.as_deref().map(OsString::from));
    let is_by_ssh = from.as_ref().is_some_and(|from| from.as_encoded_bytes().starts_with(b"ssh:"));
    let ticket = if is_by_ssh { None } else { joined_ticket(&given.ticket)? };
    ensure!(
        ticket.is_none() || given.from.is_none(),
        "there is a ticket, and --from (or TOWLINE_FROM) names a peer too: give one of them"
    );
    let from = ticket.or(from);
    let (there, ssh) = (ssh::sending(&given), ssh::Way::new(&mut given.ssh, given.yes, &config));
    let manifest = given.manifest.or_else(|| config.manifest.clone());
    let mut common = resolve_common(given.transfer, given.wait, &config)?;
    common.pki = resolve_pki(&given.meeting, &config)?;
    let by_ssh = |path| ssh::remote(path, ssh, |path| there.of(path, &given.ticket));
    let peer = resolve_peer(from.as_deref(), "--from", &common, peers, stdin, by_ssh)?;
    ssh::refuse_names(peer.as_ref(), &given.meeting)?;
    resolve_meeting(given.meeting, Right::Send, &config, peers, peer.is_none(), &mut common)?;
    if let Some(Peer::Dir(path)) = &peer {
        let path = printable(path.as_os_str().as_encoded_bytes());
        bail!(
            "--from does not accept `dir:`; to copy from a directory, use `towline send {path} --to dir:…`"
        );
    }
    check_uses(&common, peer.is_none(), &[(manifest.is_some(), "--manifest")])?;
    let bounds = bounds_of(&given.bounds, &config, stdout)?;
    if stdout {
        check_stdout(peer.as_ref(), &mut common)?;
    }
    let exec = exec_of(given.exec, &config, stdout)?;
    let into = if stdout { "-".into() } else { resolve_into(given.into, config.into)? };
    let exists = given.exists.or(config.exists).unwrap_or_default();
    let atomic = !stdout && given.atomic.or(config.atomic).unwrap_or(false);
    let verify_disk = !stdout && verify_disk(given.verify_disk, config.verify_disk, &common)?;
    let compares = given.checksum.or(config.checksum).unwrap_or(false) || manifest.is_some() || verify_disk;
    let allows_delete = given.allow_delete.or(config.allow_delete).unwrap_or(false);
    ensure!(
        !allows_delete || !atomic,
        "--allow-delete does not go with --atomic, which changes nothing before everything has arrived"
    );
    let rules = Rules { compares, allows_delete, ..Rules::of(exists) };
    let yes = given.yes.or(config.yes).unwrap_or(false);
    let peers = peers.clone();
    Ok(Command::Receive(ReceiveSettings {
        peer,
        peers,
        into,
        stdout,
        rules,
        atomic,
        verify_disk,
        bounds,
        yes,
        manifest,
        exec,
        common,
    }))
}

/// What is taken in a transfer. Standard output is no directory.
fn bounds_of(given: &BoundArgs, config: &Config, is_stdout: bool) -> Result<Bounds> {
    let bounds = resolve_bounds(given, config)?;
    ensure!(
        !is_stdout || bounds == Bounds::default(),
        "`limit` (in the config file, or TOWLINE_LIMIT) is about a directory and does not hold for standard output \
         (--into -): leave it out, or use --into DIR"
    );
    Ok(bounds)
}

/// What is to be done with partial files, if this is not about a transfer.
fn partial_action(given: &ReceiveArgs) -> Result<Option<PartialAction>> {
    let lists = given.list_partial.unwrap_or(false);
    ensure!(
        !lists || given.discard_partial.is_none(),
        "--list-partial and --discard-partial do different things: give one of them"
    );
    let discards = given.discard_partial.map(PartialAction::Discard);
    Ok(if lists { Some(PartialAction::List) } else { discards })
}

/// The ticket of `towline receive TICKET`. A shell splits a folded ticket into several words.
fn joined_ticket(words: &[OsString]) -> Result<Option<OsString>> {
    let Some(first) = words.first() else { return Ok(None) };
    let shown = printable(first.as_encoded_bytes());
    let is_ticket = first.to_str().is_some_and(|text| peer::may_be_ticket(text) || peer::may_be_code(text));
    ensure!(
        is_ticket,
        "`{shown}` is neither a ticket (tl1…) nor a code (N-word-word); use --from PEER for the peer and --into DIR for the directory"
    );
    Ok(Some(words.join(OsStr::new(" "))))
}
