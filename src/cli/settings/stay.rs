//! What `towline receive --forever` is asked to do.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::common::{check_duration, is_variable, resolve_common, verify_disk};
use super::into::resolve_into;
use super::meeting::{allowed, check_allowed};
use crate::app::settings::{PeersFile, Right, StaySettings};
use crate::cli::args::ReceiveArgs;
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

pub(super) fn resolve(given: ReceiveArgs, config: &Config, peers: &PeersFile) -> Result<StaySettings> {
    for (is_given, what) in [
        (
            !given.ticket.is_empty() || (given.from.is_some() && !is_variable("--from")),
            "a peer to dial: it waits for peers",
        ),
        (given.wait.is_some() && !is_variable("--wait"), "--wait: it waits forever"),
        (given.manifest.is_some() && !is_variable("--manifest"), "--manifest, which is for one transfer"),
        (
            given.meeting.remember.is_some() && !is_variable("--remember"),
            "--remember, which is for one transfer",
        ),
        (
            given.transfer.fingerprint.is_some() && !is_variable("--fingerprint"),
            "--fingerprint: add the peer by `towline peers add`",
        ),
        (
            given.transfer.connections.is_some_and(|number| number > 1) && !is_variable("--connections"),
            "--connections: each transfer has one",
        ),
    ] {
        ensure!(!is_given, "--forever does not go with {what}");
    }
    let common = resolve_common(given.transfer, None, config)?;
    let (only, from) = allowed(&given.meeting, config);
    check_allowed(only, from, Right::Send, &peers.load()?, peers)?;
    let transfers = given.stay.transfers.or(config.transfers).unwrap_or(TRANSFERS_DEFAULT);
    let (least, most) = (TRANSFERS.start(), TRANSFERS.end());
    ensure!(TRANSFERS.contains(&transfers), "--transfers {transfers}: expected {least} to {most}");
    let needed = u64::from(transfers) * MEMORY_BYTES_MIN;
    ensure!(
        common.memory_bytes >= needed,
        "--memory {} is too little for {transfers} transfers at once: use --memory {} or more, or fewer --transfers",
        exact(common.memory_bytes),
        exact(needed),
    );
    let grace = given.stay.grace.or(config.grace).unwrap_or(GRACE_DEFAULT);
    check_duration("--grace", grace, Duration::ZERO..=GRACE_MAX)?;
    let verify_disk = verify_disk(given.verify_disk, config.verify_disk, &common)?;
    Ok(StaySettings {
        peers: peers.clone(),
        only: only.to_vec(),
        tickets: given.stay.tickets.or(config.tickets).unwrap_or(false),
        transfers,
        grace,
        into: resolve_into(given.into, config.into.clone())?,
        exists: given.exists.or(config.exists),
        atomic: given.atomic.or(config.atomic).unwrap_or(false),
        verify_disk,
        common,
    })
}
