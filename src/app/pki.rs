//! `--ca`, `--cert`, `--key`, `--peer-name`: certificates of an organisation.

use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};

use super::settings::PkiSettings;
use crate::auth::{Authority, CertificateFileError, Certified, OwnCertificate};
use crate::protocol::failure::{Failure, Reason};

/// Loads the files. The peer's certificate is for one of the names in the settings, or for `dialled`, if there are none.
pub(super) fn certified(pki: &PkiSettings, dialled: Option<&str>) -> Result<Arc<Certified>, Failure> {
    let failure = |error: CertificateFileError| Failure::new(Reason::Setup, error.to_string());
    let authority = Authority::load(&pki.ca).map_err(failure)?;
    let own = pki.own.as_ref().map(|(certificate, key)| OwnCertificate::load(certificate, key));
    let own = own.transpose().map_err(failure)?;
    let names: Vec<&str> = match &pki.peer_names[..] {
        [] => dialled.into_iter().collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    let name = |name: &str| {
        ServerName::try_from(name.to_owned()).map_err(|_| {
            let message = format!("no certificate can be for the name {name}: use --peer-name");
            Failure::new(Reason::Setup, message)
        })
    };
    let peer_names = names.into_iter().map(name).collect::<Result<_, _>>()?;
    Ok(Arc::new(Certified { authority, own, peer_names, clock: UnixTime::now }))
}
