//! What a side that stays is asked to do (`--forever`).

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::common::{check_duration, is_variable, resolve_bounds, resolve_common, verify_disk};
use super::exec::resolve_exec;
use super::into::resolve_into;
use super::meeting::{allowed, check_allowed, resolve_ticket};
use super::pki::{check_pki, resolve_pki};
use super::request::resolve_request;
use super::select::resolve_selection;
use super::sources::{check_sources, give_way};
use crate::app::settings::{
    CommonSettings, InboxSettings, OfferSettings, PeersFile, Request, Right, ServiceSettings, StaySettings,
};
use crate::cli::args::{MeetingArgs, ReceiveArgs, SendArgs, StayArgs, TransferArgs};
use crate::cli::config::Config;
use crate::node::size::exact;

/// Default for `--transfers`.
const TRANSFERS_DEFAULT: u32 = 4;
/// What `--transfers` may be.
const TRANSFERS: RangeInclusive<u32> = 1..=64;
/// Memory that each transfer must have.
const MEMORY_BYTES_MIN: u64 = 2 << 20;
/// Default for `--grace`.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// Maximum for `--grace`.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether this side stays. Otherwise the flags about that do nothing.
pub(super) fn stays(given: &StayArgs, config: &Config) -> Result<bool> {
    if given.forever.or(config.forever).unwrap_or(false) {
        return Ok(true);
    }
    for (is_given, flag) in [
        (given.tickets.is_some(), "--tickets"),
        (given.transfers.is_some(), "--transfers"),
        (given.grace.is_some(), "--grace"),
    ] {
        ensure!(!is_given || is_variable(flag), "{flag} works only with --forever");
    }
    Ok(false)
}

/// `towline receive --forever`.
pub(super) fn resolve_inbox(given: ReceiveArgs, config: &Config, peers: &PeersFile) -> Result<StaySettings> {
    refuse(&[
        (
            !given.ticket.is_empty() || (given.from.is_some() && !is_variable("--from")),
            "a peer to dial: it waits for peers",
        ),
        (given.wait.is_some() && !is_variable("--wait"), "--wait: it waits forever"),
        (given.manifest.is_some() && !is_variable("--manifest"), "--manifest, which is for one transfer"),
    ])?;
    let into = resolve_into(given.into, config.into.clone())?;
    let (exists, atomic) = (given.exists.or(config.exists), given.atomic.or(config.atomic).unwrap_or(false));
    let (wanted, exec) = (given.verify_disk, resolve_exec(given.exec, config)?);
    let bounds = resolve_bounds(&given.bounds, config)?;
    let allow_delete = given.allow_delete.or(config.allow_delete).unwrap_or(false);
    let checksum = given.checksum.or(config.checksum).unwrap_or(false);
    let service = |common: &mut CommonSettings| {
        let verify_disk = verify_disk(wanted, config.verify_disk, common)?;
        let compares = checksum || verify_disk;
        let inbox = InboxSettings { into, exists, compares, allow_delete, atomic, verify_disk, bounds, exec };
        Ok(ServiceSettings::Inbox(inbox))
    };
    resolve((given.stay, given.meeting, given.transfer), Right::Send, config, peers, service)
}

/// `towline send --forever`.
pub(super) fn resolve_offer(given: SendArgs, config: &Config, peers: &PeersFile) -> Result<StaySettings> {
    let is_given = |is_given: bool, flag: &str| is_given && !is_variable(flag);
    refuse(&[
        (is_given(given.to.is_some(), "--to"), "a peer to dial: it waits for peers"),
        (
            given.sources.iter().any(|source| source.as_os_str() == "-"),
            "standard input (`-`), which is read only once",
        ),
        (is_given(given.wait.is_some(), "--wait"), "--wait: it waits forever"),
        (is_given(given.manifest.is_some(), "--manifest"), "--manifest, which is for one transfer"),
        (is_given(given.receipt.is_some(), "--receipt"), "--receipt, which is for one transfer"),
        (
            is_given(given.remove_source == Some(true), "--remove-source"),
            "--remove-source: the sources are offered again and again",
        ),
        (is_given(given.target.dry_run == Some(true), "--dry-run"), "--dry-run, which is for one transfer"),
        (
            is_given(given.verify_disk == Some(true), "--verify-disk"),
            "--verify-disk, which is for the receiving side",
        ),
    ])?;
    check_sources(&given.sources)?;
    let selection = resolve_selection((given.select, &given.archive), config, &given.sources, None)?;
    let selection = Box::new(selection);
    let (sources, delta) = (given.sources, given.delta.or(config.delta).unwrap_or_default());
    let compression = given.data.compress.or(config.compress).unwrap_or_default();
    let request = Request { is_dry: false, ..resolve_request(&given.target, config)? };
    let background = given.background.or(config.background).unwrap_or(false);
    let service = |common: &mut CommonSettings| {
        give_way(background, common)?;
        Ok(ServiceSettings::Offer(OfferSettings { selection, sources, delta, compression, request }))
    };
    resolve((given.stay, given.meeting, given.transfer), Right::Receive, config, peers, service)
}

fn refuse(given: &[(bool, &str)]) -> Result<()> {
    for (is_given, what) in given {
        ensure!(!is_given, "--forever does not go with {what}");
    }
    Ok(())
}

/// What both have in common. `right` is what peers must be allowed to do.
fn resolve(
    (stay, meeting, transfer): (StayArgs, MeetingArgs, TransferArgs),
    right: Right,
    config: &Config,
    peers: &PeersFile,
    service: impl FnOnce(&mut CommonSettings) -> Result<ServiceSettings>,
) -> Result<StaySettings> {
    refuse(&[
        (meeting.remember.is_some() && !is_variable("--remember"), "--remember, which is for one transfer"),
        (meeting.words.is_some() && !is_variable("--words"), "--words: a side that stays has no code"),
        (
            transfer.fingerprint.is_some() && !is_variable("--fingerprint"),
            "--fingerprint: add the peer by `towline peers add`",
        ),
        (
            transfer.connections.is_some_and(|number| number > 1) && !is_variable("--connections"),
            "--connections: each transfer has one",
        ),
    ])?;
    let mut common = resolve_common(transfer, None, config)?;
    common.pki = resolve_pki(&meeting, config)?;
    check_pki(common.pki.as_ref(), true)?;
    resolve_ticket(&meeting, config, &mut common)?;
    let (only, from) = allowed(&meeting, config);
    check_allowed(only, from, right, &peers.load()?, peers)?;
    let transfers = stay.transfers.or(config.transfers).unwrap_or(TRANSFERS_DEFAULT);
    let (least, most) = (TRANSFERS.start(), TRANSFERS.end());
    ensure!(TRANSFERS.contains(&transfers), "--transfers {transfers}: expected {least} to {most}");
    let needed = u64::from(transfers) * MEMORY_BYTES_MIN;
    ensure!(
        common.memory_bytes >= needed,
        "--memory {} is too little for {transfers} transfers at once: use --memory {} or more, or fewer --transfers",
        exact(common.memory_bytes),
        exact(needed),
    );
    let grace = stay.grace.or(config.grace).unwrap_or(GRACE_DEFAULT);
    check_duration("--grace", grace, Duration::ZERO..=GRACE_MAX)?;
    let service = service(&mut common)?;
    Ok(StaySettings {
        peers: peers.clone(),
        only: only.to_vec(),
        tickets: stay.tickets.or(config.tickets).unwrap_or(false),
        transfers,
        grace,
        service,
        common,
    })
}
