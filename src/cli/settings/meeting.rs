//! Which peer a transfer is with.

use std::ffi::OsStr;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::common::check_duration;
use super::pki::check_pki;
use crate::app::settings::{
    CommonSettings, KnownPeers, Machine, Peer, PeerName, PeersFile, Remember, Remote, Right,
};
use crate::auth::{CODE_WORDS, Fingerprint};
use crate::cli::args::MeetingArgs;
use crate::cli::config::Config;
use crate::cli::peer::{self, SshPath, Written};
use crate::protocol::path::printable;
use crate::transport::address::HostPort;

/// What `--uses` may be.
const USES: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// What `--expires` may be.
const EXPIRES_MIN: Duration = Duration::from_secs(1);
const EXPIRES_MAX: Duration = Duration::from_secs(31_557_600);

/// The peer to dial in `text`, which `flag` gave. `by_ssh` says what ssh is to start there.
pub(super) fn resolve_peer(
    text: Option<&OsStr>,
    flag: &str,
    common: &CommonSettings,
    peers: &PeersFile,
    stdin: &mut dyn Read,
    by_ssh: impl FnOnce(SshPath) -> Result<Remote>,
) -> Result<Option<Peer>> {
    let Some(text) = text else { return Ok(None) };
    Ok(Some(match peer::read(text, stdin).context(flag.to_owned())? {
        Written::Ticket(ticket) => Peer::Ticket(ticket),
        Written::Dir(path) => Peer::Dir(path),
        Written::Code(code, host) => Peer::Code(code, host),
        Written::Ssh(path) => Peer::Ssh(by_ssh(path)?),
        Written::Stdio => Peer::Stdio,
        Written::Host { text, host } => {
            match machine(&text, host.clone(), common, peers).context(flag.to_owned())? {
                Some(machine) => Peer::Machine(machine),
                None => Peer::Certified(host),
            }
        }
    }))
}

/// The machine that `text` names: a known peer by its name, a known peer by its host, or any host whose fingerprint is
/// given. `None` for a host that has to show a certificate.
fn machine(
    text: &str,
    host: HostPort,
    common: &CommonSettings,
    peers: &PeersFile,
) -> Result<Option<Machine>> {
    let known = peers.load()?;
    if let Some((name, peer)) = known.named(text) {
        if let Some(given) = common.fingerprint {
            let known = peer.fingerprint;
            ensure!(
                given == known,
                "{name} is known with the fingerprint {known}, but --fingerprint is {given}"
            );
        }
        ensure!(
            !peer.addresses.is_empty(),
            "{name} is known without an address: add one in {}, or let this side wait (--allow {name})",
            peers.shown()
        );
        return Ok(Some(Machine { addresses: peer.addresses.clone(), fingerprint: peer.fingerprint }));
    }
    if let Some(fingerprint) = common.fingerprint {
        return Ok(Some(Machine { addresses: vec![host], fingerprint }));
    }
    let all = known.at_host(&host.host);
    let mut found = all.clone();
    // Without a port, that of the entry counts.
    let is_bare = text.trim_matches(['[', ']']) == host.host;
    if found.len() > 1 {
        found.retain(|(_, peer)| peer.addresses.contains(&host));
    }
    match found[..] {
        [(_, peer)] => {
            let mut addresses: Vec<_> = peer
                .addresses
                .iter()
                .filter(|at| is_bare && at.host.eq_ignore_ascii_case(&host.host))
                .cloned()
                .collect();
            if addresses.is_empty() {
                addresses.push(host);
            }
            Ok(Some(Machine { addresses, fingerprint: peer.fingerprint }))
        }
        [] if all.is_empty() && common.pki.is_some() => Ok(None),
        [] if all.is_empty() => bail!(
            "`{}` is neither a ticket (tl1…) nor a one-time code (N-word-word) nor a known peer (in {}){}; a host that is not known needs --fingerprint \
             FP, with the fingerprint that it prints when it waits",
            printable(text.as_bytes()),
            peers.shown(),
            known.suggestion(text)
        ),
        _ => {
            let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "`{text}` is an address of several known peers: give the name of one of {}",
                names.join(", ")
            )
        }
    }
}

/// How many transfers a ticket serves, and for how long.
pub(super) fn resolve_ticket(
    given: &MeetingArgs,
    config: &Config,
    common: &mut CommonSettings,
) -> Result<()> {
    let uses = given.uses.or(config.uses).unwrap_or(1);
    ensure!(USES.contains(&uses), "--uses {uses}: expected {} to {}", USES.start(), USES.end());
    common.uses = uses;
    if let Some(expires) = given.expires.or(config.expires) {
        check_duration("--expires", expires, EXPIRES_MIN..=EXPIRES_MAX)?;
        common.expires = Some(expires);
    }
    Ok(())
}

/// `--uses` is for transfers that need nothing of their own.
pub(super) fn check_uses(common: &CommonSettings, is_waiting: bool, others: &[(bool, &str)]) -> Result<()> {
    if common.uses == 1 || !is_waiting {
        return Ok(());
    }
    let own = [
        (!common.allowed.is_empty(), "--allow or --fingerprint"),
        (common.remember.is_some(), "--remember"),
        (common.pki.is_some(), "--ca"),
    ];
    for (is_given, flag) in own.iter().chain(others) {
        ensure!(!is_given, "--uses {} does not go with {flag}, which is for one transfer", common.uses);
    }
    Ok(())
}

/// Completes `common` by the flags about the peer, which may do `right` here if this side waits for it.
pub(super) fn resolve_meeting(
    given: MeetingArgs,
    right: Right,
    config: &Config,
    peers: &PeersFile,
    is_waiting: bool,
    common: &mut CommonSettings,
) -> Result<()> {
    if let Some(words) = given.words.or(config.words) {
        let (least, most) = (CODE_WORDS.start(), CODE_WORDS.end());
        ensure!(CODE_WORDS.contains(&words), "--words {words}: expected {least} to {most}");
        common.code_words = words;
    }
    resolve_ticket(&given, config, common)?;
    common.verify = given.verify.or(config.verify).unwrap_or(false);
    let (allow, from) = allowed(&given, config);
    check_pki(common.pki.as_ref(), is_waiting)?;
    // A side that dials lets nobody in.
    let allow = if is_waiting { allow } else { &[] };
    if allow.is_empty() && given.remember.is_none() {
        return Ok(());
    }
    let known = peers.load()?;
    common.allowed.extend(check_allowed(allow, from, right, &known, peers)?);
    common.remember = given.remember.map(|name| {
        let known = known.named(name.as_str()).map(|(_, peer)| peer.fingerprint);
        Remember { name, file: peers.clone(), known }
    });
    Ok(())
}

/// Whom the flag or the config file lets in, and which of the two says so.
pub(super) fn allowed<'a>(given: &'a MeetingArgs, config: &'a Config) -> (&'a [PeerName], &'static str) {
    match given.allow.is_empty() {
        true => (&config.allow, "`allow` in the config file"),
        false => (&given.allow, "--allow"),
    }
}

/// The keys of the known peers that `allow` names, which came `from` a flag or the config file. Each must have the
/// right to do what it will be let in for.
pub(super) fn check_allowed(
    allow: &[PeerName],
    from: &str,
    right: Right,
    known: &KnownPeers,
    peers: &PeersFile,
) -> Result<Vec<Fingerprint>> {
    let check = |name: &PeerName| {
        let Some((_, peer)) = known.named(name.as_str()) else {
            let (file, suggestion) = (peers.shown(), known.suggestion(name.as_str()));
            bail!("{from}: `{name}` is not a known peer (in {file}){suggestion}");
        };
        let word = right.as_str();
        ensure!(
            peer.may.contains(&right),
            "{from}: {name} has no right to {word} here: add \"{word}\" to its `may` in {}",
            peers.shown()
        );
        Ok(peer.fingerprint)
    };
    allow.iter().map(check).collect()
}
