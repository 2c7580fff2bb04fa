//! Certificates of an organisation.

use anyhow::{Result, bail, ensure};
use rustls::pki_types::ServerName;

use super::common::is_variable;
use crate::app::settings::PkiSettings;
use crate::cli::args::MeetingArgs;
use crate::cli::config::Config;
use crate::protocol::path::printable;

pub(super) fn resolve_pki(given: &MeetingArgs, config: &Config) -> Result<Option<PkiSettings>> {
    let Some(ca) = given.ca.clone().or_else(|| config.ca.clone()) else {
        for (is_given, flag) in [
            (given.cert.is_some(), "--cert"),
            (given.key.is_some(), "--key"),
            (!given.peer_name.is_empty(), "--peer-name"),
        ] {
            ensure!(!is_given || is_variable(flag), "{flag} works only with --ca");
        }
        return Ok(None);
    };
    let cert = given.cert.clone().or_else(|| config.cert.clone());
    let own = match (cert, given.key.clone().or_else(|| config.key.clone())) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => bail!("--cert and --key belong together: give both"),
    };
    let names = if given.peer_name.is_empty() { &config.peer_name } else { &given.peer_name };
    for name in names {
        let is_name = ServerName::try_from(name.as_str()).is_ok();
        ensure!(is_name, "--peer-name {}: expected a DNS name or an IP address", printable(name.as_bytes()));
    }
    Ok(Some(PkiSettings { ca, own, peer_names: names.clone() }))
}

/// Checks what a side that waits, or one that dials, needs.
pub(super) fn check_pki(pki: Option<&PkiSettings>, is_waiting: bool) -> Result<()> {
    let Some(pki) = pki else { return Ok(()) };
    ensure!(
        pki.own.is_some() || !is_waiting,
        "--ca on a waiting side needs --cert and --key: the dialling side wants to see a certificate"
    );
    ensure!(
        pki.peer_names.len() <= 1 || is_waiting,
        "--peer-name: a side that dials expects one name, and {} are given",
        pki.peer_names.len()
    );
    Ok(())
}
