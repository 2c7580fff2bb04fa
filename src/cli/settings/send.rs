//! What `towline send` is asked to do.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::common::{is_variable, resolve_common, verify_disk};
use super::meeting::{check_uses, resolve_meeting, resolve_peer};
use super::pki::resolve_pki;
use super::request::resolve_request;
use super::select::resolve_selection;
use super::sources::{check_sources, give_way};
use super::stdio::{check_stdin, stdin_name};
use super::{ssh, stay};
use crate::app::settings::{Command, Peer, PeersFile, Request, Right, Rules, SendSettings};
use crate::cli::args::{SendArgs, TargetArgs};
use crate::cli::config::Config;
use crate::cli::peer;
use crate::storage::fs::Selection;

pub(super) fn resolve(
    mut given: SendArgs,
    config: Config,
    peers: &PeersFile,
    stdin: &mut dyn Read,
) -> Result<Command> {
    if stay::stays(&given.stay, &config)? {
        return stay::resolve_offer(given, &config, peers).map(Command::Stay);
    }
    let ticket = take_ticket(&mut given.sources)?;
    ensure!(
        ticket.is_none() || given.to.is_none(),
        "a ticket or code follows the sources, and --to (or TOWLINE_TO) names a peer too: give one of them"
    );
    if given.target.dry_run.or(config.dry_run).unwrap_or(false) {
        // Not even this program is copied.
        given.ssh.no_install = Some(true);
    }
    let (there, ssh) =
        (ssh::receiving(&given, &config), ssh::Way::new(&mut given.ssh, given.target.yes, &config));
    let to = ticket.or(given.to.take()).or_else(|| config.to.as_deref().map(OsString::from));
    let stdin_name = stdin_name(&given, to.as_deref())?;
    check_sources(&given.sources)?;
    let selection = match stdin_name {
        Some(_) => Selection::default(),
        None => {
            let is_stdin_taken = to.as_deref().is_some_and(|to| to == "-");
            let for_list: Option<&mut dyn Read> = if is_stdin_taken { None } else { Some(&mut *stdin) };
            resolve_selection((given.select, &given.archive), &config, &given.sources, for_list)?
        }
    };
    let manifest = given.manifest.or_else(|| config.manifest.clone());
    let mut common = resolve_common(given.transfer, given.wait, &config)?;
    common.pki = resolve_pki(&given.meeting, &config)?;
    give_way(given.background.or(config.background).unwrap_or(false), &mut common)?;
    let by_ssh = |path| ssh::remote(path, ssh, |path| there.into(path));
    let peer = resolve_peer(to.as_deref(), "--to", &common, peers, stdin, by_ssh)?;
    ssh::refuse_names(peer.as_ref(), &given.meeting)?;
    resolve_meeting(given.meeting, Right::Receive, &config, peers, peer.is_none(), &mut common)?;
    let remove_source = stdin_name.is_none() && given.remove_source.or(config.remove_source).unwrap_or(false);
    let is_dir = matches!(peer, Some(Peer::Dir(_)));
    // The config file is about this machine.
    let verify_disk = verify_disk(given.verify_disk, config.verify_disk.filter(|_| is_dir), &common)?;
    let is_by_ssh = matches!(peer, Some(Peer::Ssh(_)));
    check_target(&given.target, verify_disk, is_dir || is_by_ssh)?;
    let request = resolve_request(&given.target, &config)?;
    let receipt = given.receipt.or(config.receipt);
    let delta = given.delta.or(config.delta).unwrap_or_default();
    check_moving(remove_source, &request)?;
    // A name that stays, a hash that is written and a source that is removed are promises about contents.
    let promises = manifest.is_some() || remove_source || receipt.is_some() || verify_disk;
    let request = Request { compares: request.compares || promises, ..request };
    // The config file is about this machine.
    let own = given.target.exists.or(config.exists).unwrap_or_default();
    let single = [
        (manifest.is_some(), "--manifest"),
        (remove_source, "--remove-source"),
        (receipt.is_some(), "--receipt"),
    ];
    check_uses(&common, peer.is_none(), &single)?;
    if stdin_name.is_some() {
        check_stdin(peer.as_ref(), common.uses)?;
    }
    Ok(Command::Send(SendSettings {
        sources: given.sources,
        stdin: stdin_name,
        selection: Box::new(selection),
        peer,
        delta,
        compression: given.data.compress.or(config.compress).unwrap_or_default(),
        manifest,
        remove_source,
        verify_disk,
        request,
        rules: Rules { allows_delete: true, ..Rules::of(own) },
        atomic: given.target.atomic.or(config.atomic).unwrap_or(false),
        receipt,
        common,
    }))
}

/// Takes the sources of the profile, if none were given.
pub(super) fn take_sources(given: &mut SendArgs, config: &Config) -> Result<()> {
    if given.sources.is_empty() {
        given.sources.clone_from(&config.sources);
    }
    ensure!(
        !given.sources.is_empty(),
        "there is nothing to send: name a SOURCE, or write `sources` into the profile"
    );
    Ok(())
}

/// What was moved before is not in the source any more.
fn check_moving(remove_source: bool, request: &Request) -> Result<()> {
    ensure!(
        !remove_source || request.delete.is_none(),
        "--delete does not go with --remove-source: what an earlier move has taken from here would be deleted there"
    );
    Ok(())
}

/// What only a receiver that is started here does.
fn check_target(given: &TargetArgs, verify_disk: bool, is_started_here: bool) -> Result<()> {
    ensure!(
        given.atomic.is_none() || is_started_here || is_variable("--atomic"),
        "--atomic works only with --to dir: or ssh:; for another peer, give it to `towline receive` there"
    );
    ensure!(
        !verify_disk || is_started_here,
        "--verify-disk is about the disk of the receiving side: give it to `towline receive` there"
    );
    Ok(())
}

/// Takes a ticket or code after the sources, where other programs have it. An existing file of that name is a source.
fn take_ticket(sources: &mut Vec<PathBuf>) -> Result<Option<OsString>> {
    let is_ticket = |source: &PathBuf| {
        let may_be_peer = |text: &str| peer::may_be_ticket(text) || peer::may_be_code(text);
        source.to_str().is_some_and(may_be_peer) && source.symlink_metadata().is_err()
    };
    let ticket = sources.pop_if(|source| is_ticket(source)).map(PathBuf::into_os_string);
    ensure!(
        !sources.iter().any(is_ticket),
        "there is a ticket or code among the sources: put it last, or use --to"
    );
    ensure!(
        ticket.is_none() || !sources.is_empty(),
        "there is a ticket or code, but nothing to send: name a SOURCE before it"
    );
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_named_like_a_ticket_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tl1abc");
        std::fs::write(&path, "").unwrap();
        let mut sources = vec![path.clone(), path];
        assert_eq!(take_ticket(&mut sources).unwrap(), None);
        assert_eq!(sources.len(), 2);
    }
}
